//go:build cgo

package ibverbs

import (
	"errors"
	"os"
	"syscall"
	"testing"

	"github.com/pollux-storage/pollux/rdma"
)

func TestACardThatGoesIsClosedAfterAllThatIsOnIt(t *testing.T) {
	for _, c := range []struct {
		name string
		told func(s *stage, id rdma.ID)
	}{
		{"the connection manager tells", func(s *stage, id rdma.ID) {
			if e := s.event("id=%d kind=11 card=1", id); e.Kind != rdma.EventRemoval || e.ID != id || e.Card != rdma.Verbs(s.card) {
				s.Errorf("the event is %+v", e)
			}
		}},
		{"the card tells", func(s *stage, id rdma.ID) {
			s.lib.Do("async card=1 kind=8")
			if e, err := s.card.NextEvent(); err != nil || e.Kind != rdma.CardFatal {
				s.Errorf("the event is %+v, %v", e, err)
			}
		}},
		{"both tell", func(s *stage, id rdma.ID) {
			s.lib.Do("async card=1 kind=8")
			_, err := s.card.NextEvent()
			s.ok(err)
			s.event("id=%d kind=11 card=1", id)
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := newStage(t)
			s.lib.Do("cards n=2")
			listener, cq := s.listen(), s.cq()
			srq, err := s.card.CreateSRQ(8, 1)
			s.ok(err)
			mr, err := s.card.Register(memory(t, 4096), 0)
			s.ok(err)
			id, qp := s.queue(listener, cq)
			s.lib.Do("cards first=2 n=2") // the list has the second alone
			c.told(s, id)

			_, err = s.card.Register(memory(t, 4096), 0)
			s.refused(err, "fake1", "gone")
			_, err = s.card.CreateCQ(1)
			s.refused(err, "gone")
			_, err = s.card.CreateSRQ(1, 1)
			s.refused(err, "gone")
			s.log()
			s.ok(s.card.Fail(qp))
			s.ok(s.card.DestroyQP(qp))
			s.ok(s.card.DestroySRQ(srq))
			s.ok(s.card.Deregister(mr))
			s.p.retiring.Wait()
			s.want("something is still on it", "ibv_modify_qp qp1 state=6 mask=1", "rdma_destroy_qp qp1", "ibv_destroy_srq srq1", "ibv_dereg_mr 4096 bytes")
			s.ok(s.card.DestroyCQ(cq))
			s.p.retiring.Wait()
			s.want("then it is closed, and the one that has come is opened", "ibv_destroy_cq cq1 unacknowledged=0", "ibv_destroy_comp_channel", "ibv_dealloc_pd card1",
				"ibv_alloc_pd card2")
			if _, err := s.card.NextEvent(); !errors.Is(err, os.ErrClosed) && !errors.Is(err, syscall.ENODEV) {
				t.Errorf("NextEvent of a closed card: %v", err)
			}
			if i := s.card.Info(); i.Name != "fake1" || i.MTU != 0 {
				t.Errorf("what is known of a closed card: %+v", i)
			}
			cards, err := s.p.Cards()
			s.ok(err)
			if len(cards) != 1 || cards[0].Info().Name != "fake2" {
				t.Errorf("the cards are %v", cards)
			}
			// It comes back, where the library had it before.
			s.lib.Do("cards n=2")
			cards, err = s.p.Cards()
			s.ok(err)
			if len(cards) != 2 || cards[0] == rdma.Verbs(s.card) || cards[0].Info().MTU == 0 {
				t.Errorf("the cards are %v", cards)
			}
			s.ok(s.cm.Destroy(id))
			s.ok(s.cm.Destroy(listener))
			s.over()
		})
	}
}
