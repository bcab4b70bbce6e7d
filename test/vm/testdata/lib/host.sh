# host.sh: the host's side, which is always this guest's kernel and nvme-cli.

HOSTNQN=nqn.2014-08.org.nvmexpress:uuid:11111111-2222-4333-8444-555555555555
HOSTID=11111111-2222-4333-8444-555555555555
DISCOVERY=nqn.2014-08.org.nvmexpress.discovery

# host_connect NQN PORT [OPTION...]: connect, wait until the controller is live, and leave its name in CTRL.
# The keep-alive timeout is long, because an emulated CPU on a busy machine may be late by seconds; a
# scenario that is about it gives its own.
host_connect() {
	local answer
	answer=$(nvme_connect "$@" -o json)
	[[ $answer =~ \"device\":\ *\"(nvme[0-9]+)\" ]] || fail "nvme connect answered without a device: $answer"
	CTRL=${BASH_REMATCH[1]}
	eventually 60 reads "/sys/class/nvme/$CTRL/state" live
}

# nvme_connect NQN PORT [OPTION...]: nvme connect, with this host's name unless an option gives another.
nvme_connect() {
	local nqn=$1 port=$2 names=(-q "$HOSTNQN" -I "$HOSTID") timeout=(-k 60)
	shift 2
	case " $* " in *" -q "*) names=() ;; esac
	case " $* " in *" -k "*) timeout=() ;; esac
	nvme connect -t "$TRANSPORT" -a "$ADDRESS" -s "$port" -n "$nqn" "${names[@]}" "${timeout[@]}" --reconnect-delay=1 "$@"
}

# host_connect_again NQN PORT: a second controller over the same path. nvme-cli refuses that, so the kernel is
# asked directly, as nvme-cli does.
host_connect_again() {
	local answer
	exec 9<>/dev/nvme-fabrics
	printf 'transport=%s,traddr=%s,trsvcid=%s,nqn=%s,hostnqn=%s,hostid=%s,keep_alive_tmo=60,duplicate_connect' \
		"$TRANSPORT" "$ADDRESS" "$2" "$1" "$HOSTNQN" "$HOSTID" >&9
	read -r answer <&9
	exec 9>&-
	[[ $answer =~ instance=([0-9]+) ]] || fail "nvme-fabrics answered: $answer"
	CTRL=nvme${BASH_REMATCH[1]}
	eventually 60 reads "/sys/class/nvme/$CTRL/state" live
}

# host_disconnect NQN: nvme disconnect, and say how many controllers that took (in DISCONNECTED).
host_disconnect() {
	local answer
	answer=$(nvme disconnect -n "$1")
	[[ $answer =~ disconnected\ ([0-9]+)\ controller ]] || fail "nvme disconnect said: $answer"
	DISCONNECTED=${BASH_REMATCH[1]}
}

host_disconnect_all() {
	nvme disconnect-all
	eventually 60 no_controllers
}

