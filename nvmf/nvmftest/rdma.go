package nvmftest

import (
	"bytes"
	"fmt"
	"net/netip"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/pollux-storage/pollux/nvmf"
	"github.com/pollux-storage/pollux/rdma"
	"github.com/pollux-storage/pollux/rdma/rdmatest"
)

// This file is a host over RDMA, made by hand from work requests on a fabric in memory, so that a test can send any capsule and see what becomes of
// its memory.

// rdmaArena is the memory of a peer: capsules, responses, and what tests take of it.
const rdmaArena = 40 << 20

const (
	peerCapsuleBytes = 64 + 8192 // of the place for one capsule
	peerCapsules     = 64
	peerResponses    = 256
	peerDataAt       = peerCapsules*peerCapsuleBytes + peerResponses*64
)

// RDMA is the fabric of an engine, and the two providers on it.
type RDMA struct {
	Fabric *rdmatest.Fabric
	Target *rdmatest.Provider // the engine's
	Host   *rdmatest.Provider // the peers'
	Addr   netip.AddrPort
}

// startRDMA gives an engine a transport over RDMA.
func (e *Engine) startRDMA(o *Options) {
	f := rdmatest.NewFabric()
	e.RDMA = &RDMA{Fabric: f, Target: f.Provider("target", *o.RDMA), Host: f.Provider("host", rdmatest.Options{CQDepthMax: 1 << 20})}
	e.Target.UseRDMA(func() (rdma.Provider, error) { return e.RDMA.Target, nil })
	e.createTransport("RDMA", o)
}

// ListenRDMA gives a subsystem one more address over RDMA.
func (e *Engine) ListenRDMA(nqn string) netip.AddrPort {
	e.T.Helper()
	e.ports++
	addr := netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), 4420+uint16(e.ports))
	e.must(e.Target.AddListener(nqn, RDMAAddress(addr), nvmf.ANAOptimized))
	return addr
}

// RDMAAddress is an address of the fabric as the target names it.
func RDMAAddress(a netip.AddrPort) nvmf.Address {
	at := Address(a)
	at.TRType = "RDMA"
	return at
}

// wantNoRDMA sees that nothing of RDMA is left.
func (e *Engine) wantNoRDMA() {
	if a := e.RDMA.Fabric.Alive(); a != (rdmatest.Alive{}) {
		e.T.Errorf("left behind on the fabric: %v", a)
	}
}

// RDMAPeer is one connection of a host over RDMA.
type RDMAPeer struct {
	*Peer
	r       *RDMA
	Card    rdma.Verbs
	cm      rdma.CM
	id      rdma.ID
	qp      rdma.QP
	cq      rdma.CQ
	mem     []byte
	mr      rdma.MR
	keys    []rdma.MR
	own     map[*nvmf.SQE]rdmaData // of commands that were begun
	taken   int                    // of mem
	capsule int
	events  chan rdma.Event
	closed  bool

	To        netip.AddrPort
	Accepted  nvmf.RDMAAccept
	Terms     rdma.ConnParams // of the acceptance: READs of ours that the target answers, those of its that we do
	InCapsule int             // data that goes in a capsule
	Sent      int             // sends that have completed
	Failed    []rdma.Status   // of work requests
	Came      []*RDMAResponse // responses, in order, that nobody has taken
}

// rdmaData is the memory of a command that has data in the host's.
type rdmaData struct {
	at, bytes int
	key       rdma.MR
	read      bool // for the target to write
	late      bool // it is kept from the target
}

// RDMAResponse is a response as it came.
type RDMAResponse struct {
	nvmf.CQE
	Bytes   int
	Invalid uint32 // the key that it has invalidated, 0 if none
}

// RDMAOptions say how a peer connects.
type RDMAOptions struct {
	Private   []byte // nil: Request's
	Request   nvmf.RDMARequest
	IRD       uint8 // RDMA READs that it answers at once
	Responses int   // receives that it posts; 0: HRQSIZE
}

