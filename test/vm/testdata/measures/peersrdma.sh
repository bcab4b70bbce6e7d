# Pollux and the kernel's own target (nvmet) over Soft-RoCE in this guest, pair by pair, by the bundled initiator and by fio on the kernel's. Each serves
# memory at the same card of software, over the same cable (rdma.sh). All are on one processor, whose instructions take a fixed time each; what the cards
# do are instructions too, and they are most of it: this says what the targets' work adds, and nothing of a card. GUEST_ICOUNT=none lets instructions take
# what they take. GUEST_SECONDS, GUEST_RUNS, GUEST_RW and GUEST_DEPTHS choose as in peers.sh.
# target: guest
# cpus: 1
# icount: 2
# limit: 3600
. "$lib/rdma.sh"
CORES=0
cpus_online() { :; }
rdma_begin

FAR=nqn.2026-01.org.pollux-storage:far
FARPORT=4430
UUID_FAR=aaaaaaaa-0000-4000-8000-000000000121

# far COMMAND...: at the kernel's target, in the words of nvmet.sh.
far() (
	. "$lib/nvmet.sh"
	PORT1=$FARPORT PORT2=$FARPORT
	target_is_idle() { [ "$(rdma_queues rxe1)" = 0 ]; }
	"$@"
)

modprobe brd rd_nr=1 rd_size=$((64 << 10))
subsystem_add $NQN any
bdev_memory mem0 64 512
ns_add $NQN 1 mem0 $UUID1
listener_add $NQN $PORT1
far subsystem_add $FAR any
far bdev_block far0 /dev/ram0
far ns_add $FAR 1 far0 $UUID_FAR
far listener_add $FAR $FARPORT

host_connect $NQN $PORT1
await_namespace $NQN 1
near=$DEV
host_connect $FAR $FARPORT
await_namespace $FAR 1

step "pollux bench peers over RDMA"
"$POLLUX" bench peers --quiet \
	--target "pollux@mem=rdma://$ADDRESS:$PORT1/$NQN" --target "nvmet@mem=rdma://$ADDRESS:$FARPORT/$FAR" \
	--target "pollux@mem=raw:$near" --target "nvmet@mem=raw:$DEV" \
	--rw "${GUEST_RW:-randread,randwrite,read,write}" --iodepth "${GUEST_DEPTHS:-1,32}" --runtime "${GUEST_SECONDS:-0.5}" --ramp-time 0.2 \
	--runs "${GUEST_RUNS:-3}" --cores 0 --idle interrupt --machine --results "$JOB/results" --as guest-peers-rdma --note "\
In a guest whose CPU is emulated (qemu TCG) on ${GUEST_HOST:-a machine}, over cards of software (rdma_rxe) on one virtual processor: most of what is \
counted is the cards' work. Only ratios say something, and they say nothing of a real card. \`pollux\` is Pollux, \`nvmet\` the kernel's own target; \
\`pollux\` serves a malloc device, \`nvmet\` brd. \`fio+\` is fio on the kernel's initiator, without it the bundled one."

host_disconnect_all
subsystem_remove $NQN
far target_end
modprobe -r brd
