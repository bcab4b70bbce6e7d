package reactor_test

import (
	"errors"
	"slices"
	"testing"

	"github.com/pollux-storage/pollux/reactor"
)

func TestPollerWithoutASourceThatWakesIsRefused(t *testing.T) {
	r := start(t, reactor.Config{}).Reactor(0)
	p := pollFunc(func(reactor.Ticks) int { return 0 })
	on(t, r, func() {
		if err := r.AddPoller("forgotten", &p, reactor.Wake{}); !errors.Is(err, reactor.ErrNoWake) {
			t.Errorf("adding it gave %v", err)
		}
		if len(r.Pollers()) != 0 {
			t.Error("it was added")
		}
	})
}

func TestBusyPollerKeepsAReactorUp(t *testing.T) {
	for _, policy := range []reactor.Idle{reactor.Adaptive, reactor.Interrupt} {
		t.Run(policy.String(), func(t *testing.T) {
			r := start(t, reactor.Config{Idle: policy, Spin: 1}).Reactor(0)
			busy, runs, reached := true, 0, make(chan struct{})
			p := pollFunc(func(reactor.Ticks) int {
				if runs++; runs == 1000 {
					close(reached)
				}
				return 0
			})
			var before, after uint64
			on(t, r, func() {
				if err := r.AddPoller("busy", &p, reactor.Wake{Busy: func() bool { return busy }}); err != nil {
					t.Error(err)
				}
				before = r.Stats().Sleeps
			})
			<-reached
			on(t, r, func() { after = r.Stats().Sleeps })
			if before != after {
				t.Errorf("it slept %d times", after-before)
			}
			on(t, r, func() { busy = false })
			awaitSleep(r)
			on(t, r, func() {
				if s := r.Pollers()[0]; s.Name != "busy" || s.Runs != uint64(runs) || s.Hits != 0 {
					t.Errorf("%+v after %d runs", s, runs)
				}
				r.RemovePoller(&p)
			})
		})
	}
}

func TestPollersAreRemovedWhileTheyArePolled(t *testing.T) {
	r := start(t, reactor.Config{Idle: reactor.Interrupt}).Reactor(0)
	var ran []string
	var a, b, c pollFunc
	a = func(reactor.Ticks) int {
		ran = append(ran, "a")
		r.RemovePoller(&a) // itself
		r.RemovePoller(&c) // one that would come
		_ = r.AddPoller("b", &b, reactor.Wake{Events: true})
		return 1
	}
	b = func(reactor.Ticks) int { ran = append(ran, "b"); r.RemovePoller(&b); return 1 }
	c = func(reactor.Ticks) int { ran = append(ran, "c"); return 1 }
	on(t, r, func() {
		_ = r.AddPoller("a", &a, reactor.Wake{Events: true})
		_ = r.AddPoller("c", &c, reactor.Wake{Events: true})
		for range 3 {
			r.Tick()
		}
		if !slices.Equal(ran, []string{"a", "b"}) || len(r.Pollers()) != 0 {
			t.Errorf("ran %v, %v are left", ran, r.Pollers())
		}
		r.RemovePoller(&a)
	})
}

// looper defers itself again whenever it runs.
type looper struct {
	r     *reactor.Reactor
	d     reactor.Deferred
	n     int
	until int
	flush bool
}

func (l *looper) Run() {
	if l.n++; l.n < l.until {
		if l.flush {
			l.r.AtFlush(&l.d, l)
		} else {
			l.r.Defer(&l.d, l)
		}
	}
}

func TestWhatDefersItselfForEverStarvesNobody(t *testing.T) {
	for _, flush := range []bool{false, true} {
		r := start(t, reactor.Config{}).Reactor(0)
		l := &looper{r: r, until: 1 << 62, flush: flush}
		on(t, r, l.Run)
		on(t, r, func() {}) // there is a turn for others
		on(t, r, func() { l.until = 0 })
	}
}

func TestDeferredRunsInOrderAndOnce(t *testing.T) {
	r := start(t, reactor.Config{}).Reactor(0)
	var ran []int
	var d [3]reactor.Deferred
	run := func(i int) reactor.Runner { return runFunc(func() { ran = append(ran, i) }) }
	on(t, r, func() {
		r.AtFlush(&d[2], run(2))
		r.AtFlush(&d[2], run(2))
		r.Defer(&d[1], run(1))
		r.Defer(&d[0], run(0))
		if !d[0].Queued() || !d[2].Queued() {
			t.Error("not queued")
		}
		defer func() {
			if recover() == nil {
				t.Error("deferred twice, and nobody minds")
			}
			r.Tick()
			if !slices.Equal(ran, []int{1, 0, 2}) || d[0].Queued() {
				t.Errorf("ran %v", ran)
			}
		}()
		r.Defer(&d[0], run(0))
	})
}
