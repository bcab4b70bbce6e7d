package nvmf

import (
	"cmp"
	"context"
	"slices"
	"sync"
	"time"

	"github.com/pollux-storage/pollux/reactor"
)

// This file is what moves queues when reactors are uneven: a goroutine looks at them once in a period, and has one queue moved
// when one reactor has been hot and another cold for some periods on end.
//
// A queue is moved only if the busier of the two reactors is expected to be the less busy for it by a margin; so moves come to an end, and no
// queue goes to and fro. One that is alone on its reactor stays: it would take the heat along. After a move nothing is decided until it shows.
//
// How much of its reactor a queue takes is estimated from the commands and bytes that it served. What a reactor does beside queues is
// counted as theirs: where that is most of it, queues leave that take less along than expected, one after the other, and all but the last may.

// Periods.
const (
	balanceStreak = 3  // in which the same reactor must be hot
	balanceRest   = 3  // after a move
	balanceShy    = 30 // in which a queue is left alone that could not be moved
)

// commandBytes is what of a command's data costs about as much as a command.
const commandBytes = 32 << 10

// queueKey names a queue of the target.
type queueKey struct {
	sub *Subsystem
	id  CNTLID
	qid QID
}

func (k queueKey) compare(o queueKey) int {
	return cmp.Or(cmp.Compare(k.sub.o.NQN, o.sub.o.NQN), cmp.Compare(k.id, o.id), cmp.Compare(k.qid, o.qid))
}

// queueWork is what a queue did in a period.
type queueWork struct {
	queue   queueKey
	reactor int
	work    uint64
	fixed   bool // it cannot move
}

// balancer decides which queue should move. It is told of each period in turn.
type balancer struct {
	hot, cold int // thousandths

	streak []int // for how many periods each reactor has been hot, while another was cold
	rest   int
	shy    map[queueKey]int
}

// balanceMove is a queue that should move.
type balanceMove struct {
	queue    queueKey
	from, to int
}

// decide gives a queue that should move. The busiest reactor comes first; one that no queue can relieve does not stand in the way of others.
func (b *balancer) decide(busy []int, queues []queueWork) (m balanceMove, ok bool) {
	for k := range b.shy {
		if b.shy[k]--; b.shy[k] <= 0 {
			delete(b.shy, k)
		}
	}
	if len(b.streak) != len(busy) {
		b.streak = make([]int, len(busy))
	}
	to := 0
	for i := range busy {
		if busy[i] < busy[to] {
			to = i
		}
	}
	if b.rest > 0 || busy[to] >= b.cold {
		b.rest = max(0, b.rest-1)
		clear(b.streak)
		return m, false
	}
	var hot []int
	for i := range busy {
		if busy[i] < b.hot {
			b.streak[i] = 0
		} else if b.streak[i]++; b.streak[i] >= balanceStreak {
			hot = append(hot, i)
		}
	}
	slices.SortStableFunc(hot, func(i, j int) int { return cmp.Compare(busy[j], busy[i]) })
	for _, from := range hot {
		if q, ok := b.relieve(from, to, busy, queues); ok {
			clear(b.streak)
			b.rest = balanceRest
			return balanceMove{q, from, to}, true
		}
	}
	return m, false
}

// relieve chooses the queue that leaves the busier of two reactors least busy.
func (b *balancer) relieve(from, to int, busy []int, queues []queueWork) (q queueKey, ok bool) {
	total := uint64(0)
	for i := range queues {
		if queues[i].reactor == from {
			total += queues[i].work
		}
	}
	best, least := busy[from]-busyStep, uint64(0) // what the busier of the two may have afterwards; the work that goes
	for i := range queues {
		w := &queues[i]
		if w.reactor != from || w.work == 0 || w.fixed || b.shy[w.queue] > 0 {
			continue
		}
		share := int(uint64(busy[from]) * w.work / total)
		after := max(busy[from]-share, busy[to]+share)
		if after < best || after == best && (!ok || w.work < least || w.work == least && w.queue.compare(q) < 0) {
			best, least, q, ok = after, w.work, w.queue, true
		}
	}
	return q, ok
}

// failed hears that a queue could not be moved.
func (b *balancer) failed(q queueKey) {
	if b.shy == nil {
		b.shy = map[queueKey]int{}
	}
	b.shy[q] = balanceShy
}

// BalanceOptions say how a target looks after its reactors.
type BalanceOptions struct {
	Move   bool          // queues move when reactors are uneven; otherwise only those that come are placed by load
	Period time.Duration // between two looks
	Hot    int           // percent of its time in which a reactor has to be busy to be relieved
}

