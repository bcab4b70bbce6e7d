package nvmf

import (
	"slices"
	"testing"
	"time"

	"github.com/pollux-storage/pollux/reactor"
)

// Patience is how long hosts are waited for in a test; what is 0 stays as it is.
type Patience struct{ Data, Wanted, Terminate, Soon time.Duration }

// SetPatience sets it for engines that the test starts after it.
func SetPatience(t *testing.T, p Patience) {
	was := patience
	t.Cleanup(func() { patience = was })
	for _, s := range []struct {
		to *reactor.Ticks
		d  time.Duration
	}{{&patience.data, p.Data}, {&patience.wanted, p.Wanted}, {&patience.terminate, p.Terminate}, {&patience.soon, p.Soon}} {
		if s.d > 0 {
			*s.to = reactor.Ticks(s.d)
		}
	}
}

// ControllerState gives a controller's CSTS and the newest entry of its error log; ok is false if it is gone.
func (t *Target) ControllerState(nqn string, id CNTLID) (csts CSTS, last ErrorEntry, ok bool) {
	t.mu.Lock()
	s, err := t.find(nqn)
	t.mu.Unlock()
	if err != nil {
		return 0, last, false
	}
	_ = t.group.Reactor(s.owner).Call(func() {
		k := t.groups[s.owner].shares[s].controllers[id]
		if ok = k != nil; ok {
			csts, last = k.csts, k.errors.entries[k.errors.count%errorLogMax]
		}
	})
	return csts, last, ok
}

// Rest tells how far the queue of a link has come to rest for a move: whether one is under way, and the bytes that were received and
// are not begun.
func (t *Target) Rest(id CNTLID, qid QID) (moves bool, bytes int) {
	t.ask(id, qid, func(q *queue) {
		c := q.t.(*tcpQueue)
		moves = q.move != nil
		bytes = len(c.conn.Remains(slices.Clone(c.kept), c.keeping))
	})
	return moves, bytes
}

// Open gives the number of commands that the queue of a link has begun and not answered.
func (t *Target) Open(id CNTLID, qid QID) (n int) {
	t.ask(id, qid, func(q *queue) { n = len(q.commands) - int(q.slots) })
	return n
}

// ask looks at the queue of a link, on the reactor that it is on.
func (t *Target) ask(id CNTLID, qid QID, look func(*queue)) {
	_ = t.group.Each(func(r *reactor.Reactor) {
		for q := t.groups[r.Index()].queues; q != nil; q = q.next {
			if q.link != nil && q.link.cntlid == id && q.id == qid {
				look(q)
			}
		}
	})
}

// Placed gives the number of I/O queues that are counted on each reactor.
func (t *Target) Placed() (n []int) {
	for i := range t.placed {
		n = append(n, int(t.placed[i].Load()))
	}
	return n
}
