package nvmf_test

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"

	"github.com/pollux-storage/pollux/bdev"
	"github.com/pollux-storage/pollux/nvmf"
	"github.com/pollux-storage/pollux/nvmf/nvmftest"
)

func pattern(n int, seed uint64) []byte {
	b := make([]byte, n)
	r := rand.NewChaCha8([32]byte{byte(seed), byte(seed >> 8)})
	_, _ = r.Read(b)
	return b
}

// write writes by R2T or in the capsule.
func write(t *testing.T, p *nvmftest.TCPPeer, lba uint64, data []byte, inCapsule bool) {
	t.Helper()
	s := p.RW(nvmf.IOWrite, lba, uint32(len(data)/4096))
	if inCapsule {
		p.WantStatus("write in the capsule", p.Do(s, data), nvmf.StatusSuccess)
		return
	}
	p.Send(p.Capsule(nvmftest.Wants(s, len(data)), nil))
	r := p.WantR2T("write")
	if r.CCCID != s.CID() || r.R2TO != 0 || int(r.R2TL) != len(data) {
		t.Fatalf("R2T %+v for command %d of %d bytes", r, s.CID(), len(data))
	}
	const most = 128 << 10
	for at := 0; at < len(data); at += most {
		end := min(at+most, len(data))
		p.Send(p.H2C(nvmf.DataPDU{CCCID: r.CCCID, TTAG: r.TTAG, DATAO: uint32(at), Last: end == len(data)}, data[at:end]))
	}
	cqe, _ := p.Completion(s)
	p.WantStatus("write", cqe, nvmf.StatusSuccess)
}

func TestWhatIsWrittenIsRead(t *testing.T) {
	for _, d := range []nvmf.Digests{0, nvmf.HeaderDigests, nvmf.DataDigests, nvmf.HeaderDigests | nvmf.DataDigests} {
		for _, reactors := range []int{1, 3} {
			t.Run(fmt.Sprintf("digests %d, reactors %d", d, reactors), func(t *testing.T) {
				e := nvmftest.Start(t, nvmftest.Options{Reactors: reactors})
				a := nvmftest.AdminAs(t, e.Addr, d, nvmf.ConnectData{CNTLID: nvmf.CNTLIDDynamic, SUBNQN: nvmftest.NQN, HOSTNQN: nvmftest.Host})
				for qid := nvmf.QID(1); qid <= nvmf.QID(reactors); qid++ {
					p := nvmftest.Queue(t, e.Addr, a, qid, 32)
					for i, n := range []int{4096, 8192, 16384, 65536, 128 << 10, 1 << 20} {
						want := pattern(n, uint64(i)*7+uint64(qid))
						write(t, p, uint64(i)*256, want, n <= 8192)
						cqe, got := p.Read(p.RW(nvmf.IORead, uint64(i)*256, uint32(n/4096)), n)
						p.WantStatus("read", cqe, nvmf.StatusSuccess)
						if !bytes.Equal(got, want) {
							t.Errorf("%d bytes: read something else than was written", n)
						}
					}
					p.WantStatus("flush", p.Do(p.IO(nvmf.IOFlush), nil), nvmf.StatusSuccess)
					p.Close()
				}
				a.Close()
				e.WantNothingLeft("after the host closed")
			})
		}
	}
}

// badPDU is a PDU with one thing wrong, and what the target must say of it.
type badPDU struct {
	why   string
	bytes func(p *nvmftest.TCPPeer) []byte
	want  nvmf.PDUError
}

func header(p *nvmftest.TCPPeer, change func(b []byte)) []byte {
	b := p.Capsule(p.IO(nvmf.IOFlush), nil)
	change(b)
	return b
}

