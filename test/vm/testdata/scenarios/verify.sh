# Random writes of all sizes and depths, verified by fio: at once, and again over a new connection.
# target: host

subsystem_add $NQN any
bdev_file file0 64
ns_add $NQN 1 file0 $UUID1
listener_add $NQN $PORT1
host_connect $NQN $PORT1
await_namespace $NQN 1

step "one at a time, many at a time"
fio_verify "$DEV" --iodepth=1 --size=1m
fio_verify "$DEV" --iodepth=64 --size=8m
step "sizes from a block to 512 KiB, by io_uring"
fio_verify "$DEV" --ioengine=io_uring --iodepth=8 --bsrange=4k-512k --size=24m
step "FUA and flush"
fio_verify "$DEV" --sync=dsync --iodepth=1 --size=1m
fio_verify "$DEV" --fsync=8 --size=2m
step "vectors of odd lengths, through the page cache"
fio_verify "$DEV" --direct=0 --ioengine=psync --iodepth=1 --bsrange=1k-96k --bs_unaligned --size=4m --end_fsync=1

step "verified again over a new connection, by a fio that has not written"
fio --name=keep --filename="$DEV" --ioengine=libaio --direct=1 --rw=randwrite --bs=8k --size=16m --iodepth=16 \
	--verify=crc32c --do_verify=0 --randseed=42 --output=keep.out
host_disconnect $NQN
host_connect $NQN $PORT1
await_namespace $NQN 1
fio --name=keep --filename="$DEV" --ioengine=libaio --direct=1 --rw=randwrite --bs=8k --size=16m --iodepth=16 \
	--verify=crc32c --verify_only=1 --verify_fatal=1 --randseed=42 --output-format=json --output=keep.json
equal "errors" "$(jq '.jobs[0].error' keep.json)" 0
equal "bytes verified" "$(jq '.jobs[0].read.io_bytes' keep.json)" $((16 << 20))
