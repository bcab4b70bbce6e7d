package iscsitest

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/pollux-storage/pollux/internal/patient"
	"github.com/pollux-storage/pollux/iscsi"
)

// This file is one connection of an initiator: PDUs out and in. What it says with them is in login.go and command.go.

// Peer is one connection of an initiator. Its Want methods fail the test with the reason that they are given.
//
// It numbers its requests, and looks at the numbers of every answer: a StatSN that is not the next, or a window that goes back, fails the
// test.
type Peer struct {
	t    testing.TB
	Conn *net.TCPConn

	Digests   iscsi.Digests // in use, both ways
	ISID      iscsi.ISID
	TSIH      iscsi.TSIH // after the login
	CID       iscsi.CID
	CmdSN     iscsi.SerialNumber // of the next request
	ExpStatSN iscsi.SerialNumber // of the next response
	ExpCmdSN  iscsi.SerialNumber // as the target said last
	MaxCmdSN  iscsi.SerialNumber
	Keys      map[string]string // what the target answered in the login

	next  iscsi.ITT
	heard bool // a response has come: the numbers count
}

// PDU is one PDU as it came.
type PDU struct {
	iscsi.Header
	BHS  []byte
	AHS  []byte
	Data []byte // without padding
}

// appender is a PDU of package iscsi: what gives a BHS.
type appender interface{ AppendTo([]byte) []byte }

// Dial connects and says nothing.
func Dial(t testing.TB, addr netip.AddrPort) *Peer {
	t.Helper()
	return DialFrom(t, netip.AddrPort{}, addr)
}

// DialFrom connects from an address of this machine.
func DialFrom(t testing.TB, from, addr netip.AddrPort) *Peer {
	t.Helper()
	var local *net.TCPAddr
	if from.IsValid() {
		local = net.TCPAddrFromAddrPort(from)
	}
	c, err := net.DialTCP("tcp", local, net.TCPAddrFromAddrPort(addr))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return &Peer{t: t, Conn: c, ISID: iscsi.ISID{0x80, 0, 0, 0, 0, 1}, CID: 1, CmdSN: 1, Keys: map[string]string{}, next: 1}
}

// ITT gives a tag that was not used before.
func (p *Peer) ITT() iscsi.ITT {
	p.next++
	return p.next
}

// Request gives the numbers of the next request that counts, and counts it.
func (p *Peer) Request() iscsi.Request {
	r := iscsi.Request{CmdSN: p.CmdSN, ExpStatSN: p.ExpStatSN}
	p.CmdSN++
	return r
}

// Immediate gives the numbers of a request that does not count.
func (p *Peer) Immediate() iscsi.Request {
	return iscsi.Request{Immediate: true, CmdSN: p.CmdSN, ExpStatSN: p.ExpStatSN}
}

// PDU is the bytes of a PDU with data, which must be as long as its header says, and with padding and digests.
func (p *Peer) PDU(h appender, data []byte) []byte { return p.PDUWith(h, nil, data) }

// PDUWith is the same with additional header segments.
func (p *Peer) PDUWith(h appender, ahs, data []byte) []byte {
	b := iscsi.AppendDigest(append(h.AppendTo(nil), ahs...), 0, p.Digests)
	b = append(b, data...)
	return iscsi.AppendDataEnd(b, uint32(len(data)), iscsi.DataCRC(0, data), p.Digests)
}

// Send sends bytes as they are.
func (p *Peer) Send(b []byte) {
	p.t.Helper()
	_ = p.Conn.SetWriteDeadline(time.Now().Add(patient.Limit))
	if _, err := p.Conn.Write(b); err != nil {
		p.t.Fatalf("sending %d bytes: %v", len(b), err)
	}
}

// Recv takes the next PDU, and proves its digests and numbers.
func (p *Peer) Recv(why string) PDU {
	p.t.Helper()
	pdu, err := p.recv()
	if err != nil {
		p.t.Fatalf("%s: waiting for a PDU: %v", why, err)
	}
	return pdu
}

