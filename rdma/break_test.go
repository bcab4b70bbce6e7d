package rdma_test

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"syscall"
	"testing"
	"time"

	"github.com/pollux-storage/pollux/rdma"
	"github.com/pollux-storage/pollux/rdma/rdmatest"
	"github.com/pollux-storage/pollux/reactor"
)

// This file breaks connections under load, in every way that the fabric knows, at every place. Whatever happens, each work request that is to be heard of is
// heard of once and before Closed, each end is told that it is over once, and nothing is left. The fabric watches all memory that is the card's.

const askBytes = 4096

// load is an end that keeps requests going, and its book of what it has posted.
type load struct {
	end
	t      testing.TB
	host   bool
	open   map[uint64]bool // signalled, and not heard of
	next   uint64
	left   int // requests that the host still begins
	served int
	busy   map[uint64][]byte // buffers by the ID of what uses them
	spare  [][]byte
	then   map[uint64]func()
}

func (e *load) begin(q *rdma.Queue) rdma.Handler {
	e.q, e.r = q, q.Reactor()
	e.open, e.busy = map[uint64]bool{}, map[uint64][]byte{}
	if e.host {
		for range 3 {
			e.ask()
		}
	}
	return e
}

// take is a buffer from the pool, or one that was used before.
func (e *load) take() []byte {
	if n := len(e.spare); n > 0 {
		b := e.spare[n-1]
		e.spare = e.spare[:n-1]
		return b
	}
	return e.buffer(askBytes)
}

func (e *load) postIt(op rdma.Opcode, b []byte, f rdma.SendFlags, address uint64, key uint32) uint64 {
	e.next++
	w := rdma.SendWR{ID: e.next, Opcode: op, Flags: f, SGEs: 1, Remote: address, RemoteKey: key}
	if w.SGE[0] = e.q.SGE(b); f&rdma.Inline != 0 {
		w.SGE[0] = inlineSGE(b)
	}
	if f&rdma.Signaled != 0 {
		e.open[e.next] = true
		e.busy[e.next] = b
	}
	e.q.Post(&w)
	return e.next
}

// ask sends where a buffer is, from which the target reads and into which it writes.
func (e *load) ask() {
	if e.left == 0 {
		return
	}
	e.left--
	b := e.buffer(askBytes) // the peer's until the end: it may be written by what is late
	for i := range b {
		b[i] = byte(e.left + i)
	}
	m := e.take()[:16]
	binary.LittleEndian.PutUint64(m, e.q.SGE(b).Address)
	binary.LittleEndian.PutUint32(m[8:], e.q.RemoteKey(b))
	binary.LittleEndian.PutUint32(m[12:], uint32(e.left))
	e.postIt(rdma.OpSend, m, rdma.Signaled, 0, 0)
}

func (e *load) Received(rx *rdma.Receive) {
	defer e.q.Release(rx)
	if e.closed > 0 {
		e.t.Error("a message came after Closed")
	}
	if e.host {
		e.served++
		e.ask()
		return
	}
	address, key, n := binary.LittleEndian.Uint64(rx.Header), binary.LittleEndian.Uint32(rx.Header[8:]), int(binary.LittleEndian.Uint32(rx.Header[12:]))
	if e.q.Posted()+3 > plain.SendDepth {
		e.t.Error("no room")
		return
	}
	b := e.take()
	id := e.postIt(rdma.OpRead, b, rdma.Signaled, address, key)
	e.todo(id, func() {
		for i := range b {
			if b[i] != byte(n+i) {
				e.t.Errorf("request %d: byte %d that was read is %d", n, i, b[i])
				break
			}
		}
		e.postIt(rdma.OpWrite, b, 0, address, key)
		e.postIt(rdma.OpSend, b[:16], rdma.Signaled, 0, 0)
	})
}

func (e *load) todo(id uint64, f func()) {
	if e.then == nil {
		e.then = map[uint64]func(){}
	}
	e.then[id] = f
}