func TestBrokenPDUsEndTheirConnectionAlone(t *testing.T) {
	e := nvmftest.Start(t, nvmftest.Options{})
	a := nvmftest.Admin(t, e.Addr)
	other := nvmftest.Queue(t, e.Addr, a, 1, 32)
	invalid := func(at uint32) nvmf.PDUError { return nvmf.PDUError{FES: nvmf.FESInvalidHeader, FEI: at} }
	for _, c := range []badPDU{
		{"unknown type", func(p *nvmftest.TCPPeer) []byte { return header(p, func(b []byte) { b[0] = 0x0a }) }, invalid(0)},
		{"type of the other direction", func(p *nvmftest.TCPPeer) []byte { return header(p, func(b []byte) { b[0] = byte(nvmf.PDUR2T) }) }, invalid(0)},
		{"HLEN too small", func(p *nvmftest.TCPPeer) []byte { return header(p, func(b []byte) { b[2] = 71 }) }, invalid(2)},
		{"HLEN too large", func(p *nvmftest.TCPPeer) []byte { return header(p, func(b []byte) { b[2] = 128 }) }, invalid(2)},
		{"PLEN below HLEN", func(p *nvmftest.TCPPeer) []byte {
			return header(p, func(b []byte) { binary.LittleEndian.PutUint32(b[4:], 71) })
		}, invalid(4)},
		{"PLEN beyond all limits", func(p *nvmftest.TCPPeer) []byte {
			return header(p, func(b []byte) { b[3] = 72; binary.LittleEndian.PutUint32(b[4:], 1<<31) })
		}, invalid(4)},
		{"PDO inside the header", func(p *nvmftest.TCPPeer) []byte {
			return header(p, func(b []byte) { b[3] = 8; binary.LittleEndian.PutUint32(b[4:], 72+4096) })
		}, invalid(3)},
		{"second ICReq", func(*nvmftest.TCPPeer) []byte { return nvmf.ICReq{}.AppendTo(nil) }, nvmf.ErrSequence},
		{"header digest that was not agreed", func(p *nvmftest.TCPPeer) []byte { return header(p, func(b []byte) { b[1] |= nvmf.FlagHDGST }) }, invalid(1)},
		{"data for a TTAG that is not open", func(p *nvmftest.TCPPeer) []byte {
			return p.H2C(nvmf.DataPDU{CCCID: 9, TTAG: 3, Last: true}, make([]byte, 512))
		}, nvmf.ErrTTAG},
		{"data for a TTAG beyond the queue", func(p *nvmftest.TCPPeer) []byte {
			return p.H2C(nvmf.DataPDU{CCCID: 9, TTAG: 65535, Last: true}, make([]byte, 512))
		}, nvmf.ErrTTAG},
	} {
		t.Run(c.why, func(t *testing.T) {
			p := nvmftest.Queue(t, e.Addr, a, 2, 32)
			p.Send(c.bytes(p))
			p.WantTerm(c.why, c.want)
			p.Close()
			other.WantStatus("another queue", other.Do(other.IO(nvmf.IOFlush), nil), nvmf.StatusSuccess)
			e.AwaitQueues("the other queue is left alone", 1)
		})
	}
}

