package nvmf_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/pollux-storage/pollux/bdev"
	"github.com/pollux-storage/pollux/nvmf"
	"github.com/pollux-storage/pollux/nvmf/nvmftest"
)

// reactorOf is where a queue is.
func reactorOf(e *nvmftest.Engine, id nvmf.CNTLID, qid nvmf.QID) int {
	e.T.Helper()
	queues, err := e.Target.Queues(nvmftest.NQN)
	if err != nil {
		e.T.Fatal(err)
	}
	for _, q := range queues {
		if q.CNTLID == id && q.QID == qid {
			return q.Reactor
		}
	}
	e.T.Fatalf("queue %d is not listed: %+v", qid, queues)
	return -1
}

// move moves a queue, which must go well.
func move(e *nvmftest.Engine, p *nvmftest.TCPPeer, qid nvmf.QID, to int) {
	e.T.Helper()
	if err := e.Target.MoveQueue(e.T.Context(), nvmftest.NQN, p.CNTLID, qid, to, 20*time.Second); err != nil {
		e.T.Fatal(err)
	}
	if at := reactorOf(e, p.CNTLID, qid); at != to {
		e.T.Fatalf("the queue is on reactor %d, want %d", at, to)
	}
}

// moving begins a move, and returns when the queue is coming to rest, or has moved already. The error comes on the channel.
func moving(e *nvmftest.Engine, p *nvmftest.TCPPeer, qid nvmf.QID, to int, limit time.Duration) <-chan error {
	e.T.Helper()
	ended := make(chan error, 1)
	go func() {
		ended <- e.Target.MoveQueue(context.Background(), nvmftest.NQN, p.CNTLID, qid, to, limit)
	}()
	nvmftest.Await(e.T, "the queue comes to rest", func() bool {
		moves, _ := e.Target.Rest(p.CNTLID, qid)
		return moves || len(ended) > 0
	})
	return ended
}

// awaitOpen waits until the queue has begun so many commands that are not answered.
func awaitOpen(e *nvmftest.Engine, p *nvmftest.TCPPeer, qid nvmf.QID, n int) {
	e.T.Helper()
	nvmftest.Await(e.T, fmt.Sprintf("%d commands are open", n), func() bool { return e.Target.Open(p.CNTLID, qid) >= n })
}

// awaitUnbegun waits until so many bytes have been received that nobody has acted on.
func awaitUnbegun(e *nvmftest.Engine, p *nvmftest.TCPPeer, qid nvmf.QID, n int) {
	e.T.Helper()
	nvmftest.Await(e.T, fmt.Sprintf("%d bytes wait", n), func() bool { _, got := e.Target.Rest(p.CNTLID, qid); return got == n })
}

// on makes a command one of another namespace.
func on(id nvmf.NSID, s *nvmf.SQE) *nvmf.SQE {
	binary.LittleEndian.PutUint32(s[4:], uint32(id)) // Base Specification 2.0, "Common Command Format": NSID
	return s
}

// heldBeside gives an engine of two reactors a second namespace, whose device ends nothing by itself.
func heldBeside(t *testing.T, o nvmftest.Options) (*nvmftest.Engine, *nvmftest.Held) {
	t.Helper()
	o.Reactors = 2
	e := nvmftest.Start(t, o)
	d := e.AddHeld("Held0", 256)
	e.AddNamespace(nvmf.NamespaceOptions{BdevName: "Held0"})
	return e, d
}

