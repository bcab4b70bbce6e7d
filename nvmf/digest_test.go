package nvmf_test

import (
	"testing"

	"github.com/pollux-storage/pollux/nvmf"
	"github.com/pollux-storage/pollux/nvmf/nvmftest"
)

// A wrong data digest ends the command, a wrong header digest the connection: behind it no PDU begins for certain.
func TestWrongDigests(t *testing.T) {
	e := nvmftest.Start(t, nvmftest.Options{})
	both := nvmf.HeaderDigests | nvmf.DataDigests
	a := nvmftest.AdminAs(t, e.Addr, both, nvmf.ConnectData{CNTLID: nvmf.CNTLIDDynamic, SUBNQN: nvmftest.NQN, HOSTNQN: nvmftest.Host})
	p := nvmftest.Queue(t, e.Addr, a, 1, 32)

	s := p.RW(nvmf.IOWrite, 0, 1)
	b := p.Capsule(s, make([]byte, 4096))
	b[len(b)-1] ^= 1
	p.Send(b)
	cqe, _ := p.Completion(s)
	p.WantStatus("wrong data digest in the capsule", cqe, nvmf.StatusTransientTransport)

	s = p.RW(nvmf.IOWrite, 0, 32)
	p.Send(p.Capsule(nvmftest.Wants(s, 128<<10), nil))
	r := p.WantR2T("write")
	first := p.H2C(nvmf.DataPDU{CCCID: r.CCCID, TTAG: r.TTAG}, make([]byte, 64<<10))
	first[len(first)-1] ^= 1
	p.Send(first)
	p.Send(p.H2C(nvmf.DataPDU{CCCID: r.CCCID, TTAG: r.TTAG, DATAO: 64 << 10, Last: true}, make([]byte, 64<<10)))
	cqe, _ = p.Completion(s)
	p.WantStatus("wrong data digest in the first of two PDUs", cqe, nvmf.StatusTransientTransport)

	want := pattern(4096, 9)
	write(t, p, 0, want, true)
	b = p.Capsule(p.IO(nvmf.IOFlush), nil)
	digest := nvmf.Digest(b[72:]) ^ 1
	b[72] ^= 1
	p.Send(b)
	p.WantTerm("wrong header digest", nvmf.PDUError{FES: nvmf.FESHeaderDigest, FEI: digest})
	p.Close()
	a.WantStatus("the Admin queue", a.Do(a.Cmd(nvmf.AdminKeepAlive), nil), nvmf.StatusSuccess)
}
