package ring

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"
)

// open opens a ring on the test's goroutine, which stays on its thread from then on.
func openRing(t testing.TB, cfg Config) *Ring {
	t.Helper()
	runtime.LockOSThread()
	r, err := Open(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := r.Close(); err != nil {
			t.Error(err)
		}
	})
	return r
}

// eachSetup runs f with every setup that a kernel may force on us.
func eachSetup(t *testing.T, f func(t *testing.T, setup []SetupSet)) {
	for i, s := range Setups {
		t.Run(s.String(), func(t *testing.T) { f(t, Setups[i:i+1]) })
	}
}

// collect takes completions until there are n, and gives their results by UserData.
func collect(r *Ring, n int) map[uint64]int32 {
	got := map[uint64]int32{}
	for k := 0; k < n; {
		r.Submit()
		if r.Ready() == 0 && !r.iopoll {
			r.Wait(-1)
		}
		for ; r.Ready() > 0; k++ {
			got[r.At(0).UserData] = r.At(0).Res
			r.Advance(1)
		}
	}
	return got
}

func TestOpenFallsBackToTheFirstSetupTheKernelTakes(t *testing.T) {
	const unknown = SetupSet(1 << 31)
	r := openRing(t, Config{Entries: 8, Setup: []SetupSet{unknown, CoopTaskrun}})
	if r.Setup() != CoopTaskrun {
		t.Errorf("took %v", r.Setup())
	}
	_, err := Open(Config{Entries: 8, Setup: []SetupSet{unknown}})
	if !errors.Is(err, ErrUnsupported) || !strings.Contains(err.Error(), "5.15") {
		t.Errorf("a setup that no kernel takes gave %v", err)
	}
}

func TestOpenRefusesSizesByName(t *testing.T) {
	for _, c := range []Config{{Entries: 0}, {Entries: 1<<15 + 1}, {Entries: 8, CQEntries: 1<<16 + 1}} {
		if _, err := Open(c); !errors.Is(err, ErrUnsupported) || !strings.Contains(err.Error(), "entries") {
			t.Errorf("%+v gave %v", c, err)
		}
	}
}

func TestMoreOperationsThanEntriesAllComplete(t *testing.T) {
	eachSetup(t, func(t *testing.T, setup []SetupSet) {
		r := openRing(t, Config{Entries: 8, Setup: setup})
		const n = 1000 // the submission queue is lapped many times and the completion queue overflows: nothing is taken before the end
		for i := range uint64(n) {
			e := r.Next()
			PrepNop(e)
			e.UserData = i
		}
		if got := collect(r, n); len(got) != n {
			t.Errorf("%d different completions of %d", len(got), n)
		}
	})
}

func TestRefusedEntryDoesNotHoldUpTheOthers(t *testing.T) {
	eachSetup(t, func(t *testing.T, setup []SetupSet) {
		r := openRing(t, Config{Entries: 8, Setup: setup})
		for i := range uint64(8) {
			e := r.Next()
			PrepNop(e)
			if e.UserData = i; i%3 == 0 {
				e.OpCode = 250
			}
		}
		for i, res := range collect(r, 8) {
			if want := map[bool]int32{true: -int32(syscall.EINVAL)}[i%3 == 0]; res != want {
				t.Errorf("entry %d: %d, want %d", i, res, want)
			}
		}
		if r.Pending() != 0 {
			t.Errorf("%d entries are still pending", r.Pending())
		}
	})
}

func TestSubmitWithNothingToDoMakesNoCall(t *testing.T) {
	for _, cfg := range []Config{{Entries: 8}, {Entries: 8, IOPoll: true}} {
		r := openRing(t, cfg)
		for range 10 {
			r.Submit()
		}
		if r.Enters() != 0 {
			t.Errorf("IOPoll %v: %d system calls", cfg.IOPoll, r.Enters())
		}
	}
}

func TestWaitEndsWhenItsTimeHasPassed(t *testing.T) {
	eachSetup(t, func(t *testing.T, setup []SetupSet) {
		r := openRing(t, Config{Entries: 8, Setup: setup})
		r.Wait(0)
		r.Wait(1000)
		if r.Ready() != 0 {
			t.Errorf("%d completions of nothing", r.Ready())
		}
	})
}

func TestWaitSubmitsWhatIsPending(t *testing.T) {
	eachSetup(t, func(t *testing.T, setup []SetupSet) {
		r := openRing(t, Config{Entries: 8, Setup: setup})
		PrepNop(r.Next())
		r.Wait(-1)
		if r.Ready() != 1 {
			t.Errorf("%d completions", r.Ready())
		}
	})
}

func TestWaitEndsAtASignal(t *testing.T) {
	r := openRing(t, Config{Entries: 8})
	tid := unix.Gettid()
	var done atomic.Bool
	sent := make(chan struct{})
	go func() {
		defer close(sent)
		for !done.Load() {
			_ = unix.Tgkill(os.Getpid(), tid, unix.SIGURG)
		}
	}()
	r.Wait(-1)
	done.Store(true)
	<-sent
	PrepNop(r.Next())
	if collect(r, 1)[0] != 0 {
		t.Error("the ring did not go on after a signal")
	}
}

