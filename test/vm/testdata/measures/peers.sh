# Pollux and the kernel's own target (nvmet) on the same kind of device in this guest, pair by pair, by the bundled initiator and by fio on the
# kernel's. The engine's reactor is on the first processor, and the kernel's target works there too; the clients are on the second.
# GUEST_CPUS=1 puts all on one. GUEST_IDLE is the engine's idle policy, GUEST_SECONDS the length of a run, GUEST_RUNS their number.
# It says ratios, not what a machine can do: this CPU is emulated.
# target: guest
# cpus: 2
# limit: 7200
. "$lib/peers.sh"
idle=${GUEST_IDLE:-adaptive}
where=(--cores 0 --idle interrupt --machine)
how="All is on one virtual processor; the bundled initiator sleeps while it waits."
if [ -e /sys/devices/system/cpu/cpu1/online ]; then
	echo 1 >/sys/devices/system/cpu/cpu1/online
	where=(--cores 1 --target-cpus 0)
	how="Virtual processor 0 is the targets' (the engine's reactor; nvmet's work, by RPS on a veth pair), 1 the clients'."
fi
rpc engine_set_idle_policy policy="$idle"

peers_begin 64 mem block
step "pollux bench peers, engine with idle policy $idle"
peers_compare --rw randread,randwrite,read,write --iodepth 1,32,128 --runtime "${GUEST_SECONDS:-2}" --ramp-time 0.5 --runs "${GUEST_RUNS:-3}" \
	"${where[@]}" --results "$JOB/results" --as guest-peers --note "\
In a guest whose CPU is emulated (qemu TCG) on ${GUEST_HOST:-a machine}: emulation makes what the CPU computes 5 to 25 times slower, and \
not everything by as much (a copy of memory and a system call cost other shares than on a real one), so that only ratios say something, and \
they say it of this emulation. $how The engine's idle policy is $idle. \`pollux\` is Pollux, \`nvmet\` the kernel's own target; \`@mem\` a malloc \
device of Pollux and brd, \`@block\` one null_blk device in memory for both. \`fio+\` is fio on the kernel's initiator, without it the bundled one."
peers_end
