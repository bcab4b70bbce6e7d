# Discovery: what a host that knows only an address is told, and how it hears that this has changed.
# The target is in the guest, so that the addresses that it names are the ones that a host can reach.
# target: guest

OTHER=nqn.2026-01.org.pollux-storage:other
OTHERHOST=nqn.2014-08.org.nvmexpress:uuid:99999999-2222-4333-8444-555555555555

# records [HOSTNQN]: what the host is told of PORT1, in a fixed order; the generation is left in genctr.
records() {
	nvme discover -t tcp -a "$ADDRESS" -s "$PORT1" -q "${1:-$HOSTNQN}" -I "$HOSTID" -o json >discover.json
	jq .genctr discover.json >genctr
	jq -r ".records[] | select(.trsvcid == \"$PORT1\" or (.subtype | contains(\"referral\"))) |
		[.subtype, .trtype, .adrfam, .traddr, .trsvcid, .subnqn] | join(\" \")" discover.json | sort
}
service="current discovery subsystem tcp ipv4 $ADDRESS $PORT1 $DISCOVERY"
entry="nvme subsystem tcp ipv4 $ADDRESS $PORT1"

declare -A log
step "a host is told of the service and of what it may connect to"
subsystem_add $NQN any
subsystem_add $OTHER listed
host_add $OTHER $OTHERHOST
bdev_memory mem0 16 512
ns_add $NQN 1 mem0 $UUID1
listener_add $DISCOVERY $PORT1
listener_add $NQN $PORT1
listener_add $OTHER $PORT1
equal "records" "$(records)" "$service
$entry $NQN"
equal "records for the other host" "$(records $OTHERHOST)" "$service
$entry $OTHER
$entry $NQN"
load log nvme discover -t tcp -a "$ADDRESS" -s "$PORT1" -q "$HOSTNQN" -I "$HOSTID" -o json
equal "security of the first record" "${log[records.0.sectype]}" none
matches "requirements of the first record" "${log[records.0.treq]}" "not (specified|required)"

step "a referral is a record, and moves the generation"
generation=$(cat genctr)
referral_add 192.0.2.7 8009
equal "records" "$(records)" "$service
discovery subsystem referral tcp ipv4 192.0.2.7 8009 $DISCOVERY
$entry $NQN"
differs "generation" "$(cat genctr)" "$generation"
referral_remove 192.0.2.7 8009
equal "records" "$(records)" "$service
$entry $NQN"

step "a listener on every address shows as the one that the host came to; one on IPv6 as IPv6"
told() { # ADDRESS PORT: what a host that comes there is told of the subsystem on that port
	nvme discover -t tcp -a "$1" -s "$2" -q $HOSTNQN -I $HOSTID -o json |
		jq -r ".records[] | select(.trsvcid == \"$2\" and .subnqn == \"$NQN\") | [.adrfam, .traddr] | join(\" \")"
}
listener_add $DISCOVERY $PORT2 0.0.0.0
listener_add $NQN $PORT2 0.0.0.0
equal "record" "$(told 127.0.0.1 $PORT2)" "ipv4 127.0.0.1"
equal "record" "$(told 127.0.0.2 $PORT2)" "ipv4 127.0.0.2"
listener_add $DISCOVERY 4423 ::1
listener_add $NQN 4423 ::1
equal "record" "$(told ::1 4423)" "ipv6 ::1"
nvme connect -t tcp -a ::1 -s 4423 -n $NQN -q $HOSTNQN -I $HOSTID -k 60
await_namespace $NQN 1
fio_verify "$DEV" --size=1m
host_disconnect $NQN
for nqn in $DISCOVERY $NQN; do
	listener_remove $nqn $PORT2 0.0.0.0
	listener_remove $nqn 4423 ::1
done

step "a persistent discovery controller"
nvme discover -p -t tcp -a "$ADDRESS" -s "$PORT1" -q "$HOSTNQN" -I "$HOSTID" >/dev/null
controllers=(/sys/class/nvme/nvme*)
CTRL=${controllers[0]##*/}
eventually 60 reads "/sys/class/nvme/$CTRL/state" live
equal "type" "$(controller cntrltype)" discovery
equal "I/O queues" "$(($(controller queue_count) - 1))" 0
matches "its own name" "$(nvme id-ctrl "/dev/$CTRL" -o json | jq -r .subnqn)" "^nqn\."

step "it hears of a change: the kernel passes the event on to udev"
# busybox uevent runs a program for each event of the kernel. It listens once its netlink socket of
# protocol 15 has a group.
busybox uevent busybox sh -c 'echo "$DEVPATH ${NVME_AEN:-} ${NVME_EVENT:-}" >>uevents' &
listener=$!
listening() { awk -v pid=$listener '$2 == 15 && $3 == pid && $4 != "00000000" { found = 1 } END { exit !found }' /proc/net/netlink; }
eventually 60 listening
subsystem_add $NQN-new any
listener_add $NQN-new $PORT1
heard() { grep -q "/$CTRL 0x70f002" uevents 2>/dev/null; }
eventually 60 heard
kill $listener
matches "the event" "$(cat uevents)" "$CTRL 0x70f002"
equal "records through the same controller" \
	"$(nvme discover -d "$CTRL" -t tcp -a "$ADDRESS" -s "$PORT1" -q "$HOSTNQN" -I "$HOSTID" -o json |
		jq -r '[.records[].subnqn] | unique | .[]' | grep "$NQN")" "$NQN
$NQN-new"
nvme disconnect -d "$CTRL"
subsystem_remove $NQN-new

step "connect-all"
nvme connect-all -t tcp -a "$ADDRESS" -s "$PORT1" -q "$HOSTNQN" -I "$HOSTID" -k 60
await_namespace $NQN 1
fio_verify "$DEV" --size=1m
host_disconnect $NQN
equal "controllers disconnected" "$DISCONNECTED" 1
