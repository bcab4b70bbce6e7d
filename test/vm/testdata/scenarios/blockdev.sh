# A block device of 4096-byte blocks under the target, on the guest's kernel: data, discard, zeros, flush.
# target: guest

null_block disk0 64 4096
subsystem_add $NQN any
bdev_block block0 /dev/disk0
ns_add $NQN 1 block0 $UUID1
listener_add $NQN $PORT1
host_connect $NQN $PORT1
await_namespace $NQN 1
equal "size" "$(bytes_of "$DEV")" $((64 << 20))
equal "block size" "$(cat "/sys/block/$NS/queue/logical_block_size")" 4096

step "data"
fio_verify "$DEV" --size=4m
fio_verify "$DEV" --bsrange=4k-256k --offset=8m --size=4m --fsync=4
written=$(awk '{ print $5 }' /sys/block/disk0/stat)
within "writes that reached the block device" "$written" 1024 1000000

step "what was written is on the block device itself"
head -c 1048576 /dev/urandom >pattern
dd if=pattern of="$DEV" bs=128k seek=128 oflag=direct conv=fsync status=none
dd if=/dev/disk0 of=copy bs=128k skip=128 count=8 iflag=direct status=none
cmp pattern copy

step "discard and zeros"
within "discard_max_bytes" "$(cat "/sys/block/$NS/queue/discard_max_bytes")" 4096 $((1 << 62))
blkdiscard -o $((16 << 20)) -l 524288 "$DEV"
within "discards that reached the block device" "$(awk '{ print $12 }' /sys/block/disk0/stat)" 1 1000000
blkdiscard -z -o $(((16 << 20) + 524288)) -l 262144 "$DEV"
dd if=/dev/zero of=pattern bs=768k count=1 conv=notrunc status=none
dd if="$DEV" of=copy bs=128k skip=128 count=8 iflag=direct status=none
cmp pattern copy
