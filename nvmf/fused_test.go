package nvmf_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/pollux-storage/pollux/bdev"
	"github.com/pollux-storage/pollux/bdev/bdevtest"
	"github.com/pollux-storage/pollux/nvmf"
	"github.com/pollux-storage/pollux/nvmf/nvmftest"
	"github.com/pollux-storage/pollux/reactor"
)

const (
	fusedFailed  = nvmf.StatusFusedFailed | nvmf.DNR
	fusedMissing = nvmf.StatusFusedMissing | nvmf.DNR
	miscompare   = nvmf.StatusCompareFailure | nvmf.DNR
	invalidField = nvmf.StatusInvalidField | nvmf.DNR
)

// pair is a Compare and Write of a test.
type pair struct {
	p             *nvmftest.Peer
	first, second *nvmf.SQE
	compare, data []byte
}

func newPair(p *nvmftest.Peer, lba uint64, bs int, compare, data []byte) *pair {
	x := &pair{p, p.RW(nvmf.IOCompare, lba, uint32(len(compare)/bs)), p.RW(nvmf.IOWrite, lba, uint32(len(data)/bs)), compare, data}
	x.first.SetFuse(nvmf.FuseFirst)
	x.second.SetFuse(nvmf.FuseSecond)
	return x
}

// begin sends both commands, with their data.
func (x *pair) begin() {
	x.p.Begin(x.first, x.compare)
	x.p.Begin(x.second, x.data)
}

// beginLate sends both, whose data have to be asked for.
func (x *pair) beginLate() {
	x.p.BeginLate(x.first, x.compare)
	x.p.BeginLate(x.second, x.data)
}

// bytes are both capsules over TCP, and how long the first is. Data up to most bytes is in them.
func (x *pair) bytes(p *nvmftest.TCPPeer, most int) (b []byte, cut int) {
	if len(x.data) <= most {
		b = p.Capsule(x.first, x.compare)
		return append(b, p.Capsule(x.second, x.data)...), len(b)
	}
	b = p.Capsule(nvmftest.Wants(x.first, len(x.compare)), nil)
	return append(b, p.Capsule(nvmftest.Wants(x.second, len(x.data)), nil)...), len(b)
}

// answer gives the data of the two R2Ts, that of the second first.
func (x *pair) answer(p *nvmftest.TCPPeer) {
	r, s := p.WantR2T("the first"), p.WantR2T("the second")
	if r.CCCID != x.first.CID() || s.CCCID != x.second.CID() {
		panic(fmt.Sprintf("R2T of %d and %d, want %d and %d", r.CCCID, s.CCCID, x.first.CID(), x.second.CID()))
	}
	p.Send(p.H2C(nvmf.DataPDU{CCCID: s.CCCID, TTAG: s.TTAG, Last: true}, x.data))
	p.Send(p.H2C(nvmf.DataPDU{CCCID: r.CCCID, TTAG: r.TTAG, Last: true}, x.compare))
}

// want takes both completions, the first before the second.
func (x *pair) want(t *testing.T, why string, first, second nvmf.Status) nvmf.CQE {
	t.Helper()
	cqe, _ := x.p.Completion(x.first)
	x.p.WantStatus(why+", the first", cqe, first)
	d, _ := x.p.Completion(x.second)
	x.p.WantStatus(why+", the second", d, second)
	return cqe
}

// do sends the pair and takes what it ends with.
func (x *pair) do(t *testing.T, why string, first, second nvmf.Status) nvmf.CQE {
	t.Helper()
	x.begin()
	return x.want(t, why, first, second)
}

func host() nvmf.ConnectData {
	return nvmf.ConnectData{CNTLID: nvmf.CNTLIDDynamic, SUBNQN: nvmftest.NQN, HOSTNQN: nvmftest.Host}
}

