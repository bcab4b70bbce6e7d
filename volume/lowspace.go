package volume

// This file is the pool's watermark as users of its thin volumes hear it: once when the pool becomes high, and again when it was not and is again. Control
// looks from time to time.

// lowSpaceSlack is by how many thousandths less of the pool is to be taken than its watermark, before it may be told again.
const lowSpaceSlack = 10

// lowSpace is what is left at the watermark, in percent. What a thick volume takes is reserved: its users need not hear of it.
func (v *Volume) lowSpace() uint8 {
	if v.thick.on {
		return 0
	}
	return uint8(100 - DefaultWatermarks.High/10)
}

// fillAfter is what becomes of whether a pool was told to be high, with so many of its pages taken; tell says that it is to be told now.
func fillAfter(told bool, taken, total uint64) (still, tell bool) {
	switch {
	case taken >= share(total, DefaultWatermarks.High):
		return true, !told
	case taken >= share(total, DefaultWatermarks.High-lowSpaceSlack):
		return told, false
	}
	return false, false
}

// WatchSpace tells the users of the pool's thin volumes if it has become high since it was called last, and reports whether it has.
func (p *Pool) WatchSpace() (told bool, err error) {
	if err := p.r.Call(func() {
		s := p.alloc.Space()
		p.high, told = fillAfter(p.high, s.Total-s.Free+s.Reserved, s.Total)
	}); err != nil || !told {
		return false, err
	}
	for _, v := range p.Volumes() {
		if d := v.Device(); d != nil && d.Geometry().LowSpace > 0 {
			d.TellLowSpace()
		}
	}
	return true, nil
}
