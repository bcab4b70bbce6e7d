package rdmatest

import (
	"fmt"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/pollux-storage/pollux/rdma"
)

// This file is the contract of work requests that end well. ibv_post_send(3), ibv_post_recv(3), ibv_poll_cq(3), ibv_req_notify_cq(3).

func sendsInOrder(p *pair) {
	client, server := p.connect()
	fill(p.client.mem[:1<<16], 1)
	lengths := []int{64, 0, 1, 4096, 16, 65536, 4095, 4097, 2, 8192}
	for range 10 {
		for i := range lengths {
			server.recv(uint64(i), i*65536, 65536)
		}
		var w []rdma.SendWR
		for i, n := range lengths {
			w = append(w, client.wr(rdma.OpSend, uint64(100+i), i, n))
		}
		client.post(w...)
		for i, n := range lengths {
			c := p.server.ends(well(uint64(i)))[0]
			if c.Kind != rdma.DidRecv || int(c.Bytes) != n || c.QPN != server.caps.Number || c.Flags != 0 {
				p.Fatalf("%d bytes were received as %+v on queue pair %#x", n, c, server.caps.Number)
			}
			if n > 0 {
				p.same(fmt.Sprintf("a receive of %d bytes", n), p.server.mem[i*65536:][:n], p.client.mem[i:][:n])
			}
			if c := p.client.ends(well(uint64(100 + i)))[0]; c.Kind != rdma.DidSend || c.QPN != client.caps.Number {
				p.Fatalf("a send has ended as %+v on queue pair %#x", c, client.caps.Number)
			}
		}
	}
	p.apart(client, server)
}

func pieces(p *pair) {
	client, server := p.connect()
	fill(p.client.mem[:8192], 1)
	r := []rdma.RecvWR{{ID: 1, SGEs: 2, SGE: [rdma.SGEsMax]rdma.SGE{p.server.piece(0, 100), p.server.piece(4096, 5000)}}}
	n, err := p.server.card.PostRecv(server.qp, r)
	p.server.must(err)
	if n != 1 {
		p.Fatalf("%d of 1 receives were taken", n)
	}
	w := client.wr(rdma.OpSend, 2, 0, 64)
	w.SGE[1], w.SGEs = p.client.piece(4000, 3000), 2
	client.post(w)
	if c := p.server.ends(well(1)); c[0].Bytes != 3064 {
		p.Fatalf("%d bytes were received, want 3064", c[0].Bytes)
	}
	p.client.ends(well(2))
	sent := slices.Concat(p.client.mem[:64], p.client.mem[4000:7000])
	p.same("two pieces", slices.Concat(p.server.mem[:100], p.server.mem[4096:][:2964]), sent)

	w = of(w, server, 1<<20)
	w.Opcode = rdma.OpWrite
	client.post(w)
	p.client.ends(well(2))
	clear(p.client.mem[:8192])
	w.Opcode = rdma.OpRead
	client.post(w)
	p.client.ends(well(2))
	p.same("two pieces written and read", slices.Concat(p.client.mem[:64], p.client.mem[4000:7000]), sent)
	p.apart(client, server)
}

func silence(p *pair) {
	client, server := p.connect()
	for round := range 100 { // so that the places in the queue have to become free
		var w []rdma.SendWR
		for i := range pairDepth {
			server.recv(uint64(i), 4096*i, 64)
			w = append(w, client.wr(rdma.OpSend, uint64(100+i), 64*i, 64))
			if i != pairDepth-1 {
				w[i].Flags = 0
			}
		}
		fill(p.client.mem[:64*pairDepth], round)
		client.post(w...)
		p.client.ends(well(100 + pairDepth - 1))
		for i := range pairDepth {
			p.server.ends(well(uint64(i)))
			p.same("an unsignalled send", p.server.mem[4096*i:][:64], p.client.mem[64*i:][:64])
		}
	}
	p.apart(client, server)
}

