package bdev

import (
	"fmt"
	"slices"
	"sync/atomic"

	"github.com/google/uuid"

	"github.com/pollux-storage/pollux/reactor"
)

// Fault is a device that does to requests what it was told to: it fails them, keeps them, corrupts their data. What nothing
// was said about it passes on.
//
// Its rules are the device's, not a reactor's: "fail the next write" means one write of all. So they are shared, and their
// counters are atomic. A device made to fail may cost that.
type Fault struct {
	*base
	rules  atomic.Pointer[[]*rule]
	queues []*faultQueue // by reactor; each place belongs to its reactor
}

// Effect is what a rule does to a request.
type Effect uint8

// The effects, by the names of bdev_error_inject_error.
const (
	EffectFailure     Effect = iota // "failure": it fails with Status and Detail
	EffectPending                   // "pending": it is kept until Resume, Abort or Reset
	EffectCorruptData               // "corrupt_data": a byte of what is read or written is changed
	EffectNoMemory                  // "nomem": it is put off for a moment, then tried again
)

// Rule says which requests are affected, and how.
type Rule struct {
	Kinds  KindSet // of these kinds
	First  uint64  // that touch one of these blocks
	Blocks uint64  // 0: any
	Depth  int     // while at least so many are below on the same reactor
	Every  uint64  // one in so many of those; 0 and 1: each
	Count  uint64  // so many times; 0: always

	Effect Effect
	Status Status // of a failure; 0: IO
	Detail uint32
	Offset uint64 // of corrupt_data: the byte of the request
	Xor    byte   // and what is done to it
}

type rule struct {
	Rule
	seen atomic.Uint64
	left atomic.Uint64
}

// NewFault registers name, or EE_ and the name of the device below.
func NewFault(g *Registry, name, below string, id uuid.UUID) (*Device, error) {
	if name == "" {
		name = "EE_" + below
	}
	b, err := g.stand(below, "error "+name, "", true)
	if err != nil {
		return nil, fmt.Errorf("creating %s: %w", name, err)
	}
	d, err := b.raise(Config{
		Name: name, Product: "Error Injection Disk", UUID: derived(id, b.Base(), "error "+name),
		Driver: &Fault{base: b, queues: make([]*faultQueue, g.group.Len())}, Geometry: b.geometry(),
	})
	if err != nil {
		return nil, fmt.Errorf("creating %s: %w", name, err)
	}
	return d, nil
}

// Inject adds a rule behind those there are: of several that fit, the first decides.
func (v *Fault) Inject(r Rule) error {
	if r.Effect > EffectNoMemory || r.Effect == EffectCorruptData && r.Xor == 0 {
		return fmt.Errorf("injecting into the device on %s: %w: corrupt_data needs a value other than 0 (it is xored)", v.Base().Name(), ErrInvalid)
	}
	if r.Status == StatusOK {
		r.Status = StatusIO
	}
	next := &rule{Rule: r}
	next.left.Store(r.Count)
	v.mu.Lock()
	defer v.mu.Unlock()
	all := append(slices.Clone(v.list()), next)
	v.rules.Store(&all)
	return nil
}

// Clear takes the rules for these kinds back. What they keep stays kept until Resume.
func (v *Fault) Clear(kinds KindSet) {
	v.mu.Lock()
	defer v.mu.Unlock()
	var all []*rule
	for _, r := range v.list() {
		rest := &rule{Rule: r.Rule}
		rest.left.Store(r.left.Load())
		rest.seen.Store(r.seen.Load())
		if rest.Kinds &^= kinds; rest.Kinds != 0 {
			all = append(all, rest)
		}
	}
	if len(all) == 0 {
		v.rules.Store(nil)
		return
	}
	v.rules.Store(&all)
}

func (v *Fault) list() []*rule {
	if p := v.rules.Load(); p != nil {
		return *p
	}
	return nil
}

// Resume lets the kept requests go on, on every reactor; a rule may take them again.
func (v *Fault) Resume() error {
	return v.g.group.Each(func(r *reactor.Reactor) {
		if c := v.queues[r.Index()]; c != nil {
			c.retry(&c.kept)
		}
	})
}

// Describe tells what it stands on.
func (v *Fault) Describe() any {
	return map[string]any{"error_disk": map[string]any{"base_bdev": v.Base().Name()}}
}

// Open gives the queue of one reactor.
func (v *Fault) Open(r *reactor.Reactor) (Queue, error) {
	b, err := v.base.open(r)
	if err != nil {
		return nil, err
	}
	c := &faultQueue{below: b, v: v, r: r}
	v.queues[r.Index()] = c
	return c, nil
}

