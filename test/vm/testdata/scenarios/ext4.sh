# ext4 on a namespace.
# target: host
. "$lib/filesystem.sh"
filesystem ext4 128 "mkfs.ext4 -q -E lazy_itable_init=0" "e2fsck -fn"
