# What a host reads of a controller and its namespaces before and after it trusts them with data.
# target: host

subsystem_add $NQN any
bdev_memory mem0 32 512
bdev_memory mem1 64 4096
ns_add $NQN 1 mem0 $UUID1
ns_add $NQN 5 mem1 $UUID2
listener_add $NQN $PORT1
host_connect $NQN $PORT1
dev=/dev/$CTRL

declare -A id ns list smart errors
step "id-ctrl"
load id nvme id-ctrl "$dev" -o json
matches "serial number" "${id[sn]}" "^$SERIAL *$"
matches "model number" "${id[mn]}" "^$MODEL *$"
matches "firmware revision" "${id[fr]}" "[0-9A-Za-z]"
equal "subsystem's name" "${id[subnqn]}" $NQN
equal "controller ID, to the one that Connect gave" "${id[cntlid]}" "$(controller cntlid)"
equal "controller type" "${id[cntrltype]}" 1
within "version, at least 1.3" "${id[ver]}" $((0x10300)) $((0x20300))
within "KAS" "${id[kas]}" 1 65535
within "IOCCSZ" "${id[ioccsz]}" 4 65536
equal "IORCSZ" "${id[iorcsz]}" 1
equal "ICDOFF" "${id[icdoff]}" 0
within "MAXCMD" "${id[maxcmd]}" 1 65535
equal "SQES" "${id[sqes]}" $((0x66))
equal "CQES" "${id[cqes]}" $((0x44))
within "NN, at least the highest NSID" "${id[nn]}" 5 4294967294
equal "CMIC: several controllers, ANA" $((id[cmic] & 0xa)) $((0xa))
within "SGLS: SGLs are supported" $((id[sgls] & 3)) 1 2
equal "ONCS: Dataset Management, Write Zeroes" $((id[oncs] & 0xc)) $((0xc))
within "MNAN" "${id[mnan]}" 1 "${id[nn]}"
within "ANAGRPMAX" "${id[anagrpmax]}" "${id[nanagrpid]}" 4294967295
equal "OAES: namespaces, ANA" $((id[oaes] & 0x900)) $((0x900))

step "namespaces"
equal "list-ns" "$(nvme list-ns "$dev" -o json | jq -c '[.nsid_list[].nsid]')" "[1,5]"
check_namespace() { # NSID BLOCKS LBADS UUID
	load ns nvme id-ns "$dev" -n "$1" -o json
	local format=$((ns[flbas] & 0xf))
	equal "NSZE of $1" "${ns[nsze]}" "$2"
	equal "NCAP of $1" "${ns[ncap]}" "$2"
	equal "LBADS of $1" "${ns[lbafs.$format.ds]}" "$3"
	equal "metadata of $1" "${ns[lbafs.$format.ms]}" 0
	equal "NMIC of $1: may be shared" $((ns[nmic] & 1)) 1
	within "ANAGRPID of $1" "${ns[anagrpid]}" 1 65535
	matches "descriptors of $1" "$(nvme ns-descs "$dev" -n "$1")" "uuid *: $4"
}
check_namespace 1 65536 9 $UUID1
check_namespace 5 16384 12 $UUID2
step "an NSID without a namespace has no size; one that cannot be is refused"
load ns nvme id-ns "$dev" -n 3 -o json
equal "NSZE of 3" "${ns[nsze]}" 0
refused "INVALID_NS|Invalid Namespace|invalid" nvme id-ns "$dev" -n 0xffffffff

step "what the kernel made of them"
await_namespace $NQN 1
equal "sectors of namespace 1" "$(cat "/sys/block/$NS/size")" 65536
equal "block size" "$(cat "/sys/block/$NS/queue/logical_block_size")" 512
equal "UUID" "$(cat "/sys/block/$NS/uuid")" $UUID1
await_namespace $NQN 5
equal "sectors of namespace 5" "$(cat "/sys/block/$NS/size")" 131072
equal "block size" "$(cat "/sys/block/$NS/queue/logical_block_size")" 4096
equal "UUID" "$(cat "/sys/block/$NS/uuid")" $UUID2
fio_verify "$DEV" --bs=4k

step "list -v and list-subsys"
load list nvme list -v -o json
subsystem=Devices.0.Subsystems.0
equal "subsystem" "${list[$subsystem.SubsystemNQN]}" $NQN
equal "its controller" "${list[$subsystem.Controllers.0.Controller]}" "$CTRL"
equal "the controller's transport" "${list[$subsystem.Controllers.0.Transport]}" tcp
equal "its namespaces" "$(printf '%s\n' "${list[$subsystem.Namespaces.0.NSID]}" "${list[$subsystem.Namespaces.1.NSID]}" | sort -n)" "1
5"
matches "the table" "$(nvme list -v)" "$CTRL +$SERIAL +$MODEL +[^ ]+ +tcp +traddr=$ADDRESS"
matches "list-subsys" "$(nvme list-subsys)" "NQN=$NQN.* \+- $CTRL tcp traddr=$ADDRESS,trsvcid=$PORT1[^ ]* live"

step "smart-log"
load smart nvme smart-log "$dev" -o json
equal "critical warning" "${smart[critical_warning]}" 0
commands=${smart[host_write_commands]}
fio_verify "$DEV" --bs=4k --size=4m
load smart nvme smart-log "$dev" -o json
within "writes counted for 4 MiB in pieces of 4 KiB" $((smart[host_write_commands] - commands)) 1024 1100
within "data units written (thousands of 512 bytes)" "${smart[data_units_written]}" 1 1000000

step "other pages and features"
load errors nvme error-log "$dev" -o json -e 1
within "error count of the newest entry" "${errors[errors.0.error_count]}" 0 1000
# Page 05h holds 4 bytes for each I/O command from offset 1024: bit 0 supported, bit 1 it changes blocks.
effects=($(nvme get-log "$dev" -i 5 -l 4096 -b | od -An -v -t u4 -w4 -j 1024 -N 40))
equal "effects of Write" "${effects[1]}" 3
equal "effects of Read" "${effects[2]}" 1
equal "effects of opcode 7, which nobody has" "${effects[7]}" 0
matches "Keep Alive Timer feature, as connected" "$(nvme get-feature "$dev" -f 0x0f)" "0x0000ea60"
# One queue granted to one CPU is 0, which nvme-cli prints without 0x.
matches "Number of Queues feature" "$(nvme get-feature "$dev" -f 7)" "0x[0-9a-f]{8}|value:00000000"
matches "events that the kernel asked for" "$(nvme get-feature "$dev" -f 0x0b)" "0x00000900"
refused "INVALID_FIELD|Invalid Field|INVALID_LOG_PAGE|Invalid Log Page" nvme get-log "$dev" -i 0xbf -l 512
refused "INVALID_FIELD|Invalid Field" nvme get-feature "$dev" -f 0x3f