// A queue goes to and fro, its host notices nothing: what it wrote is there, SQHD goes on, and so does every statistic.
func TestAQueueMovesToAndFro(t *testing.T) {
	for _, d := range []nvmf.Digests{0, nvmf.HeaderDigests | nvmf.DataDigests} {
		t.Run(fmt.Sprintf("digests %d", d), func(t *testing.T) {
			e := nvmftest.Start(t, nvmftest.Options{Reactors: 2, Transport: func(o *nvmf.TransportOptions) { o.C2HSuccess = false }})
			a := nvmftest.AdminAs(t, e.Addr, d, nvmf.ConnectData{CNTLID: nvmf.CNTLIDDynamic, SUBNQN: nvmftest.NQN, HOSTNQN: nvmftest.Host})
			const entries = 7
			p := nvmftest.Queue(t, e.Addr, a, 1, entries)
			sqhd := uint16(1) // Connect
			do := func(s *nvmf.SQE, cqe nvmf.CQE) {
				t.Helper()
				p.WantStatus("a command", cqe, nvmf.StatusSuccess)
				if sqhd = (sqhd + 1) % entries; cqe.SQHD != sqhd {
					t.Fatalf("SQHD %d, want %d", cqe.SQHD, sqhd)
				}
			}
			at := reactorOf(e, p.CNTLID, 1)
			for i := range 100 {
				at = 1 - at
				move(e, p, 1, at)
				data := pattern(4096, uint64(i))
				s := p.RW(nvmf.IOWrite, uint64(i), 1)
				do(s, p.Do(s, data))
				large := pattern(256<<10, uint64(i))
				s = p.RW(nvmf.IOWrite, 512, 64)
				p.Send(p.Capsule(nvmftest.Wants(s, len(large)), nil))
				r := p.WantR2T("a large write")
				p.Send(p.H2C(nvmf.DataPDU{CCCID: r.CCCID, TTAG: r.TTAG}, large[:128<<10]))
				p.Send(p.H2C(nvmf.DataPDU{CCCID: r.CCCID, TTAG: r.TTAG, DATAO: 128 << 10, Last: true}, large[128<<10:]))
				cqe, _ := p.Completion(s)
				do(s, cqe)
				for lba, want := range map[uint64][]byte{uint64(i): data, 512: large} {
					s = p.RW(nvmf.IORead, lba, uint32(len(want)/4096))
					cqe, got := p.Read(s, len(want))
					do(s, cqe)
					if !bytes.Equal(got, want) {
						t.Fatalf("after %d moves a read of block %d gives other bytes", i+1, lba)
					}
				}
			}
			stats, err := e.Target.Stats()
			if err != nil {
				t.Fatal(err)
			}
			if in, out := stats[0].MovedIn+stats[1].MovedIn, stats[0].MovedOut+stats[1].MovedOut; in != 100 || out != 100 {
				t.Errorf("%d moves in and %d out are counted, want 100", in, out)
			}
			if n := stats[0].CompletedCommands + stats[1].CompletedCommands; n < 400 {
				t.Errorf("%d commands are counted", n)
			}
			if n := stats[0].CurrentIOQueues + stats[1].CurrentIOQueues; n != 1 {
				t.Errorf("%d queues are counted", n)
			}
		})
	}
}

// taker answers R2Ts and takes what commands end with, in whatever order.
type taker struct {
	t      *testing.T
	p      *nvmftest.TCPPeer
	writes map[nvmf.CID][]byte // by R2T
	reads  map[nvmf.CID][]byte
	ended  map[nvmf.CID]nvmf.Status
	order  []nvmf.CID
}

func newTaker(t *testing.T, p *nvmftest.TCPPeer) *taker {
	return &taker{t: t, p: p, writes: map[nvmf.CID][]byte{}, reads: map[nvmf.CID][]byte{}, ended: map[nvmf.CID]nvmf.Status{}}
}

// want takes PDUs until all these commands have ended, each once, as they should.
func (h *taker) want(why string, s nvmf.Status, commands ...*nvmf.SQE) {
	h.t.Helper()
	for _, c := range commands {
		for _, ok := h.ended[c.CID()]; !ok; _, ok = h.ended[c.CID()] {
			h.take(why)
		}
		if got := h.ended[c.CID()]; got != s {
			h.t.Fatalf("%s: command %d ended as %v, want %v", why, c.CID(), got, s)
		}
	}
}

func (h *taker) end(why string, c nvmf.CID, s nvmf.Status) {
	h.t.Helper()
	if _, twice := h.ended[c]; twice {
		h.t.Fatalf("%s: command %d was answered twice", why, c)
	}
	h.ended[c] = s
	h.order = append(h.order, c)
}

func (h *taker) take(why string) {
	h.t.Helper()
	pdu := h.p.Recv(why)
	switch pdu.Type {
	case nvmf.PDUC2HData:
		d, _ := nvmf.DecodeData(pdu.Header, nvmf.Frame{CommonHeader: pdu.CommonHeader, DataBytes: uint32(len(pdu.Data))})
		h.reads[d.CCCID] = append(h.reads[d.CCCID], pdu.Data...)
		if d.Success {
			h.end(why, d.CCCID, nvmf.StatusSuccess)
		}
	case nvmf.PDUCapsuleResp:
		cqe, _ := nvmf.DecodeCapsuleResp(pdu.Header)
		h.end(why, cqe.CID, cqe.Status&^nvmf.More)
	case nvmf.PDUR2T:
		r, _ := nvmf.DecodeR2T(pdu.Header)
		data := h.writes[r.CCCID]
		if len(data) != int(r.R2TL) {
			h.t.Fatalf("%s: R2T of %d bytes for command %d, which has %d", why, r.R2TL, r.CCCID, len(data))
		}
		const most = 128 << 10
		for at := 0; at < len(data); at += most {
			end := min(at+most, len(data))
			h.p.Send(h.p.H2C(nvmf.DataPDU{CCCID: r.CCCID, TTAG: r.TTAG, DATAO: uint32(at), Last: end == len(data)}, data[at:end]))
		}
	default:
		h.t.Fatalf("%s: %v", why, pdu.Type)
	}
}