// TryRDMA asks for a connection. Where it is refused the peer is nil.
func (e *Engine) TryRDMA(t testing.TB, to netip.AddrPort, o RDMAOptions) (*RDMAPeer, nvmf.RDMAReason) {
	t.Helper()
	// The Linux host says that a command has no data with a keyed descriptor of nothing.
	p := &RDMAPeer{
		Peer: &Peer{t: t, next: 1, nothing: nvmf.SGL{Type: nvmf.SGLKeyed}},
		To:   to, r: e.RDMA, own: map[*nvmf.SQE]rdmaData{}, taken: peerDataAt, events: make(chan rdma.Event, 16),
	}
	p.wire = p
	cards, err := e.RDMA.Host.Cards()
	p.must(err)
	p.Card = cards[0]
	p.mem, err = unix.Mmap(-1, 0, rdmaArena, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_ANON|unix.MAP_PRIVATE)
	p.must(err)
	p.cm, err = e.RDMA.Host.NewCM()
	p.must(err)
	p.cq, err = p.Card.CreateCQ(4096)
	p.must(err)
	p.mr, err = p.Card.Register(p.mem, rdma.RemoteRead|rdma.RemoteWrite)
	p.must(err)
	go func(c chan<- rdma.Event) {
		for {
			ev, err := p.cm.Next()
			if err != nil {
				close(c)
				return
			}
			c <- ev
		}
	}(p.events)
	t.Cleanup(p.Close)
	p.id, err = p.cm.Resolve(netip.Addr{}, to, rdma.Link{})
	p.must(err)
	p.wantEvent("the way to the target", rdma.EventRoute)
	p.qp, _, err = p.Card.CreateQP(p.id, rdma.QPConfig{Send: p.cq, Recv: p.cq, SendDepth: 1024, RecvDepth: peerResponses, SGEs: 2})
	p.must(err)
	responses := o.Responses
	if responses == 0 {
		responses = min(int(o.Request.HRQSIZE), peerResponses)
	}
	for i := range max(0, responses) {
		p.receive(i)
	}
	private := o.Private
	if private == nil {
		private = o.Request.AppendTo(nil)
	}
	p.must(p.cm.Connect(p.id, rdma.ConnParams{Private: private, ReadsIn: o.IRD, ReadsOut: 0, Retries: 7, RNR: 7}))
	ev := p.event("the answer to a connection")
	switch ev.Kind {
	case rdma.EventEstablished:
		a, ok := nvmf.DecodeRDMAAccept(ev.Private)
		if !ok || len(ev.Private) < nvmf.RDMAAcceptBytes {
			t.Fatalf("accepted with private data % X", ev.Private)
		}
		p.Accepted, p.Terms = a, ev.Params
		return p, 0
	case rdma.EventRejected:
		why, ok := nvmf.DecodeRDMAReject(ev.Private)
		if !ok {
			t.Fatalf("refused with private data % X", ev.Private)
		}
		p.Close()
		return nil, why
	}
	t.Fatalf("the answer to a connection: event %d with status %d", ev.Kind, ev.Status)
	return nil, 0
}

// DialRDMA asks for a connection as the Linux host does.
func (e *Engine) DialRDMA(t testing.TB, to netip.AddrPort, qid nvmf.QID, entries uint32, id nvmf.CNTLID) *RDMAPeer {
	t.Helper()
	p, why := e.TryRDMA(t, to, RDMAOptions{Request: nvmf.RDMARequest{QID: qid, HRQSIZE: uint16(entries), HSQSIZE: uint16(entries - 1), CNTLID: id}, IRD: 16})
	if p == nil {
		t.Fatalf("the connection of queue %d is refused: %v", qid, why)
	}
	if qid > 0 {
		p.InCapsule = 4096
	}
	return p
}

// AdminRDMA connects, makes a controller and enables it.
func (e *Engine) AdminRDMA(t testing.TB) *RDMAPeer {
	t.Helper()
	p := e.DialRDMA(t, e.RDMA.Addr, 0, 32, 0)
	if cqe := p.Connect(0, 32, nvmf.CNTLIDDynamic); !cqe.Status.OK() {
		t.Fatalf("Connect: %v", cqe.Status)
	}
	p.Enable()
	return p
}

