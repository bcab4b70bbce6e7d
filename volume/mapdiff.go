package volume

import (
	"bytes"

	"github.com/pollux-storage/pollux/bdev"
	"github.com/pollux-storage/pollux/internal/invariant"
	"github.com/pollux-storage/pollux/wal"
)

// This file is the walk over two maps beside each other: what differs between a and b. Subtrees that both refer to by the same Ref are
// the same and are skipped, so that the cost is that of the difference.
//
//	who               a                 b                   onlyA   floor                      what of it
//	snapshot delete   the snapshot      the next one        yes     LSN of the one before      a's places that are not b's, a's pages
//	restore           the snapshot      the head            no      —                          clusters
//	changed ranges    the newer one     nothing             yes     LSN since                  clusters whose change is above it
//	check, flatten    the root          nothing             yes     —                          clusters, pages
//
// A page is reported when all clusters below it were. The cursor moves only when all that lies below it was reported: after each leaf
// or skipped subtree, which is when diffMore is heard. A walk that begins again at such a cursor reports the rest, and nothing twice.
//
// The walk keeps copies of the pages that it stands on, two for each level: so nothing that it read can change under it, and a
// cache of any size will do. Both roots must stay as long as it goes on from them: a snapshot's, or a committed one until the next
// commit.

// diffStep is what one step of a walk came upon.
type diffStep uint8

const (
	diffMore    diffStep = iota // nothing; go on, now or later. The cursor has moved
	diffWait                    // it reads: the owner hears diffReady
	diffCluster                 // a cluster whose entries differ: cluster, a, b
	diffPage                    // a page of a's map that is not in b's: page
	diffEnd                     // all was reported
	diffFailed                  // a page cannot be read: status, fault
)

var diffStepNames = [...]string{"more", "wait", "cluster", "page", "end", "failed"}

func (s diffStep) String() string { return diffStepNames[s] }

// diffSide is one of the two maps. A zero root is a map without entries.
type diffSide struct {
	mapOwner
	root mapRoot
}

// side is the map as the last commit left it.
func (t *mapTree) side() diffSide { return diffSide{t.mapOwner, t.committed} }

// mapPage is a page of a map, as the walk reports it.
type mapPage struct {
	place Place
	stamp Stamp
	level uint8
	index uint64
}

// diffOwner hears that a walk that waits can go on.
type diffOwner interface {
	diffReady(d *mapDiff)
}

// Both diffSides of the walk.
const (
	sideA = iota
	sideB
	diffSides
)

// diffKind says what a side has at some number of a level.
type diffKind uint8

const (
	diffAbsent diffKind = iota // nothing
	diffPaged                  // a page
	diffAbove                  // nothing yet: its root is lower, and below here
)

// diffLevel is where the walk stands on one level.
type diffLevel struct {
	index uint64
	kind  [diffSides]diffKind
	ref   [diffSides]Ref
	stamp Stamp // of a's page
}

// skipsMax is how many subtrees a step skips before it lets others go on.
const skipsMax = RefsMax

// mapDiff is a walk, used again and again.
type mapDiff struct {
	c     *pageCache
	owner diffOwner
	shape Shape
	side  [diffSides]diffSide
	onlyA bool
	floor Stamp

	cluster uint64 // diffCluster: which
	a, b    Entry  // diffCluster: lent until the next step; not written to
	page    mapPage
	status  bdev.Status
	fault   error
	cursor  uint64 // clusters below were reported, and their pages

	memory   [mapLevels + 1][diffSides][]byte
	level    [mapLevels + 1]diffLevel
	top      int
	depth    int    // the lowest level that the walk stands on; top+1: none yet
	leaf     uint64 // the next to be looked at
	entry    int    // the next one of the leaf that it stands on
	reported bool   // something, since the cursor moved
	over     bool
	wait     pageWaiter
	loading  bool // level depth-1 is being entered
	loads    int  // which side
}

// newMapDiff makes a walk and its memory.
func newMapDiff(c *pageCache, owner diffOwner) *mapDiff {
	d := &mapDiff{c: c, owner: owner, over: true}
	d.wait.taker, d.wait.cold = d, true
	pages := make([]byte, (mapLevels+1)*diffSides*PageBytes)
	for l := range d.memory {
		for s := range d.memory[l] {
			d.memory[l][s], pages = pages[:PageBytes:PageBytes], pages[PageBytes:]
		}
	}
	return d
}

// start begins a walk at a cluster, or rather at the first one of its leaf. onlyA leaves out what only b has; floor leaves out the pages
// of a that were written up to then, with all below them.
func (d *mapDiff) start(a, b diffSide, onlyA bool, floor wal.LSN, cluster uint64) {
	invariant.Check(!d.wait.waits, "volume: a walk begins while another waits")
	d.side, d.onlyA, d.floor = [diffSides]diffSide{a, b}, onlyA, StampLSN(floor)
	d.shape = a.shape
	d.top = int(max(a.root.levels, b.root.levels))
	d.depth = d.top + 1
	d.leaf, _ = d.shape.Leaf(cluster)
	d.cursor = d.leaf * uint64(d.shape.entries)
	d.reported, d.loading, d.over = false, false, false
	d.status, d.fault = bdev.StatusOK, nil
}

