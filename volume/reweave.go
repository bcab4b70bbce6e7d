package volume

import (
	"fmt"

	"github.com/pollux-storage/pollux/internal/invariant"
)

// This file is how snapshots' maps come to refer to copies of what was the parent's. A snapshot's map does not change otherwise, and several share its
// pages. So for one leaf the pages that lead to it are written anew, in all maps of the volume, each once:
//
//	      r1    r2    r3            r1'   r2'   r3'
//	       \   /     /               \   /     /
//	        i1     i2       ─▶        i1'    i2'      what was the same page is the same page again
//	         \    /                    \    /
//	          leaf                     leaf'
//
// A page keeps its stamp, so that it goes on belonging to the snapshot to which it belonged; of one that was the parent's it becomes the first LSN
// after the branching off: the oldest snapshot's. Equal refs become equal refs, so no page has more or fewer owners than before. The
// new pages stand where nothing refers to, until the roots change on the reactor, all in the same checkpoint as the head's entries; that one
// also gives up the old pages that were the volume's. The head shares none of them by then: its own way to the leaf became dirty.

// reweave is one leaf's. Control makes it, the reactor applies it.
type reweave struct {
	f       *flat
	l       *flatLeaf
	at      pageNumbers
	now     map[Ref]Ref
	roots   []Ref // of the snapshots
	refer   []Place
	unrefer []Place
}

// weave writes the new pages.
func (w *reweave) weave() error {
	v := w.f.v
	var was []Snapshot
	if err := v.r.Call(func() { was = append(was, v.snapshots.list...) }); err != nil {
		return err
	}
	if len(was) == 0 { // the head alone changes
		return nil
	}
	w.at.of(w.l.leaf)
	w.now = map[Ref]Ref{}
	for l := range w.f.pages {
		if w.f.pages[l] == nil {
			w.f.pages[l] = pageMemory(1)
		}
	}
	w.roots = make([]Ref, len(was))
	for i := range was {
		s := &was[i]
		w.roots[i] = s.Map
		if w.at[s.Levels] != 0 {
			continue // its map ends before
		}
		var err error
		if w.roots[i], err = w.page(s.Map, int(s.Levels)); err != nil {
			return fmt.Errorf("the map of snapshot %v: %w", s.Name, err)
		}
	}
	return nil
}

// page gives the page that takes the place of one, which may be that itself.
func (w *reweave) page(ref Ref, level int) (Ref, error) {
	if ref.IsZero() {
		return ref, nil
	}
	if now, ok := w.now[ref]; ok {
		return now, nil
	}
	f, v := w.f, w.f.v
	buf := f.pages[level]
	if err := v.pool.disk.read(ref.Place, buf); err != nil {
		return ref, err
	}
	want := Want{
		Kind: KindIndex, Level: uint8(level), Pool: v.pool.id, Volume: v.page.Number, Index: w.at[level], CRC: ref.CRC, SharedTo: f.branched,
		Pages: v.pool.lastPage(),
	}
	var h Header
	var err error
	if level == 0 {
		want.Kind = KindLeaf
		h, err = v.shape.OpenLeaf(buf, &want)
	} else {
		h, err = OpenRefs(buf, &want)
	}
	if err != nil {
		return ref, err
	}
	own := h.Stamp.LSN() > f.branched
	changed := !own
	if level > 0 {
		k := int(w.at[level-1] % RefsMax)
		below := RefAt(buf, k)
		now, err := w.page(below, level-1)
		if err != nil {
			return ref, err
		}
		if now != below {
			SetRef(buf, k, now)
			changed = true
		}
	} else if w.entries(buf) {
		changed = true
	}
	if !changed {
		w.now[ref] = ref
		return ref, nil
	}
	return w.write(ref, buf, h, own)
}

// entries lets a leaf refer to the copies, and reports whether it does.
func (w *reweave) entries(leaf []byte) bool {
	v, changed := w.f.v, false
	for i, c := range w.l.clusters {
		_, n := v.shape.Leaf(c)
		if e := v.shape.Entry(leaf, n); e.Place() == w.l.from[i] && e.Birth() <= w.f.branched {
			e.moveTo(w.l.to[i], w.f.branched+1)
			changed = true
		}
	}
	return changed
}

// write writes a page anew.
func (w *reweave) write(ref Ref, buf []byte, h Header, own bool) (Ref, error) {
	f, v := w.f, w.f.v
	place, err := f.takePage()
	if err != nil {
		return ref, err
	}
	w.refer = append(w.refer, place)
	h.Volume, h.Stamp = v.page.Number, max(h.Stamp, StampLSN(f.branched+1))
	now := Ref{Place: place}
	if h.Kind == KindLeaf {
		now.CRC = v.shape.SealLeaf(buf, h)
	} else {
		now.CRC = SealRefs(buf, h)
	}
	if err := v.pool.disk.write(place, buf); err != nil {
		return ref, err
	}
	if own {
		w.unrefer = append(w.unrefer, ref.Place)
	}
	w.now[ref] = now
	return now, nil
}

// apply lets the snapshots have their new roots, and the next checkpoint take that along. It runs on the volume's reactor, between two checkpoints.
func (w *reweave) apply(l *flatLeaf) {
	v := w.f.v
	s := &v.snapshots
	if len(s.list) == 0 {
		return
	}
	invariant.Check(len(s.list) == len(w.roots), "volume: snapshots came or went while their volume was flattened")
	for i := range s.list {
		s.list[i].Map = w.roots[i]
	}
	for _, d := range w.f.opened {
		if i, ok := s.index(d.number); ok {
			d.tree.root = mapRoot{s.list[i].Map, uint8(s.list[i].Levels)}
			d.tree.committed = d.tree.root
		}
	}
	s.changed = true
	s.list[0].Clusters += uint64(len(l.to)) // the oldest has them all, and shares them
	v.referred = append(v.referred, l.to...)
	for i := range l.used {
		l.used[i] = true
	}
	c := &v.ckpt.commit
	c.refer = append(c.refer, w.refer...)
	c.unrefer = append(c.unrefer, w.unrefer...)
}

// lastPage is the number of pages of the pool's device.
func (p *Pool) lastPage() uint64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.pages
}
