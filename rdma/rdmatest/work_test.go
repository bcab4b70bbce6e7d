package rdmatest

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/pollux-storage/pollux/rdma"
)

func TestAnInlineSendTakesWhatWasThereAtThePost(t *testing.T) {
	r := plainRig(t)
	b := []byte("inline, and not registered")
	r.host.post(r.host.inline(1, b)) // it waits: there is no receive
	clear(b)
	r.hs.exactly()
	r.target.recv(2, 0, 64)
	r.ts.exactly(well(2))
	r.hs.exactly(well(1))
	if got := string(r.ts.mem[:26]); got != "inline, and not registered" {
		t.Fatalf("received %q", got)
	}
}

func TestAllIsCarriedOutBeforePostReturns(t *testing.T) {
	r := plainRig(t)
	r.target.recv(1, 0, 64)
	r.host.post(r.host.wr(rdma.OpSend, 2, 0, 64), of(r.host.wr(rdma.OpWrite, 3, 0, 64), r.target, 0), of(r.host.wr(rdma.OpRead, 4, 0, 64), r.target, 0))
	r.ts.exactly(well(1))
	r.hs.exactly(well(2), well(3), well(4))
}

// faults wants f to panic with a text that says so.
func faults(t *testing.T, text string, f func()) {
	t.Helper()
	defer func() {
		t.Helper()
		if e, _ := recover().(string); !strings.Contains(e, text) {
			t.Errorf("%q, want a panic with %q", e, text)
		}
	}()
	f()
}

func TestWhatNoProgramMayDoIsAPanic(t *testing.T) {
	t.Run("more RDMA READs in flight than the peer answers", func(t *testing.T) {
		less := plain
		less.ReadsIn = 2
		r := newRig(t, Options{}, Options{}).connect(shallow, shallow, plain, less)
		read := of(r.host.wr(rdma.OpRead, 1, 0, 64), r.target, 0)
		r.host.post(read, read)
		faults(t, "one more", func() { r.host.post(read) }) // the two have been carried out, but it cannot know
		r.hs.exactly(well(1), well(1))
		r.host.post(read)
	})
	t.Run("a completion queue overrun", func(t *testing.T) {
		r := newRig(t, Options{}, Options{})
		deep := shallow
		deep.SendDepth = 65
		r.connect(deep, shallow, plain, plain)
		w := of(r.host.wr(rdma.OpWrite, 1, 0, 64), r.target, 0)
		r.host.post(slices.Repeat([]rdma.SendWR{w}, 64)...)
		faults(t, "overrun", func() { r.host.post(w) })
		r.hs.await(64)
	})
	t.Run("a handle that is destroyed", func(t *testing.T) {
		r := newRig(t, Options{}, Options{})
		q, err := r.hs.card.CreateCQ(1)
		r.hs.must(err)
		r.hs.must(r.hs.card.DestroyCQ(q))
		again, err := r.hs.card.CreateCQ(1) // in the same place
		r.hs.must(err)
		faults(t, "destroyed", func() { _, _ = r.hs.card.Poll(q, nil) })
		faults(t, "no shared receive queue", func() { _ = r.hs.card.DestroySRQ(rdma.SRQ(again)) })
		r.hs.must(r.hs.card.DestroyCQ(again))
	})
	t.Run("memory reused too early", func(t *testing.T) {
		r := newRig(t, Options{}, Options{})
		r.f.Watch()
		r.connect(shallow, shallow, plain, plain)
		r.target.recv(1, 0, 64)
		r.host.post(r.host.wr(rdma.OpSend, 2, 0, 64))
		r.ts.exactly(well(1))
		r.hs.mem[5]++ // it has arrived, but it might be sent again: nobody has polled its completion
		faults(t, "before the completion was polled", func() { r.hs.exactly(well(2)) })
		r.hs.mem[5]--
		r.target.recv(1, 0, 64)
		r.ts.mem[63]++
		faults(t, "before something had come", func() { r.host.post(r.host.wr(rdma.OpSend, 3, 0, 64)) })
		r.ts.mem[63]--
		r.hp.Withhold(Reads)
		r.host.post(of(r.host.wr(rdma.OpRead, 4, 128, 64), r.target, 0))
		r.hs.mem[130]++
		faults(t, "before it had come", func() { r.hp.Release() })
		r.hs.mem[130]--
	})
}

func TestDepthsAreExact(t *testing.T) {
	r := plainRig(t)
	w := of(r.host.wr(rdma.OpWrite, 1, 0, 64), r.target, 0)
	w.Flags = 0
	n, err := r.hs.card.Post(slices.Repeat([]rdma.SendWR{w}, 9))
	if n != 8 || !errors.Is(err, unix.ENOMEM) {
		t.Fatalf("%d of 9 work requests were taken by a queue of 8: %v", n, err)
	}
	// They have been carried out, in silence. So nothing will ever say that their places are free.
	if n, err = r.hs.card.Post([]rdma.SendWR{w}); n != 0 || !errors.Is(err, unix.ENOMEM) {
		t.Fatalf("a place is free that no polled completion has freed: %d, %v", n, err)
	}
	rw := slices.Repeat([]rdma.RecvWR{{ID: 1}}, 9)
	if n, err = r.ts.card.PostRecv(r.target.qp, rw); n != 8 || !errors.Is(err, unix.ENOMEM) {
		t.Fatalf("%d of 9 receives were taken by a queue of 8: %v", n, err)
	}
	r.target.post(of(r.target.wr(rdma.OpWrite, 2, 0, 1), r.host, 0))
	r.ts.exactly(well(2))
	fresh := plainRig(t)
	fresh.target.recv(1, 0, 64)
	fresh.host.post(fresh.host.wr(rdma.OpSend, 2, 0, 64))
	if n, err = fresh.ts.card.PostRecv(fresh.target.qp, rw[:8]); n != 7 || !errors.Is(err, unix.ENOMEM) {
		t.Fatalf("%d of 8 receives were taken by a queue of 8 of which one has got something that was not polled: %v", n, err)
	}
}

