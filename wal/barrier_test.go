package wal

import (
	"slices"
	"testing"

	"github.com/google/uuid"

	"github.com/pollux-storage/pollux/bdev"
	"github.com/pollux-storage/pollux/bdev/bdevsim"
	"github.com/pollux-storage/pollux/internal/sim"
	"github.com/pollux-storage/pollux/reactor"
)

// pool is several logs on one disk, each on a reactor of its own, which share a barrier on the first.
func pool(t *testing.T, seed uint64, logs int) (*bdevsim.World, []*opening) {
	const pages = 1300
	w := bdevsim.NewWorld(t, seed, 3)
	d := w.Disk("Disk0", uint64(logs)*pages*PageBytes)
	var all []*opening
	var shared *Barrier
	for i := range logs {
		m := newMachine(w, d, i%3)
		if shared == nil {
			shared = m.cfg.Barrier
		}
		m.cfg.Barrier, m.cfg.Volume = shared, uuid.NewSHA1(uuid.Nil, []byte{byte(i)})
		m.cfg.Extents = []Extent{{Place: uint64(i * pages), Pages: pages}}
		all = append(all, m.open(State{}))
	}
	return w, all
}

// waits appends n records to each log and lets each be waited for.
func waits(all []*opening, n int, order *[]*add) []*add {
	var out []*add
	for _, o := range all {
		for _, a := range o.write(uint64(len(out)), slices.Repeat([]int{1}, n)...) {
			a.order = order
			out = append(out, a)
			o.m.on(func() { o.log.AwaitDurable(&a.wait, a.e.LSN) })
		}
	}
	return out
}

func heard(all []*add) (n int) {
	for _, a := range all {
		if a.durable {
			n++
		}
	}
	return n
}

// One flush is in flight at a time, whoever waits joins the next, and all who wait share it (V-40, V-42).
func TestLogsShareFlushes(t *testing.T) {
	w, all := pool(t, 1, 6)
	disk := all[0].m.disk
	before := disk.Counters().Ops[sim.Flush]
	out, most := 0, 0
	disk.Watch(func(p sim.Point) {
		if p.Kind == sim.Flush {
			out += 1 - 2*int(p.Stage)
			most = max(most, out)
		}
	})
	adds := waits(all, 8, nil)
	w.Run("all have heard", func() bool { return heard(adds) == len(adds) })
	n := disk.Counters().Ops[sim.Flush] - before
	t.Logf("%d waiters of %d logs, %d flushes", len(adds), len(all), n)
	if most != 1 || n == 0 || n > uint64(len(all))+2 {
		t.Errorf("%d flushes for %d waiters of %d logs, %d at a time", n, len(adds), len(all), most)
	}
	for _, a := range adds {
		if a.status != bdev.StatusOK {
			t.Error(a.status)
		}
	}
	// gathered while one is held up: one more serves all
	stuck := disk.Inject(sim.Fault{Effect: sim.Stick, Kinds: sim.KindsOf(sim.Flush)})
	adds = waits(all[:1], 1, nil)
	w.Settle()
	adds = append(adds, waits(all[1:], 4, nil)...)
	w.Settle()
	if heard(adds) != 0 || disk.Stuck() != 1 {
		t.Fatalf("%d heard, %d flushes in flight", heard(adds), disk.Stuck())
	}
	before = disk.Counters().Ops[sim.Flush]
	stuck.Remove()
	stuck.Release()
	w.Run("all have heard", func() bool { return heard(adds) == len(adds) })
	if n := disk.Counters().Ops[sim.Flush] - before; n != 1 {
		t.Errorf("%d flushes for what gathered during one", n)
	}
}

