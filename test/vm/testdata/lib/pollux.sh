# pollux.sh: Pollux as the target, in the guest or on the machine that runs it (PLACE). The functions are
# those of nvmet.sh; what is to be said to the engine, they say in its control interface.

case $PLACE in
host)
	# engine_test.go listens at the other end of this serial line, and does there what the functions
	# engine_... below do here.
	for port in /sys/class/virtio-ports/*; do
		if reads "$port/name" engine; then line=/dev/${port##*/}; fi
	done
	exec 7<>"$line"
	# engine WORD...: the words go one a line, an empty one ends them. Back come the lines of the output,
	# each behind a bar, and the status.
	engine() {
		local answer
		printf '%s\n' "$@" '' >&7
		while read -r answer <&7; do
			case $answer in
			"|"*) printf '%s\n' "${answer#|}" ;;
			*) return "$answer" ;;
			esac
		done
		fail "the machine does not answer"
	}
	ADDRESS=10.0.2.2
	INTERFACE=eth0
	PORT1=$HOST_PORT1 PORT2=$HOST_PORT2
	folder=$HOST_FOLDER
	;;
guest)
	engine() {
		local verb=$1
		shift
		"engine_$verb" "$@"
	}
	ADDRESS=127.0.0.1
	INTERFACE=lo
	PORT1=4420 PORT2=4421
	CORES=0
	folder=/run/pollux
	mkdir -p $folder
	;;
esac

# engine start [OPTION...]: the engine runs, and has said so.
engine_start() {
	: >$folder/ready # what the one before said must not be taken for this one's
	"$POLLUX" serve --rpc-socket $folder/socket --cores "$CORES" --idle interrupt "$@" >$folder/ready 2>>"$JOB/engine.log" &
	ENGINE=$!
	eventually 60 engine_ready
}

engine_ready() {
	if ended "$ENGINE"; then fail "the engine ended: $(tail -n 20 "$JOB/engine.log")"; fi
	grep -q ready $folder/ready
}

# engine signal NAME
engine_signal() { kill -s "$1" "$ENGINE"; }

# engine wait: until it has ended; the status is its own.
engine_wait() { wait "$ENGINE"; }

# engine rpc METHOD JSON
engine_rpc() { "$POLLUX" rpc --socket $folder/socket "$@"; }

# engine run COMMAND...: beside the engine.
engine_run() { "$@"; }

# rpc METHOD [MEMBER...]: call it, with an object of those members: key=text, or key:=JSON. Its result is left in
# RESULT.
rpc() {
	local method=$1
	shift
	RESULT=$(engine rpc "$method" "$(object "$@")" 2>&1) || fail "$method $(object "$@"): $RESULT"
}

object() {
	local member key value text=""
	for member in "$@"; do
		key=${member%%=*} value=${member#*=}
		case $key in
		*:) text+=",\"${key%:}\":$value" ;;
		*) text+=",\"$key\":\"$value\"" ;;
		esac
	done
	echo "{${text#,}}"
}

# address PORT [ADDRESS]
address() {
	local address=${2:-$LISTEN}
	object trtype="${TRANSPORT^^}" adrfam="$(family "$address")" traddr="$address" trsvcid="$1"
}

# target_pinned: how much memory is registered with cards, by an engine in the guest.
target_pinned() { sed -n 's/^VmPin:[[:space:]]*//p' "/proc/$ENGINE/status"; }

target_begin() {
	: >"$JOB/engine.log"
	engine run mkdir -p "$folder/disks"
	target_restart
}

target_end() {
	target_stop
	# A crash on order takes its status with it, but not its log.
	if grep -E "DATA RACE|^panic:|^fatal error:" "$JOB/engine.log"; then fail "the engine is not well"; fi
	engine run rm -rf "$folder/disks"
	null_block_remove_all
}

# target_stop: told to end, the engine ends well.
target_stop() {
	local status=0
	engine signal TERM
	engine wait || status=$?
	equal "status of the engine that was told to end" $status 0
}

target_crash() {
	engine signal KILL
	engine wait || true
}

target_restart() {
	engine start
	transport_add
}

# transport_add: the target can be reached over TRANSPORT.
transport_add() { rpc nvmf_create_transport trtype="${TRANSPORT^^}"; }

# target_keep_config: what target_start_kept starts with.
target_keep_config() {
	engine run sh -c '"$1" config save --socket "$2" >"$3"' sh "$POLLUX" "$folder/socket" "$folder/disks/config.json"
}

# target_start_kept: all that the target served comes back with its start.
target_start_kept() { engine start --config "$folder/disks/config.json"; }

target_freeze() { engine signal STOP; }

