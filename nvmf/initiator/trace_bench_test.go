package initiator

import (
	"errors"
	"runtime"
	"slices"
	"testing"
	"time"

	"github.com/pollux-storage/pollux/bdev"
	"github.com/pollux-storage/pollux/nvmf"
	"github.com/pollux-storage/pollux/nvmf/nvmftest"
	"github.com/pollux-storage/pollux/reactor"
)

// BenchmarkTrace reads 4 KiB over loopback with 32 requests in flight, in short turns without a trace, with one of 64 commands looked at and with
// all. It gives the time of a request in the fastest tenth of the turns of each, which others on the machine disturb least, and their ratios.
func BenchmarkTrace(b *testing.B) {
	const reads = 500 // of one turn
	e := nvmftest.Start(b, nvmftest.Options{MemoryBytes: 64 << 20})
	h := newHost(b, 1)
	o := options(e.Addr)
	o.NumIOQueues, o.QueueDepth = 1, 64
	h.attach(o)
	d := h.open("Nvme0n1")
	defer d.close()
	s := d.spin(0, 32, bdev.Read, 4096, 1)
	turn := func() time.Duration {
		began := reactor.Clock()
		s.run(reads)
		return time.Duration(reactor.Clock() - began)
	}
	ways := []uint32{0, 64, 1}
	times := make([][]time.Duration, len(ways))
	for range b.N {
		for w, every := range ways {
			x, err := e.Target.Trace(max(every, 1))
			if err == nil && every == 0 { // what a trace needs of memory disturbs all alike
				err = x.Stop()
			}
			if err != nil {
				b.Fatal(err)
			}
			turn() // memory is touched for the first time
			runtime.GC()
			_, before := x.Take(func(*nvmf.TraceRecord) {})
			times[w] = append(times[w], turn())
			c, after := x.Take(func(*nvmf.TraceRecord) {})
			if err := errors.Join(before, after, x.Stop()); err != nil || c.Lost > 0 {
				b.Fatal(c, err)
			}
		}
	}
	fast := func(w int) float64 {
		slices.Sort(times[w])
		return float64(times[w][len(times[w])/20]) / (reads + float64(len(s.qs)))
	}
	off := fast(0)
	b.ReportMetric(0, "ns/op")
	b.ReportMetric(off, "ns/off")
	b.ReportMetric(fast(1)/off, "64/off")
	b.ReportMetric(fast(2)/off, "all/off")
}
