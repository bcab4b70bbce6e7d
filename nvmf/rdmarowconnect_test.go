package nvmf_test

import (
	"fmt"
	"net/netip"
	"testing"

	"github.com/pollux-storage/pollux/nvmf"
	"github.com/pollux-storage/pollux/nvmf/nvmftest"
	"github.com/pollux-storage/pollux/rdma/rdmatest"
	"github.com/pollux-storage/pollux/reactor"
)

// This file is hosts over RDMA that do not wait for the answer to their Connect, or never send one.

// rdmaConnect is a Connect whose data the target fetches.
func rdmaConnect(p *nvmftest.RDMAPeer, qid nvmf.QID, id nvmf.CNTLID) *nvmf.SQE {
	s := p.Fabrics(nvmf.FabricsConnect)
	s.SetConnect(qid, 32, 0, 0)
	d := nvmf.ConnectData{CNTLID: id, SUBNQN: nvmftest.NQN, HOSTNQN: nvmftest.Host}
	b, key := p.Memory(nvmf.ConnectDataBytes)
	copy(b, d.AppendTo(nil))
	s.SetSGL(p.SGL(b, key))
	return s
}

// A host that sends something behind its Connect loses its connection, wherever the Connect is by then, and nothing of it is left.
func TestRDMAHostsWaitForTheAnswerToTheirConnect(t *testing.T) {
	for _, reactors := range []int{1, 3} {
		for _, qid := range []nvmf.QID{0, 1} {
			for _, second := range []string{"Connect", "another command"} {
				t.Run(fmt.Sprintf("%d reactors, queue %d, %s", reactors, qid, second), func(t *testing.T) {
					e := overRDMA(t, reactors)
					a := e.AdminRDMA(t)
					id := a.CNTLID
					if qid == 0 {
						id = nvmf.CNTLIDDynamic
					}
					was := faults(t, e)
					p := e.DialRDMA(t, e.RDMA.Addr, qid, 32, a.CNTLID)
					e.RDMA.Target.Withhold(rdmatest.Reads)
					p.SendCapsule(rdmaConnect(p, qid, id)[:])
					if second == "Connect" {
						p.SendCapsule(rdmaConnect(p, qid, id)[:])
					} else {
						p.SendCapsule(p.Cmd(nvmf.AdminKeepAlive)[:])
					}
					p.WantClosed("a host that does not wait")
					e.RDMA.Target.Release()
					if n := faults(t, e) - was; n != 1 {
						t.Errorf("counted as %d protocol errors", n)
					}
					p.Close()
					a.Close()
					e.WantNothingLeft("after a host that did not wait")
				})
			}
		}
	}
}

// A host that breaks the protocol when its connection is about to go to the owner of the subsystem loses it there and then.
func TestRDMAHostsThatDoNotWaitAsTheirConnectionLeaves(t *testing.T) {
	for _, reactors := range []int{1, 2} {
		e := overRDMA(t, reactors)
		p := e.DialRDMA(t, e.RDMA.Addr, 0, 32, 0)
		e.RDMA.Target.Withhold(rdmatest.Reads)
		p.SendCapsule(rdmaConnect(p, 0, nvmf.CNTLIDDynamic)[:])
		nvmftest.Await(t, "the Connect's data are asked for", func() bool { return e.RDMA.Target.Withheld() == 1 })
		e.RDMA.Target.HoldCompletions(true)
		e.RDMA.Target.Release()
		p.SendCapsule(p.Cmd(nvmf.AdminKeepAlive)[:])
		e.RDMA.Target.HoldCompletions(false) // the data, and at once what should not have come
		p.WantClosed("a host that does not wait")
		if n := faults(t, e); n != 1 {
			t.Errorf("counted as %d protocol errors", n)
		}
		p.Close()
		e.WantNothingLeft("after a host that did not wait")
	}
}

