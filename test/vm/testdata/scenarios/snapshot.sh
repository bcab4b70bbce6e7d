# Snapshots of a thin volume under ext4 that is being written: one of them taken as it comes, one while the file system is frozen, with an engine
# that is killed in between. What was synced before a snapshot is in it with every byte, and what came after is not: on the snapshot itself, which is
# read only, on a clone, whose journal is replayed, and on the volume when it is restored, though the engine is killed in the midst of that.
# target: host
# nvmet: no, its volumes are block devices
. "$lib/killrounds.sh"

UUID4=aaaaaaaa-0000-4000-8000-000000000004
check="e2fsck -fn"

# take SNAPSHOT: what was synced before is in SNAPSHOT.notes; a file of a higher number than SNAPSHOT.last was begun after it. What the block can
# be is in SNAPSHOT.blocks. (A file is noted before the next one is begun.)
declare -A LAST
take() {
	local from
	cp vol.notes "$1.notes"
	from=$(wc -l <vol.block)
	rpc snapshot_create volume=pool0/vol name="$1"
	LAST[$1]=$(($(tail -n 1 vol.notes | cut -d ' ' -f 1) + 1))
	tail -n "+$((from - 1))" vol.block >"$1.blocks"
}

# shows MNT SNAPSHOT: the file system is as it was then.
shows() {
	local n source sum file
	while read -r n source; do echo "${SUM[$source]}  $1/synced/$n"; done <"$2.notes" >sums
	md5sum --quiet -c sums >wrong 2>&1 || fail "files that were synced before snapshot $2 are not whole: $(cat wrong)"
	echo "         files that were synced before, and are whole: $(wc -l <sums)"
	for file in "$1"/synced/*; do
		[ "${file##*/}" -le "${LAST[$2]}" ] || fail "file ${file##*/} was begun after snapshot $2"
	done
	sum=$(md5sum <"$1/block")
	n=$(block_named "${sum%% *}")
	grep -q " $n\$" "$2.blocks" || fail "the block is number $n, and was one of these: $(cat "$2.blocks")"
}

sound() { $check "$1" >check.out 2>&1 || fail "'$check' finds the file system damaged: $(cat check.out)"; }

# device NSID: the block device of that namespace.
device() {
	await_namespace $NQN "$1"
	echo "$DEV"
}

# snapshots: what is known of each that does not change.
snapshots() {
	rpc snapshot_list volume=pool0/vol
	jq -c '[.[] | [.name, .uuid, .number, .lsn, .bytes, .created]]' <<<"$RESULT"
}

# restore [MEMBER...]: its job's state and reason are left in RESTORED.
restore() {
	rpc snapshot_restore name=pool0/vol@running "$@"
	rpc engine_jobs job="$(jq -r .job <<<"$RESULT")" wait_ms:=60000
	RESTORED=$(jq -r '.[0] | .state + " " + .reason' <<<"$RESULT")
}

pool_device
rpc pool_create name=pool0 device=disk
rpc volume_create pool=pool0 name=vol bytes:=$((48 << 20)) log_bytes:=$((32 << 20)) write_cache=volatile uuid=$UUID1
subsystem_add $NQN any
ns_add $NQN 1 pool0/vol $UUID1
listener_add $NQN $PORT1
target_keep_config
host_connect $NQN $PORT1 --ctrl-loss-tmo=600
CONTROLLER[vol]=$CTRL
head=$(device 1)
sources_make
mkdir vol mnt
mkfs.ext4 -q -E lazy_itable_init=0 -J size=8 "$head"
mount "$head" vol
mkdir vol/synced vol/moving
cp sources/block0 vol/block
sync -f vol
: >vol.notes
: >vol.said
echo "done 0" >vol.block

step "a snapshot is taken while files are written"
writers_begin vol
noted_more vol 6
take running
noted_more vol 3

step "the engine is killed: the snapshot is there"
before=$(snapshots)
kill_engine
noted_more vol 3
equal "snapshots" "$(snapshots)" "$before"

step "a snapshot of the frozen file system"
fsfreeze -f vol
take frozen
fsfreeze -u vol
noted_more vol 3
touch vol.stop
for pid in "${WRITERS[@]}"; do eventually 120 ended "$pid"; done
umount vol
sound "$head"

step "the snapshot of the frozen file system, read only"
ns_add $NQN 2 pool0/vol@frozen $UUID2
frozen=$(device 2)
equal "read only" "$(cat "/sys/block/${frozen#/dev/}/ro")" 1
refused "write.protect|Write.Protect|WRITE_PROTECT|0x20|protected" nvme write-zeroes "$frozen" -n 2 -s 0 -c 7
sound "$frozen"
mount -o ro "$frozen" mnt
shows mnt frozen
umount mnt

step "the snapshot of the running file system, as a clone: its journal is replayed"
rpc snapshot_clone name=pool0/vol@running clone=clone uuid=$UUID3
ns_add $NQN 3 pool0/clone $UUID3
ns_add $NQN 4 pool0/vol@running $UUID4
clone=$(device 3)
running=$(device 4)
cmp "$clone" "$running"
mount "$clone" mnt
said "${clone#/dev/}.*recovery complete"
shows mnt running
as_taken=$(md5sum <"$running")
cp random mnt/random
rm mnt/synced/1
cp sources/block1 mnt/block
umount mnt
sound "$clone"
equal "the snapshot, after its clone was written" "$(md5sum <"$running")" "$as_taken"

step "the volume is restored: not while a host uses it, and not over newer snapshots"
restore drop_newer:=true
equal "restore" "$RESTORED" "failed ErrAttached"
host_disconnect $NQN
ns_remove $NQN 1
ns_remove $NQN 2
restore
equal "restore" "$RESTORED" "failed ErrNewerSnapshots"

step "the engine is killed in the midst of it, and after it"
target_keep_config
rpc snapshot_restore name=pool0/vol@running drop_newer:=true
target_crash
target_start_kept
restore drop_newer:=true
equal "restore" "$RESTORED" "done "
target_crash
target_start_kept
before=$(jq -c '[.[0]]' <<<"$before")
equal "snapshots" "$(snapshots)" "$before"
ns_add $NQN 1 pool0/vol $UUID1
host_connect $NQN $PORT1
head=$(device 1)
cmp "$head" "$(device 4)"
mount "$head" vol
shows vol running

step "it is written again, and neither it nor the clone has anything of the other"
cp sources/31 vol/again
umount vol
sound "$head"
mount "$head" vol
shows vol running
cmp sources/31 vol/again
umount vol
mount "$(device 3)" mnt
cmp random mnt/random
cmp sources/block1 mnt/block
absent mnt/synced/1 || fail "the file that was removed from the clone is there"
umount mnt
