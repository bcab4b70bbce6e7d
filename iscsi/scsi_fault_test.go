package iscsi

import (
	"bytes"
	"testing"

	"github.com/google/uuid"

	"github.com/pollux-storage/pollux/bdev"
)

// faulty makes LUN 1 a device that does what it is told to, over that of LUN 0.
func (g *rig) faulty() *bdev.Fault {
	g.Helper()
	d, err := bdev.NewFault(g.bdevs, "", "Mem0", uuid.Nil)
	if err != nil {
		g.Fatal(err)
	}
	g.attach(1, d.Name())
	g.quiet()
	return d.Driver().(*bdev.Fault)
}

func (g *rig) inject(f *bdev.Fault, r bdev.Rule) {
	g.Helper()
	if err := f.Inject(r); err != nil {
		g.Fatal(err)
	}
}

func TestErrorsOfTheDevice(t *testing.T) {
	g := newRig(t, 512)
	f := g.faulty()
	b := random(8 * 512)
	list := copyList(9, copyHolds, 1, [3]uint64{0, 50, 1}, [3]uint64{10, 20, 8})
	id := naa(g.node.units[1].id())
	copy(list[16+8:], id[:])
	for name, c := range map[string]struct {
		kind bdev.Kind
		s    bdev.Status
		cdb  []byte
		o    option
		want string
		info uint64 // 0: none
	}{
		"a read":              {bdev.Read, bdev.StatusIO, cdb10(0x28, 0, 10, 8), wants(4096), "03/11/00", 10},
		"a damaged block":     {bdev.Read, bdev.StatusCorrupt, cdb10(0x28, 0, 11, 8), wants(4096), "03/11/00", 11},
		"a write":             {bdev.Write, bdev.StatusIO, cdb10(0x2A, 0, 12, 8), sends(b), "03/0C/00", 12},
		"a full pool":         {bdev.Write, bdev.StatusNoSpace, cdb10(0x2A, 0, 12, 8), sends(b), "07/27/07", 0},
		"a busy device":       {bdev.Write, bdev.StatusBusy, cdb10(0x2A, 0, 12, 8), sends(b), "busy", 0},
		"another primary":     {bdev.Read, bdev.StatusNotPrimary, cdb10(0x28, 0, 10, 8), wants(4096), "02/04/0B", 0},
		"a flush":             {bdev.Flush, bdev.StatusIO, cdb10(0x35, 0, 0, 0), wants(0), "03/0C/00", 0},
		"an UNMAP":            {bdev.Unmap, bdev.StatusIO, cdb10(0x42, 0, 0, 24), sends(unmapList([2]uint64{7, 9})), "03/0C/00", 7},
		"a WRITE SAME":        {bdev.Write, bdev.StatusNotDurable, cdb10(0x41, 0, 5, 8), sends(b[:512]), "02/04/01", 0},
		"a VERIFY":            {bdev.Read, bdev.StatusIO, cdb10(0x2F, 0, 10, 8), wants(0), "03/11/00", 10},
		"a write, verified":   {bdev.Compare, bdev.StatusIO, cdb10(0x2E, 0, 10, 8), sends(b), "03/11/00", 10},
		"an EXTENDED COPY":    {bdev.Copy, bdev.StatusIO, cdb16(0x83, 0, 0, uint32(len(list))), sends(list), "03/0C/00", 20},
		"a MODE SELECT":       {bdev.Flush, bdev.StatusIO, []byte{0x15, 0x10, 0, 0, 0, 0}, sends(nil), "good", 0},
		"a COMPARE AND WRITE": {bdev.CompareAndWrite, bdev.StatusClosed, cdbSwap(0, 10, 4), sends(b), "02/04/0A", 0},
	} {
		f.Clear(^bdev.KindSet(0))
		first, blocks := uint64(0), uint64(0)
		if c.kind == bdev.Copy {
			first, blocks = 20, 1
		}
		g.inject(f, bdev.Rule{Kinds: bdev.SetOf(c.kind), First: first, Blocks: blocks, Status: c.s})
		x := g.do(c.cdb, at(1), c.o).Want(name, c.want)
		if x.sense.informs != (c.info != 0) || x.sense.info != c.info {
			t.Errorf("%s: INFORMATION is %d, valid %t", name, x.sense.info, x.sense.informs)
		}
	}
	cdb := cdb16(0x84, 0, 0, 12)
	cdb[2] = 9
	if x := g.do(cdb, at(1), wants(12)).Want("the status of the copy", "good"); !bytes.Equal(x.in, []byte{0, 0, 0, 8, 2, 0, 1, 1, 0, 0, 0, 0}) {
		t.Errorf("the status of the copy is %x", x.in)
	}
}

func TestACommandIsAborted(t *testing.T) {
	g := newRig(t, 512)
	f := g.faulty()
	g.inject(f, bdev.Rule{Kinds: bdev.SetOf(bdev.Write), Effect: bdev.EffectPending})
	x := g.start(cdb10(0x2A, 0, 0, 8), sends(random(8*512)), at(1))
	g.step()
	if x.ends != 0 {
		t.Fatal("a command that the device keeps is answered")
	}
	aborted := false
	g.call(func() { aborted = x.abort() })
	if !aborted {
		t.Fatal("it is not aborted")
	}
	g.finish(x).Want("an aborted command", "status 40")
	g.call(func() { aborted = x.abort() })
	if aborted {
		t.Error("a command that has ended is aborted")
	}
}
