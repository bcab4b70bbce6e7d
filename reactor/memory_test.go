package reactor

import (
	"encoding/binary"
	"slices"
	"testing"
	"unsafe"

	"pgregory.net/rapid"

	"github.com/pollux-storage/pollux/internal/invariant"
)

// newPool is a pool without a ring.
func newPool(t testing.TB, bytes int) *Memory {
	t.Helper()
	m, err := newMemory(new(Reactor), &Config{MemoryBytes: bytes})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(m.unmap)
	return m
}

// flush runs what the pool has deferred to the end of the tick.
func (m *Memory) flush() { m.r.runAll(&m.r.deferred) }

// memoryTwin knows the buffers that are out, and by them what each slab is used for.
type memoryTwin struct {
	m     *Memory
	out   []twinBuffer
	stamp uint64
}

type twinBuffer struct {
	b     []byte
	class int
	stamp uint64
}

func (w *memoryTwin) slabOf(b []byte) int { return int(w.m.offset(b)) / BufferMax }

// hasRoom says whether a buffer of class c may be had: in a slab of the class with room, or in one that nobody uses.
func (w *memoryTwin) hasRoom(c int) bool {
	pages, class := map[int]int{}, map[int]int{}
	for _, o := range w.out {
		s := w.slabOf(o.b)
		class[s] = o.class
		pages[s] += 1 << o.class
	}
	for s := range w.m.limit / BufferMax {
		if p := pages[s]; p == 0 || class[s] == c && p < pagesPerSlab && s != int(w.m.draining) {
			return true
		}
	}
	return false
}

type fataler interface {
	Fatalf(format string, args ...any)
}

func (w *memoryTwin) take(t fataler, b []byte, n int) {
	c := classOf(n)
	if len(b) != n || cap(b) != PageBytes<<c || cap(b) < n || c > 0 && cap(b)/2 >= n {
		t.Fatalf("asked for %d bytes, got %d with room for %d", n, len(b), cap(b))
	}
	if uintptr(unsafe.Pointer(&b[0]))%uintptr(cap(b)) != 0 {
		t.Fatalf("a buffer of %d bytes at %p", cap(b), &b[0])
	}
	if !w.m.Owns(b) {
		t.Fatalf("the pool does not know its own buffer")
	}
	w.stamp++
	b = b[:cap(b)]
	binary.NativeEndian.PutUint64(b, w.stamp)
	binary.NativeEndian.PutUint64(b[len(b)-8:], w.stamp)
	w.out = append(w.out, twinBuffer{b, c, w.stamp})
}

func (w *memoryTwin) give(t fataler, i int) {
	o := w.out[i]
	if s := binary.NativeEndian.Uint64(o.b); s != o.stamp || s != binary.NativeEndian.Uint64(o.b[len(o.b)-8:]) {
		t.Fatalf("a buffer that was out was lent to another")
	}
	w.out = slices.Delete(w.out, i, i+1)
	w.m.Put(o.b[:1])
}

// check looks whether the pool's lists and counts say what the twin knows.
func (w *memoryTwin) check(t fataler) {
	m, inUse := w.m, 0
	used := make([]int, len(m.slabs))
	for _, o := range w.out {
		inUse += len(o.b)
		used[w.slabOf(o.b)]++
	}
	if m.inUse != inUse || m.peak < inUse || inUse > m.limit {
		t.Fatalf("%d bytes in use of %d, want %d", m.inUse, m.limit, inUse)
	}
	seen := make([]int, len(m.slabs))
	walk := func(head int32, ok func(i int32, s *slab) bool) {
		before := int32(noSlab)
		for i := head; i != noSlab; before, i = i, m.slabs[i].next {
			s := &m.slabs[i]
			if seen[i]++; seen[i] > 1 || s.prev != before || !s.listed || !ok(i, s) {
				t.Fatalf("slab %d in the wrong list: %+v", i, s)
			}
		}
	}
	walk(m.spare, func(_ int32, s *slab) bool { return s.class == noClass && s.used == 0 })
	for c := range classes {
		walk(m.partial[c], func(i int32, s *slab) bool {
			return int(s.class) == c && int(s.used) < buffersOf(c) && (s.used > 0 || m.kept[c] == i)
		})
		if k := m.kept[c]; k != noSlab && (int(m.slabs[k].class) != c || m.slabs[k].used != 0 || seen[k] == 0) {
			t.Fatalf("class %d keeps slab %d: %+v", c, k, m.slabs[k])
		}
	}
	for i := range m.slabs {
		s := &m.slabs[i]
		if int(s.used) != used[i] {
			t.Fatalf("slab %d: %d used, want %d", i, s.used, used[i])
		}
		if full := s.class != noClass && int(s.used) == buffersOf(int(s.class)); (seen[i] == 0) != (full || i == int(m.draining)) {
			t.Fatalf("slab %d, draining %d: in %d lists: %+v", i, m.draining, seen[i], s)
		}
	}
}