func TestMessageWakesAWaitingRing(t *testing.T) {
	eachSetup(t, func(t *testing.T, setup []SetupSet) {
		fd, got := make(chan int), make(chan CQE)
		go func() {
			runtime.LockOSThread()
			w, err := Open(Config{Entries: 8, Setup: setup})
			if err != nil {
				t.Error(err)
				close(fd)
				return
			}
			fd <- w.Fd()
			w.Wait(-1)
			got <- *w.At(0)
			_ = w.Close()
		}()
		to, ok := <-fd
		if !ok {
			return
		}
		r := openRing(t, Config{Entries: 8, Setup: setup})
		if !r.Supports(OpMsgRing) {
			t.Fatal("this kernel (before 5.18) has no MSG_RING: run the tests on a newer one")
		}
		e := r.Next()
		PrepMsgRing(e, to, 42, 7)
		e.UserData = 1
		if res := collect(r, 1)[1]; res != 0 {
			t.Errorf("sending: %d", res)
		}
		if c := <-got; c.UserData != 42 || c.Res != 7 {
			t.Errorf("received %+v", c)
		}
	})
}

func TestFixedAndPlainOperations(t *testing.T) {
	eachSetup(t, func(t *testing.T, setup []SetupSet) {
		r := openRing(t, Config{Entries: 8, Setup: setup})
		if err := r.RegisterTables(2, 2); err != nil {
			t.Fatal(err)
		}
		f, err := os.Create(filepath.Join(t.TempDir(), "file"))
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		b, err := unix.Mmap(-1, 0, 8192, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS)
		if err != nil {
			t.Fatal(err)
		}
		defer unix.Munmap(b)
		if err := errors.Join(r.SetBuffer(1, b), r.SetFile(1, int(f.Fd()))); err != nil {
			t.Fatal(err)
		}
		do := func(what string, want int32, prep func(e *SQE)) {
			e := r.Next()
			prep(e)
			e.UserData = 9
			if res := collect(r, 1)[9]; res != want {
				t.Fatalf("%s: %d, want %d", what, res, want)
			}
		}
		in, out := b[:4096], b[4096:]
		copy(in, "fixed")
		do("fixed write of a registered file", 4096, func(e *SQE) {
			PrepWriteFixed(e, 1, unsafe.Pointer(&in[0]), 4096, 0, 1, 0)
			e.Flags |= FixedFile
		})
		do("plain read", 4096, func(e *SQE) { PrepRead(e, int(f.Fd()), unsafe.Pointer(&out[0]), 4096, 0) })
		if !bytes.Equal(in, out) {
			t.Fatal("read something else")
		}
		copy(in, "plain")
		do("plain write", 4096, func(e *SQE) { PrepWrite(e, int(f.Fd()), unsafe.Pointer(&in[0]), 4096, 4096, unix.RWF_DSYNC) })
		do("fdatasync", 0, func(e *SQE) { PrepFdatasync(e, int(f.Fd())) })
		do("fixed read of a registered file", 4096, func(e *SQE) {
			PrepReadFixed(e, 1, unsafe.Pointer(&out[0]), 4096, 4096, 1)
			e.Flags |= FixedFile
		})
		if !bytes.Equal(in, out) {
			t.Fatal("read something else")
		}
		iov := []unix.Iovec{{Base: &out[0], Len: 5}, {Base: &out[100], Len: 5}}
		do("vectored read", 10, func(e *SQE) { PrepReadv(e, int(f.Fd()), &iov[0], 2, 0) })
		if string(out[:5]) != "fixed" {
			t.Fatalf("read %q", out[:5])
		}
		do("vectored write", 10, func(e *SQE) { PrepWritev(e, int(f.Fd()), &iov[0], 2, 8192, 0) })
		do("fallocate", 0, func(e *SQE) { PrepFallocate(e, int(f.Fd()), 0, 0, 1<<20) })
		if st, _ := f.Stat(); st.Size() != 1<<20 {
			t.Fatalf("fallocate left %d bytes", st.Size())
		}
		if err := errors.Join(r.SetBuffer(1, nil), r.SetFile(1, -1)); err != nil {
			t.Fatal(err)
		}
		do("read of an emptied place", -int32(syscall.EBADF), func(e *SQE) {
			PrepRead(e, 1, unsafe.Pointer(&out[0]), 4096, 0)
			e.Flags |= FixedFile
		})
		do("read to an emptied place", -int32(syscall.EFAULT), func(e *SQE) { PrepReadFixed(e, int(f.Fd()), unsafe.Pointer(&out[0]), 4096, 0, 1) })
	})
}

