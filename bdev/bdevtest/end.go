package bdevtest

import (
	"context"
	"errors"
	"time"

	"github.com/pollux-storage/pollux/bdev"
	"github.com/pollux-storage/pollux/reactor"
)

// endRules are about requests and devices that end early, and about what is left then.
var endRules = []Rule{
	{Name: "an aborted request completes as aborted or as if it was not", Test: aborts},
	{Name: "a reset completes after what was in flight, and the device serves on", Test: resets},
	{Name: "channels open and close and leave nothing", Test: closes},
	{Name: "a device that is removed refuses what comes and loses nothing", Test: removal},
	{Name: "a device grows and shrinks under its users", Test: resizes},
	{Name: "a claim is held by one", Test: claims},
	{Name: "each request is counted", Test: counts},
	{Name: "no buffer is left and emulations go on", Test: starved},
}

// many begins a number of requests of all kinds on a reactor, within one turn of it, and lets f see them there.
func (e *Env) many(core, rounds int, f func(jobs []*Job)) []*Job {
	var jobs []*Job
	for i := range rounds {
		for _, op := range e.ops(uint64(i*8)%(e.G.Blocks-8), 3) {
			if e.G.Supports(op.Kind) {
				j := e.NewJob(core)
				_ = e.Group.Reactor(core).Call(func() { j.set(op) })
				jobs = append(jobs, j)
			}
		}
	}
	_ = e.Group.Reactor(core).Call(func() {
		for _, j := range jobs {
			j.Submit()
		}
		if f != nil {
			f(jobs)
		}
	})
	return jobs
}

// fine reports whether a status is what a valid request on arbitrary data may end with.
func fine(q *bdev.Request) bool {
	return q.Status == bdev.StatusOK || q.Status == bdev.StatusMiscompare && (q.Kind == bdev.Compare || q.Kind == bdev.CompareAndWrite)
}

func aborts(e *Env) {
	for _, core := range e.Cores() {
		aborted := map[*Job]bool{}
		jobs := e.many(core, 20, func(jobs []*Job) {
			for _, j := range jobs {
				aborted[j] = j.ch.Abort(&j.Q)
			}
		})
		for _, j := range jobs {
			j.Wait()
			if (j.Q.Status == bdev.StatusAborted) != aborted[j] || !aborted[j] && !fine(&j.Q) {
				e.Errorf("%v: %v, abort said %v", j.Q.Kind, j.Q.Status, aborted[j])
			}
		}
		e.finish(jobs)
		e.Must(core, Op{Kind: bdev.Read, Data: e.Block(0, 1)})
	}
}

func resets(e *Env) {
	for _, core := range e.Cores() {
		var open int
		var resets []*Job
		var early, late []*Job
		early = e.many(core, 20, func(jobs []*Job) {
			open = len(jobs)
			for _, j := range jobs {
				j.then = func(j *Job) { open--; j.end <- struct{}{} }
			}
			for range 2 {
				j := e.NewJob(core)
				j.Q.Kind = bdev.Reset
				j.then = func(j *Job) {
					if open > 0 {
						e.Errorf("the reset ended before %d requests that were in flight", open)
					}
					j.end <- struct{}{}
				}
				j.Submit()
				resets = append(resets, j)
			}
			late = append(late, e.NewJob(core))
			late[0].set(Op{Kind: bdev.Write, LBA: 1, Data: e.Block(5, 1)})
			late[0].Submit()
		})
		for _, j := range resets {
			j.Wait()
			if j.Q.Status != bdev.StatusOK {
				e.Errorf("reset: %v", j.Q.Status)
			}
		}
		for _, j := range early {
			j.Wait()
			if !fine(&j.Q) && j.Q.Status != bdev.StatusAborted {
				e.Errorf("%v, in flight at the reset: %v", j.Q.Kind, j.Q.Status)
			}
		}
		late[0].Wait()
		if late[0].Q.Status != bdev.StatusOK {
			e.Errorf("a write after the reset: %v", late[0].Q.Status)
		}
		e.finish(append(append(early, resets...), late...))
		if !e.Subject.Forgets {
			e.WantData("written behind the reset", core, 1, e.Block(5, 1))
		}
	}
}

