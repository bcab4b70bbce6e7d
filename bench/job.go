package bench

import (
	"github.com/pollux-storage/pollux/bdev"
	"github.com/pollux-storage/pollux/internal/hist"
	"github.com/pollux-storage/pollux/internal/invariant"
	"github.com/pollux-storage/pollux/reactor"
)

// This file is a job: one queue of requests, on one reactor. Its states, in order:
//
//	load      requests of the generator go out as long as there is a free slot
//	draining  none go out any more, those in flight end (and, with fsync, the last writes are flushed)
//	idle      nothing is in flight
//	verify    everything that was written is read back, then idle again
type jobState uint8

const (
	jobIdle jobState = iota
	jobLoad
	jobDraining
	jobVerify
)

// job belongs to its reactor. Others touch it by reactor.Call, and once done was closed and the job is idle.
type job struct {
	plan   *plan
	number int
	r      *reactor.Reactor
	ch     *bdev.Channel
	window *window
	state  jobState
	done   chan<- *job // told when the job becomes idle

	slots    []slot
	free     []*slot
	inFlight int

	gen     generator
	ledger  *ledger
	pending bool // place and kind were drawn, but the ledger cannot take them yet
	kind    bdev.Kind
	lba     uint64
	next    uint64 // in the verify state: the first LBA that was not read yet

	issued      uint64 // since the window opened
	writes      uint64 // issued
	fuaLast     uint64 // writes at the last FUA
	unflushed   int    // writes completed since the last flush
	flushesDue  int
	started     reactor.Ticks // of the present pace
	paced       uint64        // requests issued since started
	deadline    reactor.Ticks // 0: none
	timer       reactor.Timer
	measuring   bool
	opened      reactor.Ticks // when counting began
	last        reactor.Ticks // the last completion that was counted
	stats       [bdev.Kinds]kindCount
	errors      uint64
	firstError  failure
	verified    uint64 // blocks found right
	mismatches  uint64
	firstWrongs []Mismatch
}

// kindCount counts the requests of one kind that succeeded.
type kindCount struct {
	ops, bytes, errors uint64
	min, max           reactor.Ticks
	latency            hist.Histogram
}

// failure is a request that the device did not carry out.
type failure struct {
	kind   bdev.Kind
	lba    uint64
	status bdev.Status
	detail uint32
}

// slot is one place of the queue: a request, its buffer, and what the ledger wants remembered.
type slot struct {
	bdev.Request
	job   *job
	buf   []byte
	views []view
	at    reactor.Ticks
}

// window is what one reactor does while its jobs are measured. It belongs to that reactor.
type window struct {
	r          *reactor.Reactor
	loading    int // jobs
	begin, end usage
}

// open makes the slots. It runs on the reactor and reports whether there was memory.
func (j *job) open(bufBytes int) bool {
	j.slots = make([]slot, j.plan.Depth)
	j.free = make([]*slot, 0, j.plan.Depth)
	perSlot := bufBytes >> j.plan.shift
	for i := range j.slots {
		s := &j.slots[i]
		s.job, s.Done = j, s
		if s.buf = j.r.Memory().Get(bufBytes); s.buf == nil {
			return false
		}
		if j.ledger != nil {
			s.views = make([]view, perSlot)
		}
		if j.plan.Zeros {
			clear(s.buf)
		} else {
			fillPayload(s.buf, j.plan.Seed, uint64(i), uint32(j.number))
		}
		j.free = append(j.free, s)
	}
	return true
}

// close gives back what open took. It runs on the reactor, when the job is idle.
func (j *job) close() {
	invariant.Check(j.inFlight == 0, "bench: a job closes with requests in flight")
	j.r.StopTimer(&j.timer)
	for i := range j.slots {
		s := &j.slots[i]
		if s.buf != nil {
			j.r.Memory().Put(s.buf)
		}
		s.Release()
	}
	j.ch.Close()
}

