package bench

import (
	"math/bits"
	"math/rand/v2"

	"github.com/pollux-storage/pollux/bdev"
)

// generator gives the requests of one job, one after another. It depends on the plan, the seed and the job's number alone.
type generator struct {
	rng    rand.PCG
	random bool
	reads  uint64 // percent
	writes uint64 // percent, reads included: what is above it is trimmed
	first  uint64 // place
	places uint64
	next   uint64 // of sequential ones
	zipf   zipf
	step   uint64 // scatters ranks of zipf: rank*step mod places is a permutation
}

func newGenerator(p *plan, job int) generator {
	g := generator{random: p.random, reads: uint64(p.reads), writes: uint64(100 - p.trims)}
	g.rng.Seed(p.Seed, uint64(job))
	g.first, g.places = p.share(job)
	if p.Zipf > 0 {
		g.zipf = newZipf(p.Zipf, g.places)
		g.step = coprime(g.places, p.Seed)
	}
	return g
}

// place gives the next place, counted in requests from the region's beginning.
func (g *generator) place() uint64 {
	switch {
	case !g.random:
		n := g.next
		if g.next++; g.next == g.places {
			g.next = 0
		}
		return g.first + n
	case g.step > 0:
		hi, lo := bits.Mul64(g.zipf.rank(&g.rng), g.step)
		return g.first + bits.Rem64(hi, lo, g.places)
	}
	return g.first + below(&g.rng, g.places)
}

// kind gives the next request's kind.
func (g *generator) kind() bdev.Kind {
	if g.reads == 100 {
		return bdev.Read
	}
	if g.reads == 0 && g.writes == 100 {
		return bdev.Write
	}
	switch x := below(&g.rng, 100); {
	case x < g.reads:
		return bdev.Read
	case x < g.writes:
		return bdev.Write
	}
	return bdev.Unmap
}

// below gives a number from 0 to n-1, each equally often: Lemire, "Fast Random Integer Generation in an Interval", 2019.
func below(rng *rand.PCG, n uint64) uint64 {
	hi, lo := bits.Mul64(rng.Uint64(), n)
	if lo < n {
		for floor := -n % n; lo < floor; {
			hi, lo = bits.Mul64(rng.Uint64(), n)
		}
	}
	return hi
}

// unit gives a number from 0 up to but not including 1, of 53 bits.
func unit(rng *rand.PCG) float64 { return float64(rng.Uint64()>>11) / (1 << 53) }

// coprime gives a number that shares no factor with n, near n's golden section, so that neighbours in rank lie far apart.
func coprime(n, seed uint64) uint64 {
	hi, _ := bits.Mul64(n, 0x9e3779b97f4a7c15)
	for c := hi + seed%max(n/16, 1); ; c++ {
		if c = max(c%n, 1); gcd(c, n) == 1 {
			return c
		}
	}
}

func gcd(a, b uint64) uint64 {
	for b != 0 {
		a, b = b, a%b
	}
	return a
}
