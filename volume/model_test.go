package volume

import (
	"fmt"
	"math"
	"math/rand/v2"
	"testing"

	"github.com/google/uuid"

	"github.com/pollux-storage/pollux/bdev"
	"github.com/pollux-storage/pollux/bdev/bdevsim"
	"github.com/pollux-storage/pollux/internal/hist"
	"github.com/pollux-storage/pollux/reactor"
	"github.com/pollux-storage/pollux/wal"
)

// This file is how fast a volume is on devices that are described by a few numbers, in the time of a simulated world: what waits for what
// decides these figures, and neither the machine nor its other users. They say nothing of the processor time of a request.
//
//	go test ./volume -run '^$' -bench Model -benchtime 1x

// model is a device: so many requests are served at once, each takes each + its pages, and is heard of later.
type model struct {
	name                     string
	atOnce                   int
	read, write, page, flush reactor.Ticks
	later                    reactor.Ticks
	behind                   bool // a write with FUA has a flush behind it, by the kernel
}

var models = []model{
	// A virtual disk: one thread of the host serves it. The numbers are those of the folder of 2026-11-22 in bench/results.
	{"virtio", 1, 12 * reactor.Microsecond, 28 * reactor.Microsecond, 1 * reactor.Microsecond, 60 * reactor.Microsecond, 35 * reactor.Microsecond, true},
	// An SSD with power loss protection: flushes cost next to nothing.
	{"nvme", 16, 70 * reactor.Microsecond, 12 * reactor.Microsecond, 1500, 10 * reactor.Microsecond, 5 * reactor.Microsecond, false},
	// An SSD without.
	{"consumer", 8, 60 * reactor.Microsecond, 16 * reactor.Microsecond, 2 * reactor.Microsecond, 800 * reactor.Microsecond, 5 * reactor.Microsecond, true},
}

// modelDisk is such a device in a world.
type modelDisk struct {
	model
	mem      []byte
	free     []reactor.Ticks // when each server is
	flushEnd reactor.Ticks   // of the last flush, which those join that come before it begins
	flushAt  reactor.Ticks
	busy     reactor.Ticks
	ops      [bdev.Kinds]uint64
	written  uint64 // bytes
}

type modelQueue struct {
	d     *modelDisk
	r     *reactor.Reactor
	spare *modelFlight
}

type modelFlight struct {
	c     *modelQueue
	q     *bdev.Request
	timer reactor.Timer
	next  *modelFlight
}

func (d *modelDisk) Open(r *reactor.Reactor) (bdev.Queue, error) { return &modelQueue{d: d, r: r}, nil }
func (d *modelDisk) Close() error                                { return nil }
func (d *modelDisk) Describe() any                               { return nil }
func (c *modelQueue) Close()                                     {}

// serve finds a server and says when it will be done.
func (d *modelDisk) serve(now, takes reactor.Ticks) (begin, end reactor.Ticks) {
	best := 0
	for i, t := range d.free {
		if t < d.free[best] {
			best = i
		}
	}
	begin = max(now, d.free[best])
	d.free[best] = begin + takes
	d.busy += takes
	return begin, begin + takes
}

// flushFrom says when a flush that is asked for at a time has ended: who comes while one is under way joins the next.
func (d *modelDisk) flushFrom(at reactor.Ticks) reactor.Ticks {
	if at >= d.flushAt {
		d.ops[bdev.Flush]++
		d.flushAt, d.flushEnd = d.serve(max(at, d.flushEnd), d.flush)
	}
	return d.flushEnd
}

