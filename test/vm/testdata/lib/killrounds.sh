# killrounds.sh: a file system on a volume whose engine ends under it, one way or another.
#
# In each round files are written, and each is noted when its fsync has returned. Then
#
#	the engine is killed, starts again, the host comes back by itself, and the writers go on: for them it was a pause
#	the host crashes: the file system is shut down without its log being flushed, and nothing of it is left in memory
#	it is mounted, which replays its log; every file that was noted has every byte; then it is checked whole
. "$lib/rounds.sh"

# file_system_rounds TYPE MIB MKFS CHECK [CRASH]: MKFS and CHECK are commands to which the device is added, CRASH what happens under the writers.
file_system_rounds() {
	local type=$1 make=$3 check=$4 crash=${5:-engine_then_host} cache round
	volumes_begin "$2"
	sources_make
	for cache in none volatile; do
		mkdir "$cache"
		$make "${DEVICE[$cache]}"
		mount -t "$type" "${DEVICE[$cache]}" "$cache"
		mkdir "$cache/synced" "$cache/moving"
		cp sources/block0 "$cache/block"
		sync -f "$cache"
		umount "$cache"
		: >"$cache.notes"
		echo "done 0" >"$cache.block"
	done
	for round in $(seq "$ROUNDS"); do
		cache=$(cache_in "$round")
		step "round $round, write cache $cache"
		mount -t "$type" "${DEVICE[$cache]}" "$cache"
		forget_old_files "$cache"
		: >"$cache.said"
		writers_begin "$cache"
		noted_more "$cache" 3
		pause_at_random 300
		$crash "$cache"
		mount -t "$type" "${DEVICE[$cache]}" "$cache"
		files_are_whole "$cache"
		umount "$cache"
		$check "${DEVICE[$cache]}" >check.out 2>&1 || fail "'$check' finds the file system damaged: $(cat check.out)"
	done
	for cache in none volatile; do
		within "files that were synced and found, write cache $cache" "$(wc -l <"$cache.notes")" $((ROUNDS / 2 * 3)) 1000000000
	done
}

# engine_then_host CACHE: the engine is killed, the writers go on, and the host crashes.
engine_then_host() {
	kill_engine
	noted_more "$1" 2
	# (An fsync that ext4 is shut down under may return 0, of a commit that was dropped.)
	notes_count "$1"
	xfs_io -x -c shutdown "$1"
	writers_end "$1"
	umount "$1"
}

# notes_count CACHE: what was noted up to now counts; what comes until writers_end does not.
notes_count() {
	cp "$1.notes" "$1.counts"
	BLOCK_FROM=$(($(wc -l <"$1.block") - 1))
}

