# Reservations of a volume that persist through power loss: the engine is killed, and ended in order, and starts again with the same registrants,
# holder and generation; a host that is not registered is kept out as before. Those that do not persist are gone with the engine.
# target: host
# nvmet: no, reservations came to it with Linux 6.13, and none of them persist
. "$lib/rounds.sh"

OTHERHOST=nqn.2014-08.org.nvmexpress:uuid:99999999-2222-4333-8444-555555555555
OTHERID=99999999-2222-4333-8444-555555555555
THIRDHOST=nqn.2014-08.org.nvmexpress:uuid:77777777-2222-4333-8444-555555555555
THIRDID=77777777-2222-4333-8444-555555555555

pool_device
rpc pool_create name=pool0 device=disk
rpc volume_create pool=pool0 name=vol bytes:=$((16 << 20)) log_bytes:=$((32 << 20)) uuid=$UUID1
subsystem_add $NQN any
ns_add $NQN 1 pool0/vol $UUID1
listener_add $NQN $PORT1
listener_add $NQN $PORT2
target_keep_config
host_connect $NQN $PORT1 --ctrl-loss-tmo=600
first=/dev/$CTRL CONTROLLER[first]=$CTRL
host_connect $NQN $PORT2 --ctrl-loss-tmo=600 -q $OTHERHOST -I $OTHERID
second=/dev/$CTRL CONTROLLER[second]=$CTRL
head -c 4096 /dev/urandom >data
await_namespace $NQN 1
for device in $first $second; do await_path "${device#/dev/}" 1; done

# Through the controllers' own devices, so that the command goes the way of that host, and no other.
writes() { nvme io-passthru "$1" --opcode=1 --namespace-id=1 --cdw10=8 --data-len=4096 -w -i data; }
conflict() { refused "\\(0x(4083|83)\\)" "$@"; }

# report: generation, type, persistence and number of registrants, then each one's host, key, and whether it holds the reservation.
report() {
	nvme resv-report "$first" -n 1 -e -o json |
		jq -c '[.gen, .rtype, .ptpls, .regctl, ([.regctlext[] | [(.hostid | tostring), .rkey, .rcsts]] | sort)]'
}

# third_is_kept_out: a host that is not registered, at the first one's address while that one is away.
third_is_kept_out() {
	nvme disconnect -d "${first#/dev/}"
	host_connect $NQN $PORT1 -q $THIRDHOST -I $THIRDID
	await_path "$CTRL" 1
	conflict writes "/dev/$CTRL"
	nvme disconnect -d "$CTRL"
	host_connect $NQN $PORT1 --ctrl-loss-tmo=600
	await_path "$CTRL" 1
	first=/dev/$CTRL CONTROLLER[first]=$CTRL
}

end_in_order() {
	target_stop
	eventually 60 none_live
	target_start_kept
	eventually 120 all_live
}

step "two register, to persist, and one reserves for registrants"
nvme resv-register "$first" -n 1 --nrkey=0x11 --rrega=0 --cptpl=3
nvme resv-register "$second" -n 1 --nrkey=0x22 --rrega=0
nvme resv-acquire "$first" -n 1 --crkey=0x11 --rtype=3 --racqa=0
before=$(report)
matches "report" "$before" '^\[2,3,1,2,\[\["[^"]*",[0-9]+,[01]\],\["[^"]*",[0-9]+,[01]\]\]\]$'
third_is_kept_out
equal "report" "$(report)" "$before"

for end in kill_engine end_in_order; do
	step "the engine ends ($end) and starts: all is as it was"
	$end
	equal "report" "$(report)" "$before"
	writes "$first"
	writes "$second"
	third_is_kept_out
done

step "the second preempts the first, the engine is killed: so it is"
nvme resv-acquire "$second" -n 1 --crkey=0x22 --prkey=0x11 --rtype=1 --racqa=1
preempted=$(report)
matches "report" "$preempted" '^\[3,1,1,1,\[\["[^"]*",34,1\]\]\]$'
kill_engine
equal "report" "$(report)" "$preempted"
writes "$second"
conflict writes "$first"

step "no longer to persist: gone when the engine is killed"
nvme resv-register "$second" -n 1 --crkey=0x22 --nrkey=0x22 --rrega=2 --cptpl=2
conflict writes "$first"
kill_engine
matches "report" "$(report)" '^\[[0-9]+,0,0,0,\[\]\]$'
writes "$first"
writes "$second"
