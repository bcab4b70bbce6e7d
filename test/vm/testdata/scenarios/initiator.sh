# Pollux as a host: it attaches the namespaces of the kernel's own target, and serves them to this guest's kernel. So every
# block passes through both of Pollux's ends, and both far ends are Linux's.
# target: guest
# nvmet: no, the kernel's target is the far end of Pollux here
# limit: 900

FAR=nqn.2026-01.org.pollux-storage:far
FARPORT=4430

# far COMMAND...: at the kernel's target, in the words of nvmet.sh.
far() (
	. "$lib/nvmet.sh"
	PORT1=$FARPORT PORT2=$FARPORT
	"$@"
)

far_begin() {
	subsystem_add $FAR any
	ns_add $FAR 1 far0 $UUID1
	ns_add $FAR 2 far1 $UUID2
	listener_add $FAR $FARPORT
}

# attach [MEMBER...]: Pollux attaches the far subsystem as Far.
attach() {
	rpc bdev_nvme_attach_controller name=Far trtype=TCP adrfam=IPv4 traddr=127.0.0.1 trsvcid=$FARPORT subnqn=$FAR \
		hostnqn=$HOSTNQN ctrlr_loss_timeout_sec:=-1 reconnect_delay_sec:=1 "$@"
}

far_state() {
	rpc bdev_nvme_get_controllers name=Far
	[ "$(jq -r '.[0].ctrlrs[0].state' <<<"$RESULT")" = "$1" ]
}

# has_bdev NAME NUM_BLOCKS: that device is there, of that size. (A name of a device of Pollux, not of the kernel's.)
has_bdev() {
	local said
	said=$(engine rpc bdev_get_bdevs "$(object name="$1")" 2>/dev/null) || return 1
	[ "$(jq -r '.[0].num_blocks' <<<"$said")" = "$2" ]
}

no_bdev() { ! has_bdev "$1" "$2"; }

far bdev_memory far0 32 512
far bdev_file far1 64
far far_begin
head -c 4194304 /dev/urandom >pattern

subsystem_add $NQN any
listener_add $NQN $PORT1
for options in "" "hdgst:=true" "ddgst:=true" "hdgst:=true ddgst:=true"; do
	step "attached with '$options'"
	# shellcheck disable=SC2086
	attach $options
	equal "devices" "$(jq -c . <<<"$RESULT")" '["Farn1","Farn2"]'
	rpc bdev_get_bdevs name=Farn1
	equal "UUID" "$(jq -r '.[0].uuid' <<<"$RESULT")" $UUID1
	equal "blocks" "$(jq -c '.[0] | [.block_size, .num_blocks]' <<<"$RESULT")" "[512,65536]"
	rpc bdev_get_bdevs name=Farn2
	equal "blocks" "$(jq -c '.[0] | [.block_size, .num_blocks]' <<<"$RESULT")" "[4096,16384]"
	ns_add $NQN 1 Farn1 $UUID1
	ns_add $NQN 2 Farn2 $UUID2
	host_connect $NQN $PORT1
	for nsid in 1 2; do
		await_namespace $NQN $nsid
		fio_verify "$DEV" --bsrange=4k-256k --size=4m --offset=8m
		dd if=pattern of="$DEV" bs=1M oflag=direct status=none
		dd if="$DEV" of=copy bs=512k count=8 iflag=direct status=none
		cmp pattern copy
	done
	far cmp -n 4194304 pattern /dev/far0
	host_disconnect $NQN
	ns_remove $NQN 1
	ns_remove $NQN 2
	rpc bdev_nvme_detach_controller name=Far
	eventually 60 far target_is_idle $FAR
done

step "what is deallocated and zeroed there"
attach
ns_add $NQN 1 Farn1 $UUID1
ns_add $NQN 2 Farn2 $UUID2
host_connect $NQN $PORT1
for nsid in 1 2; do
	await_namespace $NQN $nsid
	dd if=pattern of="$DEV" bs=1M oflag=direct status=none
	blkdiscard -z -o 1048576 -l 1048576 "$DEV"
	dd if="$DEV" of=copy bs=512k count=8 iflag=direct status=none
	cmp -n 1048576 pattern copy
	cmp -i 1048576 -n 1048576 copy /dev/zero
	cmp -i 2097152 pattern copy
	blkdiscard "$DEV"
done
await_namespace $NQN 1
mkfs.ext4 -q "$DEV"
e2fsck -fn "$DEV"

step "the far target goes and comes back under I/O"
io_begin "$DEV"
for _ in 1 2; do
	far target_crash
	eventually 60 far_state reconnect_is_delayed
	far far_begin
	eventually 60 far_state enabled
	io_goes_on
done
io_end

step "Pollux resets the controller under I/O"
io_begin "$DEV"
rpc bdev_nvme_reset_controller name=Far
io_goes_on
io_end
host_disconnect $NQN

step "namespaces of the far target come, grow and go"
far bdev_memory far2 16 4096
far ns_add $FAR 5 far2 $UUID3
eventually 60 has_bdev Farn5 4096
far bdev_file_resize far1 96 $FAR 2
eventually 60 has_bdev Farn2 24576
far ns_remove $FAR 5
eventually 60 no_bdev Farn5 4096
ns_remove $NQN 1
ns_remove $NQN 2
rpc bdev_nvme_detach_controller name=Far

step "the far target wants the host to prove itself, and does so too"
key=$(nvme gen-dhchap-key --hmac=1 --nqn=$HOSTNQN)
other=$(nvme gen-dhchap-key --hmac=2 --nqn=$FAR)
wrong=$(nvme gen-dhchap-key --hmac=1 --nqn=$HOSTNQN)
far subsystem_remove $FAR
far subsystem_add $FAR listed
far ns_add $FAR 1 far0 $UUID1
far listener_add $FAR $FARPORT
far host_add $FAR $HOSTNQN "$key" "$other"
keys_members "$key" "$other" # two members: the host's key, and the controller's
right=("${members[@]}")
keys_members "$wrong"
refused "authenticat|dhchap" attach
refused "authenticat" attach "${members[@]}"
attach "${right[0]}"
rpc bdev_nvme_detach_controller name=Far
attach "${right[@]}"
equal "devices" "$(jq -c . <<<"$RESULT")" '["Farn1"]'
rpc bdev_nvme_detach_controller name=Far

far target_end
