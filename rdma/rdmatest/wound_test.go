package rdmatest

import (
	"errors"
	"fmt"
	"net/netip"
	"testing"

	"github.com/pollux-storage/pollux/rdma"
)

func TestWithheldWorkHoldsBuffersOnTheCard(t *testing.T) {
	r := plainRig(t)
	r.hp.Withhold(Writes)
	r.target.recv(1, 4096, 64)
	r.target.recv(2, 8192, 64)
	r.hs.mem[0] = 'a'
	r.host.post(r.host.wr(rdma.OpSend, 3, 0, 64), of(r.host.wr(rdma.OpWrite, 4, 0, 64), r.target, 0), r.host.wr(rdma.OpSend, 5, 0, 64))
	r.hs.exactly(well(3))
	r.ts.exactly(well(1))
	if n := r.hp.Withheld(); n != 1 {
		t.Fatalf("%d queue pairs are held up, want 1", n)
	}
	r.hs.mem[0] = 'b' // the card reads it when the work is carried out
	if !r.hp.Step(0) || r.ts.mem[0] != 'b' {
		t.Fatalf("the card wrote %q", r.ts.mem[0])
	}
	r.hs.exactly(well(4), well(5)) // what is behind it is not of the kind that is withheld
	r.ts.exactly(well(2))
	if r.hp.Step(0) {
		t.Fatal("there was more to do")
	}
}

func TestWithheldFlushesHoldBuffersOnTheCard(t *testing.T) {
	r := plainRig(t)
	r.hp.Withhold(AllWork)
	r.host.recv(1, 0, 64)
	r.host.post(r.host.wr(rdma.OpSend, 2, 0, 64), r.host.wr(rdma.OpSend, 3, 0, 64))
	r.hs.must(r.hs.card.Fail(r.host.qp))
	r.hs.exactly()
	r.hp.Step(5)
	r.hs.exactly(flushed(2))
	r.hp.Release()
	r.hs.exactly(flushed(3), flushed(1))
}

func TestCompletionsThatAreHeldAreLate(t *testing.T) {
	r := plainRig(t)
	r.hs.must(r.hs.card.Arm(r.hs.cq))
	r.hp.HoldCompletions(true)
	r.hs.mem[0] = 7
	r.host.post(of(r.host.wr(rdma.OpWrite, 1, 0, 64), r.target, 0))
	if r.ts.mem[0] != 7 {
		t.Fatal("it was not carried out")
	}
	r.hs.exactly()
	r.hp.HoldCompletions(false)
	r.hs.exactly(well(1))
}

func TestSendsThatAreHeldAreLaterThanTheirAnswers(t *testing.T) {
	r := plainRig(t)
	r.target.recv(1, 0, 64)
	r.host.recv(2, 4096, 64)
	r.hp.HoldSends(true)
	r.host.post(r.host.wr(rdma.OpSend, 3, 0, 64), of(r.host.wr(rdma.OpWrite, 4, 0, 64), r.target, 0))
	r.ts.exactly(well(1))
	r.target.post(r.target.wr(rdma.OpSend, 5, 0, 64))
	r.ts.exactly(well(5)) // the other side's come
	r.hs.exactly(well(2))
	r.hs.must(r.hs.card.Fail(r.host.qp))
	r.host.post(r.host.wr(rdma.OpSend, 6, 0, 64))
	r.hs.exactly()
	r.hp.HoldSends(false)
	r.hs.exactly(well(3), well(4), flushed(6))
}

func TestLateReadsAreOvertakenButNotByWhatIsFenced(t *testing.T) {
	r := plainRig(t)
	r.hp.ReadsLate(true)
	r.hs.mem[0], r.ts.mem[64] = 'o', 'n'
	r.target.recv(1, 4096, 64)
	r.target.recv(2, 8192, 64)
	fenced := r.host.wr(rdma.OpSend, 5, 0, 1)
	fenced.Flags |= rdma.Fence
	r.host.post(of(r.host.wr(rdma.OpRead, 3, 0, 1), r.target, 64), r.host.wr(rdma.OpSend, 4, 0, 1), fenced)
	r.hs.exactly(well(3), well(4), well(5))
	r.ts.exactly(well(1), well(2))
	if r.ts.mem[4096] != 'o' || r.ts.mem[8192] != 'n' {
		t.Fatalf("sent %q behind the read, and %q fenced; want o and n", r.ts.mem[4096], r.ts.mem[8192])
	}
}

