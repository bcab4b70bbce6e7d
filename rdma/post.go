package rdma

import (
	"unsafe"

	"github.com/pollux-storage/pollux/internal/invariant"
	"github.com/pollux-storage/pollux/reactor"
)

// This file is what goes to a card in one turn of a reactor: receives first, so that what a peer sends in answer finds them, then all work
// requests of all queues in one call.

const (
	postMax     = 256 // work requests that leave in one call
	inlineBytes = 64  // that one of them may carry itself
)

// poster gathers for one card on one reactor.
type poster struct {
	c     *card
	r     *reactor.Reactor
	n     int
	w     [postMax]SendWR
	owner [postMax]*Queue
	copy  *[postMax][inlineBytes]byte // of inline data
	dirty *recvSet                    // those with receives that are pending
	flush reactor.Deferred
	stats Stats
}

func newPoster(c *card, r *reactor.Reactor) *poster {
	return &poster{c: c, r: r, copy: new([postMax][inlineBytes]byte)}
}

// add takes a work request of q. Inline data is copied. Where the card has refused one of q's before, it does not get those behind it either: a
// response would tell of data that never left. They are flushed with the rest.
func (p *poster) add(q *Queue, w *SendWR, id uint64) {
	if p.n == postMax {
		p.Run()
	}
	if q.why != nil {
		return
	}
	i := p.n
	if i == 0 || p.owner[i-1] != q {
		p.stats.Chains++
	}
	d := &p.w[i]
	*d = *w
	d.ID, d.QP = id, q.qp
	p.owner[i] = q
	p.n++
	if w.Flags&Inline != 0 {
		at := 0
		for j := range d.SGE[:d.SGEs] {
			e := &d.SGE[j]
			invariant.Check(int(e.Bytes) <= q.inline-at, "rdma: more inline data than a work request carries")
			to := p.copy[i][at : at+int(e.Bytes)]
			copy(to, unsafe.Slice((*byte)(pointer(e.Address)), e.Bytes))
			e.Address = uint64(uintptr(unsafe.Pointer(&p.copy[i][at])))
			if at += int(e.Bytes); at == inlineBytes {
				break
			}
		}
	}
	p.r.AtFlush(&p.flush, p)
}

// pointer is the address of inline data, which Post's caller keeps where it is until it returns.
func pointer(a uint64) unsafe.Pointer { return *(*unsafe.Pointer)(unsafe.Pointer(&a)) }

// touch lets the receives of s that are pending go to the card at the end of the turn.
func (p *poster) touch(s *recvSet) {
	if !s.dirty {
		s.dirty, s.nextDirty, p.dirty = true, p.dirty, s
	}
	p.r.AtFlush(&p.flush, p)
}

// Run gives the card what has gathered.
func (p *poster) Run() {
	for p.dirty != nil {
		s := p.dirty
		p.dirty, s.nextDirty, s.dirty = s.nextDirty, nil, false
		if err := s.post(); err != nil {
			s.failed(err)
		}
	}
	w, owner := p.w[:p.n], p.owner[:p.n]
	for len(w) > 0 {
		n, err := p.c.v.Post(w)
		p.stats.PostCalls++
		p.stats.Posts += uint64(n)
		w, owner = w[n:], owner[n:]
		if err == nil && n > 0 || len(w) == 0 {
			continue
		}
		// The card did not take the first: its queue ends, with all that it still has here, and the others go on.
		bad := owner[0]
		bad.endSoon(&postError{err})
		k := 0
		for i := range w {
			if owner[i] != bad {
				w[k], owner[k] = w[i], owner[i]
				k++
			}
		}
		w, owner = w[:k], owner[:k]
	}
	clear(p.owner[:p.n])
	p.n = 0
}

// postError says that the card took no work request.
type postError struct{ err error }

func (e *postError) Error() string {
	if e.err == nil {
		return "giving the card a work request: it took none"
	}
	return "giving the card a work request: " + e.err.Error()
}

func (e *postError) Unwrap() error { return e.err }

// failed ends the queues whose receives the card does not take.
func (s *recvSet) failed(err error) {
	if s.q != nil {
		s.q.endSoon(err)
		return
	}
	for _, q := range s.lane.slots {
		if q != nil && q.own == nil {
			q.endSoon(err)
		}
	}
}
