package nvmf_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/pollux-storage/pollux/bdev"
	"github.com/pollux-storage/pollux/nvmf"
	"github.com/pollux-storage/pollux/nvmf/nvmftest"
	"github.com/pollux-storage/pollux/reactor"
)

// tracing is a trace of a test.
type tracing struct {
	t *testing.T
	*nvmf.Tracing
	list []nvmf.TraceRecord
}

func newTracing(t *testing.T, e *nvmftest.Engine, every uint32) *tracing {
	t.Helper()
	x, err := e.Target.Trace(every)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := x.Stop(); err != nil {
			t.Error(err)
		}
	})
	return &tracing{t: t, Tracing: x}
}

// take adds what has come to the list.
func (x *tracing) take() nvmf.TraceCounts {
	x.t.Helper()
	c, err := x.Take(func(r *nvmf.TraceRecord) { x.list = append(x.list, *r) })
	if err != nil {
		x.t.Error(err)
	}
	return c
}

// want waits until n records more have come, and gives them. A host may hear of the end of a command before its record is closed.
func (x *tracing) want(why string, n int) []nvmf.TraceRecord {
	x.t.Helper()
	nvmftest.Await(x.t, why, func() bool { x.take(); return len(x.list) >= n })
	if len(x.list) > n {
		x.t.Fatalf("%s: %d commands were looked at, want %d", why, len(x.list), n)
	}
	list := x.list
	x.list = nil
	return list
}

// checkSums fails unless the stages of a command add up to the whole, and the layers and their stages to the device's time, to the nanosecond.
func checkSums(t *testing.T, why string, r *nvmf.TraceRecord) {
	t.Helper()
	var sum, layers reactor.Ticks
	for s, d := range r.Spent {
		if sum += d; d < 0 || d > 0 && r.Passed&(1<<s) == 0 {
			t.Errorf("%s: %d ns in stage %v, passed %b", why, d, nvmf.TraceStage(s), r.Passed)
		}
	}
	if sum != r.Total || r.Total <= 0 {
		t.Errorf("%s: the stages took %d ns, the whole %d", why, sum, r.Total)
	}
	for i := range r.Below.Depth {
		own := r.Below.Own(i)
		if layers += own; own < 0 {
			t.Errorf("%s: %d ns in %s", why, own, r.Below.Layers[i].Device)
		}
	}
	if dev := r.Spent[nvmf.TraceDevice]; layers != dev && !(r.Fused && layers == 0) {
		t.Errorf("%s: the layers took %d ns, the device %d", why, layers, dev)
	}
}

func passed(r *nvmf.TraceRecord) string {
	var names []string
	for s := range nvmf.TraceStages {
		if r.Passed&(1<<s) != 0 {
			names = append(names, s.String())
		}
	}
	return strings.Join(names, " ")
}

