# ext4 on thin volumes, on a disk with a write cache of its own that a power cut empties: engine and host end together, the disk loses what was not
# flushed, and all that was synced is there with every byte. Rounds alternate between a volume without a write cache and one with a volatile
# one. (The disk is null_blk's. Its cache is small, so that part of what was not flushed is on the disk all the same.)
# target: guest
# nvmet: no, its volumes are block devices
# rounds: 6
. "$lib/killrounds.sh"

pool_device() {
	null_block disk0 1024 4096 cache_size=2
	equal "the disk's cache" "$(cat /sys/block/disk0/queue/write_cache)" "write back"
	bdev_block disk /dev/disk0
}

power_cut() {
	notes_count "$1"
	target_crash
	# What the host has in flight is lost with it, not sent again: it lets go of the path, and the file system ends with that.
	host_disconnect_all
	writers_end "$1"
	umount "$1"
	echo 0 >"$nullb/disk0/power"
	echo 1 >"$nullb/disk0/power"
	eventually 60 opens /dev/disk0
	target_start_kept
	volumes_connect
}

file_system_rounds ext4 128 "mkfs.ext4 -q -E lazy_itable_init=0 -J size=8" "e2fsck -fn" power_cut
