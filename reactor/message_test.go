package reactor_test

import (
	"sync/atomic"
	"testing"

	"github.com/pollux-storage/pollux/reactor"
)

// numbered is a message that knows its place in the order from one reactor to another.
type numbered struct {
	from, n int
	last    *[4]int // by sender: the number that arrived last; the receiver's
	left    *atomic.Int64
	done    chan<- struct{}
	t       *testing.T
}

func (m *numbered) Receive(*reactor.Reactor) {
	if m.last[m.from]++; m.last[m.from] != m.n {
		m.t.Errorf("from %d came %d, want %d", m.from, m.n, m.last[m.from])
	}
	if m.left.Add(-1) == 0 {
		close(m.done)
	}
}

func TestMessagesArriveInOrderAndNoneIsLost(t *testing.T) {
	const bursts, burst = 4, reactor.MessageRingSize + 500
	for _, n := range []int{1, 2, 4} {
		t.Run(map[int]string{1: "one", 2: "two", 4: "four"}[n], func(t *testing.T) {
			eachPolicy(t, func(t *testing.T, cfg reactor.Config) {
				cfg.Cores = unpinned(n)
				g := start(t, cfg)
				done := make(chan struct{})
				var left atomic.Int64
				left.Store(int64(n * n * bursts * burst))
				last := make([][4]int, n)
				for _, from := range g.Reactors() {
					sent := make([]int, n)
					for range bursts {
						if err := from.Go(func() {
							for range burst {
								for _, to := range g.Reactors() {
									sent[to.Index()]++
									from.Send(to, &numbered{from.Index(), sent[to.Index()], &last[to.Index()], &left, done, t})
								}
							}
						}); err != nil {
							t.Fatal(err)
						}
					}
				}
				<-done
				for _, r := range g.Reactors() {
					on(t, r, func() {
						for _, to := range g.Reactors() {
							if n, room := r.Waiting(to); n != 0 || room > 4*reactor.MessageRingSize {
								t.Errorf("reactor %d keeps room for %d messages to %d, %d wait", r.Index(), room, to.Index(), n)
							}
						}
					})
				}
			})
		})
	}
}

// token goes from reactor to reactor; each hop but the first needs a sleeper to wake, where they sleep at once.
type token struct {
	g    *reactor.Group
	hops int
	done chan struct{}
}

func (k *token) Receive(r *reactor.Reactor) {
	if k.hops--; k.hops == 0 {
		close(k.done)
		return
	}
	r.Send(k.g.Reactor((r.Index()+1)%k.g.Len()), k)
}

func pass(t *testing.T, g *reactor.Group, hops int) *token {
	k := &token{g: g, hops: hops, done: make(chan struct{})}
	r := g.Reactor(0)
	if err := r.Go(func() { r.Send(g.Reactor(g.Len()-1), k) }); err != nil {
		t.Fatal(err)
	}
	return k
}

func TestEachMessageWakesASleeper(t *testing.T) {
	eachSetup(t, func(t *testing.T, cfg reactor.Config) {
		cfg.Cores, cfg.Idle = unpinned(2), reactor.Interrupt
		g := start(t, cfg)
		<-pass(t, g, 2000).done
		var wakes uint64
		for _, r := range g.Reactors() {
			on(t, r, func() { wakes += r.Stats().Wakes })
		}
		if wakes == 0 {
			t.Error("nobody slept: the test shows nothing")
		}
	})
}

func TestMessagesAndCallsBesideChangingPolicies(t *testing.T) {
	g := start(t, reactor.Config{Cores: unpinned(4), Spin: reactor.Microsecond})
	k := pass(t, g, 5000)
	for i := 0; ; i++ {
		select {
		case <-k.done:
			return
		default:
		}
		g.SetIdle(policies[i%3])
		if g.Reactor(i%4).Idle() != policies[i%3] {
			t.Fatal("the policy did not change")
		}
		on(t, g.Reactor(i%4), func() {})
	}
}

func TestAFailedWakeUpIsMadeGood(t *testing.T) {
	g := start(t, reactor.Config{Cores: unpinned(2), Idle: reactor.Interrupt})
	by, r := g.Reactor(0), g.Reactor(1)
	for failed := false; !failed; {
		awaitSleep(r)
		on(t, by, func() { failed = reactor.FailWake(by, r) })
	}
	// r was found asleep, and the flag says that it is being woken: nobody else will. Only the answer to the failure does.
	ran := make(chan struct{})
	if err := r.Go(func() { close(ran) }); err != nil {
		t.Fatal(err)
	}
	<-ran
	on(t, by, func() {
		if by.MsgRing() {
			t.Error("the next wake-up would be tried by a message again")
		}
	})
	<-pass(t, g, 100).done
}

type discard struct{}

func (discard) Receive(*reactor.Reactor) {}

func TestMessagesAllocateNothing(t *testing.T) {
	g := start(t, reactor.Config{Cores: unpinned(2), Idle: reactor.Poll})
	r := g.Reactor(0)
	var m reactor.Message = discard{}
	on(t, r, func() {
		if n := testing.AllocsPerRun(100, func() { r.Send(g.Reactor(1), m) }); n != 0 {
			t.Errorf("%v allocations a message", n)
		}
	})
}
