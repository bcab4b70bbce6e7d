# run.sh SCENARIO TARGET PLACE ROUNDS: run one scenario. It begins with a target that runs and is empty, and with
# no controller on this host; both are so again when it ends well.
set -Eeuo pipefail
shopt -s inherit_errexit nullglob
scenario=$1 TARGET=$2 PLACE=$3 ROUNDS=$4
lib=$(dirname "${BASH_SOURCE[0]}")
tmp=$(mktemp -d)
cd "$tmp"

# The subsystem that scenarios make, and what it says of itself.
NQN=nqn.2026-01.org.pollux-storage:test
SERIAL=PLX0000000000042
MODEL="Pollux scenario"
UUID1=aaaaaaaa-0000-4000-8000-000000000001
UUID2=aaaaaaaa-0000-4000-8000-000000000002
UUID3=aaaaaaaa-0000-4000-8000-000000000003

# How hosts and targets meet: over TCP, where a scenario does not source rdma.sh; a target listens at LISTEN, if it is not told otherwise.
TRANSPORT=tcp LISTEN=127.0.0.1

. "$lib/check.sh"
. "$lib/host.sh"
. "$lib/$TARGET.sh"

failed() {
	echo
	echo "FAILED at ${BASH_SOURCE[1]##*/}:${BASH_LINENO[0]}, in: $BASH_COMMAND"
}
trap failed ERR

# Whatever happened, the log shows what the kernel said of it, and the guest is left without I/O.
finish() {
	local status=$?
	trap - ERR EXIT
	set +e
	if [ $status != 0 ]; then
		echo "--- controllers of this host"
		nvme list-subsys
		echo "--- its processes, and its disks: reads and writes in flight"
		busybox ps -o pid,ppid,stat,args | grep -v '\[.*\]$'
		if declare -F iscsi_report >/dev/null; then iscsi_report; fi
		if declare -F rdma_report >/dev/null; then rdma_report; fi
		grep . /sys/block/nvme*/inflight /sys/class/nvme/nvme*/nvme*c*n*/inflight 2>/dev/null
		# Where those stand that wait for the disk goes to the log.
		echo w >/proc/sysrq-trigger
		echo "--- its kernel's log"
		# The kernel's target has a line for each command that fails.
		dmesg | grep -v 'nvmet_tcp: failed cmd' | tail -n 200
		target_report
	fi
	io_kill
	exit $status
}
trap finish EXIT

dmesg -C
step "$scenario against $TARGET, target in the ${PLACE}"
target_begin
script=$lib/../scenarios/$scenario.sh
[ -e "$script" ] || script=$lib/../measures/$scenario.sh
. "$script"

step "everything is put away"
host_disconnect_all
target_end
if [ $TRANSPORT = rdma ]; then rdma_end; fi
kernel_is_well