func (c *modelQueue) Submit(q *bdev.Request) {
	d, now := c.d, c.r.Now()
	f := c.spare
	if f == nil {
		f = &modelFlight{c: c}
	} else {
		c.spare = f.next
	}
	f.q = q
	var end reactor.Ticks
	pages := reactor.Ticks(q.Blocks)
	switch q.Kind {
	case bdev.Read:
		d.ops[q.Kind]++
		mem := d.mem[q.LBA*PageBytes:]
		for _, b := range q.Data {
			mem = mem[copy(b, mem):]
		}
		_, end = d.serve(now, d.read+pages*d.page)
	case bdev.Write:
		d.ops[q.Kind]++
		mem := d.mem[q.LBA*PageBytes:]
		for _, b := range q.Data {
			mem = mem[copy(mem, b):]
		}
		d.written += q.Blocks * PageBytes
		if _, end = d.serve(now, d.write+pages*d.page); q.FUA && d.behind {
			end = d.flushFrom(end)
		}
	case bdev.Flush:
		end = d.flushFrom(now)
	default:
		clear(d.mem[q.LBA*PageBytes:][:q.Blocks*PageBytes])
		_, end = d.serve(now, d.write)
	}
	c.r.SetTimer(&f.timer, end+d.later, f)
}

func (f *modelFlight) Run() {
	q := f.q
	f.q, f.next = nil, f.c.spare
	f.c.spare = f
	q.Complete(bdev.StatusOK)
}

// modelClient writes, and flushes after each write if it is told to.
type modelClient struct {
	bdev.Request
	l    *modelLoad
	buf  []byte
	from reactor.Ticks
	wait bool // for its flush
}

type modelLoad struct {
	r       *reactor.Reactor
	c       *bdev.Channel
	rand    *rand.Rand
	kind    bdev.Kind
	span, n uint64
	next    uint64
	seq     bool
	sync    bool
	stop    bool
	out     int
	latency hist.Histogram
	done    uint64
}

func (k *modelClient) submit() {
	l := k.l
	l.out++
	k.from = l.r.Now()
	k.Kind, k.Blocks = l.kind, l.n
	if l.seq {
		k.LBA = l.next % (l.span / l.n) * l.n
		l.next++
	} else {
		k.LBA = l.rand.Uint64N(l.span/l.n) * l.n
	}
	k.SetData(k.buf)
	l.c.Submit(&k.Request)
}

func (k *modelClient) RequestDone(q *bdev.Request) {
	l := k.l
	l.out--
	if q.Status != bdev.StatusOK {
		panic(q.Status.String())
	}
	if !k.wait {
		l.done++
		l.latency.Record(uint64(l.r.Now() - k.from))
		if l.sync {
			k.wait = true
			l.out++
			k.Kind, k.LBA, k.Blocks, k.Data = bdev.Flush, 0, 0, nil
			l.c.Submit(&k.Request)
			return
		}
	}
	k.wait = false
	if !l.stop {
		k.submit()
	}
}

// loadCase is one load on a target.
type loadCase struct {
	target string // raw: the device itself; none, volatile: a volume with this cache
	kind   bdev.Kind
	blocks uint64
	depth  int
	sync   bool // a flush after each write
	seq    bool
	tight  bool   // the pool has little room beside the volume
	bytes  uint64 // of a cluster; 0: the default
	logged bool   // whole clusters go through the log
	fua    bool   // the device has FUA
}

func (c loadCase) String() string {
	s := fmt.Sprintf("write%dk/qd%d/%s/%s", c.blocks*4, c.depth, map[bool]string{true: "synced", false: "plain"}[c.sync], c.target)
	if c.bytes > 0 {
		s += fmt.Sprintf("/cluster%dk", c.bytes>>10)
	}
	if c.logged {
		s += "/logged"
	}
	if c.tight {
		s += "/tight"
	}
	if c.fua {
		s += "/fua"
	}
	return s
}

