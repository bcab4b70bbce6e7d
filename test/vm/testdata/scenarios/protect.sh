# A host write protects a namespace: no write succeeds from then on, the kernel hears of it and reads on, and it ends when
# another controller says so.
# target: host

subsystem_add $NQN any
bdev_file file0 16
bdev_file file1 16
ns_add_protectable $NQN 1 file0 $UUID1
ns_add_protectable $NQN 2 file1 $UUID2
listener_add $NQN $PORT1
host_connect $NQN $PORT1
await_namespace $NQN 1
first=$DEV disk=$NS
await_namespace $NQN 2

state() { nvme get-feature "/dev/$CTRL" -n 1 -f 0x84 "$@"; }
protect() { nvme set-feature "/dev/$CTRL" -n 1 -f 0x84 -v "$1"; }
attributes() { nvme id-ns "/dev/$CTRL" -n "$1" -o json | jq .nsattr; }
put() { dd if=pattern of="$1" bs=64k count=16 oflag=direct conv=notrunc,nocreat status=none; }

step "it can be protected, and is not"
within "NWPC" "$(nvme id-ctrl "/dev/$CTRL" -o json | jq .nwpc)" 1 7
matches "feature 84h" "$(state)" "0x0{0,8}$|0x00000000|:0+$"
matches "identifiers" "$(nvme ns-descs "/dev/$CTRL" -n 1)" "uuid.*$UUID1"
head -c 1048576 /dev/urandom >pattern
put "$first"

step "protected: the kernel hears, writes fail, reads do not, and the namespace beside it is as before"
protect 1
matches "feature 84h" "$(state)" "0x0*1|:0*1"
equal "NSATTR" "$(attributes 1)" 1
eventually 60 reads "/sys/block/$disk/ro" 1
refused "Operation not permitted|Read-only|not permitted|Input/output" put "$first"
refused "write.protect|Write.Protect|WRITE_PROTECT|0x20|protected" nvme write-zeroes "$first" -n 1 -s 0 -c 7
dd if="$first" of=copy bs=64k count=16 iflag=direct status=none
cmp pattern copy
equal "NSATTR of the other" "$(attributes 2)" 0
fio_verify "$DEV" --size=1m

step "another controller says the same, and ends it"
host_connect_again $NQN $PORT1
equal "NSATTR" "$(attributes 1)" 1
matches "feature 84h" "$(state)" "0x0*1|:0*1"
protect 0

step "no longer: the kernel hears of it, and writes"
equal "NSATTR" "$(attributes 1)" 0
eventually 60 reads "/sys/block/$disk/ro" 0
put "$first"
fio_verify "$first" --size=1m
