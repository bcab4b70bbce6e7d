package volume

import (
	"context"
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/google/uuid"

	"github.com/pollux-storage/pollux/bdev"
	"github.com/pollux-storage/pollux/reactor"
)

// load submits requests of one kind at random places, so many at once, until so many have ended.
type load struct {
	c     *bdev.Channel
	kind  bdev.Kind
	n     uint64 // blocks of each
	span  uint64
	rand  *rand.Rand
	left  int
	out   int
	ended chan struct{}
}

type loadRequest struct {
	bdev.Request
	l *load
}

func (q *loadRequest) submit() {
	l := q.l
	l.left--
	l.out++
	q.Kind, q.LBA, q.Blocks = l.kind, l.rand.Uint64N(l.span/l.n)*l.n, l.n
	l.c.Submit(&q.Request)
}

func (q *loadRequest) RequestDone(b *bdev.Request) {
	l := q.l
	l.out--
	if b.Status != bdev.StatusOK {
		panic(b.Status.String())
	}
	if l.left > 0 {
		q.submit()
	} else if l.out == 0 {
		close(l.ended)
	}
}

// BenchmarkVolume is the cost of requests to a volume whose pool is in memory, and what it writes for each byte of the host.
func BenchmarkVolume(b *testing.B) {
	for _, kind := range []bdev.Kind{bdev.Write, bdev.Read} {
		for _, blocks := range []uint64{1, 4, 16, 64} {
			for _, depth := range []int{1, 32} {
				b.Run(fmt.Sprintf("%v/%dk/qd%d", kind, blocks*4, depth), func(b *testing.B) { benchmark(b, kind, blocks, depth) })
			}
		}
	}
}

func benchmark(b *testing.B, kind bdev.Kind, blocks uint64, depth int) {
	g, err := reactor.Start(reactor.Config{Cores: []int{-1}, Idle: reactor.Poll, MemoryBytes: 128 << 20})
	if err != nil {
		b.Fatal(err)
	}
	reg := bdev.NewRegistry(g)
	const poolBytes, volumeBytes = 1 << 30, 512 << 20
	if _, err := bdev.NewMem(reg, "m", uuid.New(), 4096, poolBytes/4096); err != nil {
		b.Fatal(err)
	}
	p, err := CreatePool(reg, "m", PoolConfig{Name: "p", Server: uuid.New()})
	if err != nil {
		b.Fatal(err)
	}
	v, err := p.CreateVolume(VolumeConfig{Name: "v", Bytes: volumeBytes})
	if err != nil {
		b.Fatal(err)
	}
	h, err := reg.Open(v.Device().Name(), bdev.OpenOptions{Who: "benchmark"})
	if err != nil {
		b.Fatal(err)
	}
	var c *bdev.Channel
	r := g.Reactor(0)
	run := func(kind bdev.Kind, blocks uint64, depth, n int) {
		l := &load{c: c, kind: kind, n: blocks, span: volumeBytes / 4096, rand: rand.New(rand.NewPCG(1, 2)), left: n, ended: make(chan struct{})}
		var all []*loadRequest
		_ = r.Call(func() {
			for range min(depth, n) {
				q := &loadRequest{l: l}
				q.Done = q
				q.SetData(r.Memory().Get(int(blocks) * 4096))
				all = append(all, q)
			}
			for _, q := range all {
				q.submit()
			}
		})
		<-l.ended
		_ = r.Call(func() {
			for _, q := range all {
				r.Memory().Put(q.Data[0])
				q.Release()
			}
		})
	}
	_ = r.Call(func() { c, err = h.Channel(r) })
	if err != nil {
		b.Fatal(err)
	}
	run(bdev.Write, 16, 32, volumeBytes/65536*2) // most of it is mapped
	written := func() (n uint64) {
		_ = r.Call(func() { n = p.data.Stats().Kinds[bdev.Write].Bytes })
		return n
	}
	before := written()
	b.ResetTimer()
	run(kind, blocks, depth, b.N)
	b.StopTimer()
	if kind == bdev.Write {
		b.ReportMetric(float64(written()-before)/float64(uint64(b.N)*blocks*4096), "device-bytes/byte")
	}
	_ = r.Call(c.Close)
	h.Close()
	if err := p.Export(context.Background()); err != nil {
		b.Fatal(err)
	}
	if err := reg.Unregister(context.Background(), "m"); err != nil { // a gigabyte of memory
		b.Fatal(err)
	}
	if err := g.Stop(context.Background()); err != nil {
		b.Fatal(err)
	}
}
