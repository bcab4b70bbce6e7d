package iscsi

import (
	"bytes"
	"encoding/binary"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/pollux-storage/pollux/bdev"
	"github.com/pollux-storage/pollux/bdev/reservation"
)

// crossing is a segment from one target of a list to another.
type crossing struct {
	src, dst int
	flags    byte
	from, to uint64
	n        uint16
}

// crossList makes the parameter list of an EXTENDED COPY between the units of the rig: targets are LUNs, -1 one that nobody has.
func (g *rig) crossList(list byte, targets []int, segments ...crossing) []byte {
	b := make([]byte, copyHeaderBytes)
	b[0] = list
	binary.BigEndian.PutUint16(b[2:], uint16(len(targets)*copyTargetBytes))
	binary.BigEndian.PutUint32(b[8:], uint32(len(segments)*copySegmentBytes))
	for _, lun := range targets {
		id, size := uuid.MustParse("11111111-89ab-4cde-8f01-23456789abcd"), uint32(512)
		if lun >= 0 {
			u := g.nexus.units[lun]
			id, size = u.unit.id(), u.ch.Geometry().BlockSize
		}
		n := naa(id)
		d := make([]byte, copyTargetBytes)
		d[0], d[4], d[5], d[7], d[30] = 0xE4, 1, 3, 16, byte(size>>8)
		copy(d[8:], n[:])
		b = append(b, d...)
	}
	for _, s := range segments {
		d := make([]byte, copySegmentBytes)
		d[0], d[1], d[3], d[5], d[7] = 0x02, s.flags, 24, byte(s.src), byte(s.dst)
		binary.BigEndian.PutUint16(d[10:], s.n)
		binary.BigEndian.PutUint64(d[12:], s.from)
		binary.BigEndian.PutUint64(d[20:], s.to)
		b = append(b, d...)
	}
	return b
}

// newPair is a rig with a second unit, of blocks of the given size.
func newPair(t *testing.T, blockSize uint32) *rig {
	g := newRig(t, 512)
	g.attachMem(1, "Mem1", blockSize)
	g.quiet()
	return g
}

func (g *rig) attachMem(lun int, name string, blockSize uint32) {
	g.Helper()
	if _, err := bdev.NewMem(g.bdevs, name, uuid.New(), blockSize, rigBlocks); err != nil {
		g.Fatal(err)
	}
	g.attach(lun, name)
}

// holds are the bytes from one of a unit on.
func (g *rig) holds(lun int, from, n uint64) []byte {
	g.Helper()
	size := uint64(g.nexus.units[lun].ch.Geometry().BlockSize)
	var all []byte
	for lba := from / size; lba < (from+n)/size; {
		k := min((from+n)/size-lba, 1<<20/size)
		all = append(all, g.do(cdb16(0x88, 0, lba, uint32(k)), wants(int(k*size)), at(lun)).Want("looking", "good").in...)
		lba += k
	}
	return all
}

// rest wants nobody to use a unit.
func (g *rig) rest(why string) {
	g.Helper()
	for lun, u := range g.nexus.units {
		if u.here.inFlight != 0 || u.here.copying.by != nil {
			g.Fatalf("%s: unit %d is used %d times, its memory by %v", why, lun, u.here.inFlight, u.here.copying.by)
		}
	}
}

func TestCopyBetweenUnits(t *testing.T) {
	for _, size := range []uint32{512, 4096} {
		g := newPair(t, size)
		data := random(3000 * 512)
		clear(data[1000*512 : 2000*512])
		for at := 0; at < 3000; at += 1000 {
			g.write(uint64(at), data[at*512:][:1000*512])
		}
		per := uint64(size / 512)
		from, to, n := uint64(3), uint64(5), uint16(2992) // from LUN 0 to 1, sent to either
		for _, by := range []int{0, 1} {
			g.do(cdb16(0x93, writeSameNoData, 0, 400), wants(0), at(1)).Want("clearing", "good")
			zeroed := g.nexus.units[1].ch.Stats().Kinds[bdev.WriteZeroes].Ops
			list := g.crossList(9, []int{0, 1}, crossing{0, 1, 0, from, to, 0}, crossing{0, 1, 0, from, to, n})
			g.do(cdb16(0x83, 0, 0, uint32(len(list))), sends(list), at(by)).Want("from unit 0 to unit 1", "good")
			if !bytes.Equal(g.holds(1, to*per*512, uint64(n)*512), data[3*512:][:uint64(n)*512]) {
				t.Fatalf("blocks of %d, by unit %d: something else was copied", size, by)
			}
			g.rest("a copy")
			if zeroed := g.nexus.units[1].ch.Stats().Kinds[bdev.WriteZeroes].Ops - zeroed; zeroed != 1 {
				t.Errorf("%d pieces of zeros were zeroed, not 1", zeroed)
			}
			x := g.do(cdb16(0x84, 0, 0, 12), wants(12), at(by), func(x *exchange) { x.cdb[2] = 9 }).Want("its status", "good")
			if want := []byte{0, 0, 0, 8, 1, 0, 2, 1, 0, 0, 0x05, 0xD8}; !bytes.Equal(x.in, want) {
				t.Errorf("the status is %x, want %x", x.in, want)
			}
		}
		// Back, by the number of blocks of where it goes to, and by that of where it comes from.
		for _, c := range []crossing{{1, 0, 0x02, to, 100, 64}, {1, 0, 0, to, 200, uint16(64 / per)}} {
			list := g.crossList(9, []int{0, 1}, c)
			g.do(cdb16(0x83, 0, 0, uint32(len(list))), sends(list)).Want("back", "good")
			if !bytes.Equal(g.holds(0, c.to*512, 64*512), data[3*512:][:64*512]) {
				t.Errorf("blocks of %d: something else came back", size)
			}
		}
		// Within another unit than the one that has the command.
		list := g.crossList(9, []int{1}, crossing{0, 0, 0, to, 3000 / per, uint16(64 / per)})
		g.do(cdb16(0x83, 0, 0, uint32(len(list))), sends(list)).Want("within unit 1, by unit 0", "good")
		if !bytes.Equal(g.holds(1, 3000/per*per*512, 64*512), data[3*512:][:64*512]) {
			t.Errorf("blocks of %d: something else was copied within unit 1", size)
		}
		g.rest("all")
	}
}

