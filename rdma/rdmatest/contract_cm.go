package rdmatest

import (
	"net/netip"

	"github.com/pollux-storage/pollux/rdma"
)

// This file is the contract of connection managers. rdma_cm(7), rdma_connect(3), rdma_accept(3), rdma_reject(3), rdma_disconnect(3).

func privateData(p *pair) {
	ask, answer := make([]byte, 32), make([]byte, 32) // as NVMe-oF has them
	fill(ask, 1)
	fill(answer, 2)
	for _, c := range []struct{ ask, answer []byte }{{ask, answer}, {ask, nil}, {nil, answer}, {nil, nil}} {
		cp, sp := params, params
		cp.Private, sp.Private = c.ask, c.answer
		client, server, e := p.offer(usual, usual, cp)
		p.arrived("offered", e.Private, c.ask)
		p.arrived("established", p.accept(client, server, sp).Private, c.answer)
		p.apart(client, server)
	}
}

// readDepths: what one side may have in flight is what the other answers, so each hears it from the other's side. rdma_get_cm_event(3),
// "Connection events".
func readDepths(p *pair) {
	cp, sp := params, params
	in := uint8(min(3, p.client.card.Info().ReadsIn))
	out := uint8(min(2, p.client.card.Info().ReadsOut))
	cp.ReadsIn, cp.ReadsOut = in, out
	client, server, e := p.offer(usual, usual, cp)
	if e.Params.ReadsIn != out || e.Params.ReadsOut != in {
		p.Errorf("offered with %d RDMA READs in and %d out, asked for with %d in and %d out", e.Params.ReadsIn, e.Params.ReadsOut, in, out)
	}
	sp.ReadsIn, sp.ReadsOut = 1, 1
	p.accept(client, server, sp)
	p.apart(client, server)
}

func rejection(p *pair) {
	why := []byte{0, 0, 6, 0}
	client, server, _ := p.offer(usual, usual, params)
	p.server.must(p.server.card.DestroyQP(server.qp))
	server.qp = 0
	p.server.must(p.server.cm.Reject(server.id, why))
	e := p.client.want(rdma.EventRejected)
	if e.ID != client.id || e.Status == 0 {
		p.Errorf("connection %#x was rejected for %d, want %#x and a reason", e.ID, e.Status, client.id)
	}
	p.arrived("rejected", e.Private, why)
	client.end()
	server.end()
}

func nobodyListens(p *pair) {
	l, at := p.server.listen(p.At)
	client := p.client.resolve(p.From, at).makeQP(usual)
	p.server.must(p.server.cm.Destroy(l))
	p.client.must(p.client.cm.Connect(client.id, params))
	if e := p.client.want(rdma.EventRejected, rdma.EventUnreachable); e.Status == 0 {
		p.Error("nobody listens, and no status says so")
	}
	client.end()
}

func addressInUse(p *pair) {
	l, at := p.server.listen(p.At)
	if _, _, err := p.server.cm.Listen(at, 1); err == nil {
		p.Errorf("two listen at %v", at)
	}
	p.server.must(p.server.cm.Destroy(l))
	again, _, err := p.server.cm.Listen(at, 1)
	p.server.must(err)
	p.server.must(p.server.cm.Destroy(again))
}

func closedWhileConnecting(p *pair) {
	l, at := p.server.listen(p.At)
	client := p.client.resolve(p.From, at).makeQP(usual)
	p.client.must(p.client.cm.Connect(client.id, params))
	p.server.must(p.server.cm.Destroy(l)) // before anybody has heard of the connection
	p.client.want(rdma.EventRejected, rdma.EventUnreachable)
	client.end()
}

func offerOutlivesListener(p *pair) {
	client, server := p.connect() // offer destroys the listener before the connection is accepted
	server.recv(1, 0, 64)
	client.post(client.wr(rdma.OpSend, 2, 0, 64))
	p.server.ends(well(1))
	p.client.ends(well(2))
	p.apart(client, server)
}

func givenUpWhileOffered(p *pair) {
	client, server, _ := p.offer(usual, usual, params)
	client.end()
	if err := p.server.cm.Accept(server.id, params); err == nil {
		// It had not come through. Then its end does.
		for k := rdma.EventEstablished; k == rdma.EventEstablished; {
			k = p.server.want(rdma.EventRejected, rdma.EventDisconnected, rdma.EventUnreachable, rdma.EventEstablished).Kind
		}
	}
	server.end()
}

func destroyedIsRefused(p *pair) {
	client, server, _ := p.offer(usual, usual, params)
	client.end()
	server.end()
	c := usual
	c.Send, c.Recv = p.client.cq, p.client.cq
	_, _, err := p.client.card.CreateQP(client.id, c)
	for what, err := range map[string]error{
		"Connect":    p.client.cm.Connect(client.id, params),
		"Disconnect": p.client.cm.Disconnect(client.id),
		"Accept":     p.server.cm.Accept(server.id, params),
		"Reject":     p.server.cm.Reject(server.id, nil),
		"CreateQP":   err,
	} {
		if err == nil {
			p.Errorf("%s of a connection that is destroyed", what)
		}
	}
}

func closeEndsNext(p *pair) {
	cm, err := p.Server.NewCM()
	p.server.must(err)
	ended := make(chan error, 1)
	go func() {
		_, err := cm.Next()
		ended <- err
	}()
	p.server.must(cm.Close())
	if err := <-ended; err == nil {
		p.Error("an event came from a connection manager that nobody uses")
	}
}

func disconnect(p *pair) {
	for _, byClient := range []bool{true, false} {
		client, server := p.connect()
		first, second := client, server
		if !byClient {
			first, second = server, client
		}
		first.recv(1, 0, 64)
		second.recv(2, 0, 64)
		first.must(first.cm.Disconnect(first.id))
		first.ends(flushed(1))
		if e := second.want(rdma.EventDisconnected); e.ID != second.id {
			p.Fatal("another connection ended")
		}
		second.must(second.cm.Disconnect(second.id))
		second.ends(flushed(2))
		if e := first.want(rdma.EventDisconnected); e.ID != first.id {
			p.Fatal("another connection ended")
		}
		client.end()
		server.end()
	}
}

func destroyDisconnects(p *pair) {
	client, server := p.connect()
	client.end()
	p.server.want(rdma.EventDisconnected)
	server.end()
}

func manyConnections(p *pair) {
	client, server := p.connect()
	p.apart(client, server)
	before := p.alive()
	for range 100 {
		client, server = p.connect()
		p.apart(client, server)
	}
	if after := p.alive(); after != before {
		p.Errorf("%d objects are left of 100 connections", after-before)
	}
}

// LoopbackEnds are ends on a fabric of their own.
func LoopbackEnds(server, client Options) Ends {
	f := NewFabric()
	return Ends{
		Server: f.Provider("server", server), Client: f.Provider("client", client),
		At: netip.AddrFrom4([4]byte{127, 0, 0, 1}),
		Alive: func() int {
			a := f.Alive()
			return a.QPs + a.CQs + a.SRQs + a.MRs + a.IDs + a.Listeners + a.CMs
		},
	}
}