// What the host sends while its queue comes to rest is not begun before the move, and is afterwards, in order: however much of it has
// arrived, wherever the stream is cut.
func TestNothingIsLostOrReorderedByAMove(t *testing.T) {
	for _, d := range []nvmf.Digests{0, nvmf.HeaderDigests, nvmf.DataDigests, nvmf.HeaderDigests | nvmf.DataDigests} {
		t.Run(fmt.Sprintf("digests %d", d), func(t *testing.T) {
			e, held := heldBeside(t, nvmftest.Options{})
			a := nvmftest.AdminAs(t, e.Addr, d, nvmf.ConnectData{CNTLID: nvmf.CNTLIDDynamic, SUBNQN: nvmftest.NQN, HOSTNQN: nvmftest.Host})
			p := nvmftest.Queue(t, e.Addr, a, 1, 32)
			at := reactorOf(e, p.CNTLID, 1)
			round := 0
			try := func(cut func(ends []int) int) {
				t.Helper()
				round++
				h := newTaker(t, p)
				first := on(2, p.RW(nvmf.IOWrite, 0, 1))
				p.Send(p.Capsule(first, make([]byte, 4096)))
				held.Want("a write in flight", 1)
				ended := moving(e, p, 1, 1-at, 20*time.Second)
				small, large := pattern(8192, uint64(round)), pattern(32<<10, uint64(round))
				w, r, l := p.RW(nvmf.IOWrite, 8, 2), p.RW(nvmf.IORead, 8, 2), p.RW(nvmf.IOWrite, 64, 8)
				x := newPair(p.Peer, 8, 4096, small[:4096], small[4096:])
				h.writes[l.CID()] = large
				var stream []byte
				var ends []int
				pair, in := x.bytes(p, 8192)
				for _, b := range [][]byte{p.Capsule(w, small), p.Capsule(nvmftest.Wants(r, 8192), nil), pair[:in], pair[in:], p.Capsule(nvmftest.Wants(l, len(large)), nil)} {
					stream = append(stream, b...)
					ends = append(ends, len(stream))
				}
				n := cut(ends)
				p.Send(stream[:n])
				awaitUnbegun(e, p, 1, n)
				if held.Count() != 1 {
					t.Fatal("a command was begun while the queue comes to rest")
				}
				held.End(bdev.StatusOK)
				if err := nvmftest.Take(t, "the move", ended); err != nil {
					t.Fatal(err)
				}
				if at = 1 - at; reactorOf(e, p.CNTLID, 1) != at {
					t.Fatalf("the queue is not on reactor %d", at)
				}
				p.Send(stream[n:])
				h.want(fmt.Sprintf("cut at %d", n), nvmf.StatusSuccess, first, w, r, x.first, x.second, l)
				if !bytes.Equal(h.reads[r.CID()], small) {
					t.Fatalf("cut at %d: the read gives other bytes than the write before it", n)
				}
				if i := slices.Index(h.order, x.first.CID()); h.order[0] != first.CID() || h.order[i+1] != x.second.CID() {
					t.Fatalf("cut at %d: answers came in the order %v", n, h.order)
				}
				cqe, got := p.Read(p.RW(nvmf.IORead, 64, 8), len(large))
				if !cqe.Status.OK() || !bytes.Equal(got, large) {
					t.Fatalf("cut at %d: the large write is not there", n)
				}
				cqe, got = p.Read(p.RW(nvmf.IORead, 8, 1), 4096)
				if !cqe.Status.OK() || !bytes.Equal(got, small[4096:]) {
					t.Fatalf("cut at %d: the pair's write is not there", n)
				}
			}
			for i := range 5 {
				for _, by := range []int{-4100, -74, -8, -4, -3, -1, 0, 1, 7, 8, 9, 64, 71, 72, 73, 76, 77, 500} {
					try(func(ends []int) int { return min(max(0, ends[i]+by), ends[4]) })
				}
			}
		})
	}
}