func TestCopyBetweenUnitsRefused(t *testing.T) {
	g := newPair(t, 4096)
	g.write(0, random(64*512))
	before := g.holds(1, 0, 64*4096)
	u0, u1 := g.nexus.units[0], g.nexus.units[1]
	held := &reservation.Hold{}
	good := crossing{0, 1, 0, 0, 0, 8}
	for name, c := range map[string]struct {
		targets      []int
		segment      crossing
		by           int
		set          func(on bool)
		want, status string
	}{
		"a unit that nobody has":         {[]int{0, -1}, good, 0, nil, "0A/0D/02", ""},
		"from past the end":              {[]int{0, 1}, crossing{0, 1, 0, rigBlocks - 7, 0, 8}, 0, nil, "0A/00/00", ""},
		"to past the end":                {[]int{0, 1}, crossing{0, 1, 0, 0, rigBlocks, 8}, 0, nil, "0A/00/00", ""},
		"around 0":                       {[]int{0, 1}, crossing{0, 1, 0, 0, 1<<64 - 1, 8}, 0, nil, "0A/00/00", ""},
		"half a block":                   {[]int{0, 1}, crossing{0, 1, 0, 0, 0, 9}, 0, nil, "0A/26/0A", ""},
		"the source is reserved":         {[]int{0, 1}, good, 1, func(on bool) { u0.denyRead = on }, "0A/0D/01", ""},
		"the target is reserved":         {[]int{0, 1}, good, 0, func(on bool) { u1.denyWrite = on }, "0A/0D/01", ""},
		"the target is held":             {[]int{0, 1}, good, 0, func(on bool) { u1.held = map[bool]*reservation.Hold{true: held}[on] }, "0A/0D/01", ""},
		"the own unit is reserved":       {[]int{0, 1}, good, 1, func(on bool) { u1.denyWrite = on }, "conflict", ""},
		"the target is read-only":        {[]int{0, 1}, good, 0, func(on bool) { u1.ch.Geometry().ReadOnly = on }, "0A/0D/01", ""},
		"the own unit is read-only":      {[]int{0, 1}, good, 1, func(on bool) { u1.ch.Geometry().ReadOnly = on }, "07/27/00", ""},
		"the target is protected":        {[]int{0, 1}, good, 0, func(on bool) { u1.unit.modes.set(modeSoftProtected, map[bool]uint32{true: modeSoftProtected}[on]) }, "0A/0D/01", ""},
		"the own unit is protected":      {[]int{0, 1}, good, 1, func(on bool) { u1.unit.modes.set(modeSoftProtected, map[bool]uint32{true: modeSoftProtected}[on]) }, "07/27/02", ""},
		"the source being read-only":     {[]int{0, 1}, good, 0, func(on bool) { u0.ch.Geometry().ReadOnly = on }, "good", ""},
		"the source's writes are denied": {[]int{0, 1}, good, 1, func(on bool) { u0.denyWrite = on }, "good", ""},
	} {
		if c.set != nil {
			c.set(true)
		}
		list := g.crossList(9, c.targets, c.segment)
		g.do(cdb16(0x83, 0, 0, uint32(len(list))), sends(list), at(c.by)).Want(name, c.want)
		if c.set != nil {
			c.set(false)
		}
		if c.want == "good" {
			g.do(cdb16(0x93, writeSameNoData, 0, 1), wants(0), at(1)).Want("clearing", "good")
		}
		if !bytes.Equal(g.holds(1, 0, 64*4096), before) {
			t.Fatalf("%s: something was copied", name)
		}
		g.rest(name)
	}
}