func TestAWorkRequestEndsWithAnyStatus(t *testing.T) {
	for s := rdma.StatusLocalLength; s <= rdma.StatusGeneral; s++ {
		for _, k := range []rdma.CompletionKind{rdma.DidSend, rdma.DidWrite, rdma.DidRead} {
			t.Run(fmt.Sprintf("status %d of kind %d", s, k), func(t *testing.T) {
				r := plainRig(t)
				h := r.host
				r.target.recv(1, 0, 64)
				r.target.recv(2, 0, 64)
				op := [...]rdma.Opcode{rdma.DidSend: rdma.OpSend, rdma.DidWrite: rdma.OpWrite, rdma.DidRead: rdma.OpRead}[k]
				w := func(id uint64) rdma.SendWR { return of(h.wr(op, id, 0, 64), r.target, 0) }
				r.hp.Wound(k, 2, s)
				h.post(w(10), w(11), w(12))
				r.hs.exactly(well(10), ill(11, s), flushed(12))
				var got []ending
				if k == rdma.DidSend {
					got = append(got, well(1))
				}
				switch s {
				case rdma.StatusRemoteInvalid, rdma.StatusRemoteAccess, rdma.StatusRemoteOperation, rdma.StatusRemoteAborted: // the peer has ended too
					if k != rdma.DidSend {
						got = append(got, flushed(1))
					}
					got = append(got, flushed(2))
				}
				r.ts.exactly(got...)
			})
		}
		t.Run(fmt.Sprintf("status %d of a receive", s), func(t *testing.T) {
			r := plainRig(t)
			r.target.recv(1, 0, 64)
			r.target.recv(2, 0, 64)
			r.tp.Wound(rdma.DidRecv, 1, s)
			r.host.post(r.host.wr(rdma.OpSend, 3, 0, 64), r.host.wr(rdma.OpSend, 4, 0, 64))
			r.ts.exactly(ill(1, s), flushed(2))
			r.hs.exactly(ill(3, rdma.StatusRemoteOperation), flushed(4))
		})
	}
}

func TestAPeerThatVanishesSaysNothing(t *testing.T) {
	r := plainRig(t)
	r.target.recv(1, 0, 64)
	r.host.post(of(r.host.wr(rdma.OpWrite, 2, 0, 64), r.target, 0))
	r.tp.Cut()
	r.hs.exactly(well(2))
	r.ts.exactly()
	r.host.post(r.host.wr(rdma.OpSend, 3, 0, 64), r.host.wr(rdma.OpSend, 4, 0, 64))
	r.hs.exactly(ill(3, rdma.StatusRetry), flushed(4))
	r.ts.exactly()
	r.ts.must(r.ts.cm.Disconnect(r.target.id)) // which the host does not hear of
	r.ts.exactly(flushed(1))
	l, at := r.ts.listen(loopback)
	c := r.hs.resolve(netip.Addr{}, at).makeQP(shallow)
	r.hs.must(r.hs.cm.Connect(c.id, plain))
	r.hs.want(rdma.EventUnreachable)
	c.end()
	r.tp.Mend()
	c = r.hs.resolve(netip.Addr{}, at).makeQP(shallow)
	r.hs.must(r.hs.cm.Connect(c.id, plain))
	g := &link{side: r.ts, id: r.ts.want(rdma.EventDisconnected, rdma.EventConnect).ID}
	if g.id == r.target.id {
		g.id = r.ts.want(rdma.EventConnect).ID
	}
	g.end()
	c.end()
	r.ts.must(r.ts.cm.Destroy(l))
}

func TestASendThatWaitsForAReceiveOfAPeerThatVanishes(t *testing.T) {
	r := plainRig(t)
	r.host.post(r.host.wr(rdma.OpSend, 1, 0, 64))
	r.hs.exactly()
	r.tp.Cut()
	r.hs.exactly(ill(1, rdma.StatusRetry))
}

