package reactor_test

import (
	"bytes"
	"os"
	"path/filepath"
	"runtime"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/pollux-storage/pollux/reactor"
	"github.com/pollux-storage/pollux/reactor/ring"
)

// opener runs operations one after another for a test.
type opener struct {
	t    *testing.T
	r    *reactor.Reactor
	op   reactor.Op
	done chan int32
}

func newOpener(t *testing.T, r *reactor.Reactor) *opener {
	o := &opener{t: t, r: r, done: make(chan int32, 1)}
	on(t, r, func() { r.Bind(&o.op, o) })
	return o
}

func (o *opener) OpDone(_ *reactor.Op, res int32, _ uint32) { o.done <- res }

// do starts an operation and checks its result.
func (o *opener) do(what string, want int32, start func(op *reactor.Op)) {
	o.t.Helper()
	on(o.t, o.r, func() { start(&o.op) })
	if res := <-o.done; res != want {
		o.t.Fatalf("%s: %d, want %d", what, res, want)
	}
}

func tempFile(t *testing.T) *os.File {
	t.Helper()
	f, err := os.Create(filepath.Join(t.TempDir(), "file"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = f.Close() })
	return f
}

func TestFileOperations(t *testing.T) {
	eachSetup(t, func(t *testing.T, cfg reactor.Config) {
		for _, p := range policies {
			t.Run(p.String(), func(t *testing.T) {
				cfg.Idle = p
				g := start(t, cfg)
				r := g.Reactor(0)
				check := sameResources(t, r)
				f := tempFile(t)
				o := newOpener(t, r)
				var file *reactor.File
				var pool [][]byte
				on(t, r, func() {
					file = r.NewFile(int(f.Fd()))
					for range 4 {
						pool = append(pool, r.Memory().Get(4096))
					}
				})
				heap := make([]byte, 4096)

				copy(pool[0], "from the pool")
				o.do("write from the pool", 4096, func(op *reactor.Op) { file.Write(op, pool[0], 0, reactor.WriteDsync) })
				o.do("datasync", 0, file.Datasync)
				o.do("read to the heap", 4096, func(op *reactor.Op) { file.Read(op, heap, 0) })
				if !bytes.Equal(heap, pool[0]) {
					t.Fatal("read something else")
				}
				copy(heap, "from the heap")
				o.do("write from the heap", 4096, func(op *reactor.Op) { file.Write(op, heap, 4096, 0) })
				o.do("read to the pool", 4096, func(op *reactor.Op) { file.Read(op, pool[1], 4096) })
				if !bytes.Equal(heap, pool[1]) {
					t.Fatal("read something else")
				}
				o.do("read past the end", 0, func(op *reactor.Op) { file.Read(op, heap, 8192) })

				iov := []unix.Iovec{{Base: &pool[0][0], Len: 4096}, {Base: &pool[1][0], Len: 4096}}
				o.do("vectored write", 8192, func(op *reactor.Op) { file.Writev(op, iov, 8192, reactor.WriteDsync) })
				iov = []unix.Iovec{{Base: &pool[2][0], Len: 4096}, {Base: &pool[3][0], Len: 4096}}
				o.do("vectored read", 8192, func(op *reactor.Op) { file.Readv(op, iov, 8192) })
				if !bytes.Equal(pool[0], pool[2]) || !bytes.Equal(pool[1], pool[3]) {
					t.Fatal("read something else")
				}

				o.do("fallocate", 0, func(op *reactor.Op) { file.Fallocate(op, 0, 0, 1<<20) })
				if st, err := f.Stat(); err != nil || st.Size() != 1<<20 {
					t.Fatalf("%v, %v", st.Size(), err)
				}
				o.do("punch a hole", 0, func(op *reactor.Op) {
					file.Fallocate(op, unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, 0, 4096)
				})
				o.do("read of the hole", 4096, func(op *reactor.Op) { file.Read(op, heap, 0) })
				if !bytes.Equal(heap, make([]byte, 4096)) {
					t.Fatal("a hole is not zeroes")
				}
				o.do("nonsense", -int32(syscall.EOPNOTSUPP), func(op *reactor.Op) { file.Fallocate(op, 0x8000, 0, 4096) })

				on(t, r, func() {
					file.Close()
					for _, b := range pool {
						r.Memory().Put(b)
					}
				})
				o.do("read of a closed file", -int32(syscall.EBADF), func(op *reactor.Op) { file.Read(op, heap, 0) })
				on(t, r, func() { r.Unbind(&o.op) })
				check()
			})
		}
	})
}