// NVM Command Set Specification 1.0, "Fused Operation": the Write is done if the Compare finds what it names, and only then.
func TestFusedCompareAndWrite(t *testing.T) {
	for _, bs := range []int{512, 4096} {
		o := nvmftest.Options{BlockSize: uint32(bs)}
		nvmftest.Each(t, func(t *testing.T, start func(nvmftest.Options) *nvmftest.Portal) {
			e := start(o)
			compareAndWrite(t, e.Queue(e.Admin(), 1, 32), bs)
		})
		t.Run("TCP with digests", func(t *testing.T) {
			e := nvmftest.Start(t, o)
			a := nvmftest.AdminAs(t, e.Addr, nvmf.HeaderDigests|nvmf.DataDigests, host())
			compareAndWrite(t, nvmftest.Queue(t, e.Addr, a, 1, 32).Peer, bs)
		})
	}
}

func compareAndWrite(t *testing.T, p *nvmftest.Peer, bs int) {
	for i, n := range []int{bs, 8192, 12 << 10, 64 << 10} {
		t.Run(fmt.Sprintf("blocks of %d, %d bytes", bs, n), func(t *testing.T) {
			lba := uint64(i) * 128
			old, data := make([]byte, n), pattern(n, uint64(i))
			newPair(p, lba, bs, old, data).do(t, "equal", nvmf.StatusSuccess, nvmf.StatusSuccess)
			read := func() []byte {
				_, got := p.Read(p.RW(nvmf.IORead, lba, uint32(n/bs)), n)
				return got
			}
			if !bytes.Equal(read(), data) {
				t.Error("the Write of a pair is not read")
			}
			other := bytes.Clone(data)
			other[n-1] ^= 1
			if cqe := newPair(p, lba, bs, other, old).do(t, "one bit differs", miscompare, fusedFailed); cqe.DW0 != uint32(n-1) {
				t.Errorf("DW0 of the Compare is %d, want %d", cqe.DW0, n-1)
			}
			if !bytes.Equal(read(), data) {
				t.Error("a pair wrote although its Compare had failed")
			}
		})
	}
	x := newPair(p, 0, bs, make([]byte, bs), make([]byte, bs))
	x.second.SetRW(nvmf.RW{NLB: 1, FUA: true})
	p.WantStatus("write", p.Do(p.RW(nvmf.IOWrite, 0, 1), make([]byte, bs)), nvmf.StatusSuccess)
	x.do(t, "with FUA", nvmf.StatusSuccess, nvmf.StatusSuccess)
}

// waitOpen waits until n commands have come and were not answered.
func waitOpen(t *testing.T, e *nvmftest.Engine, n int) {
	t.Helper()
	nvmftest.Await(t, fmt.Sprintf("%d commands are open", n), func() bool {
		s, err := e.Target.Stats()
		if err != nil {
			t.Fatal(err)
		}
		open := 0
		for _, g := range s {
			open += g.PendingCommands
		}
		return open == n
	})
}

func TestAPairMayComeInPieces(t *testing.T) {
	for _, n := range []int{4096, 16 << 10} {
		e := nvmftest.Start(t, nvmftest.Options{})
		a := nvmftest.AdminAs(t, e.Addr, nvmf.HeaderDigests|nvmf.DataDigests, host())
		p := nvmftest.Queue(t, e.Addr, a, 1, 32)
		zeros := make([]byte, n)
		probe, cut := newPair(p.Peer, 0, 4096, zeros, zeros).bytes(p, 8192)
		for _, at := range []int{1, 8, 75, 76, 77, cut - 5, cut - 1, cut, cut + 1, cut + 8, len(probe) - 5, len(probe) - 1} {
			if at >= len(probe) {
				continue
			}
			x := newPair(p.Peer, 0, 4096, zeros, zeros)
			b, _ := x.bytes(p, 8192)
			p.Send(b[:at])
			if at == cut {
				waitOpen(t, e, 1) // the half is there, and nothing was asked for or answered
			}
			p.Send(b[at:])
			if n > 8192 {
				x.answer(p)
			}
			x.want(t, fmt.Sprintf("%d bytes, cut at %d", n, at), nvmf.StatusSuccess, nvmf.StatusSuccess)
		}
	}
}

