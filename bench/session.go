package bench

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/pollux-storage/pollux/bdev"
	"github.com/pollux-storage/pollux/reactor"
)

// Session is a device opened for measurements. It is used by one goroutine at a time, which is not a reactor.
type Session struct {
	reactors []*reactor.Reactor
	handle   *bdev.Handle

	// Drain is how long requests in flight may take to end when a run is over; then they are aborted, and may take as long
	// again.
	Drain time.Duration
}

// ErrStuck is wrapped by the error of a run whose requests did not end. Their memory stays with the device: the session, the
// device and the reactors cannot be closed any more.
var ErrStuck = errors.New("requests did not end")

// ErrFailed is wrapped by the error of a run that has figures, but in which requests failed or data came back wrong.
var ErrFailed = errors.New("the run failed")

// NewSession measures the device of h on the given reactors. h stays the caller's.
func NewSession(h *bdev.Handle, reactors ...*reactor.Reactor) *Session {
	return &Session{reactors: reactors, handle: h, Drain: 10 * time.Second}
}

// Options say what else a run is to do.
type Options struct {
	Label      string       // of the run, for the reporter
	Reporter   Reporter     // hears how far it is; nil for none
	State      *State       // the workload verifies: go on from here
	VerifyOnly bool         // of State: read back what was written, and put no load on it
	NoReadBack bool         // the workload verifies: leave the reading back at the end to a later run, by the state
	PIDs       []int        // other processes whose processor time is part of the figures
	Machine    *MachineTime // how busy the whole machine is, is part of them too; nil if not
	Warm       uint64       // requests, of each job, before those that are measured; of a Rig
}

// Progress is how far a run is.
type Progress struct {
	Label, Phase   string
	Share          float64 // of the phase, 0 to 1
	IOPS           float64 // since the last report
	BytesPerSecond float64
}

// Reporter shows progress to people.
type Reporter interface {
	Report(Progress)
	Done() // of the run
}

// reportEvery is how often it hears.
const reportEvery = 250 * time.Millisecond

// BufferBytes is the size of each slot's buffer for w: a request, or a larger piece for reading back what was written. A
// reactor needs Depth of them for each of its jobs.
func (w *Workload) BufferBytes(maxBytes uint64) uint64 {
	n := w.BlockBytes
	const piece, all = 64 << 10, 64 << 20
	if w.Verify && n < piece && uint64(w.Depth)*piece <= all {
		n = piece
	}
	if n > maxBytes {
		n = max(w.BlockBytes, maxBytes/w.BlockBytes*w.BlockBytes)
	}
	return n
}

// run is one run as it goes on.
type run struct {
	s       *Session
	p       *plan
	o       Options
	jobs    []*job
	windows []*window
	ended   chan *job
	state   *State
	before  processUsage
	after   processUsage
	begin   reactor.Ticks
	counted counted // at the last report
}

// counted is the sums of a report.
type counted struct {
	at         reactor.Ticks
	ops, bytes uint64
}

// Run carries w out. It gives figures when the load was measured, also if it failed; then the error wraps ErrFailed. When ctx
// ends, it stops early with ctx's error.
func (s *Session) Run(ctx context.Context, w Workload, o Options) (*Run, error) {
	r, err := s.prepare(w, o)
	if err != nil {
		return nil, fmt.Errorf("%s on %s: %w", w.Name(), s.handle.Device().Name(), err)
	}
	if o.Reporter != nil {
		defer o.Reporter.Done()
	}
	err = r.phases(ctx)
	if errors.Is(err, ErrStuck) {
		return nil, fmt.Errorf("%s on %s: %w", w.Name(), s.handle.Device().Name(), err)
	}
	figures := r.figures()
	r.close()
	if err == nil {
		err = figures.failure()
	}
	if err != nil {
		err = fmt.Errorf("%s on %s: %w", w.Name(), s.handle.Device().Name(), err)
	}
	return figures, err
}

// prepare makes the jobs, each on its reactor.
func (s *Session) prepare(w Workload, o Options) (*run, error) {
	d := s.handle.Device()
	g := d.Geometry()
	r := &run{s: s, o: o, state: o.State}
	supports := func(k bdev.Kind) (yes bool) {
		_ = s.reactors[0].Call(func() {
			ch, err := s.handle.Channel(s.reactors[0])
			if err == nil {
				yes = ch.Supports(k)
				ch.Close()
			}
		})
		return yes
	}
	if o.VerifyOnly && o.State != nil { // the state says where; the load does not matter
		w.Offset, w.Size = o.State.Region()
		w.BlockBytes = uint64(o.State.blockSize)
	}
	var err error
	if r.p, err = w.fit(&g, supports); err != nil {
		return nil, err
	}
	if err := r.takeState(&g); err != nil {
		return nil, err
	}
	for _, re := range s.reactors {
		r.windows = append(r.windows, &window{r: re})
	}
	r.ended = make(chan *job, r.p.Jobs)
	buf := int(w.BufferBytes(uint64(g.MaxBlocks) * uint64(g.BlockSize)))
	for i := range r.p.Jobs {
		if err := r.openJob(i, buf); err != nil {
			r.close()
			return nil, err
		}
	}
	return r, nil
}

// takeState makes the ledger, or checks that the given one is of this region.
func (r *run) takeState(g *bdev.Geometry) error {
	if !r.p.Verify {
		if r.state != nil {
			return fmt.Errorf("a state of written blocks is given, and the workload does not verify")
		}
		return nil
	}
	blocks := r.p.places * uint64(r.p.blocks)
	if r.state == nil {
		if r.o.VerifyOnly {
			return fmt.Errorf("nothing to verify: give the state that the writing run saved")
		}
		var err error
		if r.state, err = newState(r.p.first, blocks, g.BlockSize); err != nil {
			return err
		}
	} else if r.state.first != r.p.first || uint64(len(r.state.lines)) != blocks || r.state.blockSize != g.BlockSize {
		offset, size := r.state.Region()
		return fmt.Errorf("%w here: it is of %d bytes from %d on in blocks of %d, the workload's region is %d from %d on in blocks of %d",
			ErrState, size, offset, r.state.blockSize, blocks<<r.p.shift, r.p.Offset, g.BlockSize)
	}
	r.p.blockSeed = r.state.seed
	return nil
}

func (r *run) openJob(i, buf int) error {
	w := r.windows[i%len(r.windows)]
	j := &job{plan: r.p, number: i, r: w.r, window: w, done: r.ended, gen: newGenerator(r.p, i)}
	if r.p.Verify {
		first, n := r.p.share(i)
		first, n = first*uint64(r.p.blocks), n*uint64(r.p.blocks)
		if i == r.p.Jobs-1 {
			n = uint64(len(r.state.lines)) - first // what does not divide evenly was not written by this run, but may have been before
		}
		j.ledger = &ledger{r.p.first + first, r.state.lines[first:][:n]}
	}
	var err error
	if e := w.r.Call(func() {
		if j.ch, err = r.s.handle.Channel(w.r); err != nil {
			return
		}
		if !j.open(buf) {
			j.close()
			err = fmt.Errorf("job %d: reactor %d has no memory for %d buffers of %s: give it more, or take a smaller iodepth or bs",
				i, w.r.Index(), r.p.Depth, FormatBytes(uint64(buf)))
		}
	}); e != nil {
		err = e
	}
	if err == nil {
		r.jobs = append(r.jobs, j)
	}
	return err
}

func (r *run) close() {
	for _, j := range r.jobs {
		_ = j.r.Call(j.close)
	}
	if r.state != nil {
		r.state.settle()
	}
}
