//go:build cgo

package ibverbs

import (
	"errors"
	"syscall"
	"testing"

	"github.com/pollux-storage/pollux/rdma"
)

func (s *stage) cq() rdma.CQ {
	s.Helper()
	cq, err := s.card.CreateCQ(64)
	s.ok(err)
	return cq
}

// queues makes n connections with queue pairs that share a CQ, and a way to end them.
func (s *stage) queues(n int) (rdma.CQ, []rdma.QP, func()) {
	s.Helper()
	listener, cq := s.listen(), s.cq()
	ids, qps := make([]rdma.ID, n), make([]rdma.QP, n)
	for i := range n {
		ids[i], qps[i] = s.queue(listener, cq)
	}
	s.log()
	return cq, qps, func() {
		s.Helper()
		for i := range n {
			s.ok(s.card.DestroyQP(qps[i]))
			s.ok(s.cm.Destroy(ids[i]))
		}
		s.ok(s.card.DestroyCQ(cq))
		s.ok(s.cm.Destroy(listener))
		s.over()
	}
}

func TestPost(t *testing.T) {
	s := newStage(t)
	_, q, end := s.queues(2)
	capsule := memory(t, 4096)
	copy(capsule, "response")
	piece := func(at uint64, bytes, key uint32) rdma.SGE { return rdma.SGE{Address: at, Bytes: bytes, Key: key} }
	w := []rdma.SendWR{
		{ID: 1, QP: q[0], Opcode: rdma.OpRead, Remote: 0x10000, RemoteKey: 7, SGEs: 2, SGE: [2]rdma.SGE{piece(0x1000, 4096, 3), piece(0x3000, 512, 4)}, Flags: rdma.Signaled},
		{ID: 2, QP: q[0], Opcode: rdma.OpWrite, Remote: 0x20000, RemoteKey: 8, SGEs: 1, SGE: [2]rdma.SGE{piece(0x5000, 4096, 3)}},
		{ID: 3, QP: q[0], Opcode: rdma.OpSendInvalidate, Invalidate: 8, SGEs: 1, SGE: [2]rdma.SGE{piece(addressOf(capsule), 8, 0)}, Flags: rdma.Signaled | rdma.Inline},
		{ID: 4, QP: q[1], Opcode: rdma.OpSend, SGEs: 1, SGE: [2]rdma.SGE{piece(0x7000, 16, 5)}, Flags: rdma.Fence},
		{ID: 5, QP: q[0], Opcode: rdma.OpSend, Flags: rdma.Fence | rdma.Inline | rdma.Signaled},
	}
	n, err := s.card.Post(w)
	s.ok(err)
	if n != len(w) {
		t.Errorf("%d were taken, want %d", n, len(w))
	}
	s.want("those of one queue pair that stand together go together, in order",
		"post_send qp1",
		"  1 READ signaled remote=0x10000/7 0x1000+4096/3 0x3000+512/4",
		"  2 WRITE remote=0x20000/8 0x5000+4096/3",
		`  3 SEND_WITH_INV signaled inline invalidate=8 "response"`,
		"post_send qp2",
		"  4 SEND fence 0x7000+16/5",
		"post_send qp1",
		"  5 SEND signaled inline fence")
	if n, err := s.card.Post(nil); n != 0 || err != nil {
		t.Errorf("nothing to post: %d, %v", n, err)
	}
	end()
}

func TestPostReportsHowManyWereTaken(t *testing.T) {
	for _, c := range []struct {
		name  string
		order string
		spoil func(w []rdma.SendWR)
		want  int
		errno syscall.Errno
	}{
		{"the first is refused", "take n=0 errno=12", nil, 0, syscall.ENOMEM},
		{"in the middle of the first chain", "take n=2 errno=12", nil, 2, syscall.ENOMEM},
		{"the first of the second chain", "take n=100 errno=22", nil, 100, syscall.EINVAL},
		{"in the second chain", "take n=130 errno=12", nil, 130, syscall.ENOMEM},
		{"the last", "take n=199 errno=12", nil, 199, syscall.ENOMEM},
		{"an unknown opcode", "", func(w []rdma.SendWR) { w[120].Opcode = 9 }, 120, syscall.EINVAL},
		{"too many pieces", "", func(w []rdma.SendWR) { w[0].SGEs = 3 }, 0, syscall.EINVAL},
		{"an unknown flag", "", func(w []rdma.SendWR) { w[7].Flags = 8 }, 7, syscall.EINVAL},
		{"no queue pair", "", func(w []rdma.SendWR) { w[110].QP = 0 }, 110, syscall.EINVAL},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := newStage(t)
			_, q, end := s.queues(2)
			w := make([]rdma.SendWR, 200)
			for i := range w {
				w[i] = rdma.SendWR{ID: uint64(i), QP: q[i/100]}
			}
			if c.spoil != nil {
				c.spoil(w)
			}
			if c.order != "" {
				s.lib.Do("%s", c.order)
			}
			n, err := s.card.Post(w)
			if n != c.want || !errors.Is(err, c.errno) {
				t.Errorf("%d were taken, then %v; want %d, then %v", n, err, c.want, c.errno)
			}
			s.refused(err, "fake1", "send queue")
			end()
		})
	}
}