func closes(e *Env) {
	for range 20 {
		h, err := e.Registry.Open(e.Device.UUID().String(), bdev.OpenOptions{Who: "a second user"})
		if err != nil {
			e.Fatalf("%v", err)
		}
		shared, err := h.Channels()
		if err != nil {
			e.Fatalf("%v", err)
		}
		for i, c := range shared {
			if c != e.Channels[i] {
				e.Errorf("a second channel on reactor %d", i)
			}
		}
		bdev.CloseChannels(shared)
		// And when the last one goes:
		bdev.CloseChannels(e.Channels)
		h.Close()
		h.Close() // twice is harmless
		e.Channels, err = e.Handle.Channels()
		if err != nil {
			e.Fatalf("%v", err)
		}
		e.Must(0, Op{Kind: bdev.Read, Data: e.Block(0, 1)})
	}
	if n := e.Device.Stats().Kinds[bdev.Read].Ops; n != 20 {
		e.Errorf("%d reads counted over channels that closed, want 20", n)
	}
}

func removal(e *Env) {
	e.Registry.SetGrace(time.Millisecond)
	var jobs []*Job
	for _, core := range e.Cores() {
		jobs = append(jobs, e.many(core, 5, nil)...)
	}
	name := e.Device.Name()
	// Whoever removes it first hears when all is gone, what those who watch the registry do about it included. It is there before
	// the last user closes: who comes when the name is forgotten finds no device, and cannot wait for the rest.
	long, cancel := context.WithTimeout(context.Background(), e.Patience)
	defer cancel()
	removed := make(chan error, 1)
	go func() { removed <- e.Registry.Unregister(long, name) }()
	for len(e.Events()) == 0 && long.Err() == nil {
		e.Settle()
	}
	short, cancel := context.WithTimeout(context.Background(), 5*time.Millisecond)
	defer cancel()
	if err := e.Registry.Unregister(short, name); !errors.Is(err, bdev.ErrBusy) {
		e.Errorf("removing a device that is open: %v, want %v", err, bdev.ErrBusy)
	}
	for _, j := range jobs {
		j.Wait()
		if !fine(&j.Q) && j.Q.Status != bdev.StatusGone && j.Q.Status != bdev.StatusAborted {
			e.Errorf("%v, in flight at the removal: %v", j.Q.Kind, j.Q.Status)
		}
	}
	e.finish(jobs)
	if v := e.Events(); len(v) == 0 || v[0].Kind != bdev.Removing || v[0].Device != e.Device {
		e.Errorf("events %v, want Removing", v)
	}
	if _, err := e.Registry.Open(name, bdev.OpenOptions{Who: "late"}); !errors.Is(err, bdev.ErrNotFound) {
		e.Errorf("opening a device that is being removed: %v", err)
	}
	// The grace ends some time after the removal began; from then on nothing is served.
	for _, core := range e.Cores() {
		for e.Do(core, Op{Kind: bdev.Read, Data: e.Block(0, 1)}).Status != bdev.StatusGone {
			e.Settle()
		}
		for _, op := range e.ops(0, 1) {
			if e.G.Supports(op.Kind) {
				e.Want("removed", core, bdev.StatusGone, op)
			}
		}
	}
	bdev.CloseChannels(e.Channels)
	e.Handle.Close()
	e.Handle = nil
	if err := <-removed; err != nil {
		e.Errorf("removing it: %v", err)
	}
	if _, err := e.Registry.Lookup(name); !errors.Is(err, bdev.ErrNotFound) {
		e.Errorf("found after removal: %v", err)
	}
}

func resizes(e *Env) {
	if e.Subject.Resize == nil {
		return
	}
	old := e.G.Blocks
	set := func(blocks uint64) {
		if err := e.Subject.Resize(e.Device, blocks); err != nil {
			e.Fatalf("resizing to %d blocks: %v", blocks, err)
		}
		late := time.Now().Add(e.Patience)
		for e.Device.Geometry().Blocks != blocks { // a device follows what it stands on by an event
			if time.Now().After(late) {
				e.Fatalf("%d blocks after a resize to %d", e.Device.Geometry().Blocks, blocks)
			}
			e.Settle()
		}
		for i, c := range e.Channels {
			var n uint64
			for n != blocks && !time.Now().After(late) {
				_ = e.Group.Reactor(i).Call(func() { n = c.Geometry().Blocks })
			}
		}
	}
	last := e.Block(4, 1)
	set(2 * old)
	for _, core := range e.Cores() {
		e.Write(core, 2*old-1, last)
		e.Want("past the new end", core, bdev.StatusOutOfRange, Op{Kind: bdev.Read, LBA: 2 * old, Data: last})
		if !e.Subject.Forgets {
			e.WantData("at the new end", core, 2*old-1, last)
		}
	}
	// Shrinking below requests in flight: they succeed or fail, and all come back.
	var jobs []*Job
	for _, core := range e.Cores() {
		jobs = append(jobs, e.many(core, 10, nil)...)
		jobs = append(jobs, e.Begin(core, Op{Kind: bdev.WriteZeroes, LBA: 0, Blocks: 2 * old}))
		jobs = append(jobs, e.Begin(core, Op{Kind: bdev.Copy, LBA: 0, LBA2: old / 2, Blocks: old}))
	}
	set(old / 2)
	for _, j := range jobs {
		j.Wait()
		if !fine(&j.Q) && j.Q.Status != bdev.StatusOutOfRange && j.Q.Status != bdev.StatusIO {
			e.Errorf("%v, in flight while the device shrank: %v", j.Q.Kind, j.Q.Status)
		}
	}
	e.finish(jobs)
	for _, core := range e.Cores() {
		e.Want("past the lower end", core, bdev.StatusOutOfRange, Op{Kind: bdev.Read, LBA: old / 2, Data: last})
		e.Write(core, old/2-1, last)
	}
	n := 0
	for _, v := range e.Events() {
		if v.Kind == bdev.Resized {
			n++
		}
	}
	if n < 2 {
		e.Errorf("its opener heard of %d resizes, there were 2", n)
	}
}

