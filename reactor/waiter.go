package reactor

import "github.com/pollux-storage/pollux/internal/invariant"

// This file is who waits for memory, and in what order they get it.
//
//   - Of one size class: first come, first served; who comes later is refused while another waits.
//   - A slab that becomes free goes to the one who has waited longest of all that it can serve.
//   - A class can hold many slabs by a few buffers each, and give no slab back for ever. So for the one who has waited longest,
//     if nothing serves him, a slab of another class is drained: it lends no more, and is his when the last buffer comes back.
//
// So everyone who waits is served if every buffer is given back some time, however much is taken meanwhile.

// Waiter waits for a buffer. It is part of its owner and in one list at most.
type Waiter struct {
	next, prev *Waiter
	run        Runner
	order      uint64
	class      uint8
	in         bool
}

// waiting is a pool's waiters.
type waiting struct {
	queues   [classes]waiterList
	waiters  int
	order    uint64  // given to those who came so far
	refused  uint8   // the class that Get refused last
	serving  *Waiter // whose turn it is: he may take before the others
	wakeup   Deferred
	draining int32   // a slab that lends no more
	drainFor *Waiter // for whom
}

type waiterList struct{ head, tail *Waiter }

// Await lets run run when a buffer of the size that Get refused last may be had; it tries again, and may have to wait again. It
// keeps its place then.
func (m *Memory) Await(w *Waiter, run Runner) {
	invariant.Check(!w.in, "reactor: waits for memory twice")
	w.run, w.class, w.in = run, m.refused, true
	if w != m.serving {
		m.order++
		w.order = m.order
	}
	l := &m.queues[w.class]
	before := l.tail
	for before != nil && before.order > w.order {
		before = before.prev
	}
	l.insert(w, before)
	m.waiters++
	m.wakeWaiters()
}

// Forget takes a waiter out and reports whether it waited.
func (m *Memory) Forget(w *Waiter) bool {
	if !w.in {
		return false
	}
	m.queues[w.class].remove(w)
	w.in = false
	m.waiters--
	if w == m.drainFor {
		m.drainEnd()
	}
	if m.waiters > 0 {
		m.wakeWaiters() // another may be the one to drain for
	}
	return true
}

func (l *waiterList) insert(w, before *Waiter) {
	w.prev = before
	if before == nil {
		w.next, l.head = l.head, w
	} else {
		w.next, before.next = before.next, w
	}
	if w.next == nil {
		l.tail = w
	} else {
		w.next.prev = w
	}
}

func (l *waiterList) remove(w *Waiter) {
	if w.prev == nil {
		l.head = w.next
	} else {
		w.prev.next = w.next
	}
	if w.next == nil {
		l.tail = w.prev
	} else {
		w.next.prev = w.prev
	}
	w.next, w.prev = nil, nil
}

func (m *Memory) wakeWaiters() {
	if !m.wakeup.queued {
		m.r.Defer(&m.wakeup, m)
	}
}

// Run gives those who wait their turn, as long as there is something for one of them.
func (m *Memory) Run() {
	for n := m.waiters; n > 0; n-- {
		w := m.nextServed()
		if w == nil {
			m.drain()
			return
		}
		m.Forget(w)
		m.serving = w
		w.run.Run()
		m.serving = nil
	}
	if m.waiters > 0 {
		m.wakeWaiters()
	}
}

// nextServed is the one who has waited longest of those for whom there is a buffer; nil if there is for none.
func (m *Memory) nextServed() *Waiter {
	slab := m.spare != noSlab || m.unkeep() || m.ready < m.limit
	var first *Waiter
	for c := range m.queues {
		if w := m.queues[c].head; w != nil && (slab || m.partial[c] != noSlab) && (first == nil || w.order < first.order) {
			first = w
		}
	}
	return first
}

// mayTake says whether a taker of class c, where others wait, need not wait too. i is the slab with a free buffer, if any.
func (m *Memory) mayTake(c int, i int32) bool {
	return m.serving != nil || m.queues[c].head == nil && i != noSlab
}

// drain picks a slab for the one who has waited longest.
func (m *Memory) drain() {
	var first *Waiter
	for c := range m.queues {
		if w := m.queues[c].head; w != nil && (first == nil || w.order < first.order) {
			first = w
		}
	}
	if first == nil || first == m.drainFor {
		return
	}
	m.drainEnd()
	least := int32(noSlab)
	for i := range m.slabs {
		s := &m.slabs[i]
		if s.class != first.class && (least == noSlab || s.share() < m.slabs[least].share()) {
			least = int32(i)
		}
	}
	if least == noSlab {
		return // all are of his class: whatever comes back is his
	}
	if s := &m.slabs[least]; s.listed {
		m.unlist(&m.partial[s.class], least)
	}
	m.draining, m.drainFor = least, first
}

// share is the part of a slab that is out, in pages.
func (s *slab) share() int { return int(s.used) << s.class }

// drainEnd lets the slab lend again.
func (m *Memory) drainEnd() {
	if i := m.draining; i != noSlab {
		m.draining, m.drainFor = noSlab, nil
		if s := &m.slabs[i]; int(s.used) < buffersOf(int(s.class)) {
			m.list(&m.partial[s.class], i)
		}
	}
}