// The data of writes that had begun lies in the stream behind commands that came since: it is read, they are not begun.
func TestDataBehindNewCommandsIsRead(t *testing.T) {
	for _, d := range []nvmf.Digests{0, nvmf.HeaderDigests | nvmf.DataDigests} {
		t.Run(fmt.Sprintf("digests %d", d), func(t *testing.T) {
			e, held := heldBeside(t, nvmftest.Options{})
			a := nvmftest.AdminAs(t, e.Addr, d, nvmf.ConnectData{CNTLID: nvmf.CNTLIDDynamic, SUBNQN: nvmftest.NQN, HOSTNQN: nvmftest.Host})
			p := nvmftest.Queue(t, e.Addr, a, 1, 32)
			at := reactorOf(e, p.CNTLID, 1)
			const size = 256 << 10
			data := [][]byte{pattern(size, 1), pattern(size, 2)}
			var writes []*nvmf.SQE
			var r2t []nvmf.R2T
			for i := range data {
				writes = append(writes, p.RW(nvmf.IOWrite, uint64(i)*64, 64))
				p.Send(p.Capsule(nvmftest.Wants(writes[i], size), nil))
				r2t = append(r2t, p.WantR2T("a write"))
			}
			ended := moving(e, p, 1, 1-at, 20*time.Second)
			part := func(i, from, to int) {
				p.Send(p.H2C(nvmf.DataPDU{CCCID: r2t[i].CCCID, TTAG: r2t[i].TTAG, DATAO: uint32(from), Last: to == size}, data[i][from:to]))
			}
			later := on(2, p.RW(nvmf.IOWrite, 0, 1))
			after := p.RW(nvmf.IORead, 64, 64)
			part(0, 0, 100<<10)
			p.Send(p.Capsule(later, make([]byte, 4096)))
			part(1, 0, 128<<10)
			part(0, 100<<10, 228<<10)
			p.Send(p.Capsule(nvmftest.Wants(after, size), nil))
			part(1, 128<<10, size)
			if held.Count() != 0 {
				t.Error("a command was begun while the queue comes to rest")
			}
			part(0, 228<<10, size)
			if err := nvmftest.Take(t, "the move", ended); err != nil {
				t.Fatal(err)
			}
			h := newTaker(t, p)
			h.want("writes in flight, and a read that waited", nvmf.StatusSuccess, writes[0], writes[1], after)
			if !bytes.Equal(h.reads[after.CID()], data[1]) {
				t.Error("a read gives other bytes than what was written before")
			}
			if reactorOf(e, p.CNTLID, 1) == at {
				t.Error("the queue has not moved")
			}
			held.Want("the write that waited", 1)
			held.End(bdev.StatusOK)
			h.want("a write that waited", nvmf.StatusSuccess, later)
		})
	}
}

// A pair of which the first has come belongs together: its second is not put off.
func TestAPairIsNotTornByAMove(t *testing.T) {
	e := nvmftest.Start(t, nvmftest.Options{Reactors: 2})
	a := nvmftest.Admin(t, e.Addr)
	p := nvmftest.Queue(t, e.Addr, a, 1, 32)
	at := reactorOf(e, p.CNTLID, 1)
	for i := range 10 {
		x := newPair(p.Peer, uint64(i), 4096, make([]byte, 4096), pattern(4096, uint64(i)))
		b, cut := x.bytes(p, 8192)
		p.Send(b[:cut])
		awaitOpen(e, p, 1, 1)
		ended := moving(e, p, 1, 1-at, 20*time.Second)
		p.Send(b[cut:])
		x.want(t, "a pair around a move", nvmf.StatusSuccess, nvmf.StatusSuccess)
		if err := nvmftest.Take(t, "the move", ended); err != nil {
			t.Fatal(err)
		}
		at = 1 - at
	}
}

// A wrong digest stays wrong: the command that waited ends with it, and the connection goes on.
func TestAWrongDigestTravels(t *testing.T) {
	e, held := heldBeside(t, nvmftest.Options{})
	a := nvmftest.AdminAs(t, e.Addr, nvmf.DataDigests, nvmf.ConnectData{CNTLID: nvmf.CNTLIDDynamic, SUBNQN: nvmftest.NQN, HOSTNQN: nvmftest.Host})
	p := nvmftest.Queue(t, e.Addr, a, 1, 32)
	at := reactorOf(e, p.CNTLID, 1)
	h := newTaker(t, p)
	first, bad, good := on(2, p.RW(nvmf.IOWrite, 0, 1)), p.RW(nvmf.IOWrite, 1, 1), p.RW(nvmf.IOWrite, 2, 1)
	p.Send(p.Capsule(first, make([]byte, 4096)))
	held.Want("a write in flight", 1)
	ended := moving(e, p, 1, 1-at, 20*time.Second)
	b := p.Capsule(bad, pattern(4096, 1))
	b[len(b)-1] ^= 1
	b = append(b, p.Capsule(good, pattern(4096, 2))...)
	p.Send(b)
	awaitUnbegun(e, p, 1, len(b))
	held.End(bdev.StatusOK)
	if err := nvmftest.Take(t, "the move", ended); err != nil {
		t.Fatal(err)
	}
	h.want("in flight, and with the right digest", nvmf.StatusSuccess, first, good)
	h.want("with a wrong digest", nvmf.StatusTransientTransport, bad)
}