// Base Specification 2.0, "Fused Operations": halves whose other is not in the adjacent entry are not carried out.
func TestHalvesOfPairsAlone(t *testing.T) {
	nvmftest.Each(t, func(t *testing.T, start func(nvmftest.Options) *nvmftest.Portal) {
		e := start(nvmftest.Options{})
		a := e.Admin()
		p := e.Queue(a, 1, 32)
		zeros, ones := make([]byte, 4096), bytes.Repeat([]byte{1}, 4096)
		big := make([]byte, 16<<10)
		end := func(why string, s *nvmf.SQE, want nvmf.Status) {
			t.Helper()
			cqe, _ := p.Completion(s)
			p.WantStatus(why, cqe, want)
		}
		for _, n := range []int{4096, 16 << 10} {
			x, y := newPair(p, 0, 4096, big[:n], big[:n]), newPair(p, 0, 4096, big[:n], big[:n])
			flush := p.IO(nvmf.IOFlush)
			p.Begin(x.first, x.compare)
			p.Begin(flush, nil)
			end("a first, then a Flush: the first", x.first, fusedMissing)
			end("a first, then a Flush: the Flush", flush, nvmf.StatusSuccess)
			p.Begin(x.first, x.compare)
			y.begin()
			end("two firsts: the first of them", x.first, fusedMissing)
			y.want(t, "the pair behind a first", nvmf.StatusSuccess, nvmf.StatusSuccess)
			p.Begin(x.second, x.data)
			end("a second alone", x.second, fusedMissing)
			auth := p.Fabrics(nvmf.FabricsDisconnect)
			auth.SetFuse(nvmf.FuseSecond)
			p.Begin(x.first, x.compare)
			p.Begin(auth, nil)
			end("a first, then a Fabrics command", x.first, fusedMissing)
			end("the Fabrics command", auth, nvmf.StatusInvalidOpcode|nvmf.DNR)
		}
		w := p.RW(nvmf.IOWrite, 0, 1)
		w.SetFuse(nvmf.FuseSecond)
		p.WantStatus("a second alone", p.Do(w, ones), fusedMissing)
		if _, got := p.Read(p.RW(nvmf.IORead, 0, 1), 4096); !bytes.Equal(got, zeros) {
			t.Error("the second of a pair wrote without the first")
		}
	})
}

