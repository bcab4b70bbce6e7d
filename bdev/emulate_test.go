package bdev_test

import (
	"testing"

	"github.com/pollux-storage/pollux/bdev"
	"github.com/pollux-storage/pollux/bdev/bdevtest"
)

// What FUA costs where it is emulated: one flush for a request, and none without it.
func TestFUAIsOneFlush(t *testing.T) {
	e := rig(t, 1, 4096, cache(0, 0))
	flushes := func() int { return lowest(e.Device).Driver().(*bdevtest.Cache).Flushes() }
	data := e.Block(1, 100)
	for _, op := range []bdevtest.Op{
		{Kind: bdev.Write, Data: data}, {Kind: bdev.Write, Data: data, Odd: 1}, {Kind: bdev.WriteZeroes, LBA: 200, Blocks: 700},
		{Kind: bdev.Copy, LBA: 200, Blocks: 700}, {Kind: bdev.Read, Data: data}, {Kind: bdev.Compare, Data: data},
		{Kind: bdev.CompareAndWrite, Data: data, Data2: data},
	} {
		for _, fua := range []bool{false, true} {
			e.Write(0, 0, data)
			before := flushes()
			op.FUA = fua
			e.Must(0, op)
			want := 0
			if fua {
				want = 1
			}
			if n := flushes() - before; n != want {
				t.Errorf("%v, FUA %v: %d flushes, want %d", op.Kind, fua, n, want)
			}
		}
	}
	before := flushes()
	e.Want("differs", 0, bdev.StatusMiscompare, bdevtest.Op{Kind: bdev.CompareAndWrite, Data: e.Block(2, 1), Data2: e.Block(3, 1), FUA: true})
	if n := flushes() - before; n != 0 {
		t.Errorf("a compare-and-write that wrote nothing flushed %d times", n)
	}
}

// A flush below fails: the request that asked for FUA must not be said to be done.
func TestAFlushThatFailsFailsTheWrite(t *testing.T) {
	e := rig(t, 1, 4096, cache(0, 0))
	c := lowest(e.Device).Driver().(*bdevtest.Cache)
	c.FailFlushes(true)
	for _, op := range []bdevtest.Op{
		{Kind: bdev.Flush}, {Kind: bdev.Write, Data: e.Block(1, 2), FUA: true}, {Kind: bdev.WriteZeroes, Blocks: 2, FUA: true},
		{Kind: bdev.Read, Data: e.Block(1, 2), FUA: true}, {Kind: bdev.Copy, LBA: 8, Blocks: 2, FUA: true},
	} {
		e.Want("its flush fails", 0, bdev.StatusIO, op)
	}
	e.Must(0, bdevtest.Op{Kind: bdev.Write, Data: e.Block(1, 2)})
	c.FailFlushes(false)
	e.Must(0, bdevtest.Op{Kind: bdev.Write, Data: e.Block(1, 2), FUA: true})
}
