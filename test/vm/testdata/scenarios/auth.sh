# DH-HMAC-CHAP: a host proves its name, and the controller its own, with keys that nvme-cli made.
# target: host

key=$(nvme gen-dhchap-key -n $HOSTNQN)
other=$(nvme gen-dhchap-key -n $HOSTNQN)
controller_key=$(nvme gen-dhchap-key -n $NQN)
matches "a key" "$key" "^DHHC-1:00:[A-Za-z0-9+/=]+:$"

authentications() { dmesg | grep -c 'qid 0: authenticated with hash' || true; }

subsystem_add $NQN listed
bdev_memory mem0 16 512
ns_add $NQN 1 mem0 $UUID1
listener_add $NQN $PORT1
host_add $NQN $HOSTNQN "$key"

# What a kernel waits for an answer to a message of authentication, in seconds: 60 if nothing else is said, and
# the kernel's own target leaves it waiting after a failure.
admin_timeout=$(cat /sys/module/nvme_core/parameters/admin_timeout)
echo 10 >/sys/module/nvme_core/parameters/admin_timeout

step "without a key, and with a wrong one"
refused "Required key not available" nvme_connect $NQN $PORT1
said "qid 0: no key" || fail "the host was not asked for a key"
refused "Failed to write to /dev/nvme-fabrics" nvme_connect $NQN $PORT1 -S "$other"
said "qid 0: authentication failed" || fail "it was not the key that was refused"
eventually 60 target_is_idle $NQN

step "one way: the host proves its name, on each queue"
cpus_online 4
host_connect $NQN $PORT1 -i 4 -S "$key"
said "qid 0: authenticated" || fail "the host was not asked to prove its name"
queues_authenticated $NQN 5
await_namespace $NQN 1
fio_verify "$DEV" --size=1m
host_disconnect $NQN
cpus_online 1

step "both ways"
host_keys $NQN $HOSTNQN "$key" "$controller_key"
dmesg -C
host_connect $NQN $PORT1 -S "$key" -C "$controller_key"
said "qid 0: controller authenticated" || fail "the controller was not authenticated"
await_namespace $NQN 1
fio_verify "$DEV" --size=1m
host_disconnect $NQN

step "a new key for a controller that is in use: both sides change, and the I/O goes on"
dmesg -C
host_connect $NQN $PORT1 -S "$key" -C "$controller_key"
await_namespace $NQN 1
io_begin "$DEV"
key=$(nvme gen-dhchap-key -n $HOSTNQN)
host_keys $NQN $HOSTNQN "$key" "$controller_key"
equal "authentications" "$(authentications)" 1
echo "$key" >"/sys/class/nvme/$CTRL/dhchap_secret"
said "re-authenticating controller" || fail "the kernel did not begin anew"
again() { [ "$(authentications)" = 2 ]; }
eventually 90 again
io_goes_on
# The other queues follow.
eventually 60 authentications_ended $NQN
io_end
equal "state" "$(controller state)" live
if said "reconnect|resetting|error recovery"; then fail "the controller was not in use all the time"; fi
# The new key is the one that counts.
nvme reset "/dev/$CTRL"
eventually 90 reads "/sys/class/nvme/$CTRL/state" live
host_disconnect $NQN

step "a controller that cannot prove its name is refused by the host"
refused "could not add new controller|Failed to write" nvme_connect $NQN $PORT1 -S "$key" -C "$other"

for hmac in 1 2 3; do
	step "a key that is transformed with hash $hmac"
	key=$(nvme gen-dhchap-key -n $HOSTNQN --hmac=$hmac)
	host_keys $NQN $HOSTNQN "$key" "$controller_key"
	host_connect $NQN $PORT1 -S "$key"
	host_disconnect $NQN
done

# The guest goes on with other scenarios.
echo "$admin_timeout" >/sys/module/nvme_core/parameters/admin_timeout
