# A host connects over RDMA, reads and writes, and leaves, over and over: the cards hold no more after it than before.
# target: guest
# rounds: 5
. "$lib/rdma.sh"
rdma_begin

subsystem_add $NQN any
bdev_memory mem0 16 512
ns_add $NQN 1 mem0 $UUID1
listener_add $NQN $PORT1

round() {
	host_connect $NQN $PORT1 -i 4
	await_namespace $NQN 1
	dd if=/dev/urandom of=block bs=64k count=1 status=none
	dd if=block of="$DEV" bs=64k seek=$(($1 % 256)) oflag=direct conv=notrunc status=none
	dd if="$DEV" of=copy bs=64k skip=$(($1 % 256)) count=1 iflag=direct status=none
	cmp block copy
	host_disconnect $NQN
	eventually 60 target_is_idle $NQN
}

round 0
before=$(rdma_held) pinned=$(target_pinned)
for ((i = 1; i <= ROUNDS; i++)); do
	step "round $i of $ROUNDS"
	round $i
	eventually 60 rdma_holds "$before"
done
equal "what the cards hold" "$(rdma_held)" "$before"
equal "what the target has pinned, in kB" "$(target_pinned)" "$pinned"