// next makes a step.
func (d *mapDiff) next() diffStep {
	for range skipsMax {
		if d.status != bdev.StatusOK {
			return diffFailed
		}
		if d.over {
			return diffEnd
		}
		if !d.loading {
			if d.depth == 0 && d.leaf == d.level[0].index && d.nextEntry() {
				return diffCluster
			}
			if d.ascend() {
				return diffPage
			}
			d.cursor = d.leaf * uint64(d.shape.entries)
			if d.leaf == span(d.top) {
				d.over = true
				return diffEnd
			}
			if d.reported {
				d.reported = false
				return diffMore
			}
			if !d.choose() {
				continue
			}
		}
		if !d.enter() {
			return diffWait
		}
	}
	return diffMore
}

// span is the number of leaves below a page of a level.
func span(level int) uint64 {
	n := uint64(1)
	for range level {
		n *= RefsMax
	}
	return n
}

// leafOf gives the page of a side on level 0.
func (d *mapDiff) leafOf(s int) []byte {
	if d.level[0].kind[s] == diffPaged {
		return d.memory[0][s]
	}
	return emptyLeaf
}

// nextEntry finds the next entry that differs, in the leaf that the walk stands on.
func (d *mapDiff) nextEntry() bool {
	a, b := d.leafOf(sideA), d.leafOf(sideB)
	for d.entry < d.shape.entries {
		d.a, d.b = d.shape.Entry(a, d.entry), d.shape.Entry(b, d.entry)
		d.cluster = d.leaf*uint64(d.shape.entries) + uint64(d.entry)
		d.entry++
		if !d.a.equal(d.b) {
			d.reported = true
			return true
		}
	}
	d.leaf++
	return false
}

func (e Entry) equal(o Entry) bool { return bytes.Equal(e.b, o.b) && bytes.Equal(e.crcs, o.crcs) }

// ascend leaves the pages whose end was reached, and stops at each that is to be reported.
func (d *mapDiff) ascend() bool {
	for d.depth <= d.top && d.leaf == (d.level[d.depth].index+1)*span(d.depth) {
		l := &d.level[d.depth]
		d.depth++
		if l.kind[sideA] == diffPaged {
			d.page = mapPage{l.ref[sideA].Place, l.stamp, uint8(d.depth - 1), l.index}
			d.reported = true
			return true
		}
	}
	return false
}

// choose looks at what both have on the next level down, and skips it if there is nothing to report.
func (d *mapDiff) choose() bool {
	n := d.depth - 1
	l := &d.level[n]
	l.index = d.leaf / span(n)
	for s := range diffSides {
		l.kind[s], l.ref[s] = d.below(s, n, l.index)
	}
	same := l.kind[sideA] == l.kind[sideB] && l.ref[sideA] == l.ref[sideB]
	if same || d.onlyA && l.kind[sideA] == diffAbsent {
		d.leaf = (l.index + 1) * span(n)
		return false
	}
	d.loading, d.loads, l.stamp = true, sideA, 0
	return true
}

// below is what a side has at a number of a level, of which the page above is there.
func (d *mapDiff) below(s, level int, index uint64) (diffKind, Ref) {
	root := &d.side[s].root
	var r Ref
	switch {
	case root.ref.IsZero():
	case level > int(root.levels):
		if index == 0 {
			return diffAbove, Ref{}
		}
	case level == int(root.levels):
		if index == 0 {
			r = root.ref
		}
	case d.level[level+1].kind[s] == diffPaged:
		r = RefAt(d.memory[level+1][s], int(index%RefsMax))
	}
	if r.IsZero() {
		return diffAbsent, r
	}
	return diffPaged, r
}

// enter gets the pages of the next level down, one after the other, and reports whether they are there.
func (d *mapDiff) enter() bool {
	n := d.depth - 1
	l := &d.level[n]
	for ; d.loads < diffSides; d.loads++ {
		if l.kind[d.loads] != diffPaged {
			continue
		}
		d.side[d.loads].expect(&d.wait, l.ref[d.loads], uint8(n), l.index)
		f, s := d.c.get(&d.wait)
		if s != bdev.StatusOK {
			d.status, d.fault = s, d.wait.fault
			return true
		}
		if f == noFrame {
			return false
		}
		d.copyPage(f)
	}
	d.loading = false
	if l.kind[sideA] == diffPaged && l.stamp <= d.floor {
		d.leaf = (l.index + 1) * span(n)
		return true
	}
	d.depth, d.entry = n, 0
	if n == 0 {
		d.leaf = l.index
	}
	return true
}

// copyPage keeps the page that the walk has asked for.
func (d *mapDiff) copyPage(f int32) {
	n := d.depth - 1
	copy(d.memory[n][d.loads], d.c.page(f))
	if d.loads == sideA {
		d.level[n].stamp = d.c.frames[f].stamp
	}
}

// pageArrived takes a page that was read.
func (d *mapDiff) pageArrived(f int32, s bdev.Status) {
	if s != bdev.StatusOK {
		d.status, d.fault, d.loading = s, d.wait.fault, false
	} else {
		d.copyPage(f)
		d.loads++
	}
	d.owner.diffReady(d)
}

// pageAgain lets the owner ask for the page once more.
func (d *mapDiff) pageAgain() { d.owner.diffReady(d) }