func TestDataThatDoesNotAnswerItsR2TEndsTheConnection(t *testing.T) {
	type answer struct {
		why  string
		pdu  func(p *nvmftest.TCPPeer, r nvmf.R2T) []byte
		want nvmf.PDUError
	}
	d := make([]byte, 65536)
	for _, c := range []answer{
		{"CCCID of another command", func(p *nvmftest.TCPPeer, r nvmf.R2T) []byte {
			return p.H2C(nvmf.DataPDU{CCCID: r.CCCID + 1, TTAG: r.TTAG, Last: true}, d)
		}, nvmf.ErrCCCID},
		{"past the end", func(p *nvmftest.TCPPeer, r nvmf.R2T) []byte {
			return p.H2C(nvmf.DataPDU{CCCID: r.CCCID, TTAG: r.TTAG, DATAO: 4, Last: true}, d)
		}, nvmf.ErrOutOfRange},
		{"a gap", func(p *nvmftest.TCPPeer, r nvmf.R2T) []byte {
			return p.H2C(nvmf.DataPDU{CCCID: r.CCCID, TTAG: r.TTAG, DATAO: 4096}, d[:4096])
		}, nvmf.ErrSequence},
		{"LAST_PDU too early", func(p *nvmftest.TCPPeer, r nvmf.R2T) []byte {
			return p.H2C(nvmf.DataPDU{CCCID: r.CCCID, TTAG: r.TTAG, Last: true}, d[:4096])
		}, nvmf.ErrSequence},
		{"no LAST_PDU at the end", func(p *nvmftest.TCPPeer, r nvmf.R2T) []byte {
			return p.H2C(nvmf.DataPDU{CCCID: r.CCCID, TTAG: r.TTAG}, d)
		}, nvmf.ErrSequence},
		{"above MAXH2CDATA", func(p *nvmftest.TCPPeer, r nvmf.R2T) []byte {
			return p.H2C(nvmf.DataPDU{CCCID: r.CCCID, TTAG: r.TTAG, Last: true}, make([]byte, 128<<10+4))
		}, nvmf.PDUError{FES: nvmf.FESLimitExceeded}},
		{"data after the last", func(p *nvmftest.TCPPeer, r nvmf.R2T) []byte {
			b := p.H2C(nvmf.DataPDU{CCCID: r.CCCID, TTAG: r.TTAG, Last: true}, d)
			return append(b, p.H2C(nvmf.DataPDU{CCCID: r.CCCID, TTAG: r.TTAG, Last: true}, d)...)
		}, nvmf.ErrTTAG},
	} {
		t.Run(c.why, func(t *testing.T) {
			e := nvmftest.Start(t, nvmftest.Options{})
			a := nvmftest.Admin(t, e.Addr)
			p := nvmftest.Queue(t, e.Addr, a, 1, 32)
			s := p.RW(nvmf.IOWrite, 0, 16)
			p.Send(p.Capsule(nvmftest.Wants(s, len(d)), nil))
			p.Send(c.pdu(p, p.WantR2T("write")))
			if c.why == "data after the last" {
				// The command may have been answered before the second PDU was looked at.
				pdu := p.Recv(c.why)
				if pdu.Type == nvmf.PDUC2HTermReq {
					return
				}
			}
			p.WantTerm(c.why, c.want)
			a.WantStatus("the Admin queue", a.Do(a.Cmd(nvmf.AdminKeepAlive), nil), nvmf.StatusSuccess)
			p.Close()
			a.Close()
			e.WantNothingLeft(c.why)
		})
	}
}

func TestHostsThatVanishLeaveNothing(t *testing.T) {
	e := nvmftest.Start(t, nvmftest.Options{Reactors: 2})
	full := func(p *nvmftest.TCPPeer) []byte {
		s := p.RW(nvmf.IOWrite, 0, 2)
		return p.Capsule(s, make([]byte, 8192))
	}
	probe := nvmftest.Dial(t, e.Addr)
	n := len(full(probe))
	probe.Close()
	cuts := []int{0, 1, 7, 8, 71, 72, 73, 100, 4000, n - 1}
	for _, cut := range cuts {
		for _, reset := range []bool{false, true} {
			a := nvmftest.Admin(t, e.Addr)
			p := nvmftest.Queue(t, e.Addr, a, 1, 32)
			p.Send(full(p)[:cut])
			// And in the middle of a transfer by R2T.
			q := nvmftest.Queue(t, e.Addr, a, 2, 32)
			s := q.RW(nvmf.IOWrite, 0, 16)
			q.Send(q.Capsule(nvmftest.Wants(s, 65536), nil))
			r := q.WantR2T("write")
			b := q.H2C(nvmf.DataPDU{CCCID: r.CCCID, TTAG: r.TTAG, Last: true}, make([]byte, 65536))
			q.Send(b[:cut])
			if reset {
				p.Reset()
				q.Reset()
				a.Reset()
			} else {
				a.Close()
				q.Close()
				p.Close()
			}
		}
	}
	e.WantNothingLeft("after hosts vanished")
}

