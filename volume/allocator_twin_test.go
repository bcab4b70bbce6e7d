package volume

import (
	"maps"
	"slices"
	"testing"

	"pgregory.net/rapid"
)

// This file is the allocator against an obvious model, on a device that crashes in commits and loses slots.
//
// The model knows for each page what it is, and for each slot the pages to which its root refers. What must hold:
//   - no page is handed out to which the root of either slot refers, nor one that was handed out before;
//   - what was reserved can be taken;
//   - what the allocator counts is what the model counts;
//   - after a crash the pool opens by the newest slot, and also by the older one, with the root that was committed;
//   - when nothing is handed out, two commits later every page is free or in the root.

type twinState uint8

const (
	twinFree twinState = iota
	twinGranted
	twinRoot
	twinResting
	twinForsaken // handed out, and never to come back
)

type allocatorTwin struct {
	a     *Allocator
	state map[Place]twinState // free pages are absent
	until map[Place]Generation

	disk  map[Place][]byte
	slots [2]struct {
		slot Slot
		root map[Place]bool
		ok   bool
	}
	newest   int
	reserved Need
}

func (m *allocatorTwin) rootNow() map[Place]bool {
	root := map[Place]bool{}
	for p, s := range m.state {
		if s == twinRoot {
			root[p] = true
		}
	}
	return root
}

func (m *allocatorTwin) pick(t *rapid.T, s twinState) (Place, bool) {
	var list []Place
	for p, x := range m.state {
		if x == s {
			list = append(list, p)
		}
	}
	if len(list) == 0 {
		return 0, false
	}
	slices.Sort(list)
	return rapid.SampledFrom(list).Draw(t, "place"), true
}

func (m *allocatorTwin) handOut(t *rapid.T, p Place, n uint64) {
	for ; n > 0; p, n = p+1, n-1 {
		if m.state[p] != twinFree {
			t.Fatalf("page %d is handed out and was in state %d", p, m.state[p])
		}
		for i := range m.slots {
			if m.slots[i].ok && m.slots[i].root[p] {
				t.Fatalf("page %d is handed out, and the root of slot %d (generation %d) refers to it", p, i, m.slots[i].slot.Generation)
			}
		}
		if uint64(p) >= m.a.bits.pages {
			t.Fatalf("page %d is handed out of %d", p, m.a.bits.pages)
		}
		m.state[p] = twinGranted
	}
}

// check compares the counters with the model and the bits with the counters.
func (m *allocatorTwin) check(t *rapid.T) {
	n := map[twinState]uint64{}
	for p, s := range m.state {
		n[s]++
		if s != twinFree && countBits(m.a.bits.used, uint64(p), 1) != 1 {
			t.Fatalf("page %d is in state %d and free", p, s)
		}
	}
	s, k := m.a.Space(), m.a.bits.clusterPages()
	pages := m.a.bits.pages
	whole := uint64(0)
	for c := uint64(0); (c+1)*k <= pages; c++ {
		free := true
		for p := c * k; p < (c+1)*k; p++ {
			free = free && m.state[Place(p)] == twinFree
		}
		if free {
			whole++
		}
		if free != m.a.bits.whole.has(c) {
			t.Fatalf("cluster %d is whole: %t", c, !free)
		}
	}
	want := Space{
		Total: pages, Root: n[twinRoot], Granted: n[twinGranted] + n[twinForsaken], Resting: n[twinResting],
		Free:     pages - n[twinRoot] - n[twinGranted] - n[twinForsaken] - n[twinResting],
		Reserved: m.reserved.Clusters*k + m.reserved.Pages, Cushion: Cushion(pages), Clusters: whole,
	}
	if s != want {
		t.Fatalf("space %+v,\nwant %+v", s, want)
	}
	if got := countBits(m.a.bits.used, 0, pages); got != pages-s.Free {
		t.Fatalf("%d pages are used, and %d free of %d", got, s.Free, pages)
	}
}

// commit writes sides and slot; it stops before the write of number stop (the slot is the last), which is torn.
func (m *allocatorTwin) commit(t *rapid.T, stop int) (done bool) {
	g := m.a.Begin()
	page := make([]byte, PageBytes)
	place, ok := m.a.NextSide(page)
	for n := 0; ok; n++ {
		if n == stop {
			half := append(slices.Clone(page[:2048]), make([]byte, 2048)...)
			if old := m.disk[place]; old != nil {
				copy(half[2048:], old[2048:])
			}
			m.disk[place] = half
			return false
		}
		m.disk[place] = slices.Clone(page)
		place, ok = m.a.NextSide(page)
	}
	if stop >= 0 && rapid.Bool().Draw(t, "before the slot") {
		return false
	}
	to := &m.slots[int(g)%2]
	if stop >= 0 { // the slot is torn
		to.ok = false
		return false
	}
	if p, ok := m.pick(t, twinGranted); ok && rapid.Bool().Draw(t, "release in the commit") {
		m.a.Release(p, 1)
		m.state[p], m.until[p] = twinResting, g+1
	}
	m.a.FillSlot(&to.slot)
	to.ok, to.root, m.newest = true, m.rootNow(), int(g)%2
	if to.slot.Generation != g {
		t.Fatalf("generation %d in the slot, %d in the commit", to.slot.Generation, g)
	}
	m.a.Committed()
	for p, u := range m.until {
		if u == g {
			delete(m.until, p)
			delete(m.state, p)
		}
	}
	return true
}

