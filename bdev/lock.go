package bdev

import (
	"slices"

	"github.com/pollux-storage/pollux/reactor"
)

// This file is how CompareAndWrite and Copy are atomic where the driver has no such operation: they lock what they use on every reactor
// for the time between the first read and the last write. Locks are granted by one reactor, the first of the group, so that two of
// them never wait for each other. Nobody else reads or writes what is written meanwhile; nobody writes the source of a Copy.
//
//	requester          first reactor                  every reactor
//	ask ─────────────▶ waits while another overlaps
//	                   install ─────────────────────▶ holds back what overlaps from now on,
//	                   installed ◀─────────────────── and answers when what overlapped has ended
//	granted ◀───────── when all have answered
//	  read, compare, write
//	release ─────────▶ remove ──────────────────────▶ lets go of what it held back
//	                   removed ◀─────────────────────
//	freed ◀─────────── when all have answered
//
// Each message goes on to the next step of one lock; a lock has one message to and from every reactor, and one to and from
// its requester. A device whose locks are never used pays one branch for each request.
type rangeLock struct {
	d        *Device
	c        *Channel // of the requester
	q        *Request
	lba, end uint64
	from     uint64 // source of a Copy, up to fromEnd; both 0 if it is none
	fromEnd  uint64
	answers  int // of reactors that still have to come
	self     lockMessage
	each     []lockMessage // by reactor
}

// lockTable is what the first reactor knows of a device's locks.
type lockTable struct {
	active  []*rangeLock
	waiting []*rangeLock // in the order in which they asked
}

type lockStep uint8

const (
	lockAsk lockStep = iota
	lockInstall
	lockInstalled
	lockGranted
	lockRelease
	lockRemove
	lockRemoved
	lockFreed
)

// lockMessage travels between two reactors on behalf of a lock.
type lockMessage struct {
	lock  *rangeLock
	step  lockStep
	place int // the reactor's index, for those of each
	waits int // requests there that have to end before the lock is installed
}

// lock asks for the range of a CompareAndWrite, or both of a Copy; granted goes on with it.
func (c *Channel) lock(q *Request, f *frame) {
	h := &c.d.here[c.r.Index()]
	var l *rangeLock
	if n := len(h.spare); n > 0 {
		l = h.spare[n-1]
		h.spare = h.spare[:n-1]
	} else {
		l = &rangeLock{d: c.d, each: make([]lockMessage, c.r.Group().Len())}
		l.self.lock = l
		for i := range l.each {
			l.each[i].lock, l.each[i].place = l, i
		}
	}
	l.c, l.q, l.lba, l.end, l.from, l.fromEnd = c, q, f.lba, f.lba+f.blocks, 0, 0
	if f.kind == Copy {
		l.from, l.fromEnd = f.lba2, f.lba2+f.blocks
	}
	f.more.lock = l
	f.held = holdGrant
	l.self.send(c.r, 0, lockAsk)
}

// unlock ends it.
func (c *Channel) unlock(l *rangeLock) { l.self.send(c.r, 0, lockRelease) }

func (m *lockMessage) send(from *reactor.Reactor, to int, step lockStep) {
	m.step = step
	from.Send(from.Group().Reactor(to), m)
}

// Receive takes the lock one step on.
func (m *lockMessage) Receive(r *reactor.Reactor) {
	l := m.lock
	switch m.step {
	case lockAsk:
		l.d.locks.waiting = append(l.d.locks.waiting, l)
		l.d.locks.grant(r)
	case lockInstall:
		m.install(r)
	case lockInstalled:
		if l.answers--; l.answers == 0 {
			l.self.send(r, l.c.r.Index(), lockGranted)
		}
	case lockGranted:
		l.c.granted(l.q)
	case lockRelease:
		t := &l.d.locks
		t.active = slices.DeleteFunc(t.active, func(o *rangeLock) bool { return o == l })
		l.sendAll(r, lockRemove)
		t.grant(r) // an install sent now arrives after the remove
	case lockRemove:
		m.remove(r)
	case lockRemoved:
		if l.answers--; l.answers == 0 {
			l.self.send(r, l.c.r.Index(), lockFreed)
		}
	case lockFreed:
		l.c, l.q = nil, nil
		h := &l.d.here[r.Index()]
		h.spare = append(h.spare, l)
	}
}

