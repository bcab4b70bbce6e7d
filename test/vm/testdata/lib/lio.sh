# lio.sh: the kernel's own iSCSI target. It proves the scenarios: one that fails against it is wrong. Devices are those of nvmet.sh, which the
# kernel's two targets share; what is here is in configfs, as Documentation/target says.

lio=/sys/kernel/config/target

iscsi_target_begin() {
	modprobe -a iscsi_target_mod target_core_iblock
	# What it keeps of reservations is kept there.
	mkdir -p $lio/iscsi /var/target/pr
}

iscsi_target_end() {
	local dir link dev file
	for dir in $lio/iscsi/iqn.*/tpgt_*; do
		echo 0 >"$dir/enable"
		for link in "$dir"/lun/lun_*/*; do
			if [ -L "$link" ]; then rm "$link"; fi
		done
		rmdir "$dir"/lun/lun_* "$dir"/np/* "$dir"
	done
	for dir in $lio/iscsi/iqn.*; do rmdir "$dir"; done
	for dir in $lio/core/iblock_0/*/; do
		case ${dir%/} in
		*/alua | */hba_*) ;;
		*) rmdir "$dir" ;;
		esac
	done
	losetup -n -O NAME,BACK-FILE | while read -r dev file; do
		case $file in "$disks"/*) losetup -d "$dev" ;; esac
	done
}

# iscsi_crash, iscsi_stop: it is gone at once, connections and all; what was written stays. iscsi_restart: it runs again, empty.
iscsi_crash() { iscsi_target_end; }
iscsi_stop() { iscsi_target_end; }
iscsi_restart() { :; }

# node_add IQN PORT...
node_add() {
	local iqn=$1 port tag=0 dir
	shift
	for port in "$@"; do
		tag=$((tag + 1)) dir=$lio/iscsi/$iqn/tpgt_$tag
		mkdir -p "$dir"
		mkdir "$dir/np/127.0.0.1:$port"
		echo 0 >"$dir/attrib/authentication"
		echo 1 >"$dir/attrib/generate_node_acls"
		echo 1 >"$dir/attrib/cache_dynamic_acls"
		echo 0 >"$dir/attrib/demo_mode_write_protect"
		[ -n "${HELD:-}" ] || echo 1 >"$dir/enable"
	done
}

# node_open IQN PORT...: a node that was made with HELD set lets initiators in from now on.
node_open() {
	local dir
	for dir in "$lio/iscsi/$1"/tpgt_*; do echo 1 >"$dir/enable"; done
}

# lun_add IQN LUN BDEV
lun_add() {
	local backstore=$lio/core/iblock_0/$3 dev dir
	if [ ! -d "$backstore" ]; then
		mkdir -p "$backstore"
		dev=/dev/$3
		[ -e "$nullb/$3" ] || dev=$(losetup -f --show --sector-size 4096 --direct-io=on "$disks/$3")
		echo "udev_path=$dev" >"$backstore/control"
		echo 1 >"$backstore/enable"
		echo 1 >"$backstore/attrib/emulate_tpu"
		echo "$SERIAL-$3" >"$backstore/wwn/vpd_unit_serial"
	fi
	for dir in "$lio/iscsi/$1"/tpgt_*; do
		mkdir "$dir/lun/lun_$2"
		ln -s "$backstore" "$dir/lun/lun_$2/backstore"
	done
}

# node_chap IQN USER SECRET [TARGET-USER TARGET-SECRET]
node_chap() {
	local dir
	for dir in "$lio/iscsi/$1"/tpgt_*; do
		echo 1 >"$dir/attrib/authentication"
		lio_chap "$dir/auth" "${@:2}"
	done
}

# discovery_chap USER SECRET [TARGET-USER TARGET-SECRET]
discovery_chap() {
	lio_chap $lio/iscsi/discovery_auth "$@"
	echo 1 >$lio/iscsi/discovery_auth/enforce_discovery_auth
}

lio_chap() {
	printf %s "$2" >"$1/userid"
	printf %s "$3" >"$1/password"
	printf %s "${4:-NULL}" >"$1/userid_mutual"
	printf %s "${5:-NULL}" >"$1/password_mutual"
}

# bdev_resize NAME MIB
bdev_resize() {
	truncate -s "$2M" "$disks/$1"
	losetup -c "$(losetup -n -O NAME -j "$disks/$1")"
}
