package bdev_test

import (
	"errors"
	"runtime"
	"testing"

	"github.com/google/uuid"

	"github.com/pollux-storage/pollux/bdev"
	"github.com/pollux-storage/pollux/bdev/bdevtest"
	"github.com/pollux-storage/pollux/reactor"
)

func nullDevice(t bdevtest.T, g *bdev.Registry, blockSize uint32) *bdev.Device {
	d, err := bdev.NewNull(g, "Null0", uuid.Nil, blockSize, 1<<20)
	if err != nil {
		t.Fatalf("%v", err)
	}
	return d
}

var someHistogram = bdev.HistogramOptions{Kinds: bdev.SetOf(bdev.Read), Granularity: 7, Min: reactor.Microsecond, Max: reactor.Second}

// doing carries out n requests of a kind on each reactor, one after the other.
func doing(t *testing.T, e *bdevtest.Env, k bdev.Kind, n int) {
	t.Helper()
	for _, core := range e.Cores() {
		for range n {
			e.Do(core, bdevtest.Op{Kind: k, Data: make([]byte, e.G.BlockSize)})
		}
	}
}

// counted is how many requests the device's histogram holds.
func counted(t *testing.T, d *bdev.Device) uint64 {
	t.Helper()
	h, err := d.Histogram()
	if err != nil || h == nil {
		t.Fatal(h, err)
	}
	return h.Total()
}

func TestHistogramCountsWhatWasAskedFor(t *testing.T) {
	e := rig(t, 2, 512, nullDevice)
	d := e.Device
	if h, err := d.Histogram(); h != nil || err != nil {
		t.Error("there is one before it was asked for", err)
	}
	doing(t, e, bdev.Read, 1)
	if err := d.EnableHistogram(someHistogram); err != nil {
		t.Fatal(err)
	}
	doing(t, e, bdev.Read, 3)
	doing(t, e, bdev.Write, 2)
	if n := counted(t, d); n != 6 {
		t.Errorf("%d reads, want 6", n)
	}
	if err := d.EnableHistogram(someHistogram); err != nil {
		t.Fatal(err)
	}
	if n := counted(t, d); n != 6 {
		t.Errorf("asked for once more it has %d reads, want 6", n)
	}
	all := someHistogram
	all.Kinds, all.Granularity = bdev.SetOf(bdev.Read, bdev.Write), 3
	if err := d.EnableHistogram(all); err != nil {
		t.Fatal(err)
	}
	if n := counted(t, d); n != 0 {
		t.Errorf("with other options it still has %d", n)
	}
	doing(t, e, bdev.Write, 2)
	for _, core := range e.Cores() { // a failed one counts
		if r := e.Do(core, bdevtest.Op{Kind: bdev.Read, LBA: e.G.Blocks, Data: make([]byte, 512)}); r.Status != bdev.StatusOutOfRange {
			t.Error(r.Status)
		}
	}
	if n := counted(t, d); n != 6 {
		t.Errorf("%d, want 4 writes and 2 reads that failed", n)
	}
	if err := d.DisableHistogram(); err != nil {
		t.Fatal(err)
	}
	doing(t, e, bdev.Read, 1)
	if h, err := d.Histogram(); h != nil || err != nil {
		t.Error("there is one after its end", err)
	}
}

func TestHistogramOutlivesAChannel(t *testing.T) {
	g := registry(t, 1)
	d := nullDevice(t, g, 512)
	if err := d.EnableHistogram(someHistogram); err != nil { // before anybody opened it
		t.Fatal(err)
	}
	for want := uint64(1); want <= 2; want++ {
		h, err := g.Open("Null0", bdev.OpenOptions{Who: "test"})
		if err != nil {
			t.Fatal(err)
		}
		cs, err := h.Channels()
		if err != nil {
			t.Fatal(err)
		}
		q, end := &bdev.Request{Kind: bdev.Read, Blocks: 1}, make(done)
		q.SetData(make([]byte, 512))
		q.Done = end
		call(g.Group().Reactor(0), func() { cs[0].Submit(q) })
		<-end
		bdev.CloseChannels(cs)
		h.Close()
		if n := counted(t, d); n != want {
			t.Errorf("%d, want %d", n, want)
		}
	}
	unregister(t, g, "Null0")
}

type done chan struct{}

func (d done) RequestDone(*bdev.Request) { close(d) }

func TestHistogramRefuses(t *testing.T) {
	d := nullDevice(t, registry(t, 1), 512)
	for name, change := range map[string]func(o *bdev.HistogramOptions){
		"nothing to count":  func(o *bdev.HistogramOptions) { o.Kinds = 0 },
		"upside down":       func(o *bdev.HistogramOptions) { o.Min, o.Max = o.Max, o.Min },
		"below nothing":     func(o *bdev.HistogramOptions) { o.Min = -1 },
		"too fine":          func(o *bdev.HistogramOptions) { o.Granularity = 15 },
		"finer than a word": func(o *bdev.HistogramOptions) { o.Granularity = 255 },
	} {
		o := someHistogram
		change(&o)
		if err := d.EnableHistogram(o); !errors.Is(err, bdev.ErrInvalid) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if h, err := d.Histogram(); h != nil || err != nil {
		t.Error("what was refused is on", err)
	}
	unregister(t, d.Registry(), "Null0")
}

// again submits a request until n have ended.
type again struct {
	c    *bdev.Channel
	left int
	end  chan struct{}
}

func (a *again) RequestDone(q *bdev.Request) {
	if a.left--; a.left > 0 {
		a.c.Submit(q)
		return
	}
	a.end <- struct{}{}
}

func TestHistogramAllocatesNothing(t *testing.T) {
	e := rig(t, 1, 512, nullDevice)
	if err := e.Device.EnableHistogram(someHistogram); err != nil {
		t.Fatal(err)
	}
	a := &again{c: e.Channels[0], end: make(chan struct{}, 1)}
	q := &bdev.Request{Kind: bdev.Read, Blocks: 1, Done: a}
	q.SetData(make([]byte, 512))
	begin := func() { a.left = 10_000; a.c.Submit(q) }
	var before, after runtime.MemStats
	for range 2 { // what the first round allocates does not count
		runtime.ReadMemStats(&before)
		call(e.Group.Reactor(0), begin)
		<-a.end
		runtime.ReadMemStats(&after)
	}
	if n := after.Mallocs - before.Mallocs; n > 100 {
		t.Errorf("%d allocations in 10000 requests", n)
	}
	if n := counted(t, e.Device); n != 20_000 {
		t.Errorf("%d counted", n)
	}
}
