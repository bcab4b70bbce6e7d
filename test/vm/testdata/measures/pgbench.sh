# PostgreSQL's TPS on a file system: on a raw disk of this guest, on the same kind of file over NVMe/TCP without a volume, and on volumes with both
# write caches, in turn and three times. It says ratios, not what a machine can do: this CPU is emulated.
# target: host
# disk: 512
# limit: 1800
. "$lib/rounds.sh"
. "$lib/postgres.sh"
PASSES=3 RUN_SECONDS=20

volumes_begin 256
bdev_file plain 256
subsystem_add $NQN-plain any
ns_add $NQN-plain 1 plain $UUID3
listener_add $NQN-plain $PORT1
host_connect $NQN-plain $PORT1
await_namespace $NQN-plain 1
DEVICE[plain]=$DEV DEVICE[raw]=/dev/vda
all="raw plain none volatile"

step "initdb, pgbench -i, copied to each"
for name in $all; do
	mkdir $name
	mkfs.ext4 -q -E lazy_itable_init=0 -J size=8 "${DEVICE[$name]}"
	mount "${DEVICE[$name]}" $name
	if [ $name = raw ]; then pg_make raw; else cp -a raw/pg $name/; fi
	sync -f $name
done

declare -A TPS
for pass in $(seq $PASSES); do
	for name in $all; do
		pg_start $name
		psql -qc CHECKPOINT
		pgbench -n -c 4 -j 1 -T $RUN_SECONDS >pgbench.out 2>&1 || fail "pgbench: $(cat pgbench.out)"
		tps=$(awk '$1 == "tps" { print $3 }' pgbench.out)
		TPS[$name]+="$tps "
		step "pass $pass, $name: $tps TPS"
		pg_stop $name
	done
done

# median NAME
median() { tr ' ' '\n' <<<"${TPS[$1]% }" | sort -g | sed -n $(((PASSES + 1) / 2))p; }
step "TPC-B with 4 clients, medians of $PASSES x $RUN_SECONDS s"
for name in $all; do
	awk -v name=$name -v tps="$(median $name)" -v raw="$(median raw)" -v all="${TPS[$name]}" \
		'BEGIN { printf "         %-10s %7.1f TPS, %.2f of raw  (%s)\n", name, tps, tps / raw, all }'
done
for name in $all; do umount $name; done
