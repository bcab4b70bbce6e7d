//go:build cgo

package ibverbs

import (
	"errors"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/pollux-storage/pollux/rdma"
	"github.com/pollux-storage/pollux/rdma/ibverbs/internal/fakelib"
)

func TestCardInfo(t *testing.T) {
	s := newStage(t)
	want := rdma.CardInfo{
		Name: "fake1", GUID: 0x0102030405060709, QPDepthMax: 8192, SGEsMax: 30, CQDepthMax: 65536, SRQDepth: 4096, ReadsIn: 16, ReadsOut: 8,
		InlineMax: 256, MTU: 4096, Ethernet: true, Invalidates: true,
	}
	if got := s.card.Info(); got != want {
		t.Errorf("the card is\n%+v, want\n%+v", got, want)
	}
	s.lib.Do("extensions has=0")
	if s.card.Info().Invalidates {
		t.Error("a card without the extensions for keys can invalidate them")
	}
	s.lib.Do("extensions has=1")
	s.lib.Do("port n=1 state=4")
	if got := s.card.Info().MTU; got != 1024 {
		t.Errorf("the first port is active: MTU %d, want its 1024", got)
	}
	s.lib.Do("port n=1 state=1")
	s.lib.Do("port n=2 state=1")
	want.MTU = 0
	if got := s.card.Info(); got != want {
		t.Errorf("no port is active:\n%+v, want\n%+v", got, want)
	}
	s.lib.Do("port n=2 state=4")
	s.lib.Do("fail of=ibv_query_device errno=5")
	if got := s.card.Info(); got != want {
		t.Errorf("the card does not answer:\n%+v, want\n%+v", got, want)
	}
	if s.p.Name() != "libibverbs" {
		t.Errorf("the provider's name is %q", s.p.Name())
	}
	s.over()
}

func TestOpenSaysWhyThereIsNoRDMA(t *testing.T) {
	for _, c := range []struct {
		name        string
		verbs, cm   string // the fake library where empty
		order       string
		unavailable bool
		words       []string
	}{
		{"no libibverbs", "libnosuchverbs.so.1", "", "", true, []string{"libnosuchverbs.so.1", "No such file", "apt-get install libibverbs1 librdmacm1 ibverbs-providers"}},
		{"no librdmacm", "", "libnosuchcm.so.1", "", true, []string{"libnosuchcm.so.1", "No such file", "apt-get install"}},
		{"another libibverbs", "libc.so.6", "", "", true, []string{"libc.so.6 has no ibv_get_device_name of version IBVERBS_1.1", "rdma-core"}},
		{"another librdmacm", "", "libc.so.6", "", true, []string{"libc.so.6 has no rdma_get_devices of version RDMACM_1.0"}},
		{"no card", "", "", "cards n=0", true, []string{"RDMA is not available"}},
		{"no card with reliable connections", "", "", "transport card=1 is=4", true, []string{"RDMA is not available"}},
		{"cards that cannot be listed", "", "", "fail of=rdma_get_devices errno=1", false, []string{"rdma_get_devices", "operation not permitted"}},
		{"no protection domain", "", "", "fail of=ibv_alloc_pd errno=12", false, []string{"fake1", "ibv_alloc_pd", "cannot allocate memory", "LimitMEMLOCK="}},
		{"no rights", "", "", "fail of=ibv_alloc_pd errno=13", false, []string{"fake1", "permission denied", "/dev/infiniband"}},
		{"a card that does not answer", "", "", "fail of=ibv_query_device errno=5", false, []string{"fake1", "ibv_query_device", "input/output error"}},
		{"a port that does not answer", "", "", "fail of=ibv_query_port errno=5", false, []string{"fake1", "ibv_query_port"}},
		{"a card without a completion queue", "", "", "fail of=ibv_create_cq errno=12", false, []string{"fake1", "ibv_create_cq", "LimitMEMLOCK="}},
		{"no connection manager", "", "", "fail of=rdma_create_event_channel errno=2", true, []string{"no connection manager", "modprobe rdma_ucm"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			lib := fakelib.New(t)
			s := &stage{T: t, lib: lib}
			if c.verbs == "" {
				c.verbs = lib.Path()
			}
			if c.cm == "" {
				c.cm = lib.Path()
			}
			if c.order != "" {
				lib.Do("%s", c.order)
			}
			p, err := open(c.verbs, c.cm)
			s.refused(err, c.words...)
			if p != nil || errors.Is(err, rdma.ErrUnavailable) != c.unavailable {
				t.Errorf("a provider %v, ErrUnavailable %v", p, errors.Is(err, rdma.ErrUnavailable))
			}
			if left := lib.Do("alive"); left != "0" {
				t.Errorf("%s objects of the libraries are left", left)
			}
		})
	}
}