// A half that is at fault says why; the other ends because of it, and nothing is written.
func TestPairsAreJudged(t *testing.T) {
	nvmftest.Each(t, func(t *testing.T, start func(nvmftest.Options) *nvmftest.Portal) {
		e := start(nvmftest.Options{})
		if _, err := bdev.NewMem(e.Bdevs, "Malloc1", [16]byte{1}, 512, 4096); err != nil {
			t.Fatal(err)
		}
		e.AddNamespace(nvmf.NamespaceOptions{BdevName: "Malloc1"})
		a := e.Admin()
		p := e.Queue(a, 1, 32)
		const blocks = 16 << 20 / 4096
		rw := func(s *nvmf.SQE, lba uint64, n uint32) { s.SetRW(nvmf.RW{SLBA: lba, NLB: n}) }
		nsid := func(s *nvmf.SQE, id nvmf.NSID) { binary.LittleEndian.PutUint32(s[4:], uint32(id)) }
		for _, c := range []struct {
			why           string
			n             int
			change        func(x *pair)
			first, second nvmf.Status
		}{
			{"another SLBA", 4096, func(x *pair) { rw(x.second, 1, 1) }, invalidField, fusedFailed},
			{"another NLB", 8192, func(x *pair) { rw(x.second, 0, 1); x.data = x.data[:4096] }, invalidField, fusedFailed},
			{"another namespace", 4096, func(x *pair) { nsid(x.second, 2); rw(x.second, 0, 8) }, invalidField, fusedFailed},
			{"another namespace, and as many blocks", 4096, func(x *pair) { nsid(x.second, 2); x.data = x.data[:512] }, invalidField, fusedFailed},
			{"larger than ACWU", 64<<10 + 4096, func(*pair) {}, invalidField, fusedFailed},
			{"the first past the end", 4096, func(x *pair) { rw(x.first, blocks, 1) }, nvmf.StatusLBAOutOfRange | nvmf.DNR, fusedFailed},
			{"the second past the end", 4096, func(x *pair) { rw(x.second, blocks, 1) }, fusedFailed, nvmf.StatusLBAOutOfRange | nvmf.DNR},
			{"the first for no namespace", 4096, func(x *pair) { nsid(x.first, 9) }, nvmf.StatusInvalidNamespace | nvmf.DNR, fusedFailed},
			{"the second for no namespace", 4096, func(x *pair) { nsid(x.second, 9) }, fusedFailed, nvmf.StatusInvalidNamespace | nvmf.DNR},
			{"the second is a Compare", 4096, func(x *pair) { x.second[0] = byte(nvmf.IOCompare) }, fusedFailed, invalidField},
			{"the second is a Flush", 4096, func(x *pair) { x.second[0] = byte(nvmf.IOFlush) }, fusedFailed, invalidField},
			{"the first is a Write", 4096, func(x *pair) { x.first[0] = byte(nvmf.IOWrite) }, invalidField, fusedMissing},
			{"the first is a Read", 4096, func(x *pair) { x.first[0] = byte(nvmf.IORead) }, invalidField, fusedMissing},
			{"FUSE 11b first", 4096, func(x *pair) { x.first.SetFuse(nvmf.FuseReserved) }, invalidField, fusedMissing},
			{"FUSE 11b second", 4096, func(x *pair) { x.second.SetFuse(nvmf.FuseReserved) }, fusedMissing, invalidField},
			{"less data than blocks in the first", 4096, func(x *pair) { x.compare = x.compare[:512] }, nvmf.StatusSGLLength | nvmf.DNR, fusedFailed},
			{"less data than blocks in the second", 4096, func(x *pair) { x.data = x.data[:512] }, fusedFailed, nvmf.StatusSGLLength | nvmf.DNR},
			{"less data than blocks in the first, not in its capsule", 16384, func(x *pair) { x.compare = x.compare[:12288] }, nvmf.StatusSGLLength | nvmf.DNR, fusedFailed},
			{"less data than blocks in the second, not in its capsule", 16384, func(x *pair) { x.data = x.data[:12288] }, fusedFailed, nvmf.StatusSGLLength | nvmf.DNR},
			{"the same CID", 4096, func(x *pair) { x.second.SetCID(x.first.CID()) }, fusedFailed, nvmf.StatusCIDConflict},
		} {
			t.Run(c.why, func(t *testing.T) {
				ones := bytes.Repeat([]byte{1}, c.n)
				x := newPair(p, 0, 4096, make([]byte, c.n), ones)
				c.change(x)
				x.do(t, c.why, c.first, c.second)
			})
		}
		t.Run("one half in its capsule", func(t *testing.T) {
			z := make([]byte, 4096)
			for i := range 2 {
				x := newPair(p, 0, 4096, z, z)
				if i == 0 {
					p.Begin(x.first, z)
					p.BeginLate(x.second, z)
				} else {
					p.BeginLate(x.first, z)
					p.Begin(x.second, z)
				}
				x.want(t, "data in two places", invalidField, fusedFailed)
			}
		})
		if _, got := p.Read(p.RW(nvmf.IORead, 0, 16), 64<<10); !bytes.Equal(got, make([]byte, 64<<10)) {
			t.Error("a pair that was refused wrote")
		}
		p.Close()
		a.Close()
		e.WantNothingLeft("after pairs that were refused")
	})
}