// A flush that fails, fails all who waited, ends their logs, and is the last: who joins later hears the same (V-40, G-13).
func TestAFailedFlushIsTheLast(t *testing.T) {
	w, all := pool(t, 1, 6)
	disk := all[0].m.disk
	quiet := all[5] // it waits for nothing when the flush fails, and has written something before
	unsynced := quiet.write(1000, 1)
	disk.Inject(sim.Fault{Effect: sim.Fail, Kinds: sim.KindsOf(sim.Flush), Count: 1})
	before := disk.Counters().Ops[sim.Flush]
	adds := waits(all[:5], 13, nil)
	w.Run("all have heard", func() bool { return heard(adds) == len(adds) })
	adds = append(adds, unsynced...)
	quiet.m.on(func() { quiet.log.AwaitDurable(&unsynced[0].wait, unsynced[0].e.LSN) })
	w.Run("the quiet one has heard", func() bool { return unsynced[0].durable })
	for _, a := range adds {
		if a.status != bdev.StatusIO {
			t.Errorf("LSN %d: %v", a.e.LSN, a.status)
		}
	}
	if n := disk.Counters().Ops[sim.Flush] - before; n != 1 {
		t.Errorf("%d flushes, want the one that failed", n)
	}
	w.Settle()
	for i, o := range all {
		a := newAdd(o)
		o.m.on(func() {
			if !a.put(1, KindTrim, 0) {
				t.Error("no room")
			}
		})
		w.Run("it is refused", func() bool { return a.written })
		_, _, durable := o.log.Marks()
		if o.log.Failed() != bdev.StatusIO || a.status != bdev.StatusIO || a.e.LSN != 0 || durable != 0 || !o.log.Idle() || o.log.promised+o.log.reserved != 0 {
			t.Errorf("log %d: %v, then a record with LSN %d: %v; durable %d", i, o.log.Failed(), a.e.LSN, a.status, durable)
		}
		o.close()
	}
}

// A write that fails ends the log, and what is gathered and in flight hears of it in the order of the LSNs.
func TestAFailedWriteEndsTheLog(t *testing.T) {
	_, all := pool(t, 1, 1)
	o := all[0]
	o.m.disk.Inject(sim.Fault{Effect: sim.Tear, Kinds: sim.KindsOf(sim.Write), Reported: true, Count: 1})
	adds := o.write(1, 100, 100, 100, 100, 1, 0, 2)
	if o.m.disk.Counters().Failed[sim.Write] != 1 {
		t.Error("the write did not fail once")
	}
	for _, a := range adds {
		if a.status != bdev.StatusIO {
			t.Errorf("LSN %d: %v", a.e.LSN, a.status)
		}
	}
	if s := o.sync(); s != bdev.StatusIO || o.log.Failed() != bdev.StatusIO {
		t.Errorf("%v, %v", s, o.log.Failed())
	}
}

// While the flush is held nobody hears; then all in the order in which they came (V-35).
func TestNobodyHearsBeforeTheFlush(t *testing.T) {
	w, all := pool(t, 1, 1)
	o := all[0]
	stages := &Stages{}
	o.m.on(func() { o.log.cfg.Stages = stages; stages.Shut(StageFlush) })
	disk := o.m.disk
	before := disk.Counters().Ops[sim.Flush]
	var order []*add
	adds := o.write(1, 1, 0, 2, 1, 3)
	var came []*add
	for _, i := range []int{3, 0, 4, 1, 2} {
		a := adds[i]
		a.order = &order
		came = append(came, a)
		o.m.on(func() { o.log.AwaitDurable(&a.wait, a.e.LSN) })
	}
	w.Settle()
	if _, written, durable := o.log.Marks(); heard(adds) != 0 || written != 5 || durable != 0 || disk.Counters().Ops[sim.Flush] != before || stages.Waiting(StageFlush) != 1 {
		t.Fatalf("%d heard; written %d, durable %d; %d wait at the stage", heard(adds), written, durable, stages.Waiting(StageFlush))
	}
	o.m.on(func() { stages.Open(StageFlush) })
	w.Run("all have heard", func() bool { return heard(adds) == len(adds) })
	if !slices.Equal(order, came) {
		t.Error("they did not hear in the order in which they came")
	}
	// a log that ends while its flush is held flushes no more
	o.m.on(func() { stages.Shut(StageFlush) })
	more := waits(all, 3, nil)
	before = disk.Counters().Ops[sim.Flush]
	o.m.on(func() { o.log.Fail(bdev.StatusReadOnly); stages.Open(StageFlush) })
	w.Settle()
	if heard(more) != 3 || more[0].status != bdev.StatusReadOnly || disk.Counters().Ops[sim.Flush] != before {
		t.Errorf("%d heard, %v", heard(more), more[0].status)
	}
}

// again waits once more when it hears, and may end the log.
type again struct {
	add
	end bool
}

func (a *again) LogDurable(w *Waiter, s bdev.Status) {
	a.add.LogDurable(w, s)
	if a.end {
		a.o.log.Fail(bdev.StatusReadOnly)
	} else if len(*a.order) < 4 {
		a.o.log.AwaitDurable(w, 2)
	}
}

