# dm-multipath over two portals: what one path loses goes over the other, with blocks verified all the time.
# target: host
. "$lib/iscsi.sh"

iscsi_begin
modprobe -a dm_multipath dm_service_time
bdev_file file0 64
node_add $IQN $PORT1 $PORT2
lun_add $IQN 0 file0
# A path that does not answer is given up after some seconds, here and not in the file system.
quick=(node.session.timeo.replacement_timeout=3 "node.conn[0].timeo.noop_out_interval=3" "node.conn[0].timeo.noop_out_timeout=5")
attach $IQN $PORT1 0 "${quick[@]}"
path1=$DISK session1=$SESSION
attach $IQN $PORT2 0 "${quick[@]}"
path2=$DISK session2=$SESSION
wwid() { sg_vpd -p di_lu -q "/dev/$1" | head -n 1; }
equal "the second path's name of the unit" "$(wwid $path2)" "$(wwid $path1)"

# There is no udev here: multipathd finds in its database that the disks are ready, and asks them for their names itself.
mkdir -p /run/udev/data
for disk in $path1 $path2; do
	printf 'I:1\nE:ID_SERIAL=%s\n' "$disk" >"/run/udev/data/b$(cat "/sys/block/$disk/dev")"
done
cat >/etc/multipath.conf <<END
defaults {
	uid_attribute ""
	find_multipaths no
	polling_interval 1
	max_polling_interval 2
	retrigger_tries 0
}
blacklist {
	devnode "^(vd|nvme|loop|ram|nullb|dm-)"
}
overrides {
	no_path_retry queue
	fast_io_fail_tmo off
}
END
step "multipathd puts both paths together"
multipathd -d -v 2 >multipathd.log 2>&1 &
multipathd=$!
map_has() { [ "$(multipathd show paths raw format "%d %t" 2>/dev/null | grep -c " active")" = "$1" ]; }
eventually 90 map_has 2
map_is_named() { map=$(multipathd show maps raw format "%d"); }
eventually 60 map_is_named
matches "the map" "$map" "^dm-[0-9]+$"
matches "how its paths are grouped" "$(multipath -ll)" "hwhandler='1 alua'.*prio=[1-9]"

path_writes_of() { awk '{ print $5 }' "/sys/block/$1/stat"; }
moved() { [ "$(path_writes_of "$1")" -gt $(($2 + 100)) ]; }
uses() { eventually 120 moved "$1" "$(path_writes_of "$1")"; }
path_is() { multipathd show paths raw format "%d %t" | grep -q "^$1 $2"; }

io_begin "/dev/$map"
for lost in "$PORT1 $path1 $path2" "$PORT2 $path2 $path1"; do
	read -r port gone stays <<<"$lost"
	step "nothing gets through to port $port: I/O goes over $stays"
	vanish "$port"
	eventually 120 path_is "$gone" failed
	uses "$stays"
	io_goes_on
	step "it is back"
	reappear
	eventually 120 path_is "$gone" active
done

step "a portal's session is logged out under load"
node_logout $IQN $PORT1
eventually 60 map_has 1
io_goes_on
io_end
# It may end before it has answered (uxlsnr.c, cli_shutdown).
multipathd shutdown >/dev/null || true
eventually 60 ended $multipathd
multipath -F
iscsi_end