func TestTheStreamMayBeCutAnywhere(t *testing.T) {
	e := nvmftest.Start(t, nvmftest.Options{})
	a := nvmftest.AdminAs(t, e.Addr, nvmf.HeaderDigests|nvmf.DataDigests, nvmf.ConnectData{CNTLID: nvmf.CNTLIDDynamic, SUBNQN: nvmftest.NQN, HOSTNQN: nvmftest.Host})
	p := nvmftest.Queue(t, e.Addr, a, 1, 32)
	want := pattern(8192, 1)
	first, second := p.RW(nvmf.IOWrite, 5, 2), p.RW(nvmf.IORead, 5, 2)
	b := append(p.Capsule(first, want), p.Capsule(nvmftest.Wants(second, 8192), nil)...)
	for _, at := range []int{1, 4, 7, 8, 9, 40, 71, 72, 75, 76, 77, 4172, 76 + 8191, 76 + 8192, 76 + 8192 + 3, 76 + 8192 + 4, 76 + 8192 + 5, len(b) - 1} {
		p.Send(b[:at])
		p.Send(b[at:])
		cqe, _ := p.Completion(first)
		p.WantStatus("write", cqe, nvmf.StatusSuccess)
		cqe, got := p.Completion(second)
		p.WantStatus("read", cqe, nvmf.StatusSuccess)
		if !bytes.Equal(got, want) {
			t.Fatalf("cut at %d: read something else than was written", at)
		}
	}
}

func TestConnectIsJudged(t *testing.T) {
	nvmftest.Each(t, func(t *testing.T, start func(nvmftest.Options) *nvmftest.Portal) {
		e := start(nvmftest.Options{Subsystem: func(o *nvmf.SubsystemOptions) { o.AllowAnyHost = false }})
		for _, host := range []string{nvmftest.Host, nvmftest.Host + "2"} {
			if err := e.Target.AddHost(nvmftest.NQN, host, nvmf.HostKeys{}); err != nil {
				t.Fatal(err)
			}
		}
		good := nvmf.ConnectData{CNTLID: nvmf.CNTLIDDynamic, SUBNQN: nvmftest.NQN, HOSTNQN: nvmftest.Host}
		a := e.Admin()
		for _, c := range []struct {
			why     string
			qid     nvmf.QID
			entries uint32
			change  func(d *nvmf.ConnectData)
			want    nvmf.Status
			ipo     nvmf.IPO
		}{
			{"unknown subsystem", 0, 32, func(d *nvmf.ConnectData) { d.SUBNQN += "x" }, nvmf.StatusConnectParameters | nvmf.DNR, nvmf.IPOSUBNQN},
			{"host not allowed", 0, 32, func(d *nvmf.ConnectData) { d.HOSTNQN += "x" }, nvmf.StatusConnectHost | nvmf.DNR, 0},
			{"malformed host", 0, 32, func(d *nvmf.ConnectData) { d.HOSTNQN = "me" }, nvmf.StatusConnectParameters | nvmf.DNR, nvmf.IPOHOSTNQN},
			{"SQSIZE 0", 0, 1, nil, nvmf.StatusConnectParameters | nvmf.DNR, nvmf.IPOSQSIZE},
			{"SQSIZE above ours", 0, 129, nil, nvmf.StatusConnectParameters | nvmf.DNR, nvmf.IPOSQSIZE},
			{"CNTLID of the static model", 0, 32, func(d *nvmf.ConnectData) { d.CNTLID = nvmf.CNTLIDStatic }, nvmf.StatusConnectParameters | nvmf.DNR, nvmf.IPOCNTLID},
			{"unknown controller", 1, 32, func(d *nvmf.ConnectData) { d.CNTLID = 999 }, nvmf.StatusConnectParameters, nvmf.IPOCNTLID},
			{"controller of another", 1, 32, func(d *nvmf.ConnectData) { d.CNTLID, d.HOSTNQN = a.CNTLID, nvmftest.Host+"2" }, nvmf.StatusConnectParameters, nvmf.IPOHOSTNQN},
			{"host id of another", 1, 32, func(d *nvmf.ConnectData) { d.CNTLID, d.HOSTID = a.CNTLID, [16]byte{1} }, nvmf.StatusConnectParameters, nvmf.IPOHOSTID},
			{"queue above the most", 128, 32, func(d *nvmf.ConnectData) { d.CNTLID = a.CNTLID }, nvmf.StatusConnectParameters | nvmf.DNR, nvmf.IPOQID},
		} {
			t.Run(c.why, func(t *testing.T) {
				of := min(c.qid, 1)
				p := e.Open(of, 32, a.CNTLID)
				d := good
				if c.change != nil {
					c.change(&d)
				}
				cqe := p.ConnectAs(c.qid, c.entries, 0, 0, d)
				p.WantStatus(c.why, cqe, c.want)
				if c.ipo != 0 && nvmf.IPO(cqe.DW0) != c.ipo {
					t.Errorf("DW0 %#x, want %#x", cqe.DW0, uint32(c.ipo))
				}
				// The host may try again on the same connection.
				if d = good; of > 0 {
					d.CNTLID = a.CNTLID
				}
				p.WantStatus("a good Connect after it", p.ConnectAs(of, 32, 0, 0, d), nvmf.StatusSuccess)
				p.WantStatus("and once more", p.ConnectAs(of, 32, 0, 0, d), nvmf.StatusSequence|nvmf.DNR)
				p.Close()
			})
		}
	})
}

