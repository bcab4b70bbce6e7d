package iscsi

import (
	"bytes"
	"encoding/binary"
	"testing"

	"github.com/pollux-storage/pollux/bdev"
	"github.com/pollux-storage/pollux/bdev/reservation"
)

var (
	readOps  = []byte{0x08, 0x28, 0xA8, 0x88}
	writeOps = []byte{0x0A, 0x2A, 0xAA, 0x8A}
)

func TestBlocksWrittenAreRead(t *testing.T) {
	for _, size := range []uint32{512, 4096} {
		g := newRig(t, size)
		for i, op := range writeOps {
			for _, n := range []int{1, 2, 7, 64} {
				b := random(n * int(size))
				lba := uint64(i * 100)
				x := g.do(cdbOf(op, 0x18, lba, uint32(n)), sends(b)).Want("a write", "good")
				if x.want != uint32(len(b)) {
					t.Errorf("%x moves %d bytes, not %d", op, x.want, len(b))
				}
				for _, rop := range readOps {
					x := g.do(cdbOf(rop, 0x18, lba, uint32(n)), wants(len(b))).Want("a read", "good")
					if !bytes.Equal(x.in, b) {
						t.Fatalf("%x reads something else than %x wrote", rop, op)
					}
				}
			}
		}
		if x := g.do(cdbOf(0x08, 0, 0, 0), wants(256*int(size))).Want("READ(6) of 0 blocks", "good"); len(x.in) != 256*int(size) {
			t.Errorf("READ(6) of 0 blocks is %d bytes", len(x.in))
		}
	}
}

func TestRangesOfReadsAndWrites(t *testing.T) {
	g := newRig(t, 512)
	for name, c := range map[string]struct {
		lba   uint64
		n     uint32
		flags byte
		want  string
	}{
		"the last block":              {rigBlocks - 1, 1, 0, "good"},
		"no blocks, inside":           {0, 0, 0, "good"},
		"no blocks, past the end":     {rigBlocks, 0, 0, "05/21/00"},
		"one block past the end":      {rigBlocks, 1, 0, "05/21/00"},
		"over the end":                {rigBlocks - 1, 2, 0, "05/21/00"},
		"protection information":      {0, 1, 0x20, "05/24/00"},
		"more than MAXIMUM TRANSFER":  {0, 2049, 0, "05/24/00"},
		"MAXIMUM TRANSFER LENGTH":     {0, 2048, 0, "good"},
		"past the end by a long way":  {1<<32 - 1, 0, 0, "05/21/00"},
		"past the end by 2^32 blocks": {1, 1<<32 - 1, 0, "05/21/00"},
	} {
		for _, op := range []byte{0x28, 0xA8, 0x88, 0x2A, 0xAA, 0x8A} {
			if c.n > 1<<16-1 && op>>5 == 1 {
				continue
			}
			o := wants(int(c.n) * 512)
			if op&0x0F == 0x0A {
				o = sends(make([]byte, min(c.n, 4096)*512))
			}
			g.do(cdbOf(op, c.flags, c.lba, c.n), o).Want(name, c.want)
		}
	}
	g.do(cdb16(0x88, 0, 1<<63, 0), wants(0)).Want("LBA 2^63", "05/21/00")
	g.do(cdb16(0x88, 0, 1<<64-1, 2), wants(0)).Want("a range around 0", "05/21/00")
	g.do(cdb16(0x88, 0x20, 0, 1), wants(512)).WantPointer(pointsCDB, 1)
	g.do(cdb16(0x88, 0, 0, 4096), wants(512)).WantPointer(pointsCDB, 10)
}