func (e *load) Completed(id uint64, s rdma.Status) {
	if e.closed > 0 {
		e.t.Errorf("work request %d ended after Closed", id)
	}
	signalled := e.open[id]
	if !signalled && s == rdma.StatusOK {
		e.t.Errorf("work request %d ended twice, or in silence it should have kept", id)
	}
	delete(e.open, id)
	b := e.busy[id]
	delete(e.busy, id)
	f := e.then[id]
	delete(e.then, id)
	switch {
	case s != rdma.StatusOK:
	case f != nil:
		f()
	case b != nil:
		e.spare = append(e.spare, b[:askBytes])
	}
}

func (e *load) Closed() {
	if len(e.open) != 0 {
		e.t.Errorf("Closed, and %d work requests were never heard of", len(e.open))
	}
	e.end.Closed()
}

// loaded is an acceptor of loads.
type loaded struct {
	acceptor
	t     testing.TB
	loads []*load
}

func (a *loaded) Offered(o *rdma.Offer) (*rdma.Answer, []byte) {
	answer, _ := a.acceptor.Offered(o)
	e := &load{t: a.t}
	a.mu.Lock()
	a.loads = append(a.loads, e)
	a.mu.Unlock()
	answer.Open = e.begin
	return answer, nil
}

// broken runs load over connections, has hurt hurt them, and wants all to end well. Where what hurts is mute, who only waits for an answer hears of nothing.
func broken(t *testing.T, o rigOptions, cfg rdma.QueueConfig, mute bool, hurt func(x *rig, l *rdma.Listener)) {
	t.Helper()
	x := newRig(t, o)
	x.fabric.Watch()
	a := &loaded{t: t}
	a.cfg = cfg
	a.r = func(i int) *reactor.Reactor { return x.target.g.Reactor(i % x.target.g.Len()) }
	l, err := x.target.n.Listen(loopback, a)
	if err != nil {
		t.Fatal(err)
	}
	var hosts []*load
	for range 2 {
		h := &load{t: t, host: true, left: 200}
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		_, err := x.host.n.Dial(ctx, l.Addr(), nil, cfg, x.host.reactor(), h.begin)
		cancel()
		if err == nil {
			hosts = append(hosts, h)
		}
	}
	hurt(x, l)
	for _, h := range hosts { // it has served all, or has ended
		h.want(t, "the load's end", func() bool { return mute || h.closed > 0 || len(h.ended) > 0 || h.served == 200 || h.left < 150 })
		on(t, h.r, func() { h.q.Close() })
	}
	for _, h := range hosts {
		h.wantClosed(t)
	}
	a.mu.Lock()
	loads := a.loads
	a.mu.Unlock()
	for _, g := range loads {
		if g.q == nil {
			continue
		}
		g.want(t, "an end that the host's has", func() bool {
			g.q.Close()
			return g.closed > 0
		})
	}
	x.close()
}

// shapes are how connections can be: with shared receives, with receives of their own, and movable.
func shapes(t *testing.T, f func(t *testing.T, o rigOptions, cfg rdma.QueueConfig)) {
	movable := plain
	movable.Movable = true
	t.Run("shared receives", func(t *testing.T) {
		f(t, rigOptions{target: rdmatest.Options{SRQDepth: 1024}, host: rdmatest.Options{SRQDepth: 1024}, reactors: 2}, plain)
	})
	t.Run("own receives", func(t *testing.T) { f(t, rigOptions{}, plain) })
	t.Run("movable", func(t *testing.T) { f(t, rigOptions{}, movable) })
}

func TestEveryStatusEndsAConnectionWell(t *testing.T) {
	shapes(t, func(t *testing.T, o rigOptions, cfg rdma.QueueConfig) {
		for s := rdma.StatusLocalLength; s <= rdma.StatusGeneral; s++ {
			k, n := rdma.CompletionKind(s%4), 1+int(s)*7%23
			t.Run(fmt.Sprintf("%v, of kind %d, %d", s, k, n), func(t *testing.T) {
				broken(t, o, cfg, false, func(x *rig, _ *rdma.Listener) {
					p := x.target.p
					if s%3 == 0 && (k == rdma.DidSend || k == rdma.DidRecv) {
						p = x.host.p
					}
					p.Wound(k, n, s)
				})
			})
		}
	})
}

