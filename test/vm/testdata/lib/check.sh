# check.sh: what a scenario says and asserts. Every assertion names what it is about, and shows what came
# instead of what was to come.

# step TEXT: what happens next, with the guest's uptime.
step() {
	local up
	read -r up _ </proc/uptime
	printf '\n%7.1f  %s\n' "$up" "$*"
}

fail() {
	echo "NOT SO: $*" >&2
	exit 1
}

# equal WHAT GOT WANT
equal() {
	[ "$2" = "$3" ] || fail "$1 is '$2', and should be '$3'"
	echo "         $1: $2"
}

# differs WHAT GOT OTHER
differs() {
	[ "$2" != "$3" ] || fail "$1 is '$2', and should have changed"
	echo "         $1: $2"
}

# matches WHAT GOT REGEX (extended; anywhere in GOT)
matches() {
	[[ $2 =~ $3 ]] || fail "$1 is '$2', and should match '$3'"
	echo "         $1: $2"
}

# within WHAT GOT MIN MAX
within() {
	[ "$2" -ge "$3" ] && [ "$2" -le "$4" ] || fail "$1 is $2, and should be from $3 to $4"
	echo "         $1: $2"
}

# refused REGEX COMMAND...: the command fails, and says why.
refused() {
	local regex=$1 said
	shift
	if said=$("$@" 2>&1); then
		fail "'$*' succeeded, and should have been refused. It said: $said"
	fi
	matches "refusal of '$*'" "$said" "$regex"
}

# nap: a tenth of a second, without a process: making one takes the emulated CPU a tenth of that.
exec {nothing}<> <(:)
nap() { read -rt 0.1 -u "$nothing" || true; }

# eventually SECONDS COMMAND...: the command succeeds within that time. The time is there to end a
# scenario that hangs: it asserts nothing of speed.
eventually() {
	local limit=$1 end
	shift
	end=$((SECONDS + limit))
	until "$@"; do
		[ $SECONDS -lt $end ] || fail "not within $limit s: $*"
		nap
	done
}

# reads FILE VALUE: the file's line is this value now.
reads() {
	local value=""
	{ read -r value <"$1" || [ -n "$value" ]; } 2>/dev/null && [ "$value" = "$2" ]
}

# has_lines FILE COUNT: so many lines, or more, are in it, each whole.
has_lines() {
	local line
	mapfile -s $(($2 - 1)) -n 1 line <"$1"
	[[ ${line[0]-} == *$'\n' ]]
}

absent() { [ ! -e "$1" ]; }

# said REGEX: the kernel's log has such a line since the scenario began.
said() { grep -qE -- "$1" <(dmesg); }

# kernel_is_well: nothing in the kernel's log that no peer may cause.
kernel_is_well() {
	local bad
	bad=$(dmesg | grep -E 'WARNING:|BUG:|Oops|Call Trace|blocked for more than|refcount_t|general protection' || true)
	[ -z "$bad" ] || fail "the kernel is not well: $bad"
}

# load ARRAY COMMAND...: (ARRAY is declared) every value in the JSON that the command prints, as ARRAY[path.to.it].
load() {
	local -n array=$1
	local json path value
	shift
	json=$("$@") || fail "'$*' ended with status $?: $json"
	array=()
	while IFS=$'\t' read -r path value; do
		array[$path]=$value
	done < <(jq -r 'paths(scalars) as $p | [($p | map(tostring) | join(".")), (getpath($p) | tostring)] | @tsv' <<<"$json")
	[ ${#array[@]} -gt 0 ] || fail "'$*' printed no JSON: $json"
}

# ended PID: that child of this shell has ended, and all its threads. Bash may not have taken its status yet: it leaves it until the next child ends, where it
# hears of this one just as it is done with waiting for another.
ended() {
	local stat
	{ read -r stat <"/proc/$1/stat"; } 2>/dev/null || return 0
	stat=(${stat##*) }) # from the third field on, the state; the 20th is the number of threads (proc(5))
	[ "${stat[0]}" = Z ] && [ "${stat[17]}" = 1 ]
}
