//go:build cgo

package ibverbs

import (
	"fmt"
	"net/netip"
	"testing"

	"github.com/pollux-storage/pollux/rdma"
	"github.com/pollux-storage/pollux/rdma/ibverbs/internal/fakelib"
)

// What a work request costs on its way into C and back, over a driver that does next to nothing.

func benchStage(b *testing.B) (rdma.Verbs, rdma.CQ, rdma.QP) {
	b.Helper()
	lib := fakelib.New(b)
	p, err := open(lib.Path(), lib.Path())
	ok := func(err error) {
		b.Helper()
		if err != nil {
			b.Fatal(err)
		}
	}
	ok(err)
	cards, err := p.Cards()
	ok(err)
	m, err := p.NewCM()
	ok(err)
	_, _, err = m.Listen(netip.MustParseAddrPort("192.0.2.1:4420"), 1)
	ok(err)
	cq, err := cards[0].CreateCQ(64)
	ok(err)
	lib.Do("event id=1 kind=4 card=1")
	e, err := m.Next()
	ok(err)
	qp, _, err := cards[0].CreateQP(e.ID, rdma.QPConfig{Send: cq, Recv: cq, SendDepth: 64, RecvDepth: 64, SGEs: 1})
	ok(err)
	lib.Do("quiet on=1")
	lib.Do("complete cq=1 id=1 opcode=128 bytes=64")
	lib.Do("always cq=1")
	b.ReportAllocs()
	return cards[0], cq, qp
}

func perRequest(b *testing.B, batch int) {
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(batch), "ns/wr")
}

func BenchmarkPost(b *testing.B) {
	for _, batch := range []int{1, 8, 32} {
		b.Run(fmt.Sprint(batch), func(b *testing.B) {
			v, _, qp := benchStage(b)
			w := make([]rdma.SendWR, batch)
			for i := range w {
				w[i] = rdma.SendWR{ID: uint64(i), QP: qp, Opcode: rdma.OpWrite, SGEs: 1, Flags: rdma.Signaled}
			}
			for b.Loop() {
				if n, err := v.Post(w); n != batch || err != nil {
					b.Fatal(n, err)
				}
			}
			perRequest(b, batch)
		})
	}
}

func BenchmarkPostRecv(b *testing.B) {
	for _, batch := range []int{1, 8, 32} {
		b.Run(fmt.Sprint(batch), func(b *testing.B) {
			v, _, qp := benchStage(b)
			w := make([]rdma.RecvWR, batch)
			for b.Loop() {
				if n, err := v.PostRecv(qp, w); n != batch || err != nil {
					b.Fatal(n, err)
				}
			}
			perRequest(b, batch)
		})
	}
}

func BenchmarkPoll(b *testing.B) {
	for _, batch := range []int{1, 8, 32} {
		b.Run(fmt.Sprint(batch), func(b *testing.B) {
			v, cq, _ := benchStage(b)
			w := make([]rdma.Completion, batch)
			for b.Loop() {
				if n, err := v.Poll(cq, w); n != batch || err != nil {
					b.Fatal(n, err)
				}
			}
			perRequest(b, batch)
		})
	}
}
