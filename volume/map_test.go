package volume

import (
	"maps"
	"testing"

	"pgregory.net/rapid"
)

func TestMapAgreesWithItsTwin(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		const frames, reads, dirty = 54, 2, 50
		w := newMapWorld(t, rapid.Uint64().Draw(t, "seed"), ClusterShiftMax, 1, frames, reads, dirty)
		cluster := func(t *rapid.T, n uint64) uint64 {
			c := rapid.Uint64Range(0, 30).Draw(t, "cluster")
			if rapid.Bool().Draw(t, "far") {
				c *= n / 31
			}
			return min(c, n-1)
		}
		t.Repeat(map[string]func(*rapid.T){
			"read": func(t *rapid.T) { w.find(w.head, &w.image, cluster(t, w.head.clusters()), false) },
			"write": func(t *rapid.T) {
				for range rapid.IntRange(1, 4).Draw(t, "n") {
					w.find(w.head, &w.image, cluster(t, w.head.clusters()), true)
				}
			},
			"read a snapshot": func(t *rapid.T) {
				if len(w.snapshots) == 0 {
					t.Skip()
				}
				s := w.snapshots[rapid.IntRange(0, len(w.snapshots)-1).Draw(t, "snapshot")]
				if w.deleting == nil || w.deleting.s != s {
					w.find(s.tree, &s.image, cluster(t, s.tree.clusters()), false)
				}
			},
			"a page comes":   func(t *rapid.T) { w.readOne() },
			"all pages come": func(t *rapid.T) { w.readAll() },
			"freeze": func(t *rapid.T) {
				if w.head.committing {
					t.Skip()
				}
				w.lsn++ // a snapshot and a resize have their LSN too
				w.freeze(rapid.Bool().Draw(t, "snapshot") && len(w.snapshots) < 4)
			},
			"seal": func(t *rapid.T) {
				if !w.head.committing {
					t.Skip()
				}
				w.seal(rapid.IntRange(0, 20).Draw(t, "n"))
			},
			"unseal": func(t *rapid.T) {
				if !w.head.committing {
					t.Skip()
				}
				w.unseal()
			},
			"commit done": func(t *rapid.T) {
				if !w.head.committing {
					t.Skip()
				}
				w.done(nil)
			},
			"commit failed": func(t *rapid.T) {
				if !w.head.committing {
					t.Skip()
				}
				w.failed()
			},
			"delete a snapshot": func(t *rapid.T) {
				if len(w.snapshots) == 0 || w.deleting != nil {
					t.Skip()
				}
				w.readAll()
				w.deleting = &worldDelete{s: w.snapshots[rapid.IntRange(0, len(w.snapshots)-1).Draw(t, "snapshot")]}
			},
			"delete on": func(t *rapid.T) {
				if w.deleting == nil || w.head.committing {
					t.Skip()
				}
				w.deleteStep(rapid.IntRange(0, 3).Draw(t, "fails") == 0, rapid.IntRange(1, 6).Draw(t, "leaves"))
			},
			"grow": func(t *rapid.T) {
				if levels := w.head.root.levels + 1; levels <= 3 && w.head.canGrow(levels) {
					w.lsn++
					w.head.grow(levels)
				}
			},
			"crash": func(t *rapid.T) {
				if rapid.IntRange(0, 2).Draw(t, "really") == 0 {
					w.crash()
				}
			},
			"": func(t *rapid.T) { w.c.verify(t) },
		})
		w.readAll()
		for c := range maps.Keys(w.image) {
			w.find(w.head, &w.image, c, false)
		}
		for _, s := range w.snapshots {
			for c := range maps.Keys(s.image) {
				if w.deleting == nil || w.deleting.s != s {
					w.find(s.tree, &s.image, c, false)
				}
			}
			w.readAll()
		}
	})
}

// verify looks at what must be true of a cache between two calls.
func (c *pageCache) verify(t failer) {
	t.Helper()
	var n [frameSealed + 1]int
	for f := range c.frames {
		fr := &c.frames[f]
		n[fr.state]++
		if fr.listed != (fr.state == frameClean) {
			t.Fatalf("frame %d is %v, and listed: %v", f, fr.state, fr.listed)
		}
		if hashed := fr.state == frameReading || fr.state == frameClean || fr.state == frameSealed; hashed && c.lookup(fr.source, fr.ref) != int32(f) {
			t.Fatalf("frame %d is %v, and not found", f, fr.state)
		}
	}
	free := 0
	for f := c.free; f != noFrame; f = c.frames[f].chain {
		free++
	}
	if free != n[frameFree] || c.evict.n != n[frameClean] || c.dirty != n[frameDirty]+n[frameFrozen]+n[frameSealed] || c.dirty > c.max || c.promised < 0 {
		t.Fatalf("%v frames by state, %d free, %d listed, %d dirty", n, free, c.evict.n, c.dirty)
	}
}
