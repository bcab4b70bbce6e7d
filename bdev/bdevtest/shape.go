package bdevtest

import (
	"math"

	"github.com/pollux-storage/pollux/bdev"
)

// shapeRules are about geometry, limits, and requests that are wrong in themselves.
var shapeRules = []Rule{
	{Name: "its shape is the same for everyone", Test: sameShape},
	{Name: "requests outside its range are refused", Test: ranges},
	{Name: "memory that does not fit is refused", Test: misfits},
	{Name: "what is not supported is refused", Test: unsupported},
	{Name: "each request ends once", Test: endsOnce},
}

func sameShape(e *Env) {
	if e.G.Blocks<<e.Shift() != Bytes {
		e.Errorf("%d blocks of %d bytes, want %d bytes", e.G.Blocks, e.G.BlockSize, Bytes)
	}
	if e.G.MaxBlocks == 0 || e.G.PhysicalBlockSize < e.G.BlockSize || e.G.AtomicBlocks == 0 || e.G.MemoryAlign == 0 {
		e.Errorf("fields without a value: %+v", e.G)
	}
	for i, c := range e.Channels {
		var g bdev.Geometry
		_ = e.Group.Reactor(i).Call(func() { g = *c.Geometry() })
		if g != e.G {
			e.Errorf("reactor %d has %+v, the registry %+v", i, g, e.G)
		}
	}
	for k := bdev.Read; int(k) < bdev.Kinds; k++ {
		if e.G.Native.Has(k) && !e.G.Supports(k) {
			e.Errorf("%v is native and not supported", k)
		}
	}
	for _, k := range []bdev.Kind{bdev.Read, bdev.Write, bdev.Flush, bdev.WriteZeroes, bdev.Compare, bdev.CompareAndWrite, bdev.Copy, bdev.Reset} {
		if !e.G.Supports(k) {
			e.Errorf("%v is not supported", k)
		}
	}
	for _, n := range append([]string{e.Device.Name(), e.Device.UUID().String()}, e.Device.Aliases()...) {
		if d, err := e.Registry.Lookup(n); err != nil || d != e.Device {
			e.Errorf("not found as %q: %v", n, err)
		}
	}
}

// ops gives one valid request of each kind that has a range, of n blocks at lba.
func (e *Env) ops(lba, n uint64) []Op {
	b := e.Block(1, n)
	return []Op{
		{Kind: bdev.Read, LBA: lba, Blocks: n, Data: b},
		{Kind: bdev.Write, LBA: lba, Blocks: n, Data: b},
		{Kind: bdev.WriteZeroes, LBA: lba, Blocks: n},
		{Kind: bdev.Unmap, LBA: lba, Blocks: n},
		{Kind: bdev.Compare, LBA: lba, Blocks: n, Data: b},
		{Kind: bdev.CompareAndWrite, LBA: lba, Blocks: n, Data: b, Data2: b},
		{Kind: bdev.Copy, LBA: lba, Blocks: n},
	}
}

