# Header and data digests: the kernel ends a connection on a digest that is wrong, missing, or there unasked.
# target: host

subsystem_add $NQN any
bdev_memory mem0 32 512
ns_add $NQN 1 mem0 $UUID1
listener_add $NQN $PORT1
head -c 4194304 /dev/urandom >pattern

for options in "-g" "-G" "-g -G"; do
	step "digests: $options"
	host_connect $NQN $PORT1 $options
	await_namespace $NQN 1
	# Small writes travel in the capsule, large ones after an R2T; both ways have their digests.
	fio_verify "$DEV" --bsrange=512-256k --size=4m --offset=8m
	dd if=pattern of="$DEV" bs=1M oflag=direct status=none
	dd if="$DEV" of=copy bs=512k count=8 iflag=direct status=none
	cmp pattern copy
	host_disconnect $NQN
done

step "what was written with digests is there without"
host_connect $NQN $PORT1
await_namespace $NQN 1
dd if="$DEV" of=copy bs=512k count=8 iflag=direct status=none
cmp pattern copy
if said "digest (error|mismatch)|failed to receive"; then fail "the kernel complains of a digest"; fi
