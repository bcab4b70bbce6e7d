package initiator

import (
	"fmt"
	"testing"

	"github.com/pollux-storage/pollux/bdev"
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
					s := c.d.spin(i, 16, c.kind, c.bytes, 32) // more than the queue holds: the others wait
					s.wantQuiet(t, "", func() {
						if _, err := tracing.Take(func(*nvmf.TraceRecord) {}); err != nil { // else there is soon no room for more
							t.Error(err)
						}
						s.run(400)
					})
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
