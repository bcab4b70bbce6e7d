# XFS on a thin volume, while the engine is killed again and again, and the host crashes after it: what was synced is there with every byte,
# and the file system is whole. Rounds alternate between a volume without a write cache and one with a volatile one.
# target: host
# nvmet: no, its volumes are block devices
# rounds: 15
. "$lib/killrounds.sh"
file_system_rounds xfs 320 "mkfs.xfs -q" "xfs_repair -n"
