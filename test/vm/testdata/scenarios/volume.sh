# A file system on a thin volume, while the engine is killed again and again: the host comes back by itself, every file that was synced is
# there with every byte, and the file system is whole.
# target: host
# nvmet: no, its volumes are block devices
# limit: 360

configure() {
	subsystem_add $NQN any
	ns_add $NQN 1 pool0/vol0 $UUID1
	listener_add $NQN $PORT1
}

bdev_file disk 512
rpc bdev_lvol_create_lvstore bdev_name=disk lvs_name=pool0
rpc bdev_lvol_create lvol_name=vol0 size_in_mib:=192 thin_provision:=true lvs_name=pool0
configure
host_connect $NQN $PORT1 --ctrl-loss-tmo=600
await_namespace $NQN 1

step "mkfs.ext4"
mkfs.ext4 -q -E lazy_itable_init=0 "$DEV"
mkdir -p mnt
mount -t ext4 "$DEV" mnt

live() { reads "/sys/class/nvme/$CTRL/state" live; }
not_live() { ! live; }

for round in $(seq 5); do
	step "round $round: synced files, unsynced writes, and the engine is killed"
	mkdir mnt/$round
	for i in $(seq 20); do
		head -c $((round * 4096 + i * 7919)) /dev/urandom >mnt/$round/$i
	done
	sync -f mnt
	(cd mnt && md5sum $round/*) >>sums
	dd if=/dev/urandom of=mnt/unsynced bs=64k count=256 status=none &
	writer=$!
	target_crash
	eventually 60 not_live
	target_restart
	bdev_file disk 512
	configure
	eventually 120 live
	wait $writer
	sync -f mnt
	umount mnt
	e2fsck -fn "$DEV" || fail "the file system is damaged after round $round"
	mount -t ext4 "$DEV" mnt
	(cd mnt && md5sum --quiet -c ../sums) || fail "a synced file is not what it was after round $round"
done
umount mnt
