# rounds.sh: volumes under load, while the engine is killed again and again.

# volumes_begin MIB: a pool with two volumes of that size, which differ in their write cache. Each has a subsystem of its own, because a
# controller has one cache for all its namespaces: so to the volume without one the host sends no flush. Their logs are as small as can
# be, so that each goes round many times.
volumes_begin() {
	local cache uuid=$UUID1
	pool_device
	rpc pool_create name=pool0 device=disk
	for cache in none volatile; do
		rpc volume_create pool=pool0 name=$cache bytes:=$(($1 << 20)) log_bytes:=$((32 << 20)) write_cache=$cache uuid=$uuid
		subsystem_add $NQN-$cache any
		ns_add $NQN-$cache 1 pool0/$cache $uuid
		listener_add $NQN-$cache $PORT1
		uuid=$UUID2
	done
	target_keep_config
	volumes_connect
}

# pool_device: what the pool stands on, under the name of "disk". A scenario may have another.
pool_device() { bdev_file disk 2048; }

# volumes_connect: the host has them as DEVICE[none] and DEVICE[volatile], through CONTROLLER[...], over paths that it does not give up.
declare -A DEVICE CONTROLLER
volumes_connect() {
	local cache
	for cache in none volatile; do
		host_connect $NQN-$cache $PORT1 --ctrl-loss-tmo=600
		await_namespace $NQN-$cache 1
		CONTROLLER[$cache]=$CTRL DEVICE[$cache]=$DEV
		equal "cache that the host sees on pool0/$cache" "$(cat "/sys/block/$NS/queue/write_cache")" "$(cache_of $cache)"
	done
}

cache_of() {
	case $1 in
	none) echo "write through" ;;
	volatile) echo "write back" ;;
	esac
}

# cache_in ROUND: the volume whose turn it is.
cache_in() {
	case $(($1 % 2)) in
	1) echo none ;;
	0) echo volatile ;;
	esac
}

# kill_engine: the engine is killed, starts again on the same pool, and the host comes back by itself.
kill_engine() {
	target_crash
	eventually 60 none_live
	target_start_kept
	eventually 120 all_live
}

all_live() {
	local controller
	for controller in "${CONTROLLER[@]}"; do
		reads "/sys/class/nvme/$controller/state" live || return 1
	done
}

none_live() {
	local controller
	for controller in "${CONTROLLER[@]}"; do
		! reads "/sys/class/nvme/$controller/state" live || return 1
	done
}

# pause_at_random: up to MILLISECONDS.
pause_at_random() { sleep "$(printf '0.%03d' $((RANDOM * $1 / 32768)))"; }
