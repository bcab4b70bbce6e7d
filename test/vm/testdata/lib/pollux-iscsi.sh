# pollux-iscsi.sh: Pollux as the iSCSI target. The functions are those of lio.sh.

iscsi_target_begin() { :; }

# iscsi_target_end: what was served goes; the devices remain until the engine's end.
iscsi_target_end() {
	local node
	rpc iscsi_get_target_nodes
	for node in $(jq -r '.[].name' <<<"$RESULT"); do rpc iscsi_delete_target_node name="$node"; done
}

iscsi_crash() { target_crash; }
iscsi_stop() { target_stop; }
iscsi_restart() { target_restart; }

# node_add IQN PORT...: a node that any initiator may use without CHAP, by a portal group with one portal for each port. There may be
# several nodes at a port.
node_add() {
	local iqn=$1 port maps="" tag
	shift
	rpc iscsi_get_initiator_groups
	[ "$(jq length <<<"$RESULT")" != 0 ] ||
		rpc iscsi_create_initiator_group tag:=1 initiators:='["ANY"]' netmasks:='["ANY"]'
	for port in "$@"; do
		portal_add "$port"
		maps+=",$(object pg_tag:="$(portal_tag "$port")" ig_tag:=1)"
	done
	rpc iscsi_create_target_node name="$iqn" alias_name=scenario pg_ig_maps:="[${maps#,}]" luns:='[]' queue_depth:=64 disable_chap:=true
}

portal_tag() { [ "$1" = "$PORT1" ] && echo 1 || echo 2; }

portal_add() {
	local tag
	tag=$(portal_tag "$1")
	rpc iscsi_get_portal_groups
	[ "$(jq "[.[] | select(.tag == $tag)] | length" <<<"$RESULT")" = 1 ] ||
		rpc iscsi_create_portal_group tag:="$tag" portals:="[$(object host=127.0.0.1 port="$1")]" wait:="${HELD:-false}"
}

# node_open IQN PORT...: a node that was made with HELD set (to true) lets initiators in from now on.
node_open() {
	local port
	for port in "${@:2}"; do rpc iscsi_start_portal_group tag:="$(portal_tag "$port")"; done
}

# lun_add IQN LUN BDEV
lun_add() { rpc iscsi_target_node_add_lun name="$1" lun_id:="$2" bdev_name="$3"; }

# node_chap IQN USER SECRET [TARGET-USER TARGET-SECRET]: from now on initiators have to prove themselves, and with four the node does, too.
node_chap() {
	auth_group "${@:2}"
	rpc iscsi_target_node_set_auth name="$1" require_chap:=true mutual_chap:="$(mutual "${@:2}")" chap_group:=1
}

# discovery_chap USER SECRET [TARGET-USER TARGET-SECRET]: the same, of discovery.
discovery_chap() {
	auth_group "$@"
	rpc iscsi_set_discovery_auth require_chap:=true mutual_chap:="$(mutual "$@")" chap_group:=1
}

auth_group() {
	local secret
	secret=$(object user="$1" secret="$2")
	[ $# -lt 3 ] || secret=$(object user="$1" secret="$2" muser="$3" msecret="$4")
	rpc iscsi_get_auth_groups
	[ "$(jq length <<<"$RESULT")" = 0 ] || rpc iscsi_delete_auth_group tag:=1
	rpc iscsi_create_auth_group tag:=1 secrets:="[$secret]"
}

mutual() { [ $# -ge 3 ] && echo true || echo false; }

# bdev_resize NAME MIB: the file below the device has another size, and the target knows.
bdev_resize() {
	engine run truncate -s "$2M" "$folder/disks/$1"
	rpc bdev_uring_rescan name="$1"
}
