# open-iscsi finds a target and logs in: discovery, CHAP one way and both ways, for discovery too, digests, and several sessions at a time.
# The target is in the guest, so that the addresses that discovery tells are the ones that a host can reach.
# target: guest
. "$lib/iscsi.sh"

iscsi_begin
bdev_memory mem0 16 512
bdev_memory mem1 16 4096
node_add $IQN $PORT1 $PORT2
lun_add $IQN 0 mem0
lun_add $IQN 1 mem1
discover() { iscsiadm -m discovery -t sendtargets -p "$ADDRESS:$PORT1" -o new "$@"; }

step "discovery tells of every portal"
equal "what is found" "$(discover | sort)" "$ADDRESS:$PORT1,1 $IQN
$ADDRESS:$PORT2,2 $IQN"

step "logged in by both: two sessions, each with both disks"
iscsiadm -m node -T $IQN --login >/dev/null
eventually 60 sessions_are $IQN 2
for session in $(sessions $IQN); do
	await_disk "$session" 1
	equal "block size of LUN 1" "$(cat "/sys/block/$DISK/queue/logical_block_size")" 4096
	await_disk "$session" 0
	equal "block size of LUN 0" "$(cat "/sys/block/$DISK/queue/logical_block_size")" 512
	equal "bytes of LUN 0" "$(bytes_of "$DEV")" 16777216
done
fio_verify "$DEV" --size=1m
iscsi_logout_all

step "several sessions by one portal"
node_set $IQN $PORT1 node.session.nr_sessions=3
node_login $IQN $PORT1
eventually 60 sessions_are $IQN 3
for session in $(sessions $IQN); do
	await_disk "$session" 0
	fio_verify "$DEV" --size=256k
done
iscsi_logout_all
node_set $IQN $PORT1 node.session.nr_sessions=1

step "digests of headers and of data"
node_set $IQN $PORT1 "node.conn[0].iscsi.HeaderDigest=CRC32C,None"
node_set $IQN $PORT1 "node.conn[0].iscsi.DataDigest=CRC32C,None"
node_login $IQN $PORT1
matches "what was agreed on" "$(iscsiadm -m session -P 2)" "HeaderDigest: CRC32C.*DataDigest: CRC32C"
await_disk "$(sessions $IQN)" 0
fio_verify "$DEV" --size=1m
iscsi_logout_all
node_set $IQN $PORT1 "node.conn[0].iscsi.HeaderDigest=None"
node_set $IQN $PORT1 "node.conn[0].iscsi.DataDigest=None"

step "CHAP: refused without, refused with a wrong secret, and taken"
node_chap $IQN user initiatorsecret
refused "authorization failure|login failed" node_login $IQN $PORT1
chap_settings user wrongwrongwrong
for setting in "${CHAP[@]}"; do node_set $IQN $PORT1 "$setting"; done
refused "authorization failure|login failed" node_login $IQN $PORT1
equal "sessions" "$(sessions $IQN)" ""
node_set $IQN $PORT1 node.session.auth.password=initiatorsecret
node_login $IQN $PORT1
await_disk "$(sessions $IQN)" 0
fio_verify "$DEV" --size=256k
iscsi_logout_all

step "CHAP both ways: a target that does not know its own secret is refused by the host"
node_chap $IQN user initiatorsecret target targetssecret
chap_settings user initiatorsecret target wrongwrongwrong
for setting in "${CHAP[@]}"; do node_set $IQN $PORT1 "$setting"; done
refused "authorization failure|login failed|failure" node_login $IQN $PORT1
node_set $IQN $PORT1 node.session.auth.password_in=targetssecret
node_login $IQN $PORT1
await_disk "$(sessions $IQN)" 0
fio_verify "$DEV" --size=256k
iscsi_logout_all

step "CHAP for discovery"
discovery_chap user initiatorsecret
refused "authorization failure|login failed|discovery login" discover
cat >>/etc/iscsi/iscsid.conf <<-END
	discovery.sendtargets.auth.authmethod = CHAP
	discovery.sendtargets.auth.username = user
	discovery.sendtargets.auth.password = initiatorsecret
END
equal "what is found" "$(discover | sort)" "$ADDRESS:$PORT1,1 $IQN
$ADDRESS:$PORT2,2 $IQN"
iscsi_end
