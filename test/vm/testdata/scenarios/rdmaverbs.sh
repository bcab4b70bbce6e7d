# What the engine asks of a card is what real verbs and the real connection manager do: the contract of rdma's providers, between two cards.
# Then one of them is taken away from under a connection, and put back.
# target: guest
# nvmet: no, it is not about a target
. "$lib/rdma.sh"
rdma_cards

RDMA_SERVER=rxe1/$ADDRESS RDMA_CLIENT=rxe0/$HOST_ADDRESS "$VERBS_TEST" -test.v -test.run '^(TestContract|TestRemoval)$' -test.timeout 150s
