package reactor_test

import (
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/pollux-storage/pollux/reactor"
	"github.com/pollux-storage/pollux/reactor/ring"
	"golang.org/x/sys/unix"
)

func TestIdleReactorSleepsAndEverySourceWakesIt(t *testing.T) {
	for _, p := range []reactor.Idle{reactor.Adaptive, reactor.Interrupt} {
		t.Run(p.String(), func(t *testing.T) {
			eachSetup(t, func(t *testing.T, cfg reactor.Config) {
				cfg.Idle, cfg.Cores, cfg.Spin = p, unpinned(2), 10*reactor.Microsecond
				g := start(t, cfg)
				r := g.Reactor(0)
				woken := make(chan string, 1)
				want := func(why string) {
					t.Helper()
					if got := <-woken; got != why {
						t.Errorf("woken by %q, want %q", got, why)
					}
				}

				awaitSleep(r)
				on(t, r, func() { woken <- "call" })
				want("call")

				awaitSleep(r)
				on(t, g.Reactor(1), func() { g.Reactor(1).Send(r, said{woken}) })
				want("message")

				var timer reactor.Timer
				on(t, r, func() {
					r.SetTimer(&timer, r.Now()+20*reactor.Millisecond, runFunc(func() { woken <- "timer" }))
				})
				awaitSleep(r)
				want("timer")

				var p [2]int
				if err := unix.Pipe2(p[:], unix.O_CLOEXEC); err != nil {
					t.Fatal(err)
				}
				var op reactor.Op
				on(t, r, func() {
					r.Bind(&op, opFunc(func(int32) { woken <- "completion" }))
					ring.PrepPoll(r.Start(&op), p[0], unix.POLLIN)
				})
				awaitSleep(r)
				_, _ = unix.Write(p[1], []byte{1})
				want("completion")

				awaitSleep(r)
				g.SetIdle(reactor.Poll)
				for r.Asleep() {
				}
				on(t, r, func() {
					if s := r.Stats(); s.Sleeps < 4 || s.Asleep > s.Idle {
						t.Errorf("%+v", s)
					}
					r.Unbind(&op)
				})
				_, _ = unix.Close(p[0]), unix.Close(p[1])
			})
		})
	}
}

type said struct{ woken chan<- string }

func (s said) Receive(*reactor.Reactor) { s.woken <- "message" }

func TestPollNeverSleeps(t *testing.T) {
	g := start(t, reactor.Config{Idle: reactor.Poll})
	r := g.Reactor(0)
	fired := make(chan struct{})
	var timer reactor.Timer
	on(t, r, func() { r.SetTimer(&timer, r.Now()+10*reactor.Millisecond, runFunc(func() { close(fired) })) })
	<-fired
	on(t, r, func() {
		if s := r.Stats(); s.Sleeps != 0 || s.Asleep != 0 {
			t.Errorf("%+v", s)
		}
	})
}

// A reactor that wakes for a timer only goes back to sleep at once: no I/O says that more will follow.
func TestTimersDoNotKeepAdaptiveSpinning(t *testing.T) {
	g := start(t, reactor.Config{Idle: reactor.Adaptive, Spin: 1000 * reactor.Second})
	r := g.Reactor(0)
	var timer reactor.Timer
	var ticks uint64
	fired, n := make(chan struct{}), 0
	on(t, r, func() { r.EndSpin() })
	awaitSleep(r)
	var tick runFunc
	tick = func() {
		if n++; n == 10 {
			ticks = r.Stats().Ticks - ticks
			close(fired)
			return
		}
		r.SetTimer(&timer, r.Now()+reactor.Millisecond, tick)
	}
	on(t, r, func() { ticks = r.Stats().Ticks; tick() })
	<-fired
	if ticks > 100 {
		t.Errorf("%d turns of the loop for 10 timers", ticks)
	}
}

func TestIdleNames(t *testing.T) {
	for _, p := range policies {
		if got, err := reactor.ParseIdle(p.String()); got != p || err != nil {
			t.Errorf("%v is read as %v, %v", p, got, err)
		}
	}
	if _, err := reactor.ParseIdle("sometimes"); err == nil || !strings.Contains(err.Error(), "adaptive") {
		t.Errorf("a wrong name gave %v", err)
	}
	if got := reactor.Idle(7).String(); got != "Idle(7)" {
		t.Errorf("an unknown policy is called %q", got)
	}
}

func TestThreadIsPinnedAndTheKernelsWorkersAreNot(t *testing.T) {
	cores := reactor.DefaultCores()
	g := start(t, reactor.Config{Cores: cores})
	r := g.Reactor(0)
	allowed := func(tid int) []int {
		var set unix.CPUSet
		if err := unix.SchedGetaffinity(tid, &set); err != nil {
			t.Fatal(err)
		}
		var l []int
		for i := range 1024 {
			if set.IsSet(i) {
				l = append(l, i)
			}
		}
		return l
	}
	if got := allowed(r.ThreadID()); !slices.Equal(got, cores) {
		t.Errorf("the reactor's thread may run on %v, want %v", got, cores)
	}
	if allowed(0); r.Core() != cores[0] {
		t.Errorf("core %d", r.Core())
	}

	// fallocate never completes at once: a worker does it.
	f, err := os.CreateTemp(t.TempDir(), "")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	done := make(chan int32)
	var op reactor.Op
	var file *reactor.File
	on(t, r, func() {
		file = r.NewFile(int(f.Fd()))
		r.Bind(&op, opFunc(func(res int32) { done <- res }))
		file.Fallocate(&op, 0, 0, 4096)
	})
	if res := <-done; res != 0 {
		t.Fatalf("fallocate: %d", res)
	}
	on(t, r, func() { r.Unbind(&op); file.Close() })
	tasks, err := os.ReadDir("/proc/self/task")
	if err != nil {
		t.Fatal(err)
	}
	workers := 0
	for _, task := range tasks {
		comm, _ := os.ReadFile("/proc/self/task/" + task.Name() + "/comm")
		if !strings.HasPrefix(string(comm), "iou-wrk-") {
			continue
		}
		workers++
		var tid int
		for _, c := range task.Name() {
			tid = 10*tid + int(c-'0')
		}
		if got := allowed(tid); len(allowed(0)) > 1 && slices.Contains(got, r.Core()) {
			t.Errorf("a worker of the kernel may run on %v, the reactor's core is %d", got, r.Core())
		}
	}
	if workers == 0 {
		t.Error("no worker was found: the test shows nothing")
	}
}