// A queue whose commands do not end stays where it is, and goes on with what came meanwhile.
func TestAMoveThatTakesTooLongIsGivenUp(t *testing.T) {
	e, held := heldBeside(t, nvmftest.Options{})
	a := nvmftest.Admin(t, e.Addr)
	p := nvmftest.Queue(t, e.Addr, a, 1, 32)
	at := reactorOf(e, p.CNTLID, 1)
	first := on(2, p.RW(nvmf.IOWrite, 0, 1))
	p.Send(p.Capsule(first, make([]byte, 4096)))
	held.Want("a write in flight", 1)
	for i := range 20 {
		h := newTaker(t, p)
		ended := moving(e, p, 1, 1-at, 30*time.Millisecond)
		data := pattern(4096, uint64(i))
		w, r, l := p.RW(nvmf.IOWrite, 5, 1), p.RW(nvmf.IORead, 5, 1), p.RW(nvmf.IOWrite, 64, 64)
		h.writes[l.CID()] = pattern(256<<10, uint64(i))
		b := append(p.Capsule(w, data), p.Capsule(nvmftest.Wants(r, 4096), nil)...)
		b = append(b, p.Capsule(nvmftest.Wants(l, 256<<10), nil)...)
		cut := i * len(b) / 19
		p.Send(b[:cut])
		if err := nvmftest.Take(t, "the move", ended); !errors.Is(err, nvmf.ErrMoveTime) {
			t.Fatal(err)
		}
		p.Send(b[cut:])
		h.want("commands beside one that does not end", nvmf.StatusSuccess, w, r, l)
		if !bytes.Equal(h.reads[r.CID()], data) {
			t.Fatal("a read gives other bytes than what was written before")
		}
	}
	if reactorOf(e, p.CNTLID, 1) != at {
		t.Error("the queue has moved")
	}
	held.End(bdev.StatusOK)
	newTaker(t, p).want("what was in flight", nvmf.StatusSuccess, first)
	move(e, p, 1, 1-at)
}

// A host that fills its queue while that comes to rest: more than is kept is begun where the queue is.
func TestAHostThatSendsTooMuchStays(t *testing.T) {
	e, held := heldBeside(t, nvmftest.Options{Transport: func(o *nvmf.TransportOptions) { o.InCapsuleDataBytes, o.MaxQueueDepth = 64<<10, 128 }})
	a := nvmftest.Admin(t, e.Addr)
	p := nvmftest.Queue(t, e.Addr, a, 1, 128)
	at := reactorOf(e, p.CNTLID, 1)
	first := on(2, p.RW(nvmf.IOWrite, 0, 1))
	p.Send(p.Capsule(first, make([]byte, 4096)))
	held.Want("a write in flight", 1)
	ended := moving(e, p, 1, 1-at, 20*time.Second)
	h := newTaker(t, p)
	var writes []*nvmf.SQE
	for i := range 100 {
		w := p.RW(nvmf.IOWrite, uint64(16*i), 16)
		writes = append(writes, w)
		p.Send(p.Capsule(w, pattern(64<<10, uint64(i))))
	}
	if err := nvmftest.Take(t, "the move", ended); err == nil {
		t.Error("the queue has moved")
	}
	h.want("writes that waited", nvmf.StatusSuccess, writes...)
	for i := range 100 {
		if cqe, got := p.Read(p.RW(nvmf.IORead, uint64(16*i), 16), 64<<10); !cqe.Status.OK() || !bytes.Equal(got, pattern(64<<10, uint64(i))) {
			t.Fatalf("write %d is not there", i)
		}
	}
	held.End(bdev.StatusOK)
	h.want("what was in flight", nvmf.StatusSuccess, first)
}