func TestPollAndCancel(t *testing.T) {
	eachSetup(t, func(t *testing.T, setup []SetupSet) {
		r := openRing(t, Config{Entries: 8, Setup: setup})
		var p [2]int
		if err := unix.Pipe2(p[:], unix.O_CLOEXEC); err != nil {
			t.Fatal(err)
		}
		defer unix.Close(p[0])
		defer unix.Close(p[1])
		once, many := r.Next(), r.Next()
		PrepPoll(once, p[0], unix.POLLIN)
		once.UserData = 1
		PrepPollMultishot(many, p[0], unix.POLLIN)
		many.UserData = 2
		r.Submit()
		if _, err := unix.Write(p[1], []byte{1}); err != nil {
			t.Fatal(err)
		}
		if got := collect(r, 2); got[1]&unix.POLLIN == 0 || got[2]&unix.POLLIN == 0 {
			t.Errorf("polls gave %v", got)
		}
		e := r.Next()
		PrepCancel(e, 2)
		e.UserData = 3
		if got := collect(r, 2); got[2] != -int32(syscall.ECANCELED) || got[3] != 0 {
			t.Errorf("cancelling gave %v", got)
		}
	})
}

func TestPolledRingTellsWhatItCannot(t *testing.T) {
	r := openRing(t, Config{Entries: 8, IOPoll: true})
	b, err := unix.Mmap(-1, 0, 4096, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Munmap(b)
	f, err := os.Create(filepath.Join(t.TempDir(), "buffered"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	e := r.Next()
	PrepRead(e, int(f.Fd()), unsafe.Pointer(&b[0]), 4096, 0)
	if r.Outstanding() != 1 {
		t.Errorf("%d outstanding", r.Outstanding())
	}
	if res := collect(r, 1)[0]; res != -int32(syscall.EOPNOTSUPP) {
		t.Errorf("a file opened without O_DIRECT gave %d", res)
	}
	e = r.Next()
	PrepFdatasync(e, int(f.Fd()))
	if res := collect(r, 1)[0]; res != -int32(syscall.EINVAL) {
		t.Errorf("fdatasync gave %d", res)
	}
	if r.Outstanding() != 0 {
		t.Errorf("%d outstanding at the end", r.Outstanding())
	}
}

func TestCloseLeavesNothing(t *testing.T) {
	count := func() (n int) {
		m, err := os.ReadFile("/proc/self/maps")
		if err != nil {
			t.Fatal(err)
		}
		fds, err := os.ReadDir("/proc/self/fd")
		if err != nil {
			t.Fatal(err)
		}
		for _, fd := range fds {
			if l, _ := os.Readlink("/proc/self/fd/" + fd.Name()); strings.Contains(l, "io_uring") {
				n++
			}
		}
		return n + strings.Count(string(m), "io_uring")
	}
	runtime.LockOSThread()
	before := count()
	// A thread has 16 places for registered rings: that many rings at once more than prove that closing gives them back.
	for range 20 {
		r, err := Open(Config{Entries: 8})
		if err != nil {
			t.Fatal(err)
		}
		if err := r.RegisterSelf(); err != nil {
			t.Fatal(err)
		}
		PrepNop(r.Next())
		collect(r, 1)
		if err := r.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if after := count(); after != before {
		t.Errorf("%d descriptors and mappings of rings before, %d after", before, after)
	}
}

func TestBatchAllocatesNothing(t *testing.T) {
	eachSetup(t, func(t *testing.T, setup []SetupSet) {
		r := openRing(t, Config{Entries: 64, Setup: setup})
		if n := testing.AllocsPerRun(100, func() {
			for range 32 {
				PrepNop(r.Next())
			}
			for k := uint32(0); k < 32; {
				r.Submit()
				n := r.Ready()
				r.Advance(n)
				k += n
			}
			r.Wait(0)
		}); n != 0 {
			t.Errorf("%v allocations a batch", n)
		}
	})
}

// The kernel writes to a buffer after the function that gave it has returned: were it on the stack, it would have moved.
func TestWhatTheKernelGetsIsNotOnTheStack(t *testing.T) {
	var e SQE
	if n := testing.AllocsPerRun(10, func() {
		var b [64]byte
		PrepRead(&e, 0, unsafe.Pointer(&b[0]), 64, 0)
	}); n != 1 {
		t.Errorf("%v allocations for a local buffer, want it on the heap", n)
	}
}

func TestSetupNames(t *testing.T) {
	for s, want := range map[SetupSet]string{
		0:                           "none",
		SubmitAll | CoopTaskrun:     "SUBMIT_ALL|COOP_TASKRUN",
		SingleIssuer | DeferTaskrun: "SINGLE_ISSUER|DEFER_TASKRUN",
		TaskrunFlag:                 "TASKRUN_FLAG",
	} {
		if got := fmt.Sprint(s); got != want {
			t.Errorf("%#x is %q, want %q", uint32(s), got, want)
		}
	}
}
