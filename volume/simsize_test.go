package volume

import "errors"

// This file is the sizes of volumes in the simulation: they grow under load, and are never made smaller. What a restore cuts off, since the
// snapshot was taken of a smaller volume, is zeros from then on.

func init() {
	simOps = append(simOps,
		simOp{"growing", 3, false, (*simulation).grow},
		simOp{"a smaller size", 1, false, (*simulation).shrink},
	)
}

// grow makes a volume larger. Where that fails or the power does, it may be either.
func (s *simulation) grow(x *simVolume) {
	s.t.Helper()
	to := min(x.blocks+1+s.r.Uint64N(500), simBlocksMax)
	if s.stalled || to == x.blocks {
		return
	}
	var err error
	was := x.blocks
	cut := s.during(func() { err = x.v.Resize(to * PageBytes) })
	switch {
	case err == nil && (cut == nil || cut.heard):
		x.blocks = to
		x.sizes = append(x.sizes, simSize{to, x.appended()})
	case x.thick && errors.Is(err, ErrNoSpace):
		s.say("no room for volume %s of %d blocks", x.name, to)
	case err != nil && !s.faulty && !(s.full && errors.Is(err, ErrBusy)):
		s.t.Fatalf("growing volume %s from %d to %d blocks: %v", x.name, was, to, err)
	default:
		x.mayHave = to
	}
	s.say("volume %s grows from %d to %d blocks: %v", x.name, was, to, err)
	if cut != nil {
		s.crashAt(cut, s.choice())
	}
}

// shrink asks for less, which nobody gets.
func (s *simulation) shrink(x *simVolume) {
	s.t.Helper()
	if s.stalled {
		return
	}
	if err := x.v.Resize(s.r.Uint64N(x.blocks) * PageBytes); !errors.Is(err, ErrShrink) && !s.lied {
		s.t.Fatalf("making volume %s smaller: %v", x.name, err)
	}
	if n := x.v.device.Geometry().Blocks; n != x.blocks {
		s.t.Fatalf("volume %s was not to become smaller, and has %d blocks instead of %d", x.name, n, x.blocks)
	}
}

// foundSize takes the size of a volume that was opened.
func (s *simulation) foundSize(x *simVolume) {
	s.t.Helper()
	n := x.v.device.Geometry().Blocks
	if n != x.blocks && n != x.mayHave {
		s.t.Fatalf("volume %s has %d blocks; it should have %d, or %d", x.name, n, x.blocks, x.mayHave)
	}
	x.blocks, x.mayHave = n, 0
	x.sizes = append(x.sizes, simSize{n, x.appended()})
}