func TestFirstCommandMustBeConnect(t *testing.T) {
	nvmftest.Each(t, func(t *testing.T, start func(nvmftest.Options) *nvmftest.Portal) {
		e := start(nvmftest.Options{})
		p := e.Open(0, 32, 0)
		p.WantStatus("Keep Alive first", p.Do(p.Cmd(nvmf.AdminKeepAlive), nil), nvmf.StatusSequence|nvmf.DNR)
		s := p.Fabrics(nvmf.FabricsPropertyGet)
		p.WantStatus("Property Get first", p.Do(s, nil), nvmf.StatusSequence|nvmf.DNR)
		p.WantStatus("then Connect", p.Connect(0, 32, nvmf.CNTLIDDynamic), nvmf.StatusSuccess)
		p.WantStatus("an Admin command before CC.EN", p.Do(p.Cmd(nvmf.AdminKeepAlive), nil), nvmf.StatusSequence|nvmf.DNR)
	})
}

func TestIOCommandsAreJudged(t *testing.T) {
	nvmftest.Each(t, func(t *testing.T, start func(nvmftest.Options) *nvmftest.Portal) {
		e := start(nvmftest.Options{})
		a := e.Admin()
		p := e.Queue(a, 1, 32)
		const blocks = 16 << 20 / 4096
		read := func(lba uint64, n uint32, bytes int) nvmf.CQE {
			cqe, _ := p.Read(p.RW(nvmf.IORead, lba, n), bytes)
			return cqe
		}
		p.WantStatus("the last block", read(blocks-1, 1, 4096), nvmf.StatusSuccess)
		p.WantStatus("one past the last", read(blocks, 1, 4096), nvmf.StatusLBAOutOfRange|nvmf.DNR)
		p.WantStatus("over the end", read(blocks-1, 2, 8192), nvmf.StatusLBAOutOfRange|nvmf.DNR)
		p.WantStatus("LBA 2^64-1", read(1<<64-1, 2, 8192), nvmf.StatusLBAOutOfRange|nvmf.DNR)
		p.WantStatus("a buffer shorter than the blocks", read(0, 2, 4096), nvmf.StatusSGLLength|nvmf.DNR)
		p.WantStatus("above MDTS", read(0, 257, 257*4096), nvmf.StatusInvalidField|nvmf.DNR)
		s := p.IO(0x7e)
		p.WantStatus("unknown opcode", p.Do(s, nil), nvmf.StatusInvalidOpcode|nvmf.DNR)
		for _, id := range []nvmf.NSID{0, 2, 33, nvmf.NSIDAll} {
			s := p.IO(nvmf.IOFlush)
			name(s, id)
			p.WantStatus(fmt.Sprintf("NSID %#x", uint32(id)), p.Do(s, nil), nvmf.StatusInvalidNamespace|nvmf.DNR)
		}
		p.WantStatus("write zeroes above WZSL", p.Do(p.RW(nvmf.IOWriteZeroes, 0, 4097), nil), nvmf.StatusLBAOutOfRange|nvmf.DNR)
		f := p.RW(nvmf.IORead, 0, 1)
		f.SetFuse(nvmf.FuseReserved)
		cqe, _ := p.Read(f, 4096)
		p.WantStatus("reserved FUSE", cqe, nvmf.StatusInvalidField|nvmf.DNR)
	})
}

