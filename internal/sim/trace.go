package sim

import (
	"fmt"
	"strings"
)

// Trace is what happened in a world: a hash over all of it, by which two runs are compared, and the last events in words.
type Trace struct {
	hash uint64
	n    uint64
	last [traceKept]traced
}

const traceKept = 200

// traced is an event. who and what are constants or names that were made once.
type traced struct {
	at        int64
	who, what string
	a, b, c   uint64
}

// Add notes an event with up to three numbers.
func (t *Trace) Add(at int64, who, what string, a, b, c uint64) {
	if t == nil {
		return
	}
	t.last[t.n%traceKept] = traced{at, who, what, a, b, c}
	t.n++
	h := t.hash ^ 0xcbf29ce484222325
	h = mixText(mixText(mix(h, uint64(at)), who), what)
	t.hash = mix(mix(mix(h, a), b), c)
}

// mix is a step of FNV-1a over a whole number, with the high half folded in, which FNV leaves to the bytes that follow.
func mix(h, x uint64) uint64 {
	h = (h ^ x) * 0x100000001b3
	return h ^ h>>29
}

func mixText(h uint64, s string) uint64 {
	for i := 0; i < len(s); i++ {
		h = (h ^ uint64(s[i])) * 0x100000001b3
	}
	return mix(h, uint64(len(s)))
}

// Hash is over all events so far.
func (t *Trace) Hash() uint64 { return t.hash }

// Events is their number.
func (t *Trace) Events() uint64 { return t.n }

// String gives the last events, one a line.
func (t *Trace) String() string {
	var s strings.Builder
	for i := t.n - min(t.n, traceKept); i < t.n; i++ {
		e := &t.last[i%traceKept]
		fmt.Fprintf(&s, "%12d  %-12s %-22s %d %d %d\n", e.at, e.who, e.what, e.a, e.b, e.c)
	}
	return s.String()
}

// fold adds a number to the hash alone.
func (t *Trace) fold(x uint64) {
	if t != nil {
		t.hash = mix(t.hash, x)
	}
}
