package nvmftest

import (
	"runtime"
	"time"

	"github.com/pollux-storage/pollux/nvmf"
	"github.com/pollux-storage/pollux/rdma"
)

// RDMARound is commands that a peer sends again and again, all at once, without allocating anything.
type RDMARound struct {
	p     *RDMAPeer
	sends []rdma.SendWR
	recv  [1]rdma.RecvWR
	comps [32]rdma.Completion
}

// Round prepares commands, each with data in its capsule or nil.
func (p *RDMAPeer) Round(sqes []*nvmf.SQE, data [][]byte) *RDMARound {
	r := &RDMARound{p: p}
	for i, s := range sqes {
		at := i * peerCapsuleBytes
		n := copy(p.mem[at:], s[:])
		n += copy(p.mem[at+n:], data[i])
		w := rdma.SendWR{QP: p.qp, Opcode: rdma.OpSend, Flags: rdma.Signaled, SGEs: 1}
		w.SGE[0] = p.sge(at, n)
		r.sends = append(r.sends, w)
	}
	return r
}

// Run sends them, and returns when all are answered. Their statuses are not looked at, but for those that are not a success.
func (r *RDMARound) Run() {
	p := r.p
	if n, err := p.Card.Post(r.sends); err != nil || n != len(r.sends) {
		p.t.Fatalf("sending %d capsules: %v", len(r.sends), err)
	}
	end := time.Now().Add(patience)
	for left := 2 * len(r.sends); left > 0; {
		n, err := p.Card.Poll(p.cq, r.comps[:])
		p.must(err)
		for i := range r.comps[:n] {
			c := &r.comps[i]
			if left--; c.Status != rdma.StatusOK {
				p.t.Fatalf("a work request ended with %v", c.Status)
			}
			if c.ID>>32 == 0 {
				continue
			}
			at := peerCapsules*peerCapsuleBytes + int(uint32(c.ID))*64
			if p.mem[at+14]&^1 != 0 || p.mem[at+15] != 0 {
				p.t.Fatalf("a command ended with %v", nvmf.DecodeCQE(p.mem[at:]).Status)
			}
			r.recv[0] = rdma.RecvWR{ID: c.ID, SGEs: 1}
			r.recv[0].SGE[0] = p.sge(at, 64)
			_, err := p.Card.PostRecv(p.qp, r.recv[:])
			p.must(err)
		}
		if n == 0 {
			if runtime.Gosched(); time.Now().After(end) {
				p.t.Fatalf("%d completions are missing", left)
			}
		}
	}
}
