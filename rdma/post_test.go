package rdma_test

import (
	"errors"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/pollux-storage/pollux/rdma"
	"github.com/pollux-storage/pollux/rdma/rdmatest"
	"github.com/pollux-storage/pollux/reactor"
)

func TestReadsBeyondWhatThePeerAllowsWait(t *testing.T) {
	x := newRig(t, rigOptions{target: srq, host: srq})
	a := &acceptor{}
	h, g := x.connect(a, x.target.listen(a))
	lent, remote, key := h.lend(t)
	for i := range lent {
		lent[i] = byte(i)
	}
	x.target.p.Withhold(rdmatest.Reads)
	var b []byte
	on(t, g.r, func() {
		if g.q.ReadsOut() != 4 {
			t.Errorf("%d reads", g.q.ReadsOut())
		}
		b = g.buffer(4096)
		for i := range uint64(10) { // the fabric panics if the card gets more than 4
			g.q.Post(&rdma.SendWR{ID: i, Opcode: rdma.OpRead, Flags: rdma.Signaled, Remote: remote.Address + i*64, RemoteKey: key, SGEs: 1, SGE: [2]rdma.SGE{g.q.SGE(b[i*64 : i*64+64])}})
		}
		g.send(10, "passes those that wait")
		if g.q.Posted() != 11 {
			t.Errorf("%d posted", g.q.Posted())
		}
	})
	x.target.p.Release()
	g.want(t, "all completions", func() bool { return len(g.completed) == 11 })
	h.want(t, "a message", func() bool { return len(h.got) == 1 })
	on(t, g.r, func() {
		var order []uint64
		for _, c := range g.completed {
			if c.s != rdma.StatusOK {
				t.Errorf("%v", c)
			}
			order = append(order, c.id)
		}
		if !slices.Equal(order, []uint64{0, 1, 2, 3, 10, 4, 5, 6, 7, 8, 9}) {
			t.Errorf("order %v", order)
		}
		for i, c := range b[:640] {
			if c != byte(i) {
				t.Fatalf("byte %d is %d", i, c)
			}
		}
	})
}

func TestReadsThatWaitAreFlushedAtTheEnd(t *testing.T) {
	x := newRig(t, rigOptions{target: srq, host: srq})
	a := &acceptor{}
	h, g := x.connect(a, x.target.listen(a))
	_, remote, key := h.lend(t)
	x.target.p.Withhold(rdmatest.AllWork)
	on(t, g.r, func() {
		b := g.buffer(4096)
		for i := range uint64(7) {
			g.q.Post(&rdma.SendWR{ID: i, Opcode: rdma.OpRead, Flags: rdma.Signaled, Remote: remote.Address, RemoteKey: key, SGEs: 1, SGE: [2]rdma.SGE{g.q.SGE(b[i*64 : i*64+64])}})
		}
		g.q.Close()
	})
	h.want(t, "the end", func() bool { return len(h.ended) == 1 })
	x.target.p.Release()
	g.wantClosed(t)
	on(t, g.r, func() {
		if len(g.completed) != 7 || slices.ContainsFunc(g.completed, func(c completion) bool { return c.s != rdma.StatusFlushed }) {
			t.Errorf("%v", g)
		}
	})
}

func TestInlineDataMayBeUsedAgainAtOnce(t *testing.T) {
	x := newRig(t, rigOptions{target: srq, host: srq})
	a := &acceptor{}
	h, g := x.connect(a, x.target.listen(a))
	on(t, g.r, func() {
		if g.q.InlineBytes() != 32 {
			t.Errorf("%d bytes inline", g.q.InlineBytes())
		}
		b := make([]byte, 16)
		for i := range 4 {
			copy(b, "inline message 0")
			b[15] += byte(i)
			g.q.Post(&rdma.SendWR{Opcode: rdma.OpSend, Flags: rdma.Inline | rdma.Signaled, SGEs: 1, SGE: [2]rdma.SGE{inlineSGE(b)}})
			clear(b)
		}
	})
	h.want(t, "messages", func() bool { return len(h.got) == 4 })
	on(t, h.r, func() {
		if h.got[0] != "inline message 0" || h.got[3] != "inline message 3" {
			t.Errorf("%q", h.got)
		}
	})
	g.want(t, "completions", func() bool { return len(g.completed) == 4 })
}