func TestFilesPastTheRingsTable(t *testing.T) {
	g := start(t, reactor.Config{})
	r := g.Reactor(0)
	f := tempFile(t)
	o := newOpener(t, r)
	var files []*reactor.File
	on(t, r, func() {
		for range 1030 {
			files = append(files, r.NewFile(int(f.Fd())))
		}
	})
	b := []byte("abc")
	o.do("first", 3, func(op *reactor.Op) { files[0].Write(op, b, 0, 0) })
	o.do("last", 3, func(op *reactor.Op) { files[len(files)-1].Write(op, b, 3, 0) })
	on(t, r, func() {
		for _, f := range files {
			f.Close()
		}
		r.Unbind(&o.op)
		if r.FilesFree() != 1024 {
			t.Errorf("%d places are free", r.FilesFree())
		}
	})
}

// counted counts completions, and says when one has come and when the operation has ended.
type counted struct {
	came  chan int32
	ended chan int32
}

func (c *counted) OpDone(_ *reactor.Op, res int32, flags uint32) {
	if flags&ring.More != 0 {
		c.came <- res
	} else {
		c.ended <- res
	}
}

func TestPollOnceAndOften(t *testing.T) {
	eachSetup(t, func(t *testing.T, cfg reactor.Config) {
		cfg.Idle = reactor.Interrupt
		g := start(t, cfg)
		r := g.Reactor(0)
		var p [2]int
		if err := unix.Pipe2(p[:], unix.O_CLOEXEC); err != nil {
			t.Fatal(err)
		}
		once, often := newOpener(t, r), &counted{make(chan int32, 10), make(chan int32, 1)}
		var op reactor.Op
		var file *reactor.File
		on(t, r, func() {
			file = r.NewFile(p[0])
			r.Bind(&op, often)
			file.PollMultishot(&op, unix.POLLIN)
		})
		for range 3 {
			awaitSleep(r)
			_, _ = unix.Write(p[1], []byte{1})
			if res := <-often.came; res&unix.POLLIN == 0 {
				t.Errorf("events %#x", res)
			}
		}
		once.do("poll", unix.POLLIN, func(op *reactor.Op) { file.Poll(op, unix.POLLIN) })
		on(t, r, func() {
			if !op.InFlight() {
				t.Error("a multishot operation is not in flight between two completions")
			}
			r.Cancel(&op)
		})
		if res := <-often.ended; res != -int32(syscall.ECANCELED) {
			t.Errorf("cancelled: %d", res)
		}
		on(t, r, func() { file.Close(); r.Unbind(&op); r.Unbind(&once.op) })
		_, _ = unix.Close(p[0]), unix.Close(p[1])
	})
}

// More operations at once than the ring has entries, and more completions than it has places.
func TestOperationsBeyondTheRing(t *testing.T) {
	eachSetup(t, func(t *testing.T, cfg reactor.Config) {
		cfg.RingEntries = 8
		g := start(t, cfg)
		r := g.Reactor(0)
		const n = 500
		var p [2]int
		if err := unix.Pipe2(p[:], unix.O_CLOEXEC); err != nil {
			t.Fatal(err)
		}
		left, done := n, make(chan struct{})
		ops := make([]reactor.Op, n)
		ended := opFunc(func(res int32) {
			if res != unix.POLLIN {
				t.Errorf("result %d", res)
			}
			if left--; left == 0 {
				close(done)
			}
		})
		on(t, r, func() {
			for i := range ops {
				r.Bind(&ops[i], ended)
				ring.PrepPoll(r.Start(&ops[i]), p[0], unix.POLLIN)
			}
		})
		_, _ = unix.Write(p[1], []byte{1}) // all complete at once
		<-done
		on(t, r, func() {
			for i := range ops {
				r.Unbind(&ops[i])
			}
			if places, free := r.OpsTable(); places != free {
				t.Errorf("%d places for operations, %d free", places, free)
			}
		})
		_, _ = unix.Close(p[0]), unix.Close(p[1])
	})
}

