# Pollux. `make` alone lists the targets.

GO     ?= go
STATICCHECK = $(GO) run honnef.co/go/tools/cmd/staticcheck@v0.8.2
ONCE   ?=
FUZZTIME ?= 20s
HOURS  ?= 1
ROUNDS ?= 100
SIMULATED = ./internal/sim ./bdev/bdevsim ./wal ./volume
KIND   ?= killext4 killxfs postgres powercut reopen

.DEFAULT_GOAL := help
.PHONY: help build run test check floors bench bench-volume bench-iscsi bench-rdma fuzz sim golden guest-linux guest-rounds guest-pgbench guest-peers guest-peers-rdma clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-16s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

build: ## build bin/pollux
	$(GO) build -buildvcs=auto -o bin/pollux ./cmd/pollux

run: build ## serve a 1 GiB file over NVMe/TCP, write and verify it, show how to connect (ONCE=1: then end)
	@scripts/deps run
	@ONCE="$(ONCE)" scripts/run

# The longest come first, so that none is left alone at the end. What is simulated is run again with all its seeds and rounds, of which the race detector
# sees one and a tenth. Vet is `make check`'s, which looks at all of it once.
test: ## all tests under the race detector, and real Linux hosts in a guest
	@scripts/deps test
	$(GO) test -race -vet=off -timeout 40m -skip TestNvmet ./test/vm ./volume ./bdev ./bench ./test/iscsi ./...
	$(GO) test -vet=off -timeout 40m -skip TestContract $(SIMULATED)

# What says that the scenarios themselves are right: run it when one of them changes.
guest-linux: ## run the guest's scenarios against the kernel's own targets, nvmet and LIO
	@scripts/deps test
	$(GO) test -count 1 -timeout 60m -v -run TestNvmet ./test/vm

# Each scenario goes round ROUNDS times; KIND names the scenarios, of which two run at a time.
guest-rounds: ## kill the engine under ext4, XFS and PostgreSQL, ROUNDS times each (100; one of them: KIND=postgres)
	@scripts/deps test
	GUEST_ROUNDS=$(ROUNDS) $(GO) test -race -count 1 -timeout 0 -v -run 'TestPollux/($(subst $() ,|,$(strip $(KIND))))$$' ./test/vm

guest-pgbench: ## PostgreSQL's TPS on volumes against a raw disk, in the guest
	@scripts/deps test
	GUEST_MEASURE=pgbench $(GO) test -count 1 -timeout 0 -v -run TestMeasure ./test/vm

# Variables GUEST_* change it: docs/BENCH.md.
guest-peers: PEERS = peers
guest-peers-rdma: PEERS = peersrdma
guest-peers: ## Pollux against the kernel's own target in the guest, pair by pair, into bench/results/
guest-peers-rdma: ## the same over Soft-RoCE
guest-peers guest-peers-rdma:
	@scripts/deps test
	GUEST_HOST="$$(sed -n 's/^model name.*: //p' /proc/cpuinfo | head -n 1), $$(nproc) cores" GUEST_RESULTS=$(CURDIR)/bench/results \
		GUEST_MEASURE=$(PEERS) $(GO) test -count 1 -timeout 0 -v -run TestMeasure ./test/vm

check: ## what must be clean: format, vet, staticcheck, the order of packages
	@scripts/deps check
	@files=$$(gofmt -l $$(git ls-files '*.go')); [ -z "$$files" ] || { echo "not gofmt'd: $$files"; exit 1; }
	$(GO) vet ./...
	$(STATICCHECK) ./...
	$(GO) test -run 'TestPackages|TestTheRule' .

floors: build ## measure in 90 s what no change may lose, and fail where something is lost
	@scripts/deps test
	bin/pollux bench floors

bench: build ## measure this machine, and leave the figures with their conditions in bench/results/
	@scripts/deps test
	bin/pollux bench suite --output bench/results

bench-volume: build ## measure volumes alone, beside the raw disk, in under six minutes
	@scripts/deps test
	bin/pollux bench suite --only volume,amplification,snapshots,recovery,memory --runtime 0.7 --output bench/results

bench-iscsi: build ## measure Pollux over iSCSI beside Debian's tgt and NVMe/TCP, pair by pair, into bench/results/
	@scripts/deps bench
	@scripts/bench-iscsi

bench-rdma: ## count and measure what a command over RDMA costs without card and network, in four minutes, into bench/results/
	@scripts/bench-rdma

fuzz: ## fuzz every codec for FUZZTIME each
	@scripts/fuzz $(FUZZTIME)

sim: ## simulate log, pool and volume with new seeds for HOURS, and stop at the first failure (for the night)
	@scripts/sim $(HOURS)

# Of the packages that record what the program prints. Those with bytes of the standards, written by hand, have no such flag.
golden: ## record the golden files anew; read the diff before you commit it
	$(GO) test $$(git grep -l 'flag.Bool("update"' -- '*_test.go' | xargs -n 1 dirname | sort -u | sed 's|^|./|') -update

clean: ## remove what was built
	rm -rf bin build
