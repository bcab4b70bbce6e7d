package wal

import (
	"errors"
	"slices"
	"testing"

	"github.com/pollux-storage/pollux/bdev"
	"github.com/pollux-storage/pollux/bdev/bdevsim"
	"github.com/pollux-storage/pollux/internal/sim"
	"github.com/pollux-storage/pollux/reactor"
)

// This file is the crash harness. Writers append, wait for durability, raise epochs and reclaim; a follower reads what is durable and
// lets the tail advance behind it, as a volume does. At every point at which what a power cut leaves changes, an image is taken with what
// the model knows then. Images are opened, compared, written on, crashed again within that, recovery and the begin of a life included, and
// opened once more.

// history is the model: what the log holds if nothing is lost, and what it must hold.
type history struct {
	base   LSN    // before the first of facts
	facts  []fact // by LSN
	sure   LSN    // the highest whose durability was announced
	mark   LSN    // the durable mark of the log
	saved  State  // where recovery begins
	before State  // the checkpoint before that
}

func (h *history) clone() *history {
	c := *h
	c.facts = slices.Clone(h.facts)
	return &c
}

// crash is an image, and what was known when it was taken.
type crash struct {
	image *sim.Image
	known *history
	point sim.Point
}

// play is a run on one machine.
type play struct {
	*opening
	h       *history
	tag     *uint64
	most    int // pages of a record
	left    int // records to be appended
	out     int // writers that are not at their end
	crashes []crash
	rd      *Reader
	reading bool
	read    uint64 // records that the follower saw
	failed  error
}

func (m *machine) watch(p *play) {
	m.disk.Watch(func(at sim.Point) {
		if p.opening != nil {
			_, _, durable := p.log.Marks()
			p.h.mark = max(p.h.mark, durable)
		}
		p.crashes = append(p.crashes, crash{m.disk.Snapshot(), p.h.clone(), at})
	})
}

// writer appends one record after the other.
type simWriter struct {
	add
	p     *play
	timer reactor.Timer
}

// Run is the next record, or the end.
func (v *simWriter) Run() {
	p, r := v.p, v.p.m.w.Rand
	if p.left == 0 {
		p.out--
		return
	}
	if r.IntN(20) == 0 {
		p.log.SetEpoch(p.log.Epoch() + 1)
	}
	*p.tag++
	f := fact{tag: *p.tag, kind: Kind(1 + r.IntN(int(kindEnd)-1)), epoch: p.log.Epoch()}
	switch r.IntN(8) {
	case 0:
		f.pages = r.IntN(p.most + 1)
	case 1:
	default:
		f.pages = r.IntN(4)
	}
	v.e.Awaited = r.IntN(2) == 0
	if !v.put(f.tag, f.kind, f.pages) {
		v.again() // until the follower has made room
		return
	}
	p.left--
	p.h.facts = append(p.h.facts, f)
	if want := p.h.base + LSN(len(p.h.facts)); v.e.LSN != want {
		p.fail(errors.New("an LSN is not the next one"))
	}
}

func (v *simWriter) again() {
	r := v.p.m.w.Rand
	v.p.log.r.SetTimer(&v.timer, v.p.log.r.Now()+reactor.Ticks(r.IntN(100_000)), v)
}

func (p *play) fail(err error) {
	if p.failed == nil {
		p.failed = err
	}
}

func (v *simWriter) EntryWritten(e *Entry, s bdev.Status) {
	if _, written, _ := v.p.log.Marks(); s != bdev.StatusOK || written != e.LSN {
		v.p.fail(errors.New("written out of order, or not at all"))
	}
	if v.p.m.w.Rand.IntN(3) > 0 {
		v.p.log.AwaitDurable(&v.wait, e.LSN)
		return
	}
	v.again()
}

func (v *simWriter) LogDurable(w *Waiter, s bdev.Status) {
	if _, _, durable := v.p.log.Marks(); s != bdev.StatusOK || durable < w.lsn {
		v.p.fail(errors.New("heard before the mark was reached"))
	}
	v.p.h.sure = max(v.p.h.sure, w.lsn)
	if !v.p.reading && v.p.m.w.Rand.IntN(3) == 0 {
		v.p.follow()
	}
	v.again()
}

// follow reads on, to what is durable.
func (p *play) follow() {
	limit := p.log.DurableEnd()
	if p.reading = p.h.saved.Offset < limit; p.reading {
		s := p.h.saved
		p.rd.Seek(Follow{Offset: s.Offset, Life: s.Life, Epoch: s.Epoch, LSN: s.LSN})
		p.rd.Next(limit, p)
	}
}

// WindowRead compares what the follower reads, and moves the checkpoint: behind it, or between two records of it.
func (p *play) WindowRead(rd *Reader, s bdev.Status) {
	p.reading = false
	_, why := rd.Ends()
	if s != bdev.StatusOK || why != nil {
		p.fail(errors.Join(errors.New("the follower cannot read what is durable"), why))
		return
	}
	records := rd.Records()
	for i := range records {
		r := &records[i]
		if err := p.h.facts[r.LSN-p.h.base-1].same(r, rd.Payload(r)); err != nil {
			p.fail(err)
		}
		p.read++
	}
	to := rd.Follow()
	if len(records) > 0 && p.m.w.Rand.IntN(2) == 0 {
		to = rd.Before(p.m.w.Rand.IntN(len(records)))
	}
	_, _, durable := p.log.Marks()
	p.h.before = p.h.saved
	p.h.saved = State{Tail: p.h.before.Offset, Offset: to.Offset, Life: to.Life, Epoch: to.Epoch, LSN: to.LSN, Durable: durable}
	p.log.Reclaim(p.h.before.Offset)
}

