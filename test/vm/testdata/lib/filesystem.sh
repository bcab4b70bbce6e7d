# filesystem.sh: a file system lives on a disk of the target: made, filled, unmounted, checked over a new connection,
# compared file by file, trimmed and checked again.

# filesystem NAME MIB MKFS CHECK [DISK]: MKFS and CHECK are commands to which the device is added, DISK is what the target calls it.
filesystem() {
	local type=$1 mib=$2 make=$3 check=$4 disk=${5:-disk} trimmed used

	filesystem_serve "$disk" "$mib"
	filesystem_attach

	step "$make"
	$make "$DEV"
	mkdir mnt
	mount -t "$type" "$DEV" mnt

	step "copy large and small files, and note their sums"
	mkdir mnt/large mnt/small
	cp -L /usr/bin/bash /usr/bin/jq /usr/sbin/nvme /usr/bin/busybox mnt/large/
	head -c 800000 /usr/bin/bash >small
	split -a 3 -n l/200 small mnt/small/
	head -c 16777216 /dev/urandom >mnt/random
	(cd mnt && find . -type f -exec md5sum {} + | sort -k 2) >sums
	equal "files" "$(wc -l <sums)" 205
	umount mnt

	step "unmounted, disconnected, connected anew: $check"
	filesystem_detach
	filesystem_attach
	$check "$DEV" || fail "'$check' finds the file system damaged"
	mount -t "$type" "$DEV" mnt
	(cd mnt && md5sum --quiet -c ../sums) || fail "files are not what was copied"

	step "files are removed, and the space is given back"
	used=$(bdev_file_used "$disk")
	rm mnt/random
	# XFS gives a removed file's blocks back in the background, for which sync does not wait.
	umount mnt
	mount -t "$type" "$DEV" mnt
	trimmed=$(fstrim -v mnt)
	matches "fstrim" "$trimmed" "bytes\\) trimmed"
	umount mnt
	within "KiB given back to the target's disk, of 16384" $((used - $(bdev_file_used "$disk"))) 12288 1000000
	$check "$DEV" || fail "'$check' finds the file system damaged after trim"
}

# How the disk gets to this host: over NVMe/TCP, if a scenario has not another way.

filesystem_serve() {
	subsystem_add $NQN any
	bdev_file "$1" "$2"
	ns_add $NQN 1 "$1" $UUID1
	listener_add $NQN $PORT1
}

filesystem_attach() {
	host_connect $NQN $PORT1
	await_namespace $NQN 1
}

filesystem_detach() { host_disconnect $NQN; }
