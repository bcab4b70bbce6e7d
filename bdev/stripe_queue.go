package bdev

import "github.com/pollux-storage/pollux/internal/invariant"

// This file is the requests of a stripe. What lies on one member goes there as it is. Anything else is divided: data at the ends of
// strips, the rest into one range for each member. The parts travel in requests of the queue's own, of which there is a fixed
// number. A request whose parts find none free waits, first come, first served, and goes on as parts of any request end; those
// wait for members only, so it ends.

// stripeParts is the number of parts that a queue has under way at once.
const stripeParts = 128

// stripeQueue is a stripe on one reactor.
type stripeQueue struct {
	layout  *stripeMap
	members []*Channel
	shift   uint

	parts   [stripeParts]stripePart
	free    *stripePart
	splits  [stripeParts + 1]stripeSplit // one for each that has parts under way, and one for the first that waits
	spare   *stripeSplit
	waiting RequestList // have parts that are not yet begun; of these only the first may have begun any
}

// stripePart is one part's request.
type stripePart struct {
	q     Request
	queue *stripeQueue
	split *stripeSplit // whose it is; nil if free
	at    uint64       // where in the whole's data it begins, in bytes
	vec   [][]byte     // its memory is kept from one use to the next
	next  *stripePart  // in the list of free ones
}

// stripeSplit is a request that was divided. The frame's Tag keeps its place, plus one.
type stripeSplit struct {
	place  uint64
	q      *Request
	lba    uint64 // of what is not yet begun
	blocks uint64 // that are not yet begun
	member int    // the next, for what is divided by members
	at     uint64 // bytes of data begun
	piece  int    // of the data: where the next part begins
	in     int
	open   int // parts under way
	status Status
	detail uint32
	abort  bool
	next   *stripeSplit // in the list of spare ones
}

func (c *stripeQueue) prepare() {
	for i := range c.parts {
		p := &c.parts[i]
		p.queue, p.q.Done = c, p
		p.next, c.free = c.free, p
	}
	for i := range c.splits {
		s := &c.splits[i]
		s.place = uint64(i)
		s.next, c.spare = c.spare, s
	}
}

// Close gives the members' channels back.
func (c *stripeQueue) Close() {
	for i := range c.parts {
		invariant.Check(c.parts[i].split == nil, "bdev: a stripe's queue is closed with parts under way")
		c.parts[i].q.Release()
	}
	c.closeMembers()
}

func (c *stripeQueue) closeMembers() {
	for _, m := range c.members {
		m.Close()
	}
}

// Submit passes on what lies on one member, and divides the rest.
func (c *stripeQueue) Submit(q *Request) {
	q.Frame().Tag = 0
	if len(c.members) == 1 {
		c.members[0].Submit(q)
		return
	}
	if q.Kind != Flush {
		m, to, run := c.layout.at(q.LBA)
		if q.Kind == Extent { // what lies on the next member is another question
			q.Blocks = min(q.Blocks, run)
		}
		if q.Blocks <= run {
			q.LBA = to
			c.members[m].Submit(q)
			return
		}
	}
	c.waiting.Push(q)
	c.begin()
}

// begin begins parts of those who wait, as long as there are free ones.
func (c *stripeQueue) begin() {
	for c.free != nil && c.waiting.n > 0 {
		q := c.waiting.First()
		s := c.split(q)
		p := c.free
		c.free, p.next = p.next, nil
		m := c.cut(s, p)
		if s.blocks == 0 {
			c.waiting.Pop()
		}
		p.split = s
		s.open++
		c.members[m].Submit(&p.q)
	}
}

// split gives a request's record, made when its first part begins.
func (c *stripeQueue) split(q *Request) *stripeSplit {
	f := q.Frame()
	if f.Tag != 0 {
		return &c.splits[f.Tag-1]
	}
	s := c.spare
	invariant.Check(s != nil, "bdev: more requests with parts under way than there are parts")
	c.spare = s.next
	*s = stripeSplit{place: s.place, q: q, lba: q.LBA, blocks: q.Blocks}
	if q.Kind == Flush {
		s.blocks = uint64(len(c.members)) // it has no range; what is left is the members
	}
	f.Tag = s.place + 1
	return s
}

