package volume

import (
	"github.com/pollux-storage/pollux/internal/invariant"
	"github.com/pollux-storage/pollux/wal"
)

// This file is how the dirty pages of a map become part of a checkpoint.
//
//	freeze(LSN)       the dirty pages are those of this commit; a change makes copies from now on
//	seal(places) …    from the leaves to the root each gets its place, header and CRC, and the page above it the ref
//	eachSealed        they are written, to places to which nothing refers: the order among them does not matter
//	frozenRoot        goes to the volume's page; referenced and unreferenced pages to the pool
//	                  flush, slot, flush
//	commitDone        they are clean; copies made meanwhile replace them
//	unseal            one cannot be written: they are to be sealed again, to other places
//	commitFailed      they are dirty again, as if there had been no commit; their places were never referred to
//
// A ref to a frozen page is exchanged for its place in the frozen page above it, and in that one's copy if there is one: so
// a clean page is referred to by place alone.

// mapCommit is the commit that is under way, one at most.
type mapCommit struct {
	committing bool
	stamp      Stamp   // of the checkpoint
	top        mapRoot // at the freeze; its place when all is sealed
	sharedThen mapSharing
	frozen     [mapLevels + 1]frameList
	sealed     [mapLevels + 1]frameList
	frozenN    int // not sealed yet
}

// freeze fixes what a checkpoint contains: all changes up to now, which are those of the records up to lsn. It gives the number of
// pages, and so of places that seal will ask for.
func (t *mapTree) freeze(lsn wal.LSN) (pages int) {
	invariant.Check(!t.committing && !t.readOnly, "volume: a commit of a map inside another")
	t.committing = true
	// A page that a change has only claimed so far may be written at the very LSN of the newest snapshot, and is not the snapshot's.
	t.stamp, t.top, t.sharedThen = max(StampLSN(lsn), t.sharing.newest+1), t.root, t.sharing
	for l := range t.dirty {
		t.frozen[l], t.dirty[l] = t.dirty[l], noFrames
		for f := t.frozen[l].first; f != noFrame; f = t.c.frames[f].next {
			t.c.frames[f].state = frameFrozen
		}
	}
	t.frozenN, t.dirtyN = t.dirtyN, 0
	return t.frozenN
}

// seal gives the next pages their places, and reports how many were used: all of them, unless no page is left.
func (t *mapTree) seal(places []Place) (used int) {
	invariant.Check(t.committing, "volume: sealing a page of no commit")
	for l := range t.frozen {
		for f := t.frozen[l].first; f != noFrame && used < len(places); f = t.frozen[l].first {
			t.frozen[l].remove(t.c.frames, f)
			t.sealPage(f, places[used])
			t.sealed[l].push(t.c.frames, f)
			t.frozenN--
			used++
		}
	}
	return used
}

func (t *mapTree) sealPage(f int32, place Place) {
	fr := &t.c.frames[f]
	page := t.c.page(f)
	h := Header{Kind: KindIndex, Level: fr.level, Pool: t.c.sources[t.source].pool, Volume: t.volume, Index: fr.index, Stamp: t.stamp}
	var crc uint32
	if fr.level == 0 {
		crc = t.shape.SealLeaf(page, h)
	} else {
		if invariant.Expensive {
			for i := range RefsMax {
				_, ok := RefAt(page, i).frame()
				invariant.Check(!ok, "volume: a page is sealed before one below it")
			}
		}
		crc = SealRefs(page, h)
	}
	t.c.forget(t.source, place)
	fr.ref = Ref{place, crc}
	fr.volume, fr.stamp, fr.state = t.volume, t.stamp, frameSealed
	t.c.hash(f)
	t.exchange(&t.top, f, frameRef(f), fr.ref)
	if fr.copied == noFrame {
		t.exchange(&t.root, f, frameRef(f), fr.ref)
	}
}

// exchange replaces a ref to page f, in the page above it under the given root, if that is in memory and has such a ref.
func (t *mapTree) exchange(root *mapRoot, f int32, before, after Ref) {
	fr := &t.c.frames[f]
	if fr.level == root.levels {
		if root.ref == before {
			root.ref = after
		}
		return
	}
	var at pageNumbers
	at[fr.level] = fr.index
	for l := fr.level + 1; l <= root.levels; l++ {
		at[l] = at[l-1] / RefsMax
	}
	above, ok := root.ref.frame()
	for l := root.levels; ok && l > fr.level+1; l-- {
		above, ok = RefAt(t.c.page(above), int(at[l-1]%RefsMax)).frame()
	}
	if i := int(fr.index % RefsMax); ok && RefAt(t.c.page(above), i) == before {
		SetRef(t.c.page(above), i, after)
	}
}

