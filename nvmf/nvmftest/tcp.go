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

// This file is a host over TCP, made by hand from PDUs, so that a test can send any byte.

// tcpCapsuleBytes is the data that a peer puts into a capsule, tcpDataBytes that of an H2CData.
const (
	tcpCapsuleBytes = 8192
	tcpDataBytes    = 128 << 10
)

// TCPPeer is one connection of a host over TCP.
type TCPPeer struct {
	*Peer
	Conn    *net.TCPConn
	Digests nvmf.Digests
	align   uint32
	owed    map[nvmf.CID][]byte // data that the target has to ask for
	asked   []nvmf.R2T          // for data that were not given yet
}

// PDU is one PDU as it came.
type PDU struct {
	nvmf.CommonHeader
	Header []byte // HLEN bytes
	Data   []byte
}

// Dial connects and says nothing.
func Dial(t testing.TB, addr netip.AddrPort) *TCPPeer {
	t.Helper()
	c, err := net.DialTCP("tcp", nil, net.TCPAddrFromAddrPort(addr))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	p := &TCPPeer{Peer: &Peer{t: t, next: 1, nothing: noTCPData}, Conn: c, align: 4, owed: map[nvmf.CID][]byte{}}
	p.wire = p
	return p
}

// Open connects and exchanges ICReq and ICResp.
func Open(t testing.TB, addr netip.AddrPort, d nvmf.Digests) *TCPPeer {
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

// Admin connects, makes a controller and enables it.
func Admin(t testing.TB, addr netip.AddrPort) *TCPPeer {
	t.Helper()
	return AdminAs(t, addr, 0, nvmf.ConnectData{CNTLID: nvmf.CNTLIDDynamic, SUBNQN: NQN, HOSTNQN: Host})
}

// AdminAs makes one as another host, of another subsystem, or with digests.
func AdminAs(t testing.TB, addr netip.AddrPort, d nvmf.Digests, data nvmf.ConnectData) *TCPPeer {
	t.Helper()
	p := Open(t, addr, d)
	if cqe := p.ConnectAs(0, 32, 0, 0, data); !cqe.Status.OK() {
		t.Fatalf("Connect: %v", cqe.Status)
	}
	p.Enable()
	return p
}

// Queue connects an I/O queue of admin's controller.
func Queue(t testing.TB, addr netip.AddrPort, admin *TCPPeer, qid nvmf.QID, entries uint32) *TCPPeer {
	t.Helper()
	p := Open(t, addr, admin.Digests)
	if cqe := p.Connect(qid, entries, admin.CNTLID); !cqe.Status.OK() {
		t.Fatalf("Connect of queue %d: %v", qid, cqe.Status)
	}
	return p
}

// Send sends bytes as they are.
func (p *TCPPeer) Send(b []byte) {
	p.t.Helper()
	_ = p.Conn.SetWriteDeadline(time.Now().Add(patience))
	if _, err := p.Conn.Write(b); err != nil {
		p.t.Fatalf("sending %d bytes: %v", len(b), err)
	}
}

// Capsule is the bytes of a command with data in its capsule.
func (p *TCPPeer) Capsule(s *nvmf.SQE, data []byte) []byte {
	if data != nil {
		s.SetSGL(nvmf.SGL{Type: nvmf.SGLDataBlock, Subtype: nvmf.SGLOffset, Bytes: uint32(len(data))})
	}
	b := nvmf.AppendCapsuleCmd(nil, s, uint32(len(data)), p.Digests, p.align)
	return p.withData(b, data)
}

// H2C is the bytes of an H2CData.
func (p *TCPPeer) H2C(d nvmf.DataPDU, data []byte) []byte {
	d.DATAL = uint32(len(data))
	return p.withData(d.AppendH2CData(nil, p.Digests, p.align), data)
}

func (p *TCPPeer) withData(b, data []byte) []byte {
	b = append(b, data...)
	if len(data) > 0 && p.Digests&nvmf.DataDigests != 0 {
		b = nvmf.AppendDigest(b, nvmf.DataDigest(0, data))
	}
	return b
}

// noTCPData is the transport's own data, of which there are none.
var noTCPData = nvmf.SGL{Type: nvmf.SGLTransport, Subtype: nvmf.SGLTransportData}

// Wants tells the transport to give n bytes to the host.
func Wants(s *nvmf.SQE, n int) *nvmf.SQE {
	d := noTCPData
	d.Bytes = uint32(n)
	s.SetSGL(d)
	return s
}

// Recv takes the next PDU, and proves its digests.
func (p *TCPPeer) Recv(why string) PDU {
	p.t.Helper()
	pdu, err := p.recv(patience)
	if err != nil {
		p.t.Fatalf("%s: waiting for a PDU: %v", why, err)
	}
	return pdu
}

// Poll takes the next PDU if one begins to arrive within limit.
func (p *TCPPeer) Poll(limit time.Duration) (PDU, error) {
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

func (p *TCPPeer) recv(limit time.Duration) (PDU, error) {
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

// Begin sends a command, with data in its capsule or when it is asked for them.
func (p *TCPPeer) Begin(s *nvmf.SQE, data []byte) {
	p.t.Helper()
	if len(data) > tcpCapsuleBytes {
		p.BeginLate(s, data)
		return
	}
	p.Send(p.Capsule(s, data))
}

// BeginLate sends a command whose data go when they are asked for.
func (p *TCPPeer) BeginLate(s *nvmf.SQE, data []byte) {
	p.t.Helper()
	p.owed[s.CID()] = data
	p.BeginRead(s, len(data))
}

// BeginRead sends a command that gives n bytes.
func (p *TCPPeer) BeginRead(s *nvmf.SQE, n int) {
	p.t.Helper()
	p.Send(p.Capsule(Wants(s, n), nil))
}

// Asked takes n R2Ts.
func (p *TCPPeer) Asked(n int) {
	p.t.Helper()
	for range n {
		p.asked = append(p.asked, p.WantR2T("a write that was begun late"))
	}
}

// Give gives the data that were asked for last first.
func (p *TCPPeer) Give() {
	p.t.Helper()
	for i := len(p.asked) - 1; i >= 0; i-- {
		p.answer(p.asked[i])
	}
	p.asked = nil
}

// answer gives the data that an R2T asks for.
func (p *TCPPeer) answer(r nvmf.R2T) {
	p.t.Helper()
	data := p.owed[r.CCCID]
	if uint64(r.R2TO)+uint64(r.R2TL) > uint64(len(data)) {
		p.t.Fatalf("R2T for %d bytes at %d of command %d, which has %d", r.R2TL, r.R2TO, r.CCCID, len(data))
	}
	for at, end := r.R2TO, r.R2TO+r.R2TL; at < end; {
		n := min(end-at, tcpDataBytes)
		p.Send(p.H2C(nvmf.DataPDU{CCCID: r.CCCID, TTAG: r.TTAG, DATAO: at, Last: at+n == end}, data[at:at+n]))
		at += n
	}
}

// Completion takes the data and the completion of one command, which is the next to be answered.
func (p *TCPPeer) Completion(s *nvmf.SQE) (nvmf.CQE, []byte) {
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
			delete(p.owed, cqe.CID)
			return cqe, data
		case nvmf.PDUR2T:
			r, fault := nvmf.DecodeR2T(pdu.Header)
			if !fault.OK() {
				p.t.Fatalf("R2T: %v", fault)
			}
			p.answer(r)
		default:
			p.t.Fatalf("%v, want data or a completion: % x", pdu.Type, pdu.Header)
		}
	}
}

// WantR2T takes an R2T.
func (p *TCPPeer) WantR2T(why string) nvmf.R2T {
	p.t.Helper()
	pdu := p.Recv(why)
	r, fault := nvmf.DecodeR2T(pdu.Header)
	if pdu.Type != nvmf.PDUR2T || !fault.OK() {
		p.t.Fatalf("%s: %v (%v), want R2T", why, pdu.Type, fault)
	}
	return r
}

// WantTerm fails unless the target ends the connection with a C2HTermReq that says e.
func (p *TCPPeer) WantTerm(why string, e nvmf.PDUError) {
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
func (p *TCPPeer) WantClosed(why string) {
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
func (p *TCPPeer) Reset() {
	_ = p.Conn.SetLinger(0)
	_ = p.Conn.Close()
}

// Close closes it in order.
func (p *TCPPeer) Close() { _ = p.Conn.Close() }