func TestNoCard(t *testing.T) {
	s := &stage{T: t}
	none := t.TempDir()
	s.refused(noCard(none), none, "Soft-RoCE", "rdma link add rxe0")
	s.refused(noCard("/nonexistent"), "Soft-RoCE")
	some := t.TempDir()
	for _, name := range []string{"mlx5_0", "rxe0"} {
		s.ok(os.Mkdir(filepath.Join(some, name), 0o700))
	}
	s.refused(noCard(some), "the kernel has mlx5_0, rxe0", "ibverbs-providers", "/dev/infiniband")
}

func TestCardsComeAndGo(t *testing.T) {
	s := newStage(t)
	s.lib.Do("cards n=2")
	// A connection on a card that nobody has listed yet.
	listener := s.listen()
	e := s.event("id=1 kind=4 card=2")
	if e.Card == nil || e.Card == rdma.Verbs(s.card) || e.Card.Info().Name != "fake2" {
		t.Fatalf("the connection's card is %v", e.Card)
	}
	cards, err := s.p.Cards()
	s.ok(err)
	if len(cards) != 2 || cards[0] != rdma.Verbs(s.card) || cards[1] != e.Card {
		t.Errorf("the cards are %v", cards)
	}
	for range 10 {
		again, err := s.p.Cards()
		s.ok(err)
		if len(again) != 2 || again[1] != cards[1] {
			t.Errorf("the cards have become %v", again)
		}
	}
	s.lib.Do("cards n=1")
	if cards, err = s.p.Cards(); err != nil || len(cards) != 1 || cards[0] != rdma.Verbs(s.card) {
		t.Errorf("with one card gone, the cards are %v, %v", cards, err)
	}
	s.ok(s.cm.Destroy(e.ID))
	s.ok(s.cm.Destroy(listener))
	s.over()
	_, err = s.p.Cards()
	s.refused(err, "closed")
}

func TestRegister(t *testing.T) {
	s := newStage(t)
	b := memory(t, 8192)
	mr, err := s.card.Register(b, rdma.RemoteRead|rdma.RemoteWrite)
	s.ok(err)
	if want := (rdma.MR{Handle: mr.Handle, Local: 11, Remote: 12, Address: addressOf(b), Bytes: 8192}); mr != want || mr.Handle == 0 {
		t.Errorf("the region is %+v, want %+v", mr, want)
	}
	s.want("all rights", "ibv_reg_mr 8192 bytes access=7")
	s.ok(s.card.Deregister(mr))
	s.log()
	for access, want := range map[rdma.Access]string{0: "1", rdma.RemoteRead: "5", rdma.RemoteWrite: "3"} {
		mr, err := s.card.Register(b[:4096], access)
		s.ok(err)
		s.want("only those rights", "ibv_reg_mr 4096 bytes access="+want)
		s.ok(s.card.Deregister(mr))
		s.want("given back", "ibv_dereg_mr 4096 bytes")
	}
	_, err = s.card.Register(nil, 0)
	s.refused(err, "fake1", "no memory")
	s.lib.Do("fail of=ibv_reg_mr errno=12")
	_, err = s.card.Register(b, 0)
	s.refused(err, "fake1", "8192 bytes", "ibv_reg_mr", "cannot allocate memory", "ulimit -l")
	mr, err = s.card.Register(b, 0)
	s.ok(err)
	s.lib.Do("fail of=ibv_dereg_mr errno=16")
	s.refused(s.card.Deregister(mr), "fake1", "ibv_dereg_mr", "busy")
	s.ok(s.card.Deregister(mr))
	s.over()
}

