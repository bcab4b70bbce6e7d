package reactor_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/pollux-storage/pollux/reactor"
)

// simulate makes a simulated group that ends with the test.
func simulate(t testing.TB, n int) *reactor.Group {
	t.Helper()
	g, err := reactor.Simulate(n, reactor.Config{MemoryBytes: 16 << 20})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(g.Abandon)
	return g
}

// refused wants f to break an invariant.
func refused(t *testing.T, what, why string, f func()) {
	t.Helper()
	defer func() {
		if p := fmt.Sprint(recover()); !strings.Contains(p, why) {
			t.Errorf("%s: %s, want %q", what, p, why)
		}
	}()
	f()
}

func TestSimulatedTimersRunInOrder(t *testing.T) {
	g := simulate(t, 1)
	r := g.Reactor(0)
	if _, ok := g.NextTimer(); ok {
		t.Error("a timer is set before any was")
	}
	var got []string
	timers := make([]reactor.Timer, 4)
	set := func(i int, at reactor.Ticks) {
		r.SetTimer(&timers[i], at, runFunc(func() { got = append(got, fmt.Sprint(i, "@", r.Now())) }))
	}
	on(t, r, func() { set(0, 30); set(1, 10); set(2, 30); set(3, 20) })
	if g.Step(5) || len(got) != 0 {
		t.Errorf("at 5: %v", got)
	}
	for at, ok := g.NextTimer(); ok; at, ok = g.NextTimer() {
		if !g.Step(at) {
			t.Errorf("at %d: no work", at)
		}
	}
	if want := []string{"1@10", "3@20", "0@30", "2@30"}; !slices.Equal(got, want) {
		t.Errorf("%v, want %v", got, want)
	}
	if r.TimersSet() != 0 || r.Now() != 30 {
		t.Errorf("%d timers left at %d", r.TimersSet(), r.Now())
	}
}

// messageFunc is a Message made of a function.
type messageFunc func()

func (f messageFunc) Receive(*reactor.Reactor) { f() }

// hop is a message that goes round the group and notes where it was.
type hop struct {
	g    *reactor.Group
	left int
	seen *[]string
}

func (h *hop) Receive(r *reactor.Reactor) {
	*h.seen = append(*h.seen, fmt.Sprint(r.Index(), "@", r.Now()))
	if h.left--; h.left > 0 {
		r.Send(h.g.Reactor((r.Index()+1)%h.g.Len()), h)
	}
}

func TestSimulatedMessagesGoWhereTheStepsLetThem(t *testing.T) {
	for _, c := range []struct {
		name  string
		order []int
		want  []string
	}{
		{"by index", []int{0, 1, 2}, []string{"1@1", "2@1", "0@2", "1@2"}},
		{"backwards", []int{2, 1, 0}, []string{"1@1", "2@2", "0@2", "1@3"}},
	} {
		g := simulate(t, 3)
		var seen []string
		h := &hop{g, 4, &seen}
		on(t, g.Reactor(0), func() { g.Reactor(0).Send(g.Reactor(1), h) })
		for now := reactor.Ticks(1); now < 5; now++ {
			for _, i := range c.order {
				g.Reactor(i).Step(now)
			}
		}
		if !slices.Equal(seen, c.want) {
			t.Errorf("%s: %v, want %v", c.name, seen, c.want)
		}
		if err := g.Stop(context.Background()); err != nil {
			t.Errorf("%s: %v", c.name, err)
		}
	}
}

func TestSimulatedTurnDoesAllInTheOrderOfATick(t *testing.T) {
	g := simulate(t, 1)
	r := g.Reactor(0)
	var got []string
	note := func(s string) func() { return func() { got = append(got, s) } }
	var timer reactor.Timer
	var later, flush reactor.Deferred
	poll := pollFunc(func(reactor.Ticks) int { got = append(got, "poller"); return 0 })
	on(t, r, func() {
		r.AtFlush(&flush, runFunc(note("flush")))
		r.AtFlush(&flush, runFunc(note("flush")))
		r.Defer(&later, runFunc(note("deferred")))
		r.SetTimer(&timer, 1, runFunc(note("timer")))
		r.Send(r, messageFunc(note("message")))
		if err := r.AddPoller("p", &poll, reactor.Wake{Events: true}); err != nil {
			t.Error(err)
		}
		_ = r.Go(note("call"))
	})
	if !g.Step(1) {
		t.Error("no work found")
	}
	if want := []string{"message", "call", "timer", "poller", "deferred", "flush"}; !slices.Equal(got, want) {
		t.Errorf("%v, want %v", got, want)
	}
	if g.Step(1) {
		t.Error("a second turn at the same time found work")
	}
}

