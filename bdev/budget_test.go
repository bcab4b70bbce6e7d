package bdev

import (
	"fmt"
	"math"
	"math/rand/v2"
	"testing"

	"pgregory.net/rapid"

	"github.com/pollux-storage/pollux/reactor"
)

// spender is a reactor in a simulation: it has depth requests of one cost to do at once, again and again, each taking no time
// but that for tokens, and a message to the treasurer or back takes it about as long as hop.
type spender struct {
	purse
	cost  tokens
	depth int
	hop   reactor.Ticks
	from  reactor.Ticks // idle before

	asks  reactor.Ticks // a message arrives at the treasurer then; 0 none
	gets  reactor.Ticks // or here
	got   tokens
	spent tokens
}

// market is the simulation.
type market struct {
	pot
	all    []*spender
	now    reactor.Ticks
	random *rand.Rand
}

func (m *market) hop(s *spender) reactor.Ticks {
	return m.now + 1 + reactor.Ticks(m.random.Int64N(int64(2*s.hop+1)))
}

func (m *market) gave(i int, got *tokens) {
	m.all[i].got, m.all[i].gets = *got, m.hop(m.all[i])
}

// run lets the market go on until end.
func (m *market) run(end reactor.Ticks) {
	const tick = 20 * reactor.Microsecond
	turn := m.now
	for ; m.now < end; m.now += tick {
		for i, s := range m.all {
			if s.asks > 0 && s.asks <= m.now {
				w := s.waitingFor()
				s.asks = 0
				m.ask(i, &w, m.now)
				m.give(m.now, m)
			}
			if s.gets > 0 && s.gets <= m.now {
				s.gets = 0
				s.add(&s.got, m.now)
				s.got = tokens{-1}
			}
			if m.now < s.from {
				continue
			}
			s.expire(m.now)
			n := 0
			for ; n < s.depth && s.admits(&s.cost); n++ {
				s.pay(&s.cost)
				for d, c := range s.cost {
					s.spent[d] += c
				}
			}
			if s.low() && s.asks == 0 && s.gets == 0 && !m.accounts[i].waits {
				s.asks = m.hop(s)
			}
		}
		if m.now-turn >= turnSpan {
			turn = m.now
			m.give(m.now, m)
		}
	}
}

func (s *spender) waitingFor() tokens {
	var much tokens
	for d, c := range s.cost {
		much[d] = float64(s.depth) * c
	}
	return s.want(&much)
}

func newMarket(l Limits, all ...*spender) *market {
	m := &market{pot: pot{rates: l.rates(), accounts: make([]account, len(all))}, all: all, random: rand.New(rand.NewPCG(3, 9))}
	for _, s := range all {
		s.rates = l.rates()
	}
	return m
}

var (
	read4k  = tokens{1, 4096, 4096, 0}
	write4k = tokens{1, 4096, 0, 4096}
	read128 = tokens{1, 128 << 10, 128 << 10, 0}
)

const ms = reactor.Millisecond

func TestTheRateIsKeptAndSharedEqually(t *testing.T) {
	us := reactor.Microsecond
	for _, c := range []struct {
		name   string
		limits Limits
		all    []*spender
		dim    int
		want   float64
	}{
		{"requests, one reactor", Limits{IOs: 10_000}, []*spender{{cost: read4k, depth: 8}}, tokenIO, 10_000},
		{"requests, few", Limits{IOs: 150}, []*spender{{cost: read4k, depth: 8}, {cost: read4k, depth: 8, hop: 50 * us}}, tokenIO, 150},
		{"requests, four reactors", Limits{IOs: 50_000}, []*spender{{cost: read4k, depth: 8}, {cost: write4k, depth: 32, hop: 10 * us}, {cost: read4k, depth: 128, hop: us}, {cost: write4k, depth: 32, hop: 100 * us}}, tokenIO, 50_000},
		{"one of them far away", Limits{IOs: 20_000}, []*spender{{cost: read4k, depth: 32}, {cost: read4k, depth: 128, hop: 3 * ms}}, tokenIO, 20_000},
		{"bytes, requests of different sizes", Limits{Bytes: 100 << 20}, []*spender{{cost: read4k, depth: 32}, {cost: read128, depth: 8, hop: 20 * us}}, tokenBytes, 100 << 20},
		{"bytes read", Limits{ReadBytes: 40 << 20}, []*spender{{cost: read4k, depth: 4}, {cost: read4k, depth: 32}}, tokenReadBytes, 40 << 20},
		{"the tighter of two limits", Limits{IOs: 1000, Bytes: 1 << 30}, []*spender{{cost: read4k, depth: 8}, {cost: read128, depth: 8}}, tokenIO, 1000},
	} {
		t.Run(c.name, func(t *testing.T) {
			m := newMarket(c.limits, c.all...)
			for second := range 3 {
				for _, s := range m.all {
					s.spent = tokens{}
				}
				m.run(reactor.Ticks(second+1) * reactor.Second)
				sum, most := 0.0, 0.0
				for _, s := range m.all {
					sum += s.spent[c.dim]
					most = max(most, s.cost[c.dim])
				}
				if math.Abs(sum-c.want) > 0.05*c.want+most {
					t.Errorf("second %d: %v, want %v", second, sum, c.want)
				}
				for i, s := range m.all {
					each := c.want / float64(len(m.all))
					if math.Abs(s.spent[c.dim]-each) > 0.05*each+2*s.cost[c.dim] {
						t.Errorf("second %d: reactor %d had %v, an equal share is %v", second, i, s.spent[c.dim], each)
					}
				}
			}
		})
	}
}

