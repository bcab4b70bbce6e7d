# PostgreSQL on a thin volume, while the engine is killed under load and starts again: for its clients that is a pause and nothing else. Then the
# host crashes. After that every transaction is there that a client saw committed, the balances agree, and every table and index is sound.
# Rounds alternate between a volume without a write cache and one with a volatile one.
# target: host
# nvmet: no, its volumes are block devices
# rounds: 5
. "$lib/rounds.sh"
. "$lib/postgres.sh"

volumes_begin 256
mkdir none volatile
for cache in none volatile; do
	mkfs.ext4 -q -E lazy_itable_init=0 -J size=8 "${DEVICE[$cache]}"
	mount "${DEVICE[$cache]}" $cache
	: >$cache.seen
	: >$cache.bench.0
done
step "initdb, pgbench -i"
pg_make none
cp -a none/pg volatile/
sync
umount none volatile

for round in $(seq "$ROUNDS"); do
	cache=$(cache_in "$round")
	step "round $round, write cache $cache: under load the engine is killed, and the load goes on"
	mount "${DEVICE[$cache]}" $cache
	pg_start $cache
	pg_load_begin $cache
	pg_seen_more $cache 20
	pause_at_random 900
	kill_engine
	pg_seen_more $cache 5
	if grep -E "ERROR|FATAL|PANIC" $cache.log; then fail "the engine's end was more than a pause for PostgreSQL"; fi
	step "the host crashes, and PostgreSQL recovers"
	pg_crash $cache
	xfs_io -x -c shutdown $cache
	umount $cache
	mount "${DEVICE[$cache]}" $cache
	pg_start $cache
	pg_is_whole $cache "$round"
	pg_stop $cache
	umount $cache
	e2fsck -fn "${DEVICE[$cache]}" >check.out 2>&1 || fail "the file system is damaged: $(cat check.out)"
	: >$cache.log
done
