package nvmftest

import (
	"fmt"
	"testing"

	"github.com/pollux-storage/pollux/nvmf"
)

// Peer is one connection of a host, by whatever transport: the commands that it sends, and what it wants of their ends. Its Want methods fail the
// test with the reason that they are given.
type Peer struct {
	wire
	t       testing.TB
	nothing nvmf.SGL // says that a command has no data
	next    nvmf.CID

	CNTLID nvmf.CNTLID
}

// wire is what a transport does for a peer.
type wire interface {
	// Begin sends a command, and its data unless they are nil: in the capsule if that takes them, otherwise when the target asks.
	Begin(s *nvmf.SQE, data []byte)
	// BeginLate sends a command whose data the target has to ask for, and does not get before Give or Completion.
	BeginLate(s *nvmf.SQE, data []byte)
	// Asked waits until the target has asked for the data of n commands that were begun late.
	Asked(n int)
	// Give gives them.
	Give()
	// BeginRead sends a command that gives n bytes.
	BeginRead(s *nvmf.SQE, n int)
	// Completion takes the data and the completion of one command, which is the next to be answered. Data that the target asks for meanwhile go.
	Completion(s *nvmf.SQE) (nvmf.CQE, []byte)
	// WantClosed fails unless the target ends the connection, without another word.
	WantClosed(why string)
	// Reset ends it without a word of the host's, Close in order.
	Reset()
	Close()
}

// Do sends a command and takes its completion.
func (p *Peer) Do(s *nvmf.SQE, data []byte) nvmf.CQE {
	p.t.Helper()
	p.wire.Begin(s, data)
	cqe, _ := p.wire.Completion(s)
	return cqe
}

// Read sends a command that gives n bytes, and takes them and the completion.
func (p *Peer) Read(s *nvmf.SQE, n int) (nvmf.CQE, []byte) {
	p.t.Helper()
	p.wire.BeginRead(s, n)
	return p.wire.Completion(s)
}

// Connect makes the connection a queue of a controller: with qid 0 a new one's Admin queue, otherwise an I/O queue of id's.
func (p *Peer) Connect(qid nvmf.QID, entries uint32, id nvmf.CNTLID) nvmf.CQE {
	p.t.Helper()
	return p.ConnectAs(qid, entries, 0, 0, nvmf.ConnectData{CNTLID: id, SUBNQN: NQN, HOSTNQN: Host})
}

// ConnectAs makes it with everything said.
func (p *Peer) ConnectAs(qid nvmf.QID, entries uint32, cattr uint8, kato uint32, d nvmf.ConnectData) nvmf.CQE {
	p.t.Helper()
	s := p.Fabrics(nvmf.FabricsConnect)
	s.SetConnect(qid, entries, cattr, kato)
	cqe := p.Do(s, d.AppendTo(nil))
	if cqe.Status.OK() {
		p.CNTLID = nvmf.CNTLID(cqe.DW0)
	}
	return cqe
}

// Enable sets CC.EN and sees that the controller is ready.
func (p *Peer) Enable() {
	p.t.Helper()
	p.WantStatus("enabling", p.SetProperty(nvmf.PropertyCC, uint64(nvmf.CCEnable)), nvmf.StatusSuccess)
	if v := p.Property(nvmf.PropertyCSTS, 4); nvmf.CSTS(v)&nvmf.CSTSRDY == 0 {
		p.t.Fatalf("CSTS %#x after enabling: not ready", v)
	}
}

// Property reads one.
func (p *Peer) Property(offset uint32, bytes int) uint64 {
	p.t.Helper()
	s := p.Fabrics(nvmf.FabricsPropertyGet)
	s.SetProperty(offset, bytes, 0)
	cqe := p.Do(s, nil)
	p.WantStatus(fmt.Sprintf("property %#x", offset), cqe, nvmf.StatusSuccess)
	return uint64(cqe.DW1)<<32 | uint64(cqe.DW0)
}

// SetProperty writes one of four bytes.
func (p *Peer) SetProperty(offset uint32, v uint64) nvmf.CQE {
	p.t.Helper()
	s := p.Fabrics(nvmf.FabricsPropertySet)
	s.SetProperty(offset, 4, v)
	return p.Do(s, nil)
}

// Fabrics begins a Fabrics command.
func (p *Peer) Fabrics(f nvmf.FCTYPE) *nvmf.SQE {
	s := new(nvmf.SQE)
	s.InitFabrics(f, p.cid())
	s.SetSGL(p.nothing)
	return s
}

// IO begins an I/O command on namespace 1.
func (p *Peer) IO(o nvmf.IOOpcode) *nvmf.SQE { return p.command(uint8(o), 1) }

// RW begins a Read, Write or the like of blocks.
func (p *Peer) RW(o nvmf.IOOpcode, lba uint64, blocks uint32) *nvmf.SQE {
	s := p.IO(o)
	s.SetRW(nvmf.RW{SLBA: lba, NLB: blocks})
	return s
}

// Cmd begins an Admin command.
func (p *Peer) Cmd(o nvmf.AdminOpcode) *nvmf.SQE { return p.command(uint8(o), 0) }

func (p *Peer) command(opcode uint8, id nvmf.NSID) *nvmf.SQE {
	s := new(nvmf.SQE)
	s.Init(opcode, p.cid(), id)
	s.SetSGL(p.nothing)
	return s
}

func (p *Peer) cid() nvmf.CID {
	p.next++
	return p.next
}

// WantStatus fails unless a command ended with s, DNR included.
func (p *Peer) WantStatus(why string, cqe nvmf.CQE, s nvmf.Status) {
	p.t.Helper()
	if cqe.Status&^nvmf.More != s {
		p.t.Fatalf("%s: %v, want %v", why, cqe.Status, s)
	}
}
