//go:build cgo && cards

package ibverbs

import (
	"net/netip"
	"os/exec"
	"testing"

	"github.com/pollux-storage/pollux/rdma"
)

// TestRemoval takes a real card away from under a connection: that of RDMA_SERVER (TestContract), which has to be Soft-RoCE's on the interface
// roce1. Its driver waits until the last that was made on the card is destroyed and the card is closed. Elsewhere gone_test.go has to do.
func TestRemoval(t *testing.T) {
	first, second := cardsOf(t)
	name, at := endOf(t, first)
	other, _ := endOf(t, second)
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	rdmaLink := func(args ...string) error { return exec.Command("rdma", append([]string{"link"}, args...)...).Run() }
	p, err := Open()
	must(err)
	find := func(name string) rdma.Verbs {
		cards, err := p.Cards()
		must(err)
		for _, c := range cards {
			if c.Info().Name == name {
				return c
			}
		}
		return nil
	}
	newCM := func() rdma.CM {
		m, err := p.NewCM()
		must(err)
		return m
	}
	want := func(m rdma.CM, k rdma.EventKind) rdma.Event {
		t.Helper()
		e, err := m.Next()
		must(err)
		if e.Kind != k {
			t.Fatalf("the event is %+v, want kind %d", e, k)
		}
		return e
	}
	newQP := func(c rdma.Verbs, id rdma.ID) (rdma.CQ, rdma.QP) {
		cq, err := c.CreateCQ(16)
		must(err)
		qp, _, err := c.CreateQP(id, rdma.QPConfig{Send: cq, Recv: cq, SendDepth: 8, RecvDepth: 8, SGEs: 1})
		must(err)
		return cq, qp
	}

	server, client := find(name), find(other)
	here, there := newCM(), newCM()
	listener, addr, err := here.Listen(netip.AddrPortFrom(at, 0), 5)
	must(err)
	theirs, err := there.Resolve(netip.Addr{}, addr, rdma.Link{AckTimeout: 14, TOS: 0xb8})
	must(err)
	want(there, rdma.EventRoute)
	theirCQ, theirQP := newQP(client, theirs)
	must(there.Connect(theirs, rdma.ConnParams{Retries: 7, RNR: 7}))
	ours := want(here, rdma.EventConnect).ID
	ourCQ, ourQP := newQP(server, ours)
	must(here.Accept(ours, rdma.ConnParams{RNR: 7, AckTimeout: 14}))
	want(there, rdma.EventEstablished)
	want(here, rdma.EventEstablished)
	mr, err := server.Register(memory(t, 1<<20), rdma.RemoteRead)
	must(err)
	// The scenario counts the packets of this that have the type of service.
	message, err := client.Register(memory(t, 64<<10), 0)
	must(err)
	piece := func(m rdma.MR) [rdma.SGEsMax]rdma.SGE {
		return [rdma.SGEsMax]rdma.SGE{{Address: m.Address, Bytes: 64 << 10, Key: m.Local}}
	}
	_, err = server.PostRecv(ourQP, []rdma.RecvWR{{SGE: piece(mr), SGEs: 1}})
	must(err)
	_, err = client.Post([]rdma.SendWR{{QP: theirQP, Opcode: rdma.OpSend, Flags: rdma.Signaled, SGE: piece(message), SGEs: 1}})
	must(err)
	for n, done := 0, [1]rdma.Completion{}; n == 0; {
		n, err = client.Poll(theirCQ, done[:])
		must(err)
		if n > 0 && done[0].Status != rdma.StatusOK {
			t.Fatalf("the message ended with %+v", done[0])
		}
	}
	must(client.Deregister(message))
	silent := make(chan error)
	go func() {
		for err := error(nil); ; {
			if _, err = server.NextEvent(); err != nil {
				silent <- err
				return
			}
		}
	}()

	deleted := make(chan error)
	go func() { deleted <- rdmaLink("delete", name) }()
	if e := want(here, rdma.EventRemoval); e.Card != server {
		t.Errorf("another card goes: %+v", e)
	}
	must(server.Fail(ourQP))
	must(server.DestroyQP(ourQP))
	must(here.Destroy(ours))
	must(here.Destroy(listener))
	must(server.Deregister(mr))
	must(server.DestroyCQ(ourCQ))
	must(<-deleted)
	<-silent
	if find(name) != nil {
		t.Error("the card is still there")
	}
	if i := server.Info(); i.Name != name || i.MTU != 0 {
		t.Errorf("what is known of it is %+v", i)
	}
	must(rdmaLink("add", name, "type", "rxe", "netdev", "roce1"))
	if again := find(name); again == nil || again == server {
		t.Errorf("it came back as %v", again)
	}
	want(there, rdma.EventDisconnected)
	must(client.Fail(theirQP))
	must(client.DestroyQP(theirQP))
	must(there.Destroy(theirs))
	must(client.DestroyCQ(theirCQ))
	must(here.Close())
	must(there.Close())
	must(p.Close())
}
