# ext4 on thin volumes of a pool that is closed and opened again by one engine, over and over: unmounted, disconnected, exported, imported, and
# everything that was synced is there with every byte.
# target: host
# nvmet: no, its volumes are block devices
# rounds: 8
. "$lib/killrounds.sh"

close_and_open() {
	local cache uuid=$UUID1 pid
	touch "$1.stop"
	for pid in "${WRITERS[@]}"; do eventually 120 ended "$pid"; done
	notes_count "$1"
	writers_end "$1"
	umount "$1"
	host_disconnect_all
	for cache in none volatile; do ns_remove $NQN-$cache 1; done
	rpc pool_export name=pool0
	eventually 60 pools_open 0
	rpc pool_import device=disk
	eventually 60 pools_open 1
	for cache in none volatile; do
		ns_add $NQN-$cache 1 pool0/$cache $uuid
		uuid=$UUID2
	done
	volumes_connect
}

pools_open() {
	rpc pool_list
	[ "$(jq length <<<"$RESULT")" = "$1" ]
}

file_system_rounds ext4 128 "mkfs.ext4 -q -E lazy_itable_init=0 -J size=8" "e2fsck -fn" close_and_open
