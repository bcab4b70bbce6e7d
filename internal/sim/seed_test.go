package sim

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
)

func TestSeedsAreThoseAskedFor(t *testing.T) {
	for _, c := range []struct {
		name, seed, fresh string
		want              []uint64
	}{
		{"fixed and known ones", "", "", []uint64{1, 2, 77}},
		{"one to replay", "18446744073709551615", "5", []uint64{18446744073709551615}},
	} {
		env := map[string]string{SeedVariable: c.seed, FreshVariable: c.fresh}
		if got := seeds(t, 2, []uint64{77}, func(s string) string { return env[s] }, 1); !slices.Equal(got, c.want) {
			t.Errorf("%s: %v, want %v", c.name, got, c.want)
		}
	}
	fresh := func(s string) string { return map[string]string{FreshVariable: "3"}[s] }
	a, b := seeds(t, 1, nil, fresh, 1), seeds(t, 1, nil, fresh, 2)
	if len(a) != 4 || len(b) != 4 || a[0] != 1 || a[1] == b[1] || a[1] == a[2] {
		t.Errorf("fresh ones: %v and %v", a, b)
	}
}

func TestReplayNamesTheTest(t *testing.T) {
	t.Run("a case (of two)/seed=5", func(t *testing.T) {
		want := `POLLUX_SIM_SEED=5 go test -count=1 -run '^TestReplayNamesTheTest$/^a_case_\(of_two\)$/^seed=5$' ./internal/sim`
		if got := Replay(t, 5); got != want {
			t.Errorf("%s\nwant %s", got, want)
		}
	})
}

func TestEachRunsEverySeed(t *testing.T) {
	var got []uint64
	Each(t, 2, []uint64{9}, func(t *testing.T, seed uint64) {
		if !strings.HasSuffix(t.Name(), fmt.Sprintf("/seed=%d", seed)) {
			t.Errorf("the test of seed %d is called %s", seed, t.Name())
		}
		got = append(got, seed)
	})
	want := []uint64{1, 2, 9}
	if Raced {
		want = want[:1]
	}
	if os.Getenv(SeedVariable) == "" && !slices.Equal(got[:min(len(got), len(want))], want) {
		t.Errorf("%v", got)
	}
}

func TestStreamsOfOneSeedAreIndependent(t *testing.T) {
	a, b, c, d := Stream(1, "a"), Stream(1, "b"), Stream(2, "a"), Stream(1, "a")
	x := a.Uint64()
	if x == b.Uint64() || x == c.Uint64() || x != d.Uint64() {
		t.Error("streams of other names or seeds are alike, or those of the same are not")
	}
}

func TestTraceTellsRunsApart(t *testing.T) {
	run := func(f func(*Trace)) uint64 {
		var x Trace
		x.Add(1, "a", "b", 1, 2, 3)
		f(&x)
		return x.Hash()
	}
	seen := map[uint64]string{}
	for name, f := range map[string]func(*Trace){
		"nothing more": func(*Trace) {},
		"a":            func(x *Trace) { x.Add(1, "a", "b", 1, 2, 3) },
		"later":        func(x *Trace) { x.Add(2, "a", "b", 1, 2, 3) },
		"ab and none":  func(x *Trace) { x.Add(1, "ab", "", 1, 2, 3) },
		"swapped":      func(x *Trace) { x.Add(1, "a", "b", 2, 1, 3) },
		"folded":       func(x *Trace) { x.Add(1, "a", "b", 1, 2, 3); x.fold(1) },
	} {
		h := run(f)
		if seen[h] != "" {
			t.Errorf("%s is like %s", name, seen[h])
		}
		seen[h] = name
		if run(f) != h {
			t.Errorf("%s: not the same twice", name)
		}
	}
	var x Trace
	for i := range uint64(3 * traceKept) {
		x.Add(int64(i), "disk", "write", i, 0, 0)
	}
	lines := strings.Split(strings.TrimSpace(x.String()), "\n")
	if len(lines) != traceKept || !strings.Contains(lines[0], fmt.Sprint(2*traceKept)) {
		t.Errorf("%d lines, the first is %s", len(lines), lines[0])
	}
	(*Trace)(nil).Add(1, "a", "b", 1, 2, 3)
}
