package iscsitest

import (
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/pollux-storage/pollux/iscsi"
)

// This file is how a Peer logs in, and out.

// Login connects and logs in to the full feature phase. keys, "key=value", are said beside or instead of those of Keys; a key alone,
// without =, is not said at all.
func Login(t testing.TB, addr netip.AddrPort, keys ...string) *Peer {
	t.Helper()
	p := Dial(t, addr)
	p.Login(keys...)
	return p
}

// Login logs in to the full feature phase, in one step.
func (p *Peer) Login(keys ...string) {
	p.t.Helper()
	r, text := p.Step(iscsi.OperationalStage, iscsi.FullFeature, Keys(keys...)...)
	if r.Status != iscsi.LoginSuccess || !r.Transit || r.NSG != iscsi.FullFeature {
		p.t.Fatalf("the login: %v, to %v (%v), %q", r.Status, r.NSG, r.Transit, text)
	}
	p.Enter(r)
}

// Keys are what an initiator says that takes what there is, changed as keys say.
func Keys(keys ...string) []string {
	said := []string{
		"InitiatorName=" + Initiator, "TargetName=" + Node, "SessionType=Normal", "HeaderDigest=None", "DataDigest=None",
		"MaxRecvDataSegmentLength=262144", "MaxBurstLength=1048576", "FirstBurstLength=65536", "InitialR2T=No", "ImmediateData=Yes",
		"MaxOutstandingR2T=1", "MaxConnections=1", "ErrorRecoveryLevel=0", "DefaultTime2Wait=2", "DefaultTime2Retain=0",
		"DataPDUInOrder=Yes", "DataSequenceInOrder=Yes",
	}
	for _, k := range keys {
		name, _, says := strings.Cut(k, "=")
		at := slices.IndexFunc(said, func(s string) bool { return strings.HasPrefix(s, name+"=") })
		switch {
		case at < 0:
			said = append(said, k)
		case says:
			said[at] = k
		default:
			said = slices.Delete(said, at, at+1)
		}
	}
	return said
}

// Discovery connects and begins a discovery session.
func Discovery(t testing.TB, addr netip.AddrPort, keys ...string) *Peer {
	t.Helper()
	p := Dial(t, addr)
	said := append([]string{"InitiatorName=" + Initiator, "SessionType=Discovery", "MaxRecvDataSegmentLength=262144"}, keys...)
	r, text := p.Step(iscsi.OperationalStage, iscsi.FullFeature, said...)
	if r.Status != iscsi.LoginSuccess || !r.Transit || r.NSG != iscsi.FullFeature {
		t.Fatalf("the login to discovery: %v, %q", r.Status, text)
	}
	p.Enter(r)
	return p
}

// Step sends a Login Request with pairs, ready for the stage nsg unless that is csg, and takes the answer.
func (p *Peer) Step(csg, nsg iscsi.Stage, pairs ...string) (iscsi.LoginResponse, []string) {
	p.t.Helper()
	text := Text(pairs...)
	r := iscsi.LoginRequest{
		Request: p.Immediate(), Transit: csg != nsg, CSG: csg, ISID: p.ISID, TSIH: p.TSIH, ITT: p.next, CID: p.CID, DataBytes: uint32(len(text)),
	}
	if r.Transit {
		r.NSG = nsg
	}
	p.Send(p.PDU(r, text))
	return p.WantLogin("the answer to a login")
}

// WantLogin takes a Login Response.
func (p *Peer) WantLogin(why string) (iscsi.LoginResponse, []string) {
	p.t.Helper()
	pdu := p.Want(why, iscsi.OpLoginResponse)
	r, fault := iscsi.DecodeLoginResponse(pdu.BHS)
	if !fault.OK() {
		p.t.Fatalf("%s: %v: % x", why, fault, pdu.BHS)
	}
	pairs := Pairs(pdu.Data)
	for _, s := range pairs {
		k, v, _ := strings.Cut(s, "=")
		p.Keys[k] = v
	}
	return r, pairs
}

// Enter takes over what the last Login Response says: from now on the digests are in use.
func (p *Peer) Enter(r iscsi.LoginResponse) {
	p.TSIH = r.TSIH
	if p.Keys["HeaderDigest"] == "CRC32C" {
		p.Digests |= iscsi.HeaderDigests
	}
	if p.Keys["DataDigest"] == "CRC32C" {
		p.Digests |= iscsi.DataDigests
	}
}

// WantRefused fails unless a login ends with a status and the connection with it.
func (p *Peer) WantRefused(why string, r iscsi.LoginResponse, status iscsi.LoginStatus) {
	p.t.Helper()
	if r.Status != status {
		p.t.Errorf("%s: %v, want %v", why, r.Status, status)
		return
	}
	p.WantClosed(why)
}

// Number is a number that the target answered in the login, or def if it did not.
func (p *Peer) Number(key string, def uint32) uint32 {
	n, err := strconv.ParseUint(p.Keys[key], 10, 32)
	if err != nil {
		return def
	}
	return uint32(n)
}

// Logout ends the session, and takes the answer and the end of the connection.
func (p *Peer) Logout(why string) {
	p.t.Helper()
	p.Send(p.PDU(iscsi.LogoutRequest{Request: p.Request(), Reason: iscsi.LogoutSession, ITT: p.ITT()}, nil))
	pdu := p.Want(why, iscsi.OpLogoutResponse)
	if r, _ := iscsi.DecodeLogoutResponse(pdu.BHS); r.Response != iscsi.LogoutDone {
		p.t.Errorf("%s: logout ends with %d", why, r.Response)
	}
	p.WantClosed(why)
}

// Ask sends a Text Request with pairs and takes the answer, all pieces of it.
func (p *Peer) Ask(why string, pairs ...string) []string {
	p.t.Helper()
	text := Text(pairs...)
	r := iscsi.TextRequest{Request: p.Request(), Final: true, ITT: p.ITT(), TTT: iscsi.NoTag, DataBytes: uint32(len(text))}
	p.Send(p.PDU(r, text))
	var answer []byte
	for {
		pdu := p.Want(why, iscsi.OpTextResponse)
		resp, fault := iscsi.DecodeTextResponse(pdu.BHS)
		if !fault.OK() || resp.ITT != r.ITT {
			p.t.Fatalf("%s: %v: % x", why, fault, pdu.BHS)
		}
		answer = append(answer, pdu.Data...)
		if resp.Final {
			return Pairs(answer)
		}
		r = iscsi.TextRequest{Request: p.Request(), Final: true, LUN: resp.LUN, ITT: r.ITT, TTT: resp.TTT}
		p.Send(p.PDU(r, nil))
	}
}
