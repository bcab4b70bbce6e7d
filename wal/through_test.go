package wal

import (
	"testing"

	"github.com/pollux-storage/pollux/bdev"
	"github.com/pollux-storage/pollux/internal/sim"
)

// awaited appends a record for which somebody waits, and waits for it.
func (o *opening) awaited(tag uint64, kind Kind, pages int) *add {
	o.m.t.Helper()
	a := newAdd(o)
	o.m.on(func() {
		a.e.Awaited = true
		if !a.put(tag, kind, pages) {
			o.m.t.Fatal("no room")
		}
		o.log.AwaitDurable(&a.wait, a.e.LSN)
	})
	return a
}

// What is awaited is durable when it is written; a placed record when its data has been flushed too, and on a device that cannot a flush is
// needed (V-38, V-42).
func TestWhatIsWrittenThroughNeedsNoFlush(t *testing.T) {
	for _, c := range []struct {
		name    string
		kind    Kind
		without bool
		flushes uint64
	}{
		{"a write", KindWrite, false, 0},
		{"a placed write", KindPlaced, false, 1},
		{"a device without FUA", KindWrite, true, 1},
	} {
		t.Run(c.name, func(t *testing.T) {
			w, all := pool(t, 1, 1)
			o := all[0]
			o.log.through.can = o.log.through.can && !c.without
			before := o.m.disk.Counters().Ops[sim.Flush]
			a := o.awaited(1, c.kind, 1)
			w.Run("it is durable", func() bool { return a.durable })
			if n := o.m.disk.Counters().Ops[sim.Flush] - before; n != c.flushes || a.status != bdev.StatusOK {
				t.Errorf("%d flushes, want %d; %v", n, c.flushes, a.status)
			}
		})
	}
}

// What was written through in front of something that is not durable waits for that: a power cut might take it, and the log would end there.
func TestWhatIsBeforeItComesFirst(t *testing.T) {
	w, all := pool(t, 1, 1)
	o := all[0]
	disk := o.m.disk
	stuck := disk.Inject(sim.Fault{Effect: sim.Stick, Kinds: sim.KindsOf(sim.Flush)})
	before := o.write(1, 1)[0]
	a := o.awaited(2, KindWrite, 1)
	w.Settle()
	b := o.awaited(3, KindWrite, 1) // while the flush for the first is in flight
	w.Settle()
	if _, written, durable := o.log.Marks(); a.durable || b.durable || written != 3 || durable != 0 || disk.Stuck() != 1 {
		t.Fatalf("heard %v, %v; written %d, durable %d, %d flushes in flight", a.durable, b.durable, written, durable, disk.Stuck())
	}
	flushes := disk.Counters().Ops[sim.Flush]
	stuck.Remove()
	stuck.Release()
	w.Run("all have heard", func() bool { return a.durable && b.durable })
	if _, _, durable := o.log.Marks(); durable != 3 || disk.Counters().Ops[sim.Flush] != flushes || before.status != bdev.StatusOK {
		t.Errorf("durable %d after %d more flushes", durable, disk.Counters().Ops[sim.Flush]-flushes)
	}
	// a stage holds it as it holds a flush, and a log that ends meanwhile does not go on
	stages := &Stages{}
	o.m.on(func() { o.log.cfg.Stages = stages; stages.Shut(StageFlush) })
	c := o.awaited(4, KindWrite, 1)
	w.Settle()
	if _, written, durable := o.log.Marks(); c.durable || written != 4 || durable != 3 {
		t.Fatalf("held: heard %v, written %d, durable %d", c.durable, written, durable)
	}
	o.m.on(func() { o.log.Fail(bdev.StatusReadOnly); stages.Open(StageFlush) })
	w.Settle()
	if _, _, durable := o.log.Marks(); !c.durable || c.status != bdev.StatusReadOnly || durable != 3 {
		t.Errorf("ended: heard %v, %v, durable %d", c.durable, c.status, durable)
	}
}

// The data of a placed record is flushed while the record is being written; it counts when both are over, and so does what follows it.
func TestPlacedDataIsFlushedMeanwhile(t *testing.T) {
	for _, kind := range []sim.Kind{sim.Write, sim.Flush} {
		w, all := pool(t, 1, 1)
		o := all[0]
		disk := o.m.disk
		stuck := disk.Inject(sim.Fault{Effect: sim.Stick, Kinds: sim.KindsOf(kind), Count: 1})
		flushes := disk.Counters().Ops[sim.Flush]
		adds := []*add{o.awaited(1, KindPlaced, 1)}
		w.Settle()
		adds = append(adds, o.awaited(2, KindWrite, 1), o.awaited(3, KindPlaced, 1))
		w.Settle()
		_, written, durable := o.log.Marks()
		if heard(adds) != 0 || durable != 0 || disk.Stuck() != 1 || written != map[sim.Kind]LSN{sim.Write: 0, sim.Flush: 3}[kind] {
			t.Fatalf("a stuck %v: %d heard, written %d, durable %d", kind, heard(adds), written, durable)
		}
		stuck.Remove()
		stuck.Release()
		w.Run("all have heard", func() bool { return heard(adds) == len(adds) })
		if n := disk.Counters().Ops[sim.Flush] - flushes; n != 2 || o.log.DurableEnd() != o.log.Head() {
			t.Errorf("a stuck %v: %d flushes; durable to %d, the head is %d", kind, n, o.log.DurableEnd(), o.log.Head())
		}
	}
}
