# Pollux as a host over RDMA: its bench writes and verifies at the kernel's own target, and at Pollux's, which serves over RDMA what it attached over RDMA from
# the kernel's; so does this guest's kernel, with the far target going and the cable being pulled meanwhile. On the cards nothing is left.
# target: guest
# limit: 420
# nvmet: no, the kernel's target is the far end of Pollux here
. "$lib/rdma.sh"
rdma_begin

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

# bench PORT NQN OPTION...: Pollux' bench writes there, and reads back every block.
bench() { "$POLLUX" bench run --connect "rdma://$ADDRESS:$1/$2" --cores 0 --verify "${@:3}" >bench.out 2>&1 || fail "bench $*: $(cat bench.out)"; }

step "its bench writes, and reads back every block"
bench $FARPORT $FAR --rw randwrite --bs 4k --iodepth 128 --size 8M --number-ios 2048
bench $FARPORT $FAR --rw randwrite --bs 1M --iodepth 8 --size 32M --number-ios 32
bench $FARPORT $FAR --rw randrw --bs 16k --iodepth 1 --size 4M --number-ios 128
eventually 60 far target_is_idle

step "attached over RDMA, and served over RDMA: to its bench, and to this guest's kernel"
rpc bdev_nvme_attach_controller name=Far trtype=RDMA adrfam=IPv4 traddr=$ADDRESS trsvcid=$FARPORT subnqn=$FAR \
	hostnqn=$HOSTNQN ctrlr_loss_timeout_sec:=-1 reconnect_delay_sec:=1
subsystem_add $NQN any
ns_add $NQN 1 Farn1 $UUID1
listener_add $NQN $PORT1
bench $PORT1 $NQN --rw randwrite --bs 4k --iodepth 128 --size 8M --number-ios 2048
bench $PORT1 $NQN --rw randrw --bs 128k --iodepth 8 --size 16M --number-ios 128
host_connect $NQN $PORT1 -k 5
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

step "Pollux stands still, though its card does not: the kernel's keep-alive tells; it goes on, and every write is there"
live() { reads "/sys/class/nvme/$CTRL/state" live; }
not_live() { ! live; }
expiries() { dmesg | grep -cE "opcode 0x18 .*QID 0 timeout" || true; }
for try in 1 2 3; do
	eventually 120 live
	expired=$(expiries)
	target_freeze
	eventually 60 not_live
	[ "$(expiries)" = "$expired" ] || break
	target_thaw # rdma_rxe has ended the connection by itself before (rdmaloss.sh)
done
within "keep-alive commands that expired" "$(expiries)" $((expired + 1)) 1000
eventually 60 io_stalled
target_thaw
eventually 120 live
eventually 120 far_state enabled
io_goes_on
io_end

step "detached, nothing is left"
host_disconnect $NQN
ns_remove $NQN 1
rpc bdev_nvme_detach_controller name=Far
eventually 60 far target_is_idle
far target_end
