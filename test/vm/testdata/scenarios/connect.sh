# Connecting with one queue and with many, data through each kind of queue, and disconnecting.
# target: host

subsystem_add $NQN any
bdev_memory mem0 32 512
ns_add $NQN 1 mem0 $UUID1
listener_add $NQN $PORT1

step "one queue"
host_connect $NQN $PORT1 -i 1
equal "queues, with the admin queue" "$(controller queue_count)" 2
equal "transport" "$(controller transport)" tcp
matches "address" "$(controller address)" "^traddr=$ADDRESS,trsvcid=$PORT1"
equal "subsystem" "$(controller subsysnqn)" $NQN
equal "host" "$(controller hostnqn)" $HOSTNQN
await_namespace $NQN 1
equal "size" "$(bytes_of "$DEV")" $((32 << 20))
fio_verify "$DEV"

step "disconnect takes that controller, and the target forgets it"
host_disconnect $NQN
equal "controllers disconnected" "$DISCONNECTED" 1
eventually 60 no_controllers
eventually 60 no_namespace $NQN 1
eventually 60 target_is_idle $NQN

step "as many queues as the host can ask for: read, write and poll queues on each of four CPUs"
cpus_online 4
host_connect $NQN $PORT1 -i 4 -W 4 -P 4
equal "queues, with the admin queue" "$(controller queue_count)" 13
equal "the target's queues" "$(target_connections $NQN "$PORT1")" 13
if [ "$TARGET" = pollux ]; then
	# Queues of one controller spread over the reactors, of which there are two where the machine has two cores.
	rpc nvmf_subsystem_get_qpairs nqn=$NQN
	equal "reactors that have queues" "$(jq '[.[].thread] | unique | length' <<<"$RESULT")" "$REACTORS"
fi
await_namespace $NQN 1
fio_verify "$DEV" --numjobs=4 --cpus_allowed=0-3 --cpus_allowed_policy=split --size=2m --offset_increment=2m
# The poll queues stay idle: Linux 6.12 sleeps where it must not (nvme_tcp_poll, lock_sock under RCU) when a polled
# command meets its own receive work, and says so with a warning.
host_disconnect $NQN
equal "controllers disconnected" "$DISCONNECTED" 1
eventually 60 target_is_idle $NQN
cpus_online 1

step "a queue of 16, and the same host twice: two controllers with names of their own"
host_connect $NQN $PORT1 -Q 16
first=$CTRL cntlid=$(controller cntlid)
equal "queue size less one" "$(controller sqsize)" 15
host_connect_again $NQN $PORT1
differs "controller ID of the second" "$(controller cntlid)" "$cntlid"
differs "device of the second" "$CTRL" "$first"
host_disconnect $NQN
equal "controllers disconnected" "$DISCONNECTED" 2

step "no such subsystem"
refused "failed to write to nvme-fabrics|could not add new controller" nvme_connect $NQN-other $PORT1
said "Connect Invalid Data Parameter, subsysnqn" || fail "the kernel did not name the parameter that was wrong"

step "ten times, and nothing is left behind"
for i in 1 2 3 4 5 6 7 8 9 10; do
	host_connect $NQN $PORT1 -i 1
	host_disconnect $NQN
done
eventually 60 target_is_idle $NQN
