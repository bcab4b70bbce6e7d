package volume

import (
	"fmt"

	"github.com/pollux-storage/pollux/bdev"
	"github.com/pollux-storage/pollux/reactor"
)

// This file is what can happen in the simulation. Who adds a kind of operation to volumes or pools adds a line, and where it makes
// contents of its own (simsnap_test.go), keeps a copy of the volume's to compare with.

// simOp is one of them.
type simOp struct {
	name   string
	weight uint32
	alone  bool // it is done while nothing is wrong with the disk, and no client is busy
	do     func(s *simulation, x *simVolume)
}

var simOps = []simOp{
	{"write of a few blocks", 24, false, func(s *simulation, x *simVolume) {
		if c := x.free(); c != nil {
			at, n := s.where(x, 8)
			c.put(at, n, s.r.Uint32N(8) == 0)
		}
	}},
	{"write of many blocks", 6, false, func(s *simulation, x *simVolume) {
		if c := x.free(); c != nil {
			at, n := s.where(x, simRequestPages)
			c.put(at, n, false)
		}
	}},
	{"write of whole clusters", 10, false, func(s *simulation, x *simVolume) {
		if c := x.free(); c != nil {
			at, n := s.clusters(x)
			c.put(at, n, s.r.Uint32N(8) == 0)
		}
	}},
	{"trim", 6, false, func(s *simulation, x *simVolume) {
		if c := x.free(); c != nil {
			at, n := s.where(x, x.blocks/2)
			c.zero(bdev.Unmap, at, n, false)
		}
	}},
	{"zeroes", 4, false, func(s *simulation, x *simVolume) {
		if c := x.free(); c != nil {
			at, n := s.where(x, 100)
			c.zero(bdev.WriteZeroes, at, n, s.r.Uint32N(4) == 0)
		}
	}},
	{"compare and write", 6, false, func(s *simulation, x *simVolume) {
		if c := x.free(); c != nil {
			at, _ := s.where(x, 1)
			c.swap(at, s.r.Uint32N(4) == 0)
		}
	}},
	{"read", 16, false, func(s *simulation, x *simVolume) {
		if c := x.free(); c != nil {
			at, n := s.where(x, 64)
			c.read(at, n)
		}
	}},
	{"flush", 8, false, func(s *simulation, x *simVolume) {
		if c := x.free(); c != nil {
			c.flush()
		}
	}},
	{"checkpoint", 3, false, func(s *simulation, x *simVolume) {
		s.w.On(x.v.r.Index(), func(*reactor.Reactor) { x.v.force(newEvent()) })
	}},
	{"copy", 2, true, func(s *simulation, x *simVolume) {
		at, n := s.where(x, 40)
		from := s.r.Uint64N(x.blocks - n + 1)
		x.clients[0].copy(at, from, n)
	}},
	{"scrub", 1, true, func(s *simulation, x *simVolume) {
		if err := x.v.StartScrub(0); err != nil {
			s.t.Fatal(err)
		}
		s.w.Run("the scrub is over", func() bool { return !x.v.scrub.runs() })
		if n := x.v.scrub.stats.Errors; n != 0 {
			s.t.Fatalf("the scrub of volume %s finds %d errors, first %+v", x.name, n, x.v.scrub.first)
		}
	}},
	{"another volume", 1, true, func(s *simulation, _ *simVolume) {
		if len(s.volumes) < simVolumesMax {
			s.makeVolume()
		}
	}},
	{"deletion of a volume", 1, true, func(s *simulation, x *simVolume) {
		if len(s.volumes) == 1 || len(x.snaps) > 0 {
			return
		}
		s.detach(x)
		s.closeVolume(x)
		if err := s.pool.DeleteVolume(s.t.Context(), x.v, nil); err != nil {
			s.t.Fatal(err)
		}
		for i, o := range s.volumes {
			if o == x {
				s.volumes = append(s.volumes[:i:i], s.volumes[i+1:]...)
			}
		}
		s.say("volume %s is gone", x.name)
	}},
	{"another name", 1, true, func(s *simulation, x *simVolume) {
		s.origin++
		to := fmt.Sprint("v", s.origin)
		if err := s.pool.RenameVolume(x.v, to); err != nil {
			s.t.Fatal(err)
		}
		x.name = to
	}},
	{"power cut", 1, true, func(s *simulation, _ *simVolume) { s.crash(func(int) bool { return s.r.Uint32N(2) == 0 }) }},
	{"closed and opened", 1, true, func(s *simulation, _ *simVolume) { s.reopen() }},
}

// where draws blocks of a volume, most of them at its beginning.
func (s *simulation) where(x *simVolume, most uint64) (at, n uint64) {
	n = 1 + s.r.Uint64N(min(most, x.blocks))
	at = s.r.Uint64N(x.blocks - n + 1)
	if per := uint64(x.v.shape.Blocks()); s.r.Uint32N(2) == 0 {
		at -= at % per
	}
	if s.r.Uint32N(2) == 0 {
		at %= 100
	}
	return at, n
}

// clusters draws whole clusters of a volume.
func (s *simulation) clusters(x *simVolume) (at, n uint64) {
	per := uint64(x.v.shape.Blocks())
	n = 1 + s.r.Uint64N(simRequestPages/per)
	return s.r.Uint64N(x.blocks/per-n+1) * per, n * per
}
