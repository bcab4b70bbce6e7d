package bench

import (
	"math/rand/v2"
	"testing"
)

// slowWrite is one write as the ledger's twin keeps it: when it was submitted and when it completed.
type slowWrite struct {
	gen        uint32
	begin, end int // steps; end 0 is in flight
	ok, trim   bool
	vs         []view
}

// slowLedger is the definition: a write may be seen by a read from begin to end unless another, submitted after it had
// completed, completed well before the read began.
type slowLedger []*slowWrite

func (l slowLedger) visible(gen uint32, readBegin int) bool {
	var w *slowWrite
	for _, x := range l {
		if x.gen == gen {
			w = x
		}
	}
	if w == nil {
		return false
	}
	if w.begin > readBegin || w.end == 0 || w.end > readBegin {
		return true
	}
	for _, later := range l {
		if later.ok && later.end != 0 && later.end < readBegin && later.begin > w.end {
			return false
		}
	}
	return true
}

func TestLedgerAllowsWhatItsTwinAllows(t *testing.T) {
	for seed := range uint64(300) {
		rng := rand.New(rand.NewPCG(seed, 1))
		l := ledger{first: 5, entries: fresh(1)}
		all := slowLedger{{gen: 0, begin: -2, end: -1, ok: true}}
		var flying []*slowWrite
		type read struct {
			v     []view
			begin int
		}
		var reads []read
		for step := 1; step < 120; step++ {
			switch x := rng.IntN(10); {
			case x < 4 && len(flying) < 6:
				if !l.admit(5, 1) {
					t.Fatalf("seed %d step %d: a write is held with %d in flight", seed, step, len(flying))
				}
				w := &slowWrite{gen: uint32(len(all)), begin: step, trim: rng.IntN(4) == 0, vs: make([]view, 1)}
				l.submit(5, w.vs, w.trim)
				all, flying = append(all, w), append(flying, w)
			case x < 8 && len(flying) > 0:
				i := rng.IntN(len(flying))
				w := flying[i]
				flying = append(flying[:i], flying[i+1:]...)
				w.end, w.ok = step, rng.IntN(8) > 0
				l.complete(5, w.vs, w.ok)
			case x == 8:
				v := make([]view, 1)
				l.look(5, v)
				reads = append(reads, read{v, step})
			}
			e := &l.entries[0]
			for _, r := range reads {
				trims := false
				for _, w := range all {
					want := all.visible(w.gen, r.begin)
					got := r.v[0].allows(w.gen) || w.gen > r.v[0].newest && w.gen <= e.newest
					if got != want {
						t.Fatalf("seed %d step %d: a read since step %d, generation %d of %d: allowed %v, want %v", seed, step, r.begin, w.gen, e.newest, got, want)
					}
					trims = trims || want && w.trim
				}
				if got := e.mayBeTrimmed(&r.v[0]); got != trims && e.newest-r.v[0].newest < maskBits {
					t.Fatalf("seed %d step %d: a read since step %d: zeros allowed %v, want %v", seed, step, r.begin, got, trims)
				}
			}
		}
	}
}

func TestLedgerHoldsAWriteThatWouldPushOneOut(t *testing.T) {
	l := ledger{entries: fresh(2)}
	vs := make([]view, maskBits)
	for i := range vs[:maskBits-1] {
		if !l.admit(0, 1) {
			t.Fatalf("write %d is held", i)
		}
		l.submit(0, vs[i:i+1], false)
	}
	if l.admit(0, 1) {
		t.Fatal("with the oldest generation about to fall out, a write is admitted")
	}
	if l.admit(0, 2) || !l.admit(1, 1) {
		t.Error("a request is held for the block that is full, and for no other")
	}
	for i := range vs[:maskBits-1] {
		l.complete(0, vs[i:i+1], true)
	}
	if !l.admit(0, 1) {
		t.Error("all completed, and yet a write is held")
	}
	if e := l.entries[0]; e.written() != true || e.flying != 0 {
		t.Errorf("afterwards the line is %+v", e)
	}
}