func (l *rangeLock) sendAll(r *reactor.Reactor, step lockStep) {
	l.answers = len(l.each)
	for i := range l.each {
		l.each[i].send(r, i, step)
	}
}

// overlaps reports whether one of two locks writes what the other uses.
func (l *rangeLock) overlaps(o *rangeLock) bool {
	return l.lba < o.end && o.lba < l.end || l.lba < o.fromEnd && o.from < l.end || o.lba < l.fromEnd && l.from < o.end
}

// grant installs every lock that overlaps neither an active one nor one that asked earlier.
func (t *lockTable) grant(r *reactor.Reactor) {
	still := t.waiting[:0]
	for _, l := range t.waiting {
		if slices.ContainsFunc(t.active, l.overlaps) || slices.ContainsFunc(still, l.overlaps) {
			still = append(still, l)
			continue
		}
		t.active = append(t.active, l)
		l.sendAll(r, lockInstall)
	}
	clear(t.waiting[len(still):])
	t.waiting = still
}

// touches reports whether the request uses a block that the lock's owner writes, or writes one that it reads.
func (l *rangeLock) touches(f *frame) bool {
	switch f.kind {
	case Flush, Reset:
		return false
	case Copy:
		if f.lba2 < l.end && l.lba < f.lba2+f.blocks {
			return true
		}
	}
	if f.kind.Writes() && f.lba < l.fromEnd && l.from < f.lba+f.blocks {
		return true
	}
	return f.lba < l.end && l.lba < f.lba+f.blocks
}

// install begins the lock on this reactor.
func (m *lockMessage) install(r *reactor.Reactor) {
	l := m.lock
	h := &l.d.here[r.Index()]
	h.locks = append(h.locks, l)
	m.waits = 0
	if c := h.channel; c != nil {
		c.gates |= gateLock
		for f := c.flight.next; f != &c.flight; f = f.next {
			if f.held < holdReset && l.touches(f) {
				m.waits++
			}
		}
	}
	if m.waits == 0 {
		m.send(r, 0, lockInstalled)
	}
}

// gateLock holds a request back that touches a locked range. One that asks for a lock itself waits for that.
func (c *Channel) gateLock(q *Request, f *frame) bool {
	if c.gates&gateLock == 0 || c.locks(f) {
		return false
	}
	for _, l := range c.d.here[c.r.Index()].locks {
		if l.touches(f) {
			f.held = holdLock
			c.locked.Push(q)
			return true
		}
	}
	return false
}

// locks says that a request is one of those whose emulation locks what they use.
func (c *Channel) locks(f *frame) bool {
	return (f.kind == CompareAndWrite || f.kind == Copy) && (f.oddly || !c.direct.Has(f.kind))
}

// endLocked counts a request down that a lock had to wait for.
func (c *Channel) endLocked(f *frame) {
	if f.held >= holdReset {
		return
	}
	for _, l := range c.d.here[c.r.Index()].locks {
		m := &l.each[c.r.Index()]
		if m.waits > 0 && l.touches(f) {
			if m.waits--; m.waits == 0 {
				m.send(c.r, 0, lockInstalled)
			}
		}
	}
}

// granted goes on with the request whose lock was installed everywhere.
func (c *Channel) granted(q *Request) {
	f := q.Frame()
	f.held = holdNone
	if s := f.more.abort; s != StatusOK {
		q.Complete(s)
		return
	}
	if f.stage = stageSwapCompare; f.kind == Copy {
		f.stage = stageCopyRead
	}
	c.borrow(q, f)
}

// remove ends the lock on this reactor, and lets those begin that it held back.
func (m *lockMessage) remove(r *reactor.Reactor) {
	l := m.lock
	h := &l.d.here[r.Index()]
	h.locks = slices.DeleteFunc(h.locks, func(o *rangeLock) bool { return o == l })
	m.send(r, 0, lockRemoved)
	c := h.channel
	if c == nil {
		return
	}
	if len(h.locks) == 0 {
		c.gates &^= gateLock
	}
	for n := c.locked.n; n > 0; n-- {
		q := c.locked.Pop()
		f := q.Frame()
		f.held = holdNone
		if !c.gateLock(q, f) {
			c.begin(q, f)
		}
	}
}
