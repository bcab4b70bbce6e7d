package reactor_test

import (
	"context"
	"errors"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/pollux-storage/pollux/reactor"
	"github.com/pollux-storage/pollux/reactor/ring"
)

// stopNow asks the group to stop, gives up when the error would say something, and returns it.
func stopNow(t *testing.T, g *reactor.Group, want string) {
	t.Helper()
	for {
		ctx, cancel := context.WithCancel(context.Background())
		cancel()
		err := g.Stop(ctx)
		if !errors.Is(err, context.Canceled) {
			t.Fatalf("stopping gave %v, want it to give up", err)
		}
		if strings.Contains(err.Error(), want) {
			return
		}
		if !strings.Contains(err.Error(), "does not answer") {
			t.Fatalf("stopping says %q, want %q", err, want)
		}
	}
}

func TestStopWaitsForWhatIsInFlight(t *testing.T) {
	eachPolicy(t, func(t *testing.T, cfg reactor.Config) {
		g := start(t, cfg)
		r := g.Reactor(0)
		var p [2]int
		if err := unix.Pipe2(p[:], unix.O_CLOEXEC); err != nil {
			t.Fatal(err)
		}
		var op reactor.Op
		var timer reactor.Timer
		on(t, r, func() {
			r.Bind(&op, opFunc(func(int32) { _, _ = unix.Close(p[0]), unix.Close(p[1]) }))
			ring.PrepPoll(r.Start(&op), p[0], unix.POLLIN)
			r.SetTimer(&timer, r.Now()+1000*reactor.Second, runFunc(func() {}))
		})
		stopNow(t, g, "reactor 0: 1 operations still in flight, 1 timers set")
		on(t, r, func() {}) // it goes on
		stopped := make(chan error)
		go func() { stopped <- g.Stop(context.Background()) }()
		_, _ = unix.Write(p[1], []byte{1})
		if err := <-stopped; err != nil {
			t.Error(err)
		}
	})
}

func TestStopSaysWhatIsLeft(t *testing.T) {
	for name, c := range map[string]struct {
		begin func(r *reactor.Reactor) (end func())
		want  string
	}{
		"a busy poller": {func(r *reactor.Reactor) func() {
			var p pollFunc = func(reactor.Ticks) int { return 0 }
			_ = r.AddPoller("nic", &p, reactor.Wake{Busy: func() bool { return true }})
			return func() { r.RemovePoller(&p) }
		}, `poller "nic" busy`},
		"someone waits for memory": {func(r *reactor.Reactor) func() {
			w, m := new(reactor.Waiter), r.Memory()
			var all [][]byte
			for b := m.Get(reactor.BufferMax); b != nil; b = m.Get(reactor.BufferMax) {
				all = append(all, b)
			}
			m.Await(w, runFunc(func() {}))
			return func() {
				m.Forget(w)
				for _, b := range all {
					m.Put(b)
				}
			}
		}, "1 waiting for memory"},
	} {
		t.Run(name, func(t *testing.T) {
			g := start(t, reactor.Config{})
			r := g.Reactor(0)
			var end func()
			on(t, r, func() { end = c.begin(r) })
			stopNow(t, g, c.want)
			on(t, r, func() { end() })
		})
	}
}

func TestStopOfAReactorThatHangsSaysSo(t *testing.T) {
	g := start(t, reactor.Config{Cores: unpinned(2)})
	release, hangs := make(chan struct{}), make(chan struct{})
	if err := g.Reactor(1).Go(func() { close(hangs); <-release }); err != nil {
		t.Fatal(err)
	}
	<-hangs
	ctx, cancel := context.WithCancel(context.Background())
	stopped := make(chan error)
	go func() { stopped <- g.Stop(ctx) }()
	cancel()
	if err := <-stopped; err == nil || !strings.Contains(err.Error(), "does not answer") {
		t.Errorf("stopping gave %v", err)
	}
	close(release)
}

// A reactor with nothing to do stays while another may still send to it.
func TestStopWaitsForMessagesBetweenReactors(t *testing.T) {
	for range 20 {
		g := start(t, reactor.Config{Cores: unpinned(3), Idle: reactor.Interrupt})
		k := pass(t, g, 300)
		if err := g.Stop(context.Background()); err != nil {
			t.Fatal(err)
		}
		select {
		case <-k.done:
		default:
			t.Fatalf("stopped with %d hops to go", k.hops)
		}
	}
}

func TestCallsThatWereAcceptedRunBeforeTheEnd(t *testing.T) {
	for range 20 {
		g := start(t, reactor.Config{Idle: reactor.Interrupt})
		r := g.Reactor(0)
		var accepted, ran atomic.Int64
		var wg sync.WaitGroup
		for i := range 4 {
			wg.Add(1)
			go func() {
				defer wg.Done()
				for {
					var err error
					if i%2 == 0 {
						err = r.Go(func() { ran.Add(1) })
					} else {
						err = r.Call(func() { ran.Add(1) })
					}
					if err != nil {
						if !errors.Is(err, reactor.ErrStopped) {
							t.Error(err)
						}
						return
					}
					accepted.Add(1)
				}
			}()
		}
		if err := g.Stop(context.Background()); err != nil {
			t.Fatal(err)
		}
		wg.Wait()
		if accepted.Load() != ran.Load() {
			t.Fatalf("%d accepted, %d ran", accepted.Load(), ran.Load())
		}
	}
}

func TestStopTwiceAndTogether(t *testing.T) {
	g := start(t, reactor.Config{Cores: unpinned(2)})
	stopped := make(chan error)
	for range 3 {
		go func() { stopped <- g.Stop(context.Background()) }()
	}
	for range 3 {
		if err := <-stopped; err != nil {
			t.Error(err)
		}
	}
	if err := g.Reactor(0).Call(func() {}); !errors.Is(err, reactor.ErrStopped) {
		t.Errorf("a call to a stopped reactor gave %v", err)
	}
	if err := g.Each(func(*reactor.Reactor) {}); !errors.Is(err, reactor.ErrStopped) {
		t.Errorf("calls to stopped reactors gave %v", err)
	}
}

func TestStartFailsWhole(t *testing.T) {
	before := descriptors(t)
	for what, c := range map[string]struct {
		cfg  reactor.Config
		want string
	}{
		"no such core":         {reactor.Config{Cores: []int{4095}}, "may use only cores"},
		"a core twice":         {reactor.Config{Cores: []int{0, 0}}, "name each core once"},
		"no setup that serves": {reactor.Config{Cores: unpinned(2), RingSetup: []ring.SetupSet{1 << 31}}, "io_uring is not usable"},
		"a ring beyond limits": {reactor.Config{Cores: unpinned(2), RingEntries: 1 << 20}, "kernel allows"},
	} {
		g, err := reactor.Start(c.cfg)
		if g != nil || err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s gave %v", what, err)
		}
	}
	if after := descriptors(t); after != before {
		t.Errorf("%s before, %s after", before, after)
	}
}

type pollFunc func(now reactor.Ticks) int

func (f *pollFunc) Poll(now reactor.Ticks) int { return (*f)(now) }