// A Connect's data may be fetched on any queue, whichever reactor owns the subsystem.
func TestRDMAConnectsByKey(t *testing.T) {
	e := overRDMA(t, 3)
	a := e.AdminRDMA(t)
	for qid := nvmf.QID(1); qid <= 3; qid++ {
		p := e.DialRDMA(t, e.RDMA.Addr, qid, 32, a.CNTLID)
		s := rdmaConnect(p, qid, a.CNTLID)
		p.SendCapsule(s[:])
		p.WantStatus("Connect", p.Response(s).CQE, nvmf.StatusSuccess)
		p.WantStatus("flush", p.Do(p.IO(nvmf.IOFlush), nil), nvmf.StatusSuccess)
	}
}

// An Admin queue has the entries that its Connect asked for, and not one more.
func TestRDMAAdminQueuesHaveTheirEntries(t *testing.T) {
	e := overRDMA(t, 2)
	p := e.DialRDMA(t, e.RDMA.Addr, 0, 32, 0)
	p.WantStatus("Connect of four entries", p.Connect(0, 4, nvmf.CNTLIDDynamic), nvmf.StatusSuccess)
	p.Enable()
	for range 3 {
		p.SendCapsule(p.Cmd(nvmf.AdminAER)[:])
	}
	p.WantStatus("keep alive beside three that wait", p.Do(p.Cmd(nvmf.AdminKeepAlive), nil), nvmf.StatusSuccess)
	p.SendCapsule(p.Cmd(nvmf.AdminAER)[:])
	p.SendCapsule(p.Cmd(nvmf.AdminKeepAlive)[:])
	p.WantClosed("a fifth command on four entries")
}

// Hosts that go while the Connects of their I/O queues are away leave nothing behind.
func TestRDMAHostsThatGoWhileTheirConnectIsAway(t *testing.T) {
	e := overRDMA(t, 2)
	a := e.AdminRDMA(t)
	queues, err := e.Target.Queues(nvmftest.NQN)
	if err != nil {
		t.Fatal(err)
	}
	owner := queues[0].Reactor
	away := e.Group.Reactor(1 - owner)
	peers := []*nvmftest.RDMAPeer{e.DialRDMA(t, e.RDMA.Addr, 1, 32, a.CNTLID), e.DialRDMA(t, e.RDMA.Addr, 2, 32, a.CNTLID)}
	if n := e.Target.Placed(); n[0] != 1 || n[1] != 1 {
		t.Fatalf("%v queues are on the reactors", n)
	}
	busy, goOn := make(chan bool), make(chan bool)
	go func() {
		_ = e.Group.Reactor(owner).Call(func() { // it judges no Connect meanwhile
			close(busy)
			<-goOn
		})
	}()
	<-busy
	for i, p := range peers {
		s := p.Fabrics(nvmf.FabricsConnect)
		s.SetConnect(nvmf.QID(i+1), 32, 0, 0)
		d := nvmf.ConnectData{CNTLID: a.CNTLID, SUBNQN: nvmftest.NQN, HOSTNQN: nvmftest.Host}
		p.Begin(s, d.AppendTo(nil))
	}
	for range 4 { // turns, in which what has come is taken
		if err := away.Call(func() {}); err != nil {
			t.Fatal(err)
		}
	}
	for _, p := range peers {
		p.Disconnect()
	}
	nvmftest.Await(t, "the queue whose Connect is away ends", func() bool { return e.Target.Placed()[1-owner] == 0 })
	close(goOn)
	for _, p := range peers {
		p.Close()
	}
	a.Close()
	e.WantNothingLeft("after hosts that went while their Connects were away")
}

// awayFromOwner makes a connection for an Admin queue on another reactor than the one that owns the subsystem, of two.
func awayFromOwner(t *testing.T, e *nvmftest.Engine) (p *nvmftest.RDMAPeer, owner *reactor.Reactor) {
	t.Helper()
	queues, err := e.Target.Queues(nvmftest.NQN)
	if err != nil {
		t.Fatal(err)
	}
	at := queues[0].Reactor
	for _, addr := range []netip.AddrPort{e.RDMA.Addr, e.ListenRDMA(nvmftest.NQN)} { // which take their connections on different ones
		before := e.Target.RDMAStats()[1-at].QueuePairs
		p = e.DialRDMA(t, addr, 0, 32, 0)
		if e.Target.RDMAStats()[1-at].QueuePairs > before {
			return p, e.Group.Reactor(at)
		}
		p.Close()
	}
	t.Fatal("all listeners are on one reactor")
	return nil, nil
}

