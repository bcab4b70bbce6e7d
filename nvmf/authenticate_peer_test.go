package nvmf

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"runtime"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"go.uber.org/goleak"

	"github.com/pollux-storage/pollux/bdev"
	"github.com/pollux-storage/pollux/reactor"
)

// This file plays the host: on a socket, with PDUs made by hand.

const (
	authSub   = "nqn.2026-01.io.example:volume-7"
	authHost1 = "nqn.2026-01.io.example:host-1"
	authHost2 = "nqn.2026-01.io.example:host-2"
)

// authRig is a target with one subsystem, and a namespace in memory.
type authRig struct {
	t      *testing.T
	target *Target
	group  *reactor.Group
	addr   string
	log    *authLog
	held   *heldDevice // namespace 2
}

// authLog keeps what was logged.
type authLog struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *authLog) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(b)
}

func (l *authLog) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// newAuthRig starts a target on two reactors. When the test ends, nothing of it may be left.
func newAuthRig(t *testing.T) *authRig {
	t.Helper()
	return newAuthRigLeaving(t, 20*reactor.Millisecond)
}

// newAuthRigLeaving is a rig whose connections stay open for a time of its own after a failure was told.
func newAuthRigLeaving(t *testing.T, after reactor.Ticks) *authRig {
	t.Helper()
	ignore := goleak.IgnoreCurrent()
	was := authLeaveTimeout
	authLeaveTimeout = after
	t.Cleanup(func() { authLeaveTimeout = was })
	g, err := reactor.Start(reactor.Config{Cores: []int{-1, -1}, Idle: reactor.Interrupt, MemoryBytes: 16 << 20})
	authMust(t, err)
	reg := bdev.NewRegistry(g)
	_, err = bdev.NewMem(reg, "mem0", uuid.Nil, 4096, 256)
	authMust(t, err)
	rig := &authRig{t: t, group: g, log: &authLog{}, held: &heldDevice{}}
	_, err = reg.Register(bdev.Config{
		Name: "held0", Product: "held", Driver: rig.held,
		Geometry: bdev.Geometry{BlockSize: 4096, Blocks: 256, Native: bdev.SetOf(bdev.Read, bdev.Write, bdev.Flush)},
	})
	authMust(t, err)
	rig.target, err = NewTarget(reg, slog.New(slog.NewTextHandler(rig.log, &slog.HandlerOptions{Level: slog.LevelDebug})))
	authMust(t, err)
	o := DefaultTransport("TCP")
	o.MinKATO = 1
	authMust(t, rig.target.CreateTransport(o))
	authMust(t, rig.target.CreateSubsystem(SubsystemOptions{NQN: authSub}))
	for _, b := range []string{"mem0", "held0"} {
		_, err = rig.target.AddNamespace(authSub, NamespaceOptions{BdevName: b})
		authMust(t, err)
	}
	port := freePort(t)
	rig.addr = "127.0.0.1:" + port
	authMust(t, rig.target.AddListener(authSub, Address{TRType: "tcp", TrAddr: "127.0.0.1", TrSvcID: port}, ANAOptimized))
	authMust(t, rig.target.AddListener(DiscoveryNQN, Address{TRType: "tcp", TrAddr: "127.0.0.1", TrSvcID: port}, ANAOptimized))
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), authPatience)
		defer cancel()
		authMust(t, rig.target.Stop(ctx))
		for _, pg := range rig.target.groups {
			authMust(t, pg.r.Call(func() {
				if pg.count != 0 || pg.queues != nil {
					t.Errorf("reactor %d: %d queues are left", pg.r.Index(), pg.count)
				}
				if n := pg.r.Memory().Stats().InUse; n != 0 {
					t.Errorf("reactor %d: %d bytes of memory are still lent", pg.r.Index(), n)
				}
			}))
		}
		if p := &rig.target.authPool; p.running != 0 || len(p.waiting) != 0 {
			t.Errorf("%d goroutines compute, and %d jobs wait, for nobody", p.running, len(p.waiting))
		}
		for _, b := range []string{"mem0", "held0"} {
			authMust(t, reg.Unregister(ctx, b))
		}
		authMust(t, g.Stop(ctx))
		goleak.VerifyNone(t, ignore)
		if t.Failed() {
			t.Log(rig.log)
		}
	})
	return rig
}