func inlineIsCopied(p *pair) {
	client, server := p.connect()
	if client.caps.InlineBytes < usual.InlineBytes {
		p.Fatalf("%d bytes can be inline, asked for %d", client.caps.InlineBytes, usual.InlineBytes)
	}
	b, sent := make([]byte, usual.InlineBytes), make([]byte, usual.InlineBytes)
	for n := range usual.InlineBytes + 1 {
		server.recv(1, 0, 4096)
		fill(b, n)
		copy(sent, b)
		client.post(client.inline(2, b[:n])) // memory that is not registered
		fill(b, -1)
		if c := p.server.ends(well(1)); int(c[0].Bytes) != n {
			p.Fatalf("%d bytes inline were received as %d", n, c[0].Bytes)
		}
		p.client.ends(well(2))
		p.same("an inline send", p.server.mem[:n], sent[:n])
	}
	fill(b, 7)
	w := of(client.inline(3, b), server, 8192)
	w.Opcode = rdma.OpWrite
	copy(sent, b)
	client.post(w)
	clear(b)
	p.client.ends(well(3))
	p.settle(client, server)
	p.same("an inline RDMA WRITE", p.server.mem[8192:][:len(b)], sent)
	p.apart(client, server)
}

// settle lets the server see all that the client has written: what was before a send that has arrived.
func (p *pair) settle(client, server *link) {
	p.Helper()
	server.recv(1000, pairBytes-64, 64)
	client.post(client.wr(rdma.OpSend, 1001, 0, 0))
	p.server.ends(well(1000))
	p.client.ends(well(1001))
}

func readsAndWrites(p *pair) {
	client, server := p.connect()
	const to, back = 1 << 20, 2 << 20
	for _, n := range []int{1, 511, 512, 1023, 1024, 1025, 2048, 4095, 4096, 4097, 65535, 131072, 131073, 1<<20 - 1, 1 << 20} {
		fill(p.client.mem[:n], n)
		clear(p.server.mem[:n+1])
		client.post(of(client.wr(rdma.OpWrite, 1, 0, n), server, 0))
		if c := p.client.ends(well(1)); c[0].Kind != rdma.DidWrite {
			p.Fatalf("an RDMA WRITE has ended as %+v", c[0])
		}
		clear(p.client.mem[back : back+n+1])
		client.post(of(client.wr(rdma.OpRead, 2, back, n), server, 0))
		if c := p.client.ends(well(2)); c[0].Kind != rdma.DidRead {
			p.Fatalf("an RDMA READ has ended as %+v", c[0])
		}
		p.same(fmt.Sprintf("%d bytes, written and read", n), p.client.mem[back:][:n], p.client.mem[:n])
		if p.client.mem[back+n] != 0 || p.server.mem[n] != 0 {
			p.Fatalf("%d bytes: one more was written", n)
		}
	}
	// One that is longer than a buffer of a pool, at odd places on both sides.
	const n = 1<<20 + 1
	fill(p.client.mem[3:][:n], 9)
	client.post(of(client.wr(rdma.OpWrite, 3, 3, n), server, to+5))
	client.post(of(client.wr(rdma.OpRead, 4, back+7, n), server, to+5))
	p.client.ends(well(3), well(4))
	p.same("1 MiB and a byte", p.client.mem[back+7:][:n], p.client.mem[3:][:n])
	// Nothing at all, for which no key is needed.
	client.post(rdma.SendWR{ID: 5, QP: client.qp, Opcode: rdma.OpWrite, Flags: rdma.Signaled})
	p.client.ends(well(5))
	p.apart(client, server)
}

func writeThenSend(p *pair) {
	client, server := p.connect()
	for i := range 50 {
		n := 1 + i*9973
		server.recv(1, pairBytes-64, 64)
		fill(p.client.mem[:n], i)
		w := of(client.wr(rdma.OpWrite, 2, 0, n), server, 0)
		w.Flags = 0
		client.post(w, client.wr(rdma.OpSend, 3, 0, 16))
		p.server.ends(well(1))
		p.same("what was written before the send", p.server.mem[:n], p.client.mem[:n])
		p.client.ends(well(3))
	}
	p.apart(client, server)
}

func fencedSend(p *pair) {
	client, server := p.connect()
	for i := range 50 {
		n := 1 + i*1009
		fill(p.server.mem[:n], i)
		server.recv(1, 1<<20, 1<<20)
		send := client.wr(rdma.OpSend, 3, 0, n)
		send.Flags |= rdma.Fence
		client.post(of(client.wr(rdma.OpRead, 2, 0, n), server, 0), send)
		p.client.ends(well(2), well(3))
		p.server.ends(well(1))
		p.same("what was read, and sent", p.server.mem[1<<20:][:n], p.server.mem[:n])
	}
	p.apart(client, server)
}

func waitsForReceive(p *pair) {
	client, server := p.connect()
	client.post(client.wr(rdma.OpSend, 1, 0, 64), client.wr(rdma.OpSend, 2, 0, 64))
	server.recv(3, 0, 64)
	server.recv(4, 64, 64)
	p.server.ends(well(3), well(4))
	p.client.ends(well(1), well(2))
	p.apart(client, server)
}