func TestWhatCannotBeMade(t *testing.T) {
	s := newStage(t)
	listener, cq := s.listen(), s.cq()
	s.want("interrupts go round", "rdma_create_id id1 ps=0x106", "rdma_set_option id1 0/2=1 (4)", "rdma_bind_addr id1 192.0.2.1@4420",
		"rdma_listen id1 backlog=128", "ibv_create_cq cq1 depth=64 vector=0")
	second := s.cq()
	s.want("the next processor's", "ibv_create_cq cq2 depth=64 vector=1")
	s.ok(s.card.DestroyCQ(second))
	s.want("with its channel", "ibv_destroy_cq cq2 unacknowledged=0", "ibv_destroy_comp_channel")

	for order, words := range map[string][]string{
		"fail of=ibv_create_comp_channel errno=24": {"fake1", "completion queue of 70000 entries", "allows 65536", "too many open files"},
		"fail of=ibv_create_cq errno=12":           {"completion queue", "cannot allocate memory", "LimitMEMLOCK="},
	} {
		s.lib.Do("%s", order)
		_, err := s.card.CreateCQ(70000)
		s.refused(err, words...)
	}
	s.lib.Do("fail of=ibv_create_srq errno=22")
	_, err := s.card.CreateSRQ(5000, 2)
	s.refused(err, "fake1", "shared receive queue of 5000 entries", "allows 4096", "invalid argument")

	e := s.event("id=1 kind=4 card=1")
	config := rdma.QPConfig{Send: cq, Recv: cq, SendDepth: 9000, RecvDepth: 10, SGEs: 3, InlineBytes: 300}
	_, _, err = s.card.CreateQP(e.ID, config)
	s.refused(err, "fake1", "rdma_create_qp", "send depth 9000, receive depth 10, of which the card allows 8192", "3 SGEs, of 30", "300 bytes inline, of 256")
	config.InlineBytes = 16
	s.lib.Do("fail of=rdma_create_qp errno=12")
	_, _, err = s.card.CreateQP(e.ID, config)
	s.refused(err, "rdma_create_qp", "cannot allocate memory", "LimitMEMLOCK=")
	_, _, err = s.card.CreateQP(e.ID+100, config)
	s.refused(err, "there is no connection")
	qp, _, err := s.card.CreateQP(e.ID, config)
	s.ok(err)

	s.lib.Do("fail of=ibv_modify_qp errno=22")
	s.refused(s.card.Fail(qp), "fake1", "ibv_modify_qp", "invalid argument")
	s.ok(s.card.DestroyQP(qp))
	s.refused(s.card.DestroyQP(qp), "not there")
	s.refused(s.card.Fail(qp), "not there")
	srq, err := s.card.CreateSRQ(8, 1)
	s.ok(err)
	s.lib.Do("fail of=ibv_destroy_srq errno=16")
	s.refused(s.card.DestroySRQ(srq), "shared receive queue", "busy")
	s.ok(s.card.DestroySRQ(srq))
	s.lib.Do("fail of=ibv_destroy_cq errno=16")
	s.refused(s.card.DestroyCQ(cq), "completion queue", "busy")
	s.ok(s.card.DestroyCQ(cq))
	s.ok(s.cm.Destroy(e.ID))
	s.ok(s.cm.Destroy(listener))
	s.ok(s.cm.Close())
	s.lib.Do("fail of=ibv_dealloc_pd errno=16")
	s.refused(s.p.Close(), "fake1", "ibv_dealloc_pd", "left")
}

