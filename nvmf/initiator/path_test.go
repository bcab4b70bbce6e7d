package initiator

import (
	"fmt"
	"testing"

	"github.com/pollux-storage/pollux/bdev"
	"github.com/pollux-storage/pollux/bdev/bdevtest"
	"github.com/pollux-storage/pollux/nvmf"
	"github.com/pollux-storage/pollux/nvmf/nvmftest"
)

// TestTheWholePathAllocatesAndWaitsForNothing runs a request's whole way in one process, from the host's device over the initiator, loopback and
// the target to a device of memory and back, and lets no reactor allocate once, or wait for a lock: not the host's, not the target's. A part
// of it is traced.
func TestTheWholePathAllocatesAndWaitsForNothing(t *testing.T) {
	for _, mode := range []string{"plain", "digests", "queue flow control"} {
		digests := mode == "digests"
		e := nvmftest.Start(t, nvmftest.Options{Reactors: 2, MemoryBytes: 64 << 20})
		e.AddHeld("volatile", 1024).Pass = true // one to which a Flush goes
		e.AddNamespace(nvmf.NamespaceOptions{BdevName: "volatile"})
		tracing, err := e.Target.Trace(3)
		if err != nil {
			t.Fatal(err)
		}
		h := newHost(t, 2)
		o := options(e.Addr)
		o.HeaderDigest, o.DataDigest, o.NumIOQueues, o.QueueDepth = digests, digests, 2, 8
		o.SQFlow = mode == "queue flow control"
		h.attach(o)
		mem, flushed := h.open("Nvme0n1"), h.open("Nvme0n2")
		for _, c := range []struct {
			why   string
			d     *disk
			kind  bdev.Kind
			bytes int
		}{
			{"reads", mem, bdev.Read, 4096},
			{"large reads", mem, bdev.Read, 128 << 10},
			{"writes in their capsules", mem, bdev.Write, 8192},
			{"writes by R2T", mem, bdev.Write, 64 << 10},
			{"flushes", flushed, bdev.Flush, 0},
		} {
			t.Run(fmt.Sprintf("%s, %s", c.why, mode), func(t *testing.T) {
				for i := range 2 {
					s := &spinner{ch: c.d.channels[i], ended: make(chan struct{}, 1)}
					qs := make([]bdev.Request, 16) // more than the queue holds: the others wait
					for j := range qs {
						q := &qs[j]
						q.Kind, q.LBA, q.Blocks, q.Done = c.kind, uint64(j*32), uint64(c.bytes/4096), s
						q.Data = pieces(make([]byte, c.bytes), 4096)
					}
					run := func() {
						if _, err := tracing.Take(func(*nvmf.TraceRecord) {}); err != nil { // else there is soon no room for more
							t.Error(err)
						}
						if err := h.group.Reactor(i).Go(func() {
							s.left, s.open = 400, len(qs)
							for j := range qs {
								s.ch.Submit(&qs[j])
							}
						}); err != nil {
							t.Error(err)
							s.ended <- struct{}{}
						}
						<-s.ended
					}
					run() // what grows to a high-water mark grows here
					for where, times := range bdevtest.AlwaysOnReactors(run) {
						t.Errorf("reactor %d: %d allocations in 416 requests:\n%s", i, times, where)
					}
					for where, times := range bdevtest.WaitsOnReactors(run) {
						t.Errorf("reactor %d: a reactor waited %d times in 416 requests:\n%s", i, times, where)
					}
					if s.bad != bdev.StatusOK {
						t.Errorf("reactor %d: %v", i, s.bad)
					}
				}
			})
		}
		if c, err := tracing.Take(func(*nvmf.TraceRecord) {}); err != nil || c.Finished < 1000 || c.Lost > 0 {
			t.Errorf("of the traced: %+v, %v", c, err)
		}
		if err := tracing.Stop(); err != nil {
			t.Error(err)
		}
		mem.close()
		flushed.close()
	}
}