// Of two halves the one whose digest is wrong says so.
func TestPairsWithWrongDigests(t *testing.T) {
	e := nvmftest.Start(t, nvmftest.Options{})
	p := nvmftest.Queue(t, e.Addr, nvmftest.AdminAs(t, e.Addr, nvmf.DataDigests, host()), 1, 32)
	for half := range 2 {
		for _, n := range []int{4096, 16 << 10} {
			t.Run(fmt.Sprintf("a wrong digest of half %d, %d bytes", half, n), func(t *testing.T) {
				x := newPair(p.Peer, 0, 4096, make([]byte, n), bytes.Repeat([]byte{1}, n))
				b, cut := x.bytes(p, 8192)
				first, second := nvmf.Status(nvmf.StatusTransientTransport), fusedFailed
				if half == 1 {
					first, second = fusedFailed, nvmf.StatusTransientTransport
				}
				if n <= 8192 {
					b[[]int{cut, len(b)}[half]-1] ^= 1
					p.Send(b)
				} else {
					p.Send(b)
					for i, d := range [][]byte{x.compare, x.data} {
						r := p.WantR2T("half")
						h := p.H2C(nvmf.DataPDU{CCCID: r.CCCID, TTAG: r.TTAG, Last: true}, d)
						if i == half {
							h[len(h)-1] ^= 1
						}
						defer p.Send(h) // the second half before the first
					}
				}
				t.Cleanup(func() { x.want(t, "wrong digest", first, second) })
			})
		}
	}
	if _, got := p.Read(p.RW(nvmf.IORead, 0, 16), 64<<10); !bytes.Equal(got, make([]byte, 64<<10)) {
		t.Error("a pair that came damaged wrote")
	}
}

func abort(a *nvmftest.Peer, qid nvmf.QID, s *nvmf.SQE) (aborted bool) {
	c := a.Cmd(nvmf.AdminAbort)
	c.SetAbort(qid, s.CID())
	cqe := a.Do(c, nil)
	a.WantStatus("Abort", cqe, nvmf.StatusSuccess)
	return cqe.DW0&1 == 0
}

// Base Specification 2.0, "Abort command": whichever half is aborted, the other ends with it.
func TestAbortOfPairs(t *testing.T) {
	nvmftest.Each(t, func(t *testing.T, start func(nvmftest.Options) *nvmftest.Portal) {
		for _, n := range []int{4096, 16 << 10} {
			e := start(nvmftest.Options{Reactors: 2, Empty: true})
			d := e.AddHeld("held", 4096)
			e.AddNamespace(nvmf.NamespaceOptions{BdevName: "held"})
			a := e.Admin()
			p := e.Queue(a, 1, 32)
			z := make([]byte, n)
			aborted := func(why string, s *nvmf.SQE) {
				t.Helper()
				if !abort(a, 1, s) {
					t.Errorf("%s: not aborted", why)
				}
			}
			x := newPair(p, 0, 4096, z, z)
			p.Begin(x.first, z)
			waitOpen(t, e.Engine, 1)
			aborted("a half", x.first)
			cqe, _ := p.Completion(x.first)
			p.WantStatus("a half that was aborted", cqe, nvmf.StatusAbortRequested)
			p.WantStatus("the other half", p.Do(x.second, z), fusedMissing)
			for half := range 2 {
				first, second := nvmf.Status(nvmf.StatusAbortRequested), fusedFailed
				if half == 1 {
					first, second = fusedFailed, nvmf.StatusAbortRequested
				}
				x = newPair(p, 0, 4096, z, z)
				x.beginLate()
				p.Asked(2)
				aborted("a pair without its data", []*nvmf.SQE{x.first, x.second}[half])
				p.Give()
				x.want(t, "a pair that was aborted while its data came", first, second)
				x = newPair(p, 0, 4096, z, z)
				x.beginLate()
				p.Asked(2)
				p.Give()
				d.Want("a pair", 1)
				aborted("a pair at the device", []*nvmf.SQE{x.first, x.second}[half])
				x.want(t, "a pair that was aborted at the device", first, second)
			}
			p.Close()
			a.Close()
			e.WantNothingLeft("after pairs that were aborted")
		}
	})
}

