package iscsi

import (
	"bytes"
	"testing"
)

// FuzzCommand sends any CDB with any data: it is answered once, asks for no more than there is, gives no more than is wanted, and changes no block
// that it does not name.
func FuzzCommand(f *testing.F) {
	for i := range cdbRules {
		cdb := append([]byte(cdbRules[i].usage), make([]byte, 16-len(cdbRules[i].usage))...)
		for _, zero := range []bool{false, true} {
			b := bytes.Clone(cdb)
			if zero {
				clear(b[2:])
			}
			clear(b[len(cdbRules[i].usage)-1:])
			f.Add(b, uint16(512), byte(1), make([]byte, 512))
			f.Add(b, uint16(512), byte(2), make([]byte, 512))
		}
	}
	f.Add(cdb10(0x42, 0, 0, 24), uint16(24), byte(2), unmapList([2]uint64{3, 5}))
	f.Add(cdb16(0x83, 0, 0, 76), uint16(76), byte(2), copyList(1, 0, 1, [3]uint64{1, 30, 4}))
	f.Add([]byte{0x15, 0x10, 0, 0, 16, 0, 15: 0}, uint16(16), byte(2), []byte{4: 0x0A, 5: 0x0A, 6: 0x04, 7: 0x10, 15: 0})
	const blocks = 64
	g := newRigOf(f, 512, blocks)
	g.attachMem(1, "Mem1", 4096)
	g.quiet()
	for _, lun := range []byte{0, 1} {
		list := g.crossList(1, []int{1, 0}, crossing{1, 0, 0, 8, 2, 16}, crossing{0, 1, 0, 2, 40, 1}, crossing{0, 0, 2, 1, 5, 2})
		f.Add(cdb16(0x83, 0, 0, uint32(len(list))), uint16(len(list)), lun<<3|2, list)
	}
	f.Add(cdb16(0x9E, 0x12, 3, 512), uint16(512), byte(1), []byte{})
	before := make([]byte, blocks*512)
	f.Fuzz(func(t *testing.T, cdb []byte, edtl uint16, direction byte, data []byte) {
		g.TB = t
		if len(cdb) > 16 {
			return
		}
		var whole CDB
		copy(whole[:], cdb)
		r, _ := ruleOf(&whole)
		if r != nil && r.is(reserves) { // they need more than a unit
			return
		}
		g.write(0, bytes.Repeat([]byte{0xA5}, blocks*512))
		copy(before, g.read(0, blocks))
		x := g.do(cdb, func(x *exchange) {
			x.reads, x.writes, x.tooBig = direction&1 != 0, direction&3 == 2, direction&4 != 0
			x.lun = lunOf(int(direction >> 3 & 3))
			x.edtl, x.brings = uint32(edtl), append(data, make([]byte, int(edtl))...)[:edtl]
		})
		for _, u := range g.nexus.units {
			u.unit.modes.set(^uint32(0), 0)
		}
		g.rest("a command")
		g.quiet()
		after := g.read(0, blocks)
		if r != nil && r.opcode() == 0x83 || x.lun != 0 { // what it changes is in its data, or elsewhere
			return
		}
		if r == nil || !r.is(writes) || x.status != Good {
			if !bytes.Equal(after, before) && (r == nil || !r.is(writes)) {
				t.Fatalf("%x changed the medium", x.cdb)
			}
			return
		}
		if r.opcode() == 0x42 { // the ranges are in the data
			return
		}
		if x.lba+x.blocks > blocks {
			t.Fatalf("%x is good, and goes past the end", x.cdb)
		}
		from, to := x.lba*512, (x.lba+x.blocks)*512
		if !bytes.Equal(after[:from], before[:from]) || !bytes.Equal(after[to:], before[to:]) {
			t.Fatalf("%x changed a block outside its range", x.cdb)
		}
	})
}
