package rdmatest

import (
	"github.com/pollux-storage/pollux/rdma"
)

// This file is the contract of work requests that end badly. InfiniBand Architecture Specification volume 1, section 10.10.2, "Processing
// Error Types", and ibv_poll_cq(3). Cards differ in which of the statuses that fit they give, which is why there are several.

func flushInOrder(p *pair) {
	client, server := p.connect()
	client.post(client.wr(rdma.OpSend, 1, 0, 64)) // waits for a receive, and all others behind it
	silent := client.wr(rdma.OpSend, 2, 0, 64)
	silent.Flags = 0
	client.post(silent, of(client.wr(rdma.OpWrite, 3, 0, 64), server, 0), of(client.wr(rdma.OpRead, 4, 0, 64), server, 0))
	client.recv(11, 0, 64)
	client.recv(12, 0, 64)
	p.client.must(p.client.card.Fail(client.qp))
	var sends, recvs []rdma.Completion // each queue's in order; how they mix is the card's
	for _, c := range p.client.await(6) {
		if c.ID > 10 {
			recvs = append(recvs, c)
		} else {
			sends = append(sends, c)
		}
	}
	for i, c := range append(sends, recvs...) {
		if want := []uint64{1, 2, 3, 4, 11, 12}[i]; c.ID != want || c.Status != rdma.StatusFlushed || c.QPN != client.caps.Number {
			p.Fatalf("work requests flushed as %v and %v", endings(sends), endings(recvs))
		}
	}
	// What is posted from then on is flushed as well: so one knows when all is.
	client.post(client.wr(rdma.OpSend, 5, 0, 64))
	p.client.ends(flushed(5))
	// A receive may lie there until the queue pair is failed once more: drivers of software see only then that it was posted.
	client.recv(13, 0, 64)
	p.client.must(p.client.card.Fail(client.qp))
	p.client.ends(flushed(13))
	p.apart(client, server)
}

func receiveTooSmall(p *pair) {
	client, server := p.connect()
	fill(p.server.mem[:4096], 1)
	before := make([]byte, 4096)
	copy(before, p.server.mem)
	server.recv(1, 0, 64)
	server.recv(2, 4096, 4096)
	client.post(client.wr(rdma.OpSend, 3, 0, 65), client.wr(rdma.OpSend, 4, 0, 64))
	p.client.ends(ill(3, rdma.StatusRemoteInvalid, rdma.StatusRemoteOperation), flushed(4))
	p.server.ends(ill(1, rdma.StatusLocalLength, rdma.StatusRemoteInvalid, rdma.StatusLocalQPOperation), flushed(2))
	p.same("memory behind a receive", p.server.mem[64:4096], before[64:])
	p.apart(client, server)
}

func guarded(p *pair) {
	client, server := p.connect()
	p.apart(client, server)
	half := p.server.mem[:len(p.server.mem)/2]
	region := func(a rdma.Access) rdma.MR {
		m, err := p.server.card.Register(half, a)
		p.server.must(err)
		return m
	}
	both := region(rdma.RemoteRead | rdma.RemoteWrite)
	readable, writable, own, gone := region(rdma.RemoteRead), region(rdma.RemoteWrite), region(0), region(rdma.RemoteRead|rdma.RemoteWrite)
	p.server.must(p.server.card.Deregister(gone))
	for _, c := range []struct {
		wrong string
		op    rdma.Opcode
		m     rdma.MR
		at, n uint64
	}{
		{"writing what may be read", rdma.OpWrite, readable, 0, 64},
		{"reading what may be written", rdma.OpRead, writable, 0, 64},
		{"writing what is the server's own", rdma.OpWrite, own, 0, 64},
		{"reading what is the server's own", rdma.OpRead, own, 0, 64},
		{"a byte beyond the end", rdma.OpWrite, both, both.Bytes - 63, 64},
		{"a byte beyond the end", rdma.OpRead, both, both.Bytes - 63, 64},
		{"before the beginning", rdma.OpWrite, both, ^uint64(0), 64},
		{"another key", rdma.OpRead, rdma.MR{Address: both.Address, Remote: both.Remote + 0x7700}, 0, 64},
		{"no key", rdma.OpWrite, rdma.MR{Address: both.Address}, 0, 64},
		{"memory that is deregistered", rdma.OpRead, gone, 0, 64},
		{"an end beyond all addresses", rdma.OpRead, rdma.MR{Address: ^uint64(0) - 10, Remote: both.Remote}, 0, 64},
	} {
		client, server := p.connect()
		fill(p.server.mem, 3)
		fill(p.client.mem[:4096], 4)
		was := make([]byte, len(half))
		copy(was, p.server.mem)
		w := client.wr(c.op, 1, 0, int(c.n))
		w.Remote, w.RemoteKey = c.m.Address+c.at, c.m.Remote
		client.post(w, client.wr(rdma.OpSend, 2, 0, 64))
		got := p.client.await(2)
		if !ill(1, rdma.StatusRemoteAccess, rdma.StatusRemoteInvalid, rdma.StatusRemoteOperation).allows(got[0].Status) || got[1].Status != rdma.StatusFlushed {
			p.Errorf("%s, by opcode %d: %v", c.wrong, c.op, endings(got))
		}
		p.same(c.wrong, half, was)
		p.apart(client, server)
	}
	for _, m := range []rdma.MR{both, readable, writable, own} {
		p.server.must(p.server.card.Deregister(m))
	}
}

