package sim

// Effect is what a fault does to an operation.
type Effect uint8

// The effects.
const (
	Fail      Effect = iota // it is reported as failed, and has done nothing
	Tear                    // only some of a write's sectors are ever written; Fault.Reported says whether it is reported as failed
	Lose                    // a write is reported as done, and was never there
	Misdirect               // a write goes to another place: Fault.To, or any
	FlipBits                // of what is written, for ever, or of what is read, this time
	Slow                    // it takes Fault.Factor times as long
	Stick                   // it does not complete until Release
	effects
)

var effectNames = [effects]string{"fail", "tear", "lose", "misdirect", "flip bits", "slow", "stick"}

// String names the effect.
func (e Effect) String() string { return effectNames[e] }

// Kinds is a set of kinds.
type Kinds uint8

// KindsOf makes a set.
func KindsOf(list ...Kind) Kinds {
	var s Kinds
	for _, k := range list {
		s |= 1 << k
	}
	return s
}

// suits are the kinds that an effect can be had with.
var suits = [effects]Kinds{
	Fail: ^Kinds(0), Slow: ^Kinds(0), Stick: ^Kinds(0),
	Tear: KindsOf(Write, Zeroes, Unmap), Lose: KindsOf(Write, Zeroes, Unmap),
	Misdirect: KindsOf(Write), FlipBits: KindsOf(Read, Write),
}

// Fault says which operations are affected, and how. Those that come while it is there are.
type Fault struct {
	Effect        Effect
	Kinds         Kinds   // 0: all that the effect suits
	First, Blocks uint64  // that touch one of these blocks; Blocks 0: any. A flush touches every block
	Rate          float64 // so many of them, by chance; 0: each
	Skip          uint64  // but not the first so many
	Count         uint64  // and no more than so many; 0: no end

	Reported bool   // Tear: as failed
	To       uint64 // Misdirect: to this block; 0: any
	Bits     int    // FlipBits: how many; 0: one
	Factor   int64  // Slow; 0: 100
}

// Injected is a fault that is there.
type Injected struct {
	Fault
	d          *Disk
	seen, hits uint64
}

// Inject adds a fault. Several may affect one operation, in the order in which they were injected.
func (d *Disk) Inject(f Fault) *Injected {
	if f.Kinds == 0 {
		f.Kinds = ^Kinds(0)
	}
	f.Kinds &= suits[f.Effect]
	i := &Injected{Fault: f, d: d}
	d.faults = append(d.faults, i)
	return i
}

// Hits is the number of operations that it affected.
func (i *Injected) Hits() uint64 { return i.hits }

// Remove ends it for operations to come; those that are stuck by it stay so until Release.
func (i *Injected) Remove() {
	for n, o := range i.d.faults {
		if o == i {
			i.d.faults = append(i.d.faults[:n:n], i.d.faults[n+1:]...)
			return
		}
	}
}

// Release lets those complete that are stuck by it now.
func (i *Injected) Release() {
	for _, op := range append([]*Op(nil), i.d.flying...) {
		if op.stuckBy == i {
			op.stuckBy = nil
			op.Owner.Unstuck(op, op.delay)
		}
	}
}

// Heal removes all faults, and releases what is stuck.
func (d *Disk) Heal() {
	all := d.faults
	d.faults = nil
	for _, i := range all {
		i.Release()
	}
}

// Stuck is the number of operations that are.
func (d *Disk) Stuck() int {
	n := 0
	for _, op := range d.flying {
		if op.stuckBy != nil {
			n++
		}
	}
	return n
}

func (i *Injected) affects(op *Op) bool {
	if i.Kinds&(1<<op.Kind) == 0 {
		return false
	}
	if i.Blocks > 0 && op.Kind != Flush && (op.LBA >= i.First+i.Blocks || i.First >= op.LBA+op.Blocks) {
		return false
	}
	if i.Count > 0 && i.hits >= i.Count {
		return false
	}
	if i.seen++; i.seen <= i.Skip {
		return false
	}
	if i.Rate > 0 && i.d.chances.Float64() >= i.Rate {
		return false
	}
	i.hits++
	return true
}

// applyFaults decides when an operation comes what will be wrong with it.
func (d *Disk) applyFaults(op *Op) {
	for _, i := range d.faults {
		if !i.affects(op) {
			continue
		}
		switch i.Effect {
		case Fail:
			op.fails, op.without = true, true
		case Tear:
			op.writes = d.tear(op.writes)
			op.fails = op.fails || i.Reported
		case Lose:
			op.writes = nil
		case Misdirect:
			d.misdirect(op, i.To)
		case FlipBits:
			d.flipBits(op, max(i.Bits, 1))
		case Slow:
			if i.Factor == 0 {
				op.delay *= 100
			} else {
				op.delay *= i.Factor
			}
		case Stick:
			op.stuckBy = i
		}
	}
}

// tear leaves a part of a write: its beginning or some of its sectors, never all, and of more than one never none.
func (d *Disk) tear(writes []extent) []extent {
	var n uint64
	for _, e := range writes {
		n += e.n
	}
	if n == 0 {
		return nil
	}
	keep := make([]bool, n)
	if n > 1 {
		if d.chances.IntN(2) == 0 {
			for i := range 1 + d.chances.Uint64N(n-1) {
				keep[i] = true
			}
		} else {
			for i := range keep {
				keep[i] = d.chances.IntN(2) == 0
			}
			first := d.chances.Uint64N(n)
			keep[first], keep[(first+1)%n] = true, false
		}
	}
	return kept(writes, func(i int) bool { return keep[i] })
}

// kept is those sectors of extents, counted through, that keep says, in the longest extents.
func kept(from []extent, keep func(i int) bool) []extent {
	var out []extent
	at := 0
	for _, e := range from {
		run := uint64(0)
		for i := range e.n {
			if keep(at) {
				run++
			} else if run > 0 {
				out = append(out, e.part(i-run, run))
				run = 0
			}
			at++
		}
		if run > 0 {
			out = append(out, e.part(e.n-run, run))
		}
	}
	return out
}

func (d *Disk) misdirect(op *Op, to uint64) {
	if to == 0 {
		to = d.chances.Uint64N(d.cfg.Blocks - op.Blocks + 1)
	}
	to = min(to, d.cfg.Blocks-op.Blocks)
	for i := range op.writes {
		op.writes[i].first += (to - op.LBA) * d.perLBA // modulo 2^64, where it is further down
	}
}

func (d *Disk) flipBits(op *Op, bits int) {
	for range bits {
		at := d.chances.Uint64N(op.Blocks * d.perLBA * SectorBytes * 8)
		if op.Kind == Read {
			op.flips = append(op.flips, at)
			continue
		}
		for _, e := range op.writes {
			if n := uint64(len(e.data)) * 8; at < n {
				e.data[at/8] ^= 1 << (at % 8)
				break
			} else {
				at -= n
			}
		}
	}
}

// flip changes a bit of data in pieces.
func flip(data [][]byte, bit uint64) {
	for _, b := range data {
		if n := uint64(len(b)) * 8; bit < n {
			b[bit/8] ^= 1 << (bit % 8)
			return
		} else {
			bit -= n
		}
	}
}
