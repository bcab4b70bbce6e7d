# Leaving: by name, by device, under I/O, and for good when the target does not come back in time.
# target: host

subsystem_add $NQN any
bdev_memory mem0 16 512
ns_add $NQN 1 mem0 $UUID1
listener_add $NQN $PORT1
listener_add $NQN $PORT2

step "by device: one path goes, the other stays; by name: all"
host_connect $NQN $PORT1
first=$CTRL
host_connect $NQN $PORT2
await_namespace $NQN 1
await_path "$CTRL" 1
nvme disconnect -d $first
eventually 60 absent /sys/class/nvme/$first
equal "state of the other" "$(controller state)" live
fio_verify "$DEV" --size=1m
host_connect $NQN $PORT1
host_disconnect $NQN
equal "controllers disconnected" "$DISCONNECTED" 2
eventually 60 target_is_idle $NQN

step "under I/O: the I/O ends with an error, nothing hangs, and the target is clean"
host_connect $NQN $PORT1
await_namespace $NQN 1
writer_begin "$DEV"
host_disconnect $NQN
writer_ends
eventually 60 target_is_idle $NQN

step "the target is gone for longer than the host waits: the device goes, and I/O fails"
host_connect $NQN $PORT1 --ctrl-loss-tmo=3
await_namespace $NQN 1
writer_begin "$DEV"
target_crash
eventually 90 no_controllers
writer_ends
said "Removing controller|Removing ctrl" || fail "the kernel did not say that it gave up"
target_restart
