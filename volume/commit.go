package volume

import (
	"github.com/pollux-storage/pollux/bdev"
	"github.com/pollux-storage/pollux/internal/invariant"
	"github.com/pollux-storage/pollux/reactor"
	"github.com/pollux-storage/pollux/wal"
)

// This file is the pool's commit: the switch to new volume pages, for all volumes that are ready.
//
//	1. what gathered during the last commit is taken: new volume pages, pages referred to and no longer referred to
//	2. directory pages, their top and the bitmap's sides are written, to places to which nothing refers
//	3. a flush: everything that the new slot will lead to is durable
//	4. the slot, in the place of the older one
//	5. a flush: the new slot is durable; the volumes hear of it
//
// One commit is under way at a time. A page of the directory that cannot be written goes to another place, and 2 begins anew. Any other failure
// ends the pool's commits: the slots show the last one, and the logs have the rest.

// commitMessage is a volume's part in a commit. It is part of the volume's checkpoint, which leaves it alone meanwhile.
type commitMessage struct {
	v          *Volume
	ref        Ref     // of the volume page
	refer      []Place // pages that the new root has
	unrefer    []Place // that it has no more
	clusters   []Place
	unclusters []Place
	released   []Place  // clusters of placed records that nobody needs
	forsaken   []Place  // clusters that the root has no more, and nobody may have
	extents    []Extent // of a log
	unextents  []Extent
	lost       []Extent // pages of the root to which nothing leads
	returns    bool     // what it gives up comes back to it
	logs       *logRoot // of the pool's log device
	rename     *Name    // of the pool
	grow       []Area   // areas of a pool that becomes larger
	growTo     uint64   // pages

	status bdev.Status
	back   bool
	tell   *event // control work that waits for it, instead of the volume
}

func (m *commitMessage) reset() {
	m.refer, m.unrefer = m.refer[:0], m.unrefer[:0]
	m.clusters, m.unclusters, m.released = m.clusters[:0], m.unclusters[:0], m.released[:0]
	m.forsaken = m.forsaken[:0]
}

// Receive is the message at the pool, and back.
func (m *commitMessage) Receive(*reactor.Reactor) {
	if !m.back {
		m.v.pool.enlist(m)
		return
	}
	m.v.ckpt.committed(m.status)
}

// commit lets a volume take part in the next commit. It runs on the volume's reactor.
func (p *Pool) commit(from *reactor.Reactor, m *commitMessage) {
	m.back = false
	from.Send(p.r, m)
}

type commitStep uint8

const (
	commitIdle commitStep = iota
	commitPages
	commitFlush
	commitSlot
	commitSlotFlush
)

// committer makes the commits. It belongs to the pool's reactor.
type committer struct {
	p      *Pool
	step   commitStep
	next   []*commitMessage // for the next commit
	now    []*commitMessage
	parts  int
	status bdev.Status
	bad    []Place // of pages of the directory whose writes failed
	cause  bdev.Status
	tries  int // times that 2 began anew
	join   wal.Join
	slot   Slot // as it will be
	spare  *commitPart
	later  reactor.Deferred
	failed bdev.Status
	held   *event // a check lets no commit begin, and waits for the end of the last
}

// commitPart writes one page.
type commitPart struct {
	c    *committer
	req  bdev.Request
	next *commitPart
	data []byte
	at   Place // of a page of the directory, else 0
}

func (p *Pool) enlist(m *commitMessage) {
	c := &p.committer
	if c.failed != bdev.StatusOK && c.step == commitIdle {
		c.answer(m, c.failed)
		return
	}
	c.next = append(c.next, m)
	if c.step == commitIdle {
		p.r.AtFlush(&c.later, c)
	}
}

// Run begins a commit with what gathered. It may have gathered before the pool was given up.
func (c *committer) Run() {
	if c.step != commitIdle || len(c.next) == 0 || c.held != nil {
		return
	}
	if c.failed != bdev.StatusOK {
		c.refuse()
		return
	}
	p := c.p
	c.now, c.next = c.next, c.now[:0]
	for _, m := range c.now {
		p.apply(m)
	}
	c.tries = 0
	c.pages()
}

// pages writes the directory and the bitmap.
func (c *committer) pages() {
	p := c.p
	c.step, c.status, c.parts = commitPages, bdev.StatusOK, 1
	g := p.alloc.Durable() + 1
	c.slot = p.slot
	c.slot.Directory = p.directory.write(c, g)
	c.bad = c.bad[:0]
	p.alloc.Begin()
	for {
		d := c.part()
		place, ok := p.alloc.NextSide(d.data)
		if !ok {
			c.give(d)
			break
		}
		c.write(d, place)
	}
	p.alloc.FillSlot(&c.slot)
	c.slot.Number = 1 - p.slot.Number
	c.slot.Volumes = uint32(p.directory.volumes)
	c.slot.NextVolume, c.slot.Clean = p.nextVolume, p.closing && !p.unclean
	c.partDone(bdev.StatusOK)
}