// TestTraceOfEachKind looks at every command, and compares what it says of each with what was sent.
func TestTraceOfEachKind(t *testing.T) {
	nvmftest.Each(t, func(t *testing.T, start func(nvmftest.Options) *nvmftest.Portal) {
		for _, reactors := range []int{1, 2} {
			e := start(nvmftest.Options{Reactors: reactors, Empty: true})
			if _, err := bdev.NewMem(e.Bdevs, "mem", uuid.Nil, 4096, 4096); err != nil {
				t.Fatal(err)
			}
			if _, err := bdev.NewPassthru(e.Bdevs, "pass", "mem", uuid.Nil); err != nil {
				t.Fatal(err)
			}
			e.AddNamespace(nvmf.NamespaceOptions{BdevName: "pass"})
			admin := e.Admin()
			early := e.Queue(admin, 1, 32)
			x := newTracing(t, e.Engine, 1)
			late := e.Queue(admin, 2, 32)
			for _, p := range []*nvmftest.Peer{early, late} {
				const all, reads, moved = "receive admit execute device answer queue send", "receive admit memory execute device answer queue send",
					"receive admit memory data execute device answer queue send"
				ranges := append(nvmf.DSMRange{NLB: 8, SLBA: 16}.AppendTo(nil), nvmf.DSMRange{NLB: 8, SLBA: 32}.AppendTo(nil)...)
				dsm := p.IO(nvmf.IODatasetManagement)
				dsm.SetDSM(2, true)
				for _, c := range []struct {
					why    string
					op     nvmf.IOOpcode
					do     func()
					lba    uint64
					blocks uint64
					bytes  uint32
					depth  int
					passed string
					status nvmf.Status
				}{
					{"a read", nvmf.IORead, func() { p.Read(p.RW(nvmf.IORead, 3, 2), 8192) }, 3, 2, 8192, 2, reads, 0},
					{"a write in its capsule", nvmf.IOWrite, func() { p.Do(p.RW(nvmf.IOWrite, 5, 1), pattern(4096, 1)) }, 5, 1, 4096, 2, moved, 0},
					{"a write whose data is asked for", nvmf.IOWrite, func() { p.Do(p.RW(nvmf.IOWrite, 7, 16), pattern(65536, 1)) }, 7, 16, 65536, 2, moved, 0},
					{"write zeroes", nvmf.IOWriteZeroes, func() { p.Do(p.RW(nvmf.IOWriteZeroes, 9, 1), nil) }, 9, 1, 0, 2, all, 0},
					{"a flush", nvmf.IOFlush, func() { p.Do(p.IO(nvmf.IOFlush), nil) }, 0, 0, 0, 1, all, 0},
					{"two ranges unmapped", nvmf.IODatasetManagement, func() { p.Do(dsm, ranges) }, 0, 0, 32, 2, moved, 0},
					{"a verify", nvmf.IOVerify, func() { p.Do(p.RW(nvmf.IOVerify, 0, 100), nil) }, 0, 100, 0, 2, reads, 0},
					{"past the end", nvmf.IORead, func() { p.Read(p.RW(nvmf.IORead, 4096, 1), 4096) }, 4096, 1, 0, 0, "receive answer queue send", nvmf.StatusLBAOutOfRange | nvmf.DNR},
				} {
					c.do()
					r := x.want(c.why, 1)[0]
					checkSums(t, c.why, &r)
					device, depth := "pass", c.depth
					if depth == 0 {
						device = ""
					}
					if r.Opcode != c.op || r.LBA != c.lba || r.Blocks != c.blocks || r.Bytes != c.bytes || r.Status != c.status || r.Device != device || r.Below.Depth < depth ||
						r.Host != nvmftest.Host || r.CNTLID != admin.CNTLID || r.NSID != 1 || r.Fused {
						t.Errorf("%s: %+v", c.why, r)
					}
					if got := passed(&r); got != c.passed {
						t.Errorf("%s: it passed %s, want %s", c.why, got, c.passed)
					}
					if depth == 2 && (r.Below.Layers[0].Device != "pass" || r.Below.Layers[1].Device != "mem") {
						t.Errorf("%s: layers %+v", c.why, r.Below.Layers)
					}
				}
			}
			for _, begin := range []func(*pair){(*pair).begin, (*pair).beginLate} { // in their capsules, and not
				pair := newPair(early, 100, 4096, make([]byte, 4096), pattern(4096, 3))
				begin(pair)
				pair.want(t, "a pair", nvmf.StatusSuccess, nvmf.StatusSuccess)
				for _, r := range x.want("a pair", 2) {
					checkSums(t, "a pair", &r)
					if !r.Fused || r.Device != "pass" || r.Spent[nvmf.TraceDevice] == 0 {
						t.Errorf("of a pair: %+v", r)
					}
				}
				early.Do(early.RW(nvmf.IOWrite, 100, 1), make([]byte, 4096))
				x.want("zeros again", 1)
			}
			if c := x.take(); c.Seen != c.Finished || c.Seen != 22 || c.Lost+c.Unfinished != 0 {
				t.Errorf("counts %+v", c)
			}
		}
	})
}

// wait waits for a time that a stage cannot be mistaken for.
func wait() time.Duration {
	began := time.Now()
	time.Sleep(20 * time.Millisecond)
	return time.Since(began)
}

// wantSpent fails unless a command spent that time in a stage.
func wantSpent(t *testing.T, s nvmf.TraceStage, r nvmf.TraceRecord, waited time.Duration) {
	t.Helper()
	checkSums(t, s.String(), &r)
	if r.Spent[s] < reactor.Ticks(waited) {
		t.Errorf("held for %v in stage %v, which took %d ns", waited, s, r.Spent[s])
	}
}

// TestEachTraceStageHasItsTime makes a command wait for as long as it can be seen from outside that it waits, in one stage after the other.
func TestEachTraceStageHasItsTime(t *testing.T) {
	nvmftest.Each(t, func(t *testing.T, start func(nvmftest.Options) *nvmftest.Portal) {
		e := start(nvmftest.Options{Empty: true})
		held := e.AddHeld("held", 1024)
		e.AddNamespace(nvmf.NamespaceOptions{BdevName: "held"})
		p := e.Queue(e.Admin(), 1, 4)
		x := newTracing(t, e.Engine, 1)
		s := p.RW(nvmf.IOWrite, 0, 16)
		p.BeginLate(s, make([]byte, 65536))
		p.Asked(1)
		waited := wait()
		p.Give()
		held.Want("a write", 1)
		held.End(bdev.StatusOK)
		p.Completion(s)
		wantSpent(t, nvmf.TraceData, x.want("a write", 1)[0], waited)

		s = p.RW(nvmf.IORead, 0, 1)
		p.BeginRead(s, 4096)
		held.Want("a read", 1)
		waited = wait()
		held.End(bdev.StatusOK)
		p.Completion(s)
		wantSpent(t, nvmf.TraceDevice, x.want("a read", 1)[0], waited)
	})
}

// A write in its capsule brings half of its data over TCP, then the rest.
func TestTraceOfACapsuleInPieces(t *testing.T) {
	e := nvmftest.Start(t, nvmftest.Options{})
	p := nvmftest.Queue(t, e.Addr, nvmftest.Admin(t, e.Addr), 1, 4)
	x := newTracing(t, e, 1)
	s := p.RW(nvmf.IOWrite, 0, 2)
	b := p.Capsule(s, make([]byte, 8192))
	p.Send(b[:5000])
	nvmftest.Await(t, "the command has come", func() bool { return x.take().Seen == 1 })
	waited := wait()
	p.Send(b[5000:])
	p.Completion(s)
	wantSpent(t, nvmf.TraceData, x.want("a write in its capsule", 1)[0], waited)
}

