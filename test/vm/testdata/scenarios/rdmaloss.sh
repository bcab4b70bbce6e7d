# What a host over RDMA holds out: resets, a cable that is pulled and put back, packets that are lost, the target's keep-alive timeout, and the target's
# end under load. No command is lost, what was acknowledged is there, and the cards hold what they held before.
# target: guest
# limit: 480
. "$lib/rdma.sh"
rdma_begin

configure() {
	bdev_file file0 64
	subsystem_add $NQN any
	ns_add $NQN 1 file0 $UUID1
	listener_add $NQN $PORT1
}
is_live() { reads "/sys/class/nvme/$CTRL/state" live; }
not_live() { ! is_live; }
configure
# A first connection, after which the cards hold what they hold without one.
host_connect $NQN $PORT1 -i 4
host_disconnect $NQN
eventually 60 target_is_idle $NQN
before=$(rdma_queues_held)

host_connect $NQN $PORT1 -i 4 -k 10 --ctrl-loss-tmo=600
await_namespace $NQN 1
head -c 4194304 /dev/urandom >pattern
dd if=pattern of="$DEV" bs=256k seek=192 oflag=direct conv=fsync status=none
io_begin "$DEV"

step "resets"
for i in 1 2; do
	nvme reset "/dev/$CTRL"
	eventually 60 is_live
	io_goes_on
done
equal "queues, with the admin queue" "$(controller queue_count)" 5

for end in 0 1; do
	step "the cable is pulled out of card $end: the host notices, and holds the I/O; it is put back: every write is there"
	cable_out $end
	eventually 60 not_live
	eventually 60 io_stalled
	cable_in $end
	eventually 120 is_live
	io_goes_on
done

step "of a hundred packets one is lost, each way: every write is there"
lossy 1 0 1
io_goes_on
within "packets lost" "$(lost)" 1 1000000
lossless 0 1
eventually 120 is_live
io_goes_on

step "nothing of the host arrives: the target's keep-alive timer lets go of it, though its card has nothing to send"
vanish
eventually 120 target_is_idle $NQN
reappear
eventually 120 is_live
io_goes_on

for end in crash stop; do
	step "the target's $end under load"
	target_$end
	eventually 60 not_live
	eventually 60 io_stalled
	target_restart
	configure
	eventually 120 is_live
	io_goes_on
done
io_end

step "what was there at the beginning is there"
dd if="$DEV" of=copy bs=256k skip=192 count=16 iflag=direct status=none
cmp pattern copy

step "disconnected under load, nothing is left"
writer_begin "$DEV"
host_disconnect $NQN
writer_ends
eventually 60 target_is_idle $NQN
eventually 60 rdma_holds_queues "$before"