func localKey(p *pair) {
	// Soft-RoCE flushes what it cannot send, as if it had not begun.
	own := []rdma.Status{rdma.StatusLocalProtection, rdma.StatusLocalQPOperation, rdma.StatusLocalAccess, rdma.StatusFlushed}
	for _, c := range []struct {
		wrong string
		sge   func(s *rdma.SGE)
	}{
		{"another key", func(s *rdma.SGE) { s.Key += 0x7700 }},
		{"a byte beyond the end", func(s *rdma.SGE) { s.Address = p.client.mr.Address + p.client.mr.Bytes - 63 }},
		{"before the beginning", func(s *rdma.SGE) { s.Address = p.client.mr.Address - 1 }},
	} {
		for _, op := range []rdma.Opcode{rdma.OpSend, rdma.OpWrite, rdma.OpRead} {
			client, server := p.connect()
			server.recv(1, 0, 64)
			w := of(client.wr(op, 2, 0, 64), server, 4096)
			c.sge(&w.SGE[0])
			client.post(w, client.wr(rdma.OpSend, 3, 0, 64))
			got := p.client.await(2)
			if !ill(2, own...).allows(got[0].Status) || got[1].Status != rdma.StatusFlushed {
				p.Errorf("%s, by opcode %d: %v", c.wrong, op, endings(got))
			}
			p.apart(client, server)
		}
	}
	// A receive with a wrong key is found out when something comes.
	client, server := p.connect()
	r := []rdma.RecvWR{{ID: 1, SGEs: 1, SGE: [rdma.SGEsMax]rdma.SGE{p.server.piece(0, 64)}}}
	r[0].SGE[0].Key += 0x7700
	_, err := p.server.card.PostRecv(server.qp, r)
	p.server.must(err)
	client.post(client.wr(rdma.OpSend, 2, 0, 64))
	p.client.ends(ill(2, rdma.StatusRemoteOperation, rdma.StatusRemoteAccess, rdma.StatusRemoteInvalid))
	p.server.ends(ill(1, append(own, rdma.StatusRemoteAccess)...))
	p.apart(client, server)
}

// invalidated: what Register has registered can be invalidated by a peer with some cards. The others end the receive with an error: rxe does,
// for all that is not a memory region of the kernel's.
func invalidated(p *pair) {
	client, server := p.connect()
	m, err := p.client.card.Register(p.client.mem[:4096], rdma.RemoteRead|rdma.RemoteWrite)
	p.client.must(err)
	client.recv(1, 8192, 64)
	w := server.wr(rdma.OpSendInvalidate, 2, 0, 16)
	w.Invalidate = m.Remote
	server.post(w)
	c := p.client.await(1)[0]
	if c.Status != rdma.StatusOK {
		p.Logf("%s cannot invalidate registered memory: status %d", p.Client.Name(), c.Status)
	} else {
		if c.Flags&rdma.Invalidated == 0 || c.Invalid != m.Remote || c.Bytes != 16 {
			p.Errorf("received as %+v, want 16 bytes and key %#x invalidated", c, m.Remote)
		}
		p.server.ends(well(2))
		r := server.wr(rdma.OpRead, 3, 0, 64)
		r.Remote, r.RemoteKey = m.Address, m.Remote
		server.post(r)
		p.server.ends(ill(3, rdma.StatusRemoteAccess, rdma.StatusRemoteInvalid))
	}
	p.client.must(p.client.card.Deregister(m))
	p.apart(client, server)

	// A key that there is not.
	client, server = p.connect()
	client.recv(1, 8192, 64)
	w = server.wr(rdma.OpSendInvalidate, 2, 0, 16)
	w.Invalidate = m.Remote + 0x7700
	server.post(w)
	if c := p.client.await(1)[0]; c.Status == rdma.StatusOK {
		p.Errorf("a key that there is not was invalidated: %+v", c)
	}
	p.apart(client, server)
}
