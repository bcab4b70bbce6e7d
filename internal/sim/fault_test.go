package sim

import (
	"bytes"
	"math/bits"
	"testing"
)

// fault injects one into a new disk of 64 blocks of 512 bytes on which blocks 0 to 31 are 1, durably.
func fault(t *testing.T, f Fault) (*Disk, *Injected) {
	t.Helper()
	d := disk(t, Config{Blocks: 64, BlockSize: 512, Seed: 9})
	do(d, write(d, 1, 0, 32))
	do(d, &Op{Kind: Flush})
	return d, d.Inject(f)
}

func readOp(blocks uint64) *Op {
	return &Op{Kind: Read, Blocks: blocks, Data: [][]byte{make([]byte, blocks*512)}}
}

// count counts the sectors of a disk by number.
func count(d *Disk) map[uint64]int {
	n := map[uint64]int{}
	for s := range d.sectors {
		n[value(d.ReadAt, s)]++
	}
	return n
}

func TestFailedOperationsDoNothing(t *testing.T) {
	d, _ := fault(t, Fault{Effect: Fail})
	r := readOp(1)
	if do(d, r) != Failed || !bytes.Equal(r.Data[0], make([]byte, 512)) {
		t.Error("a read that fails gave data")
	}
	for _, op := range []*Op{write(d, 2, 0, 4), {Kind: Zeroes, Blocks: 4}, {Kind: Unmap, Blocks: 4}, {Kind: Write, FUA: true, Blocks: 1, Data: [][]byte{sectors(2, 1)}}} {
		if do(d, op) != Failed || count(d)[1] != 32 || len(d.Snapshot().Pending()) != 0 {
			t.Errorf("%v: did something", op.Kind)
		}
	}
	d.Heal()
	do(d, write(d, 2, 0, 4))
	d.Inject(Fault{Effect: Fail, Kinds: KindsOf(Flush)})
	if do(d, &Op{Kind: Flush}) != Failed || len(d.Snapshot().Pending()) != 4 {
		t.Error("a flush that fails made something durable")
	}
	if c := d.Counters(); c.Failed[Flush] != 1 || c.Failed[Write] != 2 || c.Failed[Read] != 1 {
		t.Errorf("counted %+v", c)
	}
}

func TestAWriteThatWillFailMayBeTherePartlyAfterAPowerCut(t *testing.T) {
	d, _ := fault(t, Fault{Effect: Fail})
	d.Submit(0, write(d, 2, 0, 4))
	if n := len(d.Snapshot().Pending()); n != 4 {
		t.Errorf("%d sectors pending", n)
	}
}

func TestTornWritesAreThereInPart(t *testing.T) {
	for _, reported := range []bool{false, true} {
		for blocks := uint64(1); blocks < 20; blocks++ {
			d, _ := fault(t, Fault{Effect: Tear, Reported: reported})
			op := write(d, 2, 0, blocks)
			d.Submit(0, op)
			want := len(d.Snapshot().Pending())
			if r := d.Complete(0, op); (r == Failed) != reported {
				t.Errorf("reported %v: %v", reported, r)
			}
			if n := count(d)[2]; n >= int(blocks) || blocks > 1 && n == 0 || n != want || n != len(d.Snapshot().Pending()) {
				t.Errorf("%d of %d sectors are there, %d were pending in flight", n, blocks, want)
			}
		}
	}
}

func TestLostWritesWereNeverThere(t *testing.T) {
	d, i := fault(t, Fault{Effect: Lose})
	op := write(d, 2, 0, 4)
	op.FUA = true
	if do(d, op) != OK || count(d)[1] != 32 || i.Hits() != 1 {
		t.Errorf("%v, %d hits", count(d), i.Hits())
	}
}

func TestMisdirectedWritesAreElsewhere(t *testing.T) {
	for _, c := range []struct{ lba, to, want uint64 }{{0, 40, 40}, {40, 3, 3}, {3, 63, 60}} {
		d, _ := fault(t, Fault{Effect: Misdirect, To: c.to})
		if do(d, write(d, 2, c.lba, 4)) != OK {
			t.Error("it failed")
		}
		for s := range uint64(4) {
			if got := value(d.ReadAt, c.want+s); got != 2 {
				t.Errorf("from %d to %d: sector %d is %d", c.lba, c.to, c.want+s, got)
			}
		}
		if count(d)[2] != 4 {
			t.Errorf("from %d to %d: %v", c.lba, c.to, count(d))
		}
	}
	d, i := fault(t, Fault{Effect: Misdirect})
	for range 50 {
		do(d, write(d, 2, 60, 4))
	}
	if i.Hits() != 50 || count(d)[2] < 30 {
		t.Errorf("50 writes of 4 sectors to anywhere are on %d", count(d)[2])
	}
}

