# nvme reset under I/O: the controller is disabled and made anew on fresh connections, and no command is lost.
# target: host

subsystem_add $NQN any
bdev_memory mem0 32 512
ns_add $NQN 1 mem0 $UUID1
listener_add $NQN $PORT1
cpus_online 4
host_connect $NQN $PORT1 -i 4
await_namespace $NQN 1
io_begin "$DEV"

for i in 1 2 3; do
	step "reset $i"
	nvme reset "/dev/$CTRL"
	eventually 60 reads "/sys/class/nvme/$CTRL/state" live
	equal "queues, with the admin queue" "$(controller queue_count)" 5
	io_goes_on
done
equal "resets in the kernel's log" "$(dmesg | grep -c 'resetting controller')" 3
io_end

step "one reset after another"
nvme reset "/dev/$CTRL"
nvme reset "/dev/$CTRL"
eventually 60 reads "/sys/class/nvme/$CTRL/state" live
fio_verify "$DEV" --size=2m
host_disconnect $NQN
eventually 60 target_is_idle $NQN
cpus_online 1