func TestUnsignalledRequestsAreCountedOffByTheNextSignalledOne(t *testing.T) {
	x := newRig(t, rigOptions{target: srq, host: srq})
	a := &acceptor{}
	h, g := x.connect(a, x.target.listen(a))
	var posted, got int
	for range 5 {
		on(t, g.r, func() {
			b := g.buffer(64)
			for i := range plain.SendDepth {
				w := rdma.SendWR{ID: uint64(posted), Opcode: rdma.OpSend, SGEs: 1, SGE: [2]rdma.SGE{g.q.SGE(b[:8])}}
				if i == plain.SendDepth-1 {
					w.Flags = rdma.Signaled
				}
				g.q.Post(&w)
				posted++
			}
			if g.q.Posted() != plain.SendDepth {
				t.Errorf("%d posted", g.q.Posted())
			}
		})
		got++
		g.want(t, "one completion of many", func() bool { return len(g.completed) == got && g.q.Posted() == 0 })
	}
	h.want(t, "all messages", func() bool { return len(h.got) == posted })
	s := x.target.n.Stats()[0]
	if s.Posts != uint64(posted) || s.PostCalls != 5 {
		t.Errorf("%d requests in %d calls", s.Posts, s.PostCalls)
	}
}

func TestMoreThanWasAgreedIsTheProgramsFault(t *testing.T) {
	x := newRig(t, rigOptions{target: srq, host: srq})
	a := &acceptor{}
	_, g := x.connect(a, x.target.listen(a))
	broken := func(what string, f func()) {
		t.Helper()
		defer func() {
			if recover() == nil {
				t.Errorf("%s: nobody minds", what)
			}
		}()
		f()
	}
	on(t, g.r, func() {
		b := g.buffer(64)
		w := &rdma.SendWR{Opcode: rdma.OpSend, Flags: rdma.Signaled, SGEs: 1, SGE: [2]rdma.SGE{g.q.SGE(b)}}
		for range plain.SendDepth {
			g.q.Post(w)
		}
		broken("a full send queue", func() { g.q.Post(w) })
		broken("memory of no pool", func() { g.q.SGE(make([]byte, 10)) })
		broken("a key for a peer that called us", func() { g.q.RemoteKey(b) })
		broken("detaching what does not move", func() { g.q.Detach() })
		broken("a receive of nobody", func() { g.q.Release(&rdma.Receive{}) })
	})
	g.want(t, "completions", func() bool { return g.q.Posted() == 0 })
}

// badCards is a provider whose cards do not do what they are told.
type badCards struct {
	*rdmatest.Provider
	mu    sync.Mutex
	cards map[rdma.Verbs]*badCard
}

func (b *badCards) card(v rdma.Verbs) *badCard {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.cards[v] == nil {
		b.cards[v] = &badCard{Verbs: v}
	}
	return b.cards[v]
}

func (b *badCards) Cards() (list []rdma.Verbs, err error) {
	all, err := b.Provider.Cards()
	for _, v := range all {
		list = append(list, b.card(v))
	}
	return list, err
}

func (b *badCards) NewCM() (rdma.CM, error) {
	m, err := b.Provider.NewCM()
	return &badCM{m, b}, err
}

type badCM struct {
	rdma.CM
	b *badCards
}

func (m *badCM) Next() (rdma.Event, error) {
	e, err := m.CM.Next()
	if e.Card != nil {
		e.Card = m.b.card(e.Card)
	}
	return e, err
}

type badCard struct {
	rdma.Verbs
	refuse   atomic.Pointer[func(w *rdma.SendWR) error]
	noRecv   atomic.Bool
	noPoll   atomic.Bool
	noMemory atomic.Bool
	few      atomic.Int64    // most that one Post takes, if not 0
	mrs      [4]atomic.Int64 // by access: how often memory was registered
	atArm    atomic.Pointer[func()]
}

