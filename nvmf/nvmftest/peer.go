package nvmftest

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"syscall"
	"testing"
	"time"

	"github.com/pollux-storage/pollux/nvmf"
)

// Peer is one connection of a host. Its Want methods fail the test with the reason that they are given.
type Peer struct {
	t       testing.TB
	Conn    *net.TCPConn
	Digests nvmf.Digests
	align   uint32
	next    nvmf.CID
	CNTLID  nvmf.CNTLID
	queue   bool // an I/O queue
}

// PDU is one PDU as it came.
type PDU struct {
	nvmf.CommonHeader
	Header []byte // HLEN bytes
	Data   []byte
}

// Dial connects and says nothing.
func Dial(t testing.TB, addr netip.AddrPort) *Peer {
	t.Helper()
	c, err := net.DialTCP("tcp", nil, net.TCPAddrFromAddrPort(addr))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return &Peer{t: t, Conn: c, align: 4, next: 1}
}

// Open connects and exchanges ICReq and ICResp.
func Open(t testing.TB, addr netip.AddrPort, d nvmf.Digests) *Peer {
	t.Helper()
	p := Dial(t, addr)
	p.Send(nvmf.ICReq{Digests: d}.AppendTo(nil))
	pdu := p.Recv("ICResp")
	ic, fault := nvmf.DecodeICResp(pdu.Header, d)
	if pdu.Type != nvmf.PDUICResp || !fault.OK() {
		t.Fatalf("the answer to ICReq: %v, %v", pdu.Type, fault)
	}
	p.Digests, p.align = ic.Digests, nvmf.DataAlign(ic.CPDA)
	return p
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
		p.CNTLID, p.queue = nvmf.CNTLID(cqe.DW0), qid > 0
	}
	return cqe
}

// Admin connects, makes a controller and enables it.
func Admin(t testing.TB, addr netip.AddrPort) *Peer {
	t.Helper()
	return AdminAs(t, addr, 0, nvmf.ConnectData{CNTLID: nvmf.CNTLIDDynamic, SUBNQN: NQN, HOSTNQN: Host})
}

// AdminAs makes one as another host, of another subsystem, or with digests.
func AdminAs(t testing.TB, addr netip.AddrPort, d nvmf.Digests, data nvmf.ConnectData) *Peer {
	t.Helper()
	p := Open(t, addr, d)
	if cqe := p.ConnectAs(0, 32, 0, 0, data); !cqe.Status.OK() {
		t.Fatalf("Connect: %v", cqe.Status)
	}
	p.Enable()
	return p
}