// TestCopiesTakeTurns: copies of a unit share its memory, one that fails or is ended gives it to the next, and the initiator hears whose fault it was.
func TestCopiesTakeTurns(t *testing.T) {
	g := newPair(t, 512)
	data := random(2000 * 512)
	g.write(0, data)
	f, err := bdev.NewFault(g.bdevs, "Fault0", "Mem1", uuid.New())
	if err != nil {
		t.Fatal(err)
	}
	g.attach(2, "Fault0")
	g.quiet()
	copies := func(dst int) []byte { return g.crossList(7, []int{0, dst}, crossing{0, 1, 0, 0, 0, 2000}) }
	begin := func(dst, by int) *exchange {
		list := copies(dst)
		return g.start(cdb16(0x83, 0, 0, uint32(len(list))), sends(list), at(by))
	}
	g.inject(f.Driver().(*bdev.Fault), bdev.Rule{Kinds: bdev.SetOf(bdev.Write), First: 600, Blocks: 1, Status: bdev.StatusIO, Count: 2})
	a, b, c := begin(2, 0), begin(1, 0), begin(2, 2)
	if a.unit.here.copying.by != &a.command || b.req.InFlight() || !c.req.InFlight() {
		t.Error("copies of one unit do not take turns, or those of two do")
	}
	g.finish(a).Want("another unit fails", "0A/0D/01")
	g.finish(c).Want("the unit fails", "03/0C/00")
	g.finish(b).Want("the next", "good")
	g.rest("two that failed")
	if !bytes.Equal(g.holds(1, 0, 2000*512), data) {
		t.Error("something else was copied")
	}
	x := g.do(cdb16(0x84, 0, 0, 12), wants(12), at(2), func(x *exchange) { x.cdb[2] = 7 }).Want("the status of what failed", "good")
	if want := []byte{0, 0, 0, 8, 2, 0, 0, 1, 0, 0, 1, 0}; !bytes.Equal(x.in, want) {
		t.Errorf("the status is %x, want %x", x.in, want)
	}
	a, b = begin(1, 0), begin(1, 0)
	g.call(func() { a.abort(); b.abort() })
	if g.finish(a); a.status != TaskAborted {
		t.Errorf("one that was ended is answered %s", a.answered())
	}
	if g.finish(b); b.status != TaskAborted {
		t.Errorf("one that was ended as it waited is answered %s", b.answered())
	}
	g.rest("two that were ended")
}

// TestAUnitIsCopiedToUntilItsEnd: one that is removed while a copy writes to it, by another unit's command, keeps its device until the copy has ended.
func TestAUnitIsCopiedToUntilItsEnd(t *testing.T) {
	d := newDoors(t)
	ctx := t.Context()
	if _, err := bdev.NewMem(d.bdevs, "Mem1", uuid.Nil, 512, 4096); err != nil {
		t.Fatal(err)
	}
	device, err := bdev.NewFault(d.bdevs, "Fault1", "Mem1", uuid.Nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := d.target.AddLUN(ctx, d.node.name, LUNOptions{BdevName: device.Name(), LUN: 1}); err != nil {
		t.Fatal(err)
	}
	fault := device.Driver().(*bdev.Fault)
	if err := fault.Inject(bdev.Rule{Kinds: bdev.SetOf(bdev.Write, bdev.WriteZeroes), Effect: bdev.EffectPending}); err != nil {
		t.Fatal(err)
	}
	p := d.enter("a", 1, 0)
	share := p.s.nexus.units[1].here
	g := &rig{TB: t, nexus: &p.s.nexus}
	list := g.crossList(1, []int{0, 1}, crossing{0, 1, 0, 0, 0, 100})
	copied, removed := make(chan *played, 1), make(chan error, 1)
	go func() { copied <- p.do(cdb16(0x83, 0, 0, uint32(len(list))), list, 0) }()
	eventually := func(what string, is func() bool) {
		t.Helper()
		for end := time.Now().Add(time.Minute); ; {
			yes := false
			d.call(p.s.r, func() { yes = is() })
			if yes {
				return
			}
			if time.Now().After(end) {
				t.Fatalf("not within a minute: %s", what)
			}
		}
	}
	eventually("the copy writes", func() bool { return share.inFlight > 0 && share.ch.InFlight() > 0 })
	go func() { removed <- d.target.RemoveLUN(ctx, d.node.name, 1) }()
	eventually("the unit is withdrawn", func() bool { return share.idle != nil })
	select {
	case err := <-removed:
		t.Fatalf("the unit is gone while it is copied to: %v", err)
	default:
	}
	fault.Clear(^bdev.KindSet(0))
	if err := fault.Resume(); err != nil {
		t.Fatal(err)
	}
	(<-copied).want("the copy", "good")
	if err := <-removed; err != nil {
		t.Fatal(err)
	}
}
