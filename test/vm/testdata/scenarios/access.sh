# Who may connect: the allow-list, and what happens to a host that is struck off it.
# target: host

OTHERHOST=nqn.2014-08.org.nvmexpress:uuid:99999999-2222-4333-8444-555555555555
OTHERID=99999999-2222-4333-8444-555555555555

subsystem_add $NQN listed
bdev_memory mem0 16 512
ns_add $NQN 1 mem0 $UUID1
listener_add $NQN $PORT1

step "nobody is allowed"
refused "could not add new controller|Failed to write" nvme_connect $NQN $PORT1
said "Connect for subsystem $NQN is not allowed, hostnqn: $HOSTNQN|Connect Invalid Data Parameter|connect.*(0x184|-EACCES)" ||
	fail "the kernel was not told why"

step "one is"
host_add $NQN $HOSTNQN
host_connect $NQN $PORT1
await_namespace $NQN 1
fio_verify "$DEV" --size=1m
host_disconnect $NQN
refused "could not add new controller|Failed to write" nvme_connect $NQN $PORT1 -q $OTHERHOST -I $OTHERID

step "it is struck off: a new connection is refused"
host_remove $NQN $HOSTNQN
refused "could not add new controller|Failed to write" nvme_connect $NQN $PORT1

if [ "$TARGET" = pollux ]; then # the kernel's target lets a host stay
	step "struck off while it is connected, its controllers end"
	host_add $NQN $HOSTNQN
	host_connect $NQN $PORT1 --ctrl-loss-tmo=600
	host_remove $NQN $HOSTNQN
	eventually 60 target_is_idle $NQN
fi
