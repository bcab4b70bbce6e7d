//go:build cgo

package ibverbs

import (
	"sync/atomic"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/pollux-storage/pollux/rdma"
)

// TestTwoProvidersHearOfOneCard: a target's and an initiator's have the same card open, and its events have one descriptor.
func TestTwoProvidersHearOfOneCard(t *testing.T) {
	s := newStage(t)
	p, err := open(s.lib.Path(), s.lib.Path())
	s.ok(err)
	cards, err := p.Cards()
	s.ok(err)
	other := cards[0].(*card)
	heard := make(chan rdma.CardEvent)
	silent := make(chan error)
	go func() { // waits as a Net does
		for {
			e, err := other.NextEvent()
			if err != nil {
				silent <- err
				return
			}
			heard <- e
		}
	}()
	listener, cq := s.listen(), s.cq()
	id, qp := s.queue(listener, cq)
	for i := range 50 {
		s.lib.Do("async card=1 kind=16 qp=1") // is ours alone, whoever reads it
		s.lib.Do("async card=1 kind=9 port=%d", i)
		if e, err := s.card.NextEvent(); err != nil || e != (rdma.CardEvent{Kind: rdma.CardLastReceive, ID: id}) {
			t.Fatalf("the queue pair's owner hears %+v, %v", e, err)
		}
		if e, err := s.card.NextEvent(); err != nil || e != (rdma.CardEvent{Kind: rdma.CardPortUp, Port: i}) {
			t.Fatalf("one hears %+v, %v", e, err)
		}
		if e := <-heard; e != (rdma.CardEvent{Kind: rdma.CardPortUp, Port: i}) {
			t.Fatalf("the other hears %+v", e)
		}
	}
	// The card goes: both close it.
	s.lib.Do("cards n=2")
	s.lib.Do("cards first=2 n=2")
	s.lib.Do("async card=1 kind=8")
	if e := <-heard; e.Kind != rdma.CardFatal {
		t.Errorf("the other hears %+v", e)
	}
	<-silent
	if _, err := s.card.Register(memory(t, 4096), 0); err == nil {
		t.Error("one does not know that the card is gone")
	}
	s.ok(s.card.DestroyQP(qp))
	s.ok(s.cm.Destroy(id))
	s.ok(s.cm.Destroy(listener))
	s.ok(s.card.DestroyCQ(cq))
	p.(*provider).retiring.Wait()
	s.p.retiring.Wait()
	if !s.card.isClosed() || !other.isClosed() {
		t.Error("the card is still open")
	}
	s.ok(p.Close())
	s.over()
	if devices.of[s.card.context] != nil {
		t.Error("the card is still known as open")
	}
}

func TestAWaiterThatIsNudgedLooksAgain(t *testing.T) {
	var pipe [2]int
	if err := unix.Pipe2(pipe[:], unix.O_CLOEXEC|unix.O_NONBLOCK); err != nil {
		t.Fatal(err)
	}
	defer unix.Close(pipe[1])
	u, err := newWaiter(pipe[0], "nothing")
	unix.Close(pipe[0])
	if err != nil {
		t.Fatal(err)
	}
	defer u.close()
	for range 100 {
		var there atomic.Bool
		looked := make(chan struct{}, 100)
		ended := make(chan error)
		go func() {
			ended <- u.until(func() bool {
				looked <- struct{}{}
				return there.Load()
			})
		}()
		<-looked
		there.Store(true)
		u.nudge()
		if err := <-ended; err != nil {
			t.Fatal(err)
		}
	}
}