// apply takes a volume's part over.
func (p *Pool) apply(m *commitMessage) {
	per := uint64(p.shape.Blocks())
	if m.rename != nil {
		p.slot.Name = *m.rename
	}
	if m.growTo != 0 {
		p.alloc.Grow(m.growTo, m.grow)
	}
	for _, x := range m.refer {
		p.alloc.Refer(x, 1)
	}
	for _, x := range m.unrefer {
		p.alloc.Unrefer(x, 1)
	}
	if m.returns {
		m.v.thick.returning.leaving += len(m.unrefer)
	}
	for _, x := range m.clusters {
		p.alloc.Refer(x, per)
	}
	for _, x := range m.unclusters {
		p.alloc.Unrefer(x, per)
	}
	for _, x := range m.forsaken {
		p.alloc.Forsake(x, per)
	}
	for _, x := range m.released {
		p.alloc.Release(x, per)
	}
	for _, e := range m.lost {
		p.alloc.Unrefer(e.Place, e.Pages)
	}
	if m.logs != nil {
		p.slot.LogDevice, p.slot.LogOpened = m.logs.device, m.logs.opened
	}
	if p.logs == nil {
		for _, e := range m.extents {
			p.alloc.Refer(e.Place, e.Pages)
		}
		for _, e := range m.unextents {
			p.alloc.Unrefer(e.Place, e.Pages)
		}
	} else {
		for _, e := range m.unextents {
			p.logs.space.rest(e, p.commits)
		}
	}
	if m.v != nil {
		p.directory.set(m.v.page.Position, m.ref)
	}
}

// part gives a page to be written. There are as many as one commit ever wrote.
func (c *committer) part() *commitPart {
	d := c.spare
	if d == nil {
		d = &commitPart{c: c, data: pageMemory(1)}
		d.req.Kind, d.req.Done = bdev.Write, d
		return d
	}
	c.spare, d.at = d.next, 0
	return d
}

func (c *committer) give(d *commitPart) { d.next, c.spare = c.spare, d }

func (c *committer) write(d *commitPart, place Place) {
	shift := c.p.data.Geometry().Shift()
	d.req.LBA, d.req.Blocks = place.Byte()>>shift, PageBytes>>shift
	d.req.SetData(d.data)
	c.parts++
	c.p.data.Submit(&d.req)
}

// RequestDone takes the end of a page's write.
func (d *commitPart) RequestDone(q *bdev.Request) {
	c, s := d.c, q.Status
	if d.at != 0 && s != bdev.StatusOK {
		c.bad, c.cause = append(c.bad, d.at), s
		s = bdev.StatusOK
	}
	c.give(d)
	c.partDone(s)
}

// elsewhere begins with other places for pages of the directory, and reports false if there are none.
func (c *committer) elsewhere() bool {
	p := c.p
	n := Need{Pages: uint64(len(c.bad)) + 1} // the top names the others
	if c.tries == checkpointTries || !p.alloc.Reserve(n, Freeing) {
		return false
	}
	p.alloc.Unreserve(n)
	c.tries++
	p.alloc.Again()
	p.directory.again(c.bad)
	c.pages()
	return true
}

func (c *committer) partDone(s bdev.Status) {
	if c.status == bdev.StatusOK {
		c.status = s
	}
	if c.status == bdev.StatusOK {
		c.status = c.failed // given up
	}
	if c.parts--; c.parts > 0 {
		return
	}
	if len(c.bad) > 0 && c.status == bdev.StatusOK {
		if c.elsewhere() {
			return
		}
		c.status = c.cause
	}
	if c.status != bdev.StatusOK {
		c.end(c.status)
		return
	}
	if c.step == commitPages {
		c.step = commitFlush
	} else {
		c.step = commitSlotFlush
	}
	c.p.barrier.Join(c.p.r, &c.join)
}

// Flushed goes on after a flush.
func (c *committer) Flushed(_ *wal.Join, s bdev.Status) {
	if s != bdev.StatusOK {
		c.end(s)
		return
	}
	if c.step == commitSlotFlush {
		c.end(bdev.StatusOK)
		return
	}
	if c.failed != bdev.StatusOK { // given up
		c.end(c.failed)
		return
	}
	invariant.Check(c.step == commitFlush, "volume: a flush of no commit")
	c.step, c.parts = commitSlot, 0
	d := c.part()
	c.slot.EncodeTo(d.data)
	c.write(d, SlotPlace[c.slot.Number])
}

// end tells the volumes, and begins the next commit if somebody waits for it.
func (c *committer) end(s bdev.Status) {
	p := c.p
	c.step, c.bad = commitIdle, c.bad[:0]
	if s == bdev.StatusOK {
		p.slot = c.slot
		p.alloc.Committed()
		p.returned()
		p.commits++
	} else {
		c.failed = s
	}
	for i, m := range c.now {
		c.answer(m, s)
		c.now[i] = nil
	}
	c.now = c.now[:0]
	if c.failed != bdev.StatusOK {
		c.refuse()
	}
	if c.held != nil {
		c.held.say(c.failed)
		return
	}
	c.Run()
}

// refuse answers those who wait for the next commit: there is none any more.
func (c *committer) refuse() {
	for i, m := range c.next {
		c.answer(m, c.failed)
		c.next[i] = nil
	}
	c.next = c.next[:0]
}

func (c *committer) answer(m *commitMessage, s bdev.Status) {
	if m.tell != nil {
		m.tell.say(s)
		return
	}
	m.status, m.back = s, true
	c.p.r.Send(m.v.r, m)
}
