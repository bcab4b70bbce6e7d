# The target is killed, and told to end, under a file system with files being written: the host logs in again by itself, programs meet a
# pause and no error, and everything that was synced is there. And a host logs out under load.
# target: host
. "$lib/iscsi.sh"

# A host that comes back before its unit is there would be told that there is none, which is no pause but an error.
configure() {
	bdev_file file0 96
	HELD=true node_add $IQN $PORT1
	lun_add $IQN 0 file0
	node_open $IQN $PORT1
}
iscsi_begin
configure
attach $IQN $PORT1 0
mkfs.ext4 -q -E lazy_itable_init=0 "$DEV"
mkdir mnt
mount "$DEV" mnt
head -c 1048576 /dev/urandom >random

# A file is noted when its fsync has returned.
: >written
(
	trap - ERR EXIT
	n=0
	while [ ! -e stop ]; do
		n=$((n + 1))
		head -c $((4096 + RANDOM * 8)) random >mnt/$((n % 32)).new || break
		sync mnt/$((n % 32)).new || break
		mv mnt/$((n % 32)).new mnt/$((n % 32)) || break
		echo $n >>written
	done 2>said
	echo "ended" >>said
) &
writer=$!
written_to() { [ "$(wc -l <written)" -ge "$1" ]; }
goes_on() {
	local from
	from=$(wc -l <written)
	eventually 120 written_to $((from + 10))
}
eventually 120 written_to 10

for end in crash stop; do
	step "the target's $end"
	iscsi_$end
	eventually 90 away "$SESSION"
	iscsi_restart
	configure
	eventually 120 logged_in "$SESSION"
	goes_on
done
: >stop
eventually 60 ended $writer
equal "what the writer met" "$(cat said)" ended
if said "I/O error|EXT4-fs error|Remounting"; then fail "an error reached the file system"; fi
sync -f mnt
umount mnt
e2fsck -fn "$DEV" || fail "the file system is damaged"

step "a host logs out under load: its I/O fails, and nothing else"
writer_begin "$DEV"
node_logout $IQN $PORT1
writer_ends
eventually 60 no_sessions
node_login $IQN $PORT1
await_disk "$(sessions $IQN)" 0
fio_verify "$DEV" --size=256k
iscsi_end
