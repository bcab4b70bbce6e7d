package volume

import (
	"context"
	"errors"
	"fmt"
)

// This file is the space that flattening takes: a copy of each cluster that is the parent's, and pages for the maps that refer to the copies. It is
// reserved before anything is done, so that a pool that has not enough is not filled in vain. Pages that are replaced come back after two
// commits; what is taken meanwhile is reserved anew where there is some.

// flatWays is for how many leaves pages of the snapshots' maps are on their way back at once.
const flatWays = 4

// setAside counts what will be needed, and reserves it.
func (f *flat) setAside(ctx context.Context) error {
	v, p := f.v, f.v.pool
	if err := v.settleNow(); err != nil {
		return err
	}
	need, head := Need{}, uint64(0)
	if err := f.walkShared(ctx, f.oldest, func(leaves []flatLeaf, pages, _ uint64) error {
		for i := range leaves {
			need.Clusters += uint64(len(leaves[i].clusters))
			head++
		}
		need.Pages += pages
		return nil
	}); err != nil {
		return err
	}
	way := uint64(0) // pages of the snapshots' maps that lead to one leaf, at most
	if err := v.r.Call(func() {
		for i := range v.snapshots.list {
			way += uint64(v.snapshots.list[i].Levels) + 1
		}
		head += uint64(flatWays * (int(v.tree.root.levels) + 2))
	}); err != nil {
		return err
	}
	if f.ways = flatWays * way; f.snapshots == 0 {
		need.Pages = 0
	}
	need.Pages += f.ways
	full := error(nil)
	if err := p.r.Call(func() {
		all := Need{need.Clusters, need.Pages + head} // the head's own pages are reserved leaf by leaf
		if !p.alloc.Reserve(all, Ordinary) {
			s := p.alloc.Space()
			wants := all.Clusters<<p.shape.shift + all.Pages
			has := s.Free - min(s.Free, s.Reserved+s.Cushion)
			full = fmt.Errorf("%w: it needs %d bytes, of which %d are lacking; nothing was copied: grow the pool or delete something",
				ErrNoSpace, wants*PageBytes, max(wants-min(wants, has), 1)*PageBytes)
			return
		}
		p.alloc.Unreserve(Need{Pages: head})
		f.aside = need
	}); err != nil {
		return err
	}
	return full
}

// giveUp gives back what was reserved and not taken.
func (f *flat) giveUp() {
	_ = f.v.pool.r.Call(func() {
		f.v.pool.alloc.Unreserve(f.aside)
		f.aside = Need{}
	})
}

// errFlatFull says that the pool became full meanwhile.
var errFlatFull = fmt.Errorf("%w: its copies need it, and others took it meanwhile; what was copied stays", ErrNoSpace)

// takeClusters takes places for the copies.
func (f *flat) takeClusters(l *flatLeaf) error {
	p, n := f.v.pool, len(l.clusters)
	l.to, l.used = make([]Place, n), make([]bool, n)
	got := 0
	err := p.r.Call(func() {
		if got = int(min(f.aside.Clusters, uint64(n))); got > 0 {
			p.alloc.TakeClusters(l.to[:got])
			f.aside.Clusters -= uint64(got)
		}
		got += p.alloc.GrantClusters(l.to[got:], Ordinary)
		if short := f.ways - min(f.ways, f.aside.Pages); p.alloc.Reserve(Need{Pages: short}, Ordinary) {
			f.aside.Pages += short
		}
	})
	l.to = l.to[:got]
	if err == nil && got < n {
		err = errFlatFull
	}
	return err
}

// takePage takes a page for a map.
func (f *flat) takePage() (Place, error) {
	p := f.v.pool
	var to [1]Place
	got := 1
	if err := p.r.Call(func() {
		if f.aside.Pages == 0 {
			got = p.alloc.GrantPages(to[:], Ordinary)
			return
		}
		p.alloc.TakePages(to[:])
		f.aside.Pages--
	}); err != nil {
		return 0, err
	}
	if got == 0 {
		return 0, errFlatFull
	}
	return to[0], nil
}

// settle gives back the places of a leaf to which nothing refers.
func (f *flat) settle(l *flatLeaf, w *reweave, applied bool, err error) error {
	p := f.v.pool
	return errors.Join(err, p.r.Call(func() {
		for i, to := range l.to {
			if !applied || !l.used[i] {
				p.alloc.GiveBack(to, uint64(p.shape.Blocks()))
			}
		}
		if !applied {
			for _, page := range w.refer {
				p.alloc.GiveBack(page, 1)
			}
		}
	}))
}