// Whatever ends a queue ends it while it comes to rest too, at once, and the move with it.
func TestQueuesEndWhileTheyComeToRest(t *testing.T) {
	for _, c := range []struct {
		why string
		end func(t *testing.T, e *nvmftest.Engine, a, p *nvmftest.TCPPeer) error
	}{
		{"the host resets the queue", func(_ *testing.T, _ *nvmftest.Engine, _, p *nvmftest.TCPPeer) error { p.Reset(); return nil }},
		{"the host resets the Admin queue", func(_ *testing.T, _ *nvmftest.Engine, a, _ *nvmftest.TCPPeer) error { a.Reset(); return nil }},
		{"the controller is disabled", func(_ *testing.T, _ *nvmftest.Engine, a, _ *nvmftest.TCPPeer) error {
			s := a.Fabrics(nvmf.FabricsPropertySet)
			s.SetProperty(nvmf.PropertyCC, 4, 0)
			a.WantStatus("CC.EN 0", a.Do(s, nil), nvmf.StatusSuccess)
			return nil
		}},
		{"the controller is shut down", func(_ *testing.T, _ *nvmftest.Engine, a, _ *nvmftest.TCPPeer) error {
			s := a.Fabrics(nvmf.FabricsPropertySet)
			s.SetProperty(nvmf.PropertyCC, 4, uint64(nvmf.CCEnable.WithSHN(nvmf.SHNNormal)))
			a.WantStatus("CC.SHN 1", a.Do(s, nil), nvmf.StatusSuccess)
			return nil
		}},
		{"the listener goes", func(t *testing.T, e *nvmftest.Engine, _, _ *nvmftest.TCPPeer) error {
			return e.Target.RemoveListener(t.Context(), nvmftest.NQN, nvmftest.Address(e.Addr))
		}},
		{"the subsystem goes", func(t *testing.T, e *nvmftest.Engine, _, _ *nvmftest.TCPPeer) error {
			return e.Target.DeleteSubsystem(t.Context(), nvmftest.NQN)
		}},
		{"the target is drained", func(t *testing.T, e *nvmftest.Engine, _, _ *nvmftest.TCPPeer) error {
			return e.Target.Drain(t.Context(), func(int, int) {})
		}},
		{"the target stops", func(t *testing.T, e *nvmftest.Engine, _, _ *nvmftest.TCPPeer) error {
			return e.Target.Stop(t.Context())
		}},
		{"the host breaks the protocol", func(_ *testing.T, _ *nvmftest.Engine, _, p *nvmftest.TCPPeer) error {
			p.Send(p.H2C(nvmf.DataPDU{TTAG: 7, Last: true}, make([]byte, 512)))
			p.WantTerm("data that nobody asked for", nvmf.ErrTTAG)
			p.Close()
			return nil
		}},
	} {
		t.Run(c.why, func(t *testing.T) {
			e, held := heldBeside(t, nvmftest.Options{})
			a := nvmftest.Admin(t, e.Addr)
			p := nvmftest.Queue(t, e.Addr, a, 1, 32)
			at := reactorOf(e, p.CNTLID, 1)
			p.Send(p.Capsule(on(2, p.RW(nvmf.IOWrite, 0, 1)), make([]byte, 4096)))
			held.Want("a write in flight", 1)
			ended := moving(e, p, 1, 1-at, 20*time.Second)
			b := p.Capsule(p.RW(nvmf.IOWrite, 1, 1), make([]byte, 4096))
			if c.why != "the host breaks the protocol" {
				b = b[:3000]
			}
			p.Send(b)
			awaitUnbegun(e, p, 1, len(b))
			gone := make(chan error, 1)
			go func() { gone <- c.end(t, e, a, p) }()
			if err := nvmftest.Take(t, "the move", ended); err == nil {
				t.Error("the queue has moved")
			}
			nvmftest.Await(t, c.why, func() bool {
				held.End(bdev.StatusOK)
				return len(gone) == 1
			})
			if err := <-gone; err != nil {
				t.Error(err)
			}
			a.Close()
			p.Close()
			nvmftest.Await(t, "the queues are gone", func() bool {
				held.End(bdev.StatusOK)
				s, err := e.Target.Stats()
				return err != nil || s[0].CurrentIOQueues+s[1].CurrentIOQueues == 0
			})
			e.WantNothingLeft(c.why)
		})
	}
}

// What changes for hosts while a queue comes to rest holds for what it begins afterwards, where it went.
func TestChangesDuringAMove(t *testing.T) {
	e, held := heldBeside(t, nvmftest.Options{Subsystem: func(o *nvmf.SubsystemOptions) { o.ANA = true }})
	a := nvmftest.Admin(t, e.Addr)
	p := nvmftest.Queue(t, e.Addr, a, 1, 32)
	at := reactorOf(e, p.CNTLID, 1)
	for _, c := range []struct {
		why    string
		change func() error
		want   nvmf.Status
	}{
		{"inaccessible", func() error {
			return e.Target.SetANAState(nvmftest.NQN, nvmftest.Address(e.Addr), nvmf.ANAInaccessible, 1)
		}, nvmf.StatusANAInaccessible},
		{"optimized", func() error {
			return e.Target.SetANAState(nvmftest.NQN, nvmftest.Address(e.Addr), nvmf.ANAOptimized, 1)
		}, nvmf.StatusSuccess},
		{"removed", func() error { return e.Target.RemoveNamespace(t.Context(), nvmftest.NQN, 1) }, nvmf.StatusInvalidNamespace | nvmf.DNR},
	} {
		first, later := on(2, p.RW(nvmf.IOWrite, 0, 1)), p.RW(nvmf.IOWrite, 1, 1)
		p.Send(p.Capsule(first, make([]byte, 4096)))
		held.Want("a write in flight", 1)
		ended := moving(e, p, 1, 1-at, 20*time.Second)
		b := p.Capsule(later, make([]byte, 4096))
		p.Send(b)
		awaitUnbegun(e, p, 1, len(b))
		if err := c.change(); err != nil {
			t.Fatal(err)
		}
		held.End(bdev.StatusOK)
		if err := nvmftest.Take(t, "the move", ended); err != nil {
			t.Fatal(err)
		}
		h := newTaker(t, p)
		h.want("what was in flight", nvmf.StatusSuccess, first)
		h.want(c.why, c.want, later)
		at = 1 - at
	}
}

