package bdevsim_test

import (
	"bytes"
	"testing"

	"github.com/pollux-storage/pollux/bdev"
	"github.com/pollux-storage/pollux/bdev/bdevsim"
	"github.com/pollux-storage/pollux/internal/sim"
)

// TestACopyIsOneAct (V-52): while a copy is between two of its steps, nobody on any reactor writes its source, or sees or changes its
// target; reads of the source and everything beside it go on. It is as if the copy had happened in one moment.
func TestACopyIsOneAct(t *testing.T) {
	const blocks, from, to = 80, 0, 200 // three steps of 128 KiB
	for _, step := range []uint64{0, 32, 64} {
		w := bdevsim.NewWorld(t, 1, 2)
		d := w.Disk("Disk0", 4<<20)
		medium := bdevsim.DiskOf(d).Medium()
		k := newClient(w, 0, d)
		for at := uint64(0); at < blocks; at += 16 {
			k.mark(from + at)
			k.must(bdev.Write, from+at, 16, false)
		}
		begin := func(core int, kind bdev.Kind, lba, blocks, lba2 uint64) *client {
			c := newClient(w, core, d)
			c.mark(1000)
			c.q.LBA2 = lba2
			c.begin(kind, lba, blocks, false)
			return c
		}
		stuck := medium.Inject(sim.Fault{Effect: sim.Stick, Kinds: sim.KindsOf(sim.Write), First: to + step, Blocks: 1})
		copying := begin(0, bdev.Copy, to, blocks, from)
		w.Run("the copy is between two steps", func() bool { return medium.Stuck() == 1 })
		stuck.Remove()
		var waits, reads []*client
		for core := range 2 {
			reads = append(reads, begin(core, bdev.Read, to+step, 16, 0))
			waits = append(waits, begin(core, bdev.Write, from+79, 1, 0), begin(core, bdev.WriteZeroes, to+78, 2, 0), begin(core, bdev.Copy, 400, 2, to+76))
			for _, c := range []*client{
				begin(core, bdev.Read, from+79, 1, 0), begin(core, bdev.Write, to+blocks, 1, 0), begin(core, bdev.Copy, 500, 40, from), begin(core, bdev.Flush, 0, 0, 0),
			} {
				w.Run("what is beside the copy ends", func() bool { return !c.left })
			}
		}
		for _, c := range append(waits, reads...) {
			if !c.left {
				t.Errorf("step at %d: a %v of block %d ended in the midst of the copy", step, c.q.Kind, c.q.LBA)
			}
		}
		stuck.Release()
		all := append(append([]*client{copying}, waits...), reads...)
		w.Run("all end", func() bool {
			for _, c := range all {
				if c.left {
					return false
				}
			}
			return true
		})
		for _, c := range all {
			if c.q.Status != bdev.StatusOK {
				t.Errorf("a %v: %v", c.q.Kind, c.q.Status)
			}
		}
		if step < 64 { // what others change behind it is not among these
			want := make([]byte, 16*4096)
			medium.ReadAt(want, (from+step)*4096)
			for _, c := range reads {
				if !bytes.Equal(c.b[:len(want)], want) {
					t.Errorf("step at %d: a read saw something else than the copy", step)
				}
			}
		}
	}
}
