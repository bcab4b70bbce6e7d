# XFS on a namespace.
# target: host
. "$lib/filesystem.sh"
filesystem xfs 320 "mkfs.xfs -q" "xfs_repair -n"
