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
HOST_ADDRESS6=2001:db8::1
ADDRESS6=2001:db8::2
LISTEN=$ADDRESS
TRANSPORT=rdma
INTERFACE=roce0
PORT1=4420 PORT2=4421
CORES=0,1
# The port of RoCE version 2: everything that the cards send goes there.
ROCE_PORT=4791
IPV6=

rdma_begin() {
	rdma_cards
	# The target began before the cards were there.
	target_stop
	target_restart
}

rdma_cards() {
	modprobe -a rdma_rxe rdma_ucm nvme-rdma nvmet-rdma veth cls_matchall act_mirred sch_ingress
	ip -batch - <<-END
		link add roce0 txqueuelen 10000 type veth peer name wire0
		link add roce1 txqueuelen 10000 type veth peer name wire1
	END
	# The cable is of software, too: a processor that is busy elsewhere would lose packets beyond a thousand, and cards go on badly after that.
	sysctl -qw net.core.netdev_max_backlog=50000 net.ipv4.conf.{all,roce0,roce1}.rp_filter=0 net.ipv4.conf.roce{0,1}.accept_local=1 \
		net.ipv6.conf.{roce,wire}{0,1}.disable_ipv6=1
	# The MTU has room for RoCE's largest packets, of 4096 bytes, and their headers. On its way out a packet sees these routes first; on its
	# way in (and where the connection manager looks for the way back) the local addresses are first, as always.
	ip -batch - <<-END
		link set wire0 mtu 4200 up
		link set wire1 mtu 4200 up
		link set roce0 mtu 4200 up
		link set roce1 mtu 4200 up
		addr add $HOST_ADDRESS/32 dev roce0
		addr add $ADDRESS/32 dev roce1
		route add $ADDRESS dev roce0 src $HOST_ADDRESS
		route add $HOST_ADDRESS dev roce1 src $ADDRESS
		rule add pref 10 iif lo to $HOST_ADDRESS/30 lookup main
		rule add pref 20 lookup local
		rule del pref 0
	END
	# What is lost below a card must not be reported to it. In Linux 6.12 a queue pair of rdma_rxe fails when the network says that it did not take
	# a packet; the connection manager's own stays so for good ("rdma resource show qp": GSI, ERR), and no connection is made with that card any
	# more. A long queue takes all, and what cable_out does keeps packets from a device that has no carrier.
	tc -batch - <<-END
		qdisc replace dev roce0 root pfifo_fast
		qdisc replace dev roce1 root pfifo_fast
		qdisc add dev wire0 clsact
		qdisc add dev wire1 clsact
		filter add dev wire0 ingress matchall action mirred egress redirect dev wire1
		filter add dev wire1 ingress matchall action mirred egress redirect dev wire0
	END
	rdma link add rxe0 type rxe netdev roce0
	rdma link add rxe1 type rxe netdev roce1
	eventually 60 cable_is_up
	equal "what the cards hold" "$(rdma_held)" "$EMPTY"
	cpus_online 4
}

# rdma_ipv6: the cards have addresses of IPv6 as well. What the ends of the cable are called is known, so nothing is asked. (The connection manager
# looks for the way back to the host through the card that was asked.)
rdma_ipv6() {
	local here there
	read -r here </sys/class/net/roce0/address
	read -r there </sys/class/net/roce1/address
	ip link set roce0 addrgenmode none
	ip link set roce1 addrgenmode none
	sysctl -qw net.ipv6.conf.roce{0,1}.disable_ipv6=0
	ip -6 -batch - <<-END
		addr add $HOST_ADDRESS6/128 dev roce0 nodad noprefixroute
		addr add $ADDRESS6/128 dev roce1 nodad noprefixroute
		route add $ADDRESS6 dev roce0 src $HOST_ADDRESS6
		route add $HOST_ADDRESS6 dev roce1 src $ADDRESS6
		neigh replace $ADDRESS6 lladdr $there dev roce0 nud permanent
		neigh replace $HOST_ADDRESS6 lladdr $here dev roce1 nud permanent
		rule add pref 10 iif lo to $HOST_ADDRESS6/126 lookup main
		rule add pref 11 oif roce1 to $HOST_ADDRESS6 lookup main
		rule add pref 20 lookup local
		rule del pref 0
	END
	IPV6=1
}

