package rdmatest

import (
	"slices"

	"golang.org/x/sys/unix"

	"github.com/pollux-storage/pollux/rdma"
)

// This file is what a test can let go wrong. All of it may be called at any time, from any goroutine.

// wounds are those of a provider.
type wounds struct {
	withheld        Work
	readsLate       bool
	holdCompletions bool
	holdSends       bool
	cut             bool
	onEvent         func(*rdma.Event) Verdict
	next            []wound
}

// wound is a status that a work request will end with.
type wound struct {
	kind   rdma.CompletionKind
	left   int
	status rdma.Status
}

// Work is a set of what cards do.
type Work uint8

// What can be withheld.
const (
	Sends Work = 1 << iota
	Writes
	Reads
	Flushes
	AllWork = Sends | Writes | Reads | Flushes
)

var workOf = [...]Work{rdma.OpSend: Sends, rdma.OpSendInvalidate: Sends, rdma.OpWrite: Writes, rdma.OpRead: Reads}

// withholds says whether what q does next is withheld.
func (p *Provider) withholds(q *queuePair) bool {
	switch {
	case p.withheld == 0:
		return false
	case q.state == failed:
		return p.withheld&Flushes != 0
	case q.state != ready:
		return false
	case q.done < q.started:
		return p.withheld&Reads != 0
	case q.started < q.posted:
		return p.withheld&workOf[q.entry(q.started).wr.Opcode] != 0
	}
	return false
}

// Withhold lets work requests of these kinds wait on the card: Post takes them, and nothing becomes of them, or of those behind them in their
// queues, before Step or Release.
func (p *Provider) Withhold(w Work) {
	p.f.mu.Lock()
	defer p.f.mu.Unlock()
	p.withheld |= w
}

// Release ends all withholding, and carries out what had gathered.
func (p *Provider) Release() {
	p.f.mu.Lock()
	defer p.f.mu.Unlock()
	p.withheld = 0
	for len(p.parked) > 0 {
		q := p.parked[0]
		q.leave()
		q.ready()
	}
	p.f.drain()
}

// Withheld is the number of queue pairs whose next work is withheld.
func (p *Provider) Withheld() int {
	p.f.mu.Lock()
	defer p.f.mu.Unlock()
	return len(p.parked)
}

// Step carries out one piece of withheld work, of the n-th (modulo their number) of the queue pairs that have such. It reports whether there was one.
func (p *Provider) Step(n int) bool {
	p.f.mu.Lock()
	defer p.f.mu.Unlock()
	if len(p.parked) == 0 {
		return false
	}
	q := p.parked[n%len(p.parked)]
	q.leave()
	q.step()
	p.f.drain()
	return true
}

// ReadsLate lets RDMA READs take time: work requests behind one, which are not fenced, are carried out before its data come, as they may be with
// cards. Completions are in order all the same.
func (p *Provider) ReadsLate(late bool) {
	p.f.mu.Lock()
	defer p.f.mu.Unlock()
	p.readsLate = late
}

// eachCQ is each completion queue on the provider's cards. The lock is held.
func (p *Provider) eachCQ(do func(*completionQueue)) {
	p.f.cqs.each(func(q *completionQueue) {
		if q.card.p == p {
			do(q)
		}
	})
}

// HoldCompletions keeps completions back from Poll: all has been carried out, and nobody knows. Without it those that were kept come.
func (p *Provider) HoldCompletions(hold bool) {
	p.f.mu.Lock()
	defer p.f.mu.Unlock()
	p.holdCompletions = hold
	if !hold {
		p.eachCQ((*completionQueue).show)
	}
}

// HoldSends keeps the completions of send queues back, while those of receives come: so a peer's answer can be there before what it answers is known to
// have left, as with cards whose acknowledgement is late or lost. Without it those that were kept come.
func (p *Provider) HoldSends(hold bool) {
	p.f.mu.Lock()
	defer p.f.mu.Unlock()
	p.holdSends = hold
	if !hold {
		p.eachCQ((*completionQueue).addLate)
	}
}

// Wound lets the n-th work request of a kind from now on, 1 being the next, end with a status that is not StatusOK, without effect, and its queue
// pair with it. The peer's ends too where the status says that the peer has refused.
func (p *Provider) Wound(k rdma.CompletionKind, n int, s rdma.Status) {
	p.f.mu.Lock()
	defer p.f.mu.Unlock()
	p.next = append(p.next, wound{k, n, s})
}

// wounded counts a work request, and says what it shall end with.
func (p *Provider) wounded(k rdma.CompletionKind) (s rdma.Status, is bool) {
	for i := 0; i < len(p.next); i++ {
		w := &p.next[i]
		if w.kind != k {
			continue
		}
		if w.left--; w.left == 0 && !is {
			s, is = w.status, true
			p.next = slices.Delete(p.next, i, i+1)
			i--
		}
	}
	return s, is
}

