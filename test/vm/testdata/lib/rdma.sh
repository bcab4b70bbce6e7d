# rdma.sh: host and target meet over RDMA. Two cards of software (rdma_rxe: RoCE version 2, which is UDP) stand in this guest, rxe0 for the host and
# rxe1 for the target, and a cable between them, at whose ends are two more devices:
#
#	rxe0 on roce0 ── wire0 ═ wire1 ── roce1 under rxe1
#
# A scenario sources it, and calls rdma_begin, or rdma_cards where it is not about a target; run.sh calls rdma_end.
#
# The kernel would keep packets between its own addresses to itself, and rdma_rxe works in the first network namespace only. So addresses are
# looked up in an order that has the cable first: what the cards send does pass through the devices, and can be delayed and lost there, and the
# cable can be pulled.

HOST_ADDRESS=192.0.2.1
ADDRESS=192.0.2.2
LISTEN=$ADDRESS
TRANSPORT=rdma
INTERFACE=roce0
PORT1=4420 PORT2=4421
CORES=0,1
# The port of RoCE version 2: everything that the cards send goes there.
ROCE_PORT=4791

rdma_begin() {
	rdma_cards
	# The target began before the cards were there.
	target_stop
	target_restart
}

rdma_cards() {
	local i
	modprobe -a rdma_rxe rdma_ucm nvme-rdma nvmet-rdma veth cls_matchall act_mirred sch_ingress
	# The cable is of software, too: a processor that is busy elsewhere would lose packets beyond a thousand, and cards go on badly after that.
	sysctl -qw net.ipv4.conf.all.rp_filter=0 net.core.netdev_max_backlog=50000
	for i in 0 1; do
		ip link add roce$i type veth peer name wire$i
		sysctl -qw net.ipv4.conf.roce$i.accept_local=1 net.ipv4.conf.roce$i.rp_filter=0 net.ipv6.conf.roce$i.disable_ipv6=1 \
			net.ipv6.conf.wire$i.disable_ipv6=1
		# Room for RoCE's largest packets, of 4096 bytes, and their headers.
		ip link set wire$i mtu 4200 up
		ip link set roce$i mtu 4200 up
		no_bad_news $i
		tc qdisc add dev wire$i clsact
	done
	for i in 0 1; do
		tc filter add dev wire$i ingress matchall action mirred egress redirect dev wire$((1 - i))
	done
	ip addr add $HOST_ADDRESS/32 dev roce0
	ip addr add $ADDRESS/32 dev roce1
	ip route add $ADDRESS dev roce0 src $HOST_ADDRESS
	ip route add $HOST_ADDRESS dev roce1 src $ADDRESS
	rdma link add rxe0 type rxe netdev roce0
	rdma link add rxe1 type rxe netdev roce1
	# On its way out a packet sees these routes first; on its way in (and where the connection manager looks for the way back)
	# the local addresses are first, as always.
	ip rule add pref 10 iif lo to $HOST_ADDRESS/30 lookup main
	ip rule add pref 20 lookup local
	ip rule del pref 0
	eventually 60 cable_is_up
	equal "what the cards hold" "$(rdma_held rxe0), $(rdma_held rxe1)" "$EMPTY, $EMPTY"
	cpus_online 4
}

# rdma_end: the target has ended. Nothing is left on the cards, of anyone; so they go.
rdma_end() {
	local i
	eventually 60 rdma_is_empty
	cpus_online 1
	ip rule add pref 0 lookup local
	ip rule del pref 20
	ip rule del pref 10
	for i in 0 1; do
		rdma link delete rxe$i
		ip link del roce$i
	done
}

# no_bad_news END: what is lost below that card is not reported to it. In Linux 6.12 a queue pair of rdma_rxe fails when the network says that it did
# not take a packet; the connection manager's own stays so for good, and no connection is made with that card any more. A queue takes all.
no_bad_news() { tc qdisc replace dev "roce$1" root pfifo limit 10000; }

# reappear, of host.sh, with that queue.
reappear() { no_bad_news 0; }

# kernel_is_well, of check.sh, but for what rdma_rxe says of itself: Linux 6.12 warns of a state of its own (rxe_completer) when packets were lost.
kernel_is_well() {
	local bad
	bad=$(dmesg | awk '/cut here/ { report = ""; inside = 1 } inside { report = report $0 "\n" } !inside
			/end trace/ { inside = 0; if (report !~ /WARNING:[^\n]*\[rdma_rxe\]/) printf "%s", report }' |
		grep -E 'WARNING:|BUG:|Oops|Call Trace|blocked for more than|refcount_t|general protection' || true)
	[ -z "$bad" ] || fail "the kernel is not well: $bad"
}

# cable_out END, cable_in END: the cable is pulled out of that card, and put back. The card has no carrier then.
cable_out() { ip link set "wire$1" down; }
cable_in() { ip link set "wire$1" up; }

cable_is_up() { [ "$(rdma -j link show | jq -r '[.[].state] | unique | join(" ")')" = ACTIVE ]; }

# rdma_held CARD: what is in use on a card. Completion queues of the kernel come out of a pool that it keeps, so only those of programs
# count; one queue pair, of type GSI, and one protection domain are the connection manager's.
rdma_held() {
	rdma -j resource show | jq -r --arg card "$1" --arg cqs "$(rdma -j resource show cq | jq --arg card "$1" '[.[] | select(.ifname == $card and .pid)] | length')" \
		'.[] | select(.ifname == $card) | "pd \(.pd) qp \(.qp) mr \(.mr) srq \(.srq) cm_id \(.cm_id) ctx \(.ctx) cq \($cqs)"'
}
EMPTY="pd 1 qp 1 mr 0 srq 0 cm_id 0 ctx 0 cq 0"

rdma_is_empty() { [ "$(rdma_held rxe0), $(rdma_held rxe1)" = "$EMPTY, $EMPTY" ]; }

# rdma_queues_held: the same of both cards without regions of memory: a target's pools grow with their load, and stay registered until it ends.
rdma_queues_held() { echo "$(rdma_held rxe0 | sed 's/mr [0-9]* //'), $(rdma_held rxe1 | sed 's/mr [0-9]* //')"; }

rdma_holds() { [ "$(rdma_held rxe0), $(rdma_held rxe1)" = "$1" ]; }
rdma_holds_queues() { [ "$(rdma_queues_held)" = "$1" ]; }

# rdma_queues CARD: how many connected queue pairs there are.
rdma_queues() { rdma -j resource show qp | jq --arg card "$1" '[.[] | select(.ifname == $card and .type == "RC")] | length'; }

rdma_report() {
	echo "--- the cards, and what they hold"
	rdma link show
	rdma resource show
	rdma resource show qp
	rdma resource show cm_id
	ip -s link show roce0
	ip -s link show roce1
	ip rule
	ip route
}

# target_is_idle and target_connections, of a target that does not tell.
if [ "$TARGET" = nvmet ]; then
	target_is_idle() { [ "$(rdma_queues rxe1)" = 0 ]; }
	target_connections() { rdma_queues rxe1; }
fi

# discover_records: what a host is told at PORT1: type, transport, address, port and name of each, in a fixed order.
discover_records() {
	nvme discover -t rdma -a "$ADDRESS" -s "$PORT1" -q "$HOSTNQN" -I "$HOSTID" -o json >discover.json
	jq -r '.records[] | [.subtype, .trtype, .adrfam, .traddr, .trsvcid, .subnqn] | join(" ")' discover.json | sort
}
