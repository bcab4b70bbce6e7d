# Keep alive, from both ends: a target that stops answering is left by the host and found again, with the I/O
# held meanwhile; a host that vanishes is forgotten by the target.
# target: host

subsystem_add $NQN any
bdev_memory mem0 32 512
ns_add $NQN 1 mem0 $UUID1
listener_add $NQN $PORT1

step "an idle controller stays"
host_connect $NQN $PORT1 -k 5
equal "timeout" "$(controller kato)" 5
await_namespace $NQN 1
# The only way to see that nothing happens for a time is to let it pass: twice the timeout.
sleep 10
equal "state" "$(controller state)" live
if said "keep-alive"; then fail "a keep-alive failed on an idle machine"; fi

step "the target stops: the host notices by itself, and holds the I/O"
io_begin "$DEV"
target_freeze
eventually 60 io_stalled
not_live() { ! reads "/sys/class/nvme/$CTRL/state" live; }
eventually 60 not_live
said "failed nvme_keep_alive_end_io|keep alive|keep-alive|I/O tag .* timeout" || fail "it was not keep-alive that told"

step "the target goes on: the host comes back, and every write is there"
target_thaw
eventually 90 reads "/sys/class/nvme/$CTRL/state" live
io_goes_on
io_end
host_disconnect $NQN
eventually 60 target_is_idle $NQN

step "the host vanishes: the target lets go of it"
host_connect $NQN $PORT1 -k 5 --ctrl-loss-tmo=600
vanish "$PORT1"
eventually 60 target_is_idle $NQN
reappear
eventually 90 reads "/sys/class/nvme/$CTRL/state" live
await_namespace $NQN 1
fio_verify "$DEV" --size=2m
