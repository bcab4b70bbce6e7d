# The target is killed with I/O in flight, and told to end with I/O in flight, and starts again: the host comes back by itself, no write that was
# acknowledged is missing, and nothing reaches the application but a delay.
# target: host

configure() {
	bdev_file file0 64
	subsystem_add $NQN any
	ns_add $NQN 1 file0 $UUID1
	listener_add $NQN $PORT1
}
configure
host_connect $NQN $PORT1 --ctrl-loss-tmo=600
await_namespace $NQN 1
head -c 4194304 /dev/urandom >pattern
dd if=pattern of="$DEV" bs=256k seek=192 oflag=direct conv=fsync status=none
not_live() { ! reads "/sys/class/nvme/$CTRL/state" live; }

io_begin "$DEV"
for end in crash stop; do
	step "the target's $end"
	target_$end
	eventually 60 not_live
	eventually 60 io_stalled
	target_restart
	configure
	eventually 120 reads "/sys/class/nvme/$CTRL/state" live
	io_goes_on
done
io_end

step "what was there before the crash is there"
dd if="$DEV" of=copy bs=256k skip=192 count=16 iflag=direct status=none
cmp pattern copy