// load begins the first phase.
func (j *job) load() {
	j.state = jobLoad
	j.window.loading++
	j.started = reactor.Clock()
	j.fill(j.started)
}

// measure begins to count; runtime counts from here.
func (j *job) measure() {
	t := reactor.Clock()
	j.measuring, j.opened, j.last = true, t, t
	j.issued = 0
	if s := j.plan.RuntimeSeconds; s > 0 {
		j.deadline = t + reactor.Ticks(s*float64(reactor.Second))
		j.r.SetTimer(&j.timer, j.deadline, j)
		j.fill(t) // it may have waited for its pace by that timer
	}
}

// stop lets the phase end with what is in flight.
func (j *job) stop() {
	switch j.state {
	case jobLoad, jobVerify:
		j.state = jobDraining
		j.pending = false
		j.fill(reactor.Clock())
	}
}

// abort ends what is in flight early, as far as the device can.
func (j *job) abort() {
	for i := range j.slots {
		j.ch.Abort(&j.slots[i].Request)
	}
}

// Run is the timer: the deadline has come, or the pace allows the next request.
func (j *job) Run() {
	t := reactor.Clock()
	if j.state == jobLoad && j.deadline > 0 && t >= j.deadline {
		j.state, j.pending = jobDraining, false
	}
	j.fill(t)
}

// clock is the time now, or of the tick where nobody wants to know it better.
func (j *job) clock() reactor.Ticks {
	if j.plan.NoLatency {
		return j.r.Now()
	}
	return reactor.Clock()
}

// fill gives every free slot its next request.
func (j *job) fill(t reactor.Ticks) {
	for len(j.free) > 0 {
		if j.flushesDue > 0 {
			j.flushesDue--
			j.flush(t)
			continue
		}
		switch j.state {
		case jobLoad:
			if !j.loadNext(t) {
				return
			}
			continue
		case jobVerify:
			if j.verifyNext() {
				continue
			}
			j.state = jobDraining
		case jobDraining:
		default:
			return
		}
		if j.unflushed > 0 && j.plan.FsyncEvery > 0 && j.inFlight == 0 {
			j.unflushed = 0
			j.flush(t) // the last writes, fewer than fsync asks for
			return
		}
		if j.inFlight == 0 {
			j.end()
		}
		return
	}
}

// end makes the job idle.
func (j *job) end() {
	j.state = jobIdle
	j.r.StopTimer(&j.timer)
	if j.window.loading > 0 {
		if j.window.loading--; j.window.loading == 0 {
			j.window.end = usageOf(j.r)
		}
	}
	j.done <- j // has room for every job
}

// loadNext issues one request, or says why there is none now: the end has come, the pace forbids it, or the ledger waits.
func (j *job) loadNext(t reactor.Ticks) bool {
	if j.limited() || j.deadline > 0 && t >= j.deadline {
		j.state, j.pending = jobDraining, false
		return true
	}
	if rate := uint64(j.plan.RateIOPS); rate > 0 {
		if due := j.started + reactor.Ticks(j.paced*reactor.TickRate/rate); t < due {
			if j.deadline > 0 && due > j.deadline {
				due = j.deadline
			}
			j.r.SetTimer(&j.timer, due, j)
			return false
		}
	}
	if !j.pending {
		j.kind = j.gen.kind()
		j.lba = j.plan.first + j.gen.place()*uint64(j.plan.blocks)
		j.pending = true
	}
	if j.ledger != nil && j.kind != bdev.Read && !j.ledger.admit(j.lba, j.plan.blocks) {
		return false // a completion of those in flight makes room: there are some, or the ledger would have it
	}
	j.pending = false
	j.issued++
	j.paced++
	s := j.take(j.kind, j.lba, uint64(j.plan.blocks))
	switch j.kind {
	case bdev.Write:
		j.writes++
		if n := j.plan.FUAEvery; n > 0 && j.writes-j.fuaLast == uint64(n) {
			s.FUA, j.fuaLast = true, j.writes
		}
		if j.ledger != nil {
			j.ledger.submit(j.lba, s.views[:j.plan.blocks], false)
			for i, size := uint32(0), 1<<j.plan.shift; i < j.plan.blocks; i++ {
				writeBlock(s.buf[int(i)*size:][:size], j.plan.blockSeed, j.lba+uint64(i), s.views[i].newest)
			}
			t = j.clock()
		}
	case bdev.Unmap:
		if j.ledger != nil {
			j.ledger.submit(j.lba, s.views[:j.plan.blocks], true)
		}
	case bdev.Read:
		if j.ledger != nil {
			j.ledger.look(j.lba, s.views[:j.plan.blocks])
		}
	}
	s.at = t
	j.ch.Submit(&s.Request)
	return true
}