// Arm lets something happen just before.
func (c *badCard) Arm(q rdma.CQ) error {
	if f := c.atArm.Load(); f != nil {
		(*f)()
	}
	return c.Verbs.Arm(q)
}

var errBad = errors.New("the card does not want to")

func (c *badCard) Post(w []rdma.SendWR) (int, error) {
	if few := int(c.few.Load()); few > 0 && len(w) > few {
		w = w[:few]
	}
	if f := c.refuse.Load(); f != nil {
		for i := range w {
			if err := (*f)(&w[i]); err != nil {
				n, _ := c.Verbs.Post(w[:i])
				return n, err
			}
		}
	}
	return c.Verbs.Post(w)
}

func (c *badCard) PostShared(s rdma.SRQ, w []rdma.RecvWR) (int, error) {
	if c.noRecv.Load() {
		return 0, errBad
	}
	return c.Verbs.PostShared(s, w)
}

func (c *badCard) PostRecv(q rdma.QP, w []rdma.RecvWR) (int, error) {
	if c.noRecv.Load() {
		return 0, errBad
	}
	return c.Verbs.PostRecv(q, w)
}

func (c *badCard) Poll(q rdma.CQ, w []rdma.Completion) (int, error) {
	n, err := c.Verbs.Poll(q, w)
	if c.noPoll.Load() {
		err = errBad
	}
	return n, err
}

func (c *badCard) Register(b []byte, a rdma.Access) (rdma.MR, error) {
	if c.noMemory.Load() {
		return rdma.MR{}, errBad
	}
	c.mrs[a].Add(1)
	return c.Verbs.Register(b, a)
}

// badRig is a rig whose target has a bad card.
func badRig(t *testing.T, o rdmatest.Options) (*rig, *badCard) {
	f := rdmatest.NewFabric()
	x := &rig{t: t, fabric: f}
	g, err := reactor.Start(reactor.Config{Cores: []int{-1}, MemoryBytes: 32 << 20, Idle: reactor.Interrupt})
	if err != nil {
		t.Fatal(err)
	}
	b := &badCards{Provider: f.Provider("target", o), cards: map[rdma.Verbs]*badCard{}}
	x.target = &engine{t: t, g: g, p: b.Provider}
	x.target.begin(b)
	x.host = newEngine(t, f, "host", o, reactor.Config{MemoryBytes: 16 << 20}, 1)
	t.Cleanup(x.close)
	v, _ := b.Provider.Cards()
	return x, b.card(v[0])
}

func TestARequestThatIsNotTakenEndsItsQueueAndTheOthersGoOn(t *testing.T) {
	x, c := badRig(t, srq)
	a := &acceptor{}
	l := x.target.listen(a)
	h1, g1 := x.connect(a, l)
	h2, g2 := x.connect(a, l)
	refuse := func(w *rdma.SendWR) error {
		if w.SGEs == 1 && w.SGE[0].Bytes == 13 {
			return errBad
		}
		return nil
	}
	c.refuse.Store(&refuse)
	on(t, g1.r, func() { // all in one call
		g1.send(1, "first")
		g2.send(1, "first")
		g1.send(2, "not this one!")
		g2.send(2, "second")
		g1.send(3, "nor this")
		g2.send(3, "third")
	})
	g1.wantClosed(t)
	on(t, g1.r, func() {
		if len(g1.ended) != 1 || !errors.Is(g1.ended[0], errBad) || len(g1.completed) != 3 || g1.completed[2] != (completion{3, rdma.StatusFlushed}) {
			t.Errorf("%v", g1)
		}
	})
	h2.want(t, "all of the other's", func() bool { return len(h2.got) == 3 })
	h1.wantClosed(t)
	g2.want(t, "completions", func() bool { return len(g2.completed) == 3 })
}