// The same over TCP while a part of the capsules has come.
func TestAbortOfPairsInPieces(t *testing.T) {
	e := nvmftest.Start(t, nvmftest.Options{Reactors: 2})
	a := nvmftest.Admin(t, e.Addr)
	p := nvmftest.Queue(t, e.Addr, a, 1, 32)
	z := make([]byte, 4096)
	for _, c := range []struct {
		why           string
		come          int // commands
		which         int
		first, second nvmf.Status
	}{
		{"a half without all of its data", 1, 0, nvmf.StatusAbortRequested, fusedMissing},
		{"a pair without all of its data, the first", 2, 0, nvmf.StatusAbortRequested, fusedFailed},
		{"a pair without all of its data, the second", 2, 1, fusedFailed, nvmf.StatusAbortRequested},
	} {
		x := newPair(p.Peer, 0, 4096, z, z)
		b, cut := x.bytes(p, 8192)
		if c.come == 2 {
			cut = len(b)
		}
		p.Send(b[:cut-1])
		waitOpen(t, e, c.come)
		if !abort(a.Peer, 1, []*nvmf.SQE{x.first, x.second}[c.which]) {
			t.Errorf("%s: not aborted", c.why)
		}
		p.Send(b[cut-1:])
		x.want(t, c.why, c.first, c.second)
	}
}

// A half names a namespace and holds none: that can be removed while the host keeps the other half to itself.
func TestANamespaceIsRemovedBetweenTwoHalves(t *testing.T) {
	nvmftest.Each(t, func(t *testing.T, start func(nvmftest.Options) *nvmftest.Portal) {
		e := start(nvmftest.Options{})
		a := e.Admin()
		p := e.Queue(a, 1, 32)
		z := make([]byte, 4096)
		x := newPair(p, 0, 4096, z, z)
		p.Begin(x.first, z)
		waitOpen(t, e.Engine, 1)
		ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
		defer cancel()
		if err := e.Target.RemoveNamespace(ctx, nvmftest.NQN, 1); err != nil {
			t.Fatal(err)
		}
		p.Begin(x.second, z)
		x.want(t, "a namespace that is gone", nvmf.StatusInvalidNamespace|nvmf.DNR, fusedFailed)
	})
}

// Hosts count together in one block by Compare and Write, on two reactors, in capsules and not: no count is lost.
func TestPairsAreAtomic(t *testing.T) {
	nvmftest.Each(t, func(t *testing.T, start func(nvmftest.Options) *nvmftest.Portal) {
		e := start(nvmftest.Options{Reactors: 2})
		const each = 40
		var wait sync.WaitGroup
		for h := range 4 {
			wait.Go(func() {
				d := host()
				d.HOSTNQN = fmt.Sprintf("%s-%d", d.HOSTNQN, h)
				a, p := e.HostAs(nvmf.QID(1+h/2), d) // both reactors
				n := []int{8192, 64 << 10}[h%2]
				for done := 0; done < each; {
					_, old := p.Read(p.RW(nvmf.IORead, 0, uint32(n/4096)), n)
					x := newPair(p, 0, 4096, old, bytes.Clone(old))
					binary.LittleEndian.PutUint64(x.data, binary.LittleEndian.Uint64(old)+1)
					binary.LittleEndian.PutUint64(x.data[4096:], binary.LittleEndian.Uint64(old[4096:])+1)
					x.begin()
					first, _ := p.Completion(x.first)
					second, _ := p.Completion(x.second)
					switch {
					case first.Status.OK() && second.Status.OK():
						done++
					case first.Status != miscompare || second.Status != fusedFailed:
						t.Errorf("%v and %v", first.Status, second.Status)
						return
					}
				}
				p.Close()
				a.Close()
			})
		}
		wait.Wait()
		p := e.Queue(e.Admin(), 1, 32)
		_, got := p.Read(p.RW(nvmf.IORead, 0, 2), 8192)
		for at := 0; at < len(got); at += 4096 {
			if n := binary.LittleEndian.Uint64(got[at:]); n != 4*each {
				t.Errorf("at %d: counted %d, want %d", at, n, 4*each)
			}
		}
	})
}