func TestAKeyedDescriptorOverTCP(t *testing.T) {
	e := nvmftest.Start(t, nvmftest.Options{})
	p := nvmftest.Queue(t, e.Addr, nvmftest.Admin(t, e.Addr), 1, 32)
	w := p.RW(nvmf.IOWrite, 0, 1)
	w.SetSGL(nvmf.SGL{Type: nvmf.SGLKeyed, Bytes: 4096})
	p.Send(nvmf.AppendCapsuleCmd(nil, w, 0, 0, 4))
	cqe, _ := p.Completion(w)
	p.WantStatus("a keyed descriptor", cqe, nvmf.StatusSGLType|nvmf.DNR)
}

func TestSameCIDTwiceIsAConflict(t *testing.T) {
	nvmftest.Each(t, func(t *testing.T, start func(nvmftest.Options) *nvmftest.Portal) {
		e := start(nvmftest.Options{})
		a := e.Admin()
		p := e.Queue(a, 1, 32)
		d := e.AddHeld("held", 4096)
		e.AddNamespace(nvmf.NamespaceOptions{BdevName: "held"})
		first, second := p.RW(nvmf.IORead, 0, 1), p.RW(nvmf.IORead, 0, 1)
		name(first, 2)
		name(second, 2)
		second.SetCID(first.CID())
		p.BeginRead(first, 4096)
		d.Want("a read", 1)
		cqe, _ := p.Read(second, 4096)
		p.WantStatus("the same CID again", cqe, nvmf.StatusCIDConflict)
		d.End(bdev.StatusOK)
		cqe, _ = p.Completion(first)
		p.WantStatus("the first goes on", cqe, nvmf.StatusSuccess)
	})
}

func TestMoreCommandsThanTheQueueHoldsEndTheConnection(t *testing.T) {
	e := nvmftest.Start(t, nvmftest.Options{})
	a := nvmftest.Admin(t, e.Addr)
	p := nvmftest.Queue(t, e.Addr, a, 1, 4)
	var b []byte
	for range 5 {
		b = append(b, p.Capsule(nvmftest.Wants(p.RW(nvmf.IOWrite, 0, 1), 4096), nil)...)
	}
	p.Send(b)
	for {
		pdu := p.Recv("five writes on a queue of four")
		if pdu.Type == nvmf.PDUC2HTermReq {
			break
		}
		if pdu.Type != nvmf.PDUR2T {
			t.Fatalf("%v", pdu.Type)
		}
	}
	p.Close()
	a.Close()
	e.WantNothingLeft("after an overrun")
}

func TestAThousandConnectsLeaveNothing(t *testing.T) {
	nvmftest.Each(t, func(t *testing.T, start func(nvmftest.Options) *nvmftest.Portal) {
		e := start(nvmftest.Options{Reactors: 2})
		var wait sync.WaitGroup
		for range 8 {
			wait.Go(func() {
				for i := range 125 {
					p, cqe := e.Try(0, host())
					if !cqe.Status.OK() {
						t.Errorf("Connect: %v", cqe.Status)
					}
					if i%2 == 0 {
						p.Reset()
					} else {
						p.Close()
					}
				}
			})
		}
		wait.Wait()
		e.WantNothingLeft("after 1000 connections")
	})
}

