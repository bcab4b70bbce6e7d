package iscsi

import (
	"bytes"
	"encoding/binary"
	"testing"

	"github.com/pollux-storage/pollux/bdev"
)

// TestLowSpaceIsTold: to every nexus of the unit, once, with where the threshold stands; by REQUEST SENSE too; not after LBPERE was switched off.
func TestLowSpaceIsTold(t *testing.T) {
	d := newDoors(t)
	a, b := d.enter("a", 1, 0), d.enter("b", 2, 1)
	d.device.TellLowSpace()
	x := a.ready().want("little space", "06/38/07")
	if s := x.AppendSense(nil); s[0] != 0xF0 || binary.BigEndian.Uint32(s[3:]) != thresholdAt {
		t.Errorf("the sense is %x", s)
	}
	a.ready().want("told once", "good")
	x = b.do([]byte{0x03, 1, 0, 0, 32}, nil, 32).want("REQUEST SENSE", "good")
	if !bytes.Equal(x.data[:x.send], []byte{0x72, 6, 0x38, 7, 0, 0, 0, 12, 0, 10, 0x80, 0, 0, 0, 0, 0, 0, 0, 0, thresholdAt}) {
		t.Errorf("REQUEST SENSE: %x", x.data[:x.send])
	}
	b.ready().want("told once", "good")
	d.node.units[0].modes.set(modeUntold, modeUntold)
	d.device.TellLowSpace()
	a.ready().want("LBPERE 0", "good")
}

func TestThresholdPage(t *testing.T) {
	g := newRig(t, 512)
	ask := func(code, sub byte) *exchange {
		return g.do([]byte{0x1A, 0x08, code, sub, 255, 0}, wants(255))
	}
	ask(0x1C, 2).Want("of a device that does not tell", "05/24/00").WantPointer(pointsCDB, 3)
	if n := len(ask(0x1C, 0xFF).Want("all subpages", "good").in); n != 4+12 {
		t.Errorf("page 1Ch with all subpages is %d bytes", n)
	}
	g.reshape(func(q *bdev.Geometry) { q.LowSpace = 20 })
	threshold := []byte{0: 0x5C, 1: 2, 3: 20, 16: 0x88, 17: 3, 23: 20}
	if p := ask(0x1C, 2).Want("the page", "good").in[4:]; !bytes.Equal(p, threshold) {
		t.Errorf("the page is %x", p)
	}
	if n := len(ask(0x1C, 0xFF).Want("all subpages", "good").in); n != 4+12+24 {
		t.Errorf("page 1Ch with all subpages is %d bytes", n)
	}
	if p := ask(0x1C, 0).Want("the page without", "good").in[4:]; len(p) != 12 || p[0] != 0x1C {
		t.Errorf("page 1Ch is %x", p)
	}
	for _, c := range []struct{ code, sub, at byte }{{0x1C, 1, 3}, {0x01, 2, 3}, {0x3F, 2, 3}, {0x15, 0, 2}, {0x15, 0xFF, 2}} {
		ask(c.code, c.sub).Want("no such page", "05/24/00").WantPointer(pointsCDB, uint16(c.at))
	}

	recovery := g.modeSense(modeCurrent, 0x01)
	if recovery[7] != recoveryLBPERE || g.modeSense(modeChangeable, 0x01)[7] != recoveryLBPERE {
		t.Fatalf("page 01h is %x", recovery)
	}
	recovery[7] = 0
	g.selectPage(recovery).Want("LBPERE 0", "good")
	if g.modeSense(modeCurrent, 0x01)[7] != 0 || g.modeSense(modeDefault, 0x01)[7] != recoveryLBPERE {
		t.Error("LBPERE was not switched off, or by default")
	}
	g.selectPage(threshold).Want("the page as it is", "good")
	other := bytes.Clone(threshold)
	other[23] = 10
	g.selectPage(other).Want("another threshold", "05/26/00").WantPointer(pointsList, 4+23)
	other[3] = 19
	g.selectPage(other).Want("another length", "05/26/00").WantPointer(pointsList, 4+2)
	g.selectPage(threshold[:3]).Want("half a head", "05/1A/00")
	g.selectPage(threshold[:23]).Want("half a page", "05/1A/00")
	g.selectPage(append([]byte{0x4A, 0, 0, 8}, make([]byte, 8)...)).Want("subpage 0", "05/26/00").WantPointer(pointsList, 4)
	if !g.nexus.units[0].unit.modes.has(modeUntold) {
		t.Error("a page without LBPERE has switched it on")
	}
}