func claims(e *Env) {
	name := e.Device.Name()
	first, err := e.Registry.Open(name, bdev.OpenOptions{Who: "first", Claim: true})
	if err != nil {
		e.Fatalf("%v", err)
	}
	if _, err := e.Registry.Open(name, bdev.OpenOptions{Who: "second", Claim: true}); !errors.Is(err, bdev.ErrClaimed) {
		e.Errorf("a second claim: %v", err)
	}
	if who := e.Device.Claim(); who != "first" {
		e.Errorf("claimed by %q", who)
	}
	first.Close()
	a, err := e.Registry.Open(name, bdev.OpenOptions{Who: "a", Claim: true, Share: "layout"})
	if err != nil {
		e.Fatalf("%v", err)
	}
	b, err := e.Registry.Open(name, bdev.OpenOptions{Who: "b", Claim: true, Share: "layout"})
	if err != nil {
		e.Fatalf("sharing a claim: %v", err)
	}
	a.Close()
	if _, err := e.Registry.Open(name, bdev.OpenOptions{Who: "c", Claim: true, Share: "another"}); !errors.Is(err, bdev.ErrClaimed) {
		e.Errorf("a claim of another layout: %v", err)
	}
	b.Close()
	if who := e.Device.Claim(); who != "" {
		e.Errorf("still claimed by %q", who)
	}
}

func counts(e *Env) {
	size := uint64(e.G.BlockSize)
	for _, core := range e.Cores() {
		for range 3 {
			e.Must(core, Op{Kind: bdev.Write, LBA: 1, Data: e.Block(1, 2)})
			e.Must(core, Op{Kind: bdev.Read, LBA: 1, Data: e.Block(1, 5)})
			e.Must(core, Op{Kind: bdev.WriteZeroes, LBA: 9, Blocks: 700})
			e.Must(core, Op{Kind: bdev.Write, LBA: 3, Data: e.Block(1, 2), FUA: true})
		}
		e.Must(core, Op{Kind: bdev.Flush, LBA: 1, Blocks: 1 << 40})
		e.Do(core, Op{Kind: bdev.Read, LBA: e.G.Blocks, Blocks: 1})
		e.Do(core, Op{Kind: bdev.Read, LBA: 0, Blocks: 2, Data: make([]byte, size)})
	}
	n := uint64(e.Group.Len())
	check := func(why string, s bdev.Stats, n uint64) {
		for k, want := range map[bdev.Kind][3]uint64{
			bdev.Write: {6 * n, 12 * n * size, 0}, bdev.Read: {3 * n, 15 * n * size, 2 * n}, bdev.WriteZeroes: {3 * n, 2100 * n * size, 0},
			bdev.Flush: {n, 0, 0}, bdev.Unmap: {0, 0, 0}, bdev.Compare: {0, 0, 0},
		} {
			got := s.Kinds[k]
			if got.Ops != want[0] || got.Bytes != want[1] || got.Errors != want[2] || got.Latency.Count != want[0] {
				e.Errorf("%s: %v: %d requests (%d in the histogram), %d bytes, %d errors, want %v", why, k, got.Ops, got.Latency.Count, got.Bytes, got.Errors, want)
			}
			if got.Min > got.Max || uint64(got.Max) > got.Latency.Sum {
				e.Errorf("%s: %v: latencies from %d to %d, %d together", why, k, got.Min, got.Max, got.Latency.Sum)
			}
		}
		if s.Errors[bdev.StatusOutOfRange] != n || s.Errors[bdev.StatusMisaligned] != n || s.InFlight != 0 {
			e.Errorf("%s: errors %v, %d in flight", why, s.Errors, s.InFlight)
		}
	}
	check("counted", e.Device.Counted(), n)
	sum := bdev.Stats{}
	for _, s := range e.Device.ChannelStats() {
		if s != nil {
			sum.Add(s)
		}
	}
	check("by reactor", sum, n)
	for _, m := range []bdev.ResetMode{bdev.ResetNone, bdev.ResetMaxMin} {
		if err := e.Device.ResetStats(m); err != nil {
			e.Errorf("%v", err)
		}
		check("after a reset of none or of the extremes", e.Device.Counted(), n)
	}
	if err := e.Device.ResetStats(bdev.ResetErrors); err != nil {
		e.Errorf("%v", err)
	}
	if s := e.Device.Counted(); s.Errors[bdev.StatusOutOfRange] != 0 || s.Kinds[bdev.Read].Errors != 0 || s.Kinds[bdev.Read].Ops != 3*n {
		e.Errorf("after a reset of errors: %v, %d reads", s.Errors, s.Kinds[bdev.Read].Ops)
	}
	if err := e.Device.ResetStats(bdev.ResetAll); err != nil {
		e.Errorf("%v", err)
	}
	check("after a reset of all", e.Device.Counted(), 0)
	check("since it was registered", e.Device.Stats(), n)
}

