package volume

import (
	"github.com/pollux-storage/pollux/internal/invariant"
	"github.com/pollux-storage/pollux/reactor"
)

// grace tells when everybody who looked something up before a moment has finished with it. A read looks up in which page of the log or in which
// place its blocks are, and uses them without further ado; who wants to overwrite or give back such a page first waits for a
// grace: the end of all reads that began before. Later reads see what has changed since.
type grace struct {
	now     uint8
	reading [2]int
	waiter  reactor.Runner // waits for the reads of the phase that is over
}

// enter begins a read; leave ends it, with what enter gave.
func (g *grace) enter() uint8 {
	g.reading[g.now]++
	return g.now
}

func (g *grace) leave(phase uint8) {
	g.reading[phase]--
	invariant.Check(g.reading[phase] >= 0, "volume: more reads ended than began")
	if w := g.waiter; w != nil && phase != g.now && g.reading[phase] == 0 {
		g.waiter = nil
		w.Run()
	}
}

// wait lets w run when the reads that have begun by now are over, and reports false if there are none: then w does not run. One
// may wait at a time.
func (g *grace) wait(w reactor.Runner) bool {
	invariant.Check(g.waiter == nil && g.reading[1-g.now] == 0, "volume: two wait for a grace")
	if g.reading[g.now] == 0 {
		return false
	}
	g.now = 1 - g.now
	g.waiter = w
	return true
}