func TestACardThatTakesFewAtOnceGetsTheRest(t *testing.T) {
	x, c := badRig(t, srq)
	a := &acceptor{}
	h, g := x.connect(a, x.target.listen(a))
	c.few.Store(3)
	on(t, g.r, func() {
		for i := range uint64(10) {
			g.send(i, "m")
		}
	})
	h.want(t, "all", func() bool { return len(h.got) == 10 })
	g.want(t, "completions", func() bool { return len(g.completed) == 10 })
}

func TestACardThatTakesNoReceivesEndsItsQueues(t *testing.T) {
	eachKind(t, func(t *testing.T, o rdmatest.Options) {
		x, c := badRig(t, o)
		a := &acceptor{}
		h, g := x.connect(a, x.target.listen(a))
		c.noRecv.Store(true)
		on(t, h.r, func() { h.send(1, "x") })
		g.wantClosed(t)
		on(t, g.r, func() {
			if len(g.ended) != 1 || !errors.Is(g.ended[0], errBad) && !errors.Is(g.ended[0], rdma.ErrDisconnected) {
				t.Errorf("%v", g)
			}
		})
		h.wantClosed(t)
		c.noRecv.Store(false)
	})
}

func TestACardThatCannotBePolledEndsItsQueues(t *testing.T) {
	for _, movable := range []bool{false, true} {
		x, c := badRig(t, srq)
		cfg := plain
		cfg.Movable = movable
		a := &acceptor{cfg: cfg}
		h, g := x.connect(a, x.target.listen(a))
		c.noPoll.Store(true)
		on(t, h.r, func() { h.send(1, "x") })
		g.want(t, "its end", func() bool { return len(g.ended) == 1 && errors.Is(g.ended[0], errBad) })
		c.noPoll.Store(false)
		g.wantClosed(t)
		h.wantClosed(t)
	}
}

func TestMemoryThatCannotBeRegisteredRefuses(t *testing.T) {
	x, c := badRig(t, srq)
	a := &acceptor{}
	l := x.target.listen(a)
	c.noMemory.Store(true)
	var refused *rdma.Rejected
	if _, _, err := x.host.dial(l, plain); !errors.As(err, &refused) {
		t.Fatal(err)
	}
	c.noMemory.Store(false)
	_, g := x.connect(a, l)
	// A chunk that comes later and cannot be registered is not lent.
	c.noMemory.Store(true)
	on(t, g.r, func() {
		for b := g.r.Memory().Get(reactor.BufferMax); b != nil; b = g.r.Memory().Get(reactor.BufferMax) {
			g.buffers = append(g.buffers, b)
			g.q.SGE(b) // has a key
		}
	})
}

func TestWhatCompletesBeforeACardIsArmedIsFound(t *testing.T) {
	for _, movable := range []bool{false, true} {
		x, c := badRig(t, srq)
		cfg := plain
		cfg.Movable = movable
		a := &acceptor{cfg: cfg}
		h, g := x.connect(a, x.target.listen(a))
		for i := range 10 {
			for !g.r.Asleep() {
				runtime.Gosched()
			}
			// The reactor polled, found nothing, and is about to arm; then this comes, of which the card will not tell.
			var done atomic.Bool
			arrives := func() {
				if done.Swap(true) {
					return
				}
				before := 0
				_ = h.r.Call(func() { before = len(h.completed); h.send(1, "just now") })
				for known := before; known == before; {
					_ = h.r.Call(func() { known = len(h.completed) })
				}
			}
			hook := func() { wait := make(chan struct{}); go func() { arrives(); close(wait) }(); <-wait }
			c.atArm.Store(&hook)
			on(t, h.r, func() { h.send(2, "wakes it") })
			for end := time.Now().Add(20 * time.Second); g.count.Load() < int64(2*i+2); {
				if runtime.Gosched(); time.Now().After(end) { // nobody else may wake the reactor meanwhile
					t.Fatalf("movable %v: what came before it was armed is not found", movable)
				}
			}
			c.atArm.Store(nil)
		}
	}
}
