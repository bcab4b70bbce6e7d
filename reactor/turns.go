package reactor

import "github.com/pollux-storage/pollux/internal/hist"

// This file counts the turns of the loop that took long. While one goes on nothing else on that reactor moves, so the longest is a bound of
// what the reactor itself adds to a request's latency. A turn is long for what it did, or since its thread did not run meanwhile: the
// clock does not tell one from the other, and who waits does not care. Time asleep does not count.

// SlowTurn is how long a turn is that is counted: an ordinary one is over in a few microseconds, and one that finds a queue full of work takes
// as long as its work.
const SlowTurn = 20 * Microsecond

// Turns is the turns that took long, since the reactor began.
type Turns struct {
	Longest Ticks
	Slow    hist.Histogram // of those longer than SlowTurn, in nanoseconds
}

// Turns gives them as they stood at the beginning of the current turn.
func (r *Reactor) Turns(into *Turns) { *into = r.turns }

// slow counts a turn. It is not in the loop's own code, which has it seldom.
//
//go:noinline
func (t *Turns) slow(took Ticks) {
	t.Longest = max(t.Longest, took)
	t.Slow.Record(uint64(took))
}
