package nvmf_test

import (
	"net/netip"
	"testing"
	"time"

	"github.com/pollux-storage/pollux/nvmf"
	"github.com/pollux-storage/pollux/nvmf/nvmftest"
)

// While a target holds, those whom it serves already are served on, who comes by a new address waits, and an address can be given up again.
func TestHold(t *testing.T) {
	e := nvmftest.Start(t, nvmftest.Options{Reactors: 2})
	e.Target.Hold()
	nvmftest.Admin(t, e.Addr)
	kept, given := e.Listen(nvmftest.NQN), e.Listen(nvmftest.NQN)
	var waiting []*nvmftest.TCPPeer
	for _, addr := range []netip.AddrPort{kept, given} {
		p := nvmftest.Dial(t, addr)
		p.Send(nvmf.ICReq{}.AppendTo(nil))
		if pdu, err := p.Poll(50 * time.Millisecond); err == nil {
			t.Errorf("the host is answered: %v", pdu.Type)
		}
		waiting = append(waiting, p)
	}
	if err := e.Target.RemoveListener(t.Context(), nvmftest.NQN, nvmftest.Address(given)); err != nil {
		t.Fatal(err)
	}
	waiting[1].WantClosed("its address was given up")
	if err := e.Target.Serve(); err != nil {
		t.Fatal(err)
	}
	waiting[0].Recv("ICResp")
	waiting[0].WantStatus("Connect", waiting[0].Connect(0, 32, nvmf.CNTLIDDynamic), nvmf.StatusSuccess)
	nvmftest.Admin(t, e.Listen(nvmftest.NQN))
}