func TestAPortThatIsDownDelays(t *testing.T) {
	r := plainRig(t)
	r.tp.PortDown(0)
	if r.ts.card.Info().MTU != 0 {
		t.Error("a port is down, and there is an MTU")
	}
	w := of(r.host.wr(rdma.OpWrite, 1, 0, 64), r.target, 0)
	r.host.post(w)
	r.hs.exactly()
	r.tp.PortUp(0)
	r.hs.exactly(well(1))
	for _, k := range []rdma.CardEventKind{rdma.CardPortDown, rdma.CardPortUp} {
		if e, err := r.ts.card.NextEvent(); err != nil || e.Kind != k {
			t.Fatalf("the card tells %+v, %v; want %d", e, err, k)
		}
	}
	r.hp.PortDown(0)
	r.host.post(w)
	r.hp.Expire()
	r.hs.exactly(ill(1, rdma.StatusRetry))
	r.hp.PortUp(0)
}

func TestACardIsRemoved(t *testing.T) {
	for _, silent := range []bool{false, true} {
		r := plainRig(t)
		l, at := r.ts.listen(loopback)
		r.target.recv(1, 0, 64)
		r.hp.Withhold(Sends)
		r.host.post(r.host.wr(rdma.OpSend, 2, 0, 64))
		r.tp.Remove(0, silent)
		ids := map[rdma.ID]bool{}
		for range 2 {
			ids[r.ts.want(rdma.EventRemoval).ID] = true
		}
		if !ids[l] || !ids[r.target.id] {
			t.Errorf("a removal was heard by %v, want %#x and %#x", ids, l, r.target.id)
		}
		if silent {
			r.ts.exactly()
		} else {
			r.ts.exactly(flushed(1))
		}
		r.hp.Release()
		r.hs.exactly(ill(2, rdma.StatusRetry))
		if _, err := r.ts.card.CreateCQ(1); err == nil {
			t.Error("something was made on a card that is gone")
		}
		if c, _ := r.tp.Cards(); len(c) != 0 {
			t.Error("it is still there")
		}
		if e, err := r.ts.card.NextEvent(); err != nil || e.Kind != rdma.CardFatal {
			t.Errorf("the card tells %+v, %v", e, err)
		}
		if _, err := r.ts.card.NextEvent(); err == nil {
			t.Error("the card tells more")
		}
		c := r.hs.resolve(netip.Addr{}, at).makeQP(shallow)
		r.hs.must(r.hs.cm.Connect(c.id, plain))
		r.hs.want(rdma.EventUnreachable)
		c.end()
		r.ts.must(r.ts.cm.Destroy(l))
	}
}

func TestEventsAreChangedHeldAndDropped(t *testing.T) {
	r := newRig(t, Options{}, Options{})
	r.tp.Events(func(e *rdma.Event) Verdict {
		switch e.Kind {
		case rdma.EventConnect:
			e.Private = e.Private[:3]
		case rdma.EventEstablished:
			return Hold
		case rdma.EventDisconnected:
			return Drop
		}
		return Pass
	})
	ask := plain
	ask.Private = []byte("private")
	l, at := r.ts.listen(loopback)
	r.host = r.hs.resolve(netip.Addr{}, at).makeQP(shallow)
	r.hs.must(r.hs.cm.Connect(r.host.id, ask))
	e := r.ts.want(rdma.EventConnect)
	if string(e.Private) != "pri" {
		t.Errorf("offered with %q", e.Private)
	}
	r.target = (&link{side: r.ts, id: e.ID}).makeQP(shallow)
	r.target.recv(1, 0, 64)
	r.ts.must(r.ts.cm.Accept(e.ID, plain))
	r.hs.want(rdma.EventEstablished)
	r.host.post(r.host.wr(rdma.OpSend, 2, 0, 64))
	r.ts.exactly(well(1)) // before the connection is established, as far as the target has heard
	r.tp.ReleaseEvents()
	r.ts.want(rdma.EventEstablished)
	r.hs.must(r.hs.cm.Disconnect(r.host.id))
	r.tp.FailNext(errors.New("no more"))
	if _, err := r.ts.cm.Next(); err == nil || err.Error() != "no more" {
		t.Errorf("Next ends with %v", err)
	}
	r.ts.must(r.ts.cm.Destroy(l))
	r.hs.exactly(well(2))
}

func TestADroppedOfferIsNeverHeardOf(t *testing.T) {
	r := newRig(t, Options{}, Options{})
	r.tp.Events(func(e *rdma.Event) Verdict { return Drop })
	l, at := r.ts.listen(loopback)
	c := r.hs.resolve(netip.Addr{}, at).makeQP(shallow)
	r.hs.must(r.hs.cm.Connect(c.id, plain))
	c.end()
	r.ts.must(r.ts.cm.Destroy(l))
}