// What Identify promises of pairs is what is taken: TestFusedCompareAndWrite and TestPairsAreJudged have both sides of 64 KiB.
func TestIdentifyTellsOfPairs(t *testing.T) {
	nvmftest.Each(t, func(t *testing.T, start func(nvmftest.Options) *nvmftest.Portal) {
		e := start(nvmftest.Options{BlockSize: 512})
		a := e.Admin()
		identify := func(cns nvmf.CNS) []byte {
			s := a.Cmd(nvmf.AdminIdentify)
			s.SetIdentify(cns, 0, 0)
			binary.LittleEndian.PutUint32(s[4:], 1)
			_, b := a.Read(s, 4096)
			return b
		}
		// Base Specification 2.0, "Identify Controller data structure": FUSES 523:522, ACWU 533:532; NVM Command Set Specification 1.0,
		// "Identify Namespace data structure": NACWU 39:38. All blocks are 0-based.
		c := identify(nvmf.CNSController)
		if f, n := binary.LittleEndian.Uint16(c[522:]), binary.LittleEndian.Uint16(c[532:]); f != 1 || n != 15 {
			t.Errorf("FUSES %d, ACWU %d, want 1 and 15", f, n)
		}
		if n := binary.LittleEndian.Uint16(identify(nvmf.CNSNamespace)[38:]); n != 127 {
			t.Errorf("NACWU %d, want 127", n)
		}
	})
}

// A half in its capsule has the room that a queue has beside the pool until the other half comes, which needs as much: that is behind it
// in the stream, so it must not wait for the pool, whose memory may come back by what is behind both.
func TestAPairInCapsulesNeedsNoPool(t *testing.T) {
	nvmftest.Each(t, func(t *testing.T, start func(nvmftest.Options) *nvmftest.Portal) {
		e := start(nvmftest.Options{MemoryBytes: 8 << 20})
		a := e.Admin()
		p := e.Queue(a, 1, 32)
		n := map[string]int{"TCP": 8192, "RDMA": 4096}[e.At.TRType] // what a capsule takes
		var taken [][]byte
		memory := func(f func(m *reactor.Memory)) {
			if err := e.Group.Each(func(r *reactor.Reactor) { f(r.Memory()) }); err != nil {
				t.Fatal(err)
			}
		}
		memory(func(m *reactor.Memory) {
			for size := reactor.BufferMax; size >= reactor.PageBytes; size /= 2 {
				for b := m.Get(size); b != nil; b = m.Get(size) {
					taken = append(taken, b)
				}
			}
		})
		for range 3 {
			newPair(p, 0, 4096, make([]byte, n), make([]byte, n)).do(t, "no memory", nvmf.StatusSuccess, nvmf.StatusSuccess)
		}
		memory(func(m *reactor.Memory) {
			for _, b := range taken {
				m.Put(b)
			}
		})
	})
}

func TestPairsAllocateNothing(t *testing.T) {
	for _, d := range []nvmf.Digests{0, nvmf.HeaderDigests | nvmf.DataDigests} {
		e := nvmftest.Start(t, nvmftest.Options{Reactors: 2})
		a := nvmftest.AdminAs(t, e.Addr, d, host())
		p := nvmftest.Queue(t, e.Addr, a, 1, 32)
		for _, n := range []int{8192, 64 << 10} {
			z, other := make([]byte, n), pattern(n, 1)
			run := func() {
				for range 50 {
					newPair(p.Peer, 0, 4096, z, z).do(t, "equal", nvmf.StatusSuccess, nvmf.StatusSuccess)
					newPair(p.Peer, 0, 4096, other, z).do(t, "not equal", miscompare, fusedFailed)
				}
			}
			run()
			for where, times := range bdevtest.AlwaysOnReactors(run) {
				t.Errorf("digests %d, %d bytes: %d allocations in 100 pairs:\n%s", d, n, times, where)
			}
		}
	}
}
