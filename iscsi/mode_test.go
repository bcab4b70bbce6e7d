package iscsi

import (
	"bytes"
	"testing"

	"github.com/pollux-storage/pollux/bdev"
)

func (g *rig) modeSense(control, page byte) []byte {
	g.Helper()
	return g.do([]byte{0x1A, 0x08, control<<6 | page, 0, 255, 0}, wants(255)).Want("MODE SENSE", "good").in[4:]
}

// selectPage sets one page by MODE SELECT(6).
func (g *rig) selectPage(p []byte, o ...option) *exchange {
	list := append([]byte{0, 0, 0, 0}, p...)
	return g.do([]byte{0x15, 0x10, 0, 0, byte(len(list)), 0}, append(o, sends(list))...)
}

func TestModeSense(t *testing.T) {
	g := newRig(t, 512)
	all := g.do([]byte{0x1A, 0, 0x3F, 0, 255, 0}, wants(255)).Want("all pages", "good").in
	if int(all[0]) != len(all)-1 || all[2] != 0x10 || all[3] != 8 || !bytes.Equal(all[4:12], []byte{0, 0, 0x10, 0, 0, 0, 2, 0}) {
		t.Errorf("header and block descriptor are %x", all[:12])
	}
	var codes []byte
	for b := all[12:]; len(b) > 0; b = b[2+int(b[1]):] {
		codes = append(codes, b[0])
		if one := g.modeSense(modeCurrent, b[0]); !bytes.Equal(one, b[:2+int(b[1])]) {
			t.Errorf("page %x alone is %x, among all %x", b[0], one, b)
		}
		if ten := g.do([]byte{0x5A, 0x08, b[0], 0xFF, 0, 0, 0, 0, 255, 0}, wants(255)).Want("with subpages", "good").in; !bytes.Equal(ten[8:], b[:2+int(b[1])]) {
			t.Errorf("page %x by MODE SENSE(10) is %x, among all %x", b[0], ten, b)
		}
	}
	if !bytes.Equal(codes, []byte{0x01, 0x02, 0x07, 0x08, 0x0A, 0x1A, 0x1C}) {
		t.Errorf("the pages are %x", codes)
	}
	long := g.do([]byte{0x5A, 0x10, 0x0A, 0, 0, 0, 0, 1, 0, 0}, wants(256)).Want("LLBAA", "good").in
	if len(long) != 8+16+12 || long[1] != byte(len(long)-2) || long[4] != 1 || long[7] != 16 || !bytes.Equal(long[8:24], []byte{6: 0x10, 14: 2, 15: 0}) {
		t.Errorf("with LLBAA: %x", long)
	}
	for n := range 13 {
		if x := g.do([]byte{0x1A, 0, 0x3F, 0, byte(n), 0}, wants(255)).Want("a short allocation length", "good"); !bytes.Equal(x.in, all[:n]) {
			t.Errorf("cut at %d: %x", n, x.in)
		}
	}
}

func TestModeSelect(t *testing.T) {
	g := newRig(t, 512)
	other := g.newNexus()
	g.join(other)
	g.do([]byte{0x00}, by(other)).Want("a new nexus", "06/29/00")
	control := g.modeSense(modeCurrent, 0x0A)

	control[2] |= controlDSense
	g.selectPage(control).Want("D_SENSE", "good")
	g.do([]byte{0x00}, by(other)).Want("others are told", "06/2A/01")
	g.do([]byte{0x00}).Want("and not the one who did", "good")
	if x := g.do(cdb10(0x28, 0, 1<<30, 1), wants(512)); x.senseData[0] != 0x72 {
		t.Errorf("sense with D_SENSE is %x", x.senseData)
	}
	g.selectPage(control).Want("the same again", "good")
	g.do([]byte{0x00}, by(other)).Want("nothing to tell", "good")

	control[2], control[4] = 0, controlSWP
	g.selectPage(control).Want("SWP", "good")
	g.do(cdb10(0x2A, 0, 0, 1), sends(make([]byte, 512))).Want("a write", "07/27/02")
	if x := g.do(cdb10(0x28, 0, 1<<30, 1), wants(512)); x.senseData[0] != 0x70 {
		t.Errorf("sense without D_SENSE is %x", x.senseData)
	}
	if x := g.do([]byte{0x1A, 0, 0x0A, 0, 255, 0}, wants(255)); x.in[2] != 0x90 {
		t.Errorf("WP and DPOFUA are %x", x.in[2])
	}
	if d := g.modeSense(modeDefault, 0x0A); d[4] != 0 {
		t.Error("SWP is a default")
	}
	control[4] = 0
	g.selectPage(control).Want("no SWP", "good")
	g.do(cdb10(0x2A, 0, 0, 1), sends(make([]byte, 512))).Want("a write", "good")
}