// limited reports whether the job has issued its number of requests, or will not be given time for more.
func (j *job) limited() bool {
	return j.plan.limit > 0 && j.measuring && j.issued >= j.plan.limit
}

// flush issues a flush.
func (j *job) flush(t reactor.Ticks) {
	s := j.take(bdev.Flush, 0, 0)
	s.at = t
	j.ch.Submit(&s.Request)
}

// take takes a free slot for a request.
func (j *job) take(k bdev.Kind, lba, blocks uint64) *slot {
	s := j.free[len(j.free)-1]
	j.free = j.free[:len(j.free)-1]
	j.inFlight++
	s.Kind, s.FUA, s.LBA, s.Blocks = k, false, lba, blocks
	if k == bdev.Read || k == bdev.Write {
		s.SetData(s.buf[:blocks<<j.plan.shift])
	} else {
		s.Data = nil
	}
	return s
}

// RequestDone hears the end of the slot's request.
func (s *slot) RequestDone(*bdev.Request) {
	j := s.job
	t := j.clock()
	j.inFlight--
	j.free = append(j.free, s) // nobody takes it before fill
	if s.Status == bdev.StatusOK {
		j.succeeded(s, t)
	} else {
		j.failed(s)
	}
	if j.ledger != nil && (s.Kind == bdev.Write || s.Kind == bdev.Unmap) {
		j.ledger.complete(s.LBA, s.views[:s.Blocks], s.Status == bdev.StatusOK)
	}
	if s.Kind == bdev.Write && j.plan.FsyncEvery > 0 {
		if j.unflushed++; j.unflushed == j.plan.FsyncEvery {
			j.unflushed = 0
			j.flushesDue++
		}
	}
	j.fill(t)
}

func (j *job) succeeded(s *slot, t reactor.Ticks) {
	if s.Kind == bdev.Read && j.ledger != nil {
		j.check(s)
	}
	if !j.measuring || s.at == verifyRead {
		return
	}
	j.last = t
	c := &j.stats[s.Kind]
	if j.plan.NoLatency {
		c.ops++
		c.bytes += s.Blocks << j.plan.shift
		return
	}
	c.record(t-s.at, s.Blocks<<j.plan.shift)
}

// record counts a request that took d.
func (c *kindCount) record(d reactor.Ticks, bytes uint64) {
	c.ops++
	c.bytes += bytes
	c.latency.Record(uint64(d))
	c.max = max(c.max, d)
	if d < c.min || c.latency.Count == 1 {
		c.min = d
	}
}

func (j *job) failed(s *slot) {
	if j.errors == 0 {
		j.firstError = failure{s.Kind, s.LBA, s.Status, s.Detail}
	}
	j.errors++
	j.stats[s.Kind].errors++
	j.giveUp()
}

// giveUp ends the phase after an error, unless the workload says to go on.
func (j *job) giveUp() {
	if !j.plan.ContinueOnError && (j.state == jobLoad || j.state == jobVerify) {
		j.state, j.pending = jobDraining, false
	}
}