func authMust(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func freePort(t testing.TB) string {
	t.Helper()
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	authMust(t, err)
	defer l.Close()
	return strconv.Itoa(int(netip.MustParseAddrPort(l.Addr().String()).Port()))
}

// heldDevice keeps requests until it is told to let them go.
type heldDevice struct{ queues []*heldQueue }

type heldQueue struct {
	r    *reactor.Reactor
	kept []*bdev.Request
}

func (d *heldDevice) Open(r *reactor.Reactor) (bdev.Queue, error) {
	q := &heldQueue{r: r}
	d.queues = append(d.queues, q)
	return q, nil
}
func (d *heldDevice) Describe() any { return nil }
func (d *heldDevice) Close() error  { return nil }

func (q *heldQueue) Submit(r *bdev.Request) { q.kept = append(q.kept, r) }
func (q *heldQueue) Close()                 {}

// count is the number of requests that are held.
func (d *heldDevice) count() (n int) {
	for _, q := range d.queues {
		_ = q.r.Call(func() { n += len(q.kept) })
	}
	return n
}

// letGo completes what is held.
func (d *heldDevice) letGo() {
	for _, q := range d.queues {
		_ = q.r.Call(func() {
			for _, r := range q.kept {
				r.Complete(bdev.StatusOK)
			}
			q.kept = nil
		})
	}
}

// authWire is a host on one connection. Not for several goroutines.
type authWire struct {
	c       net.Conn
	cid     CID
	answers map[CID]CQE
	data    map[CID][]byte // that came, or is to be sent when it is asked for
	keep    bool           // R2Ts are kept, not answered
	r2ts    []R2T

	byR2T bool        // what could go in a capsule does not
	turns *sync.Mutex // if hosts compute one after the other
	tid   uint16
}

// dial connects, and exchanges ICReq and ICResp.
func dialAuth(addr string) (*authWire, error) {
	c, err := net.Dial("tcp4", addr)
	if err != nil {
		return nil, err
	}
	w := &authWire{c: c, answers: map[CID]CQE{}, data: map[CID][]byte{}}
	if _, err = c.Write(ICReq{}.AppendTo(nil)); err != nil {
		return nil, err
	}
	b, err := w.pdu()
	if err == nil && PDUType(b[0]) != PDUICResp {
		err = fmt.Errorf("instead of an ICResp came % x", b)
	}
	return w, err
}

func (w *authWire) close() { _ = w.c.Close() }

func (w *authWire) pdu() ([]byte, error) {
	_ = w.c.SetReadDeadline(time.Now().Add(authPatience))
	b := make([]byte, CommonHeaderBytes)
	if _, err := io.ReadFull(w.c, b); err != nil {
		return nil, err
	}
	h := DecodeCommonHeader(b)
	b = append(b, make([]byte, int(h.PLEN)-len(b))...)
	_, err := io.ReadFull(w.c, b[CommonHeaderBytes:])
	return b, err
}

// submit sends a command. out goes in the capsule or when it is asked for; in is how much may come.
func (w *authWire) submit(s *SQE, out []byte, in int) (CID, error) {
	w.cid++
	s[2], s[3] = byte(w.cid), byte(w.cid>>8)
	carried := uint32(len(out))
	connects := s.Opcode() == OpcodeFabrics && s.FCTYPE() == FabricsConnect
	switch {
	case in > 0:
		s.SetSGL(SGL{Type: SGLTransport, Subtype: SGLTransportData, Bytes: uint32(in)})
	case len(out) > 0 && w.byR2T && !connects || len(out) > 8192:
		s.SetSGL(SGL{Type: SGLTransport, Subtype: SGLTransportData, Bytes: carried})
		w.data[w.cid], carried = out, 0
	case len(out) > 0:
		s.SetSGL(SGL{Type: SGLDataBlock, Subtype: SGLOffset, Bytes: carried})
	}
	b := AppendCapsuleCmd(nil, s, carried, 0, 4)
	if carried > 0 {
		b = append(b, out...)
	}
	_, err := w.c.Write(b)
	return w.cid, err
}

// withhold sends a command whose data is asked for, and does not send that.
func (w *authWire) withhold(s *SQE, out []byte) (id CID, asked R2T, err error) {
	w.keep, w.byR2T, w.r2ts = true, true, nil
	defer func() { w.keep, w.byR2T = false, false }()
	if id, err = w.submit(s, out, 0); err != nil {
		return id, asked, err
	}
	for len(w.r2ts) == 0 {
		if err := w.arrive(); err != nil {
			return id, asked, err
		}
	}
	return id, w.r2ts[0], nil
}

// await gives the answer to a command, and what came with it.
func (w *authWire) await(id CID) (CQE, []byte, error) {
	for {
		if a, ok := w.answers[id]; ok {
			d := w.data[id]
			delete(w.answers, id)
			delete(w.data, id)
			return a, d, nil
		}
		if err := w.arrive(); err != nil {
			return CQE{}, nil, err
		}
	}
}

// arrive takes one PDU.
func (w *authWire) arrive() error {
	b, err := w.pdu()
	if err != nil {
		return err
	}
	switch t := PDUType(b[0]); t {
	case PDUCapsuleResp:
		a, fault := DecodeCapsuleResp(b)
		if !fault.OK() {
			return fault
		}
		w.answers[a.CID] = a
	case PDUC2HData:
		p := b[b[3]:]
		d, fault := DecodeData(b, Frame{DataBytes: uint32(len(p))})
		if !fault.OK() {
			return fault
		}
		w.data[d.CCCID] = append(w.data[d.CCCID], p...)
		if d.Success {
			w.answers[d.CCCID] = CQE{CID: d.CCCID}
		}
	case PDUR2T:
		r, fault := DecodeR2T(b)
		if !fault.OK() {
			return fault
		}
		if w.keep {
			w.r2ts = append(w.r2ts, r)
			return nil
		}
		return w.answerR2T(r)
	default:
		return fmt.Errorf("the controller sent %v % x", t, b)
	}
	return nil
}

func (w *authWire) answerR2T(r R2T) error {
	d := w.data[r.CCCID]
	delete(w.data, r.CCCID)
	b := DataPDU{CCCID: r.CCCID, TTAG: r.TTAG, DATAO: r.R2TO, DATAL: r.R2TL, Last: true}.AppendH2CData(nil, 0, 4)
	_, err := w.c.Write(append(b, d...))
	return err
}

// command sends one and awaits its answer.
func (w *authWire) command(s *SQE, out []byte, in int) (CQE, []byte, error) {
	id, err := w.submit(s, out, in)
	if err != nil {
		return CQE{}, nil, err
	}
	return w.await(id)
}

// connect makes the connection a queue; cntlid is CNTLIDDynamic for an Admin queue.
func (w *authWire) connect(host string, id QID, cntlid CNTLID, kato uint32) (CQE, error) {
	return w.connectTo(authSub, host, id, cntlid, kato)
}

func (w *authWire) connectTo(sub, host string, id QID, cntlid CNTLID, kato uint32) (CQE, error) {
	var s SQE
	s.InitFabrics(FabricsConnect, 0)
	s.SetConnect(id, 32, 0, kato)
	d := ConnectData{HOSTID: [16]byte{1}, CNTLID: cntlid, SUBNQN: sub, HOSTNQN: host}
	a, _, err := w.command(&s, d.AppendTo(nil), 0)
	return a, err
}

func authCommand(t FCTYPE, bytes int) *SQE {
	var s SQE
	s.InitFabrics(t, 0)
	s.SetAuth(uint32(bytes))
	return &s
}

// authenticate goes through an exchange, or up to where h is in the state stop (0: to its end).
func (w *authWire) authenticate(h *AuthHost, stop AuthHostState) error {
	w.tid++
	return w.goOn(h, h.Start(w.tid), stop)
}

// errAuthStatus is what the host aborts an exchange for.
type errAuthStatus Status

func (e errAuthStatus) Error() string {
	return "an authentication command ended with " + Status(e).String()
}

func (w *authWire) goOn(h *AuthHost, s AuthHostStep, stop AuthHostState) error {
	var why error
	for {
		why = errors.Join(why, s.Err)
		if stop != 0 && h.State() == stop {
			return why
		}
		switch s.Do {
		case AuthHostSend:
			a, _, err := w.command(authCommand(FabricsAuthSend, len(s.Data)), s.Data, 0)
			switch {
			case err != nil:
				return errors.Join(why, err)
			case !a.Status.OK():
				why = errors.Join(why, errAuthStatus(a.Status))
				s = h.Abort(errAuthStatus(a.Status))
			default:
				s = h.Sent()
			}
		case AuthHostReceive:
			room := AuthReceiveBytes
			if w.byR2T {
				room += 100 // another host may have another idea
			}
			a, d, err := w.command(authCommand(FabricsAuthReceive, room), nil, room)
			switch {
			case err != nil:
				return errors.Join(why, err)
			case !a.Status.OK():
				why = errors.Join(why, errAuthStatus(a.Status))
				s = h.Abort(errAuthStatus(a.Status))
			case len(d) != room:
				return fmt.Errorf("the controller returned %d bytes, of %d", len(d), room)
			case len(bytes.TrimRight(d, "\x00")) > authChallengeBytes+authHashMax+1024:
				return errors.New("the controller returned more than a message")
			default:
				s = h.Received(d)
			}
		case AuthHostCompute:
			if w.turns != nil {
				w.turns.Lock()
			}
			s.Job.Run()
			if w.turns != nil {
				w.turns.Unlock()
			}
			s = h.Computed(s.Job)
		case AuthHostSucceed:
			return nil
		default:
			return errors.Join(why, errors.New("not authenticated"))
		}
	}
}

// enable makes the controller ready.
func (w *authWire) enable() error {
	var s SQE
	s.InitFabrics(FabricsPropertySet, 0)
	s.SetProperty(PropertyCC, 4, uint64(CCEnable))
	a, _, err := w.command(&s, nil, 0)
	if err == nil && !a.Status.OK() {
		err = errAuthStatus(a.Status)
	}
	return err
}

func authRW(op IOOpcode, nsid NSID, lba uint64) *SQE {
	var s SQE
	s.Init(uint8(op), 0, nsid)
	s.SetRW(RW{SLBA: lba, NLB: 1})
	return &s
}

// writeRead writes a block and reads it back.
func (w *authWire) writeRead(lba uint64, fill byte) error {
	want := bytes.Repeat([]byte{fill}, 4096)
	if a, _, err := w.command(authRW(IOWrite, 1, lba), want, 0); err != nil || !a.Status.OK() {
		return fmt.Errorf("writing: %v %w", a.Status, err)
	}
	a, have, err := w.command(authRW(IORead, 1, lba), nil, 4096)
	if err != nil || !a.Status.OK() {
		return fmt.Errorf("reading: %v %w", a.Status, err)
	}
	if !bytes.Equal(have, want) {
		return errors.New("what was read is not what was written")
	}
	return nil
}

// wantEnd says why the connection goes on when it is to have ended.
func (w *authWire) wantEnd() error {
	for {
		switch b, err := w.pdu(); {
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
			return err
		default:
			return fmt.Errorf("before the end came % x", b)
		}
	}
}

// onQueues runs f on the reactor of each queue of the subsystem.
func (rig *authRig) onQueues(f func(q *queue)) {
	rig.t.Helper()
	authMust(rig.t, rig.group.Each(func(r *reactor.Reactor) {
		pg := rig.target.groups[r.Index()]
		for q := pg.queues; q != nil; q = q.next {
			if q.sub != nil {
				f(q)
			}
		}
	}))
}

// authPatience bounds waits that only a defect makes long.
const authPatience = time.Minute

// until waits for a fact that a reactor makes, and fails the test with why if it does not come to pass.
func until(t testing.TB, why string, fact func() bool) {
	t.Helper()
	for end := time.Now().Add(authPatience); !fact(); runtime.Gosched() {
		if time.Now().After(end) {
			t.Fatalf("waited in vain for %v: %s", authPatience, why)
		}
	}
}

// awaited waits for what comes on a channel, and fails the test with why if nothing does.
func awaited[V any](t testing.TB, why string, c <-chan V) (v V) {
	t.Helper()
	select {
	case v = <-c:
	case <-time.After(authPatience):
		t.Fatalf("waited in vain for %v: %s", authPatience, why)
	}
	return v
}