func ranges(e *Env) {
	last := e.G.Blocks - 1
	old := e.Block(7, 1)
	for _, core := range e.Cores() {
		for _, op := range e.ops(last, 1) {
			if !e.G.Supports(op.Kind) {
				continue
			}
			e.Write(core, last, old)
			want := bdev.StatusOK
			if op.Kind == bdev.Compare || op.Kind == bdev.CompareAndWrite {
				op.Data = old
			}
			e.Want("the last block", core, want, op)
			bad := func(why string, s bdev.Status, lba, n uint64) {
				o := op
				o.LBA, o.Blocks, o.Exactly = lba, n, true
				if n != 1 && op.Data != nil && n*uint64(e.G.BlockSize) <= 4<<20 {
					o.Data = make([]byte, n<<e.Shift())
					if op.Data2 != nil {
						o.Data2 = o.Data
					}
				}
				e.Want(why, core, s, o)
			}
			e.Write(core, last, old)
			bad("one block past the end", bdev.StatusOutOfRange, last+1, 1)
			bad("two blocks at the last", bdev.StatusOutOfRange, last, 2)
			bad("block 2^64-1", bdev.StatusOutOfRange, math.MaxUint64, 1)
			bad("block 2^63", bdev.StatusOutOfRange, 1<<63, 1)
			bad("a range that wraps around", bdev.StatusOutOfRange, last, math.MaxUint64)
			bad("a range that wraps around to 0", bdev.StatusOutOfRange, 2, math.MaxUint64-1)
			bad("2^63 blocks", bdev.StatusOutOfRange, 0, 1<<63)
			bad("no blocks", bdev.StatusMisaligned, 0, 0)
			if op.Data != nil && uint64(e.G.MaxBlocks) < e.G.Blocks {
				bad("more blocks than it takes at once", bdev.StatusTooLarge, 0, uint64(e.G.MaxBlocks)+1)
			}
			if op.Kind == bdev.Copy {
				o := op
				o.LBA, o.LBA2 = 0, last+1
				e.Want("source past the end", core, bdev.StatusOutOfRange, o)
				o.LBA2, o.Blocks = last, 2
				e.Want("two source blocks at the last", core, bdev.StatusOutOfRange, o)
				o.LBA2, o.Blocks = math.MaxUint64, 1
				e.Want("source at 2^64-1", core, bdev.StatusOutOfRange, o)
			}
			if !e.Subject.Forgets {
				e.WantData("after requests that were refused", core, last, old)
			}
		}
	}
}

func misfits(e *Env) {
	size := int(e.G.BlockSize)
	for _, kind := range []bdev.Kind{bdev.Read, bdev.Write, bdev.Compare, bdev.CompareAndWrite} {
		op := Op{Kind: kind, LBA: 1, Blocks: 2}
		for _, c := range []struct {
			why    string
			n      int
			pieces []int
		}{
			{"a byte short", 2*size - 1, nil},
			{"a byte too long", 2*size + 1, nil},
			{"a block short", size, nil},
			{"a block too long", 3 * size, nil},
			{"no memory", 0, nil},
			{"pieces that are no blocks", 2 * size, []int{size + size/2, size / 2}},
			{"pieces of bytes", 2 * size, []int{1, 2*size - 1}},
		} {
			op.Data, op.Pieces = make([]byte, c.n), c.pieces
			if c.n == 0 {
				op.Data = nil
			}
			if kind == bdev.CompareAndWrite {
				op.Data2 = op.Data
			}
			e.Want(c.why, 0, bdev.StatusMisaligned, op)
		}
		if kind == bdev.CompareAndWrite {
			op.Data, op.Pieces = make([]byte, 2*size), nil
			op.Data2 = make([]byte, size)
			e.Want("second memory shorter than the first", 0, bdev.StatusMisaligned, op)
		}
	}
}

func unsupported(e *Env) {
	for _, op := range e.ops(0, 1) {
		if !e.G.Supports(op.Kind) {
			e.Want("not supported", 0, bdev.StatusNotSupported, op)
		}
	}
}

func endsOnce(e *Env) {
	ops := append(e.ops(0, 2), Op{Kind: bdev.Flush}, Op{Kind: bdev.Reset}, Op{Kind: bdev.Read, LBA: e.G.Blocks, Blocks: 1})
	for _, core := range e.Cores() {
		var jobs []*Job
		for _, op := range ops {
			j := e.Begin(core, op)
			j.Wait()
			jobs = append(jobs, j)
		}
		e.Settle()
		for _, j := range jobs {
			_ = e.Group.Reactor(core).Call(func() {
				if j.ends != 1 {
					e.Errorf("%v completed %d times", j.Q.Kind, j.ends)
				}
				if j.ch.Abort(&j.Q) {
					e.Errorf("%v was aborted after its end", j.Q.Kind)
				}
			})
			j.Finish()
		}
	}
}