func TestSixtyFourHostsAtOnce(t *testing.T) {
	nvmftest.Each(t, func(t *testing.T, start func(nvmftest.Options) *nvmftest.Portal) {
		e := start(nvmftest.Options{Reactors: 2, MemoryBytes: 64 << 20})
		var wait sync.WaitGroup
		for h := range 64 {
			wait.Go(func() {
				d := host()
				d.HOSTNQN = fmt.Sprintf("%s-%d", nvmftest.Host, h)
				a, p := e.HostAs(1, d)
				for i := range 20 {
					want := pattern(4096, uint64(h*100+i))
					w := p.RW(nvmf.IOWrite, uint64(h), 1)
					if i%2 == 0 {
						p.Begin(w, want)
					} else {
						p.BeginLate(w, want)
					}
					cqe, _ := p.Completion(w)
					p.WantStatus("write", cqe, nvmf.StatusSuccess)
					_, got := p.Read(p.RW(nvmf.IORead, uint64(h), 1), 4096)
					if !bytes.Equal(got, want) {
						t.Errorf("host %d: read something else than was written", h)
					}
				}
				p.Close()
				a.Close()
			})
		}
		wait.Wait()
		e.WantNothingLeft("after 64 hosts")
	})
}

func TestResetDropsQueuesAndKeepsTheAssociation(t *testing.T) {
	nvmftest.Each(t, func(t *testing.T, start func(nvmftest.Options) *nvmftest.Portal) {
		e := start(nvmftest.Options{Reactors: 2})
		a := e.Admin()
		for range 3 {
			p := e.Queue(a, 1, 32)
			q := e.Queue(a, 2, 32)
			a.WantStatus("CC.EN 0", a.SetProperty(nvmf.PropertyCC, 0), nvmf.StatusSuccess)
			p.WantClosed("an I/O queue after CC.EN 0")
			q.WantClosed("an I/O queue after CC.EN 0")
			nvmftest.Await(t, "CSTS.RDY goes after CC.EN 0", func() bool { return nvmf.CSTS(a.Property(nvmf.PropertyCSTS, 4))&nvmf.CSTSRDY == 0 })
			a.Enable()
		}
		a.WantStatus("shutdown", a.SetProperty(nvmf.PropertyCC, uint64(nvmf.CCEnable.WithSHN(nvmf.SHNNormal))), nvmf.StatusSuccess)
		nvmftest.Await(t, "the shutdown is done", func() bool {
			return nvmf.CSTS(a.Property(nvmf.PropertyCSTS, 4))&nvmf.CSTSShutMask == nvmf.CSTSShutDone
		})
	})
}

// Base Specification 2.0, "NVM Subsystem Reset": writing NSSR ends every controller where the subsystem has it, and nothing elsewhere.
func TestSubsystemReset(t *testing.T) {
	nvmftest.Each(t, func(t *testing.T, start func(nvmftest.Options) *nvmftest.Portal) {
		for _, enabled := range []bool{false, true} {
			e := start(nvmftest.Options{Subsystem: func(o *nvmf.SubsystemOptions) { o.NSSR = enabled }})
			a, other := e.Admin(), e.Admin()
			reset := func(v uint64) {
				a.WantStatus("writing NSSR", a.SetProperty(nvmf.PropertyNSSR, v), nvmf.StatusSuccess)
			}
			reset(1)
			reset(nvmf.NSSRValue &^ 0xff)
			other.WantStatus("after a value that means nothing", other.Do(other.Cmd(nvmf.AdminKeepAlive), nil), nvmf.StatusSuccess)
			if enabled { // no answer is due: the controller that would give it is gone
				s := a.Fabrics(nvmf.FabricsPropertySet)
				s.SetProperty(nvmf.PropertyNSSR, 4, nvmf.NSSRValue)
				a.Begin(s, nil)
				other.WantClosed("another controller, after the reset")
				e.WantNothingLeft("after a subsystem reset")
				continue
			}
			reset(nvmf.NSSRValue)
			for _, p := range []*nvmftest.Peer{a, other} {
				p.WantStatus("where there is no reset", p.Do(p.Cmd(nvmf.AdminKeepAlive), nil), nvmf.StatusSuccess)
			}
			if v := a.Property(nvmf.PropertyCSTS, 4); v != uint64(nvmf.CSTSRDY) {
				t.Errorf("CSTS %#x", v)
			}
		}
	})
}
