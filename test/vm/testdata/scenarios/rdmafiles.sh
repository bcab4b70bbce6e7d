# ext4 on a namespace over RDMA.
# target: guest
. "$lib/rdma.sh"
. "$lib/filesystem.sh"
rdma_begin
filesystem ext4 128 "mkfs.ext4 -q -E lazy_itable_init=0" "e2fsck -fn"