// starved takes every buffer of every reactor, and lets the device do all that needs one.
func starved(e *Env) {
	held := make([][][]byte, e.Group.Len())
	e.hold(held)
	defer e.letGo(held)
	for _, core := range e.Cores() {
		var jobs []*Job
		for i := range 4 {
			lba := uint64(20 * i)
			for _, op := range []Op{
				{Kind: bdev.Compare, LBA: lba, Data: e.Block(0, 3)},
				{Kind: bdev.Copy, LBA: lba, LBA2: lba + 8, Blocks: 400},
				{Kind: bdev.CompareAndWrite, LBA: lba, Data: e.Block(1, 2), Data2: e.Block(2, 2)},
				{Kind: bdev.WriteZeroes, LBA: lba, Blocks: 500},
				{Kind: bdev.Write, LBA: lba, Data: e.Block(9, 2), Odd: 1},
				{Kind: bdev.Read, LBA: lba, Data: e.Block(9, 2), Odd: 3},
				{Kind: bdev.Read, LBA: lba, Data: e.Block(9, 2)},
			} {
				jobs = append(jobs, e.Begin(core, op))
			}
		}
		for _, j := range jobs {
			j.Wait()
			if !fine(&j.Q) {
				e.Errorf("%v without buffers: %v", j.Q.Kind, j.Q.Status)
			}
		}
		e.finish(jobs)
	}
	// Aborting those that wait.
	for _, core := range e.Cores() {
		said := map[*Job]bool{}
		jobs := e.many(core, 10, func(jobs []*Job) {
			for _, j := range jobs {
				said[j] = j.ch.Abort(&j.Q)
			}
		})
		for _, j := range jobs {
			j.Wait()
			if (j.Q.Status == bdev.StatusAborted) != said[j] {
				e.Errorf("%v without buffers: %v, abort said %v", j.Q.Kind, j.Q.Status, said[j])
			}
		}
		e.finish(jobs)
	}
}

func (e *Env) hold(held [][][]byte) {
	_ = e.Group.Each(func(r *reactor.Reactor) {
		for n := reactor.BufferMax; n >= reactor.PageBytes; n /= 2 {
			for b := r.Memory().Get(n); b != nil; b = r.Memory().Get(n) {
				held[r.Index()] = append(held[r.Index()], b)
			}
		}
	})
}

func (e *Env) letGo(held [][][]byte) {
	_ = e.Group.Each(func(r *reactor.Reactor) {
		for _, b := range held[r.Index()] {
			r.Memory().Put(b)
		}
	})
}

// UnregisterAll unregisters every device, those first that stand on others. It ends at the first that cannot be.
func UnregisterAll(ctx context.Context, reg *bdev.Registry) error {
	for {
		d := reg.Devices()
		if len(d) == 0 {
			return nil
		}
		top := d[0]
		for _, o := range d {
			if o.Layers() > top.Layers() {
				top = o
			}
		}
		if err := reg.Unregister(ctx, top.Name()); err != nil {
			return err
		}
	}
}
