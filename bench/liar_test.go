package bench

import (
	"context"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/pollux-storage/pollux/bdev"
	"github.com/pollux-storage/pollux/reactor"
)

// liar is a device in memory that does not always do what it says. It lives on one reactor.
type liar struct {
	mem    []byte
	shift  uint
	lie    func(l *liar, q *bdev.Request) bool // before a request is served; true: it was dealt with
	seen   [bdev.Kinds]int
	fua    int
	hold   bool // requests are kept until they are aborted
	stuck  bool // aborts do nothing
	held   []*bdev.Request
	notify chan struct{} // told of the first that is held
}

func (l *liar) Open(*reactor.Reactor) (bdev.Queue, error) { return l, nil }
func (l *liar) Describe() any                             { return nil }

type liarDriver struct{ *liar }

func (liarDriver) Close() error { return nil }

func (l *liar) Close() {}

func (l *liar) Submit(q *bdev.Request) {
	l.seen[q.Kind]++
	if q.FUA {
		l.fua++
	}
	if l.hold {
		l.held = append(l.held, q)
		if len(l.held) == 1 {
			close(l.notify)
		}
		return
	}
	if l.lie != nil && l.lie(l, q) {
		return
	}
	l.serve(q)
}

func (l *liar) serve(q *bdev.Request) {
	at := l.mem[q.LBA<<l.shift:]
	switch q.Kind {
	case bdev.Read:
		copy(q.Data[0], at)
	case bdev.Write:
		copy(at, q.Data[0])
	case bdev.Unmap:
		clear(at[:q.Blocks<<l.shift])
	}
	q.CompleteLater(bdev.StatusOK)
}

func (l *liar) Abort(q *bdev.Request) bool {
	if l.stuck {
		return false
	}
	for i, h := range l.held {
		if h == q {
			l.held = append(l.held[:i], l.held[i+1:]...)
			q.CompleteLater(bdev.StatusAborted)
			return true
		}
	}
	return false
}

// rig is reactors with a device for a test, closed with it.
type testRig struct {
	group *reactor.Group
	reg   *bdev.Registry
}

func newTestRig(t testing.TB, reactors int) *testRig {
	t.Helper()
	cores := make([]int, reactors)
	for i := range cores {
		cores[i] = -1
	}
	g, err := reactor.Start(reactor.Config{Cores: cores, MemoryBytes: 32 << 20})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		if err := g.Stop(ctx); err != nil {
			t.Error(err)
		}
	})
	return &testRig{g, bdev.NewRegistry(g)}
}

func (r *testRig) session(t testing.TB, d *bdev.Device, err error) *Session {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
	h, err := r.reg.Open(d.Name(), bdev.OpenOptions{Who: "test"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		h.Close()
		if err := r.reg.Unregister(context.Background(), d.Name()); err != nil {
			t.Error(err)
		}
	})
	return NewSession(h, r.group.Reactors()...)
}

func (r *testRig) mem(t testing.TB, blocks uint64) *Session {
	d, err := bdev.NewMem(r.reg, "Malloc0", uuid.Nil, 4096, blocks)
	return r.session(t, d, err)
}

func (r *testRig) null(t testing.TB, blocks uint64) *Session {
	d, err := bdev.NewNull(r.reg, "Null0", uuid.Nil, 4096, blocks)
	return r.session(t, d, err)
}

func (r *testRig) liar(t testing.TB, blocks uint64, l *liar) *Session {
	l.mem, l.shift, l.notify = make([]byte, blocks<<12), 12, make(chan struct{})
	d, err := r.reg.Register(bdev.Config{
		Name: "Liar0", Product: "Liar", Driver: liarDriver{l},
		Geometry: bdev.Geometry{
			BlockSize: 4096, Blocks: blocks, UnmapZeroes: true, Volatile: true,
			Native: bdev.SetOf(bdev.Read, bdev.Write, bdev.Flush, bdev.Unmap), NativeFUA: bdev.SetOf(bdev.Write),
		},
	})
	return r.session(t, d, err)
}
