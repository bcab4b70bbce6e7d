package sim

import (
	"fmt"
	"hash/fnv"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"testing"
	"time"
)

// SeedVariable is the variable in the environment that replays one seed; FreshVariable asks for so many new ones besides the fixed.
const (
	SeedVariable  = "POLLUX_SIM_SEED"
	FreshVariable = "POLLUX_SIM_FRESH"
)

// Stream gives the random numbers of one purpose. Streams of different names do not depend on each other, so that who draws more from
// one does not change the others.
func Stream(seed uint64, name string) *rand.Rand {
	h := fnv.New64a()
	_, _ = h.Write([]byte(name))
	return rand.New(rand.NewPCG(seed, h.Sum64()))
}

// Each runs f as a subtest for each seed: 1 to fixed, those in more (seeds that once failed), and as many new ones as the environment
// asks for. Where the environment names a seed it is that alone.
//
// Under the race detector it is seed 1 alone: all reactors of a simulation run on one goroutine, and it takes ten times as long. What
// CI runs is both.
func Each(t *testing.T, fixed int, more []uint64, f func(t *testing.T, seed uint64)) {
	t.Helper()
	if Raced && os.Getenv(SeedVariable) == "" {
		t.Run("seed=1", func(t *testing.T) { f(t, 1) })
		return
	}
	for _, seed := range seeds(t, fixed, more, os.Getenv, uint64(time.Now().UnixNano())) {
		t.Run(fmt.Sprintf("seed=%d", seed), func(t *testing.T) { f(t, seed) })
	}
}

func seeds(t testing.TB, fixed int, more []uint64, env func(string) string, fresh uint64) []uint64 {
	t.Helper()
	number := func(name string) (uint64, bool) {
		text := env(name)
		if text == "" {
			return 0, false
		}
		n, err := strconv.ParseUint(text, 10, 64)
		if err != nil {
			t.Fatalf("reading %s=%q: %v; set it to a number or not at all", name, text, err)
		}
		return n, true
	}
	if one, ok := number(SeedVariable); ok {
		return []uint64{one}
	}
	var all []uint64
	for i := range fixed {
		all = append(all, uint64(i)+1)
	}
	all = append(all, more...)
	n, _ := number(FreshVariable)
	for r := rand.New(rand.NewPCG(fresh, 0)); n > 0; n-- {
		all = append(all, r.Uint64())
	}
	return all
}

// Replay is the command that repeats a test with a seed.
func Replay(t testing.TB, seed uint64) string {
	dir := "."
	if wd, err := os.Getwd(); err == nil { // a test runs in its package's folder
		for up := wd; up != filepath.Dir(up); up = filepath.Dir(up) {
			if _, err := os.Stat(filepath.Join(up, "go.mod")); err == nil {
				if rel, err := filepath.Rel(up, wd); err == nil {
					dir = "./" + filepath.ToSlash(rel)
				}
				break
			}
		}
	}
	return fmt.Sprintf("%s=%d go test -count=1 -run '%s' %s", SeedVariable, seed, runPattern(t.Name()), dir)
}

// runPattern makes the argument of -run that matches one test.
func runPattern(name string) string {
	out := []byte("^")
	for i := 0; i < len(name); i++ {
		switch c := name[i]; c {
		case '/':
			out = append(out, "$/^"...)
		case '.', '+', '*', '?', '(', ')', '[', ']', '{', '}', '|', '^', '$', '\\':
			out = append(out, '\\', c)
		case '\'':
			out = append(out, '.')
		default:
			out = append(out, c)
		}
	}
	return string(append(out, '$'))
}

// Rounds is how often a test does something that it should do n times: a tenth of it where the race detector looks on, which makes a simulation ten
// times slower, and which sees in a few rounds what there is to be seen. All of them are gone through without it.
func Rounds(n int) int {
	if Raced {
		return (n + 9) / 10
	}
	return n
}
