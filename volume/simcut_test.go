package volume

import (
	"slices"

	"github.com/pollux-storage/pollux/bdev"
	"github.com/pollux-storage/pollux/bdev/bdevsim"
	"github.com/pollux-storage/pollux/internal/sim"
	"github.com/pollux-storage/pollux/wal"
)

// This file is what happens beside an act of control in the simulation: clients that go on, and the power that fails at a point of it.

// simLoad is what clients do meanwhile.
var simLoad []simOp

// simCut is what a power cut leaves, before it is decided what of it.
type simCut struct {
	disk  *sim.Image
	log   *sim.Image // nil: there is no log device
	marks map[*simVolume]simMarks
	tick  int
	heard bool // whoever did the act had heard of its end
	where string
}

// simMarks are LSNs of a volume at a cut: of its last checkpoint, and of what is durable.
type simMarks struct{ home, durable wal.LSN }

// cutNow takes the power now.
func (s *simulation) cutNow() *simCut {
	c := &simCut{disk: s.medium().Snapshot(), tick: s.tick, heard: true, where: "the end", marks: map[*simVolume]simMarks{}}
	if s.log != nil {
		c.log = bdevsim.DiskOf(s.log).Medium().Snapshot()
	}
	for _, x := range s.volumes {
		_, _, durable := x.v.log.Marks()
		c.marks[x] = simMarks{x.v.page.Checkpoint, max(durable, x.v.page.Durable)}
	}
	return c
}

// during does something for a volume, in half of the cases while clients go on. When the power fails, at a point that is drawn, it gives
// what that leaves; what the act does afterwards never was.
func (s *simulation) during(act func()) *simCut {
	s.t.Helper()
	var cut *simCut
	cuts := !s.lied && !s.gentle && s.r.Uint32N(2) == 0
	if left := s.r.IntN(60); cuts {
		s.watch(func(p sim.Point) {
			if left--; left == 0 {
				cut = s.cutNow()
				cut.heard, cut.where = false, p.String()
			}
		})
	}
	s.loaded = s.r.Uint32N(2) == 0
	act()
	s.loaded = false
	s.watch(nil)
	if cuts && cut == nil {
		cut = s.cutNow()
	}
	return cut
}

// watch lets f hear of the points of all disks.
func (s *simulation) watch(f func(sim.Point)) {
	for _, m := range s.media() {
		m.Watch(f)
	}
}

// load lets a client do something, now and then.
func (s *simulation) load() {
	if s.r.Uint32N(8) > 0 {
		return
	}
	o := &simLoad[s.r.IntN(len(simLoad))]
	o.do(s, s.volumes[s.r.IntN(len(s.volumes))])
	s.did["beside an act"]++
}

// crashAt goes on with what a power cut leaves.
func (s *simulation) crashAt(cut *simCut, c sim.Choice) {
	s.t.Helper()
	s.say("power cut at %s", cut.where)
	s.did["power cut"]++
	if s.log != nil && s.r.Uint32N(8) == 0 {
		s.loseLogs(cut, false)
		return
	}
	s.heal()
	s.bootDisks(cut, c)
	s.importPool()
	s.found("after a power cut", simSight{at: cut.tick, until: cut.tick, durable: true})
}

// cutUnderLoad takes the power while clients are busy, whatever is wrong meanwhile, unless it is a lie.
func (s *simulation) cutUnderLoad(*simVolume) {
	if !s.lied && !s.gentle {
		s.crashAt(s.cutNow(), sim.Random(s.r, s.r.Float64()))
	}
}

// foundPrefix holds the blocks of a volume that was opened against each other: nothing that had ended before another change began is
// missing where that one is there, durable or not.
func (s *simulation) foundPrefix(what string, x *simVolume, data []byte, tick int) {
	s.t.Helper()
	newest := 0
	for b, list := range x.content.blocks {
		word, _ := simRead(data[b*PageBytes:][:PageBytes])
		if word == 0 {
			continue
		}
		first := 0 // the oldest that it can be
		for _, w := range list {
			if w.word(b) == word && (first == 0 || w.begun < first) {
				first = w.begun
			}
		}
		newest = max(newest, first)
	}
	s.compare(what+", beside what came later", x, x.content, 0, data, simSight{at: newest, until: tick})
}

func init() {
	for _, o := range simOps {
		if slices.Contains([]string{"write of a few blocks", "write of whole clusters", "trim", "zeroes", "read", "flush", "checkpoint"}, o.name) {
			simLoad = append(simLoad, o)
		}
	}
	simOps = append(simOps, simOp{"power cut under load", 1, false, (*simulation).cutUnderLoad})
}

// outOfRange says that nothing is read behind the end of a device.
func (s *simulation) outOfRange(what, name string, d *bdev.Device, c interface {
	do(kind bdev.Kind, block, n uint64, data []byte) bdev.Status
}, blocks uint64) {
	s.t.Helper()
	if n := d.Geometry().Blocks; n != blocks {
		s.t.Fatalf("%s: %s has %d blocks, and should have %d", what, name, n, blocks)
	}
	buf := pageMemory(2)
	for _, at := range []uint64{blocks - 1, blocks} {
		if st := c.do(bdev.Read, at, 2, buf); st != bdev.StatusOutOfRange {
			s.t.Fatalf("%s: a read of 2 blocks at %d of %s, which has %d: %v", what, at, name, blocks, st)
		}
	}
}