func TestSimulatedCallRunsAtOnceAndInOrder(t *testing.T) {
	g := simulate(t, 2)
	var got []int
	_ = g.Reactor(0).Go(func() { got = append(got, 1) })
	on(t, g.Reactor(0), func() { got = append(got, 2) })
	_ = g.Reactor(0).Go(func() { got = append(got, 4) })
	if err := g.Each(func(r *reactor.Reactor) {
		if r == g.Reactor(1) {
			got = append(got, 5)
		}
	}); err != nil {
		t.Error(err)
	}
	if want := []int{1, 2, 4, 5}; !slices.Equal(got, want) {
		t.Errorf("%v, want %v", got, want)
	}
}

func TestSimulatedReactorsRefuseWhatRunningOnesWouldHangOn(t *testing.T) {
	g := simulate(t, 2)
	r := g.Reactor(0)
	inside := func(f func()) func() {
		return func() { _ = r.Go(f); r.Step(r.Now()) }
	}
	const wait = "may not wait"
	refused(t, "a call inside a step", wait, inside(func() { _ = g.Reactor(1).Call(func() {}) }))
	refused(t, "a call inside a call", wait, func() { _ = r.Call(func() { _ = r.Call(func() {}) }) })
	refused(t, "stopping inside a step", wait, inside(func() { _ = g.Stop(context.Background()) }))
	refused(t, "a step inside a step", "inside a step", inside(func() { r.Step(0) }))
	refused(t, "time that goes back", "goes back", func() { r.Step(7); r.Step(6) })
	refused(t, "an operation", "no ring", func() { r.Bind(new(reactor.Op), nil) })
	refused(t, "a polled file", "no ring", func() { _, _ = r.NewPolledFileAnyway(0) })
	on(t, r, func() {}) // what broke has left nothing behind

	real := start(t, reactor.Config{})
	refused(t, "stepping a running reactor", "not simulated", func() { real.Step(1) })
	refused(t, "abandoning a running group", "abandoning", real.Abandon)
	if _, err := reactor.Simulate(0, reactor.Config{}); err == nil {
		t.Error("a group of none was made")
	}
}

func TestSimulatedMemory(t *testing.T) {
	g := simulate(t, 1)
	ran := false
	on(t, g.Reactor(0), func() {
		m := g.Reactor(0).Memory()
		var all [][]byte
		for b := m.Get(reactor.BufferMax); b != nil; b = m.Get(reactor.BufferMax) {
			for i := 0; i < len(b); i += reactor.PageBytes {
				if b[i] != 0 {
					t.Fatal("new memory is not zeros")
				}
				b[i] = 1
			}
			all = append(all, b)
		}
		if s := m.Stats(); len(all) != 16 || s.HugeBytes != 0 || s.Registered {
			t.Errorf("%d buffers, %+v", len(all), s)
		}
		var w reactor.Waiter
		m.Await(&w, runFunc(func() { ran = true }))
		for _, b := range all {
			m.Put(b)
		}
	})
	if ran {
		t.Error("who waits for memory ran inside the call that gave it")
	}
	if !g.Step(1) || !ran {
		t.Error("nobody was served")
	}
}

func TestSimulatedGroupEnds(t *testing.T) {
	g := simulate(t, 2)
	g.Reactor(0).Send(g.Reactor(1), messageFunc(func() {}))
	if err := g.Stop(context.Background()); err == nil || !strings.Contains(err.Error(), "messages on their way") {
		t.Errorf("stopping with a message on its way: %v", err)
	}
	g.Step(1)
	for range 2 {
		if err := g.Stop(context.Background()); err != nil {
			t.Error(err)
		}
	}
	if err := g.Reactor(0).Call(func() { t.Error("a call ran after the end") }); !errors.Is(err, reactor.ErrStopped) {
		t.Errorf("a call after the end: %v", err)
	}
	refused(t, "a step after the end", "have ended", func() { g.Step(2) })
	busy := simulate(t, 1)
	busy.Reactor(0).Send(busy.Reactor(0), messageFunc(func() {}))
	_ = busy.Reactor(0).Go(func() { t.Error("ran after the end") })
	busy.Abandon()
	busy.Abandon()
}

func TestSimulatedBusyPollerIsKnown(t *testing.T) {
	g := simulate(t, 2)
	busy := true
	p := pollFunc(func(reactor.Ticks) int { return 0 })
	on(t, g.Reactor(1), func() { _ = g.Reactor(1).AddPoller("p", &p, reactor.Wake{Busy: func() bool { return busy }}) })
	if !g.BusyPoller() {
		t.Error("a busy poller is not seen")
	}
	if busy = false; g.BusyPoller() {
		t.Error("one that is not busy is")
	}
}