func TestPostReceives(t *testing.T) {
	s := newStage(t)
	_, q, end := s.queues(1)
	srq, err := s.card.CreateSRQ(128, 2)
	s.ok(err)
	s.want("an SRQ has no limit that tells", "ibv_create_srq srq1 depth=128 sges=2 limit=0")
	w := []rdma.RecvWR{
		{ID: 1, SGEs: 2, SGE: [2]rdma.SGE{{Address: 0x1000, Bytes: 64, Key: 3}, {Address: 0x2000, Bytes: 8192, Key: 4}}},
		{ID: 2, SGEs: 1, SGE: [2]rdma.SGE{{Address: 0x4000, Bytes: 64, Key: 3}}},
	}
	for _, c := range []struct {
		first string
		post  func([]rdma.RecvWR) (int, error)
	}{
		{"post_recv qp1", func(w []rdma.RecvWR) (int, error) { return s.card.PostRecv(q[0], w) }},
		{"post_srq_recv srq1", func(w []rdma.RecvWR) (int, error) { return s.card.PostShared(srq, w) }},
	} {
		n, err := c.post(w)
		s.ok(err)
		if n != 2 {
			t.Errorf("%s: %d were taken, want 2", c.first, n)
		}
		s.want("receives are one chain", c.first, "  1 0x1000+64/3 0x2000+8192/4", "  2 0x4000+64/3")

		many := make([]rdma.RecvWR, 150)
		s.lib.Do("take n=90 errno=12")
		if n, err := c.post(many); n != 90 || !errors.Is(err, syscall.ENOMEM) {
			t.Errorf("%s: %d were taken, then %v; want 90, then ENOMEM", c.first, n, err)
		}
		s.lib.Do("take n=-1")
		many[70].SGEs = 3
		if n, err := c.post(many); n != 70 || !errors.Is(err, syscall.EINVAL) {
			t.Errorf("%s: %d were taken, then %v; want 70, then EINVAL", c.first, n, err)
		}
		if n, err := c.post(nil); n != 0 || err != nil {
			t.Errorf("%s: nothing to post: %d, %v", c.first, n, err)
		}
		s.log()
	}
	s.ok(s.card.DestroySRQ(srq))
	end()
}