func TestFlippedBits(t *testing.T) {
	differ := func(a, b []byte) (n int) {
		for i := range a {
			n += bits.OnesCount8(a[i] ^ b[i])
		}
		return n
	}
	for _, n := range []int{0, 1, 3} {
		d, i := fault(t, Fault{Effect: FlipBits, Kinds: KindsOf(Read), Bits: n})
		r := readOp(16)
		r.Data = [][]byte{make([]byte, 512), make([]byte, 15*512)}
		do(d, r)
		if got := differ(bytes.Join(r.Data, nil), sectors(1, 16)); got != max(n, 1) {
			t.Errorf("%d bits of a read: %d differ", n, got)
		}
		i.Remove()
		if r := readOp(16); do(d, r) != OK || differ(r.Data[0], sectors(1, 16)) != 0 {
			t.Error("it stayed")
		}
		d, _ = fault(t, Fault{Effect: FlipBits, Kinds: KindsOf(Write), Bits: n})
		op := write(d, 2, 0, 16)
		mine := append([]byte(nil), op.Data[0]...)
		do(d, op)
		r = readOp(16)
		do(d, r)
		if got := differ(r.Data[0], sectors(2, 16)); got != max(n, 1) || !bytes.Equal(mine, op.Data[0]) {
			t.Errorf("%d bits of a write: %d differ", n, got)
		}
	}
}

func TestSlowOperations(t *testing.T) {
	for factor, want := range map[int64]int64{0: 100, 7: 7} {
		plain, slow := disk(t, Config{Blocks: 8}), disk(t, Config{Blocks: 8})
		slow.Inject(Fault{Effect: Slow, Factor: factor})
		for range 20 {
			if a, b := plain.Submit(0, write(plain, 1, 0, 1)), slow.Submit(0, write(slow, 1, 0, 1)); b != want*a {
				t.Fatalf("factor %d: %d instead of %d", factor, b, a)
			}
		}
	}
}

// patient notes what came unstuck.
type patient struct{ freed int }

func (p *patient) Unstuck(op *Op, delay int64) {
	if delay > 0 {
		p.freed++
	}
}

func TestStuckOperationsWaitForRelease(t *testing.T) {
	d, i := fault(t, Fault{Effect: Stick})
	var p patient
	op, dropped := write(d, 2, 0, 2), write(d, 3, 8, 2)
	op.Owner, dropped.Owner = &p, &p
	if d.Submit(0, op) != Never || d.Submit(0, dropped) != Never || d.Stuck() != 2 {
		t.Errorf("%d stuck", d.Stuck())
	}
	if n := len(d.Snapshot().Pending()); n != 4 {
		t.Errorf("%d sectors pending", n)
	}
	d.Drop(0, dropped)
	i.Remove()
	if d.Submit(0, write(d, 4, 20, 1)) == Never {
		t.Error("a fault that was removed still works")
	}
	i.Release()
	if p.freed != 1 || d.Stuck() != 0 {
		t.Errorf("%d freed, %d stuck", p.freed, d.Stuck())
	}
	if d.Complete(0, op) != OK || count(d)[2] != 2 {
		t.Error("it did not complete after all")
	}
}

func TestWhichOperationsAFaultTakes(t *testing.T) {
	ops := func(d *Disk) []*Op {
		return []*Op{write(d, 2, 0, 4), write(d, 2, 4, 4), write(d, 2, 8, 4), readOp(1), {Kind: Flush}, write(d, 2, 7, 1)}
	}
	for _, c := range []struct {
		name string
		f    Fault
		want string // F: failed
	}{
		{"all", Fault{}, "FFFFFF"},
		{"writes", Fault{Kinds: KindsOf(Write)}, "FFF..F"},
		{"two blocks", Fault{First: 3, Blocks: 2}, "FF..F."},
		{"one block", Fault{First: 7, Blocks: 1}, ".F..FF"},
		{"writes, but the first", Fault{Kinds: KindsOf(Write), Skip: 1}, ".FF..F"},
		{"two writes, but the first", Fault{Kinds: KindsOf(Write), Skip: 1, Count: 2}, ".FF..."},
		{"none at a rate of next to nothing", Fault{Rate: 1e-12}, "......"},
	} {
		d, i := fault(t, c.f)
		got, hits := "", uint64(0)
		for _, op := range ops(d) {
			if do(d, op) == Failed {
				got += "F"
				hits++
			} else {
				got += "."
			}
		}
		if got != c.want || i.Hits() != hits {
			t.Errorf("%s: %s, want %s; %d hits", c.name, got, c.want, i.Hits())
		}
	}
	d, i := fault(t, Fault{Rate: 0.25})
	for range 1000 {
		do(d, readOp(1))
	}
	if i.Hits() < 180 || i.Hits() > 320 {
		t.Errorf("one in four of 1000: %d", i.Hits())
	}
	if _, i := fault(t, Fault{Effect: Lose, Kinds: KindsOf(Read, Write)}); i.Kinds != KindsOf(Write) {
		t.Error("a read can be lost")
	}
}

func TestFaultsDoNotChangeHowLongOtherOperationsTake(t *testing.T) {
	a, b := disk(t, Config{Blocks: 8, Seed: 4}), disk(t, Config{Blocks: 8, Seed: 4})
	b.Inject(Fault{Effect: Tear, Rate: 0.5})
	for range 50 {
		if x, y := a.Submit(0, write(a, 1, 0, 4)), b.Submit(0, write(b, 1, 0, 4)); x != y {
			t.Fatalf("%d with a fault, %d without", y, x)
		}
	}
}