func rnrRetry(p *pair) {
	never := params
	never.RNR = 0 // rdma_accept(3), rnr_retry_count: how often the peer's sends are tried again
	client, server, _ := p.offer(usual, usual, never)
	p.accept(client, server, never)
	client.post(client.wr(rdma.OpSend, 1, 0, 64), client.wr(rdma.OpSend, 2, 0, 64))
	p.client.ends(ill(1, rdma.StatusRNRRetry), flushed(2))
	p.apart(client, server)
}

func depth(p *pair) {
	client, server := p.connect()
	if client.caps.SendDepth < pairDepth || server.caps.RecvDepth < pairDepth || client.caps.Number == 0 {
		p.Fatalf("queue pairs of %+v and %+v, asked for %+v", client.caps, server.caps, usual)
	}
	// Without receives nothing ends. A card may give more room than asked for, but not without end.
	taken := 0
	for {
		w := client.wr(rdma.OpSend, uint64(taken), 0, 64)
		n, err := p.client.card.Post([]rdma.SendWR{w})
		if err != nil {
			if n != 0 {
				p.Fatal("a work request was taken and refused")
			}
			break
		}
		if taken += n; taken > 64*pairDepth {
			p.Fatalf("%d work requests were taken by a queue of %d", taken, client.caps.SendDepth)
		}
		if taken == pairDepth*3 { // the completion queue holds no more
			break
		}
	}
	if taken < pairDepth {
		p.Fatalf("%d work requests were taken by a queue of %d", taken, pairDepth)
	}
	// Whoever met no receive tries again in as much as 0.66 s (InfiniBand Architecture Specification 1.4, volume 1, table 45), so many are posted at once.
	for i := 0; i < taken; i += pairDepth {
		most := min(i+pairDepth, taken)
		for k := i; k < most; k++ {
			server.recv(uint64(1000+k), 0, 64)
		}
		for k := i; k < most; k++ {
			p.server.ends(well(uint64(1000 + k)))
			p.client.ends(well(uint64(k)))
		}
	}
	p.settle(client, server)
	p.apart(client, server)
}

func tooDeep(p *pair) {
	i := p.client.card.Info()
	if i.Name == "" || i.QPDepthMax < 1 || i.SGEsMax < rdma.SGEsMax || i.CQDepthMax < 1 || i.ReadsIn < 1 || i.ReadsOut < 1 || i.MTU < 256 {
		p.Errorf("the card says of itself: %+v", i)
	}
	if q, err := p.client.card.CreateCQ(i.CQDepthMax + 1); err == nil {
		p.Errorf("a completion queue of more than %d was made", i.CQDepthMax)
		p.client.must(p.client.card.DestroyCQ(q))
	}
	if s, err := p.client.card.CreateSRQ(i.SRQDepth+1, 1); err == nil {
		p.Errorf("a shared receive queue of more than %d was made", i.SRQDepth)
		p.client.must(p.client.card.DestroySRQ(s))
	}
	l, at := p.server.listen(p.At)
	client := p.client.resolve(p.From, at)
	c := usual
	c.Send, c.Recv, c.SendDepth = p.client.cq, p.client.cq, i.QPDepthMax+1
	if q, _, err := p.client.card.CreateQP(client.id, c); err == nil {
		p.Errorf("a queue pair of more than %d was made", i.QPDepthMax)
		p.client.must(p.client.card.DestroyQP(q))
	}
	client.makeQP(usual) // what failed has left nothing behind
	client.end()
	p.server.must(p.server.cm.Destroy(l))
}

// three makes three connections with a shared receive queue at the server.
func (p *pair) three() (srq rdma.SRQ, client, server [3]*link) {
	p.Helper()
	srq, err := p.server.card.CreateSRQ(pairDepth, 2)
	p.server.must(err)
	q := usual
	q.Shared, q.RecvDepth = srq, 0
	for i := range client {
		client[i], server[i], _ = p.offer(usual, q, params)
		p.accept(client[i], server[i], params)
	}
	return srq, client, server
}

func (p *pair) hasSRQ() bool { return p.server.card.Info().SRQDepth >= pairDepth }