// QueueRDMA connects an I/O queue of admin's controller.
func (e *Engine) QueueRDMA(t testing.TB, admin *RDMAPeer, qid nvmf.QID, entries uint32) *RDMAPeer {
	t.Helper()
	p := e.DialRDMA(t, e.RDMA.Addr, qid, entries, admin.CNTLID)
	if cqe := p.Connect(qid, entries, admin.CNTLID); !cqe.Status.OK() {
		t.Fatalf("Connect of queue %d: %v", qid, cqe.Status)
	}
	return p
}

func (p *RDMAPeer) must(err error) {
	p.t.Helper()
	if err != nil {
		p.t.Fatal(err)
	}
}

func (p *RDMAPeer) event(why string) rdma.Event {
	p.t.Helper()
	for {
		e := Take(p.t, why, p.events)
		if e.Kind != rdma.EventTimewait {
			return e
		}
	}
}

func (p *RDMAPeer) wantEvent(why string, k rdma.EventKind) {
	p.t.Helper()
	if e := p.event(why); e.Kind != k {
		p.t.Fatalf("%s: event %d with status %d, want %d", why, e.Kind, e.Status, k)
	}
}

// Close ends the connection and gives all of it back. Closing twice is harmless.
func (p *RDMAPeer) Close() {
	if p.closed {
		return
	}
	p.closed = true
	if p.qp != 0 {
		_ = p.cm.Disconnect(p.id)
		p.must(p.Card.DestroyQP(p.qp))
	}
	p.must(p.cm.Destroy(p.id))
	p.must(p.Card.DestroyCQ(p.cq))
	p.Forget()
	p.must(p.Card.Deregister(p.mr))
	p.must(p.cm.Close())
	p.must(unix.Munmap(p.mem))
}

// Fail ends the queue pair without a word to the target.
func (p *RDMAPeer) Fail() { p.must(p.Card.Fail(p.qp)) }

// Reset ends it so, and gives all of it back.
func (p *RDMAPeer) Reset() {
	p.Fail()
	p.Close()
}

func (p *RDMAPeer) sge(at, n int) rdma.SGE {
	return rdma.SGE{Address: p.mr.Address + uint64(at), Bytes: uint32(n), Key: p.mr.Local}
}

func (p *RDMAPeer) receive(i int) {
	w := [1]rdma.RecvWR{{ID: 1<<32 | uint64(i), SGEs: 1}}
	w[0].SGE[0] = p.sge(peerCapsules*peerCapsuleBytes+i*64, 64)
	_, err := p.Card.PostRecv(p.qp, w[:])
	p.must(err)
}

// Responses lets the host take n more responses.
func (p *RDMAPeer) Responses(n int) {
	for i := range n {
		p.receive(i)
	}
}

// take takes n bytes of the host's memory from at, with a key of their own.
func (p *RDMAPeer) take(n int) (at int, k rdma.MR) {
	p.t.Helper()
	at = (p.taken + 4095) &^ 4095
	size := max(4096, (n+4095)&^4095)
	if at+size > len(p.mem) {
		p.t.Fatal("the peer's memory is used up")
	}
	p.taken = at + size
	k, err := p.Card.Register(p.mem[at:p.taken], rdma.RemoteRead|rdma.RemoteWrite)
	p.must(err)
	return at, k
}

// Memory takes n bytes of the host's memory, and gives a key of their own by which the target reaches them.
func (p *RDMAPeer) Memory(n int) ([]byte, uint32) {
	p.t.Helper()
	at, k := p.take(n)
	p.keys = append(p.keys, k)
	return p.mem[at : at+n : p.taken], k.Remote
}

// SGL describes memory that Memory gave.
func (p *RDMAPeer) SGL(b []byte, key uint32) nvmf.SGL {
	return nvmf.SGL{Type: nvmf.SGLKeyed, Address: p.address(b), Bytes: uint32(len(b)), Key: key}
}

