# iscsi.sh: the host's side of iSCSI, which is this guest's kernel and open-iscsi, and the target's side in two versions with the same
# functions: pollux-iscsi.sh, and lio.sh for the kernel's own target. A scenario sources it, and calls iscsi_begin and iscsi_end.

IQN=iqn.2026-01.org.pollux-storage:test
INITIATOR=iqn.2026-01.org.pollux-storage:host

case $TARGET in
pollux) . "$lib/pollux-iscsi.sh" ;;
nvmet) . "$lib/lio.sh" ;;
esac

# iscsi_begin: open-iscsi's daemon runs, with no record of any target. Times are long, because an emulated CPU on a busy machine may be late
# by seconds; a scenario that is about them gives its own. The kernel keeps what is in flight for ten minutes while a session is away.
iscsi_begin() {
	modprobe -a iscsi_tcp sd_mod sg scsi_dh_alua
	iscsi_target_begin
	mkdir -p /etc/iscsi /run/lock/iscsi
	rm -rf /etc/iscsi/nodes /etc/iscsi/send_targets /etc/iscsi/ifaces /var/lib/iscsi
	echo "InitiatorName=$INITIATOR" >/etc/iscsi/initiatorname.iscsi
	cat >/etc/iscsi/iscsid.conf <<-END
		node.startup = manual
		node.session.timeo.replacement_timeout = 600
		node.conn[0].timeo.login_timeout = 60
		node.conn[0].timeo.logout_timeout = 60
		node.conn[0].timeo.noop_out_interval = 20
		node.conn[0].timeo.noop_out_timeout = 40
		node.session.err_timeo.abort_timeout = 60
		node.session.err_timeo.lu_reset_timeout = 60
		node.session.initial_login_retry_max = 3
		node.session.queue_depth = 32
		node.session.scan = auto
	END
	# At its end it ends its whole process group.
	setsid iscsid -f -d 0 >iscsid.log 2>&1 &
	ISCSID=$!
	eventually 60 iscsid_listens
}

# iscsid_listens: iscsiadm reaches it, at the socket that both know. Asked for the sessions, iscsiadm has them from sysfs.
iscsid_listens() {
	if ended $ISCSID; then fail "iscsid ended: $(cat iscsid.log)"; fi
	grep -q ' 00010000 .* @ISCSIADM_ABSTRACT_NAMESPACE$' /proc/net/unix # __SO_ACCEPTCON: it listens
}

# iscsi_end: open-iscsi's daemon is told to end by a message. Of a signal it takes note, but sleeps on for ever where that came between its
# last look and its poll(2).
iscsi_end() {
	iscsi_logout_all
	iscsiadm -k 0
	eventually 60 ended $ISCSID
	iscsi_target_end
}

iscsi_logout_all() {
	if ! no_sessions; then iscsiadm -m node -u >/dev/null; fi
	eventually 60 no_sessions
}

no_sessions() {
	local all=(/sys/class/iscsi_session/session*)
	[ ${#all[@]} = 0 ]
}

iscsi_report() {
	echo "--- sessions, and what iscsid said"
	iscsiadm -m session -P 3
	cat "$tmp"/iscsid.log
	if [ -e "$tmp/multipathd.log" ]; then
		echo "--- multipathd"
		multipath -ll
		tail -n 60 "$tmp/multipathd.log"
	fi
}

# node_new IQN PORT [NAME=VALUE...]: a record of a target, as discovery would make it.
node_new() {
	local iqn=$1 port=$2 setting
	shift 2
	iscsiadm -m node -T "$iqn" -p "$ADDRESS:$port" -o new >/dev/null
	for setting in "$@"; do node_set "$iqn" "$port" "$setting"; done
}

node_set() { iscsiadm -m node -T "$1" -p "$ADDRESS:$2" -o update -n "${3%%=*}" -v "${3#*=}"; }

# node_login IQN PORT [OPTION...]
node_login() { iscsiadm -m node -T "$1" -p "$ADDRESS:$2" "${@:3}" --login >/dev/null; }

# node_logout IQN PORT [OPTION...]
node_logout() { iscsiadm -m node -T "$1" -p "$ADDRESS:$2" "${@:3}" --logout >/dev/null; }

# chap_settings USER SECRET [TARGET-USER TARGET-SECRET]: as node_new takes them, in CHAP.
chap_settings() {
	CHAP=(node.session.auth.authmethod=CHAP node.session.auth.username="$1" node.session.auth.password="$2")
	[ $# -lt 3 ] || CHAP+=(node.session.auth.username_in="$3" node.session.auth.password_in="$4")
}

# sessions IQN: the names of its sessions.
sessions() {
	local session
	for session in /sys/class/iscsi_session/session*; do
		if reads "$session/targetname" "$1"; then echo "${session##*/}"; fi
	done
}

sessions_are() { [ "$(sessions "$1" | wc -l)" = "$2" ]; }

# logged_in SESSION, away SESSION
logged_in() { reads "/sys/class/iscsi_session/$1/state" LOGGED_IN; }
away() { ! logged_in "$1"; }

# disks_of SESSION LUN: the names of the disks that it shows.
disks_of() {
	local disk
	for disk in "/sys/class/iscsi_session/$1/device"/target*/*:*:*:"$2"/block/sd*; do echo "${disk##*/}"; done
}

has_disk() { [ -n "$(disks_of "$1" "$2")" ]; }

# await_disk SESSION LUN: wait for it, and leave its name in DISK and its path in DEV.
await_disk() {
	eventually 60 has_disk "$1" "$2"
	DISK=$(disks_of "$1" "$2")
	DEV=/dev/$DISK
	eventually 60 opens "$DEV"
}

# attach IQN PORT LUN [NAME=VALUE...]: make a record, log in, and wait for the disk; the session is left in SESSION.
attach() {
	local before
	before=$(sessions "$1")
	node_new "$1" "$2" "${@:4}"
	node_login "$1" "$2"
	SESSION=$(comm -13 <(sort <<<"$before") <(sessions "$1" | sort))
	await_disk "$SESSION" "$3"
}
