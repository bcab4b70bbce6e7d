# What a disk says of itself to sg3_utils, and persistent reservations between two initiators by sg_persist.
# target: host
. "$lib/iscsi.sh"

OTHER=iqn.2026-01.org.pollux-storage:otherhost

iscsi_begin
bdev_file file0 64
node_add $IQN $PORT1
lun_add $IQN 0 file0
attach $IQN $PORT1 0
first=$DEV

step "identity"
matches "INQUIRY" "$(sg_inq "$first")" "PQual=0 .*PDT=0.*version=0x0[67]"
pages=$(sg_vpd -p sv "$first")
for page in "Unit serial number" "Device identification" "Block limits" "Block device characteristics" "Logical block provisioning"; do
	matches "pages" "$pages" "$page"
	case $page in
	"Unit serial number") matches "$page" "$(sg_vpd -p sn "$first")" "Unit serial number: [^ ]+" ;;
	"Device identification") matches "$page" "$(sg_vpd -p di "$first")" "NAA.*0x6[0-9a-f]{31}" ;;
	"Block limits") matches "$page" "$(sg_vpd -p bl "$first")" "Maximum unmap LBA count: ([1-9]|-1 .unbounded)" ;;
	"Block device characteristics") matches "$page" "$(sg_vpd -p bdc "$first")" "Non-rotating medium" ;;
	"Logical block provisioning") matches "$page" "$(sg_vpd -p lbpv "$first")" "Unmap command supported \\(LBPU\\): 1" ;;
	esac
done
matches "READ CAPACITY" "$(sg_readcap -l "$first")" "lbpme=1.*Number of logical blocks=16384.*Logical block length=4096"
matches "REPORT LUNS" "$(sg_luns "$first")" "Lun list length = 8"
matches "target port groups" "$(sg_rtpg -d "$first")" "active/optimized"
matches "operation codes" "$(sg_opcodes "$first")" "Compare and write"
matches "mode pages" "$(sg_modes -a "$first")" "Caching"
sg_turs "$first"
sg_sync "$first"

step "COMPARE AND WRITE, WRITE SAME, UNMAP, VERIFY, GET LBA STATUS"
head -c 4096 /dev/urandom >block
dd if=block of="$first" bs=4k seek=8 oflag=direct conv=notrunc,nocreat status=none
head -c 4096 /dev/zero >zero
cat block zero >cw
sg_compare_and_write --in=cw --lba=8 --num=1 --xferlen=8192 "$first"
refused "iscompare" sg_compare_and_write --in=cw --lba=8 --num=1 --xferlen=8192 "$first"
sg_write_same --in=block --lba=100 --num=10 --16 "$first"
same_as() { # FILE LBA
	dd if="$first" of=copy bs=4k skip="$2" count=1 iflag=direct status=none
	cmp "$1" copy || fail "block $2 is not as $1"
}
same_as zero 8
same_as block 100
same_as block 109
sg_unmap --force --lba=100 --num=10 "$first"
same_as zero 104
sg_verify --lba=0 --count=64 "$first"

step "persistent reservations: another initiator's session"
iscsiadm -m iface -I other -o new >/dev/null
iscsiadm -m iface -I other -o update -n iface.initiatorname -v $OTHER >/dev/null
iscsiadm -m node -T $IQN -p "$ADDRESS:$PORT1" -I other -o new >/dev/null
node_login $IQN $PORT1 -I other
eventually 60 sessions_are $IQN 2
for session in $(sessions $IQN); do
	if reads "/sys/class/iscsi_session/$session/initiatorname" $OTHER; then await_disk "$session" 0; fi
done
second=$DEV
differs "the other session's disk" "$second" "$first"
write_to() { dd if=block of="$1" bs=4k count=1 oflag=direct conv=notrunc,nocreat status=none; }
sg_persist -n --out --register --param-sark=0xa1 "$first"
sg_persist -n --out --register --param-sark=0xb2 "$second"
keys() { sg_persist -n --in --read-keys "$1" | { grep -o '0x[ab][12]$' || true; } | tr '\n' ' '; }
equal "keys" "$(keys "$first")" "0xa1 0xb2 "
sg_persist -n --out --reserve --param-rk=0xa1 --prout-type=5 "$first"
matches "the reservation" "$(sg_persist -n --in --read-reservation "$second")" "Key ?= ?0xa1.*Write Exclusive, registrants only"
write_to "$second"
sg_persist -n --out --register --param-rk=0xb2 --param-sark=0 "$second"
refused "nvalid exchange|rror" write_to "$second"
dd if="$second" of=/dev/null bs=4k count=1 iflag=direct status=none
write_to "$first"
sg_persist -n --out --register --param-sark=0xb2 "$second"
sg_persist -n --out --preempt --param-rk=0xb2 --param-sark=0xa1 --prout-type=1 "$second"
refused "egistrations preempted" sg_persist -n --in --read-keys "$first"
equal "keys" "$(keys "$second")" "0xb2 "
refused "nvalid exchange|rror" write_to "$first"
write_to "$second"
sg_persist -n --out --clear --param-rk=0xb2 "$second"
equal "keys" "$(keys "$second")" ""
write_to "$first"
iscsi_end
