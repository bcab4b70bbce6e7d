# Namespaces come, grow, shrink and go while the host is connected and writes to another one: it hears by
# events, and finds the same by a rescan when it has switched the events off.
# target: host

subsystem_add $NQN any
bdev_memory mem0 32 512
bdev_file file0 16
bdev_file file1 8
ns_add $NQN 7 mem0 $UUID1
listener_add $NQN $PORT1
host_connect $NQN $PORT1
await_namespace $NQN 7
io_begin "$DEV"

step "one is added"
ns_add $NQN 2 file0 $UUID2
await_namespace $NQN 2
equal "list-ns" "$(nvme list-ns "/dev/$CTRL" -o json | jq -c '[.nsid_list[].nsid]')" "[2,7]"
equal "size" "$(bytes_of "$DEV")" $((16 << 20))
fio_verify "$DEV" --size=2m

step "it grows, and shrinks"
bdev_file_resize file0 48 $NQN 2
eventually 60 has_bytes "$DEV" $((48 << 20))
fio_verify "$DEV" --offset=40m --size=2m
bdev_file_resize file0 24 $NQN 2
eventually 60 has_bytes "$DEV" $((24 << 20))
refused "No space left|beyond end|Input/output|cannot seek" dd if=/dev/zero of="$DEV" bs=4k count=1 seek=6144 oflag=direct

step "it goes; another takes its number"
ns_remove $NQN 2
eventually 60 no_namespace $NQN 2
equal "list-ns" "$(nvme list-ns "/dev/$CTRL" -o json | jq -c '[.nsid_list[].nsid]')" "[7]"
ns_add $NQN 2 file1 $UUID3
await_namespace $NQN 2
equal "UUID" "$(cat "/sys/block/$NS/uuid")" $UUID3
equal "size" "$(bytes_of "$DEV")" $((8 << 20))

step "without events, ns-rescan finds the same"
nvme set-feature "/dev/$CTRL" -f 0x0b -v 0
ns_remove $NQN 2
namespace $NQN 2 >/dev/null || fail "the host knows without having been told"
nvme ns-rescan "/dev/$CTRL"
eventually 60 no_namespace $NQN 2
ns_add $NQN 3 file0 $UUID2
no_namespace $NQN 3 || fail "the host knows without having been told"
nvme ns-rescan "/dev/$CTRL"
await_namespace $NQN 3
bdev_file_resize file0 32 $NQN 3
nvme ns-rescan "/dev/$CTRL"
eventually 60 has_bytes "$DEV" $((32 << 20))
io_end
nvme set-feature "/dev/$CTRL" -f 0x0b -v 0x900

step "one goes with I/O in flight: the I/O ends, with an error"
writer_begin "$DEV"
ns_remove $NQN 3
eventually 60 no_namespace $NQN 3
writer_ends