// An Abort finds a command that keeps its queue from coming to rest.
func TestAnAbortDuringAMove(t *testing.T) {
	e, held := heldBeside(t, nvmftest.Options{})
	a := nvmftest.Admin(t, e.Addr)
	p := nvmftest.Queue(t, e.Addr, a, 1, 32)
	at := reactorOf(e, p.CNTLID, 1)
	for range 4 {
		first := on(2, p.RW(nvmf.IOWrite, 0, 1))
		p.Send(p.Capsule(first, make([]byte, 4096)))
		held.Want("a write in flight", 1)
		ended := moving(e, p, 1, 1-at, 20*time.Second)
		s := a.Cmd(nvmf.AdminAbort)
		s.SetAbort(1, first.CID())
		cqe := a.Do(s, nil)
		a.WantStatus("Abort", cqe, nvmf.StatusSuccess)
		if cqe.DW0 != 0 {
			t.Error("the command was not found")
		}
		if err := nvmftest.Take(t, "the move", ended); err != nil {
			t.Fatal(err)
		}
		newTaker(t, p).want("an aborted write", nvmf.StatusAbortRequested, first)
		at = 1 - at
	}
}

// Moves that cannot be are refused, and say why.
func TestMovesThatAreRefused(t *testing.T) {
	e, held := heldBeside(t, nvmftest.Options{})
	a := nvmftest.Admin(t, e.Addr)
	p := nvmftest.Queue(t, e.Addr, a, 1, 32)
	at := reactorOf(e, p.CNTLID, 1)
	for _, c := range []struct {
		why  string
		nqn  string
		id   nvmf.CNTLID
		qid  nvmf.QID
		to   int
		want error
	}{
		{"no such subsystem", "nqn.2026-01.io.pollux:other", a.CNTLID, 1, 0, nvmf.ErrNotFound},
		{"no such controller", nvmftest.NQN, a.CNTLID + 1, 1, 0, nvmf.ErrNotFound},
		{"no such queue", nvmftest.NQN, a.CNTLID, 2, 0, nvmf.ErrNotFound},
		{"an Admin queue", nvmftest.NQN, a.CNTLID, 0, 0, nvmf.ErrInvalid},
		{"no such reactor", nvmftest.NQN, a.CNTLID, 1, 2, nvmf.ErrInvalid},
		{"where it is", nvmftest.NQN, a.CNTLID, 1, at, nil},
	} {
		if err := e.Target.MoveQueue(t.Context(), c.nqn, c.id, c.qid, c.to, time.Second); !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", c.why, err, c.want)
		}
	}
	first := on(2, p.RW(nvmf.IOWrite, 0, 1))
	p.Send(p.Capsule(first, make([]byte, 4096)))
	held.Want("a write in flight", 1)
	ended := moving(e, p, 1, 1-at, 20*time.Second)
	if err := e.Target.MoveQueue(t.Context(), nvmftest.NQN, a.CNTLID, 1, 1-at, time.Second); !errors.Is(err, nvmf.ErrInUse) {
		t.Errorf("a second move of it: %v", err)
	}
	held.End(bdev.StatusOK)
	if err := nvmftest.Take(t, "the move", ended); err != nil {
		t.Fatal(err)
	}
}

