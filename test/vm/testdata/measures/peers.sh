# Pollux and the kernel's own target (nvmet) on the same kind of device in this guest, pair by pair, by the bundled initiator and by fio on the
# kernel's. All are on one processor, whose instructions take a fixed time each: so what a target costs is told in instructions, and comes out the
# same however busy the machine is. GUEST_ICOUNT=none GUEST_CPUS=2 gives the clients a processor of their own and lets instructions take
# what they take, which wants a machine with nothing else to do. GUEST_IDLE is the engine's idle policy, GUEST_SECONDS the length of a run,
# GUEST_RUNS their number; GUEST_BACKINGS, GUEST_RW and GUEST_DEPTHS choose among backings, loads and depths.
# target: guest
# cpus: 1
# icount: 2
# limit: 7200
. "$lib/peers.sh"
idle=${GUEST_IDLE:-adaptive}
where=(--cores 0 --idle interrupt --machine)
how="All is on one virtual processor; the bundled initiator sleeps while it waits, as fio does."
if [ -e /sys/devices/system/cpu/cpu1/online ]; then
	echo 1 >/sys/devices/system/cpu/cpu1/online
	where=(--cores 1 --target-cpus 0)
	how="Virtual processor 0 is the targets' (the engine's reactor; nvmet's work, by RPS on a veth pair), 1 the clients'; the bundled initiator polls."
fi
if [ "${GUEST_ICOUNT:-2}" = none ]; then
	time="what the guest computes takes 5 to 25 times longer than on the machine itself, and not everything by as much"
else
	time="each instruction takes $((1 << ${GUEST_ICOUNT:-2})) ns of the guest's time: times and rates are counts of instructions, which cache misses, \
the switch into the kernel and back, and the memory's speed have no part in"
fi
rpc engine_set_idle_policy policy="$idle"

# shellcheck disable=SC2086
peers_begin 64 ${GUEST_BACKINGS:-mem block}
step "pollux bench peers, engine with idle policy $idle"
peers_compare --rw "${GUEST_RW:-randread,randwrite,read,write}" --iodepth "${GUEST_DEPTHS:-1,32,128}" --runtime "${GUEST_SECONDS:-0.5}" --ramp-time 0.2 \
	--runs "${GUEST_RUNS:-3}" "${where[@]}" --results "$JOB/results" --as guest-peers --note "\
In a guest whose CPU is emulated (qemu TCG) on ${GUEST_HOST:-a machine}: $time. Only ratios say something, and they say it of this emulation. \
$how The engine's idle policy is $idle. \`pollux\` is Pollux, \`nvmet\` the kernel's own target; \`@mem\` a malloc device of Pollux and brd, \
\`@block\` one null_blk device in memory for both. \`fio+\` is fio on the kernel's initiator, without it the bundled one."
peers_end
