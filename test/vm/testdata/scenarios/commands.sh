# Commands that the kernel does not send by itself, and statuses of those that are wrong.
# target: host

subsystem_add $NQN any
bdev_memory mem0 16 512
ns_add $NQN 1 mem0 $UUID1
listener_add $NQN $PORT1
host_connect $NQN $PORT1
await_namespace $NQN 1
declare -A id
load id nvme id-ctrl "/dev/$CTRL" -o json
offered() { [ $((id[oncs] & 1 << $1)) != 0 ]; } # BIT of ONCS
head -c 4096 /dev/urandom >data
head -c 4096 /dev/urandom >other

step "write, flush, read"
matches "write" "$(nvme write "$DEV" -s 100 -c 7 -z 4096 -d data 2>&1)" "Success"
matches "flush" "$(nvme flush "$DEV" 2>&1)" "success"
matches "read" "$(nvme read "$DEV" -s 100 -c 7 -z 4096 -d copy 2>&1)" "Success"
cmp data copy
matches "write with FUA" "$(nvme write "$DEV" -f -s 108 -c 7 -z 4096 -d other 2>&1)" "Success"
nvme read "$DEV" -s 108 -c 7 -z 4096 -d copy >/dev/null 2>&1
cmp other copy

step "write zeroes, and nothing beside it"
matches "write-zeroes" "$(nvme write-zeroes "$DEV" -s 102 -c 1 2>&1)" "Success"
dd if=/dev/zero of=data bs=512 seek=2 count=2 conv=notrunc status=none
nvme read "$DEV" -s 100 -c 7 -z 4096 -d copy >/dev/null 2>&1
cmp data copy

# refusal WHAT CODES COMMAND...: refused with one of those status codes, as nvme-cli prints them: the status field
# without its phase bit, Do Not Retry being 4000h.
refusal() {
	local what=$1 codes=$2 said
	shift 2
	if said=$("$@" 2>&1); then
		fail "$what was taken. It said: $said"
	fi
	matches "$what" "$said" "\\(0x($codes)\\)"
}
passthru() { nvme io-passthru "/dev/$CTRL" "$@"; }

step "what is wrong is refused, with its own status and Do Not Retry"
refusal "an unknown opcode" "4001|6001" passthru --opcode=0x7e --namespace-id=1
if [ "$TARGET" = pollux ]; then # the kernel's target leaves these to its block layer, which knows no such status
	refusal "a read across the end" 4080 nvme read "$DEV" -s 32764 -c 7 -z 4096 -d copy
	refusal "a write from beyond the end" 4080 nvme write "$DEV" -s 32768 -c 7 -z 4096 -d data
	refusal "write-zeroes across the end" 4080 nvme write-zeroes "$DEV" -s 32764 -c 7
	refusal "a range of Dataset Management across the end" 4080 nvme dsm "$DEV" --ad -s 32764 -b 8
	refusal "fewer data than blocks" 400f passthru --opcode=2 --namespace-id=1 --cdw12=7 --data-len=512 -r
fi

step "what is offered works, and what is not is refused"
if offered 0; then
	matches "compare with the same" "$(nvme compare "$DEV" -s 100 -c 7 -z 4096 -d data 2>&1)" "Success"
	refusal "compare with other data" "4285|6285" nvme compare "$DEV" -s 100 -c 7 -z 4096 -d other
else
	refusal "compare" "4001|6001" nvme compare "$DEV" -s 100 -c 7 -z 4096 -d data
fi
if offered 7; then
	matches "verify" "$(nvme verify "$DEV" -s 100 -c 7 2>&1)" "Success"
else
	refusal "verify" "4001|6001" nvme verify "$DEV" -s 100 -c 7
fi
if offered 8; then
	matches "copy" "$(nvme copy "$DEV" -d 200 -s 100 -b 7 2>&1)" "Copy: [Ss]uccess"
	nvme read "$DEV" -s 200 -c 7 -z 4096 -d copy >/dev/null 2>&1
	cmp data copy
else
	refusal "copy" "4001|6001" nvme copy "$DEV" -d 200 -s 100 -b 7
fi

if [ "$TARGET" = pollux ]; then
	step "Compare and Write is offered as a pair, which this host lets nobody send"
	equal "FUSES" "${id[fuses]}" 1
	equal "ACWU, in blocks of any size" "${id[acwu]}" 15
	declare -A ns
	load ns nvme id-ns "/dev/$CTRL" -n 1 -o json
	equal "NACWU, 64 KiB" "${ns[nacwu]}" 127
	# drivers/nvme/host/ioctl.c, nvme_user_cmd: a command with flags, and FUSE is among them, is EINVAL.
	refused "Invalid argument" passthru --opcode=5 --flags=1 --namespace-id=1 --cdw12=7 --data-len=4096 -w -i data
fi

step "after all that the queues are the same, and work"
equal "state" "$(controller state)" live
if said "resetting|reconnect|error recovery"; then fail "the host had to recover"; fi
fio_verify "$DEV" --size=1m
