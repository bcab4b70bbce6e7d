# Pollux as a host over RDMA of the kernel's own target: its bench writes and verifies there, and it attaches the namespace and serves it over TCP to this
# guest's kernel, with the far target going and the cable being pulled meanwhile. On the cards nothing is left.
# target: guest
# limit: 300
# nvmet: no, the kernel's target is the far end of Pollux here
. "$lib/rdma.sh"
rdma_cards

FAR=nqn.2026-01.org.pollux-storage:far
FARPORT=4430

# far COMMAND...: at the kernel's target, in the words of nvmet.sh, over RDMA.
far() (
	. "$lib/nvmet.sh"
	PORT1=$FARPORT PORT2=$FARPORT
	target_is_idle() { [ "$(rdma_queues rxe1)" = 0 ]; }
	"$@"
)

far_begin() {
	TRANSPORT=rdma LISTEN=192.0.2.2
	subsystem_add $FAR any
	ns_add $FAR 1 far0 $UUID1
	listener_add $FAR $FARPORT
}

far_state() {
	rpc bdev_nvme_get_controllers name=Far
	[ "$(jq -r '.[0].ctrlrs[0].state' <<<"$RESULT")" = "$1" ]
}

far bdev_memory far0 64 512
far far_begin

step "its bench writes, and reads back every block"
bench() { "$POLLUX" bench run --connect "rdma://$ADDRESS:$FARPORT/$FAR" --cores 0 "$@" >bench.out 2>&1 || fail "bench $*: $(cat bench.out)"; }
bench --rw randwrite --bs 4k --iodepth 128 --size 8M --number-ios 2048 --verify
bench --rw randwrite --bs 1M --iodepth 8 --size 32M --number-ios 32 --verify
bench --rw randrw --bs 16k --iodepth 1 --size 4M --number-ios 128 --verify
eventually 60 far target_is_idle

step "attached, and served over TCP: what was written comes back"
# The target's own side is TCP, as where the scenario began.
TRANSPORT=tcp ADDRESS=127.0.0.1 LISTEN=127.0.0.1
rpc bdev_nvme_attach_controller name=Far trtype=RDMA adrfam=IPv4 traddr=192.0.2.2 trsvcid=$FARPORT subnqn=$FAR \
	hostnqn=$HOSTNQN ctrlr_loss_timeout_sec:=-1 reconnect_delay_sec:=1
subsystem_add $NQN any
ns_add $NQN 1 Farn1 $UUID1
listener_add $NQN $PORT1
host_connect $NQN $PORT1
await_namespace $NQN 1
fio_verify "$DEV" --bsrange=4k-256k --size=4m --offset=8m

step "the far target goes and comes back under I/O"
io_begin "$DEV"
far target_crash
eventually 60 far_state reconnect_is_delayed
far far_begin
eventually 60 far_state enabled
io_goes_on

step "the cable is pulled under I/O, and put back"
cable_out 1
eventually 120 io_stalled
cable_in 1
eventually 120 far_state enabled
io_goes_on
io_end

step "detached, nothing is left"
host_disconnect $NQN
ns_remove $NQN 1
rpc bdev_nvme_detach_controller name=Far
eventually 60 far target_is_idle
far target_end
TRANSPORT=rdma
