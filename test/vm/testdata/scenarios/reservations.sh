# Two hosts and one reservation: who holds it, who may write, preemption, and that it goes with its holder's key.
# target: host
# nvmet: no, reservations came to it with Linux 6.13

OTHERHOST=nqn.2014-08.org.nvmexpress:uuid:99999999-2222-4333-8444-555555555555
OTHERID=99999999-2222-4333-8444-555555555555

subsystem_add $NQN any
bdev_memory mem0 16 512
ns_add $NQN 1 mem0 $UUID1
listener_add $NQN $PORT1
host_connect $NQN $PORT1
first=/dev/$CTRL
# The host's own check for a second connection looks at addresses only, so the second one is on the second port.
listener_add $NQN $PORT2
host_connect $NQN $PORT2 -q $OTHERHOST -I $OTHERID
second=/dev/$CTRL
head -c 512 /dev/urandom >data
await_namespace $NQN 1
for device in $first $second; do await_path "${device#/dev/}" 1; done

# Through the controllers' own devices, so that the command goes the way of that host, and no other.
writes() { nvme io-passthru "$1" --opcode=1 --namespace-id=1 --cdw10=8 --data-len=512 -w -i data; }
reads_block() { nvme io-passthru "$1" --opcode=2 --namespace-id=1 --cdw10=8 --data-len=512 -r -b >copy; }
conflict() { refused "\\(0x(4083|83)\\)" "$@"; }
report() { nvme resv-report "$1" -n 1 -e -o json; }
declare -A r

step "both may write while there is no reservation"
writes $first
writes $second

step "one registers and reserves: write exclusive"
nvme resv-register $first -n 1 --nrkey=0x11 --rrega=0
nvme resv-acquire $first -n 1 --crkey=0x11 --rtype=1 --racqa=0
load r report $second
equal "generation" "${r[gen]}" 1
equal "type" "${r[rtype]}" 1
equal "registrants" "${r[regctl]}" 1
writes $first
conflict writes $second
reads_block $second

step "the other registers too: it still may not write, nor take it with a wrong key"
nvme resv-register $second -n 1 --nrkey=0x22 --rrega=0
conflict writes $second
conflict nvme resv-acquire $second -n 1 --crkey=0x22 --rtype=1 --racqa=0
conflict nvme resv-acquire $second -n 1 --crkey=0x33 --prkey=0x11 --rtype=1 --racqa=1

step "it preempts: now it may, and the first may not"
nvme resv-acquire $second -n 1 --crkey=0x22 --prkey=0x11 --rtype=3 --racqa=1
load r report $first
equal "type: write exclusive, registrants only" "${r[rtype]}" 3
equal "registrants" "${r[regctl]}" 1
writes $second
conflict writes $first
reads_block $first

step "the first registers again, and may write: registrants only"
nvme resv-register $first -n 1 --nrkey=0x12 --rrega=0
writes $first

step "exclusive access: not even reading"
nvme resv-release $second -n 1 --crkey=0x22 --rtype=3 --rrela=0
nvme resv-acquire $second -n 1 --crkey=0x22 --rtype=2 --racqa=0
conflict reads_block $first

step "the reservation outlives its holder's connection"
nvme disconnect -d "${second#/dev/}"
conflict writes $first
host_connect $NQN $PORT2 -q $OTHERHOST -I $OTHERID
second=/dev/$CTRL
await_path "$CTRL" 1
writes $second

step "cleared: everyone may, and nobody is registered"
nvme resv-release $second -n 1 --crkey=0x22 --rrela=1
load r report $first
equal "type" "${r[rtype]}" 0
equal "registrants" "${r[regctl]}" 0
writes $first
writes $second