func shared(p *pair) {
	if !p.hasSRQ() {
		return // the card has none, and says so
	}
	srq, client, server := p.three()
	for i := range 3 * 50 {
		k := i * 7 % 3
		server[0].recv(uint64(i), 0, 64)
		fill(p.client.mem[:64], i)
		client[k].post(client[k].wr(rdma.OpSend, 1000, 0, 64))
		c := p.server.ends(well(uint64(i)))[0]
		if c.QPN != server[k].caps.Number || c.Bytes != 64 {
			p.Fatalf("received %+v, want 64 bytes of queue pair %#x", c, server[k].caps.Number)
		}
		p.same("a receive that is shared", p.server.mem[:64], p.client.mem[:64])
		p.client.ends(well(1000))
	}
	for i := range client {
		p.apart(client[i], server[i])
	}
	p.server.must(p.server.card.DestroySRQ(srq))
}

func sharedAndFailed(p *pair) {
	if !p.hasSRQ() {
		return
	}
	srq, client, server := p.three()
	for i := range 4 {
		server[0].recv(uint64(i), 0, 64)
	}
	p.server.must(p.server.card.Fail(server[1].qp))
	p.server.must(p.server.cm.Disconnect(server[1].id))
	p.client.want(rdma.EventDisconnected)
	p.server.must(p.server.card.DestroyQP(server[1].qp))
	server[1].qp = 0
	for i := range 4 { // all receives are still there for the others
		c := client[i%2*2]
		c.post(c.wr(rdma.OpSend, 9, 0, 64))
		p.server.ends(well(uint64(i)))
		p.client.ends(well(9))
	}
	for i := range client {
		p.client.must(p.client.cm.Disconnect(client[i].id))
		p.server.must(p.server.cm.Disconnect(server[i].id))
		client[i].end()
		server[i].end()
	}
	p.server.must(p.server.card.DestroySRQ(srq))
}

// wakeUps has both sides send one by one, each as the answer to the one before, and sleep between.
func wakeUps(p *pair) {
	client, server := p.connect()
	fd := []unix.PollFd{{Fd: int32(p.server.card.CQFD(p.server.cq)), Events: unix.POLLIN}}
	if n, err := unix.Poll(fd, 0); n != 0 || err != nil {
		p.Fatalf("a queue that was never armed wakes: %v", err)
	}
	const rounds = 500
	server.recv(0, 0, 64)
	client.recv(0, 0, 64)
	ended := make(chan error, 1)
	go func() { ended <- server.play(rounds, false) }()
	err := client.play(rounds, true)
	p.client.must(err)
	p.client.must(<-ended)
	p.apart(client, server)
}

// play has as many messages sent and received, asleep whenever there is nothing to do. It runs in a goroutine of its own.
func (l *link) play(rounds int, begins bool) error {
	said, sent, heard := 0, 0, 0
	say := func() error {
		said++
		_, err := l.card.Post([]rdma.SendWR{l.wr(rdma.OpSend, 1, 4096, 64)})
		return err
	}
	if begins {
		if err := say(); err != nil {
			return err
		}
	}
	for {
		for _, c := range l.polled {
			if c.Status != rdma.StatusOK {
				return fmt.Errorf("%s: %+v", l.p.Name(), c)
			}
			if c.ID == 1 {
				sent++
				continue
			}
			heard++
			r := []rdma.RecvWR{{SGE: [rdma.SGEsMax]rdma.SGE{l.piece(0, 64)}, SGEs: 1}}
			if _, err := l.card.PostRecv(l.qp, r); err != nil {
				return err
			}
			if said < rounds {
				if err := say(); err != nil {
					return err
				}
			}
		}
		l.polled = l.polled[:0]
		if sent == rounds && heard == rounds {
			return nil
		}
		if err := l.sleep(); err != nil {
			return err
		}
	}
}

// sleep is how a reactor sleeps: it arms, looks once more, and then waits for the descriptor.
func (s *side) sleep() error {
	for {
		if err := s.card.Arm(s.cq); err != nil {
			return err
		}
		w := make([]rdma.Completion, 8)
		n, err := s.card.Poll(s.cq, w)
		if s.polled = append(s.polled, w[:n]...); n != 0 || err != nil {
			return err
		}
		fd := []unix.PollFd{{Fd: int32(s.card.CQFD(s.cq)), Events: unix.POLLIN}}
		switch n, err := unix.Poll(fd, int(limit.Milliseconds())); {
		case err == unix.EINTR:
		case err != nil:
			return err
		case n == 0:
			return fmt.Errorf("%s: armed, and no wake-up in %v", s.p.Name(), limit)
		default:
			if err := s.card.Heard(s.cq); err != nil {
				return err
			}
		}
	}
}