// unseal takes the places away again, of which some cannot be written: all pages of the commit are to be sealed once more. Nobody has a ref to
// such a place but the pages above it and the roots.
func (t *mapTree) unseal() {
	invariant.Check(t.committing, "volume: unsealing pages of no commit")
	for l := mapLevels; l >= 0; l-- { // from the root to the leaves: the page above one that is frozen is found by its frame
		for f := t.sealed[l].first; f != noFrame; f = t.sealed[l].first {
			fr := &t.c.frames[f]
			t.sealed[l].remove(t.c.frames, f)
			t.c.unhash(f)
			t.exchange(&t.top, f, fr.ref, frameRef(f))
			t.exchange(&t.root, f, fr.ref, frameRef(f))
			fr.state = frameFrozen
			t.frozen[l].push(t.c.frames, f)
			t.frozenN++
		}
	}
}

// frozenRoot is the root that this commit writes. All pages are sealed.
func (t *mapTree) frozenRoot() mapRoot {
	invariant.Check(t.committing && t.frozenN == 0, "volume: the root of a commit whose pages have no places yet")
	return t.top
}

// nextSealed gives the sealed pages one after the other, those of lower levels first: begin with noFrame; noFrame ends it. place and
// data say what to write where; the data does not change until the commit ends.
func (t *mapTree) nextSealed(after int32) (f int32, place Place, data []byte) {
	l, f := 0, noFrame
	if after != noFrame {
		l, f = int(t.c.frames[after].level)+1, t.c.frames[after].next
	}
	for ; f == noFrame && l < len(t.sealed); l++ {
		f = t.sealed[l].first
	}
	if f == noFrame {
		return noFrame, 0, nil
	}
	return f, t.c.frames[f].ref.Place, t.c.page(f)
}

// replaced gives the place that this commit no longer refers to because of a sealed page, and true if it is free with that: a
// snapshot may have it, or there was none.
func (t *mapTree) replaced(f int32) (Place, bool) {
	fr := &t.c.frames[f]
	return fr.was.Place, !fr.was.IsZero() && t.alone(fr)
}

// alone reports whether the page that a frozen page replaces belongs to no snapshot and no parent.
func (t *mapTree) alone(fr *frame) bool {
	s := &t.sharedThen
	if fr.wasStamp > s.newest {
		return true
	}
	return fr.wasStamp > s.older && s.cursor > 0 && t.endOf(fr.level, fr.index) <= s.cursor
}

// endOf is the first cluster after those below a page.
func (o *mapOwner) endOf(level uint8, index uint64) uint64 {
	n := (index + 1) * uint64(o.shape.entries)
	for range level {
		n *= RefsMax
	}
	return n
}

// commitDone ends a commit whose root is durable.
func (t *mapTree) commitDone() {
	t.committed = t.frozenRoot()
	t.committing = false
	for l := range t.sealed {
		for f := t.sealed[l].first; f != noFrame; f = t.sealed[l].first {
			t.sealed[l].remove(t.c.frames, f)
			fr := &t.c.frames[f]
			if fr.copied != noFrame {
				n := &t.c.frames[fr.copied]
				n.was, n.wasStamp = fr.ref, fr.stamp
			}
			fr.state, fr.copied, fr.was = frameClean, noFrame, Ref{}
			t.letGo()
			t.c.offer(f, false)
		}
	}
	t.yield()
}

// commitFailed takes a commit back that was not written, or not wholly. What it wrote is not referred to.
func (t *mapTree) commitFailed() {
	invariant.Check(t.committing, "volume: a commit fails that there is not")
	t.committing = false
	// From the root to the leaves: the page above one that is dirty again is in memory.
	for l := mapLevels; l >= 0; l-- {
		for f := t.frozen[l].first; f != noFrame; f = t.frozen[l].first {
			t.frozen[l].remove(t.c.frames, f)
			t.unfreeze(f)
		}
		for f := t.sealed[l].first; f != noFrame; f = t.sealed[l].first {
			t.sealed[l].remove(t.c.frames, f)
			t.c.unhash(f)
			t.unfreeze(f)
		}
	}
	t.frozenN = 0
	t.yield()
}

func (t *mapTree) unfreeze(f int32) {
	fr := &t.c.frames[f]
	if fr.copied != noFrame {
		n := &t.c.frames[fr.copied]
		n.was, n.wasStamp = fr.was, fr.wasStamp
		t.c.release(f)
		t.letGo()
		return
	}
	if fr.state == frameSealed {
		t.exchange(&t.root, f, fr.ref, frameRef(f))
	}
	fr.state = frameDirty
	t.addDirty(f)
}