func TestResidualsOfReadsAndWrites(t *testing.T) {
	g := newRig(t, 512)
	b := random(1024)
	g.write(0, b)
	for _, op := range readOps {
		if x := g.do(cdbOf(op, 0, 0, 1), wants(0)).Want("EDTL 0", "good"); x.want != 512 || len(x.in) != 0 {
			t.Errorf("%x with EDTL 0: %d bytes, moves %d", op, len(x.in), x.want)
		}
		if x := g.do(cdbOf(op, 0, 0, 1), wants(10000)).Want("EDTL 10000", "good"); x.want != 512 || len(x.in) != 512 {
			t.Errorf("%x with EDTL 10000: %d bytes, moves %d", op, len(x.in), x.want)
		}
		if x := g.do(cdbOf(op, 0, 0, 1), wants(200)).Want("EDTL 200", "good"); x.want != 512 || !bytes.Equal(x.in, b[:200]) {
			t.Errorf("%x with EDTL 200: %d bytes, moves %d", op, len(x.in), x.want)
		}
		if x := g.do(cdbOf(op, 0, 0, 2), wants(512)).Want("EDTL of a block", "good"); x.want != 1024 || !bytes.Equal(x.in, b[:512]) {
			t.Errorf("%x with EDTL of a block: %d bytes, moves %d", op, len(x.in), x.want)
		}
		if x := g.do(cdbOf(op, 0, 0, 1), sends(b[:512])).Want("with W", "good"); x.want != 0 || x.out != 0 {
			t.Errorf("%x with W: moves %d, asks for %d", op, x.want, x.out)
		}
	}
	for _, op := range writeOps {
		g.write(0, make([]byte, 1024))
		if x := g.do(cdbOf(op, 0, 0, 1), sends(nil)).Want("EDTL 0", "good"); x.want != 512 || x.out != 0 {
			t.Errorf("%x with EDTL 0: moves %d, asks for %d", op, x.want, x.out)
		}
		if x := g.do(cdbOf(op, 0, 0, 1), sends(b[:200])).Want("EDTL 200", "05/0E/03"); x.want != 512 {
			t.Errorf("%x with EDTL 200 moves %d", op, x.want)
		}
		g.do(cdbOf(op, 0, 0, 1), wants(512)).Want("with R", "05/0E/03")
		if !bytes.Equal(g.read(0, 2), make([]byte, 1024)) {
			t.Errorf("%x wrote what it did not have", op)
		}
		if x := g.do(cdbOf(op, 0, 0, 1), sends(b)).Want("EDTL of two blocks", "good"); x.want != 512 || x.out != 512 {
			t.Errorf("%x with EDTL of two blocks: moves %d, asks for %d", op, x.want, x.out)
		}
		if got := g.read(0, 2); !bytes.Equal(got[:512], b[:512]) || !bytes.Equal(got[512:], make([]byte, 512)) {
			t.Errorf("%x of one block wrote another", op)
		}
		if x := g.do(cdbOf(op, 0, 0, 2), sends(b[512:])).Want("EDTL of a block", "good"); x.want != 1024 {
			t.Errorf("%x with EDTL of a block moves %d", op, x.want)
		}
		if got := g.read(0, 2); !bytes.Equal(got[:512], b[512:]) || !bytes.Equal(got[512:], make([]byte, 512)) {
			t.Errorf("%x of one block of two wrote another", op)
		}
	}
}

func TestLateMemoryIsWaitedFor(t *testing.T) {
	g := newRig(t, 512)
	g.write(3, random(512))
	g.starve = 3
	if !bytes.Equal(g.read(3, 1), random(512)) {
		t.Error("a read that waited for memory reads something else")
	}
	g.do([]byte{0x12, 0, 0, 0, 96}, wants(96)).Want("INQUIRY", "good")
	g.do(cdb16(0x9E, 0x10, 0, 32), wants(32)).Want("READ CAPACITY(16)", "good")
}

