# I/O queues go to and fro between the engine's reactors while the host writes to them and verifies what it wrote, in capsules and by R2T, with
# digests and without: to the host it is a pause.
# target: host
# nvmet: no, its queues stay where they are
# limit: 600

subsystem_add $NQN any
bdev_memory mem0 64 4096
ns_add $NQN 1 mem0 $UUID1
listener_add $NQN $PORT1

# moves COUNT: so many rounds, in each of which every I/O queue of the controller is told where to go, by a program beside the engine.
moves() {
	local one='"$1" rpc --socket "$2" nvmf_subsystem_move_qpair "{\"nqn\":\"$5\",\"cntlid\":$6,\"qid\":$qid,\"thread\":\"reactor_$((i % $7))\",\"timeout_ms\":20000}"'
	engine run sh -c "for i in \$(seq \$3); do for qid in \$4; do $one || exit; done; done" sh \
		"$POLLUX" "$folder/socket" "$1" "$queues" $NQN "$cntlid" "$REACTORS"
}

for options in "" "-g -G"; do
	step "connected with the options '$options'"
	dmesg -C
	host_connect $NQN $PORT1 $options
	await_namespace $NQN 1
	rpc nvmf_subsystem_get_qpairs nqn=$NQN
	cntlid=$(jq '.[0].cntlid' <<<"$RESULT")
	queues=$(jq -r '[.[].qid | select(. > 0)] | join(" ")' <<<"$RESULT")
	io_begin "$DEV"

	for size in 4k,2m 512k,16m; do
		step "blocks of ${size%,*}, read and compared"
		moves 60 >moves.out 2>&1 &
		moving=$!
		fio_verify "$DEV" --offset=8m --bs=${size%,*} --size=${size#*,} --iodepth=8
		wait $moving || fail "a move failed: $(cat moves.out)"
		io_goes_on
	done

	io_end
	equal "the controller" "$(controller state)" live
	if said "error recovery|reconnect|digest (error|mismatch)|I/O.*(timeout|error)"; then fail "the host noticed more than a pause"; fi
	host_disconnect $NQN
done

step "queues have moved"
rpc nvmf_get_stats
moved=$(jq '[.poll_groups[].io_qpairs_moved_in] | add' <<<"$RESULT")
within "moves" "$moved" $((REACTORS > 1 ? 200 : 0)) 100000
