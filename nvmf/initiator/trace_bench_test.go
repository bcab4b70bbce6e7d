package initiator

import (
	"errors"
	"testing"
	"time"

	"github.com/pollux-storage/pollux/bdev"
	"github.com/pollux-storage/pollux/nvmf"
	"github.com/pollux-storage/pollux/nvmf/nvmftest"
)

// BenchmarkTrace reads 4 KiB over loopback with 32 requests in flight, without a trace, with one of 64 commands looked at, and with all.
func BenchmarkTrace(b *testing.B) {
	for _, c := range []struct {
		name  string
		every uint32
	}{{"off", 0}, {"64", 64}, {"1", 1}} {
		b.Run(c.name, func(b *testing.B) {
			e := nvmftest.Start(b, nvmftest.Options{MemoryBytes: 64 << 20})
			h := newHost(b, 1)
			o := options(e.Addr)
			o.NumIOQueues, o.QueueDepth = 1, 64
			h.attach(o)
			d := h.open("Nvme0n1")
			if c.every > 0 {
				x, err := e.Target.Trace(c.every)
				if err != nil {
					b.Fatal(err)
				}
				defer func() {
					counts, err := x.Take(func(*nvmf.TraceRecord) {})
					if err = errors.Join(err, x.Stop()); err != nil {
						b.Error(err)
					}
					b.ReportMetric(float64(counts.Lost)/float64(counts.Seen), "lost/op")
				}()
				stop, ended := make(chan struct{}), make(chan struct{})
				defer func() { close(stop); <-ended }()
				go func() {
					defer close(ended)
					for tick := time.NewTicker(25 * time.Millisecond); ; {
						select {
						case <-tick.C:
							if _, err := x.Take(func(*nvmf.TraceRecord) {}); err != nil {
								b.Error(err)
							}
						case <-stop:
							tick.Stop()
							return
						}
					}
				}()
			}
			s := &spinner{ch: d.channels[0], ended: make(chan struct{}, 1)}
			qs := make([]bdev.Request, 32)
			for j := range qs {
				q := &qs[j]
				q.Kind, q.LBA, q.Blocks, q.Done = bdev.Read, uint64(j), 1, s
				q.Data = pieces(make([]byte, 4096), 4096)
			}
			b.ResetTimer()
			if err := h.group.Reactor(0).Go(func() {
				s.left, s.open = b.N, len(qs)
				for j := range qs {
					s.ch.Submit(&qs[j])
				}
			}); err != nil {
				b.Fatal(err)
			}
			<-s.ended
			b.StopTimer()
			d.close()
		})
	}
}