// open opens the pool from the device, by the newest valid slot.
func (m *allocatorTwin) open(t *rapid.T) {
	if !m.slots[m.newest].ok {
		m.newest = 1 - m.newest
	}
	s, older := &m.slots[m.newest].slot, &m.slots[1-m.newest].slot
	if !m.slots[1-m.newest].ok || older.Generation+1 != s.Generation {
		older = nil
	}
	m.a = OpenAllocator(s, older)
	for i := range m.a.BitmapPages() {
		var side [sides][]byte
		at := m.a.SidesPlace(i)
		for j := range side {
			side[j] = m.disk[at+Place(j)]
			if side[j] == nil {
				side[j] = make([]byte, PageBytes)
			}
		}
		if err := m.a.Load(i, side); err != nil {
			t.Fatal(err)
		}
	}
	if err := m.a.Loaded(); err != nil {
		t.Fatal(err)
	}
	m.state, m.until, m.reserved = map[Place]twinState{}, map[Place]Generation{}, Need{}
	for p := range m.slots[m.newest].root {
		m.state[p] = twinRoot
	}
	if older != nil {
		for p := range m.slots[1-m.newest].root {
			if m.state[p] == twinFree {
				m.state[p], m.until[p] = twinResting, s.Generation+1
			}
		}
		for p := Place(older.Pages); p < Place(s.Pages); p++ {
			if m.state[p] == twinFree {
				m.state[p], m.until[p] = twinResting, s.Generation+1
			}
		}
	}
	for p := range m.a.bits.pages {
		if got := countBits(m.a.bits.committed, p, 1) == 1; got != m.slots[m.newest].root[Place(p)] {
			t.Fatalf("opened by generation %d, page %d is in the root: %t", s.Generation, p, got)
		}
	}
}

