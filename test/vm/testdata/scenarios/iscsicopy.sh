# What a thin unit says is mapped, and copies from one unit to another that the target makes by itself, by sg3_utils; a pool that fills up.
# target: host
# nvmet: no, LIO has no GET LBA STATUS and no pools
. "$lib/iscsi.sh"

iscsi_begin
bdev_file file0 64
bdev_file disk 256
rpc pool_create name=pool0 device=disk
rpc volume_create pool=pool0 name=vol bytes:=$((64 << 20)) log_bytes:=$((32 << 20))
node_add $IQN $PORT1
lun_add $IQN 0 file0
lun_add $IQN 1 pool0/vol
attach $IQN $PORT1 1
thin=$DEV
await_disk "$SESSION" 0
thick=$DEV
generic() { echo "/dev/$(ls "/sys/block/${1##*/}/device/scsi_generic")"; } # sg_xcopy finds it by itself only with udev
xcopy() { sg_xcopy if="$(generic "$thick")" of="$(generic "$thin")" bs=4096 "$@"; }
extents() { sg_get_lba_status --brief --maxlen=4096 --lba="$1" "$thin"; }

step "nothing is mapped of a thin unit that was never written"
matches "the unit" "$(extents 0)" "0x0+ +0x4000 +1\b"

step "EXTENDED COPY to it, by one unit and the other"
head -c $((600 * 4096)) /dev/urandom >data
dd if=data of="$thick" bs=4k seek=8 oflag=direct conv=notrunc,nocreat status=none
xcopy count=600 skip=8 seek=100 --on_dst
dd if="$thin" of=copy bs=4k skip=100 count=600 iflag=direct status=none
cmp data copy || fail "the copy is another"
xcopy count=600 skip=8 seek=4000 --on_src
dd if="$thin" of=copy bs=4k skip=4000 count=600 iflag=direct status=none
cmp data copy || fail "the copy that the source made is another"

step "GET LBA STATUS names what was copied, and what is unmapped again"
said=$(extents 0)
matches "before the copy" "$said" "0x0+ +0x64 +1\b"
matches "the copy" "$said" "0x0*64 +0x258 +0\b"
sg_unmap --force --lba=200 --num=16 "$thin"
said=$(extents 200)
matches "what was unmapped" "$said" "0x0*c8 +0x10 +1\b"

step "the pool fills up, and the host hears it"
rpc volume_create pool=pool0 name=thick bytes:=$((140 << 20)) log_bytes:=$((32 << 20)) thick:=true
hears() { sg_requests "$thin" 2>&1 | grep -i "soft threshold reached"; }
eventually 60 hears
dd if="$thin" of=/dev/null bs=4k count=1 iflag=direct status=none
sg_turs "$thin"
iscsi_end
