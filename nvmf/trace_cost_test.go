package nvmf

import (
	"context"
	"testing"

	"github.com/pollux-storage/pollux/reactor"
)

// tracedCommand is a command on a queue that is nobody's, as a trace sees it.
func tracedCommand(tb testing.TB, every uint32) (*tracer, *command) {
	g, err := reactor.Start(reactor.Config{Cores: []int{-1}, MemoryBytes: 8 << 20})
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { _ = g.Stop(context.Background()) })
	q := &queue{id: 1, r: g.Reactor(0), state: queueLive, link: &queueLink{host: &hostIdentity{nqn: "nqn.2026-01.io.pollux:host"}}}
	c := &command{q: q}
	c.sqe.Init(uint8(IORead), 1, 1)
	return newTracer(every, 1), c
}

// pass lets a command pass all stages of a read, but for the layers of a device.
func (c *command) pass(t *tracer) {
	c.q.found = reactor.Clock()
	t.begin(c)
	c.admitted()
	c.mark(TraceMemory)
	c.mark(TraceExecute)
	c.mark(TraceDevice)
	c.state = commandResponding
	c.mark(TraceAnswer)
	if c.trace != nil {
		c.trace.end(c)
	}
}

func TestTracedCommandAllocatesNothing(t *testing.T) {
	tr, c := tracedCommand(t, 1)
	if n := testing.AllocsPerRun(2*traceDoneMax, func() { c.pass(tr) }); n != 0 { // until there is no room, and after
		t.Errorf("%v allocations", n)
	}
	if len(tr.done) != traceDoneMax || tr.lost == 0 || tr.out != 0 {
		t.Errorf("%d records are done, %d were lost, %d are in use", len(tr.done), tr.lost, tr.out)
	}
}

// TestTraceKeepsRoomForWhatIsUnderWay: a record that was given out has a place when it is done.
func TestTraceKeepsRoomForWhatIsUnderWay(t *testing.T) {
	tr, c := tracedCommand(t, 1)
	tr.begin(c)
	other := &command{q: c.q, sqe: c.sqe}
	for range traceDoneMax + 10 {
		other.pass(tr)
	}
	if len(tr.done) != traceDoneMax-1 || tr.lost != 11 {
		t.Errorf("%d are done, %d were lost", len(tr.done), tr.lost)
	}
	c.state = commandResponding
	c.trace.end(c)
	if len(tr.done) != traceDoneMax || cap(tr.done) != traceDoneMax {
		t.Errorf("%d are done, of %d", len(tr.done), cap(tr.done))
	}
}

// BenchmarkTracedCommand is what a command costs more that is looked at, without the two readings of the clock in each layer of its device.
func BenchmarkTracedCommand(b *testing.B) {
	tr, c := tracedCommand(b, 1)
	for b.Loop() {
		c.pass(tr)
		if len(tr.done) == cap(tr.done) {
			tr.done = tr.done[:0]
		}
	}
}