# rdma_end: the target has ended. Nothing is left on the cards, of anyone, and nothing befell them that befalls no real card (rdma_cards); so they go.
rdma_end() {
	eventually 60 rdma_is_empty
	equal "packets that a device refused to take from a card" "$(rdma -j statistic show | jq '[.[].send_err] | add')" 0
	cpus_online 1
	if [ -n "$IPV6" ]; then
		ip -6 -batch - <<-END
			rule add pref 0 lookup local
			rule del pref 20
			rule del pref 11
			rule del pref 10
		END
	fi
	rdma link delete rxe0
	rdma link delete rxe1
	ip -batch - <<-END
		rule add pref 0 lookup local
		rule del pref 20
		rule del pref 10
		link del roce0
		link del roce1
	END
}

# lossy PERCENT END...: of what arrives at those cards through the cable so much is lost, and no card hears of it. lost: how many packets that were.
lossy() {
	local end
	for end in "${@:2}"; do tc qdisc replace dev "wire$end" root netem limit 10000 loss "$1%"; done
}
lost() { tc -s -j qdisc show | jq '[.[] | select(.kind == "netem") | .drops] | add'; }
lossless() {
	local end
	for end in "$@"; do tc qdisc del dev "wire$end" root; done
}

# vanish and reappear, of host.sh.
vanish() { lossy 100 1; }
reappear() { lossless 1; }

# kernel_is_well, of check.sh, but for what rdma_rxe says of itself: Linux 6.12 warns of a state of its own (rxe_completer) and ends a queue pair, most often
# when packets were lost.
kernel_is_well() {
	local bad
	bad=$(dmesg | awk '/cut here/ { report = ""; inside = 1 } inside { report = report $0 "\n" } !inside
			/end trace/ { inside = 0; if (report !~ /WARNING:[^\n]*\[rdma_rxe\]/) printf "%s", report }' |
		grep -E 'WARNING:|BUG:|Oops|Call Trace|blocked for more than|refcount_t|general protection' || true)
	[ -z "$bad" ] || fail "the kernel is not well: $bad"
}

# cable_out END, cable_in END: the cable is pulled out of that card, and put back. The card has no carrier then. Before that everything is lost, and the
# network addresses of the other card are forgotten: what is sent waits for them, and is not refused by a device without a carrier.
cable_out() {
	lossy 100 0 1
	ip neigh flush dev roce0
	ip neigh flush dev roce1
	ip link set "wire$1" down
}
cable_in() {
	ip link set "wire$1" up
	lossless 0 1
}

cable_is_up() { [ "$(rdma -j link show | jq -r '[.[].state] | unique | join(" ")')" = ACTIVE ]; }

# rdma_held: what is in use on each of the two cards. Completion queues of the kernel come out of a pool that it keeps, so only those of programs
# count; one queue pair, of type GSI, and one protection domain are the connection manager's.
rdma_held() {
	{ rdma -j resource show && rdma -j resource show cq; } | jq -rs '.[1] as $cqs | [.[0][] | .ifname as $card |
		"pd \(.pd) qp \(.qp) mr \(.mr) srq \(.srq) cm_id \(.cm_id) ctx \(.ctx) cq \([$cqs[] | select(.ifname == $card and .pid)] | length)"] | join(", ")'
}
EMPTY="pd 1 qp 1 mr 0 srq 0 cm_id 0 ctx 0 cq 0, pd 1 qp 1 mr 0 srq 0 cm_id 0 ctx 0 cq 0"

rdma_is_empty() { rdma_holds "$EMPTY"; }

# rdma_queues_held: the same without regions of memory: a target's pools grow with their load, and stay registered until it ends.
rdma_queues_held() { rdma_held | sed 's/mr [0-9]* //g'; }

rdma_holds() { [ "$(rdma_held)" = "$1" ]; }
rdma_holds_queues() { [ "$(rdma_queues_held)" = "$1" ]; }

# rdma_queues CARD: how many connected queue pairs there are.
rdma_queues() { rdma -j resource show qp | jq --arg card "$1" '[.[] | select(.ifname == $card and .type == "RC")] | length'; }

# rdma_is_unconnected: there is no connection of anyone, and none that comes or goes.
rdma_is_unconnected() {
	{ rdma -j resource show qp && rdma -j resource show cm_id; } |
		jq -es '(.[0] | all(.type != "RC")) and (.[1] | all(.state == "LISTEN"))' >/dev/null
}

rdma_report() {
	echo "--- the cards, and what they hold"
	rdma link show
	rdma statistic show
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

# discover_records ADDRESS PORT: what a host is told there of that port: type, transport, address, port and name of each, in a fixed order.
discover_records() {
	nvme discover -t rdma -a "$1" -s "$2" -q "$HOSTNQN" -I "$HOSTID" -o json >discover.json
	jq -r --arg port "$2" '.records[] | select(.trsvcid == $port) | [.subtype, .trtype, .adrfam, .traddr, .trsvcid, .subnqn] | join(" ")' discover.json | sort
}