// Queues come, move and go all the time, with hosts that end them anywhere.
func TestQueuesMoveAndEndAtOnce(t *testing.T) {
	e := nvmftest.Start(t, nvmftest.Options{Reactors: 3})
	for i := range 60 {
		a := nvmftest.Admin(t, e.Addr)
		p := nvmftest.Queue(t, e.Addr, a, 1, 32)
		ended := make(chan struct{})
		go func() {
			defer close(ended)
			for to := 0; ; to++ {
				if err := e.Target.MoveQueue(context.Background(), nvmftest.NQN, p.CNTLID, 1, to%3, time.Second); err != nil {
					return // it is gone
				}
			}
		}()
		for j := range i % 20 {
			write(t, p, uint64(j), pattern(4096, uint64(j)), j%2 == 0)
		}
		p.Send(p.Capsule(p.RW(nvmf.IOWrite, 0, 1), make([]byte, 4096))[:i*70])
		switch i % 4 {
		case 0:
			p.Reset()
		case 1:
			p.Close()
		case 2:
			a.Reset()
		default:
			a.Close()
		}
		nvmftest.Take(t, "moves end with their queue", ended)
		a.Close()
		p.Close()
	}
	e.WantNothingLeft("after queues that moved")
	if n := e.Target.Placed(); slices.Max(n) != 0 || slices.Min(n) != 0 {
		t.Errorf("queues are counted that are gone: %v", n)
	}
}

// Whatever takes queues away finds them wherever they are, between two reactors too.
func TestQueuesAreEndedAsTheyMove(t *testing.T) {
	for _, c := range []struct {
		why string
		end func(e *nvmftest.Engine) error
	}{
		{"the subsystem goes", func(e *nvmftest.Engine) error { return e.Target.DeleteSubsystem(e.T.Context(), nvmftest.NQN) }},
		{"the listener goes", func(e *nvmftest.Engine) error {
			return e.Target.RemoveListener(e.T.Context(), nvmftest.NQN, nvmftest.Address(e.Addr))
		}},
		{"the target is drained", func(e *nvmftest.Engine) error { return e.Target.Drain(e.T.Context(), func(int, int) {}) }},
		{"the target stops", func(e *nvmftest.Engine) error { return e.Target.Stop(e.T.Context()) }},
	} {
		t.Run(c.why, func(t *testing.T) {
			for round := range 10 {
				e := nvmftest.Start(t, nvmftest.Options{Reactors: 3})
				var wait sync.WaitGroup
				var moves atomic.Int64
				for range 4 {
					a := nvmftest.Admin(t, e.Addr)
					p := nvmftest.Queue(t, e.Addr, a, 1, 32)
					wait.Go(func() {
						for to := 0; ; to++ {
							if err := e.Target.MoveQueue(context.Background(), nvmftest.NQN, a.CNTLID, 1, to%3, time.Second); err != nil {
								return // it is gone, or is about to
							}
							moves.Add(1)
						}
					})
					write(t, p, 1, pattern(4096, 1), true)
				}
				nvmftest.Await(t, "queues move", func() bool { return moves.Load() > int64(8+round) })
				nvmftest.Within(t, c.why, func() {
					if err := c.end(e); err != nil {
						t.Error(err)
					}
				})
				nvmftest.Within(t, "moves end", wait.Wait)
				e.WantNothingLeft(c.why)
				for i, n := range e.Target.Placed() {
					if n != 0 {
						t.Errorf("%d queues are counted on reactor %d, and there is none", n, i)
					}
				}
			}
		})
	}
}

// A host that is slow to take its data, from a pool that has no more for it: the queue moves when it has taken all that was begun.
func TestAMoveWaitsForTheHost(t *testing.T) {
	e := nvmftest.Start(t, nvmftest.Options{Reactors: 2, MemoryBytes: 16 << 20})
	a := nvmftest.Admin(t, e.Addr)
	p := nvmftest.Queue(t, e.Addr, a, 1, 128)
	at := reactorOf(e, p.CNTLID, 1)
	data := pattern(1<<20, 1)
	write(t, p, 0, data, false)
	for range 3 {
		h := newTaker(t, p)
		var reads []*nvmf.SQE
		for range 100 {
			r := p.RW(nvmf.IORead, 0, 256)
			reads = append(reads, r)
			p.Send(p.Capsule(nvmftest.Wants(r, 1<<20), nil))
		}
		awaitOpen(e, p, 1, 60) // more than the sockets take: the host has to read before the queue can rest
		ended := moving(e, p, 1, 1-at, 20*time.Second)
		last := p.RW(nvmf.IORead, 0, 256)
		reads = append(reads, last)
		p.Send(p.Capsule(nvmftest.Wants(last, 1<<20), nil))
		h.want("reads around a move", nvmf.StatusSuccess, reads...)
		for _, r := range reads {
			if !bytes.Equal(h.reads[r.CID()], data) {
				t.Fatal("a read gives other bytes than were written")
			}
		}
		if err := nvmftest.Take(t, "the move", ended); err != nil {
			t.Fatal(err)
		}
		at = 1 - at
	}
}
