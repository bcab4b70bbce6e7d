//go:build linux && amd64

package insn

import (
	"os"
	"strings"
	"testing"
)

// spanned is called by the program that is counted, which is this test itself.
//
//go:noinline
func spanned(n int) int {
	sum := 0
	for i := range n {
		sum += called(i)
	}
	return sum + aside(n)
}

//go:noinline
func called(i int) int { return i ^ 3 }

//go:noinline
func aside(n int) int { return called(n) + called(n+1) }

var sink int

func TestMain(m *testing.M) {
	if os.Getenv("INSN_TEST") != "" {
		for i := range 100 {
			sink += spanned(10 + i)
		}
		return
	}
	m.Run()
}

// What is counted is exact: a call more is as many instructions more each time, and what is left out is not counted.
func TestCount(t *testing.T) {
	const at = "github.com/pollux-storage/pollux/internal/insn.spanned"
	// first is the argument of the first call that Enter hears of.
	count := func(leave bool) (_ []Span, first int) {
		spans, err := Run{
			Command: []string{os.Args[0]}, Env: []string{"INSN_TEST=1"}, At: at, Skip: 5, Spans: 4,
			Enter: func(f string, argument uint64, parent string) (string, bool) {
				if f == at && first == 0 {
					first = int(argument)
				}
				if strings.HasSuffix(f, ".aside") {
					return "aside", leave
				}
				return parent, false
			},
		}.Count()
		if err != nil {
			t.Fatal(err)
		}
		return spans, first
	}
	all, first := count(false)
	part, partFirst := count(true)
	each := all[1].Total() - all[0].Total()
	if first < 15 || each < 5 || all[0].Total() < first*each {
		t.Errorf("%d instructions for a call more, %d for %d", each, all[0].Total(), first)
	}
	for i := range all {
		if want := all[0].Total() + i*each; all[i].Total() != want {
			t.Errorf("span %d: %d instructions, want %d", i, all[i].Total(), want)
		}
		own := Where{"", at[:len(at)-len("spanned")] + "called"}
		if k := all[i][own]; i > 0 && k-all[i-1][own] != all[1][own]-all[0][own] || k == 0 {
			t.Errorf("span %d: %d instructions of what it calls", i, k)
		}
		aside := 0
		for w, n := range all[i] {
			if w.Owner == "aside" {
				aside += n
			}
		}
		if aside == 0 || part[i].Total() != all[i].Total()-aside+(partFirst-first)*each {
			t.Errorf("span %d: %d instructions without the %d of what is left aside, of %d, and %d calls more", i, part[i].Total(), aside, all[i].Total(), partFirst-first)
		}
	}
}

// What cannot be counted is told.
func TestErrors(t *testing.T) {
	for _, c := range []struct {
		what string
		r    Run
		want string
	}{
		{"no such program", Run{Command: []string{"/nonexistent"}}, "/nonexistent"},
		{"no such function", Run{Command: []string{os.Args[0]}, At: "main.nothing"}, "it has no function main.nothing"},
		{"called too seldom", Run{Command: []string{os.Args[0]}, Env: []string{"INSN_TEST=1"}, At: "github.com/pollux-storage/pollux/internal/insn.spanned", Skip: 200, Spans: 1},
			"it has ended before"},
	} {
		if _, err := c.r.Count(); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v", c.what, err)
		}
	}
}
