package reactor

import (
	"math/rand/v2"
	"slices"
	"testing"

	"pgregory.net/rapid"
)

// timerTwin is the timers of a reactor as a plain list: slow, and obvious.
type timerTwin struct {
	waits []timerWait
	order int
}

type timerWait struct {
	due   Ticks
	order int
	which int
}

func (w *timerTwin) stop(which int) {
	w.waits = slices.DeleteFunc(w.waits, func(t timerWait) bool { return t.which == which })
}

func (w *timerTwin) set(which int, due Ticks) {
	w.stop(which)
	w.order++
	w.waits = append(w.waits, timerWait{due, w.order, which})
}

// pop takes the first that is due, -1 for none.
func (w *timerTwin) pop(now Ticks) int {
	first := -1
	for i, t := range w.waits {
		if t.due <= now && (first < 0 || t.due < w.waits[first].due || t.due == w.waits[first].due && t.order < w.waits[first].order) {
			first = i
		}
	}
	if first < 0 {
		return -1
	}
	which := w.waits[first].which
	w.waits = slices.Delete(w.waits, first, first+1)
	return which
}

type timerFunc func()

func (f timerFunc) Run() { f() }

func TestTimersRunAsAPlainListWould(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		const n = 12
		r, twin := new(Reactor), new(timerTwin)
		var timers [n]Timer
		var expiring bool
		var ran []int // in this expire
		var act func(depth int)
		set := func(depth int) {
			which := rapid.IntRange(0, n-1).Draw(t, "timer")
			at := r.now + Ticks(rapid.IntRange(-3, 6).Draw(t, "in"))
			twin.set(which, max(at, r.now+1))
			r.SetTimer(&timers[which], at, timerFunc(func() {
				if want := twin.pop(r.now); want != which {
					t.Fatalf("at %d timer %d ran, want %d", r.now, which, want)
				}
				if slices.Contains(ran, which) || timers[which].Set() {
					t.Fatalf("timer %d ran twice, or is set while it runs", which)
				}
				ran = append(ran, which)
				for range rapid.IntRange(0, 2).Draw(t, "acts") {
					act(depth + 1)
				}
			}))
			if timers[which].At() != at {
				t.Fatalf("timer set to %d says %d", at, timers[which].At())
			}
		}
		act = func(depth int) {
			if rapid.Bool().Draw(t, "set") {
				set(depth)
				return
			}
			which := rapid.IntRange(0, n-1).Draw(t, "stopped")
			twin.stop(which)
			r.StopTimer(&timers[which])
		}
		t.Repeat(map[string]func(*rapid.T){
			"act": func(*rapid.T) { act(0) },
			"expire": func(t *rapid.T) {
				r.now += Ticks(rapid.IntRange(1, 5).Draw(t, "later"))
				expiring, ran = true, nil
				if got := r.timers.expire(r.now); got != len(ran) {
					t.Fatalf("%d ran, expire says %d", len(ran), got)
				}
				expiring = false
				if which := twin.pop(r.now); which >= 0 {
					t.Fatalf("at %d timer %d is due and did not run", r.now, which)
				}
			},
			"": func(t *rapid.T) {
				if expiring || r.TimersSet() != len(twin.waits) {
					t.Fatalf("%d set, want %d", r.TimersSet(), len(twin.waits))
				}
				checkHeap(t, &r.timers)
				for _, w := range twin.waits {
					if !timers[w.which].Set() {
						t.Fatalf("timer %d is not set", w.which)
					}
				}
			},
		})
	})
}

func checkHeap(t interface{ Fatalf(string, ...any) }, h *timerHeap) {
	for i := range h.t {
		p := &h.t[i]
		if p.timer.place != i+1 {
			t.Fatalf("the timer in place %d believes itself in %d", i+1, p.timer.place)
		}
		if i > 0 && p.before(&h.t[(i+1)/2-1]) {
			t.Fatalf("place %d is before its parent", i+1)
		}
	}
}

// Taking one out of the middle may move another up as well as down: that takes a heap of some depth to show.
func TestHeapStaysOneWhenTimersAreTakenFromItsMiddle(t *testing.T) {
	rnd := rand.New(rand.NewPCG(1, 2))
	r := new(Reactor)
	timers := make([]Timer, 300)
	for range 20000 {
		i := rnd.IntN(len(timers))
		if timers[i].Set() {
			r.StopTimer(&timers[i])
		} else {
			r.SetTimer(&timers[i], Ticks(rnd.IntN(1000)), nil)
		}
		checkHeap(t, &r.timers)
	}
}

func TestTimersAllocateNothing(t *testing.T) {
	r := new(Reactor)
	timers := make([]Timer, 100)
	run := timerFunc(func() {})
	round := func() {
		for i := range timers {
			r.SetTimer(&timers[i], r.now+Ticks(i*37%100), run)
		}
		r.StopTimer(&timers[50])
		r.now += 100
		r.timers.expire(r.now)
	}
	round()
	if n := testing.AllocsPerRun(100, round); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func TestATimerOfAnotherReactorStopsTheProcess(t *testing.T) {
	a, b := new(Reactor), new(Reactor)
	var timer Timer
	a.SetTimer(&timer, 5, timerFunc(func() {}))
	mustBreak(t, "reactor: timer set on another reactor", func() { b.StopTimer(&timer) })
}

// mustBreak runs f, which is to break an invariant. It is used where the panic is on the test's own goroutine.
func mustBreak(t *testing.T, what string, f func()) {
	t.Helper()
	defer func() {
		t.Helper()
		if got := recover(); got != "invariant broken: "+what {
			t.Errorf("recovered %v, want %q", got, what)
		}
	}()
	f()
}