func (p *RDMAPeer) address(b []byte) uint64 {
	for at := peerDataAt &^ 4095; at < len(p.mem); at += 4096 {
		if &p.mem[at] == &b[0] {
			return p.mr.Address + uint64(at)
		}
	}
	p.t.Fatal("memory of somebody else")
	return 0
}

// Forget frees all memory that was taken so far. The target has nothing of it any more.
func (p *RDMAPeer) Forget() {
	for s, d := range p.own {
		p.must(p.Card.Deregister(d.key))
		delete(p.own, s)
	}
	for _, k := range p.keys {
		p.must(p.Card.Deregister(k))
	}
	p.keys, p.taken = nil, peerDataAt
}

// SendCapsule sends bytes as a capsule.
func (p *RDMAPeer) SendCapsule(parts ...[]byte) {
	p.t.Helper()
	at := p.capsule * peerCapsuleBytes
	p.capsule = (p.capsule + 1) % peerCapsules
	n := copy(p.mem[at:at+peerCapsuleBytes], bytes.Join(parts, nil))
	w := [1]rdma.SendWR{{QP: p.qp, Opcode: rdma.OpSend, Flags: rdma.Signaled, SGEs: 1}}
	w[0].SGE[0] = p.sge(at, n)
	if k, err := p.Card.Post(w[:]); err != nil || k != 1 {
		p.t.Fatalf("sending a capsule: %v", err)
	}
}

// InlineData says that data follow the command in its capsule.
func InlineData(s *nvmf.SQE, n int) *nvmf.SQE {
	s.SetSGL(nvmf.SGL{Type: nvmf.SGLDataBlock, Subtype: nvmf.SGLOffset, Bytes: uint32(n)})
	return s
}

// Begin sends a command whose data, if there are any, are in the capsule where they fit, or else in memory of the host's.
func (p *RDMAPeer) Begin(s *nvmf.SQE, data []byte) {
	p.t.Helper()
	switch {
	case data == nil:
		p.SendCapsule(s[:])
	case len(data) <= p.InCapsule:
		p.SendCapsule(InlineData(s, len(data))[:], data)
	default:
		p.begin(s, rdmaData{bytes: len(data)}, data)
	}
}

// BeginRead sends a command that gives n bytes.
func (p *RDMAPeer) BeginRead(s *nvmf.SQE, n int) {
	p.t.Helper()
	p.begin(s, rdmaData{bytes: n, read: true}, nil)
}

// begin sends a command with data in the host's memory, which comes back when it is answered, and cannot be reached by the target then.
func (p *RDMAPeer) begin(s *nvmf.SQE, d rdmaData, data []byte) {
	p.t.Helper()
	d.at, d.key = p.take(d.bytes)
	clear(p.mem[d.at+copy(p.mem[d.at:], data) : d.at+d.bytes])
	p.own[s] = d
	s.SetSGL(nvmf.SGL{Type: nvmf.SGLKeyed, Address: p.mr.Address + uint64(d.at), Bytes: uint32(d.bytes), Key: d.key.Remote})
	p.SendCapsule(s[:])
}

// BeginLate sends a command whose data the target does not get, and nobody else any on the target's card.
func (p *RDMAPeer) BeginLate(s *nvmf.SQE, data []byte) {
	p.t.Helper()
	p.r.Target.Withhold(rdmatest.Reads)
	p.begin(s, rdmaData{bytes: len(data), late: true}, data)
}

// Asked waits until RDMA READs are on the target's card. Those of commands that were begun together go there together.
func (p *RDMAPeer) Asked(int) {
	p.t.Helper()
	Await(p.t, "the target asks for data", func() bool { return p.r.Target.Withheld() > 0 })
}

// Give lets the target have the data.
func (p *RDMAPeer) Give() { p.r.Target.Release() }

