# A host comes over RDMA, by IPv4 and by IPv6: discovery, what it is told of the controller, several queues, data of all sizes and depths; it proves
# itself (DH-HMAC-CHAP); and on leaving nothing is left.
# target: guest
# limit: 420
. "$lib/rdma.sh"
rdma_begin

subsystem_add $NQN any
bdev_memory mem0 64 512
ns_add $NQN 1 mem0 $UUID1
listener_add $DISCOVERY $PORT1
listener_add $NQN $PORT1

step "discovery"
equal "records" "$(discover_records "$ADDRESS" $PORT1)" "current discovery subsystem rdma ipv4 $ADDRESS $PORT1 $DISCOVERY
nvme subsystem rdma ipv4 $ADDRESS $PORT1 $NQN"
equal "type of queue pairs" "$(jq -r '[.records[].rdma_qptype] | unique | join(" ")' discover.json)" connected
equal "connection manager" "$(jq -r '[.records[].rdma_cms] | unique | join(" ")' discover.json)" rdma-cm
eventually 60 target_is_idle $NQN
# The connections of discovery are of no subsystem that is asked.
eventually 60 rdma_is_unconnected
before=$(rdma_queues_held)

step "one queue for each of four CPUs"
host_connect $NQN $PORT1 -i 4
equal "queues, with the admin queue" "$(controller queue_count)" 5
equal "transport" "$(controller transport)" rdma
equal "the target's queues" "$(target_connections $NQN $PORT1)" 5
equal "connected queue pairs of the two cards" "$(rdma_queues rxe0) $(rdma_queues rxe1)" "5 5"
await_namespace $NQN 1

declare -A id ns
step "id-ctrl, id-ns"
load id nvme id-ctrl "/dev/$CTRL" -o json
within "IOCCSZ" "${id[ioccsz]}" 4 65536
equal "IORCSZ" "${id[iorcsz]}" 1
equal "ICDOFF" "${id[icdoff]}" 0
within "MSDBD" "${id[msdbd]}" 1 255
equal "SGLS: supported, keyed" $((id[sgls] & 4)) 4
within "SGLS: without or with alignment" $((id[sgls] & 3)) 1 2
load ns nvme id-ns "$DEV" -o json
equal "NSZE" "${ns[nsze]}" 131072

step "from 4 KiB to 1 MiB, from one at a time to 128"
fio_verify "$DEV" --bs=4k --iodepth=1 --size=512k
fio_verify "$DEV" --bs=4k --iodepth=128 --size=2m
fio_verify "$DEV" --bs=64k --iodepth=16 --size=8m
fio_verify "$DEV" --bs=1m --iodepth=1 --size=4m
fio_verify "$DEV" --bs=1m --iodepth=128 --size=32m
step "all sizes, on all queues"
fio_verify "$DEV" --bsrange=512-1m --iodepth=32 --numjobs=4 --cpus_allowed=0-3 --cpus_allowed_policy=split \
	--size=8m --offset_increment=8m

step "what was written is read over a new connection"
head -c 4194304 /dev/urandom >pattern
dd if=pattern of="$DEV" bs=1M oflag=direct conv=fsync status=none
host_disconnect $NQN
host_connect $NQN $PORT1 -i 1
await_namespace $NQN 1
dd if="$DEV" of=copy bs=512k count=8 iflag=direct status=none
cmp pattern copy

host_disconnect $NQN

step "by IPv6"
rdma_ipv6
listener_add $DISCOVERY $PORT2 $ADDRESS6
listener_add $NQN $PORT2 $ADDRESS6
equal "records" "$(discover_records $ADDRESS6 $PORT2)" "current discovery subsystem rdma ipv6 $ADDRESS6 $PORT2 $DISCOVERY
nvme subsystem rdma ipv6 $ADDRESS6 $PORT2 $NQN"
ADDRESS=$ADDRESS6 host_connect $NQN $PORT2 -i 2
matches "address of the controller" "$(controller address)" "traddr=$ADDRESS6"
await_namespace $NQN 1
dd if="$DEV" of=copy bs=512k count=8 iflag=direct status=none
cmp pattern copy
fio_verify "$DEV" --bsrange=4k-256k --size=4m --offset=8m
host_disconnect $NQN
listener_remove $NQN $PORT2 $ADDRESS6
listener_remove $DISCOVERY $PORT2 $ADDRESS6

step "a host that has to prove itself: without a key, with a wrong one, with its own"
SECRET=$NQN-secret
key=$(nvme gen-dhchap-key -n $HOSTNQN)
subsystem_add $SECRET listed
bdev_memory mem1 16 512
ns_add $SECRET 1 mem1 $UUID2
listener_add $SECRET $PORT1
host_add $SECRET $HOSTNQN "$key"
# What the kernel waits for an answer to a message of authentication, as in auth.sh.
admin_timeout=$(cat /sys/module/nvme_core/parameters/admin_timeout)
echo 10 >/sys/module/nvme_core/parameters/admin_timeout
refused "Required key not available" nvme_connect $SECRET $PORT1
said "qid 0: no key" || fail "the host was not asked for a key"
refused "Failed to write to /dev/nvme-fabrics" nvme_connect $SECRET $PORT1 -S "$(nvme gen-dhchap-key -n $HOSTNQN)"
said "qid 0: authentication failed" || fail "it was not the key that was refused"
echo "$admin_timeout" >/sys/module/nvme_core/parameters/admin_timeout
eventually 60 target_is_idle $SECRET
eventually 60 rdma_holds_queues "$before"
host_connect $SECRET $PORT1 -i 2 -S "$key"
said "qid 0: authenticated" || fail "the host was not asked to prove its name"
queues_authenticated $SECRET 3
await_namespace $SECRET 1
fio_verify "$DEV" --size=1m
host_disconnect $SECRET

step "disconnected, nothing is left"
eventually 60 target_is_idle $NQN
eventually 60 target_is_idle $SECRET
eventually 60 rdma_holds_queues "$before"
equal "what the cards hold" "$(rdma_queues_held)" "$before"
