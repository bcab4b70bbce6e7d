package bench

import (
	"math"
	"math/rand/v2"
)

// zipf draws ranks 0 … n-1 of which rank k comes with a probability in proportion to 1/(k+1)^theta, for any theta above 0, by
// rejection-inversion (Hörmann and Derflinger, "Rejection-inversion to generate variates from monotone discrete
// distributions", ACM TOMACS 6, 1996). Nothing is tabled: setting it up costs the same for any n, where the usual way adds up
// n powers first.
//
// H is the integral of the density x^-theta from 1, with H(1) = 0.
type zipf struct {
	theta float64
	n     float64
	low   float64 // H(1.5) - 1: the first rank's column is cut to its height
	high  float64 // H(n + 1/2)
	near  float64 // below this distance under the column's border nothing needs to be rejected
}

func newZipf(theta float64, n uint64) zipf {
	z := zipf{theta: theta, n: float64(n)}
	z.low = z.integral(1.5) - 1
	z.high = z.integral(z.n + 0.5)
	z.near = 2 - z.inverse(z.integral(2.5)-z.density(2))
	return z
}

func (z *zipf) rank(rng *rand.PCG) uint64 {
	for {
		u := z.high + unit(rng)*(z.low-z.high)
		x := z.inverse(u)
		k := min(max(math.Floor(x+0.5), 1), z.n)
		if k-x <= z.near || u >= z.integral(k+0.5)-z.density(k) {
			return uint64(k) - 1
		}
	}
}

func (z *zipf) density(x float64) float64 { return math.Exp(-z.theta * math.Log(x)) }

// integral is (x^(1-theta) - 1) / (1-theta), and log x at theta 1; written so that it is exact near 1 too.
func (z *zipf) integral(x float64) float64 {
	l := math.Log(x)
	if t := (1 - z.theta) * l; math.Abs(t) > 1e-8 {
		return l * math.Expm1(t) / t
	}
	return l
}

func (z *zipf) inverse(x float64) float64 {
	t := max(x*(1-z.theta), -1)
	if math.Abs(t) > 1e-8 {
		return math.Exp(x * math.Log1p(t) / t)
	}
	return math.Exp(x)
}