// dataBytesMax bounds what a target may send in one PDU: a Peer has declared no more.
const dataBytesMax = 1 << 20

func (p *Peer) recv() (PDU, error) {
	_ = p.Conn.SetReadDeadline(time.Now().Add(patient.Limit))
	b := make([]byte, iscsi.BHSBytes)
	if _, err := io.ReadFull(p.Conn, b); err != nil {
		return PDU{}, err
	}
	pdu := PDU{Header: iscsi.DecodeHeader(b)}
	if pdu.DataBytes > dataBytesMax {
		return PDU{}, fmt.Errorf("%v with %d bytes of data", pdu.Opcode, pdu.DataBytes)
	}
	var err error
	take := func(n uint32) []byte {
		rest := make([]byte, n)
		if err == nil {
			_, err = io.ReadFull(p.Conn, rest)
		}
		return rest
	}
	b = append(b, take(pdu.AHSBytes)...)
	pdu.BHS, pdu.AHS = b[:iscsi.BHSBytes], b[iscsi.BHSBytes:]
	if p.Digests&iscsi.HeaderDigests != 0 && string(take(iscsi.DigestBytes)) != string(iscsi.AppendDigest(b, 0, p.Digests)[len(b):]) && err == nil {
		err = errors.New("wrong header digest")
	}
	data := take(pdu.DataBytes)
	end := take(iscsi.DataEndBytes(pdu.DataBytes, p.Digests))
	if err == nil && string(end) != string(iscsi.AppendDataEnd(nil, pdu.DataBytes, iscsi.DataCRC(0, data), p.Digests)) {
		err = errors.New("wrong data digest, or padding that is not zero")
	}
	if err != nil {
		return PDU{}, err
	}
	pdu.Data = data
	return pdu, p.hear(pdu)
}

// hear takes the numbers of a PDU. RFC 7143 section 4.2.2.
func (p *Peer) hear(pdu PDU) error {
	h, _ := iscsi.DecodeNOPIn(pdu.BHS) // all PDUs of the target have them in the same place
	n := h.Numbers
	counts, hasStatSN := true, true
	switch pdu.Opcode {
	case iscsi.OpR2T:
		counts = false
	case iscsi.OpNOPIn:
		counts = h.ITT != iscsi.NoTag
	case iscsi.OpDataIn:
		d, fault := iscsi.DecodeDataIn(pdu.BHS)
		if !fault.OK() {
			return fault
		}
		counts, hasStatSN = d.Ends, d.Ends
	case iscsi.OpLoginResponse:
		if r, _ := iscsi.DecodeLoginResponse(pdu.BHS); r.Status>>8 != 0 {
			return nil // its numbers do not count
		}
	}
	switch {
	case !p.heard:
		p.ExpStatSN, p.ExpCmdSN, p.MaxCmdSN, p.heard = n.StatSN, n.ExpCmdSN, n.MaxCmdSN, true
	case hasStatSN && n.StatSN != p.ExpStatSN:
		return fmt.Errorf("%v with StatSN %d, want %d", pdu.Opcode, n.StatSN, p.ExpStatSN)
	case n.ExpCmdSN.Before(p.ExpCmdSN) || n.MaxCmdSN.Before(p.MaxCmdSN):
		return fmt.Errorf("%v with the window %d…%d, it was %d…%d before", pdu.Opcode, n.ExpCmdSN, n.MaxCmdSN, p.ExpCmdSN, p.MaxCmdSN)
	}
	p.ExpCmdSN, p.MaxCmdSN = n.ExpCmdSN, n.MaxCmdSN
	if counts {
		p.ExpStatSN++
	}
	return nil
}

