# Namespaces that only some hosts see: the list of each host, the event when it changes, and the end of I/O.
# target: host
# nvmet: no, its namespaces are for every host of a subsystem

OTHERHOST=nqn.2014-08.org.nvmexpress:uuid:99999999-2222-4333-8444-555555555555

subsystem_add $NQN any
bdev_memory mem0 16 512
bdev_memory mem1 16 512
ns_add $NQN 1 mem0 $UUID1
rpc nvmf_subsystem_add_ns nqn=$NQN namespace:="$(object nsid:=2 bdev_name=mem1 uuid=$UUID2 no_auto_visible:=true)"
listener_add $NQN $PORT1
host_connect $NQN $PORT1
await_namespace $NQN 1
list() { nvme list-ns "/dev/$CTRL" -o json | jq -c '[.nsid_list[].nsid]'; }

step "nobody sees it"
equal "list-ns" "$(list)" "[1]"
no_namespace $NQN 2 || fail "the host sees a namespace that is for nobody"

step "another host may; this one does not see it"
rpc nvmf_ns_add_host nqn=$NQN nsid:=2 host=$OTHERHOST
equal "list-ns" "$(list)" "[1]"

step "this one may, and hears of it"
rpc nvmf_ns_add_host nqn=$NQN nsid:=2 host=$HOSTNQN
await_namespace $NQN 2
equal "list-ns" "$(list)" "[1,2]"
fio_verify "$DEV" --size=1m

step "no longer: I/O ends, and the namespace goes"
writer_begin "$DEV"
rpc nvmf_ns_remove_host nqn=$NQN nsid:=2 host=$HOSTNQN
eventually 60 no_namespace $NQN 2
writer_ends
equal "list-ns" "$(list)" "[1]"
await_namespace $NQN 1
fio_verify "$DEV" --size=1m
