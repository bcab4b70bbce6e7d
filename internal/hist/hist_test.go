package hist

import (
	"math"
	"math/rand/v2"
	"sort"
	"testing"
)

func TestIndexAgreesWithTheLogarithm(t *testing.T) {
	var upper [buckets]float64
	for i := range upper {
		upper[i] = Border(i)
	}
	slow := func(v uint64) int {
		for i := 0; ; i++ {
			if float64(v) <= upper[i] || i == buckets-1 {
				return i
			}
		}
	}
	r := rand.New(rand.NewPCG(1, 2))
	for i := range 200_000 {
		v := r.Uint64() >> r.IntN(63)
		if i < 5000 {
			v = uint64(i)
		}
		if got, want := Index(v), slow(min(v, 1<<50)); got != want && float64(v) != Border(got) {
			t.Fatalf("Index(%d) = %d, want %d", v, got, want)
		}
	}
}

func TestQuantilesAreWithinFivePercent(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 4))
	var h Histogram
	var all []float64
	for range 100_000 {
		v := uint64(math.Exp(r.NormFloat64()*2 + 10))
		h.Record(v)
		all = append(all, float64(v))
	}
	sort.Float64s(all)
	for _, q := range []float64{0.01, 0.5, 0.9, 0.99, 0.999} {
		want := all[int(q*float64(len(all)))]
		if got := h.Quantile(q); math.Abs(got-want)/want > 0.05 {
			t.Errorf("quantile %v = %v, want about %v", q, got, want)
		}
	}
	var twice Histogram
	twice.Add(&h)
	twice.Add(&h)
	twice.Sub(&h)
	if twice != h {
		t.Error("adding twice and subtracting once does not give the same")
	}
}

func TestRecordAllocatesNothing(t *testing.T) {
	var h Histogram
	if n := testing.AllocsPerRun(100, func() { h.Record(12345) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func BenchmarkRecord(b *testing.B) {
	var h Histogram
	for i := range b.N {
		h.Record(uint64(i))
	}
}
