# nvmet.sh: the kernel's own NVMe/TCP target as the target. It proves the scenarios: one that fails against
# it is wrong. The functions are those of pollux.sh.

ADDRESS=127.0.0.1
INTERFACE=lo
PORT1=4420 PORT2=4421
nvmet=/sys/kernel/config/nvmet
# Files under namespaces. They outlive a crash of the target.
disks=/run/nvmet

target_begin() { :; }

target_end() {
	local dir
	target_crash
	null_block_remove_all
	rm -rf "${disks:?}"/*
}

# target_crash: the target is gone at once, connections and all; what was written stays.
target_crash() {
	local link dir
	for link in $nvmet/ports/*/subsystems/* $nvmet/ports/*/referrals/*; do
		if [ -L "$link" ]; then
			rm "$link"
		else
			echo 0 >"$link/enable"
			rmdir "$link"
		fi
	done
	for dir in $nvmet/ports/*/ana_groups/*; do
		[ "${dir##*/}" = 1 ] || rmdir "$dir"
	done
	for dir in $nvmet/ports/*; do rmdir "$dir"; done
	for dir in $nvmet/subsystems/*; do subsystem_remove "${dir##*/}"; done
	for dir in $nvmet/hosts/*; do rmdir "$dir"; done
}

# target_restart: it runs again, empty; the scenario configures it as before.
target_restart() { :; }

# transport_add: its transports are modules, which are there.
transport_add() { :; }

# target_stop: it ends in good order. This one knows no other order.
target_stop() { target_crash; }

# target_pinned: the kernel's memory is not pinned.
target_pinned() { :; }

# target_freeze, target_thaw: it does not answer, while its connections stay.
target_freeze() {
	local port
	for port in $PORT1 $PORT2; do
		drop dport $port
		drop sport $port
	done
}

target_thaw() { reappear; }

target_report() {
	echo "--- the target's configuration"
	(cd $nvmet && find ports subsystems hosts -mindepth 1 \( -type d -o -type l \) | sort)
}

# target_is_idle NQN: no controller and no queue of that subsystem is left. The kernel's target shows neither:
# its connections must do.
target_is_idle() {
	local port
	for port in $PORT1 $PORT2; do
		[ -z "$(ss -Htn state established "sport = :$port")" ] || return 1
	done
}

# target_connections NQN PORT: how many queues there are.
target_connections() { ss -Htn state established "sport = :$2" | wc -l; }

# bdev_memory NAME MIB BLOCKSIZE
bdev_memory() { null_block "$@"; }

# bdev_block NAME DEVICE: on a block device of the guest.
bdev_block() {
	mkdir -p $disks
	ln -s "$2" "$disks/$1"
}

# bdev_file NAME MIB: a sparse file with blocks of 4096 bytes, made where there is none yet.
bdev_file() {
	# tmpfs cannot zero a range of a file, and overlayfs no more than it: hence a file system of its own,
	# which the guest keeps.
	if ! mountpoint -q $disks; then
		mkdir -p $disks
		truncate -s 1G /run/nvmet.ext4
		mkfs.ext4 -q -m 0 -O ^has_journal /run/nvmet.ext4
		mount -o loop /run/nvmet.ext4 $disks
	fi
	[ -e "$disks/$1" ] || truncate -s "$2M" "$disks/$1"
}

# bdev_file_used NAME: how many KiB of the file are allocated.
bdev_file_used() { du -k "$disks/$1" | cut -f 1; }

# bdev_file_resize NAME MIB NQN NSID: the file has another size, and the target knows.
bdev_file_resize() {
	truncate -s "$2M" "$disks/$1"
	echo 1 >"$nvmet/subsystems/$3/namespaces/$4/revalidate_size"
}

# subsystem_add NQN any|listed: open to any host, or to those of host_add only.
subsystem_add() {
	local dir=$nvmet/subsystems/$1
	mkdir "$dir"
	echo "$SERIAL" >"$dir/attr_serial"
	echo "$MODEL" >"$dir/attr_model"
	if [ "$2" = any ]; then echo 1 >"$dir/attr_allow_any_host"; fi
}

subsystem_remove() {
	local dir=$nvmet/subsystems/$1 link
	for link in $nvmet/ports/*/subsystems/"$1"; do rm "$link"; done
	for link in "$dir"/allowed_hosts/*; do rm "$link"; done
	for link in "$dir"/namespaces/*; do ns_remove "$1" "${link##*/}"; done
	rmdir "$dir"
}