func TestModeSelectRefused(t *testing.T) {
	g := newRig(t, 512)
	control, caching := g.modeSense(modeCurrent, 0x0A), g.modeSense(modeCurrent, 0x08)
	swp := bytes.Clone(control)
	swp[4] |= controlSWP
	with := func(b []byte, at int, x byte) []byte {
		b = bytes.Clone(b)
		b[at] = x
		return b
	}
	header := []byte{0, 0, 0, 0}
	for name, c := range map[string]struct {
		list  []byte
		flags byte
		want  string
		at    int // in the list; -1: no pointer
	}{
		"SP":                         {append(header, swp...), 0x11, "05/24/00", -1},
		"no PF":                      {append(header, swp...), 0x00, "05/24/00", -1},
		"half a header":              {[]byte{0, 0, 0}, 0x10, "05/1A/00", -1},
		"half a block descriptor":    {append([]byte{0, 0, 0, 8}, 0, 0, 0, 0), 0x10, "05/1A/00", -1},
		"half a page":                {append(header, swp[:6]...), 0x10, "05/1A/00", -1},
		"half a page header":         {append(append(header, swp...), 0x08), 0x10, "05/1A/00", -1},
		"no such page":               {append(append(header, swp...), 0x15, 0), 0x10, "05/26/00", 16},
		"a subpage":                  {append(append(header, swp...), with(swp, 0, 0x4A)...), 0x10, "05/26/00", 16},
		"a page of another length":   {append(append(header, swp...), with(control, 1, 9)...), 0x10, "05/26/00", 17},
		"a bit that cannot change":   {append(append(header, swp...), with(control, 5, 0x40)...), 0x10, "05/26/00", 21},
		"WCE of a device without":    {append(append(header, swp...), with(caching, 2, 0x04)...), 0x10, "05/26/00", 18},
		"a block descriptor of 4":    {append([]byte{0, 0, 0, 4, 0, 0, 0, 0}, swp...), 0x10, "05/26/00", 3},
		"other blocks":               {append([]byte{0, 0, 0, 8, 0, 0, 0, 9, 0, 0, 2, 0}, swp...), 0x10, "05/26/00", 4},
		"blocks of another size":     {append([]byte{0, 0, 0, 8, 0, 0, 0x10, 0, 0, 0, 0x10, 0}, swp...), 0x10, "05/26/00", 9},
		"a block descriptor as long": {append([]byte{0, 0, 0, 16}, make([]byte, 16)...), 0x10, "05/26/00", 3},
	} {
		x := g.do([]byte{0x15, c.flags, 0, 0, byte(len(c.list)), 0}, sends(c.list)).Want(name, c.want)
		if c.at >= 0 {
			x.WantPointer(pointsList, uint16(c.at))
		}
		if !bytes.Equal(g.modeSense(modeCurrent, 0x0A), control) {
			t.Fatalf("%s: a page before the wrong one was obeyed", name)
		}
	}
	g.do([]byte{0x15, 0x10, 0, 0, 0, 0}, sends(nil)).Want("an empty list", "good")
	ten := append([]byte{0, 0, 0, 0, 1, 0, 0, 16}, make([]byte, 16)...)
	ten[8+6], ten[8+14] = 0x10, 2
	g.do([]byte{0x55, 0x10, 0, 0, 0, 0, 0, 0, byte(len(ten)), 0}, sends(ten)).Want("a long block descriptor", "good")
}

func TestWriteCacheIsSwitchedOff(t *testing.T) {
	g := newRig(t, 512)
	g.reshape(func(q *bdev.Geometry) { q.Volatile = true })
	caching := g.modeSense(modeCurrent, 0x08)
	if caching[2] != cachingWCE || g.modeSense(modeChangeable, 0x08)[2] != cachingWCE {
		t.Fatalf("the caching page of a device with a volatile cache is %x", caching)
	}
	write := func() bool {
		x := g.start(cdb10(0x2A, 0, 0, 1), sends(make([]byte, 512)))
		fua := x.req.FUA
		g.finish(x).Want("a write", "good")
		return fua
	}
	if write() {
		t.Error("a write goes through a cache that is on")
	}
	caching[2] = 0
	g.selectPage(caching).Want("WCE 0", "good")
	if !write() {
		t.Error("a write stays in a cache that is off")
	}
	if g.modeSense(modeCurrent, 0x08)[2] != 0 || g.modeSense(modeDefault, 0x08)[2] != cachingWCE {
		t.Error("the caching page does not say so")
	}
	caching[2] = cachingWCE
	g.selectPage(caching).Want("WCE 1", "good")
	if write() {
		t.Error("a write goes through a cache that is on again")
	}
}

func TestAWriteThatIsOnItsWayIsProtectedAgainst(t *testing.T) {
	g := newRig(t, 512)
	x := &exchange{g: g}
	x.port, x.nexus, x.unit, x.req.Done = x, g.nexus, g.nexus.units[0], &x.command
	x.writes, x.edtl = true, 512
	copy(x.cdb[:], cdb10(0x2A, 0, 0, 1))
	x.command.start()
	if !x.admit() {
		t.Fatal(x.answered())
	}
	control := g.modeSense(modeCurrent, 0x0A)
	control[4] |= controlSWP
	g.selectPage(control).Want("SWP", "good")
	g.call(func() {
		x.lent = g.r.Memory().Get(512)
		x.data = x.lent
		x.execute()
	})
	g.finish(x).Want("a write whose data came later", "07/27/02")
}
