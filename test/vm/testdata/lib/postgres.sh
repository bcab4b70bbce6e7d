# postgres.sh: PostgreSQL on a file system of this host. Its data is in MNT/pg, what it says in MNT.log, its socket in pg_run: the last two
# in memory. It runs as "nobody", because it refuses to be root's.

pg_bin=$(ls -d /usr/lib/postgresql/*/bin | sort -V | tail -n 1)
PATH=$pg_bin:$PATH
pg_run=$(mktemp -d)
chmod 711 . # who passes through here has to read nothing
chown nobody "$pg_run"
export PGHOST=$pg_run PGUSER=postgres PGDATABASE=postgres

as_nobody() { setpriv --reuid=nobody --regid=nogroup --clear-groups "$@"; }

# pg_make MNT: a cluster with what pgbench works on and a table for what a client saw. Checksums are on every page. Little memory, small
# segments and frequent checkpoints, so that its own log goes round, too. initdb runs on the machine, where it takes a second and not half a minute;
# neither does it run as root there.
pg_make() {
	# (An order's words are a line each.)
	local initdb='cd / && new=$(mktemp -d) && as= && if [ "$(id -u)" = 0 ]; then chown nobody "$new"; as="setpriv --reuid=nobody --regid=nogroup --clear-groups"; fi'
	initdb+=' && $as "$1/initdb" -D "$new/pg" -U postgres --auth=trust --locale=C --encoding=UTF8 --data-checksums --no-sync --wal-segsize=1'
	initdb+=' && mv "$new/pg" "$2/pg" && rmdir "$new"'
	engine run sh -c "$initdb" sh "$pg_bin" "$folder/disks" >initdb.out 2>&1 || fail "initdb: $(cat initdb.out)"
	cp -r "$folder/disks/pg" "$1/"
	chown -R nobody:nogroup "$1/pg"
	chmod 700 "$1/pg"
	cat >>"$1/pg/postgresql.conf" <<-END
		listen_addresses = ''
		unix_socket_directories = '$pg_run'
		shared_buffers = 8MB
		min_wal_size = 4MB
		max_wal_size = 16MB
		checkpoint_timeout = 30s
		jit = off
		max_connections = 20
		log_checkpoints = off
	END
	pg_start "$1"
	pgbench -i -q -s 1 >initdb.out 2>&1 || fail "pgbench -i: $(cat initdb.out)"
	psql -qc "CREATE TABLE seen (n bigint PRIMARY KEY)" -c "CREATE EXTENSION amcheck"
	pg_stop "$1"
}

# pg_start MNT: it runs and takes connections; where it has crashed, it has recovered.
pg_start() {
	touch "$1.log"
	chown nobody "$1.log"
	(cd / && as_nobody pg_ctl -D "$tmp/$1/pg" -l "$tmp/$1.log" -w -t 120 start) >pg_ctl.out 2>&1 ||
		fail "PostgreSQL does not start: $(cat pg_ctl.out) $(tail -n 30 "$1.log")"
}

pg_stop() {
	(cd / && as_nobody pg_ctl -D "$tmp/$1/pg" -m fast -w -t 120 stop) >pg_ctl.out 2>&1 || fail "PostgreSQL does not stop: $(cat pg_ctl.out)"
}

# pg_load_begin MNT: pgbench with two clients, and one client that counts and notes each number whose commit it saw.
pg_load_begin() {
	local from
	pgbench -n -c 2 -j 1 -T 36000 -l --log-prefix="$tmp/$1.bench" >pgbench.out 2>&1 &
	PGBENCH=$!
	from=$(tail -n 1 "$1.seen")
	# psql shows a row when the server has said that its transaction is complete.
	seq -f "INSERT INTO seen VALUES (%.0f) RETURNING n;" $((${from:-0} + 1000)) 100000000 |
		psql -v ON_ERROR_STOP=1 -qAt >>"$1.seen" 2>psql.out &
	COUNTER=$!
}

# pg_seen_more MNT COUNT: so many more commits were seen, from now on, and pgbench lost no connection.
pg_seen_more() {
	local from
	from=$(wc -l <"$1.seen")
	eventually 120 pg_has_seen "$1" $((from + $2))
}

pg_has_seen() {
	if ended $COUNTER; then fail "the client that counts ended: $(cat psql.out)"; fi
	if ended $PGBENCH; then fail "pgbench ended: $(cat pgbench.out)"; fi
	has_lines "$1.seen" "$2"
}

# pg_crash MNT: its processes are killed, all at once, and its clients end. One that waits for the disk ends when it has waited, and keeps the file system
# busy until then.
pg_crash() {
	local postmaster all pid
	read -r postmaster <"$1/pg/postmaster.pid"
	# Each of its processes has its data as its working directory.
	kill -s STOP "$postmaster"
	all=$(pgrep_children "$postmaster")
	kill -s KILL $all "$postmaster"
	eventually 60 ended $COUNTER
	eventually 60 ended $PGBENCH
	wait $COUNTER || true
	wait $PGBENCH || true
	for pid in $all $postmaster; do eventually 60 ended "$pid"; done
	rm -f "$pg_run"/.s.PGSQL*
}

pgrep_children() { cat "/proc/$1/task/$1/children"; }

# pg_is_whole MNT: of the transactions that a client saw committed none is missing, the four sums agree, and every table and index is sound.
pg_is_whole() {
	local noted missing sums history
	psql -qAtc "SELECT n FROM seen" | sort >have
	sort "$1.seen" >noted
	missing=$(comm -23 noted have)
	[ -z "$missing" ] || fail "these were seen committed, and are not there: $missing"
	echo "         commits that a client saw, and are there: $(wc -l <noted)"
	within "rows more than were seen" $(($(wc -l <have) - $(wc -l <noted))) 0 "$2"
	sums=$(psql -qAtF ' ' -c "SELECT (SELECT sum(abalance) FROM pgbench_accounts), (SELECT sum(tbalance) FROM pgbench_tellers),
		(SELECT sum(bbalance) FROM pgbench_branches), (SELECT coalesce(sum(delta), 0) FROM pgbench_history)")
	equal "different sums of balances" "$(tr ' ' '\n' <<<"$sums" | sort -u | wc -l) ($sums)" "1 ($sums)"
	equal "rows" "$(psql -qAtF ' ' -c "SELECT (SELECT count(*) FROM pgbench_accounts), (SELECT count(*) FROM pgbench_tellers),
		(SELECT count(*) FROM pgbench_branches)")" "100000 10 1"
	history=$(psql -qAtc "SELECT count(*) FROM pgbench_history")
	noted=$(cat "$1".bench.* | wc -l)
	[ "$history" -ge "$noted" ] || fail "pgbench saw $noted transactions committed, and there are $history"
	echo "         transactions that pgbench saw: $noted, and that are there: $history"
	pg_amcheck --heapallindexed -d postgres >amcheck.out 2>&1 || fail "pg_amcheck: $(cat amcheck.out)"
	equal "what pg_amcheck says" "$(cat amcheck.out)" ""
	# ("incorrect resource manager data checksum" is how recovery says that the log ends there.)
	if grep -E "PANIC|invalid page|page verification failed|could not (read|write|fsync)" "$1.log"; then fail "PostgreSQL met errors: see above"; fi
}