target_thaw() { engine signal CONT; }

target_report() {
	echo "--- the engine's log"
	tail -n 200 "$JOB/engine.log"
}

target_is_idle() {
	local method
	for method in nvmf_subsystem_get_controllers nvmf_subsystem_get_qpairs; do
		rpc $method nqn="$1"
		[ "$RESULT" = "[]" ] || return 1
	done
}

target_connections() {
	rpc nvmf_subsystem_get_qpairs nqn="$1"
	jq length <<<"$RESULT"
}

bdev_block() { rpc bdev_uring_create name="$1" filename="$2"; }

bdev_memory() {
	rpc bdev_malloc_create name="$1" num_blocks:=$(($2 * 1048576 / $3)) block_size:="$3"
}

bdev_file() {
	engine run test -e "$folder/disks/$1" || engine run truncate -s "$2M" "$folder/disks/$1"
	rpc bdev_uring_create name="$1" filename="$folder/disks/$1" block_size:=4096
}

bdev_file_used() { engine run du -k "$folder/disks/$1" | cut -f 1; }

bdev_file_resize() {
	engine run truncate -s "$2M" "$folder/disks/$1"
	rpc bdev_uring_rescan name="$1"
}

subsystem_add() {
	local any=false
	if [ "$2" = any ]; then any=true; fi
	rpc nvmf_create_subsystem nqn="$1" serial_number="$SERIAL" model_number="$MODEL" allow_any_host:=$any \
		ana_reporting:=true
}

subsystem_remove() { rpc nvmf_delete_subsystem nqn="$1"; }

ns_add() {
	local group=()
	if [ -n "${5:-}" ]; then group=(anagrpid:="$5"); fi
	rpc nvmf_subsystem_add_ns nqn="$1" namespace:="$(object nsid:="$2" bdev_name="$3" uuid="$4" "${group[@]}")"
}

# ns_add_protectable NQN NSID BDEV UUID: one that a host can write protect, which lasts over a restart of the target.
ns_add_protectable() {
	rpc nvmf_subsystem_add_ns nqn="$1" namespace:="$(object nsid:="$2" bdev_name="$3" uuid="$4" write_protect_file="$folder/disks/$3.protection")"
}

ns_remove() { rpc nvmf_subsystem_remove_ns nqn="$1" nsid:="$2"; }

listener_add() { rpc nvmf_subsystem_add_listener nqn="$1" listen_address:="$(address "${@:2}")"; }

listener_remove() { rpc nvmf_subsystem_remove_listener nqn="$1" listen_address:="$(address "${@:2}")"; }

referral_add() { rpc nvmf_discovery_add_referral address:="$(address "$2" "$1")"; }

referral_remove() { rpc nvmf_discovery_remove_referral address:="$(address "$2" "$1")"; }

ana_set() {
	rpc nvmf_subsystem_listener_set_ana_state nqn="$1" listen_address:="$(address "$2")" anagrpid:="$3" ana_state="$4"
}

host_add() {
	keys_members "${@:3}"
	rpc nvmf_subsystem_add_host nqn="$1" host="$2" "${members[@]}"
}

host_keys() {
	keys_members "${@:3}"
	rpc nvmf_subsystem_set_keys nqn="$1" host="$2" "${members[@]}"
}

# keys_members [KEY [CONTROLLER-KEY]]: the keys are in files that only the engine's user can read, under names
# in its keyring; those names are left in members.
keys_members() {
	local member
	members=()
	for member in dhchap_key dhchap_ctrlr_key; do
		[ $# -gt 0 ] || return 0
		keys=$((${keys:-0} + 1))
		engine run sh -c 'umask 077; echo "$1" >"$2"' sh "$1" "$folder/disks/key$keys"
		rpc keyring_file_add_key name=key$keys path="$folder/disks/key$keys"
		members+=("$member=key$keys")
		shift
	done
}

host_remove() { rpc nvmf_subsystem_remove_host nqn="$1" host="$2"; }

# authentications_ended NQN: on no queue the host is just about to prove its name.
authentications_ended() {
	rpc nvmf_subsystem_get_qpairs nqn="$1"
	jq -e 'all(.auth.state == "completed")' <<<"$RESULT" >/dev/null
}

# queues_authenticated NQN COUNT: so many queues there are, and on each the host has proved its name.
queues_authenticated() {
	rpc nvmf_subsystem_get_qpairs nqn="$1"
	equal "queues" "$(jq length <<<"$RESULT")" "$2"
	equal "how they were authenticated" "$(jq -r '[.[].auth.state] | unique | join(" ")' <<<"$RESULT")" completed
}
