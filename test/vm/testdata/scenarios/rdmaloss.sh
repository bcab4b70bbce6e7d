# What a host over RDMA holds out: resets, a cable that is pulled and put back, with and without a path over TCP beside it, packets that are lost,
# the target's keep-alive timeout, and the target's end under load. No command is lost, what was acknowledged is there, and the cards hold what they
# held before.
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

# Now and then rdma_rxe ends a connection by itself, though nothing was lost (kernel_is_well): the host makes all anew then, and takes no order meanwhile.
reset() { nvme reset "/dev/$CTRL" >reset.out 2>&1; }

step "resets"
for i in 1 2; do
	eventually 60 reset
	eventually 60 is_live
	io_goes_on
done
equal "queues, with the admin queue" "$(controller queue_count)" 5

step "the cable is pulled out of the host's card: the host notices, and holds the I/O; it is put back: every write is there"
cable_out 0
eventually 60 not_live
eventually 60 io_stalled
cable_in 0
eventually 120 is_live
io_goes_on

step "there is a second path, over TCP: the cable is pulled out of the target's card, and I/O goes on; the path goes, and it goes on over RDMA"
over_tcp() { TRANSPORT=tcp ADDRESS=127.0.0.1 LISTEN=127.0.0.1 "$@"; }
rdma=$CTRL
over_tcp transport_add
over_tcp listener_add $NQN $PORT2
over_tcp host_connect $NQN $PORT2
tcp=$CTRL CTRL=$rdma
eventually 60 path_state $tcp 1 optimized
cable_out 1
eventually 60 not_live
writes=$(path_writes $tcp 1)
io_goes_on
within "writes over TCP meanwhile" $(($(path_writes $tcp 1) - writes)) 128 1000000
cable_in 1
eventually 120 is_live
nvme disconnect -d $tcp
over_tcp listener_remove $NQN $PORT2
io_goes_on

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
