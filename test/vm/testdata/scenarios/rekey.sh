# DH-HMAC-CHAP: keys change under I/O, which goes on; a host that then cannot prove its name loses its connection.
# target: host
# nvmet: no, it closes the connection at once when an authentication fails, and then the host may never end its error recovery

key=$(nvme gen-dhchap-key -n $HOSTNQN)
next=$(nvme gen-dhchap-key -n $HOSTNQN --hmac=2)
wrong=$(nvme gen-dhchap-key -n $HOSTNQN)
controller_key=$(nvme gen-dhchap-key -n $NQN)
controller_next=$(nvme gen-dhchap-key -n $NQN --hmac=3)

subsystem_add $NQN listed
bdev_memory mem0 16 4096
ns_add $NQN 1 mem0 $UUID1
listener_add $NQN $PORT1
host_add $NQN $HOSTNQN "$key" "$controller_key"
host_connect $NQN $PORT1 -S "$key" -C "$controller_key"
await_namespace $NQN 1
io_begin "$DEV"

# rekey SECRET VALUE: the host's own secret (dhchap_secret) or the one it expects of the controller. Each change makes
# the kernel authenticate all queues again, so they change one after the other, at the target first. The kernel tells of the admin queue only; the
# others follow, each for seconds.
rekey() {
	dmesg -C
	host_keys $NQN $HOSTNQN "$target_key" "$target_controller_key"
	io_goes_on
	echo "$2" >"/sys/class/nvme/$CTRL/$1"
	eventually 60 said "qid 0: (controller )?authenticated"
	io_goes_on
	equal "the controller" "$(controller state)" live
	eventually 60 authentications_ended $NQN
	if said "error recovery"; then fail "the connection was lost"; fi
	queues_authenticated $NQN 2
}

step "the host's key"
target_key=$next target_controller_key=$controller_key
rekey dhchap_secret "$next"

step "the controller's key"
target_controller_key=$controller_next
rekey dhchap_ctrl_secret "$controller_next"

step "both back"
target_key=$key
rekey dhchap_secret "$key"
target_controller_key=$controller_key
rekey dhchap_ctrl_secret "$controller_key"
io_end

step "a host that cannot prove its name any more"
dmesg -C
echo "$wrong" >"/sys/class/nvme/$CTRL/dhchap_secret"
eventually 60 said "qid 0: authentication failed"
eventually 60 no_controllers
eventually 60 target_is_idle $NQN

step "with the right key it may come back"
host_connect $NQN $PORT1 -S "$key"
await_namespace $NQN 1
fio_verify "$DEV" --size=1m
