# A block device with poll queues is polled, and so is a file on one.
# target: guest
# nvmet: no, it polls for nothing

null_block disk0 64 4096 poll_queues=1
equal "poll queues" "$(cat /sys/block/disk0/queue/io_poll)" 1
null_block disk1 64 512 poll_queues=1
null_block disk2 64 4096
mkdir ext4
mkfs.ext4 -q /dev/disk1
mount /dev/disk1 ext4
truncate -s 32M ext4/file

# polled NAME: whether Pollux says that it polls for it.
polled() {
	rpc bdev_get_bdevs name="$1"
	jq '.[0].driver_specific.uring.polled == true' <<<"$RESULT"
}

# through PATH POLLED: data, flushes and zeroes go through, and in the end it is polled or is not.
through() {
	bdev_block block0 "$1"
	ns_add $NQN 1 block0 $UUID1
	await_namespace $NQN 1
	fio_verify "$DEV" --bsrange=4k-256k --size=4m --fsync=4
	blkdiscard -z -o $((16 << 20)) -l 262144 "$DEV"
	head -c 1048576 /dev/urandom >pattern
	dd if=pattern of="$DEV" bs=128k seek=64 oflag=direct conv=fsync status=none
	dd if="$1" of=copy bs=128k skip=64 count=8 iflag=direct status=none
	cmp pattern copy
	equal "polled" "$(polled block0)" "$2"
	ns_remove $NQN 1
	rpc bdev_uring_delete name=block0
	eventually 60 no_namespace $NQN 1
}

subsystem_add $NQN any
listener_add $NQN $PORT1
host_connect $NQN $PORT1

step "a device with poll queues"
through /dev/disk0 true

step "a file on one"
through "$PWD/ext4/file" true

step "a device without"
through /dev/disk2 false

umount ext4