# sources_make: in memory 32 files of different sizes, and 16 blocks of 4 KiB, 0 to f. Their sums are in SUM and BLOCK.
declare -A SUM BLOCK
sources_make() {
	local i sum name
	mkdir sources
	head -c 8388608 /dev/urandom >random
	for i in $(seq 0 31); do
		dd if=random of=sources/$i bs=64k iflag=skip_bytes,count_bytes skip=$((i * 199999)) count=$((4096 + i * i * 237)) status=none
	done
	head -c 65536 random | split -b 4096 -a 1 --hex-suffixes - sources/block
	while read -r sum name; do
		case $name in
		block*) BLOCK[${name#block}]=$sum ;;
		*) SUM[$name]=$sum ;;
		esac
	done < <(cd sources && md5sum ./* | sed 's:\./::')
}

# writers_begin CACHE: three writers, until the file system fails them or CACHE.stop is there. Notes are in memory, and the host's: they outlast what fails.
writers_begin() {
	WRITERS=()
	rm -f "$1.stop"
	local writer
	for writer in write_synced write_block write_moving; do
		(
			trap - ERR EXIT
			no_broken_pipe
			set +e
			"$writer" "$1" 2>>"$1.said"
			echo "$writer ended with status $?" >>"$1.said"
		) &
		WRITERS+=($!)
	done
}

writers_end() {
	local pid
	for pid in "${WRITERS[@]}"; do
		eventually 120 ended "$pid"
	done
	mv "$1.counts" "$1.notes"
}

# write_synced: new files. One is noted when it was synced.
write_synced() {
	local n=0 source
	n=$(tail -n 1 "$1.notes" | cut -d ' ' -f 1)
	while [ ! -e "$1.stop" ]; do
		n=$((n + 1)) source=$((RANDOM % 32))
		dd if=sources/$source of="$1/synced/$n" bs=64k conv=fsync status=none || return
		echo "$n $source" >>"$1.notes"
	done
}

# write_block: one block, written over and over, each time durably.
write_block() {
	local source
	while [ ! -e "$1.stop" ]; do
		printf -v source %x $((RANDOM % 16))
		echo "begun $source" >>"$1.block"
		dd if=sources/block$source of="$1/block" bs=4k conv=notrunc,nocreat oflag=direct,dsync status=none || return
		echo "done $source" >>"$1.block"
	done
}

# write_moving: what nobody syncs: files are made, renamed and removed. It waits in between, or the others would wait for the processor most of the time.
write_moving() {
	local n=0
	while [ ! -e "$1.stop" ]; do
		n=$((n + 1))
		cp sources/$((RANDOM % 32)) "$1/moving/$((n % 16))" || return
		mv -f "$1/moving/$((n % 16))" "$1/moving/$((16 + RANDOM % 16))" || return
		[ $((n % 4)) != 0 ] || rm -f "$1/moving/$((16 + RANDOM % 16))" || return
		nap
	done
}

# noted_more CACHE COUNT: so many more files were synced, from now on.
noted_more() {
	local from
	from=$(wc -l <"$1.notes")
	eventually 120 has_notes "$1" $((from + $2))
}

has_notes() {
	[ ! -s "$1.said" ] || fail "a writer met an error: $(cat "$1.said")"
	has_lines "$1.notes" "$2"
}

# files_are_whole CACHE: every file noted, and not removed since, has every byte; the block is the one that was durable
# when the notes counted, or a later one.
files_are_whole() {
	local n source sum allowed
	while read -r n source; do
		[ "$n" -le "${REMOVED[$1]:-0}" ] || echo "${SUM[$source]}  $1/synced/$n"
	done <"$1.notes" >sums
	md5sum --quiet -c sums >wrong 2>&1 || fail "files that were synced are not whole: $(cat wrong)"
	echo "         files that were synced, and are whole: $(wc -l <sums)"
	sum=$(md5sum <"$1/block")
	allowed=$(tail -n "+$BLOCK_FROM" "$1.block" | while read -r _ source; do echo "${BLOCK[$source]}"; done)
	[[ $allowed == *"${sum%% *}"* ]] || fail "the block that was written durably is none of these: $(tail -n "+$BLOCK_FROM" "$1.block"); it is number $(block_named "${sum%% *}")"
	echo "done $(block_named "${sum%% *}")" >>"$1.block"
}

block_named() {
	local i
	for i in "${!BLOCK[@]}"; do
		[ "${BLOCK[$i]}" != "$1" ] || { echo "$i"; return; }
	done
	echo "none"
}

# forget_old_files CACHE: all but the last 64 are removed, so that a file is looked at in several rounds, and there is space for thousands.
declare -A REMOVED
forget_old_files() {
	local last n
	last=$(tail -n 1 "$1.notes" | cut -d ' ' -f 1)
	[ $((${last:-0} - 64)) -gt "${REMOVED[$1]:-0}" ] || return 0
	for ((n = ${REMOVED[$1]:-0} + 1; n <= last - 64; n++)); do
		echo "$1/synced/$n"
	done | xargs rm
	REMOVED[$1]=$((last - 64))
}