no_controllers() {
	local all=(/sys/class/nvme/nvme*)
	[ ${#all[@]} = 0 ]
}

# controller FIELD: an attribute of $CTRL.
controller() { cat "/sys/class/nvme/$CTRL/$1"; }

# namespace NQN NSID: the name of the block device of a namespace (of the multipath device, not of a path), or failure.
namespace() {
	local block
	for block in /sys/block/nvme*; do
		[[ ${block##*/} =~ ^nvme[0-9]+n[0-9]+$ ]] || continue
		if reads "$block/device/subsysnqn" "$1" && reads "$block/nsid" "$2"; then
			echo "${block##*/}"
			return
		fi
	done
	return 1
}

no_namespace() { ! namespace "$1" "$2" >/dev/null; }

# await_namespace NQN NSID: wait for that device, and leave its name in NS and its path in DEV.
await_namespace() {
	eventually 60 namespace "$1" "$2" >/dev/null
	NS=$(namespace "$1" "$2")
	DEV=/dev/$NS
	eventually 60 opens "$DEV"
}

# opens DEVICE: it can be used. Its name and its node are there somewhat earlier (device_add_disk).
opens() { [ -b "$1" ] && { : <"$1"; } 2>/dev/null; }

# await_path CTRL NSID: wait until that controller, too, has looked for its namespaces: its own device passes no I/O command before, and there may be
# another path to the namespace that await_namespace has seen.
await_path() { eventually 60 path_of "$1" "$2" >/dev/null; }

# path_of CTRL NSID: the hidden block device of one path to a namespace.
path_of() {
	local path
	for path in /sys/class/nvme/"$1"/nvme*c*n*; do
		if reads "$path/nsid" "$2"; then
			echo "$path"
			return
		fi
	done
	return 1
}

# path_state CTRL NSID STATE: the host sees that namespace in that ANA state on that path.
path_state() {
	local path
	path=$(path_of "$1" "$2") && reads "$path/ana_state" "$3"
}

# path_writes CTRL NSID: writes completed over that path.
path_writes() { awk '{ print $5 }' "$(path_of "$1" "$2")/stat"; }

# bytes_of DEV: its size.
bytes_of() { blockdev --getsize64 "$1"; }

has_bytes() { [ "$(bytes_of "$1" 2>/dev/null)" = "$2" ]; }

# fio_verify DEV [OPTION...]: random writes with a checksum in every block, then read and checked.
fio_verify() {
	local dev=$1 errors wrote verified
	shift
	fio --name=verify --filename="$dev" --ioengine=libaio --direct=1 --rw=randwrite --bs=4k --size=2m \
		--iodepth=16 --verify=crc32c --verify_fatal=1 --randrepeat=0 --output-format=json --output=fio.out "$@" ||
		fail "fio on $dev ended with status $?: $(sed '/^{/,$d' fio.out)"
	# It warns in front of its JSON. (One jq, because each takes a third of a second here.)
	read -r errors wrote verified < <(sed -n '/^{/,$p' fio.out |
		jq -r '[([.jobs[].error] | add), ([.jobs[].write.io_bytes] | add), ([.jobs[].read.io_bytes] | add)] | join(" ")')
	equal "fio's errors on $dev" "$errors" 0
	[ "$wrote" -gt 0 ] || fail "fio wrote nothing"
	# fio counts the reads of its verification in the write job's read side.
	equal "bytes that fio read back from $dev" "$verified" "$wrote"
}

# no_broken_pipe: what this shell runs from now on, ignores SIGPIPE. The host (Linux 6.12) sends commands to a target from the program
# that submits them, and does not ask for no signal: one that meets the end of the connection would be killed by it, though its command
# is only waiting for a path.
no_broken_pipe() { trap '' PIPE; }

# io_begin DEV: write at random and verify in the background until io_end. Every 64 blocks written are read back
# and checked. The rate leaves most of the emulated CPU to what happens beside it.
io_begin() {
	IO_DEV=${1##*/}
	(
		trap - ERR EXIT
		no_broken_pipe
		exec fio --name=io --filename="$1" --ioengine=libaio --direct=1 --rw=randwrite --bsrange=4k-16k --size=2m \
			--iodepth=4 --rate_iops=200 --time_based --runtime=3600 --verify=crc32c --verify_fatal=1 --verify_backlog=64 \
			--output-format=json --output=io.out
	) &
	IO=$!
	io_goes_on
}

# io_goes_on: from here on, blocks are written, and read back as they were written. (Nothing but the
# verification reads from that device.)
io_goes_on() {
	local reads writes
	io_counts
	eventually 120 io_counted $((reads + 128)) $((writes + 128))
}

# io_counts: how many have ended, in reads and writes.
io_counts() { read -r reads _ _ _ writes _ <"/sys/block/$IO_DEV/stat"; }

io_counted() {
	local reads writes
	if ended $IO; then fail "the I/O in the background ended: $(io_report)"; fi
	io_counts
	[ "$reads" -ge "$1" ] && [ "$writes" -ge "$2" ]
}

io_report() { sed -n '/^{/q; p' io.out; }

# io_end: it ends, and no block was wrong and no command had failed.
io_end() {
	local status=0 errors writes
	if ended $IO; then fail "the I/O in the background ended: $(io_report)"; fi
	kill $IO
	wait $IO || status=$?
	IO=
	# 128 is fio's status for having been told to end.
	[ $status = 0 ] || [ $status = 128 ] || fail "the I/O in the background ended with status $status: $(io_report)"
	sed -n '/^{/,$p' io.out >io.json
	read -r errors writes < <(jq -r '.jobs[0] | "\(.error) \(.write.total_ios)"' io.json)
	equal "errors of the I/O in the background" "$errors" 0
	within "its writes" "$writes" 128 1000000000
}

# io_stalled: no command of the I/O in the background has ended for two seconds.
io_stalled() {
	local reads writes before
	io_counts
	before="$reads $writes"
	sleep 2
	io_counts
	! ended $IO && [ "$before" = "$reads $writes" ]
}

# writer_begin DEV: write to a device until it fails, in the background; writer_ends shows that it did.
writer_begin() {
	local from
	from=$(awk '{ print $5 }' "/sys/block/${1##*/}/stat")
	# conv=notrunc, and a device that must be there: where it has gone, dd is not to make a file of that name.
	(
		trap - ERR EXIT
		no_broken_pipe
		while dd if=/dev/zero of="$1" bs=64k count=64 oflag=direct conv=notrunc,nocreat status=none 2>writer.log; do :; done
	) &
	WRITER=$!
	eventually 60 written "$1" "$from"
}

written() { [ "$(awk '{ print $5 }' "/sys/block/${1##*/}/stat")" -gt "$2" ]; }

writer_ends() {
	eventually 60 ended $WRITER
	matches "what the writer met" "$(cat writer.log)" "error|No space|No such"
}

IO=
io_kill() {
	[ -z "$IO" ] || kill "$IO" 2>/dev/null
}

# vanish PORT: from now on nothing from this host arrives at that port of the target; no connection closes.
vanish() {
	drop dport "$1"
}

# drop FIELD PORT: packets with that port are lost on their way out of this guest.
drop() {
	if [[ $(tc qdisc show dev "$INTERFACE") != *"prio 1:"* ]]; then
		tc qdisc replace dev "$INTERFACE" root handle 1: prio bands 4
		tc qdisc add dev "$INTERFACE" parent 1:4 handle 40: netem loss 100%
	fi
	tc filter add dev "$INTERFACE" parent 1: protocol ip prio 1 u32 match ip "$1" "$2" 0xffff flowid 1:4
}

# reappear: the network is whole again.
reappear() {
	tc qdisc del dev "$INTERFACE" root
}

# cpus_online 1|4: that many CPUs of the guest work. (The kernel spreads its queues over the CPUs that there could
# be, and refuses a queue without a CPU that works: so it is one, or all.)
cpus_online() {
	local i
	for i in 1 2 3; do
		echo $((i < $1)) >/sys/devices/system/cpu/cpu$i/online
	done
}

# null_block NAME MIB BLOCKSIZE [ATTRIBUTE=VALUE...]: a block device in the guest's memory, /dev/NAME, without poll
# queues if it is not told otherwise. (null_blk takes the name of the folder.) It lives until the scenario ends.
nullb=/sys/kernel/config/nullb
null_block() {
	mkdir "$nullb/$1"
	echo "$2" >"$nullb/$1/size"
	echo "$3" >"$nullb/$1/blocksize"
	echo 1 >"$nullb/$1/memory_backed"
	echo 1 >"$nullb/$1/discard"
	echo 0 >"$nullb/$1/poll_queues"
	local attribute
	for attribute in "${@:4}"; do
		echo "${attribute#*=}" >"$nullb/$1/${attribute%%=*}"
	done
	echo 1 >"$nullb/$1/power"
}

null_block_remove_all() {
	local dir
	for dir in $nullb/*/; do
		echo 0 >"$dir/power"
		rmdir "$dir"
	done
}

# family ADDRESS: IPv4 or IPv6.
family() {
	case $1 in
	*:*) echo IPv6 ;;
	*) echo IPv4 ;;
	esac
}