func TestPoolAgainstItsTwin(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		m, err := newMemory(new(Reactor), &Config{MemoryBytes: 2 * chunkBytes})
		if err != nil {
			t.Fatal(err)
		}
		defer m.unmap()
		w := &memoryTwin{m: m}
		size := rapid.Custom(func(t *rapid.T) int {
			c := rapid.IntRange(0, classes-1).Draw(t, "class")
			return max(1, PageBytes<<c-rapid.IntRange(0, 2047).Draw(t, "less"))
		})
		type waiter struct {
			Waiter
			n     int
			order int
		}
		var waiters []*waiter // in the order in which they came
		came := 0
		get := func(t *rapid.T) {
			n := size.Draw(t, "bytes")
			for range rapid.IntRange(1, 40).Draw(t, "times") {
				room := w.hasRoom(classOf(n))
				b := m.Get(n)
				if b != nil {
					if slices.ContainsFunc(waiters, func(x *waiter) bool { return classOf(x.n) == classOf(n) }) {
						t.Fatalf("%d bytes are lent past those who wait for them", n)
					}
					if len(waiters) > 0 && m.slabs[w.slabOf(b)].used == 1 {
						t.Fatalf("a free slab is lent past those who wait")
					}
					w.take(t, b, n)
					continue
				}
				if room && len(waiters) == 0 {
					t.Fatalf("%d bytes are refused though there is room", n)
				}
				if rapid.Bool().Draw(t, "waits") {
					came++
					x := &waiter{n: n, order: came}
					waiters = append(waiters, x)
					m.Await(&x.Waiter, timerFunc(func() {
						i := slices.Index(waiters, x)
						for _, y := range waiters[:i] {
							if classOf(y.n) == classOf(n) {
								t.Fatalf("waiter %d is served before %d of its class", x.order, y.order)
							}
						}
						waiters = slices.Delete(waiters, i, i+1)
						b := m.Get(n)
						if b == nil {
							t.Fatalf("waiter %d has its turn and gets nothing", x.order)
						}
						w.take(t, b, n)
					}))
				}
				return
			}
		}
		t.Repeat(map[string]func(*rapid.T){
			"get":  get,
			"get2": get,
			"put": func(t *rapid.T) {
				for range rapid.IntRange(1, 60).Draw(t, "times") {
					if len(w.out) == 0 {
						return
					}
					w.give(t, rapid.IntRange(0, len(w.out)-1).Draw(t, "which"))
				}
			},
			"forget": func(t *rapid.T) {
				if len(waiters) > 0 {
					i := rapid.IntRange(0, len(waiters)-1).Draw(t, "who")
					m.Forget(&waiters[i].Waiter)
					m.Forget(&waiters[i].Waiter)
					waiters = slices.Delete(waiters, i, i+1)
				}
			},
			"": func(t *rapid.T) { w.check(t) },
			"tick": func(t *rapid.T) {
				m.flush()
				for _, x := range waiters {
					if w.hasRoom(classOf(x.n)) {
						t.Fatalf("waiter %d for %d bytes waits though there is room", x.order, x.n)
					}
				}
				if m.Stats().Waiting != len(waiters) {
					t.Fatalf("%d wait, want %d", m.Stats().Waiting, len(waiters))
				}
			},
		})
		m.flush()
		for len(w.out) > 0 {
			w.give(t, 0)
			m.flush()
		}
		if len(waiters) > 0 || m.inUse != 0 {
			t.Fatalf("all was given back: %d still wait, %d bytes in use", len(waiters), m.inUse)
		}
	})
}