// Quiet fails if anything that was sent before has an answer other than none: it asks for a ping, whose answer must be the next PDU.
func (p *Peer) Quiet(why string) {
	p.t.Helper()
	itt := p.ITT()
	p.Send(p.PDU(iscsi.NOPOut{Request: p.Immediate(), ITT: itt, TTT: iscsi.NoTag}, nil))
	pdu := p.Recv(why)
	if in, _ := iscsi.DecodeNOPIn(pdu.BHS); pdu.Opcode != iscsi.OpNOPIn || in.ITT != itt {
		p.t.Fatalf("%s: %v, want the answer to a ping and nothing before it: % x", why, pdu.Opcode, pdu.BHS)
	}
}

// Silent fails if anything has come that was not taken, and if the connection has ended.
func (p *Peer) Silent(why string) {
	p.t.Helper()
	raw, err := p.Conn.SyscallConn()
	if err != nil {
		p.t.Fatal(err)
	}
	var b [1]byte
	var n int
	if e := raw.Control(func(fd uintptr) {
		n, _, err = syscall.Recvfrom(int(fd), b[:], syscall.MSG_PEEK|syscall.MSG_DONTWAIT)
	}); e != nil {
		p.t.Fatal(e)
	}
	if !errors.Is(err, syscall.EAGAIN) {
		p.t.Errorf("%s: something has come, or the connection has ended: %d bytes, %v", why, n, err)
	}
}

// Want takes a PDU of a kind.
func (p *Peer) Want(why string, op iscsi.Opcode) PDU {
	p.t.Helper()
	pdu := p.Recv(why)
	if pdu.Opcode != op {
		p.t.Fatalf("%s: %v, want %v: % x %q", why, pdu.Opcode, op, pdu.BHS, pdu.Data)
	}
	return pdu
}

// WantReject takes a Reject with a reason, of a PDU whose BHS is as given; nil is not looked at.
func (p *Peer) WantReject(why string, reason iscsi.RejectReason, bhs []byte) {
	p.t.Helper()
	pdu := p.Want(why, iscsi.OpReject)
	r, fault := iscsi.DecodeReject(pdu.BHS)
	if !fault.OK() || r.Reason != reason {
		p.t.Fatalf("%s: Reject for %v (%v), want %v", why, r.Reason, fault, reason)
	}
	if bhs != nil && string(pdu.Data) != string(bhs[:iscsi.BHSBytes]) {
		p.t.Errorf("%s: the Reject has the header\n% x, want\n% x", why, pdu.Data, bhs[:iscsi.BHSBytes])
	}
}

// WantR2T takes an R2T.
func (p *Peer) WantR2T(why string) iscsi.R2T {
	p.t.Helper()
	pdu := p.Want(why, iscsi.OpR2T)
	r, fault := iscsi.DecodeR2T(pdu.BHS)
	if !fault.OK() {
		p.t.Fatalf("%s: %v: % x", why, fault, pdu.BHS)
	}
	return r
}

// WantClosed fails unless the target closes without another PDU.
func (p *Peer) WantClosed(why string) {
	p.t.Helper()
	pdu, err := p.recv()
	switch {
	case err == nil:
		p.t.Errorf("%s: %v, want the end of the connection: % x", why, pdu.Opcode, pdu.BHS)
	case errors.Is(err, os.ErrDeadlineExceeded):
		p.t.Errorf("%s: the connection stays open", why)
	case !errors.Is(err, io.EOF) && !errors.Is(err, syscall.ECONNRESET):
		p.t.Errorf("%s: %v", why, err)
	}
}

// Text is the pairs "key=value" as they are sent.
func Text(pairs ...string) []byte {
	var b []byte
	for _, s := range pairs {
		b = append(append(b, s...), 0)
	}
	return b
}

// Pairs takes text apart, in its order.
func Pairs(text []byte) (pairs []string) {
	for s := range strings.SplitSeq(string(text), "\x00") {
		if s != "" {
			pairs = append(pairs, s)
		}
	}
	return pairs
}

// Reset closes the connection with a reset.
func (p *Peer) Reset() {
	_ = p.Conn.SetLinger(0)
	_ = p.Conn.Close()
}

// Close closes it in order.
func (p *Peer) Close() { _ = p.Conn.Close() }
