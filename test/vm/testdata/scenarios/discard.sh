# blkdiscard: discarded and zeroed ranges read as zeros, nothing beside them changes, and the space goes back to
# the target's disk. A local file that has the same done to it is the model.
# target: host

subsystem_add $NQN any
bdev_file file0 64
ns_add $NQN 1 file0 $UUID1
listener_add $NQN $PORT1
host_connect $NQN $PORT1
await_namespace $NQN 1
queue=/sys/block/$NS/queue
within "discard_max_bytes" "$(cat "$queue/discard_max_bytes")" 4096 $((1 << 62))
within "discard_granularity" "$(cat "$queue/discard_granularity")" 512 1048576
within "write_zeroes_max_bytes" "$(cat "$queue/write_zeroes_max_bytes")" 4096 $((1 << 62))

head -c 33554432 /dev/urandom >model
same() {
	dd if="$DEV" of=copy bs=1M count=32 iflag=direct status=none
	cmp model copy || fail "the device differs from the model"
	rm copy
}
# Both get zeros there.
range() { # OFFSET LENGTH [blkdiscard option]
	blkdiscard $3 -o "$1" -l "$2" "$DEV"
	dd if=/dev/zero of=model bs=4096 seek=$(($1 / 4096)) count=$(($2 / 4096)) conv=notrunc status=none
}

step "32 MiB of data"
dd if=model of="$DEV" bs=1M oflag=direct status=none
same
within "KiB on the target's disk" "$(bdev_file_used file0)" 32768 34000

step "discard: large, one block, unaligned to anything but blocks"
range 1048576 8388608 ""
range 20480 4096 ""
range $((16777216 + 4096 * 3)) $((4096 * 1021)) ""
same
within "KiB on the target's disk" "$(bdev_file_used file0)" 16384 22000

step "zeros"
range $((4096 * 7000)) 2097152 -z
range 0 4096 -z
same
matches "Write Zeroes" "$(nvme write-zeroes "$DEV" -s 8000 -c 7)" "Success"
dd if=/dev/zero of=model bs=4096 seek=8000 count=8 conv=notrunc status=none
same

step "Dataset Management with three ranges in one command"
nvme dsm "$DEV" --ad -s 100,300,500 -b 10,20,30
for r in 100,10 300,20 500,30; do
	dd if=/dev/zero of=model bs=4096 seek=${r%,*} count=${r#*,} conv=notrunc status=none
done
same

step "everything"
blkdiscard "$DEV"
dd if=/dev/zero of=model bs=1M count=32 status=none
same
within "KiB on the target's disk" "$(bdev_file_used file0)" 0 1024