// A class that holds every slab by a few buffers each, and keeps taking as much as it gives, would never give a slab back.
func TestALargeWaiterIsServedBesideSmallTakers(t *testing.T) {
	m := newPool(t, chunkBytes)
	var out [][]byte
	for b := m.Get(PageBytes); b != nil; b = m.Get(PageBytes) {
		out = append(out, b)
	}
	// Every sixteenth one back: there is room for small ones everywhere, and all of it together is less than a slab.
	for i := 0; i < len(out); i += 15 {
		m.Put(out[i])
		out = slices.Delete(out, i, i+1)
	}
	if m.Get(BufferMax) != nil {
		t.Fatal("the test shows nothing: there is a free slab")
	}
	served := false
	var w Waiter
	m.Await(&w, timerFunc(func() { served = m.Get(BufferMax) != nil }))
	taken := 0
	for n := len(out); n > 0 && !served; n-- { // until each buffer that was out has been given back once
		m.Put(out[0])
		out = out[1:]
		m.flush()
		for range 2 {
			if b := m.Get(PageBytes); b != nil {
				out = append(out, b)
				taken++
			}
		}
	}
	if !served {
		t.Error("the waiter for a large buffer starves")
	}
	if taken == 0 {
		t.Error("nobody else got anything meanwhile")
	}
}

func TestAWaiterThatIsRefusedAgainKeepsItsPlace(t *testing.T) {
	m := newPool(t, chunkBytes)
	var out [][]byte
	for b := m.Get(BufferMax); b != nil; b = m.Get(BufferMax) {
		out = append(out, b)
	}
	var got []int
	var first, second Waiter
	tries := 0
	var try timerFunc
	try = func() {
		if tries++; tries == 1 { // it needs two buffers, and there is one: it gives that back and waits on
			a, b := m.Get(BufferMax), m.Get(BufferMax)
			if a == nil || b != nil {
				t.Errorf("first try: %v, %v", a != nil, b != nil)
			}
			m.Await(&first, try)
			m.Put(a)
			return
		}
		got = append(got, 1)
	}
	m.Await(&first, try)
	m.Await(&second, timerFunc(func() { got = append(got, 2) }))
	m.Put(out[0])
	m.flush()
	if !slices.Equal(got, []int{1, 2}) {
		t.Errorf("served %v", got)
	}
}

func TestAWaiterThatNeedNotWaitIsServed(t *testing.T) {
	m := newPool(t, chunkBytes)
	var last []byte
	for range slabsPerChunk {
		last = m.Get(BufferMax)
	}
	m.Put(last) // its class keeps it
	served := false
	var w Waiter
	m.Await(&w, timerFunc(func() { served = m.Get(PageBytes) != nil }))
	m.flush()
	if !served {
		t.Error("a waiter waits though there is room")
	}
}