func TestAllocatorIsItsTwin(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		shift := rapid.Uint32Range(ClusterShiftMin, ClusterShiftMax).Draw(t, "shift")
		pages := rapid.Uint64Range(600, 3000).Draw(t, "pages")
		if rapid.IntRange(0, 4).Draw(t, "two bitmap pages") == 0 {
			pages += bitsPerPage - 1500
		}
		areas, err := FirstArea(pages, shift)
		if err != nil {
			t.Fatal(err)
		}
		m := &allocatorTwin{
			a: NewAllocator(testPool, shift, pages, areas), disk: map[Place][]byte{},
			state: map[Place]twinState{}, until: map[Place]Generation{},
		}
		k := Place(1) << shift
		for p := range Place(headPages(shift)) {
			m.state[p] = twinRoot
		}
		for p := range Place(areas[0].Pages()) {
			m.state[areas[0].First+p] = twinRoot
		}
		m.check(t)
		m.commit(t, -1)

		for range rapid.IntRange(1, 80).Draw(t, "steps") {
			switch act := rapid.IntRange(0, 15).Draw(t, "act"); act {
			case 0, 1: // reserve and perhaps take
				n := Need{rapid.Uint64Max(20).Draw(t, "clusters"), rapid.Uint64Max(300).Draw(t, "pages")}
				class := Class(rapid.IntRange(0, 1).Draw(t, "class"))
				before := m.a.Space()
				if !m.a.Reserve(n, class) {
					if before.Clusters > before.Reserved+before.Cushion+n.Clusters+n.Pages { // more than enough, in whole clusters alone
						t.Fatalf("%+v is refused, and there is %+v", n, before)
					}
					break
				}
				m.reserved.Clusters += n.Clusters
				m.reserved.Pages += n.Pages
			case 2, 3: // take of what is reserved: it must be there
				clusters := make([]Place, rapid.Uint64Max(m.reserved.Clusters).Draw(t, "clusters"))
				single := make([]Place, rapid.Uint64Max(m.reserved.Pages).Draw(t, "pages"))
				m.a.TakePages(single)
				m.a.TakeClusters(clusters)
				m.reserved.Clusters -= uint64(len(clusters))
				m.reserved.Pages -= uint64(len(single))
				for _, p := range single {
					m.handOut(t, p, 1)
				}
				for _, p := range clusters {
					if p%k != 0 {
						t.Fatalf("a cluster begins at %d", p)
					}
					m.handOut(t, p, uint64(k))
				}
			case 4:
				n := Need{rapid.Uint64Max(m.reserved.Clusters).Draw(t, "clusters"), rapid.Uint64Max(m.reserved.Pages).Draw(t, "pages")}
				m.a.Unreserve(n)
				m.reserved.Clusters -= n.Clusters
				m.reserved.Pages -= n.Pages
			case 5: // grants
				class := Class(rapid.IntRange(0, 1).Draw(t, "class"))
				dst := make([]Place, rapid.IntRange(0, 40).Draw(t, "n"))
				for _, p := range dst[:m.a.GrantClusters(dst, class)] {
					m.handOut(t, p, uint64(k))
				}
				for _, p := range dst[:m.a.GrantPages(dst, class)] {
					m.handOut(t, p, 1)
				}
			case 6: // a log
				n, dst := rapid.Uint64Range(1, 40).Draw(t, "clusters"), make([]Extent, 4)
				before := m.a.Space()
				runs, ok := m.a.TakeRuns(dst, n)
				if !ok && m.a.Space() != before {
					t.Fatal("a log was refused and took space")
				}
				total := uint64(0)
				for _, e := range dst[:runs] {
					if e.Place%k != 0 || e.Pages%uint64(k) != 0 {
						t.Fatalf("a run of %d pages begins at %d", e.Pages, e.Place)
					}
					m.handOut(t, e.Place, e.Pages)
					total += e.Pages
				}
				if ok && total != n*uint64(k) {
					t.Fatalf("%d pages for %d clusters", total, n)
				}
			case 7: // give back, release
				p, ok := m.pick(t, twinGranted)
				if !ok {
					break
				}
				if rapid.Bool().Draw(t, "named") {
					m.a.Release(p, 1)
					m.state[p], m.until[p] = twinResting, m.a.Durable()+2
				} else {
					m.a.GiveBack(p, 1)
					delete(m.state, p)
				}
			case 8, 9, 10: // refer
				for range rapid.IntRange(1, 20).Draw(t, "n") {
					if p, ok := m.pick(t, twinGranted); ok {
						n := uint64(0)
						for ; n < 30 && m.state[p+Place(n)] == twinGranted; n++ {
							m.state[p+Place(n)] = twinRoot
						}
						m.a.Refer(p, n)
					}
				}
			case 11, 12: // unrefer
				for range rapid.IntRange(1, 20).Draw(t, "n") {
					p, ok := m.pick(t, twinRoot)
					if !ok || p < areas[0].First+Place(areas[0].Pages()) || m.inNewArea(p) {
						continue
					}
					if rapid.IntRange(0, 9).Draw(t, "forsake") == 0 {
						m.a.Forsake(p, 1)
						m.state[p] = twinForsaken
						continue
					}
					m.a.Unrefer(p, 1)
					m.state[p], m.until[p] = twinResting, m.a.Durable()+2
				}
			case 13:
				m.commit(t, -1)
			case 14: // a crash in a commit, or without; perhaps the newest slot is lost
				stop := rapid.IntRange(-1, 3).Draw(t, "stop")
				if stop >= 0 {
					m.commit(t, stop)
				}
				if m.slots[0].ok && m.slots[1].ok && rapid.IntRange(0, 2).Draw(t, "spoil") == 0 {
					m.slots[m.newest].ok = false
				}
				m.open(t)
				// What the records of a log name is claimed again.
				if free := m.a.bits.freePages(); free > 0 {
					p := Place(rapid.Uint64Max(m.a.bits.pages-1).Draw(t, "named"))
					if got, want := m.a.Claim(p, 1), m.state[p] == twinFree; got != want {
						t.Fatalf("claiming page %d: %t, want %t", p, got, want)
					} else if got {
						m.handOut(t, p, 1)
					}
				}
			case 15: // grow
				if m.a.bits.pages > 40000 {
					break
				}
				old := m.a.bits.pages
				to := old + rapid.SampledFrom([]uint64{1, 100, 2000, 33000}).Draw(t, "by")
				now, err := GrownAreas(m.a.bits.areas, to, shift)
				if err != nil {
					break
				}
				m.a.Grow(to, now)
				for p := Place(old); p < Place(to); p++ {
					m.state[p], m.until[p] = twinResting, m.a.Durable()+2
				}
				for p := Place(old); p < Place(to); p++ {
					if m.inNewArea(p) {
						m.state[p] = twinRoot
						delete(m.until, p)
					}
				}
			}
			m.check(t)
		}

		// All that was handed out comes back; two commits later nothing rests.
		for p, s := range maps.Clone(m.state) {
			if s == twinGranted {
				m.a.GiveBack(p, 1)
				delete(m.state, p)
			}
		}
		m.commit(t, -1)
		m.commit(t, -1)
		m.check(t)
		forsaken := uint64(0)
		for _, s := range m.state {
			if s == twinForsaken {
				forsaken++
			}
		}
		if s := m.a.Space(); s.Granted != forsaken || s.Resting != 0 || s.Root+s.Free+forsaken != s.Total {
			t.Fatalf("in the end %+v", s)
		}
		m.open(t)
		m.check(t)
	})
}

func (m *allocatorTwin) inNewArea(p Place) bool {
	for _, a := range m.a.bits.areas[1:] {
		if p >= a.First && p < a.First+Place(a.Pages()) {
			return true
		}
	}
	return false
}