// timers gives the number of timers that wait on a reactor.
func timers(t *testing.T, r *reactor.Reactor) (n int) {
	t.Helper()
	if err := r.Call(func() { n = r.TimersSet() }); err != nil {
		t.Fatal(err)
	}
	return n
}

// A connection that leaves a reactor leaves no timer there: it would look at what is another's by then.
func TestRDMAConnectionsTakeTheirTimersAlong(t *testing.T) {
	e := overRDMA(t, 2)
	a := e.AdminRDMA(t)
	p, owner := awayFromOwner(t, e)
	away := e.Group.Reactor(1 - owner.Index())
	expects := timers(t, away) // that p sends a Connect
	e.RDMA.Target.Withhold(rdmatest.Reads)
	s := rdmaConnect(p, 0, nvmf.CNTLIDDynamic)
	p.SendCapsule(s[:])
	nvmftest.Await(t, "data are waited for", func() bool { return timers(t, away) == expects+1 })
	e.RDMA.Target.Release()
	p.WantStatus("Connect", p.Response(s).CQE, nvmf.StatusSuccess)
	nvmftest.Await(t, "none waits where it was", func() bool { return timers(t, away) == expects-1 })
	a.WantStatus("keep alive", a.Do(a.Cmd(nvmf.AdminKeepAlive), nil), nvmf.StatusSuccess)
}

// A host that goes while its Admin queue's connection is between two reactors leaves nothing behind.
func TestRDMAHostsThatGoWhileTheirConnectionIsAway(t *testing.T) {
	for _, id := range []nvmf.CNTLID{nvmf.CNTLIDDynamic, 1} { // taken, and refused
		e := overRDMA(t, 2)
		a := e.AdminRDMA(t)
		p, owner := awayFromOwner(t, e)
		away := e.Group.Reactor(1 - owner.Index())
		has := func() (n int) {
			if err := away.Call(func() { n = away.Memory().Stats().InUse }); err != nil {
				t.Fatal(err)
			}
			return n
		}
		idle := has()
		busy, goOn := make(chan bool), make(chan bool)
		go func() {
			_ = owner.Call(func() { // it takes no connection meanwhile
				close(busy)
				<-goOn
			})
		}()
		<-busy
		e.RDMA.Target.Withhold(rdmatest.Reads)
		p.SendCapsule(rdmaConnect(p, 0, id)[:])
		nvmftest.Await(t, "the Connect's data are asked for", func() bool { return e.RDMA.Target.Withheld() == 1 && has() > idle })
		e.RDMA.Target.Release()
		nvmftest.Await(t, "the connection has left", func() bool { return has() == idle })
		p.Disconnect()
		e.DialRDMA(t, p.To, 0, 32, 0).Close() // the end that came before it is known
		close(goOn)
		p.Close()
		a.Close()
		e.WantNothingLeft("after a host that went while its connection was away")
	}
}

// A connection that has become a queue is not ended any more for want of a Connect.
func TestRDMAQueuesOutliveTheTimeForConnect(t *testing.T) {
	for _, reactors := range []int{1, 2} {
		e := overRDMA(t, reactors)
		a := e.AdminRDMA(t)
		for qid := nvmf.QID(1); qid <= 2; qid++ {
			p := e.DialRDMA(t, e.RDMA.Addr, qid, 32, a.CNTLID)
			p.WantStatus("Connect of another queue", p.Connect(qid+1, 32, a.CNTLID), nvmf.StatusConnectParameters|nvmf.DNR)
			p.WantStatus("Connect", p.Connect(qid, 32, a.CNTLID), nvmf.StatusSuccess)
			if e.Target.ExpectsConnect(a.CNTLID, qid) {
				t.Errorf("queue %d ends if no Connect comes", qid)
			}
		}
	}
}