func TestWhatWasNotLentIsNotTakenBack(t *testing.T) {
	other := newPool(t, chunkBytes)
	for name, c := range map[string]struct {
		what string
		put  func(m *Memory, b []byte)
	}{
		"twice":                  {"reactor: buffer given back twice", func(m *Memory, b []byte) { m.Put(b); m.Put(b) }},
		"twice, slab in use":     {"reactor: buffer given back twice", func(m *Memory, b []byte) { m.Get(8192); m.Put(b); m.Put(b) }},
		"twice, slab spare":      {"reactor: buffer given back twice", func(m *Memory, b []byte) { m.Put(b); m.unkeep(); m.Put(b) }},
		"its second half":        {"reactor: something else than a whole buffer given back", func(m *Memory, b []byte) { m.Put(b[4096:]) }},
		"from within":            {"reactor: something else than a whole buffer given back", func(m *Memory, b []byte) { m.Put(b[1:]) }},
		"of another pool":        {"reactor: buffer of another pool given back", func(m *Memory, b []byte) { m.Put(other.Get(8192)) }},
		"of the heap":            {"reactor: buffer of another pool given back", func(m *Memory, b []byte) { m.Put(make([]byte, 8192)) }},
		"nil":                    {"reactor: buffer of another pool given back", func(m *Memory, b []byte) { m.Put(nil) }},
		"past what is ready":     {"reactor: buffer of another pool given back", func(m *Memory, b []byte) { m.Put(m.pool[m.ready : m.ready+1]) }},
		"a size that is none":    {"reactor: buffer of a size that no pool has", func(m *Memory, b []byte) { m.Get(0) }},
		"more than there may be": {"reactor: buffer of a size that no pool has", func(m *Memory, b []byte) { m.Get(BufferMax + 1) }},
		"a waiter twice": {"reactor: waits for memory twice", func(m *Memory, b []byte) {
			var w Waiter
			m.Await(&w, nil)
			m.Await(&w, nil)
		}},
	} {
		t.Run(name, func(t *testing.T) {
			m := newPool(t, 2*chunkBytes)
			b := m.Get(8192)
			mustBreak(t, c.what, func() { c.put(m, b) })
		})
	}
}

func TestAFreeSlabServesEveryClass(t *testing.T) {
	m := newPool(t, chunkBytes)
	for round := range 3 * classes {
		var out [][]byte
		size := PageBytes << (round % classes)
		for b := m.Get(size); b != nil; b = m.Get(size) {
			out = append(out, b)
		}
		if n := len(out) * size; n != chunkBytes {
			t.Errorf("buffers of %d bytes: %d bytes of %d could be had", size, n, chunkBytes)
		}
		for _, b := range out {
			m.Put(b)
		}
	}
}

func TestAPoolThatHasNoMoreMemoryHasThatLimit(t *testing.T) {
	m := newPool(t, 4*chunkBytes)
	m.whyNot = errPoolFull
	m.next.Store(chunkFailed)
	n := 0
	for b := m.Get(BufferMax); b != nil; b = m.Get(BufferMax) {
		n++
	}
	if n != slabsPerChunk || m.Stats().Limit != chunkBytes {
		t.Errorf("%d slabs, limit %d", n, m.Stats().Limit)
	}
}

func TestPoolGrowsAsFarAsItsLimit(t *testing.T) {
	m := newPool(t, 3*chunkBytes-1)
	if s := m.Stats(); s.Ready != chunkBytes || s.Limit != 3*chunkBytes {
		t.Errorf("at the beginning %+v", s)
	}
	var out [][]byte
	for b := m.Get(BufferMax); b != nil; b = m.Get(BufferMax) {
		for i := 0; i < len(b); i += PageBytes {
			b[i] = 1
		}
		out = append(out, b)
	}
	if s := m.Stats(); len(out) != 3*slabsPerChunk || s.Ready != s.Limit || s.InUse != s.Limit || s.Retries != 1 || s.Takeouts != uint64(len(out)) {
		t.Errorf("at the end %d slabs, %+v", len(out), s)
	}
}

func TestMemoryAllocatesNothing(t *testing.T) {
	m := newPool(t, chunkBytes)
	out := make([][]byte, 0, 4096)
	var waiters [64]Waiter
	n := 0
	serve := timerFunc(func() { n++ })
	if got := testing.AllocsPerRun(20, func() {
		for i := 0; ; i++ {
			b := m.Get(PageBytes << (i % classes))
			if b == nil {
				break
			}
			out = append(out, b)
		}
		for i := range waiters {
			m.Await(&waiters[i], serve)
		}
		for _, b := range out {
			m.Put(b)
			m.flush()
		}
		out = out[:0]
	}); got != 0 {
		t.Errorf("%v allocations", got)
	}
	if n == 0 {
		t.Error("nobody was served")
	}
}

func TestABufferGivenBackIsSpoiledInExpensiveBuilds(t *testing.T) {
	m := newPool(t, chunkBytes)
	b := m.Get(PageBytes)
	b[0] = 1
	m.Put(b[:1:1])
	if spoiled := b[0] == 0xdb; spoiled != invariant.Expensive {
		t.Errorf("first byte %#x", b[0])
	}
}