// reopen recovers what a history says, compares, maybe cuts, and begins a life.
func (m *machine) reopen(h *history, tag *uint64) *play {
	m.t.Helper()
	p := &play{h: h, tag: tag, most: RecordPagesMax}
	m.watch(p)
	cut := LSN(0)
	if m.w.Rand.IntN(4) == 0 {
		cut = max(h.sure, h.mark, h.saved.Durable, h.saved.LSN) + 1 + LSN(m.w.Rand.IntN(3))
	}
	p.opening = m.recover(h.saved, cut)
	if p.status != bdev.StatusOK || p.wound != nil || p.err != nil {
		m.t.Fatalf("recovery: %v, ends for %v, wound %v, %v", p.status, p.why, p.wound, p.err)
	}
	last := h.saved.LSN
	for i, f := range p.found {
		if last++; p.lsns[i] != last || int(last-h.base) > len(h.facts) || f != h.facts[last-h.base-1] {
			m.t.Fatalf("found LSN %d: %+v; the history has %d", p.lsns[i], f, h.base+LSN(len(h.facts)))
		}
	}
	if last < h.sure {
		m.t.Fatalf("found up to LSN %d, and %d was durable; it ends for %v", last, h.sure, p.why)
	}
	if p.begin(Epoch(m.w.Rand.IntN(2))); p.beginning != bdev.StatusOK {
		m.t.Fatalf("beginning a life: %v", p.beginning)
	}
	h.facts, h.sure = h.facts[:last-h.base], last // what is not found is gone for ever, and what is found stays
	return p
}

// run lets writers append n records.
func (p *play) run(writers, n int) {
	m := p.m
	m.t.Helper()
	p.left, p.out = n, writers
	m.on(func() {
		var err error
		if p.rd, err = p.log.NewReader(); err != nil {
			m.t.Fatal(err)
		}
		for range writers {
			v := &simWriter{add: *newAdd(p.opening), p: p}
			v.e.Done, v.wait.Done = v, v
			v.Run()
		}
	})
	m.w.Run("all is appended", func() bool {
		if p.out == 1 && !p.reading && p.failed == nil {
			m.on(p.follow)
		}
		return p.out == 0 && p.log.Idle() && !p.reading || p.failed != nil
	})
	if p.failed != nil {
		m.t.Fatal(p.failed)
	}
	m.on(p.rd.Close)
}

// end closes the log, flushed or not.
func (p *play) end(flush bool) {
	if flush {
		if s := p.sync(); s != bdev.StatusOK {
			p.m.t.Fatal(s)
		}
		_, _, p.h.sure = p.log.Marks()
	}
	p.close()
	p.m.disk.Watch(nil)
}

func TestCrashesLoseNothingThatWasDurable(t *testing.T) {
	sim.Each(t, 6, nil, func(t *testing.T, seed uint64) {
		w, after := bdevsim.NewWorld(t, seed, 1), bdevsim.NewWorld(t, seed+1<<32, 1)
		tag := uint64(0)
		m := newMachine(w, w.Disk("Disk0", diskBytes), 0)
		at := Offset(w.Rand.IntN(3*ringPages)) * PageBytes
		h := &history{base: 7, sure: 7, saved: State{Tail: at, Offset: at, Life: 3, LSN: 7}}
		h.before = h.saved
		var crashes []crash
		var read uint64
		for range 3 { // lives on one machine: what was not flushed stays in the disk's cache
			p := m.reopen(h, &tag)
			p.run(1+w.Rand.IntN(6), 25)
			p.end(w.Rand.IntN(2) == 0)
			crashes = append(crashes, p.crashes...)
			read += p.read
		}
		opened := 0
		var deep func(c crash, images, depth int)
		deep = func(c crash, images, depth int) {
			for image := range c.image.Images(images, seed) {
				opened++
				after.Reboot()
				h := c.known.clone()
				m := newMachine(after, after.Open("Disk0", image), 0)
				p := m.reopen(h, &tag)
				p.run(1+after.Rand.IntN(3), 5)
				p.end(true)
				known := h.clone()
				for i := range 3 { // recovery repeats
					o := m.open(h.saved)
					o.mustHold(h.saved.LSN+1, known.facts[h.saved.LSN-h.base:])
					if n := len(o.after); n > 0 && i == 1 { // also from between two records
						f := o.after[n/2]
						h.saved.Offset, h.saved.Life, h.saved.Epoch, h.saved.LSN = f.Offset, f.Life, f.Epoch, f.LSN
					}
					o.close()
				}
				if depth > 0 {
					for range 2 {
						deep(p.crashes[after.Rand.IntN(len(p.crashes))], 2, depth-1)
					}
					deep(p.crashes[after.Rand.IntN(min(4, len(p.crashes)))], 3, depth-1) // within Begin
				}
			}
		}
		for i := w.Rand.IntN(12); i < len(crashes); i += 12 {
			deep(crashes[i], 3, 1)
		}
		if opened < 150 || read < 20 {
			t.Errorf("only %d images were opened, and %d records followed", opened, read)
		}
	})
}
