# Two portals, two ANA groups: the host follows the states that the target reports, with I/O going on all the
# time, and survives the loss of a portal.
# target: host

subsystem_add $NQN any
bdev_memory mem0 32 512
bdev_memory mem1 16 512
for port in $PORT1 $PORT2; do
	listener_add $NQN $port
	ana_set $NQN $port 1 optimized
	ana_set $NQN $port 2 non_optimized
done
ns_add $NQN 1 mem0 $UUID1 1
ns_add $NQN 2 mem1 $UUID2 2

step "each path shows the state of each namespace's group"
host_connect $NQN $PORT1
first=$CTRL
host_connect $NQN $PORT2
second=$CTRL
for path in $first $second; do
	eventually 60 path_state "$path" 1 optimized
	eventually 60 path_state "$path" 2 non-optimized
done
declare -A log
load log nvme ana-log "/dev/$first" -o json
equal "groups in the log" "${log[ngrps]}" 2
equal "group" "${log[ANA DESC LIST .0.grpid]}" 1
equal "its state" "${log[ANA DESC LIST .0.state]}" optimized
equal "its namespace" "${log[ANA DESC LIST .0.NSIDS.0.nsid]}" 1
equal "group" "${log[ANA DESC LIST .1.grpid]}" 2
equal "its state" "${log[ANA DESC LIST .1.state]}" non-optimized
equal "its namespace" "${log[ANA DESC LIST .1.NSIDS.0.nsid]}" 2
await_namespace $NQN 1

# uses PATH OTHER: I/O to namespace 1 goes over that path, and nothing over the other. (What was under way there when the host changed over still ends.)
uses() {
	local before other
	eventually 60 path_is_quiet "$2"
	other=$(path_writes "$2" 1)
	before=$(path_writes "$1" 1)
	eventually 60 path_moved "$1" "$before"
	equal "writes over $2 meanwhile" $(($(path_writes "$2" 1) - other)) 0
}
path_is_quiet() { [[ $(cat "$(path_of "$1" 1)/inflight") =~ ^\ *0\ +0$ ]]; }
path_moved() { [ "$(path_writes "$1" 1)" -gt $(($2 + 100)) ]; }

step "I/O follows the states: away from the first path, and back"
io_begin "$DEV"
ana_set $NQN $PORT1 1 inaccessible
eventually 60 path_state $first 1 inaccessible
uses $second $first
load log nvme ana-log "/dev/$first" -o json
equal "state in the log of the first path" "${log[ANA DESC LIST .0.state]}" inaccessible
ana_set $NQN $PORT1 1 optimized
ana_set $NQN $PORT2 1 non_optimized
eventually 60 path_state $first 1 optimized
eventually 60 path_state $second 1 non-optimized
uses $first $second
eventually 60 path_state $second 2 non-optimized

step "without any path I/O waits, and it goes on when there is one"
ana_set $NQN $PORT1 1 inaccessible
ana_set $NQN $PORT2 1 inaccessible
eventually 60 path_state $first 1 inaccessible
eventually 60 path_state $second 1 inaccessible
eventually 60 io_stalled
said "no usable path - requeuing I/O" || fail "the kernel does not say that it holds I/O back"
ana_set $NQN $PORT2 1 optimized
eventually 60 path_state $second 1 optimized
uses $second $first
ana_set $NQN $PORT1 1 optimized
eventually 60 path_state $first 1 optimized

step "a portal goes, with its connections, and comes back"
listener_remove $NQN $PORT2
not_live() { ! reads "/sys/class/nvme/$1/state" live; }
eventually 60 not_live $second
io_goes_on
listener_add $NQN $PORT2
ana_set $NQN $PORT2 1 optimized
ana_set $NQN $PORT2 2 non_optimized
eventually 60 reads /sys/class/nvme/$second/state live
ana_set $NQN $PORT1 1 inaccessible
eventually 60 path_state $first 1 inaccessible
uses $second $first
io_end
host_disconnect $NQN
equal "controllers disconnected" "$DISCONNECTED" 2
