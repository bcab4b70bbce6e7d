package nvmf_test

import (
	"math"
	"testing"

	"github.com/pollux-storage/pollux/nvmf"
	"github.com/pollux-storage/pollux/nvmf/nvmftest"
	"github.com/pollux-storage/pollux/rdma/rdmatest"
)

// REQUIREMENTS T-10, over RDMA: a host stalls that has not taken what the card was given for it before a time, and no other: what a connection holds beside
// that waits for a device, or for memory.
func TestRDMAHostsThatStall(t *testing.T) {
	e := overRDMA(t, 1)
	a := e.AdminRDMA(t)
	p := e.QueueRDMA(t, a, 1, 32)
	const always, never = math.MaxInt64, 0 // since when it must have taken nothing
	if e.Target.Stalls(a.CNTLID, 1, always) {
		t.Error("a host that is given nothing stalls")
	}
	e.RDMA.Target.Withhold(rdmatest.Sends)
	s := p.IO(nvmf.IOFlush)
	p.SendCapsule(s[:])
	nvmftest.Await(t, "the response is on the card", func() bool { return e.RDMA.Target.Withheld() == 1 })
	if !e.Target.Stalls(a.CNTLID, 1, always) || e.Target.Stalls(a.CNTLID, 1, never) {
		t.Error("a host that does not take a response stalls from then on")
	}
	e.RDMA.Target.Release()
	p.WantStatus("flush", p.Response(s).CQE, nvmf.StatusSuccess)
}