// hears lets a queue pair know what its peer's work request ends with.
func (q *queuePair) hears(s rdma.Status) {
	switch s {
	case rdma.StatusRemoteInvalid, rdma.StatusRemoteAccess, rdma.StatusRemoteOperation, rdma.StatusRemoteAborted:
		q.fail()
	}
}

// Cut takes a provider off the fabric without a word: what it and its peers have under way ends with StatusRetry, no event crosses, and who connects
// gets EventUnreachable. Mend ends it for new connections and for those on which nothing was tried.
func (p *Provider) Cut() {
	p.f.mu.Lock()
	defer p.f.mu.Unlock()
	p.cut = true
	p.f.tryAll()
	p.f.drain()
}

// Mend connects it again.
func (p *Provider) Mend() {
	p.f.mu.Lock()
	defer p.f.mu.Unlock()
	p.cut = false
}

// tryAll lets all queue pairs look at what has changed.
func (f *Fabric) tryAll() {
	f.qps.each(func(q *queuePair) {
		if q.place == stalled || q.place == waiting {
			q.ready()
		}
	})
}

// PortDown lets what a card sends, or shall get, wait for PortUp, and Info say that no port is active.
func (p *Provider) PortDown(card int) {
	p.f.mu.Lock()
	defer p.f.mu.Unlock()
	p.cards[card].connected = false
	p.cards[card].tell(rdma.CardEvent{Kind: rdma.CardPortDown, Port: 1})
}

// PortUp lets it go on.
func (p *Provider) PortUp(card int) {
	p.f.mu.Lock()
	defer p.f.mu.Unlock()
	p.cards[card].connected = true
	p.cards[card].tell(rdma.CardEvent{Kind: rdma.CardPortUp, Port: 1})
	p.f.tryAll()
	p.f.drain()
}

// Expire ends what waits for a port, on either side, with StatusRetry, as cards do after a while.
func (p *Provider) Expire() {
	p.f.mu.Lock()
	defer p.f.mu.Unlock()
	p.f.qps.each(func(q *queuePair) {
		if q.place == stalled && q.state == ready && (q.card.p == p || q.peer != nil && q.peer.card.p == p) {
			q.place = nowhere
			q.end(rdma.StatusRetry)
		}
	})
	p.f.drain()
}

// Remove takes a card away. All that is on it hears EventRemoval, and nothing new can be made on it. Its queue pairs go to the error state, and flush
// unless silent: then nothing ever completes, and only destroying them gives their buffers back.
func (p *Provider) Remove(card int, silent bool) {
	p.f.mu.Lock()
	defer p.f.mu.Unlock()
	c := p.cards[card]
	c.removed = true
	c.tell(rdma.CardEvent{Kind: rdma.CardFatal})
	c.news.Broadcast()
	p.f.qps.each(func(q *queuePair) {
		switch {
		case q.card != c:
		case silent:
			q.leave()
			q.state = gone
		default:
			q.fail()
		}
	})
	p.f.ids.each(func(d *ident) {
		if d.card == c {
			d.tell(rdma.Event{Kind: rdma.EventRemoval, Status: int(unix.ENODEV)})
		}
	})
	p.f.tryAll()
	p.f.drain()
}

// LoseAddress tells all connections and listeners of a card that their address is gone.
func (p *Provider) LoseAddress(card int) {
	p.f.mu.Lock()
	defer p.f.mu.Unlock()
	p.f.ids.each(func(d *ident) {
		if d.card == p.cards[card] {
			d.tell(rdma.Event{Kind: rdma.EventAddress})
		}
	})
}

// Verdict is what becomes of an event.
type Verdict uint8

// The verdicts.
const (
	Pass Verdict = iota
	Drop
	Hold // until ReleaseEvents
)

// Events lets look, which may change it, judge every event of the provider before Next gives it. It is called under the fabric's lock and
// so may not use the fabric. Nil ends it.
func (p *Provider) Events(look func(*rdma.Event) Verdict) {
	p.f.mu.Lock()
	defer p.f.mu.Unlock()
	p.onEvent = look
}

// ReleaseEvents gives those that were held, after all others that are there.
func (p *Provider) ReleaseEvents() {
	p.f.mu.Lock()
	defer p.f.mu.Unlock()
	for _, m := range p.cms {
		m.events = append(m.events, m.held...)
		m.held = nil
		m.news.Broadcast()
	}
}

// FailNext lets the next Next of each connection manager of the provider end with an error.
func (p *Provider) FailNext(err error) {
	p.f.mu.Lock()
	defer p.f.mu.Unlock()
	for _, m := range p.cms {
		m.err = err
		m.news.Broadcast()
	}
}