// Who hears may wait again, behind the others, or end the log: then all others hear too.
func TestWhoHearsMayWaitAgainOrEndTheLog(t *testing.T) {
	for _, end := range []bool{false, true} {
		w, all := pool(t, 1, 1)
		o := all[0]
		stages := &Stages{}
		o.m.on(func() { o.log.cfg.Stages = stages; stages.Shut(StageWrite) })
		var order []*add
		first, second := &again{add: *newAdd(o), end: end}, newAdd(o)
		first.e.Done, first.wait.Done = first, first
		first.order, second.order = &order, &order
		o.m.on(func() {
			stages.Open(StageWrite)
			first.put(1, KindWrite, 1)
		})
		w.Run("the first is written", func() bool { return first.written })
		o.m.on(func() {
			stages.Shut(StageWrite)
			second.put(2, KindWrite, 1)
			o.log.AwaitDurable(&first.wait, 1)
			o.log.AwaitDurable(&second.wait, 2)
		})
		w.Run("the first has heard", func() bool { return len(order) > 0 })
		w.Settle()
		o.m.on(func() { stages.Open(StageWrite) })
		w.Run("the second has heard", func() bool { return second.durable })
		w.Settle()
		switch {
		case end && (second.status != bdev.StatusReadOnly || len(order) != 2):
			t.Errorf("the log was ended: %v, %d heard", second.status, len(order))
		case !end && (len(order) < 3 || order[1] != second || order[2] != &first.add):
			t.Errorf("who waited again did not stay behind: %d heard", len(order))
		}
	}
}

// rejoin joins the next flush as soon as it has heard of one, and lets a second join a little later in the same tick.
type rejoin struct {
	b     *Barrier
	join  Join
	other *rejoin
	later reactor.Deferred
	left  int
}

func (j *rejoin) Flushed(*Join, bdev.Status) {
	if j.left--; j.left > 0 && j.other != nil {
		j.b.Join(j.b.r, &j.join)
		j.b.r.Defer(&j.later, j)
	}
}

func (j *rejoin) Run() {
	if o := j.other; !o.join.in {
		j.b.Join(j.b.r, &o.join)
	}
}

// Who joins while a flush has just begun waits for the next, whatever was asked for in the same tick.
func TestOneFlushAtATime(t *testing.T) {
	w, all := pool(t, 1, 1)
	b := all[0].log.cfg.Barrier
	j := &rejoin{b: b, left: 20, other: &rejoin{b: b}}
	j.join.Done, j.other.join.Done = j, j.other
	all[0].m.on(func() { b.Join(b.r, &j.join) })
	before := b.Flushes()
	w.Run("all have joined", func() bool { return j.left == 0 })
	w.Settle()
	all[0].m.on(b.Close)
	if n := b.Flushes() - before; n < 20 || n > 22 || j.other.left > -10 {
		t.Errorf("%d flushes, the other heard %d times", n, -j.other.left)
	}
}

// syncer waits for the flush as soon as its entry is written.
type syncer struct{ *add }

func (s syncer) EntryWritten(e *Entry, st bdev.Status) {
	s.add.EntryWritten(e, st)
	s.o.log.AwaitDurable(&s.wait, e.LSN)
}

// Who waits for the flush when an entry is written waits for the same as all others of the batch: for one, of all of it.
func TestABatchNeedsOneFlush(t *testing.T) {
	w := bdevsim.NewWorld(t, 1, 1)
	m := newMachine(w, w.Disk("Disk0", diskBytes), 0)
	o := m.open(State{Tail: 0, Offset: 0, Life: 3, LSN: 10})
	const batches, records = 5, 20
	flushes := m.cfg.Barrier.Flushes()
	for b := range batches {
		var all []syncer
		m.on(func() {
			for i := range records {
				s := syncer{newAdd(o)}
				s.e.Done = s
				if !s.put(uint64(b*records+i), KindWrite, 1) {
					t.Fatal("no room")
				}
				all = append(all, s)
			}
		})
		w.Run("all is durable", func() bool {
			return !slices.ContainsFunc(all, func(s syncer) bool { return !s.durable })
		})
	}
	if n := m.cfg.Barrier.Flushes() - flushes; n != batches {
		t.Errorf("%d flushes of %d batches", n, batches)
	}
	o.close()
}