// Enable sets CC.EN and sees that the controller is ready.
func (p *Peer) Enable() {
	p.t.Helper()
	s := p.Fabrics(nvmf.FabricsPropertySet)
	s.SetProperty(nvmf.PropertyCC, 4, uint64(nvmf.CCEnable))
	p.WantStatus("enabling", p.Do(s, nil), nvmf.StatusSuccess)
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

// Queue connects an I/O queue of admin's controller.
func Queue(t testing.TB, addr netip.AddrPort, admin *Peer, qid nvmf.QID, entries uint32) *Peer {
	t.Helper()
	p := Open(t, addr, admin.Digests)
	if cqe := p.Connect(qid, entries, admin.CNTLID); !cqe.Status.OK() {
		t.Fatalf("Connect of queue %d: %v", qid, cqe.Status)
	}
	return p
}

// Fabrics begins a Fabrics command.
func (p *Peer) Fabrics(f nvmf.FCTYPE) *nvmf.SQE {
	s := new(nvmf.SQE)
	s.InitFabrics(f, p.cid())
	return s
}

// IO begins an I/O command on namespace 1; Cmd begins an Admin command.
func (p *Peer) IO(o nvmf.IOOpcode) *nvmf.SQE {
	s := new(nvmf.SQE)
	s.Init(uint8(o), p.cid(), 1)
	return s
}

// RW begins a Read, Write or the like of blocks.
func (p *Peer) RW(o nvmf.IOOpcode, lba uint64, blocks uint32) *nvmf.SQE {
	s := p.IO(o)
	s.SetRW(nvmf.RW{SLBA: lba, NLB: blocks})
	return s
}

// Cmd begins an Admin command.
func (p *Peer) Cmd(o nvmf.AdminOpcode) *nvmf.SQE {
	s := new(nvmf.SQE)
	s.Init(uint8(o), p.cid(), 0)
	return s
}

func (p *Peer) cid() nvmf.CID {
	p.next++
	return p.next
}

// Send sends bytes as they are.
func (p *Peer) Send(b []byte) {
	p.t.Helper()
	_ = p.Conn.SetWriteDeadline(time.Now().Add(patience))
	if _, err := p.Conn.Write(b); err != nil {
		p.t.Fatalf("sending %d bytes: %v", len(b), err)
	}
}

// Capsule is the bytes of a command with data in its capsule.
func (p *Peer) Capsule(s *nvmf.SQE, data []byte) []byte {
	if data != nil {
		s.SetSGL(nvmf.SGL{Type: nvmf.SGLDataBlock, Subtype: nvmf.SGLOffset, Bytes: uint32(len(data))})
	}
	b := nvmf.AppendCapsuleCmd(nil, s, uint32(len(data)), p.Digests, p.align)
	return p.withData(b, data)
}

// H2C is the bytes of an H2CData.
func (p *Peer) H2C(d nvmf.DataPDU, data []byte) []byte {
	d.DATAL = uint32(len(data))
	return p.withData(d.AppendH2CData(nil, p.Digests, p.align), data)
}

func (p *Peer) withData(b, data []byte) []byte {
	b = append(b, data...)
	if len(data) > 0 && p.Digests&nvmf.DataDigests != 0 {
		b = nvmf.AppendDigest(b, nvmf.DataDigest(0, data))
	}
	return b
}

// Wants tells the transport to give n bytes to the host.
func Wants(s *nvmf.SQE, n int) *nvmf.SQE {
	s.SetSGL(nvmf.SGL{Type: nvmf.SGLTransport, Subtype: nvmf.SGLTransportData, Bytes: uint32(n)})
	return s
}

// Recv takes the next PDU, and proves its digests.
func (p *Peer) Recv(why string) PDU {
	p.t.Helper()
	pdu, err := p.recv(patience)
	if err != nil {
		p.t.Fatalf("%s: waiting for a PDU: %v", why, err)
	}
	return pdu
}

// Poll takes the next PDU if one begins to arrive within limit.
func (p *Peer) Poll(limit time.Duration) (PDU, error) {
	var b [1]byte
	_ = p.Conn.SetReadDeadline(time.Now().Add(limit))
	raw, err := p.Conn.SyscallConn()
	if err != nil {
		return PDU{}, err
	}
	var n int
	if e := raw.Read(func(fd uintptr) bool {
		n, _, err = syscall.Recvfrom(int(fd), b[:], syscall.MSG_PEEK)
		return err != syscall.EAGAIN
	}); e != nil {
		return PDU{}, e
	}
	if err != nil {
		return PDU{}, err
	}
	if n == 0 {
		return PDU{}, io.EOF
	}
	return p.recv(patience)
}

func (p *Peer) recv(limit time.Duration) (PDU, error) {
	_ = p.Conn.SetReadDeadline(time.Now().Add(limit))
	h := make([]byte, nvmf.CommonHeaderBytes)
	if _, err := io.ReadFull(p.Conn, h); err != nil {
		return PDU{}, err
	}
	pdu := PDU{CommonHeader: nvmf.DecodeCommonHeader(h)}
	if pdu.PLEN < uint32(pdu.HLEN) || pdu.PLEN > 4<<20 || pdu.HLEN < nvmf.CommonHeaderBytes {
		return PDU{}, fmt.Errorf("PDU %v of %d bytes with a header of %d", pdu.Type, pdu.PLEN, pdu.HLEN)
	}
	b := make([]byte, pdu.PLEN)
	copy(b, h)
	if _, err := io.ReadFull(p.Conn, b[len(h):]); err != nil {
		return PDU{}, err
	}
	pdu.Header = b[:pdu.HLEN]
	if pdu.Flags&nvmf.FlagHDGST != 0 && nvmf.Digest(b[pdu.HLEN:]) != nvmf.DataDigest(0, pdu.Header) {
		return PDU{}, errors.New("wrong header digest")
	}
	if pdu.PDO > 0 {
		pdu.Data = b[pdu.PDO:]
		if pdu.Flags&nvmf.FlagDDGST != 0 {
			at := len(pdu.Data) - nvmf.DigestBytes
			if nvmf.Digest(pdu.Data[at:]) != nvmf.DataDigest(0, pdu.Data[:at]) {
				return PDU{}, errors.New("wrong data digest")
			}
			pdu.Data = pdu.Data[:at]
		}
	}
	return pdu, nil
}

// Do sends a command and takes its completion. data goes in the capsule.
func (p *Peer) Do(s *nvmf.SQE, data []byte) nvmf.CQE {
	p.t.Helper()
	p.Send(p.Capsule(s, data))
	cqe, _ := p.Completion(s)
	return cqe
}

// Read sends a command that gives n bytes, and takes them and the completion.
func (p *Peer) Read(s *nvmf.SQE, n int) (nvmf.CQE, []byte) {
	p.t.Helper()
	p.Send(p.Capsule(Wants(s, n), nil))
	return p.Completion(s)
}

// Completion takes the data and the completion of one command, which is the next to be answered.
func (p *Peer) Completion(s *nvmf.SQE) (nvmf.CQE, []byte) {
	p.t.Helper()
	var data []byte
	for {
		pdu := p.Recv("the completion of a command")
		switch pdu.Type {
		case nvmf.PDUC2HData:
			cid := nvmf.CID(binary.LittleEndian.Uint16(pdu.Header[8:]))
			at := binary.LittleEndian.Uint32(pdu.Header[12:])
			if cid != s.CID() || int(at) != len(data) {
				p.t.Fatalf("C2HData of command %d at %d, want %d at %d", cid, at, s.CID(), len(data))
			}
			data = append(data, pdu.Data...)
			if pdu.Flags&nvmf.FlagSuccess != 0 {
				return nvmf.CQE{CID: cid}, data
			}
		case nvmf.PDUCapsuleResp:
			cqe, _ := nvmf.DecodeCapsuleResp(pdu.Header)
			if cqe.CID != s.CID() {
				p.t.Fatalf("completion of command %d, want %d", cqe.CID, s.CID())
			}
			return cqe, data
		default:
			p.t.Fatalf("%v, want data or a completion: % x", pdu.Type, pdu.Header)
		}
	}
}

// WantStatus fails unless a command ended with s, DNR included.
func (p *Peer) WantStatus(why string, cqe nvmf.CQE, s nvmf.Status) {
	p.t.Helper()
	if cqe.Status&^nvmf.More != s {
		p.t.Fatalf("%s: %v, want %v", why, cqe.Status, s)
	}
}

// WantR2T takes an R2T.
func (p *Peer) WantR2T(why string) nvmf.R2T {
	p.t.Helper()
	pdu := p.Recv(why)
	r, fault := nvmf.DecodeR2T(pdu.Header)
	if pdu.Type != nvmf.PDUR2T || !fault.OK() {
		p.t.Fatalf("%s: %v (%v), want R2T", why, pdu.Type, fault)
	}
	return r
}

// WantTerm fails unless the target ends the connection with a C2HTermReq that says e.
func (p *Peer) WantTerm(why string, e nvmf.PDUError) {
	p.t.Helper()
	pdu := p.Recv(why)
	if pdu.Type != nvmf.PDUC2HTermReq {
		p.t.Fatalf("%s: %v, want C2HTermReq", why, pdu.Type)
	}
	got := nvmf.PDUError{FES: nvmf.FES(binary.LittleEndian.Uint16(pdu.Header[8:])), FEI: binary.LittleEndian.Uint32(pdu.Header[10:])}
	if got != e {
		p.t.Errorf("%s: %v (FEI %d), want %v (FEI %d)", why, got.FES, got.FEI, e.FES, e.FEI)
	}
}

// WantClosed fails unless the target closes without another PDU.
func (p *Peer) WantClosed(why string) {
	p.t.Helper()
	pdu, err := p.recv(patience)
	switch {
	case err == nil:
		p.t.Errorf("%s: %v, want the end of the connection", why, pdu.Type)
	case errors.Is(err, os.ErrDeadlineExceeded):
		p.t.Errorf("%s: the connection stays open", why)
	case !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) && !errors.Is(err, syscall.ECONNRESET):
		p.t.Errorf("%s: %v", why, err)
	}
}

// Reset closes the connection with a reset.
func (p *Peer) Reset() {
	_ = p.Conn.SetLinger(0)
	_ = p.Conn.Close()
}

// Close closes it in order.
func (p *Peer) Close() { _ = p.Conn.Close() }
