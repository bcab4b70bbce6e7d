package initiator

import (
	"fmt"
	"runtime"
	"testing"

	"github.com/pollux-storage/pollux/bdev"
	"github.com/pollux-storage/pollux/nvmf/nvmftest"
)

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
							s := d.spin(i, 16, k, n, 16) // more than the queue holds: the others wait
							if k == bdev.Compare {
								k = bdev.WriteZeroes
								s.run(100)
								k = bdev.Compare
							}
							s.run(300)
							var before, after runtime.MemStats
							runtime.ReadMemStats(&before)
							s.run(500)
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