// An operation started again while its cancellation is on its way is another one.
func TestCancelDoesNotReachTheNextOperation(t *testing.T) {
	g := start(t, reactor.Config{Idle: reactor.Poll})
	r := g.Reactor(0)
	var op reactor.Op
	n, done := 0, make(chan struct{})
	on(t, r, func() {
		r.Bind(&op, opFunc(func(res int32) {
			if res != 0 {
				t.Errorf("operation %d: %d", n, res)
			}
			if n++; n == 1000 {
				r.Unbind(&op)
				close(done)
				return
			}
			ring.PrepNop(r.Start(&op))
			r.Cancel(&op) // it has completed in the kernel when the cancellation comes
		}))
		ring.PrepNop(r.Start(&op))
	})
	<-done
}

func TestOperationsAreUsedRightly(t *testing.T) {
	r := new(reactor.Reactor)
	var op reactor.Op
	if op.Bound() {
		t.Error("bound before Bind")
	}
	r.Bind(&op, nil)
	for name, c := range map[string]struct {
		what string
		f    func()
	}{
		"bound twice":     {"reactor: operation bound twice", func() { r.Bind(&op, nil) }},
		"unbound twice":   {"reactor: unbinding an operation that is unbound or in flight", func() { r.Unbind(&reactor.Op{}) }},
		"started unbound": {"reactor: starting an operation that is unbound or in flight", func() { r.Start(&reactor.Op{}) }},
	} {
		t.Run(name, func(t *testing.T) {
			defer func() {
				if got := recover(); got != "invariant broken: "+c.what {
					t.Errorf("recovered %v", got)
				}
			}()
			c.f()
		})
	}
	r.Unbind(&op)
	r.Bind(&op, nil)
	if places, free := r.OpsTable(); places != 1 || free != 0 {
		t.Errorf("%d places, %d free: a place was not used again", places, free)
	}
}

// The collector does not see what an entry points to: the operation itself keeps it.
func TestLentMemoryIsKept(t *testing.T) {
	g := start(t, reactor.Config{})
	r := g.Reactor(0)
	var p [2]int
	if err := unix.Pipe2(p[:], unix.O_CLOEXEC); err != nil {
		t.Fatal(err)
	}
	o := newOpener(t, r)
	freed := make(chan struct{})
	var file *reactor.File
	on(t, r, func() {
		file = r.NewFile(p[0])
		b := make([]byte, 64<<10)
		runtime.AddCleanup(&b[0], func(int) { close(freed) }, 0)
		file.Read(&o.op, b, 0)
	})
	for range 5 {
		runtime.GC()
	}
	select {
	case <-freed:
		t.Error("memory was collected while the kernel could write to it")
	default:
	}
	_, _ = unix.Write(p[1], []byte{1})
	if res := <-o.done; res != 1 {
		t.Errorf("read %d", res)
	}
	for alive := true; alive; {
		runtime.GC()
		select {
		case <-freed:
			alive = false
		default:
		}
	}
	on(t, r, func() { file.Close(); r.Unbind(&o.op) })
	_, _ = unix.Close(p[0]), unix.Close(p[1])
}

func TestTicksAndOperationsAllocateNothing(t *testing.T) {
	eachSetup(t, func(t *testing.T, cfg reactor.Config) {
		cfg.Idle = reactor.Interrupt
		g := start(t, cfg)
		r := g.Reactor(0)
		f := tempFile(t)
		on(t, r, func() {
			var ops [32]reactor.Op
			var bufs [32][]byte
			file := r.NewFile(int(f.Fd()))
			completed := 0
			done := reactor.Completion(opFunc(func(res int32) {
				if res != 4096 {
					t.Errorf("result %d", res)
				}
				completed++
			}))
			var timer reactor.Timer
			var deferred, flush reactor.Deferred
			run := reactor.Runner(runFunc(func() {}))
			poll := pollFunc(func(reactor.Ticks) int { return 1 })
			if err := r.AddPoller("test", &poll, reactor.Wake{Events: true}); err != nil {
				t.Error(err)
			}
			for i := range ops {
				r.Bind(&ops[i], done)
				bufs[i] = r.Memory().Get(4096)
			}
			if n := testing.AllocsPerRun(100, func() {
				for i := range ops {
					file.Write(&ops[i], bufs[i], uint64(i)*4096, 0)
				}
				r.SetTimer(&timer, 0, run)
				r.Defer(&deferred, run)
				r.AtFlush(&flush, run)
				r.AtFlush(&flush, run)
				for completed < len(ops) {
					r.Tick()
				}
				completed = 0
			}); n != 0 {
				t.Errorf("%v allocations", n)
			}
			r.RemovePoller(&poll)
			for i := range ops {
				r.Unbind(&ops[i])
				r.Memory().Put(bufs[i])
			}
			file.Close()
		})
	})
}