func TestPoll(t *testing.T) {
	s := newStage(t)
	cq, _, end := s.queues(1)
	for _, order := range []string{
		"id=1 opcode=0 qpn=101",
		"id=2 opcode=1 qpn=101",
		"id=3 opcode=2 qpn=102 bytes=4096",
		"id=4 opcode=128 qpn=102 bytes=72 flags=8 invalid=77",
		"id=5 opcode=128 qpn=102 bytes=64 flags=1 invalid=77",
		"id=6 opcode=128 qpn=102 bytes=64 flags=8 invalid=77 status=5 vendor=249",
	} {
		s.lib.Do("complete cq=1 %s", order)
	}
	want := []rdma.Completion{
		{ID: 1, QPN: 101, Kind: rdma.DidSend, Vendor: 0},
		{ID: 2, QPN: 101, Kind: rdma.DidWrite},
		{ID: 3, QPN: 102, Kind: rdma.DidRead, Bytes: 4096},
		{ID: 4, QPN: 102, Kind: rdma.DidRecv, Bytes: 72, Flags: rdma.Invalidated, Invalid: 77},
		{ID: 5, QPN: 102, Kind: rdma.DidRecv, Bytes: 64},
		{ID: 6, QPN: 102, Status: rdma.StatusFlushed, Vendor: 249},
	}
	got := make([]rdma.Completion, 16)
	n, err := s.card.Poll(cq, got)
	s.ok(err)
	if n != len(want) {
		t.Fatalf("%d completions, want %d", n, len(want))
	}
	for i := range want {
		if got[i] != want[i] {
			t.Errorf("completion %d is\n%+v, want\n%+v", i, got[i], want[i])
		}
	}
	s.log()

	// Every status there is keeps its number.
	for i := range int(rdma.StatusGeneral) + 1 {
		s.lib.Do("complete cq=1 id=%d status=%d", i, i)
	}
	all := make([]rdma.Completion, 64)
	if n, err = s.card.Poll(cq, all); n != int(rdma.StatusGeneral)+1 || err != nil {
		t.Errorf("%d completions, %v", n, err)
	}
	for i := range n {
		if all[i].Status != rdma.Status(i) {
			t.Errorf("status %d arrived as %d", i, all[i].Status)
		}
	}
	s.log()

	// More than there is room for in C, and less than there is.
	for i := range 200 {
		s.lib.Do("complete cq=1 opcode=128 bytes=1 id=%d", i)
	}
	many := make([]rdma.Completion, 150)
	if n, err = s.card.Poll(cq, many); n != 150 || err != nil {
		t.Errorf("%d completions, %v; want 150", n, err)
	}
	s.want("as few calls of the driver as possible", "poll_cq cq1 64", "poll_cq cq1 64", "poll_cq cq1 22")
	if n, err = s.card.Poll(cq, many[:100]); n != 50 || err != nil || many[49].ID != 199 {
		t.Errorf("%d completions, %v, the last %d; want 50, the last 199", n, err, many[49].ID)
	}
	s.want("fewer than asked for are all there are", "poll_cq cq1 64")

	// What came before a failure is not lost.
	for range 64 {
		s.lib.Do("complete cq=1 id=9")
	}
	s.lib.Do("fail of=poll_cq errno=5 after=1")
	n, err = s.card.Poll(cq, many)
	if n != 64 || !errors.Is(err, syscall.EIO) {
		t.Errorf("%d completions, then %v; want 64, then EIO", n, err)
	}
	s.refused(err, "fake1", "completion queue")
	if n, err = s.card.Poll(cq, nil); n != 0 || err != nil {
		t.Errorf("no room: %d, %v", n, err)
	}
	end()
}

func TestArmAndHeard(t *testing.T) {
	s := newStage(t)
	cq, _, end := s.queues(1)
	s.ok(s.card.Arm(cq))
	s.want("any completion tells, not only solicited ones", "req_notify_cq cq1 solicited=0")
	if fd := s.card.CQFD(cq); readable(t, fd) {
		t.Error("the descriptor is readable with nothing to tell")
	}
	s.ok(s.card.Heard(cq))
	s.want("nothing was told: it does not block")
	s.lib.Do("tell cq=1")
	s.lib.Do("tell cq=1")
	if !readable(t, s.card.CQFD(cq)) {
		t.Error("the descriptor is not readable")
	}
	s.ok(s.card.Heard(cq))
	s.want("all that was told is acknowledged", "ibv_get_cq_event cq1", "ibv_ack_cq_events cq1 1", "ibv_get_cq_event cq1", "ibv_ack_cq_events cq1 1")
	if readable(t, s.card.CQFD(cq)) {
		t.Error("the descriptor is still readable")
	}
	s.lib.Do("fail of=req_notify_cq errno=22")
	s.refused(s.card.Arm(cq), "fake1", "invalid argument")
	s.lib.Do("fail of=ibv_get_cq_event errno=5")
	s.refused(s.card.Heard(cq), "fake1", "input/output error")
	end()
}

func TestFastPathAllocatesNothing(t *testing.T) {
	s := newStage(t)
	cq, q, end := s.queues(2)
	s.lib.Do("quiet on=1")
	s.lib.Do("complete cq=1 id=1 opcode=128")
	s.lib.Do("always cq=1")
	var v rdma.Verbs = s.card
	w, r, c := make([]rdma.SendWR, 100), make([]rdma.RecvWR, 100), make([]rdma.Completion, 100)
	for i := range w {
		w[i].QP = q[i%2]
	}
	if n := testing.AllocsPerRun(100, func() {
		_, e1 := v.Post(w)
		_, e2 := v.PostRecv(q[0], r)
		n, e3 := v.Poll(cq, c)
		e4, e5 := v.Arm(cq), v.Heard(cq)
		if e1 != nil || e2 != nil || e3 != nil || e4 != nil || e5 != nil || n != len(c) {
			t.Fatal(e1, e2, e3, e4, e5, n)
		}
	}); n != 0 {
		t.Errorf("%v allocations in a turn", n)
	}
	end()
}
