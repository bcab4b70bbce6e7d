package iscsi

import (
	"bytes"
	"encoding/binary"
	"testing"

	"github.com/pollux-storage/pollux/bdev"
)

// opcodes asks for the list of commands.
func (g *rig) opcodes(options, opcode byte, action uint16) *exchange {
	b := []byte{0xA3, 0x0C, options, opcode, byte(action >> 8), byte(action), 0, 0, 0xFF, 0xFF, 0, 0}
	return g.do(b, wants(1<<16-1))
}

func TestCommandsThatAreListedAreServed(t *testing.T) {
	for _, thin := range []bool{true, false} {
		g := newRig(t, 512)
		if !thin {
			g.reshape(func(q *bdev.Geometry) { q.Native &^= bdev.SetOf(bdev.Unmap) })
		}
		list := g.opcodes(reportAll, 0, 0).Want("all", "good").in
		if int(binary.BigEndian.Uint32(list)) != len(list)-4 {
			t.Fatalf("the list is %d bytes and says %x", len(list), list[:4])
		}
		timed := g.opcodes(reportAll|reportTimeouts, 0, 0).Want("all, with timeouts", "good").in
		if len(timed)-4 != (len(list)-4)/8*20 {
			t.Errorf("with timeouts the list is %d bytes, without %d", len(timed), len(list))
		}
		listed := map[byte]bool{}
		for b := list[4:]; len(b) > 0; b = b[8:] {
			op, action, acts := b[0], binary.BigEndian.Uint16(b[2:]), b[5]&1 != 0
			listed[op] = true
			right, wrong := byte(reportOpcode), byte(reportAction)
			if acts {
				right, wrong = wrong, right
			}
			g.opcodes(wrong, op, action).Want("asked for in the wrong way", "05/24/00")
			one := g.opcodes(right, op, action).Want("one", "good").in
			if one[1] != 3 || one[3] != b[7] || len(one) != 4+int(b[7]) || one[4] != op || acts && one[5]&0x1F != byte(action) {
				t.Errorf("command %02x/%02x is %x", op, action, one)
			}
			if either := g.opcodes(reportEither, op, action).Want("either", "good").in; !bytes.Equal(either, one) {
				t.Errorf("command %02x/%02x is %x, asked for in the other way %x", op, action, one, either)
			}
			if with := g.opcodes(right|reportTimeouts, op, action).in; with[1] != 0x83 || len(with) != len(one)+12 {
				t.Errorf("command %02x/%02x with timeouts is %x", op, action, with)
			}
			cdb := make([]byte, 16)
			cdb[0], cdb[1] = op, byte(action)
			if rulesOf[op].is(reserves) { // they need more than a unit: reserve_test.go
				continue
			}
			if got := g.do(cdb, wants(0)).answered(); got == "05/20/00" {
				t.Errorf("command %02x/%02x is listed and not served", op, action)
			}
		}
		for op := range 256 {
			if listed[byte(op)] {
				continue
			}
			if x := g.opcodes(reportOpcode, byte(op), 0).Want("not offered", "good"); !bytes.Equal(x.in, []byte{0, 1, 0, 0}) {
				t.Errorf("command %02x is not listed, and told of as %x", op, x.in)
			}
			g.do([]byte{byte(op)}).Want("not offered", "05/20/00")
		}
		if listed[0x42] != thin {
			t.Errorf("UNMAP is listed: %t", listed[0x42])
		}
	}
}

func TestRulesAreInOrder(t *testing.T) {
	for i := range cdbRules {
		r := &cdbRules[i]
		if n := len(r.usage); n != 6 && n != 10 && n != 12 && n != 16 {
			t.Errorf("%s is %d bytes long", r.name, n)
		}
		if i > 0 {
			if b := &cdbRules[i-1]; b.opcode() > r.opcode() || b.opcode() == r.opcode() && b.action() >= r.action() {
				t.Errorf("%s stands behind %s", r.name, b.name)
			}
		}
		if r.usage[len(r.usage)-1]&0x04 == 0 {
			t.Errorf("%s does not look at NACA", r.name)
		}
	}
}

func TestReportOptions(t *testing.T) {
	g := newRig(t, 512)
	for o := byte(4); o < 8; o++ {
		g.opcodes(o, 0, 0).Want("reserved options", "05/24/00").WantPointer(pointsCDB, 2)
	}
	if x := g.opcodes(reportAction, 0xA3, 0x1F).Want("no such action", "good"); x.in[1] != 1 {
		t.Errorf("an action that is not there: %x", x.in)
	}
	g.do(cdb12(0xA3, 0x4A, 0, 64), wants(64)).Want("port groups in a form that is not", "05/24/00")
	g.do(cdb12(0xA3, 0x0D, 0, 3), wants(3)).Want("task management functions in 3 bytes", "05/24/00")
	g.do([]byte{0xA0, 0, 3, 0, 0, 0, 0, 0, 0, 16, 0, 0}, wants(16)).Want("REPORT LUNS of 3", "05/24/00")
	if x := g.do([]byte{0xA0, 0, 1, 0, 0, 0, 0, 0, 0, 16, 0, 0}, wants(16)).Want("REPORT LUNS of well known ones", "good"); len(x.in) != 8 {
		t.Errorf("REPORT LUNS of well known ones: %x", x.in)
	}
}