// BenchmarkModel is IOPS and latency of a volume, and of the device under it, on devices as the models say. A second passes before it counts.
func BenchmarkModel(b *testing.B) {
	var cases []loadCase
	for _, depth := range []int{1, 8, 32, 128} {
		for _, sync := range []bool{true, false} {
			for _, target := range []string{"raw", "none", "volatile"} {
				if target == "none" && !sync {
					continue
				}
				cases = append(cases, loadCase{target: target, kind: bdev.Write, blocks: 1, depth: depth, sync: sync})
			}
		}
	}
	for _, target := range []string{"raw", "none", "volatile"} {
		cases = append(cases, loadCase{target: target, kind: bdev.Write, blocks: 32, depth: 8, seq: true})
	}
	cases = append(cases, loadCase{target: "none", kind: bdev.Write, blocks: 1, depth: 32, sync: true, tight: true})
	for _, c := range cases {
		if c.target == "none" {
			c.fua = true
			cases = append(cases, c)
		}
	}
	for _, m := range models {
		for _, c := range cases {
			b.Run(fmt.Sprintf("%s/%v", m.name, c), func(b *testing.B) { c.run(b, m) })
		}
	}
}

// run puts the load on.
func (c loadCase) run(b modelTest, m model) *modelLoad {
	bytes := uint64(4 << 30)
	if c.tight {
		bytes = 1 << 30
	}
	w := bdevsim.NewWorld(b, 1, 1)
	w.Rounds = 1 << 40
	const span = 640 << 20
	d := &modelDisk{model: m, mem: pageMemory(int(bytes / PageBytes)), free: make([]reactor.Ticks, m.atOnce)}
	var fua bdev.KindSet
	if c.fua {
		fua = bdev.SetOf(bdev.Write)
	}
	dev, err := w.Registry.Register(bdev.Config{
		Name: "Disk0", Product: "model", UUID: uuid.New(), Driver: d,
		Geometry: bdev.Geometry{
			BlockSize: PageBytes, Blocks: bytes / PageBytes, Volatile: true, UnmapZeroes: true,
			Native: bdev.SetOf(bdev.Read, bdev.Write, bdev.Flush, bdev.Unmap, bdev.WriteZeroes), NativeFUA: fua,
		},
	})
	if err != nil {
		b.Fatal(err)
	}
	var v *Volume
	if c.target != "raw" {
		p, err := CreatePool(w.Registry, "Disk0", PoolConfig{
			Name: "p", Server: houseServer, ClusterBytes: c.bytes, Await: func(until func() bool) { w.Run("control work", until) },
		})
		if err != nil {
			b.Fatal(err)
		}
		cfg := VolumeConfig{Name: "v", Bytes: span}
		if c.target == "volatile" {
			cfg.Cache = CacheVolatile
		}
		if v, err = p.CreateVolume(cfg); err != nil {
			b.Fatal(err)
		}
		dev = v.Device()
		if c.logged {
			v.placedFrom = math.MaxUint64
		}
	}
	h, err := w.Registry.Open(dev.Name(), bdev.OpenOptions{Who: "benchmark"})
	if err != nil {
		b.Fatal(err)
	}
	l := &modelLoad{rand: rand.New(rand.NewPCG(1, 2)), kind: bdev.Write, span: span / PageBytes}
	var all []*modelClient
	begin := func(depth int, blocks uint64, sync, seq bool) {
		l.n, l.sync, l.seq, l.next, l.stop, l.done = blocks, sync, seq, 0, false, 0
		l.latency = hist.Histogram{}
		all = nil
		w.On(0, func(r *reactor.Reactor) {
			for range depth {
				k := &modelClient{l: l, buf: pageMemory(int(blocks))}
				k.Done = k
				all = append(all, k)
				k.submit()
			}
		})
	}
	end := func() {
		l.stop = true
		w.Run("the load is over", func() bool { return l.out == 0 })
	}
	w.On(0, func(r *reactor.Reactor) {
		l.r = r
		l.c, err = h.Channel(r)
	})
	if err != nil {
		b.Fatal(err)
	}
	begin(8, 256, false, true) // all is mapped
	w.Run("all is mapped", func() bool { return l.done >= l.span/256 })
	end()
	begin(c.depth, c.blocks, c.sync, c.seq)
	w.RunFor(reactor.Second)
	l.done, l.latency = 0, hist.Histogram{}
	busy := d.busy
	before, written := d.ops, d.written
	var was, is wal.Stats
	var checkpoints uint64
	if v != nil {
		was, checkpoints = v.log.Stats(), v.counters.Checkpoints
	}
	long := 2 * reactor.Second
	w.RunFor(long)
	seconds := float64(long) / float64(reactor.Second)
	b.ReportMetric(float64(l.done)/seconds, "IOPS")
	b.ReportMetric(float64(l.latency.Quantile(0.5))/1e3, "p50-µs")
	b.ReportMetric(float64(l.latency.Quantile(0.99))/1e3, "p99-µs")
	b.ReportMetric(float64(d.busy-busy)/float64(long)/float64(m.atOnce), "busy")
	b.ReportMetric(float64(d.ops[bdev.Write]-before[bdev.Write])/float64(l.done), "writes/IO")
	b.ReportMetric(float64(d.written-written)/float64(l.done*c.blocks*PageBytes), "bytes/byte")
	b.ReportMetric(float64(d.ops[bdev.Read]-before[bdev.Read])/float64(l.done), "reads/IO")
	b.ReportMetric(float64(d.ops[bdev.Flush]-before[bdev.Flush])/float64(l.done), "flushes/IO")
	if v != nil {
		is = v.log.Stats()
		b.ReportMetric(float64(is.Batches-was.Batches)/float64(l.done), "batches/IO")
		b.ReportMetric(float64(v.counters.Checkpoints-checkpoints)/seconds, "checkpoints/s")
	}
	b.ReportMetric(0, "ns/op")
	end()
	return l
}

