# Random and sequential writes of many sizes on volumes with both write caches, with fsync among them, verified by fio: at once, and again when
# the engine was killed and the host has read nothing of it before.
# target: host
# nvmet: no, its volumes are block devices
. "$lib/rounds.sh"

# fio_keep OPTION...: the same writes each time, a block of each size its own.
fio_keep() {
	fio --name=keep --ioengine=libaio --direct=1 --rw=randwrite --bsrange=4k-256k --size=24m --iodepth=8 --verify=crc32c --verify_fatal=1 \
		--randseed=42 --output-format=json --output=keep.json "$@"
}

volumes_begin 128
for cache in none volatile; do
	DEV=${DEVICE[$cache]}
	step "write cache $cache: each write synced, one at a time, 4 KiB and 64 KiB"
	fio_verify "$DEV" --bs=4k --iodepth=1 --fsync=1 --size=512k
	fio_verify "$DEV" --bs=64k --iodepth=1 --fsync=1 --size=2m
	step "many at a time, and a sync now and then"
	fio_verify "$DEV" --bs=4k --iodepth=16 --fsync=16 --size=2m
	fio_verify "$DEV" --bs=16k --iodepth=8 --fdatasync=4 --size=4m
	fio_verify "$DEV" --rw=write --bs=128k --iodepth=4 --fsync=8 --size=8m
	fio_verify "$DEV" --ioengine=io_uring --bsrange=4k-1m --iodepth=8 --fsync=8 --size=16m
	step "written and synced; the engine is killed; what it finds is verified"
	fio_keep --filename="$DEV" --do_verify=0 --fsync=32 --end_fsync=1
	kill_engine
	fio_keep --filename="$DEV" --verify_only=1
	equal "errors" "$(jq '.jobs[0].error' keep.json)" 0
	equal "bytes verified" "$(jq '.jobs[0].read.io_bytes' keep.json)" $((24 << 20))
done