// poll takes what has completed.
func (p *RDMAPeer) poll() {
	p.t.Helper()
	var w [32]rdma.Completion
	n, err := p.Card.Poll(p.cq, w[:])
	p.must(err)
	for _, c := range w[:n] {
		switch {
		case c.Status != rdma.StatusOK:
			p.Failed = append(p.Failed, c.Status)
		case c.ID>>32 == 0:
			p.Sent++
		default:
			at := peerCapsules*peerCapsuleBytes + int(uint32(c.ID))*64
			r := &RDMAResponse{CQE: nvmf.DecodeCQE(p.mem[at:]), Bytes: int(c.Bytes)}
			if c.Flags&rdma.Invalidated != 0 {
				r.Invalid = c.Invalid
			}
			p.Came = append(p.Came, r)
			p.receive(int(uint32(c.ID)))
		}
	}
}

// Take takes what has completed, and forgets the responses.
func (p *RDMAPeer) Take() {
	p.t.Helper()
	p.poll()
	p.Came = nil
}

// Next takes the next response.
func (p *RDMAPeer) Next(why string) *RDMAResponse {
	p.t.Helper()
	for end := time.Now().Add(patience); len(p.Came) == 0; time.Sleep(20 * time.Microsecond) {
		if p.poll(); len(p.Failed) > 0 {
			p.t.Fatalf("%s: the connection has failed: %v", why, p.Failed)
		}
		if time.Now().After(end) {
			p.t.Fatalf("%s: no response", why)
		}
	}
	r := p.Came[0]
	p.Came = p.Came[1:]
	if r.Bytes != nvmf.CQEBytes {
		p.t.Fatalf("%s: a response of %d bytes", why, r.Bytes)
	}
	return r
}

// Response takes the response to one command, which is the next to be answered.
func (p *RDMAPeer) Response(s *nvmf.SQE) *RDMAResponse {
	p.t.Helper()
	r := p.Next("the completion of a command")
	if r.CID != s.CID() {
		p.t.Fatalf("completion of command %d, want %d", r.CID, s.CID())
	}
	return r
}

// Completion takes the response to one command, and the data that it gave.
func (p *RDMAPeer) Completion(s *nvmf.SQE) (nvmf.CQE, []byte) {
	p.t.Helper()
	d, has := p.own[s]
	if d.late {
		p.Give()
	}
	cqe := p.Response(s).CQE
	if !has {
		return cqe, nil
	}
	delete(p.own, s)
	p.must(p.Card.Deregister(d.key))
	var data []byte
	if d.read && cqe.Status.OK() {
		data = bytes.Clone(p.mem[d.at:][:d.bytes])
	}
	if end := d.at + max(4096, (d.bytes+4095)&^4095); end == p.taken {
		p.taken = d.at
	}
	return cqe, data
}

// WantIdle sees that nothing has come.
func (p *RDMAPeer) WantIdle(why string) {
	p.t.Helper()
	if p.poll(); len(p.Came) > 0 || len(p.Failed) > 0 {
		p.t.Fatalf("%s: %d responses, %v", why, len(p.Came), p.Failed)
	}
}

// WantClosed waits until the target has ended the connection, without another response.
func (p *RDMAPeer) WantClosed(why string) {
	p.t.Helper()
	p.WantDisconnected(why)
	if p.poll(); len(p.Came) > 0 {
		p.t.Errorf("%s: %d responses, the first with %v, want the end of the connection", why, len(p.Came), p.Came[0].Status)
	}
}

// WantDisconnected waits until the target has ended the connection, whatever it has said before.
func (p *RDMAPeer) WantDisconnected(why string) {
	p.t.Helper()
	p.wantEvent(fmt.Sprintf("%s: the end of the connection", why), rdma.EventDisconnected)
}

// Descriptor is a descriptor as it lies in a capsule.
func Descriptor(d nvmf.SGL) []byte {
	var s nvmf.SQE
	s.SetSGL(d)
	return bytes.Clone(s[24:40])
}

// Disconnect tells the target that it is over, and keeps what the host has.
func (p *RDMAPeer) Disconnect() { _ = p.cm.Disconnect(p.id) }
