package bench

import (
	"math/bits"
	"strconv"
	"strings"

	"github.com/pollux-storage/pollux/internal/invariant"
)

// This file is the ledger of what was written: for each LBA which generations a read may return.
//
// A write may be seen from its submission on. It may no longer be seen once another write has completed that was submitted
// after it had completed; two that were in flight together may end in either order, and either may stay. So of n writes in
// flight together all n may be seen for as long as nothing later has completed, and a set is needed, not a number:
//
//	generation          newest  newest-1  newest-2  …
//	settled, bit             0         1         2      it completed, and nothing has replaced it
//	flying, bit              0         1         2      it is in flight
//
// A write keeps the settled set from its submission; when it completes, it replaces those. A write that failed stays where it
// was put: it may have reached the medium or not, so it is settled, but replaces nothing. Generation 0 is what was there
// before the run.
//
// The order of submission is that of one job, so a part of a device belongs to one job.

// maskBits is how many generations back a set can reach. A write that would push one out waits (admit).
const maskBits = 32

// entry is the ledger's line of one LBA, and of the saved state too.
type entry struct {
	newest  uint32 // the last generation that was submitted
	settled uint32
	flying  uint32
	trimmed uint32 // those which are not written blocks but trims, and read as zeros
}

// ledger is the part of one job.
type ledger struct {
	first   uint64 // LBA
	entries []entry
}

// fresh are the lines of blocks that were never written.
func fresh(n uint64) []entry {
	e := make([]entry, n)
	for i := range e {
		e[i].settled = 1
	}
	return e
}

func (l *ledger) lines(lba uint64, n uint32) []entry {
	return l.entries[lba-l.first:][:n]
}

// admit reports whether a write of these blocks can be taken now.
func (l *ledger) admit(lba uint64, n uint32) bool {
	for i := range l.lines(lba, n) {
		if e := &l.entries[lba-l.first+uint64(i)]; (e.settled|e.flying)>>(maskBits-1) != 0 {
			return false
		}
	}
	return true
}

// view is what a request remembers of one LBA from its submission. Bits count back from newest.
type view struct {
	newest  uint32 // of a write: its own generation
	seen    uint32 // of a write: what was settled, and is replaced when it completes; of a read: what it may return
	trimmed uint32
}

// submit takes a write or trim into the ledger, and gives its generations into vs.
func (l *ledger) submit(lba uint64, vs []view, trim bool) {
	bit := uint32(0)
	if trim {
		bit = 1
	}
	lines := l.lines(lba, uint32(len(vs)))
	for i := range lines {
		e := &lines[i]
		e.newest++
		invariant.Check(e.newest != 0 && (e.settled|e.flying)>>(maskBits-1) == 0, "bench: a write that the ledger has no room for")
		e.settled <<= 1
		e.flying = e.flying<<1 | 1
		e.trimmed = e.trimmed<<1 | bit
		vs[i] = view{newest: e.newest, seen: e.settled}
	}
}

// complete hears the end of a write or trim.
func (l *ledger) complete(lba uint64, vs []view, ok bool) {
	lines := l.lines(lba, uint32(len(vs)))
	for i := range lines {
		e := &lines[i]
		back := e.newest - vs[i].newest
		bit := uint32(1) << back
		invariant.Check(e.flying&bit != 0, "bench: a write completed that was not in flight")
		e.flying &^= bit
		if ok {
			e.settled &^= vs[i].seen << back
		}
		e.settled |= bit
	}
}

// look remembers what a read that begins now may return.
func (l *ledger) look(lba uint64, vs []view) {
	lines := l.lines(lba, uint32(len(vs)))
	for i := range lines {
		e := &lines[i]
		vs[i] = view{newest: e.newest, seen: e.settled | e.flying, trimmed: e.trimmed}
	}
}

// allows reports whether generation gen might be seen when the view was taken.
func (v *view) allows(gen uint32) bool {
	back := v.newest - gen
	return gen <= v.newest && back < maskBits && v.seen>>back&1 != 0
}

// mayBeTrimmed reports whether a read that began at v may find zeros: for a trim that it allowed, or for one submitted since.
func (e *entry) mayBeTrimmed(v *view) bool {
	if v.seen&v.trimmed != 0 {
		return true
	}
	since := e.newest - v.newest
	if since >= maskBits {
		return true
	}
	return e.trimmed&(1<<since-1) != 0
}

// String lists the generations, newest first.
func (v *view) String() string {
	var out []string
	for m := v.seen; m != 0; m &= m - 1 {
		back := uint32(bits.TrailingZeros32(m))
		s := strconv.FormatUint(uint64(v.newest-back), 10)
		if v.trimmed>>back&1 != 0 {
			s += " (trimmed)"
		}
		out = append(out, s)
	}
	return strings.Join(out, " or ")
}

// written reports whether there is anything to check: whether no read may return what was there before the run.
func (e *entry) written() bool {
	v := view{newest: e.newest, seen: e.settled | e.flying}
	return !v.allows(0)
}
