package sim

import (
	"fmt"
	"hash/crc32"
	"iter"
	"math/rand/v2"
	"sort"
)

// This file is what a power failure leaves.
//
// An image's pending sectors are counted through, write by write in the order in which they would reach the medium: first what had
// completed, then what was in flight. A Choice says of each whether it did. Of several versions of one sector the last that did is there, so
// every version that a device could have left is some choice.

// Image is a disk at an instant.
type Image struct {
	cfg     Config
	durable store
	pending []extent
	how     string
}

// Choice says whether the i-th pending sector was written when the power failed.
type Choice func(i int) bool

// The plain choices.
var (
	None Choice = func(int) bool { return false }
	All  Choice = func(int) bool { return true }
)

// Random keeps each sector with probability p.
func Random(r *rand.Rand, p float64) Choice { return func(int) bool { return r.Float64() < p } }

// Only keeps those.
func Only(sectors ...int) Choice {
	return func(i int) bool {
		for _, s := range sectors {
			if s == i {
				return true
			}
		}
		return false
	}
}

// Pending is a sector that is not decided.
type Pending struct {
	Sector uint64 // where
	Write  uint64 // number of the operation
	Flying bool   // it had not completed
}

// Snapshot takes an image. It costs a pointer a MiB and what is pending.
func (d *Disk) Snapshot() *Image {
	i := &Image{cfg: d.cfg, durable: d.durable.copy(), how: "not decided"}
	i.pending = append(i.pending, d.pending...)
	for _, op := range d.flying {
		i.pending = append(i.pending, op.writes...)
	}
	return i
}

// Crash takes the power away and gives it back: what was pending is decided, what was in flight will be reported as failed, and has no
// further effect.
func (d *Disk) Crash(c Choice) {
	i := d.Snapshot().Crash(c)
	for _, op := range d.flying {
		op.lost = true
	}
	d.flying, d.pending = nil, nil
	d.restore(i)
}

// restore gives the disk the content of an image without pending sectors.
func (d *Disk) restore(i *Image) { d.now, d.durable = i.durable.share(), i.durable.share() }

// Open makes a disk of an image. What is pending in it is lost, unless it was decided before.
func Open(i *Image, cfg Config) (*Disk, error) {
	cfg.BlockSize, cfg.Blocks = i.cfg.BlockSize, i.cfg.Blocks
	d, err := New(cfg)
	if err != nil {
		return nil, err
	}
	d.restore(i)
	return d, nil
}

// Config is what the disk was made from.
func (i *Image) Config() Config { return i.cfg }

// String says how the image came to be.
func (i *Image) String() string { return i.how }

// Pending lists the sectors that are not decided.
func (i *Image) Pending() []Pending {
	var out []Pending
	for _, e := range i.pending {
		for s := range e.n {
			out = append(out, Pending{e.first + s, e.write, e.done == 0})
		}
	}
	return out
}

// Crash decides what is pending.
func (i *Image) Crash(c Choice) *Image { return i.crash(c, "decided") }

func (i *Image) crash(c Choice, how string) *Image {
	out := &Image{cfg: i.cfg, durable: i.durable.share(), how: how}
	for _, e := range kept(i.pending, c) {
		out.durable.write(e.first, e.n, e.data)
	}
	return out
}

// ReadAt fills b with what is durable from a byte offset on; offset and length are multiples of a sector.
func (i *Image) ReadAt(b []byte, off uint64) { i.durable.read(off/SectorBytes, b) }

// Hash is over what is durable.
func (i *Image) Hash() uint64 {
	h := uint64(0)
	for n, t := range i.durable.tables {
		if t == nil {
			continue
		}
		for m, p := range t.pages {
			if p != nil && p.b != ([len(p.b)]byte{}) {
				h = mix(mix(h, uint64(n)<<8|uint64(m)), uint64(crc32.ChecksumIEEE(p.b[:])))
			}
		}
	}
	return h
}

// Images yields what a power failure could leave, limit of them at most and two at least. If there are no more than that it is all of
// them, each once. If there are more it is: nothing of what is pending; all of it; by writes and by sectors, the beginnings, all but
// one, and only one; and others by chance. Where even those are too many the seed picks.
func (i *Image) Images(limit int, seed uint64) iter.Seq[*Image] {
	limit = max(limit, 2)
	if sectors, n := i.versions(limit); n <= limit {
		return func(yield func(*Image) bool) { i.every(sectors, n, yield) }
	}
	return func(yield func(*Image) bool) { i.some(limit, Stream(seed, "images"), yield) }
}

