package iscsi

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"strings"
	"testing"

	"github.com/pollux-storage/pollux/bdev"
)

func (g *rig) lbaStatus(lba uint64, n int) *exchange {
	return g.do(cdb16(0x9E, 0x12, lba, uint32(n)), wants(n))
}

// statuses writes descriptors as "LBA+blocks" and M or D, after the length that the data says.
func statuses(b []byte) string {
	out := []string{fmt.Sprint(binary.BigEndian.Uint32(b))}
	for b = b[lbaStatusHeaderBytes:]; len(b) >= lbaStatusDescriptorBytes; b = b[lbaStatusDescriptorBytes:] {
		out = append(out, fmt.Sprintf("%d+%d%c", binary.BigEndian.Uint64(b), binary.BigEndian.Uint32(b[8:]), "MD"[b[12]]))
	}
	return strings.Join(out, " ")
}

func TestLBAStatus(t *testing.T) {
	g := newRig(t, 512)
	g.write(10, random(20*512))
	g.write(100, random(1*512))
	g.unmap(unmapList([2]uint64{15, 5})).Want("unmap", "good")
	for _, c := range []struct {
		lba  uint64
		room int
		want string
	}{
		{0, 1000, "116 0+10D 10+5M 15+5D 20+10M 30+70D 100+1M 101+3995D"},
		{12, 1000, "100 12+3M 15+5D 20+10M 30+70D 100+1M 101+3995D"},
		{17, 24, "20 17+3D"},
		{17, 39, "20 17+3D"},
		{17, 40, "36 17+3D 20+10M"},
		{0, 8, "20"},
		{4095, 1000, "20 4095+1D"},
	} {
		if got := statuses(g.lbaStatus(c.lba, c.room).Want("a thin device", "good").in); got != c.want {
			t.Errorf("from %d on, with room for %d: %s, want %s", c.lba, c.room, got, c.want)
		}
	}
	g.lbaStatus(0, 0).Want("no room", "good")
	g.lbaStatus(0, 3).Want("no room for the length", "good")
	g.lbaStatus(rigBlocks, 24).Want("past the end", "05/21/00")
	for i := range uint64(600) { // more than are told at once
		g.write(200+2*i, random(512))
	}
	x := g.lbaStatus(200, 1<<20).Want("many", "good")
	if n := lbaStatusHeaderBytes + lbaStatusMax*lbaStatusDescriptorBytes; len(x.in) != n || !strings.HasSuffix(statuses(x.in), "453+1D 454+1M") {
		t.Errorf("%d bytes: %s", len(x.in), statuses(x.in))
	}
}

// TestLBAStatusOfWhatCannotTell: all of it is mapped.
func TestLBAStatusOfWhatCannotTell(t *testing.T) {
	g := newRig(t, 512)
	g.reshape(func(q *bdev.Geometry) { q.Native &^= bdev.SetOf(bdev.Extent) })
	all := g.lbaStatus(5, 24).Want("a device that cannot tell", "good").in
	if !bytes.Equal(all, []byte{0, 0, 0, 20, 15: 5, 18: 0x0F, 19: 0xFB, 23: 0}) {
		t.Errorf("LBA 5 is %x", all)
	}
	if x := g.lbaStatus(5, 8).Want("a short allocation length", "good"); !bytes.Equal(x.in, all[:8]) {
		t.Errorf("LBA 5 in 8 bytes is %x", x.in)
	}
	g.lbaStatus(rigBlocks-1, 24).Want("the last block", "good")
	g.lbaStatus(rigBlocks, 24).Want("past the end", "05/21/00")
	g.reshape(func(q *bdev.Geometry) { q.Blocks = 1 << 40 })
	if got := statuses(g.lbaStatus(0, 24).Want("more than a descriptor holds", "good").in); got != "20 0+4294967295M" {
		t.Errorf("2^40 blocks are %s", got)
	}
	if got := statuses(g.lbaStatus(7, 40).Want("more than a descriptor holds", "good").in); got != "36 7+4294967295M 4294967302+4294967295M" {
		t.Errorf("2^40 blocks are %s", got)
	}
}

// TestLBAStatusJoinsAnswers: a device that tells little at once is asked until its answers fill the room; what is alike is one descriptor, though not more
// than one can hold, and it is not asked for ever.
func TestLBAStatusJoinsAnswers(t *testing.T) {
	g := newRigOf(t, 4096, 1<<16) // of which the device looks at 64 at once
	if got := statuses(g.lbaStatus(0, 1000).Want("nothing written", "good").in); got != "20 0+65536D" {
		t.Errorf("nothing written: %s", got)
	}
	c := &command{data: make([]byte, 4096), nexus: g.nexus, unit: g.nexus.units[0]}
	c.cdb[13] = 8 + 3*16
	c.addStatus(1<<32-10, true)
	c.addStatus(20, true)
	c.addStatus(5, false)
	if got := statuses(c.data[:8+3*16]); got != "0 0+4294967295M 4294967295+11M 4294967306+5D" || c.lba != 1<<32+15 {
		t.Errorf("%s, up to %d", got, c.lba)
	}
	if c.addStatus(5, true) {
		t.Error("there is room for a fourth of three")
	}
	g = newRigOf(t, 4096, 1<<20)
	if got := statuses(g.lbaStatus(0, 1000).Want("a large one", "good").in); got != "20 0+65536D" {
		t.Errorf("1024 answers: %s", got)
	}
}
