package nvmf_test

import (
	"crypto/rand"
	"testing"

	"github.com/pollux-storage/pollux/nvmf"
	"github.com/pollux-storage/pollux/nvmf/nvmftest"
)

// A host with a key proves itself on each queue over RDMA, before anything else is taken there: the Admin queue, and an I/O queue that is away from it.
func TestRDMAHostsProveThemselves(t *testing.T) {
	e := overRDMA(t, 2)
	key, err := nvmf.GenerateAuthKey(rand.Reader, nvmf.AuthSHA256, 32)
	if err == nil {
		err = e.Target.AddHost(nvmftest.NQN, nvmftest.Host, nvmf.HostKeys{Host: key})
	}
	if err != nil {
		t.Fatal(err)
	}
	prove := func(p *nvmftest.RDMAPeer, qid nvmf.QID, id nvmf.CNTLID) {
		cqe := p.Connect(qid, 32, id)
		p.WantStatus("Connect", cqe, nvmf.StatusSuccess)
		if cqe.DW0&nvmf.ConnectATR == 0 {
			t.Errorf("queue %d: authentication is not asked for", qid)
		}
		p.WantStatus("a command before it", p.Do(p.Cmd(nvmf.AdminKeepAlive), nil), nvmf.StatusAuthenticationNeeded)
		h, err := nvmf.NewAuthHost(nvmf.AuthConfig{SubNQN: nvmftest.NQN, HostNQN: nvmftest.Host, HostKey: key, Groups: []nvmf.DHGroup{nvmf.DHNull}})
		if err != nil {
			t.Fatal(err)
		}
		for s := h.Start(1); s.Do != nvmf.AuthHostSucceed; {
			switch s.Do {
			case nvmf.AuthHostSend:
				c := p.Fabrics(nvmf.FabricsAuthSend)
				c.SetAuth(uint32(len(s.Data)))
				p.WantStatus("Authentication Send", p.Do(c, s.Data), nvmf.StatusSuccess)
				s = h.Sent()
			case nvmf.AuthHostReceive:
				c := p.Fabrics(nvmf.FabricsAuthReceive)
				c.SetAuth(nvmf.AuthReceiveBytes)
				cqe, data := p.Read(c, nvmf.AuthReceiveBytes)
				p.WantStatus("Authentication Receive", cqe, nvmf.StatusSuccess)
				s = h.Received(data)
			default:
				t.Fatalf("queue %d: %v: %v", qid, s.Do, s.Err)
			}
		}
	}
	a := e.DialRDMA(t, e.RDMA.Addr, 0, 32, 0)
	prove(a, 0, nvmf.CNTLIDDynamic)
	a.Enable()
	for qid := nvmf.QID(1); qid <= 2; qid++ {
		p := e.DialRDMA(t, e.RDMA.Addr, qid, 32, a.CNTLID)
		prove(p, qid, a.CNTLID)
		p.WantStatus("flush", p.Do(p.IO(nvmf.IOFlush), nil), nvmf.StatusSuccess)
	}
}
