package initiator

import (
	"encoding/binary"
	"net"
	"net/netip"
	"sync"
	"testing"
	"time"

	"github.com/pollux-storage/pollux/nvmf"
	"github.com/pollux-storage/pollux/nvmf/nvmftest"
)

// fake is a target made by hand, which a test can make do anything. Left alone it serves one namespace of 4 MiB in blocks of
// 4096 bytes, honestly and slowly.
type fake struct {
	t    testing.TB
	addr netip.AddrPort
	l    net.Listener
	wg   sync.WaitGroup

	mu    sync.Mutex
	conns map[*fakeConn]bool
	made  int // connections ever
	played
	terms chan nvmf.PDUError

	// What a test has it do otherwise; each reports whether it did.
	icresp     func(k *fakeConn, q nvmf.ICReq) bool
	fabric     func(k *fakeConn, s *nvmf.SQE) bool
	fabricData func(k *fakeConn, s *nvmf.SQE, data []byte) bool
	admin      func(k *fakeConn, s *nvmf.SQE) bool
	io         func(k *fakeConn, s *nvmf.SQE, data []byte) bool
}

const (
	fakeBytes   = 4 << 20
	fakeCapsule = 8192
)

// newFake makes one that lives until the test ends. It serves from start on; what it is to do is set before, or by set.
func newFake(t testing.TB) *fake {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	f := &fake{
		t: t, l: l, addr: netip.MustParseAddrPort(l.Addr().String()), conns: map[*fakeConn]bool{},
		played: newPlayed(), terms: make(chan nvmf.PDUError, 64),
	}
	f.id = nvmf.IdentifyController{
		SN: "1", MN: "fake", FR: "1", MDTS: 8, CNTLID: 7, VER: nvmf.Version20, CNTRLTYPE: nvmf.ControllerIO, AERL: 3, KAS: 1, SQES: 0x66,
		CQES: 0x44, MAXCMD: 64, NN: 16, ONCS: nvmf.ONCSCompare | nvmf.ONCSDSM | nvmf.ONCSWriteZeroes, OAES: nvmf.OAESNamespaces,
		CTRATT: nvmf.CTRATTTBKAS, LPA: nvmf.LPAExtended,
		SGLS: 1, SUBNQN: nvmftest.NQN, IOCCSZ: (64 + fakeCapsule) / 16, IORCSZ: 1, VWC: nvmf.VWCPresent,
	}
	t.Cleanup(f.stop)
	return f
}

func (f *fake) start() {
	f.wg.Add(1)
	go f.accept()
}

// options starts the fake and gives the options to reach it.
func (f *fake) options() Options {
	f.start()
	return options(f.addr)
}

func (f *fake) accept() {
	defer f.wg.Done()
	for {
		c, err := f.l.Accept()
		if err != nil {
			return
		}
		k := &fakeConn{f: f, c: c.(*net.TCPConn), data: map[nvmf.CID]*fakeWrite{}}
		f.mu.Lock()
		f.conns[k] = true
		f.made++
		f.mu.Unlock()
		f.wg.Add(1)
		go k.serve()
	}
}

// drop closes every connection; the next ones are served.
func (f *fake) drop() {
	f.mu.Lock()
	defer f.mu.Unlock()
	for k := range f.conns {
		_ = k.c.Close()
	}
	f.csts = 0
}

func (f *fake) stop() {
	_ = f.l.Close()
	f.drop()
	f.wg.Wait()
}

// set changes what the fake does.
func (f *fake) set(change func()) {
	f.mu.Lock()
	defer f.mu.Unlock()
	change()
}

// event tells the host something, and reports whether it waited for that.
func (f *fake) event(e nvmf.Event) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	for k := range f.conns {
		if len(k.aers) > 0 {
			cid := k.aers[0]
			k.aers = k.aers[1:]
			k.send(nvmf.AppendCapsuleResp(nil, nvmf.CQE{CID: cid, DW0: e.DW0()}, k.in.Digests()))
			return true
		}
	}
	return false
}

// fakeConn is one connection to a fake.
type fakeConn struct {
	f    *fake
	c    *net.TCPConn
	in   nvmf.Conn
	qid  nvmf.QID
	aers []nvmf.CID
	data map[nvmf.CID]*fakeWrite // writes whose data is asked for
	wr   sync.Mutex
	more func() // when data came
}

type fakeWrite struct {
	sqe  nvmf.SQE
	b    []byte
	left int
}

func (k *fakeConn) send(b []byte) {
	k.wr.Lock()
	defer k.wr.Unlock()
	_, _ = k.c.Write(b)
}

