package nvmf

import (
	"math/rand/v2"
	"testing"
)

// rig is reactors whose busy share follows from the queues on them.
type rig struct {
	b      balancer
	demand []int // of each queue, in thousandths of a reactor
	at     []int
	n      int
}

var rigSubsystem = &Subsystem{o: SubsystemOptions{NQN: "nqn.2026-01.io.pollux:rig"}}

func (r *rig) key(i int) queueKey { return queueKey{rigSubsystem, 1, QID(i + 1)} }

func (r *rig) busy() []int {
	busy := make([]int, r.n)
	for i, at := range r.at {
		busy[at] = min(1000, busy[at]+r.demand[i])
	}
	return busy
}

// period lets one pass, and reports whether a queue moved.
func (r *rig) period(t *testing.T) bool {
	t.Helper()
	sum := make([]int, r.n)
	for i, at := range r.at {
		sum[at] += r.demand[i]
	}
	var queues []queueWork
	for i, at := range r.at { // a saturated reactor does what it can of each
		queues = append(queues, queueWork{queue: r.key(i), reactor: at, work: uint64(r.demand[i] * 1000 / max(1000, sum[at]))})
	}
	m, ok := r.b.decide(r.busy(), queues)
	if !ok {
		return false
	}
	i := int(m.queue.qid) - 1
	if r.at[i] != m.from || m.from == m.to {
		t.Fatalf("queue %d is on reactor %d and is to move from %d to %d", i, r.at[i], m.from, m.to)
	}
	r.at[i] = m.to
	return true
}

func newRig(n int, demand, at []int) *rig {
	return &rig{b: balancer{hot: busyHot, cold: busyCold}, n: n, demand: demand, at: at}
}

func (r *rig) moves(t *testing.T, periods int) (n int) {
	t.Helper()
	for range periods {
		if r.period(t) {
			n++
		}
	}
	return n
}

func TestWhatIsMoved(t *testing.T) {
	for _, c := range []struct {
		why    string
		demand []int
		at     []int
		moves  int
		after  []int // nil: as before
	}{
		{"two on one reactor, none on the other", []int{900, 900}, []int{0, 0}, 1, []int{1, 0}},
		{"one alone takes the heat along", []int{1000}, []int{0}, 0, nil},
		{"a large and a small one: the small one goes", []int{850, 140}, []int{0, 0}, 1, []int{0, 1}},
		{"what is too small to help stays", []int{950, 10}, []int{0, 0}, 0, nil},
		{"none is hot", []int{400, 400}, []int{0, 0}, 0, nil},
		{"none is cold", []int{500, 500, 600}, []int{0, 0, 1}, 0, nil},
		{"four that saturate one", []int{450, 450, 450, 450}, []int{0, 0, 0, 0}, 2, []int{1, 1, 0, 0}},
	} {
		r := newRig(2, c.demand, append([]int(nil), c.at...))
		if n := r.moves(t, 100); n != c.moves {
			t.Errorf("%s: %d moves, want %d", c.why, n, c.moves)
		}
		want := c.after
		if want == nil {
			want = c.at
		}
		for i := range want {
			if r.at[i] != want[i] {
				t.Errorf("%s: queues on reactors %v, want %v", c.why, r.at, want)
				break
			}
		}
	}
}

// A reactor that its only queue saturates does not stand in the way of another that can be relieved.
func TestOneThatCannotBeRelievedHidesNoOther(t *testing.T) {
	r := newRig(3, []int{2000, 600, 600, 600}, []int{0, 1, 1, 1})
	if n := r.moves(t, 100); n != 1 || r.at[0] != 0 {
		t.Errorf("%d moves, queues on reactors %v; want one from reactor 1 to 2", n, r.at)
	}
}

// A reactor that is hot for a moment, or by turns with another, gives nothing away.
func TestUnevennessHasToLast(t *testing.T) {
	r := newRig(2, []int{500, 500}, []int{0, 0})
	for i := range 100 {
		if i%balanceStreak == balanceStreak-1 {
			r.demand[0], r.demand[1] = 100, 100
		} else {
			r.demand[0], r.demand[1] = 500, 500
		}
		if r.period(t) {
			t.Fatalf("a queue moved in period %d", i)
		}
	}
	r = newRig(2, []int{500, 500, 0, 0}, []int{0, 0, 1, 1})
	for i := range 100 {
		r.demand[0], r.demand[1], r.demand[2], r.demand[3] = 500*(i&1), 500*(i&1), 500-500*(i&1), 500-500*(i&1)
		if r.period(t) {
			t.Fatalf("a queue moved in period %d, though each reactor is hot by turns", i)
		}
	}
}

// Whatever the demands, moves come to an end, and each leaves the busiest of the two reactors the less busy or as saturated as it was.
func TestQueuesDoNotGoToAndFro(t *testing.T) {
	for seed := range uint64(500) {
		rnd := rand.New(rand.NewPCG(seed, 3))
		n, queues := 2+rnd.IntN(4), 1+rnd.IntN(16)
		r := newRig(n, make([]int, queues), make([]int, queues))
		for i := range queues {
			r.demand[i], r.at[i] = rnd.IntN(1200), rnd.IntN(n)
		}
		r.moves(t, 400)
		if late := r.moves(t, 400); late > 0 {
			t.Fatalf("seed %d: %d moves after 400 periods of the same load: %v on %v", seed, late, r.demand, r.at)
		}
	}
}

// A queue that could not be moved is left alone for a time, and another one is tried.
func TestAQueueThatCannotMoveIsLeftAlone(t *testing.T) {
	r := newRig(2, []int{600, 500}, []int{0, 0})
	tried := map[QID]int{}
	for range 60 {
		queues := []queueWork{{queue: r.key(0), work: 600}, {queue: r.key(1), work: 500}}
		if m, ok := r.b.decide([]int{1000, 0}, queues); ok {
			tried[m.queue.qid]++
			r.b.failed(m.queue)
		}
	}
	if tried[1] == 0 || tried[2] == 0 || tried[1]+tried[2] > 5 {
		t.Errorf("moves tried, by queue: %v", tried)
	}
}