// cut fills a part with what comes next of a request, and gives the member it is for.
func (c *stripeQueue) cut(s *stripeSplit, p *stripePart) (member int) {
	whole, q := s.q, &p.q
	q.Kind, q.FUA, q.LBA2 = whole.Kind, whole.FUA, 0
	switch whole.Kind {
	case Read, Write, Compare:
		m, to, run := c.layout.at(s.lba)
		n := min(run, s.blocks)
		q.LBA, q.Blocks = to, n
		p.at = s.at
		p.vec = s.take(p.vec[:0], int(n<<c.shift))
		q.Data = p.vec
		s.lba += n
		s.blocks -= n
		return m
	case Flush:
		q.LBA, q.Blocks = 0, 0
		s.blocks--
		s.member++
		return s.member - 1
	}
	for {
		m := s.member
		s.member++
		if from, to := c.layout.before(m, whole.LBA), c.layout.before(m, whole.LBA+whole.Blocks); from < to {
			q.LBA, q.Blocks = from, to-from
			s.blocks -= q.Blocks
			return m
		}
	}
}

// take appends to vec the next n bytes of the whole's data.
func (s *stripeSplit) take(vec [][]byte, n int) [][]byte {
	s.at += uint64(n)
	for n > 0 {
		b := s.q.Data[s.piece][s.in:]
		if len(b) > n {
			b = b[:n:n]
			s.in += n
		} else {
			s.piece++
			s.in = 0
		}
		if len(b) > 0 {
			vec = append(vec, b)
		}
		n -= len(b)
	}
	return vec
}

// RequestDone hears that a part has ended.
func (p *stripePart) RequestDone(q *Request) {
	c, s := p.queue, p.split
	s.open--
	s.ended(q, p.at)
	clear(p.vec)
	q.Data = nil
	p.split = nil
	p.next, c.free = c.free, p
	if s.status != StatusOK && s.blocks > 0 { // the rest cannot make it good
		s.blocks = 0
		c.waiting.Remove(s.q)
	}
	if s.open == 0 && s.blocks == 0 {
		c.end(s)
	}
	c.begin()
}

// ended takes a part's result into that of the whole: the first byte that differs, but any failure before that.
func (s *stripeSplit) ended(q *Request, at uint64) {
	switch {
	case q.Status == StatusOK:
	case q.Status == StatusMiscompare:
		if detail := uint32(at) + q.Detail; s.status == StatusOK || s.status == StatusMiscompare && detail < s.detail {
			s.status, s.detail = StatusMiscompare, detail
		}
	case s.status == StatusOK || s.status == StatusMiscompare:
		s.status, s.detail = q.Status, q.Detail
	}
}

// end ends the whole.
func (c *stripeQueue) end(s *stripeSplit) {
	q, status := s.q, s.status
	q.Detail = s.detail
	if s.abort {
		status, q.Detail = StatusAborted, 0
	}
	c.drop(s)
	q.Complete(status)
}

func (c *stripeQueue) drop(s *stripeSplit) {
	s.q.Frame().Tag = 0
	s.q = nil
	s.next, c.spare = c.spare, s
}

// Abort ends a request that waits, or as much of it as has not begun and as the members let go.
func (c *stripeQueue) Abort(q *Request) bool {
	f := q.Frame()
	if f.Tag == 0 {
		if !c.waiting.Remove(q) {
			return false
		}
		q.CompleteLater(StatusAborted)
		return true
	}
	s := &c.splits[f.Tag-1]
	if s.blocks > 0 {
		c.waiting.Remove(q)
		s.blocks, s.abort = 0, true
		if s.open == 0 {
			c.drop(s)
			q.CompleteLater(StatusAborted)
			return true
		}
	}
	for i := range c.parts {
		if p := &c.parts[i]; p.split == s && c.members[0].Abort(&p.q) { // any channel finds out where it is
			s.abort = true
		}
	}
	return s.abort
}