func TestCommandsThatAreNotServed(t *testing.T) {
	g := newRig(t, 512)
	for name, c := range map[string]struct {
		cdb  []byte
		want string
	}{
		"no such operation code":        {[]byte{0xC1}, "05/20/00"},
		"SANITIZE":                      {[]byte{0x48}, "05/20/00"},
		"FORMAT UNIT":                   {[]byte{0x04}, "05/20/00"},
		"PREVENT ALLOW MEDIUM REMOVAL":  {[]byte{0x1E}, "05/20/00"},
		"READ DEFECT DATA(10)":          {[]byte{0x37}, "05/20/00"},
		"WRITE LONG(10)":                {[]byte{0x3F}, "05/20/00"},
		"SET TARGET PORT GROUPS":        {[]byte{0xA4, 0x0A}, "05/20/00"},
		"no such service action":        {[]byte{0xA3, 0x1F}, "05/24/00"},
		"NACA":                          {[]byte{0x00, 0, 0, 0, 0, 0x04}, "05/24/00"},
		"a page without EVPD":           {[]byte{0x12, 0, 0x80, 0, 96}, "05/24/00"},
		"no such page":                  {[]byte{0x12, 1, 0xC0, 0, 96}, "05/24/00"},
		"MODE SENSE of saved values":    {[]byte{0x1A, 0, 0xC8, 0, 96}, "05/39/00"},
		"MODE SENSE of no such page":    {[]byte{0x1A, 0, 0x15, 0, 96}, "05/24/00"},
		"MODE SENSE of no such subpage": {[]byte{0x1A, 0, 0x08, 1, 96}, "05/24/00"},
	} {
		g.do(c.cdb, wants(96)).Want(name, c.want)
	}
	x := g.start(cdb10(0x28, 0, 0, 1), wants(512), func(x *exchange) { x.tooBig = true })
	g.finish(x).Want("an extended CDB", "05/24/00")
}

func TestNoUnit(t *testing.T) {
	g := newRig(t, 512)
	g.do([]byte{0x00}, at(3)).Want("TEST UNIT READY", "05/25/00")
	g.do(cdb10(0x28, 0, 0, 1), wants(512), at(3)).Want("READ", "05/25/00")
	g.do([]byte{0xC1}, at(3)).Want("no such operation code", "05/25/00")
	if x := g.do([]byte{0x12, 0, 0, 0, 96}, wants(96), at(3)).Want("INQUIRY", "good"); len(x.in) != 96 || x.in[0] != 0x7F {
		t.Errorf("INQUIRY gives %x", x.in)
	}
	if x := g.do([]byte{0x12, 1, 0, 0, 96}, wants(96), at(3)).Want("INQUIRY", "good"); !bytes.Equal(x.in, []byte{0x7F, 0, 0, 1, 0}) {
		t.Errorf("page 00 is %x", x.in)
	}
	g.do([]byte{0x12, 1, 0x83, 0, 96}, wants(96), at(3)).Want("page 83", "05/24/00")
	if x := g.do([]byte{0x03, 0, 0, 0, 18}, wants(18), at(3)).Want("REQUEST SENSE", "good"); x.in[2] != 5 || x.in[12] != 0x25 {
		t.Errorf("REQUEST SENSE gives %x", x.in)
	}
	x := g.do([]byte{0xA0, 0, 0, 0, 0, 0, 0, 0, 0, 16, 0, 0}, wants(16), at(3)).Want("REPORT LUNS", "good")
	if !bytes.Equal(x.in, []byte{7: 0, 3: 8, 15: 0}) {
		t.Errorf("REPORT LUNS gives %x", x.in)
	}
}

func TestUnitAttentionsAreToldOnce(t *testing.T) {
	g := newRig(t, 512)
	other := g.newNexus()
	g.join(other)
	u := g.node.units[0]
	g.do([]byte{0x12, 0, 0, 0, 96}, wants(96), by(other)).Want("INQUIRY comes first", "good")
	g.do([]byte{0xC1}, by(other)).Want("no such command, new nexus", "06/29/00")
	g.do([]byte{0x00}, by(other)).Want("told already", "good")

	u.tell(attentionCapacity)
	u.tell(attentionMode)
	g.nexus.units[0].attentions.raise(attentionPreempted)
	for _, n := range []*nexus{g.nexus, other} {
		g.do(cdb10(0x28, 0, 0, 1), wants(512), by(n)).Want("capacity", "06/2A/09")
		g.do(cdb10(0x28, 0, 0, 1), wants(512), by(n)).Want("modes", "06/2A/01")
	}
	g.do([]byte{0x00}).Want("a reservation", "06/2A/03")
	g.do([]byte{0x00}).Want("all told", "good")
	g.do([]byte{0x00}, by(other)).Want("all told", "good")

	u.tell(attentionLUNs)
	g.do([]byte{0xA0, 0, 0, 0, 0, 0, 0, 0, 0, 16, 0, 0}, wants(16)).Want("REPORT LUNS", "good")
	g.do([]byte{0x00}).Want("REPORT LUNS has told it", "good")
	if x := g.do([]byte{0x03, 0, 0, 0, 18}, wants(18), by(other)).Want("REQUEST SENSE", "good"); x.in[2] != 6 || x.in[12] != 0x3F || x.in[13] != 0x0E {
		t.Errorf("REQUEST SENSE gives %x", x.in)
	}
	g.do([]byte{0x00}, by(other)).Want("REQUEST SENSE has told it", "good")
	if x := g.do([]byte{0x03, 1, 0, 0, 18}, wants(18)).Want("REQUEST SENSE", "good"); !bytes.Equal(x.in, []byte{0: 0x72, 7: 0}) {
		t.Errorf("REQUEST SENSE with DESC gives %x", x.in)
	}
}