func (k *fakeConn) serve() {
	defer func() {
		_ = k.c.Close()
		k.f.mu.Lock()
		delete(k.f.conns, k)
		k.f.mu.Unlock()
		k.f.wg.Done()
	}()
	k.in.Init(nvmf.SideController, make([]byte, 32<<10), 0)
	k.in.Limits(64<<10, 1<<20)
	var placed []byte
	var sqe nvmf.SQE
	for {
		switch k.in.Next() {
		case nvmf.ArrivedNothing:
			n, err := k.c.Read(k.in.Room())
			if err != nil {
				return
			}
			k.in.Feed(n)
		case nvmf.ArrivedIC:
			if k.f.icresp == nil || !k.f.icresp(k, k.in.ICReq) {
				k.send(nvmf.ICResp{Digests: k.in.ICReq.Digests, MAXH2CDATA: 4096}.AppendTo(nil))
			}
		case nvmf.ArrivedCommand:
			if sqe = *k.in.SQE; k.in.DataBytes > 0 {
				placed = make([]byte, k.in.DataBytes)
				k.in.Place(placed)
				continue
			}
			k.command(&sqe, nil)
		case nvmf.ArrivedData:
			d := k.in.Data
			w := k.data[d.CCCID]
			if w == nil || int(d.DATAO+d.DATAL) > len(w.b) {
				k.f.t.Errorf("data that was not asked for: %+v", d)
				return
			}
			placed, sqe = w.b, w.sqe
			w.left -= int(d.DATAL)
			k.in.Place(w.b[d.DATAO:][:d.DATAL])
		case nvmf.ArrivedDataEnd:
			if !k.in.DigestOK {
				k.f.t.Error("a wrong data digest from the host")
			}
			if w := k.data[sqe.CID()]; w != nil {
				if k.more != nil {
					k.more()
				}
				if w.left > 0 {
					continue
				}
				delete(k.data, sqe.CID())
			}
			k.command(&sqe, placed)
		case nvmf.ArrivedTermReq:
			k.f.terms <- k.in.TermReq.Err
			return
		default:
			return
		}
	}
}

// respond completes a command.
func (k *fakeConn) respond(s *nvmf.SQE, st nvmf.Status, dw0 uint32) {
	k.answer(nvmf.CQE{CID: s.CID(), Status: st, DW0: dw0})
}

func (k *fakeConn) answer(c nvmf.CQE) { k.send(nvmf.AppendCapsuleResp(nil, c, k.in.Digests())) }

func (k *fakeConn) keep(id nvmf.CID) { k.aers = append(k.aers, id) }

// c2h is a C2HData with its data.
func (k *fakeConn) c2h(p nvmf.DataPDU, data []byte) []byte {
	p.DATAL = uint32(len(data))
	b := p.AppendC2HData(nil, k.in.Digests(), 4)
	b = append(b, data...)
	if k.in.Digests()&nvmf.DataDigests != 0 {
		b = nvmf.AppendDigest(b, nvmf.DataDigest(0, data))
	}
	return b
}

// give sends data and the completion.
func (k *fakeConn) give(s *nvmf.SQE, data []byte) {
	if n := int(s.SGL().Bytes); len(data) < n {
		data = append(data[:len(data):len(data)], make([]byte, n-len(data))...)
	} else {
		data = data[:n]
	}
	k.send(append(k.c2h(nvmf.DataPDU{CCCID: s.CID(), Last: true}, data), nvmf.AppendCapsuleResp(nil, nvmf.CQE{CID: s.CID()}, k.in.Digests())...))
}

// fetch asks for a write's data.
func (k *fakeConn) fetch(s *nvmf.SQE) {
	n := s.SGL().Bytes
	k.data[s.CID()] = &fakeWrite{*s, make([]byte, n), int(n)}
	k.send(nvmf.R2T{CCCID: s.CID(), TTAG: 99, R2TL: n}.AppendTo(nil, k.in.Digests()))
}

func (k *fakeConn) command(s *nvmf.SQE, data []byte) {
	f := k.f
	f.mu.Lock()
	defer f.mu.Unlock()
	switch {
	case s.Opcode() == nvmf.OpcodeFabrics:
		if (f.fabric == nil || !f.fabric(k, s)) && (f.fabricData == nil || !f.fabricData(k, s, data)) {
			k.fabrics(s, data)
		}
	case k.qid == 0:
		if f.admin == nil || !f.admin(k, s) {
			f.adminCommand(k, s)
		}
	default:
		if data == nil && s.SGL().Bytes > 0 && s.Opcode()&3 == 1 {
			if f.io != nil && f.io(k, s, nil) {
				return
			}
			k.fetch(s)
			return
		}
		f.log = append(f.log, nvmf.IOOpcode(s.Opcode()))
		if f.io == nil || !f.io(k, s, data) {
			f.ioCommand(k, s, data)
		}
	}
}

func (k *fakeConn) fabrics(s *nvmf.SQE, data []byte) {
	f := k.f
	switch s.FCTYPE() {
	case nvmf.FabricsConnect:
		d, st, ipo := nvmf.DecodeConnectData(data)
		if !st.OK() || d.SUBNQN != nvmftest.NQN || s.CATTR()&nvmf.CATTRNoFlow == 0 {
			k.respond(s, nvmf.StatusConnectParameters|nvmf.DNR, uint32(ipo))
			return
		}
		if k.qid = s.ConnectQID(); k.qid == 0 {
			f.csts = 0
		}
		k.answer(nvmf.CQE{CID: s.CID(), DW0: 7, SQHD: 0xFFFF})
	default:
		f.property(k, s)
	}
}

// wantTerm waits for the H2CTermReq of a host.
func (f *fake) wantTerm(why string, want nvmf.PDUError) {
	f.t.Helper()
	select {
	case got := <-f.terms:
		if got != want {
			f.t.Errorf("%s: the host says %v, want %v", why, got, want)
		}
	case <-time.After(patience):
		f.t.Errorf("%s: the host says nothing", why)
	}
}

func flagged(b []byte, flag byte) []byte { b[1] ^= flag; return b }

func put32(b []byte, at int, v uint32) []byte { binary.LittleEndian.PutUint32(b[at:], v); return b }