func TestWhatOneDoesNotUseTheOthersMay(t *testing.T) {
	// The second cannot do more than a hundred in its 10 ms there and back; it must not cost the first its speed.
	far := &spender{cost: read4k, depth: 10, hop: 5 * ms}
	m := newMarket(Limits{IOs: 20_000}, &spender{cost: read4k, depth: 64}, far)
	m.run(2 * reactor.Second)
	sum := m.all[0].spent[tokenIO] + far.spent[tokenIO]
	if sum < 0.95*40_000 || sum > 1.05*40_000 {
		t.Errorf("%v in two seconds, want 40,000", sum)
	}
}

func TestIdleTimeIsNotSavedUp(t *testing.T) {
	s := &spender{cost: read4k, depth: 1000, from: 10 * reactor.Second}
	m := newMarket(Limits{IOs: 1000}, s)
	s.have = tokens{tokenIO: 500} // from before
	m.run(11 * reactor.Second)
	if s.spent[tokenIO] > 1050 {
		t.Errorf("%v requests in the first second after ten idle ones, the limit is 1000", s.spent[tokenIO])
	}
}

func TestALimitIsKeptBesideOneThatComesAndGoes(t *testing.T) {
	late := &spender{cost: read4k, depth: 32, from: 1500 * ms, hop: 30 * reactor.Microsecond}
	m := newMarket(Limits{IOs: 10_000}, &spender{cost: read4k, depth: 32}, late)
	m.run(3 * reactor.Second)
	if sum := m.all[0].spent[tokenIO] + late.spent[tokenIO]; sum < 0.95*30_000 || sum > 1.05*30_000 {
		t.Errorf("%v in three seconds, want 30,000", sum)
	}
	if n := late.spent[tokenIO]; n < 0.9*7500 || n > 1.1*7500 {
		t.Errorf("the late one had %v in the last half of them, an equal share is 7,500", n)
	}
}

func TestWhoIsUnlimitedIsNotHeldBack(t *testing.T) {
	p := purse{rates: Limits{WriteBytes: 1 << 20}.rates()}
	if !p.admits(&read4k) {
		t.Error("a read waits for bytes of writes")
	}
	if p.admits(&write4k) {
		t.Error("a write goes without a token")
	}
}

// given collects what give gives.
type given map[int]tokens

func (g given) gave(i int, got *tokens) { g[i] = *got }

func TestGiveGivesWhatIsThereAndNoMore(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		p := pot{rates: rates{1e-3, 1e-3, 0, 1e-3}, accounts: make([]account, rapid.IntRange(1, 5).Draw(t, "payers"))}
		var made, spent tokens
		now := reactor.Ticks(0)
		for range rapid.IntRange(1, 30).Draw(t, "turns") {
			now += reactor.Ticks(rapid.IntRange(0, 3_000_000).Draw(t, "time"))
			i := rapid.IntRange(0, len(p.accounts)-1).Draw(t, "payer")
			var want tokens
			for d := range want {
				want[d] = float64(rapid.IntRange(0, 4000).Draw(t, "want"))
			}
			p.ask(i, &want, now)
			g := given{}
			p.give(now, g)
			for k, got := range g {
				for d := range got {
					if got[d] < 0 || got[d] > p.accounts[k].want[d]+1e-6 || !p.rates.limited(d) && got[d] != 0 {
						t.Fatalf("payer %d wanted %v and got %v", k, p.accounts[k].want, got)
					}
					spent[d] += got[d]
				}
			}
			for d := range made {
				made[d] = p.rates.worth(d, now)
				if spent[d] > made[d]+1e-6 {
					t.Fatalf("limit %d: %v given of %v made", d, spent[d], made[d])
				}
			}
			for k := range p.accounts { // who still waits leaves nothing behind that it could have had
				for d := range p.chest {
					if a := &p.accounts[k]; a.waits && a.want[d] > 0 && p.rates.limited(d) && p.chest[d]+a.have[d] > 1e-6 {
						t.Fatalf("limit %d: payer %d waits beside %v", d, k, p.chest[d]+a.have[d])
					}
				}
			}
		}
	})
}

func BenchmarkGive(b *testing.B) {
	for _, n := range []int{1, 8} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			p := pot{rates: rates{1e-3, 1e-3, 1e-3, 1e-3}, accounts: make([]account, n)}
			want := tokens{1, 1, 1, 1}
			g := given{}
			for i := range b.N {
				now := reactor.Ticks(i) * 1000
				p.ask(i%n, &want, now)
				p.give(now, g)
			}
		})
	}
}
