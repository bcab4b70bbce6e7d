package bench

import (
	"fmt"
	"math"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/pollux-storage/pollux/bdev"
)

func testPlan(t *testing.T, w Workload, blocks uint64) *plan {
	t.Helper()
	g := bdev.Geometry{BlockSize: 4096, Blocks: blocks, MaxBlocks: 256, UnmapZeroes: true}
	p, err := w.fit(&g, func(bdev.Kind) bool { return true })
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func TestGoldenSequences(t *testing.T) {
	base := Workload{BlockBytes: 8192, Depth: 1, Jobs: 1, Seed: 7}
	for _, c := range []struct {
		name string
		job  int
		set  func(w *Workload)
		want string
	}{
		{"sequential wraps", 0, func(w *Workload) { w.RW, w.Size = "write", 5*8192 }, "w0 w1 w2 w3 w4 w0 w1 w2 w3 w4 w0 w1"},
		{"sequential, second of two jobs has the second half", 1, func(w *Workload) { w.RW, w.Size, w.Jobs = "read", 8*8192, 2 },
			"r4 r5 r6 r7 r4 r5 r6 r7 r4 r5 r6 r7"},
		{"random", 0, func(w *Workload) { w.RW, w.Size = "randread", 1000*8192 }, "r269 r299 r115 r167 r865 r794 r997 r534 r613 r454 r942 r215"},
		{"random, another job has another sequence", 1, func(w *Workload) { w.RW, w.Size, w.Jobs = "randread", 1000*8192, 2 },
			"r617 r802 r40 r276 r480 r241 r229 r452 r202 r99 r178 r438"},
		{"random, mixed with trims", 0, func(w *Workload) { w.RW, w.Size, w.ReadPercent, w.TrimPercent = "randrw", 1000*8192, 50, 25 },
			"r299 r167 u794 u534 w454 u215 r662 w360 r715 r798 r887 r775"},
		{"zipf", 0, func(w *Workload) { w.RW, w.Size, w.Zipf = "randwrite", 1000*8192, 1.1 }, "w517 w485 w592 w233 w0 w627 w0 w16 w508 w32 w0 w105"},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := base
			c.set(&w)
			g := newGenerator(testPlan(t, w, 1<<20), c.job)
			var got []string
			for range 12 {
				k := g.kind()
				got = append(got, fmt.Sprintf("%c%d", "rw?u"[k], g.place()))
			}
			if s := strings.Join(got, " "); s != c.want {
				t.Errorf("the sequence has changed, and with it every figure made by its seed:\n got %s\nwant %s", s, c.want)
			}
		})
	}
}

// chiSquare gives the statistic of counts against expected numbers, pooled so that each class expects at least 20, and the
// number of classes.
func chiSquare(counts []int, expect []float64) (x float64, classes int) {
	n, e := 0.0, 0.0
	for i := range counts {
		n += float64(counts[i])
		e += expect[i]
		if e >= 20 || i == len(counts)-1 {
			x += (n - e) * (n - e) / e
			classes++
			n, e = 0, 0
		}
	}
	return x, classes
}

// tooFar is the statistic's limit for a probability of about one in 10^5, by Wilson and Hilferty's approximation.
func tooFar(classes int) float64 {
	k := float64(classes - 1)
	return k * math.Pow(1-2/(9*k)+4.3*math.Sqrt(2/(9*k)), 3)
}

func TestUniformPlacesAreUniform(t *testing.T) {
	g := newGenerator(testPlan(t, Workload{RW: "randread", BlockBytes: 4096, Depth: 1, Jobs: 1, Seed: 1}, 1000), 0)
	const draws = 200000
	counts, expect := make([]int, 1000), make([]float64, 1000)
	for range draws {
		counts[g.place()]++
	}
	for i := range expect {
		expect[i] = draws / 1000.0
	}
	if x, n := chiSquare(counts, expect); x > tooFar(n) {
		t.Errorf("chi-square %.0f over %d classes: more than %.0f", x, n, tooFar(n))
	}
}

func TestZipfDrawsItsDistribution(t *testing.T) {
	for _, theta := range []float64{0.5, 0.99, 1, 1.2, 2.5} {
		for _, n := range []uint64{1, 2, 10, 5000} {
			t.Run(fmt.Sprint(theta, " of ", n), func(t *testing.T) {
				z := newZipf(theta, n)
				var rng rand.PCG
				rng.Seed(3, 4)
				const draws = 200000
				counts, expect := make([]int, n), make([]float64, n)
				for range draws {
					counts[z.rank(&rng)]++
				}
				sum := 0.0
				for i := range expect {
					expect[i] = math.Pow(float64(i+1), -theta)
					sum += expect[i]
				}
				for i := range expect {
					expect[i] *= draws / sum
				}
				if x, n := chiSquare(counts, expect); n > 1 && x > tooFar(n) {
					t.Errorf("chi-square %.0f over %d classes: more than %.0f", x, n, tooFar(n))
				}
			})
		}
	}
}

func TestZipfReachesEveryPlaceAndScattersTheHotOnes(t *testing.T) {
	for _, places := range []uint64{1, 2, 3, 64, 1000, 4096} {
		step := coprime(places, 9)
		seen := make(map[uint64]bool)
		for r := range places {
			seen[r*step%places] = true
		}
		if uint64(len(seen)) != places {
			t.Errorf("%d ranks of %d places fall on %d", places, places, len(seen))
		}
	}
	if step := coprime(1<<20, 1); step < 1<<17 {
		t.Errorf("neighbours in rank lie %d places apart of 2^20", step)
	}
}

func TestMixIsAsAsked(t *testing.T) {
	g := newGenerator(testPlan(t, Workload{RW: "randrw", ReadPercent: 70, TrimPercent: 10, BlockBytes: 4096, Depth: 1, Jobs: 1}, 64), 0)
	var n [bdev.Kinds]float64
	const draws = 100000
	for range draws {
		n[g.kind()]++
	}
	for k, want := range map[bdev.Kind]float64{bdev.Read: 0.7, bdev.Write: 0.2, bdev.Unmap: 0.1} {
		if got := n[k] / draws; math.Abs(got-want) > 0.01 {
			t.Errorf("%v: share %.3f, want %.3f", k, got, want)
		}
	}
}