type faultQueue struct {
	below
	v     *Fault
	r     *reactor.Reactor
	depth int
	kept  RequestList
	later RequestList // have no memory
	timer reactor.Timer
	bent  []*bent // the frame's Tag keeps the index of a request's, plus one
}

// bent is what a write keeps whose data was changed on its way down.
type bent struct {
	data [][]byte // as it came
	vec  [][]byte // as it went
	rule *rule
	free bool
}

func (c *faultQueue) Close() {
	c.v.queues[c.r.Index()] = nil
	c.below.Close()
}

func (c *faultQueue) Submit(q *Request) {
	var hit *rule
	if p := c.v.rules.Load(); p != nil {
		hit = c.match(*p, q)
	}
	if hit == nil {
		c.pass(q)
		return
	}
	switch hit.Effect {
	case EffectFailure:
		q.Detail = hit.Detail
		q.CompleteLater(hit.Status)
	case EffectPending:
		c.kept.Push(q)
	case EffectNoMemory:
		c.later.Push(q)
		if !c.timer.Set() {
			c.r.SetTimer(&c.timer, c.r.Now()+reactor.Millisecond, c)
		}
	case EffectCorruptData:
		c.bend(q, hit)
		c.pass(q)
	}
}

// match finds the rule for a request and counts it.
func (c *faultQueue) match(rules []*rule, q *Request) *rule {
	for _, r := range rules {
		if !r.Kinds.Has(q.Kind) || c.depth < r.Depth {
			continue
		}
		if r.Blocks > 0 && q.Kind != Flush && (q.LBA >= r.First+r.Blocks || r.First >= q.LBA+q.Blocks) {
			continue
		}
		if r.Every > 1 && r.seen.Add(1)%r.Every != 0 {
			continue
		}
		if r.Count == 0 || r.take() {
			return r
		}
	}
	return nil
}

// take uses one of the rule's times up.
func (r *rule) take() bool {
	for n := r.left.Load(); n > 0; n = r.left.Load() {
		if r.left.CompareAndSwap(n, n-1) {
			return true
		}
	}
	return false
}

func (c *faultQueue) pass(q *Request) {
	c.depth++
	c.c.Submit(q)
}

// Finish sees what was passed on.
func (c *faultQueue) Finish(q *Request) bool {
	c.depth--
	if t := q.Frame().Tag; t > 0 {
		b := c.bent[t-1]
		if q.Kind == Read {
			if q.Status == StatusOK {
				flip(q.Data, b.rule.Offset, b.rule.Xor)
			}
		} else {
			q.Data = b.data
		}
		b.data, b.rule, b.free = nil, nil, true
	}
	return true
}

// bend arranges for a byte to be changed: of a read on its way up, of a write in a copy of the piece, since its memory is lent
// for reading and may be shared.
func (c *faultQueue) bend(q *Request, r *rule) {
	if q.Kind != Read && q.Kind != Write {
		return
	}
	i := slices.IndexFunc(c.bent, func(b *bent) bool { return b.free })
	if i < 0 {
		i = len(c.bent)
		c.bent = append(c.bent, &bent{})
	}
	b := c.bent[i]
	b.data, b.rule, b.free = q.Data, r, false
	q.Frame().Tag = uint64(i) + 1
	if q.Kind == Read {
		return
	}
	b.vec = append(b.vec[:0], q.Data...)
	at := r.Offset
	for k, p := range b.vec {
		if at < uint64(len(p)) {
			b.vec[k] = slices.Clone(p)
			b.vec[k][at] ^= r.Xor
			break
		}
		at -= uint64(len(p))
	}
	q.Data = b.vec
}

// flip changes one byte of vec, if it has that many.
func flip(vec [][]byte, at uint64, xor byte) {
	for _, p := range vec {
		if at < uint64(len(p)) {
			p[at] ^= xor
			return
		}
		at -= uint64(len(p))
	}
}

// Abort ends a request that is kept.
func (c *faultQueue) Abort(q *Request) bool {
	if !c.kept.Remove(q) && !c.later.Remove(q) {
		return false
	}
	q.CompleteLater(StatusAborted)
	return true
}

// Run tries those again that had no memory.
func (c *faultQueue) Run() { c.retry(&c.later) }

func (c *faultQueue) retry(l *RequestList) {
	for n := l.n; n > 0; n-- {
		c.Submit(l.Pop())
	}
}