func TestReservationsBarCommands(t *testing.T) {
	g := newRig(t, 512)
	n := g.nexus.units[0]
	for name, c := range map[string]struct {
		cdb                 []byte
		o                   option
		write, read, all    string
		softwareWriteProtec string
	}{
		"TEST UNIT READY":     {[]byte{0x00}, wants(0), "good", "good", "conflict", "good"},
		"INQUIRY":             {[]byte{0x12, 0, 0, 0, 96}, wants(96), "good", "good", "good", "good"},
		"REPORT LUNS":         {[]byte{0xA0, 0, 0, 0, 0, 0, 0, 0, 0, 16, 0, 0}, wants(16), "good", "good", "good", "good"},
		"REQUEST SENSE":       {[]byte{0x03, 0, 0, 0, 18}, wants(18), "good", "good", "good", "good"},
		"READ CAPACITY":       {cdb10(0x25, 0, 0, 0), wants(8), "good", "good", "conflict", "good"},
		"READ(10)":            {cdb10(0x28, 0, 0, 1), wants(512), "good", "conflict", "conflict", "good"},
		"WRITE(10)":           {cdb10(0x2A, 0, 0, 1), sends(random(512)), "conflict", "conflict", "conflict", "07/27/02"},
		"UNMAP":               {cdb10(0x42, 0, 0, 0), sends(nil), "conflict", "conflict", "conflict", "07/27/02"},
		"WRITE SAME(10)":      {cdb10(0x41, 0, 0, 1), sends(random(512)), "conflict", "conflict", "conflict", "07/27/02"},
		"SYNCHRONIZE CACHE":   {cdb10(0x35, 0, 0, 0), wants(0), "conflict", "conflict", "conflict", "good"},
		"REPORT PORT GROUPS":  {cdb12(0xA3, 0x0A, 0, 64), wants(64), "good", "good", "conflict", "good"},
		"MODE SENSE(6)":       {[]byte{0x1A, 0, 0x3F, 0, 255}, wants(255), "good", "conflict", "conflict", "good"},
		"no such command":     {[]byte{0xC1}, wants(0), "05/20/00", "05/20/00", "05/20/00", "05/20/00"},
		"READ of a bad range": {cdb10(0x28, 0, 1<<31, 1), wants(512), "05/21/00", "conflict", "conflict", "05/21/00"},
	} {
		n.denyWrite = true
		g.do(c.cdb, c.o).Want(name+", writes denied", c.write)
		n.denyRead = true
		g.do(c.cdb, c.o).Want(name+", reads denied", c.read)
		n.denyRead, n.denyWrite, n.held = false, false, &reservation.Hold{}
		g.do(c.cdb, c.o).Want(name+", all denied", c.all)
		n.held = nil
		n.unit.modes.set(modeSoftProtected, modeSoftProtected)
		g.do(c.cdb, c.o).Want(name+", protected", c.softwareWriteProtec)
		n.unit.modes.set(modeSoftProtected, 0)
		g.do(c.cdb, c.o).answered()
	}
	g.reshape(func(q *bdev.Geometry) { q.ReadOnly = true })
	g.do(cdb10(0x2A, 0, 0, 1), sends(random(512))).Want("a read-only device", "07/27/00")
	g.do(cdb10(0x28, 0, 0, 1), wants(512)).Want("reading it", "good")
	if x := g.do([]byte{0x1A, 0, 0x3F, 0, 255}, wants(255)); x.in[2]&0x80 == 0 {
		t.Error("WP is 0 for a read-only device")
	}
}

