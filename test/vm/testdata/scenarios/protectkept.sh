# Write protection outlives the target: killed, and told to end, it comes back with the namespace protected; until the next
# power cycle means until then.
# target: host
# nvmet: no, it forgets

configure() {
	bdev_file file0 16
	subsystem_add $NQN any
	ns_add_protectable $NQN 1 file0 $UUID1
	listener_add $NQN $PORT1
}
state() { nvme get-feature "/dev/$CTRL" -n 1 -f 0x84; }
protect() { nvme set-feature "/dev/$CTRL" -n 1 -f 0x84 -v "$1"; }
not_live() { ! reads "/sys/class/nvme/$CTRL/state" live; }
again() { # crash|stop
	step "the target's $1"
	target_$1
	eventually 60 not_live
	target_restart
	configure
	eventually 120 reads "/sys/class/nvme/$CTRL/state" live
}

configure
host_connect $NQN $PORT1 --ctrl-loss-tmo=600
await_namespace $NQN 1
protect 1
for end in crash stop; do
	again $end
	matches "feature 84h" "$(state)" "0x0*1|:0*1"
	refused "write.protect|Write.Protect|WRITE_PROTECT|0x20|protected" nvme write-zeroes "$DEV" -n 1 -s 0 -c 7
done

step "until the next power cycle, from which there is no way back"
protect 0
protect 2
matches "feature 84h" "$(state)" "0x0*2|:0*2"
refused "[Cc]hangeable|CHANGEABLE|0x410e" protect 0
refused "[Cc]hangeable|CHANGEABLE|0x410e" protect 3
again stop
matches "feature 84h" "$(state)" "0x0*0$|0x00000000|:0+$"
eventually 60 reads "/sys/block/$NS/ro" 0
fio_verify "$DEV" --size=1m