// versions lists for each sector that is pending the places of its versions, and gives the number of different images; where that is
// above limit, any such number.
func (i *Image) versions(limit int) ([][]int, int) {
	var out [][]int
	place := map[uint64]int{}
	n, at := 1, 0
	for _, e := range i.pending {
		for s := e.first; s < e.first+e.n; s++ {
			k, known := place[s]
			if !known {
				k = len(out)
				place[s] = k
				out = append(out, nil)
			}
			n = n / (len(out[k]) + 1) * (len(out[k]) + 2)
			out[k] = append(out[k], at)
			if n > limit {
				return nil, n
			}
			at++
		}
	}
	return out, n
}

// every yields all images: each sector as it was, or as one of its versions.
func (i *Image) every(sectors [][]int, n int, yield func(*Image) bool) {
	for number := range n {
		keep := map[int]bool{}
		for left, k := number, 0; k < len(sectors); k++ {
			if v := left % (len(sectors[k]) + 1); v > 0 {
				keep[sectors[k][v-1]] = true
			}
			left /= len(sectors[k]) + 1
		}
		if !yield(i.crash(func(at int) bool { return keep[at] }, fmt.Sprintf("image %d of all %d", number, n))) {
			return
		}
	}
}

// some yields a choice of images.
func (i *Image) some(limit int, r *rand.Rand, yield func(*Image) bool) {
	var bySector []span
	var byWrite []span
	at := 0
	for k, e := range i.pending {
		if k > 0 && i.pending[k-1].write == e.write {
			byWrite[len(byWrite)-1].end += int(e.n)
		} else {
			byWrite = append(byWrite, span{at, at + int(e.n)})
		}
		at += int(e.n)
	}
	for s := range at {
		bySector = append(bySector, span{s, s + 1})
	}
	give := func(how string, c Choice) bool {
		limit--
		return yield(i.crash(c, how))
	}
	if !give("none of what is pending", None) || !give("all of what is pending", All) {
		return
	}
	plans := plansOf(byWrite, "write")
	if len(byWrite) < len(bySector) {
		plans = append(plans, plansOf(bySector, "sector")...)
	}
	for _, p := range sample(plans, limit*2/3, r) {
		if !give(p.how(), p.keep) {
			return
		}
	}
	for limit > 0 {
		seed := r.Uint64()
		if !give(fmt.Sprintf("by chance %#x", seed), byChance(seed, byWrite)) {
			return
		}
	}
}

// span is pending sectors from one to before another.
type span struct{ from, end int }

func (s span) has(i int) bool { return i >= s.from && i < s.end }

// plan is a regular choice: what comes before a span, only the span, or all but it.
type plan struct {
	what   string
	shape  uint8
	number int
	span
}

const (
	planBefore = iota
	planOnly
	planWithout
	planShapes
)

func plansOf(spans []span, what string) []plan {
	var out []plan
	for n, s := range spans {
		for shape := range uint8(planShapes) {
			if n == 0 && shape == planBefore {
				continue // nothing comes before the first
			}
			out = append(out, plan{what, shape, n, s})
		}
	}
	return out
}

func (p plan) keep(i int) bool {
	switch p.shape {
	case planBefore:
		return i < p.from
	case planOnly:
		return p.has(i)
	}
	return !p.has(i)
}

func (p plan) how() string {
	return fmt.Sprintf("%s pending %s %d", [...]string{"what comes before", "only", "all but"}[p.shape], p.what, p.number)
}

// sample picks n plans, in their order.
func sample(plans []plan, n int, r *rand.Rand) []plan {
	if n >= len(plans) {
		return plans
	}
	picked := r.Perm(len(plans))[:n]
	sort.Ints(picked)
	out := make([]plan, n)
	for i, p := range picked {
		out[i] = plans[p]
	}
	return out
}

// byChance keeps whole writes by chance, and of those that it tears sectors by chance.
func byChance(seed uint64, writes []span) Choice {
	r := rand.New(rand.NewPCG(seed, 0))
	p, torn := r.Float64(), r.Float64()
	keep := make([]bool, writes[len(writes)-1].end)
	for _, w := range writes {
		tears, whole := r.Float64() < torn, r.Float64() < p
		for i := w.from; i < w.end; i++ {
			keep[i] = whole && !tears || tears && r.IntN(2) == 0
		}
	}
	return func(i int) bool { return keep[i] }
}