func TestAnArmedQueueWakesOnce(t *testing.T) {
	r := plainRig(t)
	wakes := func(why string, want int) {
		t.Helper()
		fd := []unix.PollFd{{Fd: int32(r.hs.card.CQFD(r.hs.cq)), Events: unix.POLLIN}}
		if n, err := unix.Poll(fd, 0); n != want || err != nil {
			t.Fatalf("%s: %d descriptors are readable, want %d: %v", why, n, want, err)
		}
	}
	w := of(r.host.wr(rdma.OpWrite, 1, 0, 64), r.target, 0)
	r.host.post(w)
	wakes("not armed", 0)
	r.hs.must(r.hs.card.Arm(r.hs.cq))
	wakes("what was there before does not wake", 0)
	r.host.post(w)
	wakes("armed", 1)
	r.hs.must(r.hs.card.Heard(r.hs.cq))
	wakes("heard", 0)
	r.host.post(w)
	wakes("once", 0)
	r.hs.must(r.hs.card.Heard(r.hs.cq)) // of nothing
	r.hs.exactly(well(1), well(1), well(1))
}

func TestASendThatWaitsHearsThatItsPeerHasFailed(t *testing.T) {
	r := plainRig(t)
	r.host.post(r.host.wr(rdma.OpSend, 1, 0, 64))
	r.hs.exactly()
	r.ts.must(r.ts.card.Fail(r.target.qp))
	r.hs.exactly(ill(1, rdma.StatusRetry))
}

func TestPostsAreRefused(t *testing.T) {
	few := shallow
	few.SGEs = 1
	r := newRig(t, Options{}, Options{}).connect(few, shallow, plain, plain)
	long := make([]byte, 65)
	read := r.host.inline(1, long[:1])
	read.Opcode = rdma.OpRead
	two := r.host.wr(rdma.OpSend, 1, 0, 1)
	two.SGEs = 2
	for _, c := range []struct {
		wrong string
		w     rdma.SendWR
	}{
		{"too long to be inline", r.host.inline(1, long)},
		{"an inline read", read},
		{"two pieces where one is taken", two},
		{"an opcode that there is not", r.host.wr(rdma.OpRead+1, 1, 0, 1)},
		{"a queue pair of another card", r.target.wr(rdma.OpSend, 1, 0, 1)},
	} {
		if n, err := r.hs.card.Post([]rdma.SendWR{c.w, c.w}); n != 0 || !errors.Is(err, unix.EINVAL) {
			t.Errorf("%s: %d taken, %v", c.wrong, n, err)
		}
	}
	// Those before the one that is refused are carried out.
	if n, err := r.hs.card.Post([]rdma.SendWR{of(r.host.wr(rdma.OpWrite, 7, 0, 1), r.target, 0), r.host.inline(1, long)}); n != 1 || err == nil {
		t.Fatalf("%d taken, %v", n, err)
	}
	r.hs.exactly(well(7))
}

func TestASendThatFindsNoReceiveTriesAgainAsOftenAsThePeerWants(t *testing.T) {
	two := plain
	two.RNR = 2
	r := newRig(t, Options{}, Options{}).connect(shallow, shallow, plain, two)
	r.host.post(r.host.wr(rdma.OpSend, 1, 0, 64))
	r.hs.exactly() // a poll stands for the time between two
	r.target.recv(2, 0, 64)
	r.hs.exactly(well(1))
	r.ts.exactly(well(2))
	r.host.post(r.host.wr(rdma.OpSend, 3, 0, 64))
	r.hs.exactly()
	r.hs.exactly(ill(3, rdma.StatusRNRRetry))
}

func TestSharedReceivesWithoutAUser(t *testing.T) {
	r := newRig(t, Options{}, Options{SRQDepth: 16})
	srq, err := r.ts.card.CreateSRQ(16, 2)
	r.ts.must(err)
	q := shallow
	q.Shared, q.RecvDepth = srq, 0
	r.connect(shallow, q, plain, plain)
	if err := r.ts.card.DestroySRQ(srq); !errors.Is(err, unix.EBUSY) {
		t.Errorf("a shared receive queue in use: %v", err)
	}
	if err := r.ts.card.DestroyCQ(r.ts.cq); !errors.Is(err, unix.EBUSY) {
		t.Errorf("a completion queue in use: %v", err)
	}
	if err := r.ts.cm.Destroy(r.target.id); !errors.Is(err, unix.EBUSY) {
		t.Errorf("a connection whose queue pair is not destroyed: %v", err)
	}
	if err := r.ts.cm.Close(); !errors.Is(err, unix.EBUSY) {
		t.Errorf("a connection manager with connections: %v", err)
	}
	if err := r.tp.Close(); !errors.Is(err, unix.EBUSY) {
		t.Errorf("a provider with all that: %v", err)
	}
	if n, err := r.ts.card.PostRecv(r.target.qp, make([]rdma.RecvWR, 1)); n != 0 || !errors.Is(err, unix.EINVAL) {
		t.Errorf("a receive of its own for a queue pair with shared ones: %v", err)
	}
	r.target.recv(1, 0, 64)
	r.ts.must(r.ts.card.Fail(r.target.qp))
	r.ts.exactly() // shared receives are not flushed
	e, err := r.ts.card.NextEvent()
	if err != nil || e.Kind != rdma.CardLastReceive || e.ID != r.target.id {
		t.Errorf("the card tells %+v, %v; want that it was the last receive", e, err)
	}
}