func TestConnectionsEndWellWhateverHappens(t *testing.T) {
	shapes(t, func(t *testing.T, o rigOptions, cfg rdma.QueueConfig) {
		for _, c := range []struct {
			what string
			mute bool
			hurt func(x *rig, l *rdma.Listener)
		}{
			{"nothing", false, func(*rig, *rdma.Listener) {}},
			{"the peer vanishes", true, func(x *rig, _ *rdma.Listener) { x.host.p.Cut() }},
			{"the target vanishes", true, func(x *rig, _ *rdma.Listener) { x.target.p.Cut() }},
			{"the target's card is removed", true, func(x *rig, _ *rdma.Listener) { x.target.p.Remove(0, false) }},
			{"the target's card is removed, and never flushes", true, func(x *rig, _ *rdma.Listener) { x.target.p.Remove(0, true) }},
			{"the host's card is removed, and never flushes", true, func(x *rig, _ *rdma.Listener) { x.host.p.Remove(0, true) }},
			{"a port is down, and up again", false, func(x *rig, _ *rdma.Listener) {
				x.target.p.PortDown(0)
				time.Sleep(time.Millisecond)
				x.target.p.PortUp(0)
			}},
			{"a port is down for ever", true, func(x *rig, _ *rdma.Listener) {
				x.target.p.PortDown(0)
				for range 100 {
					time.Sleep(100 * time.Microsecond)
					x.target.p.Expire()
				}
				x.target.p.PortUp(0)
			}},
			{"RDMA READs are late", false, func(x *rig, _ *rdma.Listener) { x.target.p.ReadsLate(true) }},
			{"completions are late", false, func(x *rig, _ *rdma.Listener) {
				x.target.p.HoldCompletions(true)
				time.Sleep(time.Millisecond)
				x.target.p.HoldCompletions(false)
			}},
			{"work is withheld, and the listener closed", false, func(x *rig, l *rdma.Listener) {
				x.target.p.Withhold(rdmatest.Writes | rdmatest.Flushes)
				l.Close()
				time.Sleep(time.Millisecond)
				x.target.p.Release()
			}},
			{"work is withheld, and the Net closed", false, func(x *rig, _ *rdma.Listener) {
				x.target.p.Withhold(rdmatest.AllWork)
				go func() {
					time.Sleep(5 * time.Millisecond)
					x.target.p.Release()
				}()
				ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
				defer cancel()
				if err := x.target.n.Close(ctx); err != nil {
					x.t.Error(err)
				}
			}},
			{"the address is gone", false, func(x *rig, _ *rdma.Listener) { x.target.p.LoseAddress(0) }},
			{"the card has failed", false, func(x *rig, _ *rdma.Listener) { x.target.p.CardEvent(0, rdma.CardEvent{Kind: rdma.CardFatal}) }},
			{"no event of the connection manager comes", true, func(x *rig, _ *rdma.Listener) {
				x.target.p.Events(func(*rdma.Event) rdmatest.Verdict { return rdmatest.Drop })
				x.host.p.Events(func(*rdma.Event) rdmatest.Verdict { return rdmatest.Drop })
			}},
			{"the connection manager fails once", false, func(x *rig, _ *rdma.Listener) { x.target.p.FailNext(errors.New("once")) }},
		} {
			t.Run(c.what, func(t *testing.T) { broken(t, o, cfg, c.mute, c.hurt) })
		}
	})
}

// TestADialAndACloseAtOnce: whichever comes first, nothing is left, and what is connected already ends well.
func TestADialAndACloseAtOnce(t *testing.T) {
	for i := range 20 {
		x := newRig(t, rigOptions{})
		a := &acceptor{}
		l := x.target.listen(a)
		h, g := x.connect(a, l)
		dialled := make(chan error)
		go func() {
			_, _, err := x.host.dial(l, plain)
			dialled <- err
		}()
		time.Sleep(time.Duration(i) * 50 * time.Microsecond)
		ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
		if err := x.host.n.Close(ctx); err != nil {
			t.Error(err)
		}
		cancel()
		<-dialled
		h.wantClosed(t)
		g.wantClosed(t)
		x.close()
	}
}

func TestNobodyThereIsSaidWithItsReason(t *testing.T) {
	x := newRig(t, rigOptions{})
	l := x.target.listen(&acceptor{})
	l.Close()
	if _, _, err := x.host.dial(l, plain); !errors.Is(err, rdma.ErrUnreachable) || !errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("nobody listens: %v", err)
	}
}
