package nvmftest

import (
	"net/netip"
	"testing"

	"github.com/pollux-storage/pollux/nvmf"
	"github.com/pollux-storage/pollux/rdma/rdmatest"
)

// Portal is an engine, and an address of NQN's by which a test's hosts come to it. What a test does by a portal it does by any transport.
type Portal struct {
	*Engine
	At nvmf.Address

	to netip.AddrPort
}

// Each runs a test over each transport. Engines that start gives have that transport alone, and the card that o names if it names one.
func Each(t *testing.T, f func(t *testing.T, start func(o Options) *Portal)) {
	t.Helper()
	for _, transport := range []string{"TCP", "RDMA"} {
		t.Run(transport, func(t *testing.T) {
			f(t, func(o Options) *Portal {
				t.Helper()
				if transport == "TCP" {
					e := Start(t, o)
					return &Portal{e, Address(e.Addr), e.Addr}
				}
				o.noTCP = true
				if o.RDMA == nil {
					o.RDMA = &rdmatest.Options{SRQDepth: 4096}
				}
				e := Start(t, o)
				return &Portal{e, RDMAAddress(e.RDMA.Addr), e.RDMA.Addr}
			})
		})
	}
}

// Another gives a subsystem one more address by the same transport.
func (o *Portal) Another(nqn string) *Portal {
	o.T.Helper()
	if o.At.TRType == "TCP" {
		to := o.Listen(nqn)
		return &Portal{o.Engine, Address(to), to}
	}
	to := o.ListenRDMA(nqn)
	return &Portal{o.Engine, RDMAAddress(to), to}
}

// Open connects, and sends no command. What a connection is for has to be said over RDMA.
func (o *Portal) Open(qid nvmf.QID, entries uint32, id nvmf.CNTLID) *Peer {
	o.T.Helper()
	if o.At.TRType == "TCP" {
		return Open(o.T, o.to, 0).Peer
	}
	if qid == 0 {
		id = 0
	}
	return o.DialRDMA(o.T, o.to, qid, entries, id).Peer
}

// Try connects and makes the connection a queue of 32 entries, if it is not refused: with qid 0 a new controller's Admin queue.
func (o *Portal) Try(qid nvmf.QID, d nvmf.ConnectData) (*Peer, nvmf.CQE) {
	o.T.Helper()
	p := o.Open(qid, 32, d.CNTLID)
	return p, p.ConnectAs(qid, 32, 0, 0, d)
}

// Admin connects, makes a controller and enables it.
func (o *Portal) Admin() *Peer {
	o.T.Helper()
	return o.AdminAs(nvmf.ConnectData{SUBNQN: NQN, HOSTNQN: Host})
}

// AdminAs makes one as another host, or of another subsystem.
func (o *Portal) AdminAs(d nvmf.ConnectData) *Peer {
	o.T.Helper()
	d.CNTLID = nvmf.CNTLIDDynamic
	p, cqe := o.Try(0, d)
	p.WantStatus("Connect", cqe, nvmf.StatusSuccess)
	p.Enable()
	return p
}

// HostAs makes a controller as another host, and one I/O queue of it.
func (o *Portal) HostAs(qid nvmf.QID, d nvmf.ConnectData) (admin, p *Peer) {
	o.T.Helper()
	admin = o.AdminAs(d)
	d.CNTLID = admin.CNTLID
	p, cqe := o.Try(qid, d)
	p.WantStatus("Connect of an I/O queue", cqe, nvmf.StatusSuccess)
	return admin, p
}

// Queue connects an I/O queue of admin's controller.
func (o *Portal) Queue(admin *Peer, qid nvmf.QID, entries uint32) *Peer {
	o.T.Helper()
	p := o.Open(qid, entries, admin.CNTLID)
	p.WantStatus("Connect of an I/O queue", p.Connect(qid, entries, admin.CNTLID), nvmf.StatusSuccess)
	return p
}
