package initiator

import (
	"fmt"
	"runtime"
	"testing"

	"github.com/pollux-storage/pollux/bdev"
	"github.com/pollux-storage/pollux/nvmf/nvmftest"
)

// spinner keeps requests of one kind in flight, without looking at the data.
type spinner struct {
	ch    *bdev.Channel
	left  int
	open  int
	bad   bdev.Status
	ended chan struct{}
}

func (s *spinner) RequestDone(q *bdev.Request) {
	if q.Status != bdev.StatusOK {
		s.bad = q.Status
	}
	if s.left > 0 {
		s.left--
		s.ch.Submit(q)
		return
	}
	if s.open--; s.open == 0 {
		s.ended <- struct{}{}
	}
}

// TestRequestsAllocateNothing counts the allocations of the whole process, so of the target too.
func TestRequestsAllocateNothing(t *testing.T) {
	for _, digests := range []bool{false, true} {
		for _, queues := range []int{1, 2} { // with one, the other reactor hands its requests over
			e := nvmftest.Start(t, nvmftest.Options{MemoryBytes: 128 << 20})
			h := newHost(t, 2)
			o := options(e.Addr)
			o.HeaderDigest, o.DataDigest, o.NumIOQueues, o.QueueDepth = digests, digests, queues, 8
			h.attach(o)
			d := h.open("Nvme0n1")
			for _, k := range []bdev.Kind{bdev.Read, bdev.Write, bdev.WriteZeroes, bdev.Unmap, bdev.Compare} {
				for _, n := range []int{4096, 64 << 10} {
					t.Run(fmt.Sprintf("digests %v, %d queues, %v, %d bytes", digests, queues, k, n), func(t *testing.T) {
						for i := range 2 {
							s := &spinner{ch: d.channels[i], ended: make(chan struct{}, 1)}
							qs := make([]bdev.Request, 16) // more than the queue holds: the others wait
							for j := range qs {
								q := &qs[j]
								q.Kind, q.LBA, q.Blocks, q.Done = k, uint64(j*16), uint64(n/4096), s
								q.Data = pieces(make([]byte, n), 4096)
							}
							run := func(rounds int) {
								if err := h.group.Reactor(i).Go(func() {
									s.left, s.open = rounds, len(qs)
									for j := range qs {
										s.ch.Submit(&qs[j])
									}
								}); err != nil {
									t.Fatal(err)
								}
								<-s.ended
							}
							if k == bdev.Compare {
								k = bdev.WriteZeroes
								run(100)
								k = bdev.Compare
							}
							run(300)
							var before, after runtime.MemStats
							runtime.ReadMemStats(&before)
							run(500)
							runtime.ReadMemStats(&after)
							if a := after.Mallocs - before.Mallocs; a > 50 {
								t.Errorf("reactor %d: %d allocations in 500 requests", i, a)
							}
							if s.bad != bdev.StatusOK {
								t.Errorf("reactor %d: %v", i, s.bad)
							}
						}
					})
				}
			}
			d.close()
		}
	}
}