// TestTraceLooksAtOneOfMany: which commands is left to chance, how many are there not; and all are counted.
func TestTraceLooksAtOneOfMany(t *testing.T) {
	e := nvmftest.Start(t, nvmftest.Options{})
	p := nvmftest.Queue(t, e.Addr, nvmftest.Admin(t, e.Addr), 1, 32)
	for _, every := range []uint32{1, 2, 7} {
		x := newTracing(t, e, every)
		const n = 400
		for range n {
			p.Do(p.IO(nvmf.IOFlush), nil)
		}
		var counts nvmf.TraceCounts
		nvmftest.Await(t, "the last command has been counted", func() bool {
			counts = x.take()
			return counts.Finished >= uint64(n/(2*every-1))
		})
		for i := range x.list {
			checkSums(t, "one of many", &x.list[i])
		}
		if counts.Seen != n || counts.Finished > n || every == 1 && counts.Finished != n {
			t.Errorf("one of %d: %+v", every, counts)
		}
		if _, err := e.Target.Trace(1); !errors.Is(err, nvmf.ErrInUse) {
			t.Errorf("a second trace: %v", err)
		}
		if err := x.Stop(); err != nil {
			t.Error(err)
		}
		p.Do(p.IO(nvmf.IOFlush), nil)
		if c := x.take(); c.Seen != n {
			t.Errorf("after its end: %+v", c)
		}
	}
	for _, every := range []uint32{0, nvmf.TraceEveryMax + 1} {
		if _, err := e.Target.Trace(every); !errors.Is(err, nvmf.ErrInvalid) {
			t.Errorf("one of %d: %v", every, err)
		}
	}
}

// TestTraceEndsInTheMiddle: commands under way when a trace ends, or when their queue does, leave no record behind.
func TestTraceEndsInTheMiddle(t *testing.T) {
	nvmftest.Each(t, func(t *testing.T, start func(nvmftest.Options) *nvmftest.Portal) {
		e := start(nvmftest.Options{Empty: true})
		held := e.AddHeld("held", 1024)
		e.AddNamespace(nvmf.NamespaceOptions{BdevName: "held"})
		admin := e.Admin()
		p := e.Queue(admin, 1, 4)
		read := func(why string, n int) *nvmf.SQE {
			s := p.RW(nvmf.IORead, 0, 1)
			p.BeginRead(s, 4096)
			held.Want(why, n)
			return s
		}
		x := newTracing(t, e.Engine, 1)
		s := read("looked at by the first trace", 1)
		if err := x.Stop(); err != nil {
			t.Fatal(err)
		}
		y := newTracing(t, e.Engine, 1)
		held.End(bdev.StatusOK)
		p.Completion(s)
		read("looked at by the second", 1)
		p.Close()
		e.AwaitQueues("one connection was closed", 1) // it has a request at a device
		held.End(bdev.StatusOK)
		e.AwaitQueues("the queue has closed", 0)
		x.want("nothing", 0)
		y.want("nothing", 0)
		if a := x.take(); a.Seen != 1 || a.Finished+a.Unfinished != 0 {
			t.Errorf("the first: %+v", a)
		}
		if b := y.take(); b.Seen != 1 || b.Finished != 0 || b.Unfinished != 1 {
			t.Errorf("the second: %+v", b)
		}
	})
}

// TestTraceOfAQueueThatMoves: a command that came before its queue had moved, and is begun after, waited from when it came.
func TestTraceOfAQueueThatMoves(t *testing.T) {
	e, held := heldBeside(t, nvmftest.Options{})
	p := nvmftest.Queue(t, e.Addr, nvmftest.Admin(t, e.Addr), 1, 32)
	at := reactorOf(e, p.CNTLID, 1)
	began, x := reactor.Clock(), newTracing(t, e, 1)
	first := on(2, p.RW(nvmf.IOWrite, 0, 1))
	p.Send(p.Capsule(first, make([]byte, 4096)))
	held.Want("a write in flight", 1)
	ended := moving(e, p, 1, 1-at, time.Minute)
	s := p.RW(nvmf.IORead, 0, 1)
	b := p.Capsule(nvmftest.Wants(s, 4096), nil)
	p.Send(b)
	awaitUnbegun(e, p, 1, len(b))
	late := reactor.Clock()
	held.End(bdev.StatusOK)
	if err := nvmftest.Take(t, "the move", ended); err != nil {
		t.Fatal(err)
	}
	p.Completion(first)
	p.Completion(s)
	for _, r := range x.want("both", 2) {
		checkSums(t, "a queue that moves", &r)
		if r.Opcode != nvmf.IORead {
			continue
		}
		if r.Began > late || r.Began < began || r.Reactor != 1-at {
			t.Errorf("a command that came between %d and %d, when its queue was on reactor %d: %+v", began, late, at, r)
		}
	}
}
