package volume

import (
	"bytes"
	"maps"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/pollux-storage/pollux/wal"
)

// history is a world with snapshots, each after some changes and perhaps a growth.
func history(t *rapid.T, w *mapWorld, snapshots int) {
	for range snapshots {
		if levels := w.head.root.levels + 1; levels <= 3 && rapid.IntRange(0, 3).Draw(t, "grows") == 0 {
			w.lsn++
			w.head.grow(levels)
		}
		for range rapid.IntRange(0, 12).Draw(t, "changes") {
			n := w.head.clusters()
			c := rapid.Uint64Range(0, 20).Draw(t, "cluster")
			if rapid.Bool().Draw(t, "far") {
				c *= n / 21
			}
			w.find(w.head, &w.image, min(c, n-1), true)
			w.readAll()
		}
		w.lsn++
		w.freeze(true)
		w.done(nil)
	}
}

// differing gives the clusters that two images have otherwise, in order.
func (w *mapWorld) differing(a, b worldImage, keep func(cluster uint64) bool) (clusters []uint64) {
	all := maps.Clone(a)
	maps.Copy(all, b)
	for _, c := range slices.Sorted(maps.Keys(all)) {
		if !bytes.Equal(w.want(a, c), w.want(b, c)) && keep(c) {
			clusters = append(clusters, c)
		}
	}
	return clusters
}

func TestMapDiffAgreesWithAComparisonOfAll(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := newMapWorld(t, rapid.Uint64().Draw(t, "seed"), ClusterShiftMax, 1, 130, 3, 120)
		history(t, w, 3)
		pick := func(label string) *worldSnapshot {
			i := rapid.IntRange(0, 3).Draw(t, label)
			if i == 3 {
				return &worldSnapshot{image: worldImage{}} // nothing
			}
			return w.snapshots[i]
		}
		a, b := pick("a"), pick("b")
		onlyA := rapid.Bool().Draw(t, "only a")
		floor := wal.LSN(0)
		if rapid.Bool().Draw(t, "with a floor") {
			floor = wal.LSN(rapid.Uint64Range(0, uint64(w.lsn)).Draw(t, "floor"))
		}

		var clusters []uint64
		var pages []Place
		var cursor uint64
		walk := w.walk(diffSide{w.owner(1), a.root}, diffSide{w.owner(1), b.root}, onlyA, floor, 0)
		for walk.last != diffEnd {
			switch walk.step() {
			case diffCluster:
				walk.compare(a.image, b.image)
				clusters = append(clusters, walk.d.cluster)
			case diffPage:
				pages = append(pages, walk.d.page.place)
			case diffMore:
				if walk.d.cursor < cursor {
					t.Fatalf("the cursor went back from %d to %d", cursor, walk.d.cursor)
				}
				if cursor = walk.d.cursor; rapid.IntRange(0, 3).Draw(t, "begin again") == 0 {
					walk = w.walk(walk.d.side[sideA], walk.d.side[sideB], onlyA, floor, cursor)
				}
			}
		}

		inA, inB := map[Place]bool{}, map[Place]bool{}
		w.reach(inA, a.root, true)
		w.reach(inB, b.root, true)
		pageOf := map[Place]Header{}
		for p := range inA {
			pageOf[p] = Header{Level: w.disk[p][32], Stamp: Stamp(le.Uint64(w.disk[p][24:]))}
		}
		// What a's leaf says, if it is newer than the floor: then it is read, and everything that differs in it is reported.
		leafNewer := func(c uint64) bool {
			leaf, _ := w.shape.Leaf(c)
			var at pageNumbers
			at.of(leaf)
			ref := a.root.ref
			for l := a.root.levels; ; l-- {
				if l == a.root.levels && at[l] != 0 || ref.IsZero() {
					return !onlyA
				}
				if pageOf[ref.Place].Stamp.LSN() <= floor {
					return false
				}
				if l == 0 {
					return true
				}
				ref = RefAt(w.disk[ref.Place], int(at[l-1]%RefsMax))
			}
		}
		if want := w.differing(a.image, b.image, leafNewer); !slices.Equal(clusters, want) {
			t.Fatalf("clusters %v, want %v", clusters, want)
		}
		var want []Place
		for p := range inA {
			if !inB[p] && pageOf[p].Stamp.LSN() > floor {
				want = append(want, p)
			}
		}
		slices.Sort(want)
		slices.Sort(pages)
		if !slices.Equal(pages, want) {
			t.Fatalf("pages %v, want %v", pages, want)
		}
	})
}

// Changed ranges since an LSN: never too little (S-11).
func TestMapDiffFloorLeavesNoNewerChangeOut(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := newMapWorld(t, rapid.Uint64().Draw(t, "seed"), ClusterShiftMax, 1, 130, 3, 120)
		history(t, w, 3)
		s := w.snapshots[2]
		since := wal.LSN(rapid.Uint64Range(0, uint64(w.lsn)).Draw(t, "since"))
		var got, want []uint64
		walk := w.walk(diffSide{w.owner(1), s.root}, diffSide{mapOwner: w.owner(1)}, true, since, 0)
		for walk.last != diffEnd {
			if walk.step() == diffCluster && walk.d.a.Change() > since {
				got = append(got, walk.d.cluster)
			}
		}
		for _, c := range slices.Sorted(maps.Keys(s.image)) {
			if wal.LSN(le.Uint64(s.image[c][16:])) > since {
				want = append(want, c)
			}
		}
		if !slices.Equal(got, want) {
			t.Fatalf("changed since %d: %v, want %v", since, got, want)
		}
	})
}

// The cost of a walk is that of the difference.
func TestMapDiffReadsOnlyWhatDiffers(t *testing.T) {
	w := newMapWorld(t, 1, ClusterShiftMin, 2, 1200, 4, 1100)
	commit := func() {
		w.lsn++
		w.freeze(true)
		w.done(nil)
	}
	for c := uint64(0); c < w.head.clusters(); c += w.head.clusters() / 500 {
		w.find(w.head, &w.image, c, true)
	}
	commit()
	w.find(w.head, &w.image, 7, true)
	commit()
	w.crash() // nothing is in memory
	w.reads = 0
	walk := w.walk(w.snapshots[0].tree.side(), w.snapshots[1].tree.side(), false, 0, 0)
	clusters, pages := 0, 0
	for walk.last != diffEnd {
		switch walk.step() {
		case diffCluster:
			clusters++
		case diffPage:
			pages++
		}
	}
	if clusters != 1 || pages != 3 || w.reads != 6 {
		t.Fatalf("%d clusters, %d pages, %d reads; want 1, 3, and 6", clusters, pages, w.reads)
	}
}
