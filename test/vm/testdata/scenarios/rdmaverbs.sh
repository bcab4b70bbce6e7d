# What the engine asks of a card is what real verbs and the real connection manager do: the contract of rdma's providers, between two cards.
# Then one of them is taken away from under a connection, which was asked for with a type of service, and put back.
# target: guest
# nvmet: no, it is not about a target
. "$lib/rdma.sh"
rdma_cards

# marked I: packets of card I that have the type of service b8h (DSCP 46), with and without ECN's bits.
marked() { tc -s filter show dev wire$1 ingress pref 1 | sed -n 's/.*Sent [0-9]* bytes \([0-9]*\) pkt.*/\1/p'; }
modprobe -a cls_flower act_gact
for i in 0 1; do
	tc filter add dev wire$i ingress pref 1 protocol ip flower ip_proto udp dst_port $ROCE_PORT ip_tos 0xb8/0xfc action continue
done

RDMA_SERVER=rxe1/$ADDRESS RDMA_CLIENT=rxe0/$HOST_ADDRESS "$VERBS_TEST" -test.v -test.run '^(TestContract|TestRemoval)$' -test.timeout 150s

step "what was sent, and what answered it, had the type of service that was asked for"
within "packets of a message of 64 KiB, and of the handshake" "$(marked 0)" 16 1000
within "packets that answered" "$(marked 1)" 1 1000
