# ext4 and XFS on a disk over iSCSI: made, filled, checked over a new session, trimmed; and the disk grows under a file system that is in use.
# target: host
. "$lib/filesystem.sh"
. "$lib/iscsi.sh"

# What filesystem.sh asks for, by iSCSI.
filesystem_serve() {
	bdev_file $1 "$2"
	lun_add $IQN $LUN $1
}
filesystem_attach() {
	if [ -z "$(sessions $IQN)" ]; then
		node_new $IQN $PORT1
		node_login $IQN $PORT1
	fi
	await_disk "$(sessions $IQN)" $LUN
}
filesystem_detach() { iscsi_logout_all; }

iscsi_begin
node_add $IQN $PORT1
for LUN in 0 1; do
	case $LUN in
	0) filesystem ext4 64 "mkfs.ext4 -q -E lazy_itable_init=0" "e2fsck -fn" ext4disk ;;
	1) filesystem xfs 320 "mkfs.xfs -q -f" "xfs_repair -n" xfsdisk ;;
	esac
	iscsi_logout_all
	rm -rf mnt
done

step "the disk grows under ext4, and so does the file system"
LUN=0
filesystem_attach
mkdir mnt
mount "$DEV" mnt
bdev_resize ext4disk 96
iscsiadm -m session -R >/dev/null
eventually 60 has_bytes "$DEV" $((96 << 20))
resize2fs "$DEV" 2>/dev/null
within "KiB of the file system" "$(df --output=size mnt | tail -n 1)" 70000 98304
(cd mnt && grep -v random ../sums >kept && md5sum --quiet -c kept) || fail "files are not what was copied"
umount mnt
e2fsck -fn "$DEV" || fail "the file system that grew is damaged"
iscsi_end
