package nvmf

import (
	"github.com/pollux-storage/pollux/bdev"
	"github.com/pollux-storage/pollux/reactor"
)

// This file is where a command's time goes, for those of the I/O commands of a reactor that are looked at closely.
//
// While a trace runs, each of its reactor's queues takes a record to one of so many commands. The time of a command is cut where it goes from one
// stage to the next, and each piece belongs to the stage that ends there, so the stages add up to the whole, exactly, whatever way a command
// takes:
//
//	its bytes are found ─ receive ─▶ its turn has come ─ admit ─▶ it may be served ─ memory ─▶ it has memory ─ data ─▶ its data is there
//	  ─ execute ─▶ its device has it ─ device ─▶ that is done ─ answer ─▶ its response is made ─ queue ─▶ that is given to the kernel
//	  ─ send ─▶ its last byte is taken
//
// A command without data leaves some of them out; one of several requests goes through execute and device several times.
//
// Records are made when the trace begins. Finished ones gather until control takes them (tracing.go), and there is room for each that is
// in use; a command that finds none is not looked at, and counted. What is not looked at pays a branch where it begins, on its queue, and
// a look at a nil pointer of its own where a stage ends.

// TraceStage is a part of a command's way.
type TraceStage uint8

// The stages, in order.
const (
	TraceReceive TraceStage = iota
	TraceAdmit
	TraceMemory
	TraceData
	TraceExecute
	TraceDevice
	TraceAnswer
	TraceQueue
	TraceSend
	TraceStages
)

var traceStageNames = [TraceStages]string{"receive", "admit", "memory", "data", "execute", "device", "answer", "queue", "send"}

func (s TraceStage) String() string { return traceStageNames[s] }

// TraceRecord is one command.
type TraceRecord struct {
	Opcode  IOOpcode
	Fused   bool
	Status  Status
	NSID    NSID
	LBA     uint64
	Blocks  uint64 // 0 for a command that names none
	Bytes   uint32 // of data, to the host or from it
	Device  string // of the namespace; "" if there was none for the command
	Host    string
	CNTLID  CNTLID
	QID     QID
	Reactor int

	Began  reactor.Ticks // its bytes were found
	Total  reactor.Ticks
	Spent  [TraceStages]reactor.Ticks
	Passed uint16 // stages, by bit
	Below  bdev.Trace

	last reactor.Ticks // when the last stage ended
	t    *tracer
	next *TraceRecord // free
}

// tracer is a trace on one reactor.
type tracer struct {
	every uint32 // one command of so many
	left  uint32 // commands until the next one
	seed  uint64
	drawn uint64 // commands that were to come until then, from the beginning
	free  *TraceRecord
	out   int           // records in use
	done  []TraceRecord // finished, until control takes them
	ended bool

	lost, unfinished uint64
}

// Records of a reactor. What is done and what is in use have room in one buffer, which control takes a few tens of times a second.
const (
	traceDoneMax = 4096
	traceOutMax  = 1024
)

func newTracer(every uint32, seed uint64) *tracer {
	t := &tracer{every: every, seed: seed | 1, done: make([]TraceRecord, 0, traceDoneMax)}
	records := make([]TraceRecord, traceOutMax)
	for i := range records {
		records[i].next, t.free = t.free, &records[i]
	}
	t.draw()
	return t
}

// draw decides how many commands pass until the next one that is looked at: from 1 to 2*every-1, so that what hosts do in turns does not
// keep step with it. xorshift64: Marsaglia, "Xorshift RNGs".
func (t *tracer) draw() {
	t.seed ^= t.seed << 13
	t.seed ^= t.seed >> 7
	t.seed ^= t.seed << 17
	t.left = 1 + uint32(t.seed%uint64(2*t.every-1))
	t.drawn += uint64(t.left)
}

// seen is the number of commands that came.
func (t *tracer) seen() uint64 { return t.drawn - uint64(t.left) }

// begin takes the turn of a command that is to be looked at.
func (t *tracer) begin(c *command) {
	t.draw()
	q, r := c.q, t.free
	if r == nil || t.out+len(t.done) == cap(t.done) {
		t.lost++
		return
	}
	t.free = r.next
	t.out++
	op := IOOpcode(c.sqe.Opcode())
	*r = TraceRecord{
		Opcode: op, Fused: c.sqe.Fuse() != FuseNone, NSID: c.sqe.NSID(), Host: q.link.host.nqn, CNTLID: q.link.cntlid, QID: q.id, Reactor: q.r.Index(),
		Began: q.found, last: q.found, t: t,
	}
	if ioRules[op].blocks {
		r.LBA, r.Blocks = c.sqe.SLBA(), uint64(c.sqe.NLB())
	}
	r.mark(TraceReceive)
	c.trace, c.req.Trace = r, &r.Below
}

// mark ends a stage now.
func (r *TraceRecord) mark(s TraceStage) { r.until(s, reactor.Clock()) }

// until ends a stage at a time, which is not before the end of the one before.
func (r *TraceRecord) until(s TraceStage, at reactor.Ticks) {
	at = max(at, r.last)
	r.Spent[s] += at - r.last
	r.Passed |= 1 << s
	r.last = at
}

// mark ends a stage of the command, if it is looked at.
func (c *command) mark(s TraceStage) {
	if c.trace != nil {
		c.trace.mark(s)
	}
}

// admitted notes that a command may be served.
func (c *command) admitted() {
	if c.trace != nil {
		c.trace.mark(TraceAdmit)
		if c.ns != nil {
			c.trace.Device = c.ns.ch.Device().Name()
		}
	}
}

// served takes the end of a command's request.
func (r *TraceRecord) served() {
	r.until(TraceExecute, r.Below.Came)
	r.until(TraceDevice, r.Below.Left)
}

// end takes the end of a command: of its response the last byte has left, or it will never be answered.
func (r *TraceRecord) end(c *command) {
	c.trace, c.req.Trace = nil, nil
	t, q := r.t, c.q
	t.out--
	switch {
	case t.ended:
	case c.state != commandResponding || q.state >= queueClosing:
		t.unfinished++
	default:
		r.until(TraceQueue, q.flushed)
		r.mark(TraceSend)
		r.Status, r.Total = c.status, r.last-r.Began
		if r.Bytes = c.transfer; r.Bytes == 0 {
			r.Bytes = c.send
		}
		t.done = append(t.done, *r)
	}
	r.next, t.free = t.free, r
}