# ns_add NQN NSID BDEV UUID [ANAGROUP]
ns_add() {
	local dir=$nvmet/subsystems/$1/namespaces/$2
	mkdir "$dir"
	if [ -e "$nullb/$3" ]; then
		echo "/dev/$3" >"$dir/device_path"
	elif [ -b "$disks/$3" ]; then
		readlink "$disks/$3" >"$dir/device_path"
	else
		echo 1 >"$dir/buffered_io"
		echo "$disks/$3" >"$dir/device_path"
	fi
	echo "$4" >"$dir/device_uuid"
	if [ -n "${5:-}" ]; then echo "$5" >"$dir/ana_grpid"; fi
	echo 1 >"$dir/enable"
}

# ns_add_protectable NQN NSID BDEV UUID: every one of them can be write protected by a host.
ns_add_protectable() { ns_add "$@"; }

ns_remove() {
	local dir=$nvmet/subsystems/$1/namespaces/$2
	echo 0 >"$dir/enable"
	rmdir "$dir"
}

# listener_add NQN PORT [ADDRESS]: at LISTEN, or on that address, in form of IPv4 or IPv6. The kernel's target has
# ports with subsystems in them, and discovery on each.
listener_add() {
	local dir=$nvmet/ports/$2 address=${3:-$LISTEN}
	if [ ! -d "$dir" ]; then
		mkdir "$dir"
		echo "$TRANSPORT" >"$dir/addr_trtype"
		family "$address" | tr IP ip >"$dir/addr_adrfam"
		echo "$address" >"$dir/addr_traddr"
		echo "$2" >"$dir/addr_trsvcid"
	fi
	[ "$1" = $DISCOVERY ] || ln -s "$nvmet/subsystems/$1" "$dir/subsystems/$1"
}

# listener_remove NQN PORT [ADDRESS]
listener_remove() {
	[ "$1" = $DISCOVERY ] || rm "$nvmet/ports/$2/subsystems/$1"
}

referral_add() {
	local dir=$nvmet/ports/$PORT1/referrals/$1-$2
	mkdir "$dir"
	echo tcp >"$dir/addr_trtype"
	echo ipv4 >"$dir/addr_adrfam"
	echo "$1" >"$dir/addr_traddr"
	echo "$2" >"$dir/addr_trsvcid"
	echo 1 >"$dir/enable"
}

referral_remove() {
	local dir=$nvmet/ports/$PORT1/referrals/$1-$2
	echo 0 >"$dir/enable"
	rmdir "$dir"
}

# ana_set NQN PORT GROUP optimized|non_optimized|inaccessible
ana_set() {
	local dir=$nvmet/ports/$2/ana_groups/$3
	[ -d "$dir" ] || mkdir "$dir"
	echo "${4/_/-}" >"$dir/ana_state"
}

# host_add NQN HOSTNQN [KEY [CONTROLLER-KEY]]: that host may connect; with a key it has to prove its name, and
# with a second one the controller does, too.
host_add() {
	[ -d "$nvmet/hosts/$2" ] || mkdir "$nvmet/hosts/$2"
	host_keys "$@"
	ln -s "$nvmet/hosts/$2" "$nvmet/subsystems/$1/allowed_hosts/$2"
}

# host_keys NQN HOSTNQN [KEY [CONTROLLER-KEY]]: other keys for it.
host_keys() {
	if [ -n "${3:-}" ]; then echo "$3" >"$nvmet/hosts/$2/dhchap_key"; fi
	if [ -n "${4:-}" ]; then echo "$4" >"$nvmet/hosts/$2/dhchap_ctrl_key"; fi
}

host_remove() { rm "$nvmet/subsystems/$1/allowed_hosts/$2"; }

# authentications_ended, queues_authenticated NQN COUNT: the kernel's target does not tell.
authentications_ended() { :; }
queues_authenticated() { :; }