// DefaultBalance is what an engine begins with. Moving is on: a reactor that is saturated beside one that is idle costs hosts as much as
// half of what the engine can give, and a move costs one of them a pause (BenchmarkMove).
func DefaultBalance() BalanceOptions {
	return BalanceOptions{Move: true, Period: time.Second, Hot: busyHot / 10}
}

// watch is the goroutine that looks after the reactors.
type watch struct {
	mu    sync.Mutex
	o     BalanceOptions
	stop  context.CancelFunc // nil: it does not run
	ended chan struct{}
}

// Balance sets how the target looks after its reactors from now on, until it stops.
func (t *Target) Balance(o BalanceOptions) {
	t.watch.mu.Lock()
	defer t.watch.mu.Unlock()
	t.watch.end()
	t.watch.o = o
	if t.group.Len() == 1 || t.stopping.Load() {
		return
	}
	ctx, stop := context.WithCancel(context.Background())
	t.watch.stop, t.watch.ended = stop, make(chan struct{})
	go t.balance(ctx, o, t.watch.ended)
}

// Balancing gives what was set.
func (t *Target) Balancing() BalanceOptions {
	t.watch.mu.Lock()
	defer t.watch.mu.Unlock()
	return t.watch.o
}

// end ends the goroutine. The lock is held.
func (w *watch) end() {
	if w.stop != nil {
		w.stop()
		<-w.ended
		w.stop = nil
	}
}

func (t *Target) balance(ctx context.Context, o BalanceOptions, ended chan<- struct{}) {
	defer close(ended)
	tick := time.NewTicker(o.Period)
	defer tick.Stop()
	b := balancer{hot: o.Hot * 10, cold: busyCold}
	s := newSampler(t)
	for {
		busy, queues, err := s.look()
		if err != nil {
			return // the reactors have stopped
		}
		if o.Move && busy != nil && !t.draining.Load() {
			if m, ok := b.decide(busy, queues); ok {
				q := m.queue
				if err := t.MoveQueue(ctx, q.sub.o.NQN, q.id, q.qid, m.to, MoveTime); err != nil {
					b.failed(q)
					t.log.Info("a queue of a busy reactor stays where it is", "error", err)
				} else {
					t.log.Info("a queue moved from a busy reactor to one that is not", "subsystem", q.sub.o.NQN, "controller", q.id, "queue", q.qid,
						"from", m.from, "to", m.to, "busy", busy[m.from]/10, "busy_there", busy[m.to]/10)
				}
			}
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// sampler looks at reactors and queues, and tells what they did since the last look.
type sampler struct {
	t     *Target
	begun bool
	stats []reactor.Stats
	seen  [][]queueWork          // each reactor's, of the last look
	work  map[queueKey]queueWork // since the queue came to its reactor
}

func newSampler(t *Target) *sampler {
	return &sampler{t: t, stats: make([]reactor.Stats, t.group.Len()), seen: make([][]queueWork, t.group.Len())}
}

// look gives the busy share of each reactor and the work of each queue since the last look; at the first it gives none.
func (s *sampler) look() (busy []int, queues []queueWork, err error) {
	t := s.t
	samples := make([]reactorSample, t.group.Len())
	for i := range samples {
		samples[i].queues = int(t.placed[i].Load())
	}
	err = t.group.Each(func(r *reactor.Reactor) {
		i := r.Index()
		now, was := r.Stats(), s.stats[i]
		s.stats[i] = now
		samples[i].busy = int(1000 * (now.Busy - was.Busy) / max(1, now.Busy+now.Idle-was.Busy-was.Idle))
		seen := s.seen[i][:0]
		for q := t.groups[i].queues; q != nil; q = q.next {
			if q.link == nil || q.state != queueLive {
				continue
			}
			k := queueKey{q.sub.sub, q.link.cntlid, q.id}
			seen = append(seen, queueWork{k, i, q.after + q.carried/commandBytes, q.link.fixed})
		}
		s.seen[i] = seen
	})
	if err != nil {
		return nil, nil, err
	}
	was, work := s.work, map[queueKey]queueWork{}
	for _, seen := range s.seen {
		for _, w := range seen {
			work[w.queue] = w
		}
	}
	s.work = work
	if !s.begun {
		s.begun = true
		return nil, nil, nil
	}
	for k, w := range work {
		if o, ok := was[k]; ok && o.reactor == w.reactor && o.work <= w.work {
			w.work -= o.work
		}
		queues = append(queues, w)
	}
	for i := range samples {
		busy = append(busy, samples[i].busy)
	}
	t.loads.Store(&samples)
	return busy, queues, nil
}
