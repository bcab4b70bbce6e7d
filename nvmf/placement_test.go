package nvmf

import (
	"math/rand/v2"
	"slices"
	"testing"
)

func TestPlace(t *testing.T) {
	for _, c := range []struct {
		why   string
		loads []reactorLoad
		turn  int
		want  int
	}{
		{"one reactor", make([]reactorLoad, 1), 7, 0},
		{"all alike: the turn decides", make([]reactorLoad, 3), 4, 1},
		{"a hot one gets none", []reactorLoad{{busy: 850}, {busy: 840}}, 0, 1},
		{"a hot one gets none, though the host has all its queues elsewhere", []reactorLoad{{busy: 900}, {busy: 100, own: 8, queues: 8, sample: 8}}, 0, 1},
		{"all are hot: the host's queues spread", []reactorLoad{{busy: 950, own: 1, queues: 1, sample: 1}, {busy: 1000}}, 0, 1},
		{"the host's queues spread, though one is busier", []reactorLoad{{busy: 0, own: 1, queues: 1, sample: 1}, {busy: 700}}, 0, 1},
		{"of those where the host has as many, the one that is markedly less busy", []reactorLoad{{busy: 700}, {busy: 300}}, 0, 1},
		{"the core that receives goes before load", []reactorLoad{{busy: 0, far: 1}, {busy: 800}}, 0, 1},
		{"but a hot one gets none", []reactorLoad{{busy: 0, far: 1}, {busy: 900}}, 0, 0},
		{"and the host's queues spread", []reactorLoad{{far: 1}, {own: 1, queues: 1, sample: 1}}, 1, 0},
		{"a slight difference is none", []reactorLoad{{busy: 140}, {busy: 100}}, 0, 0},
		{"then the one with fewer queues", []reactorLoad{{queues: 3, sample: 3}, {queues: 2, sample: 2}}, 0, 1},
		{"what came since the last look is expected to be as busy", []reactorLoad{{busy: 800, sample: 4, queues: 4}, {busy: 0, sample: 0, queues: 5}}, 1, 0},
	} {
		if got := place(c.loads, c.turn); got != c.want {
			t.Errorf("%s: reactor %d, want %d", c.why, got, c.want)
		}
	}
}

// On reactors that are equally busy the queues of each controller, and all queues, stay within one of each other, whoever leaves.
func TestPlacedQueuesSpread(t *testing.T) {
	for seed := range uint64(200) {
		rnd := rand.New(rand.NewPCG(seed, 1))
		n := 1 + rnd.IntN(8)
		total := make([]int, n)
		for id := range 1 + rnd.IntN(10) {
			loads := make([]reactorLoad, n)
			for qid := range 1 + rnd.IntN(20) {
				for i := range loads {
					loads[i].queues, loads[i].sample = total[i], total[i]
				}
				at := place(loads, id+qid)
				loads[at].own++
				total[at]++
				own := make([]int, n)
				for i := range loads {
					own[i] = loads[i].own
				}
				for _, counts := range [][]int{own, total} {
					if slices.Max(counts)-slices.Min(counts) > 1 {
						t.Fatalf("seed %d: queues on the reactors: %v", seed, counts)
					}
				}
			}
		}
	}
}

// Whatever the loads, none goes to a hot reactor while there is one that is not; and of two reactors that are not, the queues of a
// controller are never all on one.
func TestHotReactorsGetNone(t *testing.T) {
	for seed := range uint64(2000) {
		rnd := rand.New(rand.NewPCG(seed, 2))
		n := 2 + rnd.IntN(6)
		loads := make([]reactorLoad, n)
		cool := 0
		for i := range loads {
			loads[i].busy = rnd.IntN(1001)
			loads[i].sample = rnd.IntN(4)
			loads[i].queues = loads[i].sample
			if loads[i].busy < busyHot {
				cool++
			}
		}
		at := place(loads, rnd.IntN(100))
		if cool > 0 && loads[at].busy >= busyHot {
			t.Fatalf("seed %d: %+v: reactor %d", seed, loads, at)
		}
		loads[at].own, loads[at].queues, loads[at].sample = 1, loads[at].queues+1, loads[at].sample+1
		if next := place(loads, rnd.IntN(100)); cool > 1 && next == at {
			t.Fatalf("seed %d: %+v: both queues on reactor %d", seed, loads, at)
		}
	}
}