func TestPathsThatAreNotActive(t *testing.T) {
	g := newRig(t, 512)
	for state, want := range map[accessState]string{
		accessOptimized: "good", accessNonOptimized: "good",
		accessStandby: "02/04/0B", accessUnavailable: "02/04/0C", accessTransitioning: "02/04/0A",
	} {
		g.node.states = map[int]accessState{1: state}
		g.nexus.install(g.node, g.r)
		g.quiet()
		g.do([]byte{0x00}).Want("TEST UNIT READY", want)
		g.do(cdb10(0x28, 0, 0, 1), wants(512)).Want("READ", want)
		g.do(cdb10(0x25, 0, 0, 0), wants(8)).Want("READ CAPACITY", want)
		g.do([]byte{0x12, 0, 0, 0, 96}, wants(96)).Want("INQUIRY", "good")
		g.do([]byte{0x03, 0, 0, 0, 18}, wants(18)).Want("REQUEST SENSE", "good")
		x := g.do(cdb12(0xA3, 0x0A, 0, 64), wants(64)).Want("REPORT TARGET PORT GROUPS", "good")
		if x.in[4]&0x0F != byte(state) {
			t.Errorf("state %x is reported as %x", state, x.in[4])
		}
	}
}

func TestCapacity(t *testing.T) {
	g := newRig(t, 4096)
	x := g.do(cdb10(0x25, 0, 0, 0), wants(8)).Want("READ CAPACITY(10)", "good")
	if !bytes.Equal(x.in, []byte{0, 0, 0x0F, 0xFF, 0, 0, 0x10, 0}) {
		t.Errorf("READ CAPACITY(10) gives %x", x.in)
	}
	for _, n := range []int{0, 1, 8, 15, 32, 100} {
		x := g.do(cdb16(0x9E, 0x10, 0, uint32(n)), wants(n)).Want("READ CAPACITY(16)", "good")
		if len(x.in) != min(n, 32) {
			t.Errorf("READ CAPACITY(16) of %d bytes gives %d", n, len(x.in))
		}
	}
	g.reshape(func(q *bdev.Geometry) { q.Blocks, q.BlockSize, q.PhysicalBlockSize = 1<<33, 512, 4096 })
	x = g.do(cdb10(0x25, 0, 0, 0), wants(8)).Want("READ CAPACITY(10)", "good")
	if binary.BigEndian.Uint32(x.in) != 1<<32-1 {
		t.Errorf("READ CAPACITY(10) of 4 TiB gives %x", x.in)
	}
	x = g.do(cdb16(0x9E, 0x10, 0, 32), wants(32)).Want("READ CAPACITY(16)", "good")
	if binary.BigEndian.Uint64(x.in) != 1<<33-1 || x.in[13] != 3 || x.in[14] != 0xC0 {
		t.Errorf("READ CAPACITY(16) of 4 TiB gives %x", x.in)
	}
}

func TestReadingAndWritingAllocatesNothing(t *testing.T) {
	g := newRig(t, 512)
	x := &exchange{g: g}
	x.port, x.nexus, x.unit, x.req.Done = x, g.nexus, g.nexus.units[0], &x.command
	x.edtl = 4096
	run := func() {
		x.ends, x.data, x.lent = 0, nil, nil
		x.command.start()
		if !x.admit() {
			t.Fatal(x.answered())
		}
		if x.out > 0 {
			x.lent = g.r.Memory().Get(int(x.out))
			x.data = x.lent
		}
		x.execute()
	}
	for name, op := range map[string]byte{"read": 0x28, "write": 0x2A} {
		x.reads, x.writes = op == 0x28, op == 0x2A
		copy(x.cdb[:], cdb10(op, 0, 5, 8))
		n := testing.AllocsPerRun(100, func() {
			if err := g.r.Call(run); err != nil {
				t.Fatal(err)
			}
			for x.ends == 0 {
				g.step()
			}
			g.r.Memory().Put(x.lent)
		})
		base := testing.AllocsPerRun(100, func() {
			_ = g.r.Call(func() {})
			g.step()
		})
		if n > base {
			t.Errorf("a %s allocates %v times", name, n-base)
		}
	}
}