func TestCardEvents(t *testing.T) {
	s := newStage(t)
	listener, cq := s.listen(), s.cq()
	srq, err := s.card.CreateSRQ(8, 1)
	s.ok(err)
	id, qp := s.queue(listener, cq)
	s.log()
	for _, c := range []struct {
		order string
		want  rdma.CardEvent
	}{
		{"kind=9 port=2", rdma.CardEvent{Kind: rdma.CardPortUp, Port: 2}},
		{"kind=10 port=1", rdma.CardEvent{Kind: rdma.CardPortDown, Port: 1}},
		{"kind=8", rdma.CardEvent{Kind: rdma.CardFatal}},
		{"kind=0 cq=1", rdma.CardEvent{Kind: rdma.CardCQFatal, CQ: cq}},
		{"kind=14 srq=1", rdma.CardEvent{Kind: rdma.CardSRQFatal, SRQ: srq}},
		{"kind=1 qp=1", rdma.CardEvent{Kind: rdma.CardQPFatal, ID: id}},
		{"kind=2 qp=1", rdma.CardEvent{Kind: rdma.CardQPFatal, ID: id}},
		{"kind=3 qp=1", rdma.CardEvent{Kind: rdma.CardQPFatal, ID: id}},
		{"kind=16 qp=1", rdma.CardEvent{Kind: rdma.CardLastReceive, ID: id}},
	} {
		// One that nobody wants to hear of is before it.
		s.lib.Do("async card=1 kind=5 qp=1")
		s.lib.Do("async card=1 %s", c.order)
		got, err := s.card.NextEvent()
		s.ok(err)
		if got != c.want {
			t.Errorf("%s is\n%+v, want\n%+v", c.order, got, c.want)
		}
	}
	s.log()

	s.lib.Do("async card=1 kind=4 qp=1")
	s.lib.Do("async card=1 kind=9 port=1")
	if e, err := s.card.NextEvent(); err != nil || e.Kind != rdma.CardPortUp {
		t.Errorf("the event is %+v, %v", e, err)
	}
	s.want("librdmacm hears that the peer has sent", "ibv_ack_async_event 4", "rdma_notify id2 4", "ibv_ack_async_event 9")

	s.lib.Do("fail of=ibv_get_async_event errno=4")
	s.lib.Do("async card=1 kind=9 port=2")
	if e, err := s.card.NextEvent(); err != nil || e.Port != 2 {
		t.Errorf("a signal came between: %+v, %v", e, err)
	}

	// One that was read before the queue pair was destroyed means nobody.
	of := s.card.qps[qp]
	delete(s.card.qps, qp)
	s.lib.Do("async card=1 kind=1 qp=1")
	s.lib.Do("async card=1 kind=10 port=1")
	if e, err := s.card.NextEvent(); err != nil || e.Kind != rdma.CardPortDown {
		t.Errorf("the event is %+v, %v", e, err)
	}
	s.card.qps[qp] = of

	s.ok(s.card.DestroyQP(qp))
	s.ok(s.cm.Destroy(id))
	s.ok(s.cm.Destroy(listener))
	s.ok(s.card.DestroySRQ(srq))
	s.ok(s.card.DestroyCQ(cq))
	s.over()
}

func TestCardEventsEnd(t *testing.T) {
	s := newStage(t)
	ended := make(chan error)
	next := func() {
		_, err := s.card.NextEvent()
		ended <- err
	}
	go next()
	s.over()
	if err := <-ended; !errors.Is(err, os.ErrClosed) {
		t.Errorf("at the end of the provider: %v", err)
	}

	s = newStage(t)
	go next()
	s.lib.Do("unplug card=1")
	if err := <-ended; !errors.Is(err, syscall.EIO) {
		t.Errorf("at the end of the card: %v", err)
	}
	s.over()
}