// modelTest is what runs a load: a benchmark, or a test of what the time of a simulated world says.
type modelTest interface {
	testing.TB
	ReportMetric(n float64, unit string)
}

type modelCheck struct{ *testing.T }

func (modelCheck) ReportMetric(float64, string) {}

// A host that writes alone stands behind few of the flusher's writes, as long as the flusher is not behind.
func TestTheFlusherLeavesTheDeviceToHosts(t *testing.T) {
	l := loadCase{target: "none", kind: bdev.Write, blocks: 1, depth: 1, sync: true}.run(modelCheck{t}, models[0])
	if p50, p99 := l.latency.Quantile(0.5), l.latency.Quantile(0.99); p99 > 2*p50 {
		t.Errorf("p99 is %.0f us where p50 is %.0f us", p99/1e3, p50/1e3)
	}
}

func TestPace(t *testing.T) {
	for _, c := range []struct {
		behind, part uint64
		most, want   int
	}{
		{0, 100, 16, 2}, {50, 100, 16, 2}, {51, 100, 16, 2}, {75, 100, 16, 9}, {99, 100, 16, 15}, {100, 100, 16, 16}, {1 << 40, 100, 16, 16}, {80, 100, 2, 2},
		{0, 100, 1, 1},
	} {
		if got := paceAt(c.behind, c.part, c.most); got != c.want {
			t.Errorf("%d of %d behind, at most %d: %d, want %d", c.behind, c.part, c.most, got, c.want)
		}
	}
}

// BenchmarkClusters is what the choice of a cluster's size is made by, and of the size from which on writes go to new places first: IOPS, and
// bytes that the device writes for each byte of the host, of writes at random places, each with its flush.
//
//	go test ./volume -run '^$' -bench Clusters -benchtime 1x -timeout 30m
func BenchmarkClusters(b *testing.B) {
	for _, m := range models[:2] {
		for blocks := uint64(1); blocks <= 256; blocks *= 4 {
			for bytes := uint64(64 << 10); bytes <= 1<<20; bytes *= 2 {
				c := loadCase{target: "none", blocks: blocks, depth: 8, sync: true, bytes: bytes}
				b.Run(fmt.Sprintf("%s/%v", m.name, c), func(b *testing.B) { c.run(b, m) })
				if blocks*PageBytes >= bytes {
					c.logged = true
					b.Run(fmt.Sprintf("%s/%v", m.name, c), func(b *testing.B) { c.run(b, m) })
				}
			}
		}
	}
}
