# peers.sh: Pollux and the kernel's own target in this guest, on the same kind of device, for the same clients.
#
# The clients are in a network namespace of their own, and a pair of veth leads to the targets, as long a cable would. Each end delivers its
# packets on a processor of its own (RPS): so the kernel's target works on the first, which Pollux has too, and the clients on the second.
# (On the loopback interface packets are delivered where they are sent, and the kernel's target works where its packets arrive: it would
# share the client's processor, and leave the other idle.) With one processor all of them share it.

FAR=nqn.2026-01.org.pollux-storage:far
FARPORT=4430
HERE=10.77.0.1
THERE=10.77.0.2
# One for each namespace: a host refuses a second one, in another subsystem too.
PEER_UUID=aaaaaaaa-0000-4000-8000-0000000001
declare -A DEVICE

# far COMMAND...: at the kernel's target, in the words of nvmet.sh.
far() (
	. "$lib/nvmet.sh"
	PORT1=$FARPORT PORT2=$FARPORT
	"$@"
)

# nvme ARGUMENT...: the kernel's initiator connects from where the one is that asks it.
nvme() { ip netns exec client nvme "$@"; }

# peers_begin MIB BACKING...: both targets serve a device of that size on each backing, and this host's kernel is connected to all of them:
#
#	mem    each has memory of its own: Pollux a malloc device, the kernel brd, which has the shortest way there
#	block  both have one block device, a null_blk with memory: Pollux through io_uring, the kernel from inside
peers_begin() {
	local mib=$1 backing target nqn port
	shift
	peers_network
	modprobe brd rd_nr=1 rd_size=$((mib << 10))
	for backing in "$@"; do
		subsystem_add $NQN-$backing any
		far subsystem_add $FAR-$backing any
		case $backing in
		mem)
			bdev_memory mem $mib 512
			far bdev_block mem /dev/ram0
			;;
		block)
			null_block peers $mib 4096
			bdev_block block /dev/peers
			far bdev_block block /dev/peers
			;;
		esac
		ns_add $NQN-$backing 1 $backing ${PEER_UUID}1${#backing}
		listener_add $NQN-$backing $PORT1 $HERE
		far ns_add $FAR-$backing 1 $backing ${PEER_UUID}2${#backing}
		far listener_add $FAR-$backing $FARPORT $HERE
		ADDRESS=$HERE
		for target in "pollux $NQN-$backing $PORT1" "nvmet $FAR-$backing $FARPORT"; do
			read -r target nqn port <<<"$target"
			host_connect "$nqn" "$port"
			await_namespace "$nqn" 1
			DEVICE[$target@$backing]=$DEV
			equal "$target, $backing" "$(bytes_of "$DEV")" $((mib << 20))
		done
	done
	peers_backings=$*
}

peers_network() {
	local clients=1
	[ ! -e /sys/devices/system/cpu/cpu1/online ] || [ "$(cat /sys/devices/system/cpu/cpu1/online)" = 0 ] || clients=2
	modprobe veth
	ip netns add client
	ip link add peer0 mtu 65535 type veth peer name peer1 mtu 65535 netns client
	ip addr add $HERE/24 dev peer0
	ip link set peer0 up
	ip netns exec client bash -c "
		set -e
		ip link set lo up
		ip addr add $THERE/24 dev peer1
		ip link set peer1 up
		echo $clients >/sys/class/net/peer1/queues/rx-0/rps_cpus"
	echo 1 >/sys/class/net/peer0/queues/rx-0/rps_cpus
}

# peers_compare OPTION...: pollux bench peers on all of them, by its own initiator and by fio on the kernel's.
peers_compare() {
	local backing targets=()
	for backing in $peers_backings; do
		targets+=(
			--target "pollux@$backing=tcp://$HERE:$PORT1/$NQN-$backing"
			--target "nvmet@$backing=tcp://$HERE:$FARPORT/$FAR-$backing"
			--target "pollux@$backing=raw:${DEVICE[pollux@$backing]}"
			--target "nvmet@$backing=raw:${DEVICE[nvmet@$backing]}"
		)
	done
	ip netns exec client "$POLLUX" bench peers "${targets[@]}" --quiet "$@"
}

peers_end() {
	local backing
	host_disconnect_all
	for backing in $peers_backings; do subsystem_remove $NQN-$backing; done
	if [[ $peers_backings == *block* ]]; then rpc bdev_uring_delete name=block; fi
	far target_end
	modprobe -r brd
	unset -f nvme
	ip netns del client
}
