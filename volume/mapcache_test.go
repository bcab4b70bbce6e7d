package volume

import (
	"context"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/google/uuid"

	"github.com/pollux-storage/pollux/bdev"
	"github.com/pollux-storage/pollux/reactor"
)

func TestAMapHasItsFloorWhateverOthersHold(t *testing.T) {
	w := newMapWorld(t, 1, ClusterShiftMin, 2, 256, 8, 200)
	other := newMapTree(w.c, w.owner(2), mapRoot{levels: 2}, false)
	w.head.guarantee(w.head.floorPages())
	for n := uint64(0); other.room(); n++ {
		if _, s, now := other.change(n*uint64(w.shape.entries), new(mapWaiter)); !now || s != bdev.StatusOK {
			t.Fatal(now, s)
		}
	}
	if w.head.widen(1) != 0 || w.c.lent != w.c.max || w.c.dirty != other.held {
		t.Fatalf("%d of %d pages are lent, %d dirty", w.c.lent, w.c.max, w.c.dirty)
	}
	if left := w.head.roomLeft(); left != w.head.floorPages() {
		t.Fatalf("%d pages are left of the floor of %d", left, w.head.floorPages())
	}
	// One record, at its largest, and another change that waits.
	need := w.head.pagesToDirty(1, recordClusters)
	if most := w.head.recordPages(); need > most {
		t.Fatalf("a record makes %d pages dirty, and %d are thought to be the most", need, most)
	}
	for c := uint64(1); c <= recordClusters; c++ {
		if _, s, now := w.head.change(c, new(mapWaiter)); !now || s != bdev.StatusOK {
			t.Fatal(now, s)
		}
	}
	if w.head.held > need {
		t.Fatalf("a record made %d pages dirty, %d were expected", w.head.held, need)
	}
	w.head.freeze(1)
	w.head.seal(make([]Place, w.head.frozenN))
	w.head.commitDone()
	other.close()
	if w.c.lent != w.head.floor || w.c.floors != w.head.floor || w.head.held != 0 || other.held != 0 {
		t.Fatalf("%d pages are lent, the only floor is %d", w.c.lent, w.head.floor)
	}
	w.head.close()
	if w.c.lent != 0 || w.c.floors != 0 || w.c.dirty != 0 {
		t.Fatalf("%d pages are lent to nobody", w.c.lent)
	}
}

func TestPagesThatAreDirtyAreNotCountedAgain(t *testing.T) {
	w := newMapWorld(t, 1, ClusterShiftMin, 2, 256, 8, 200)
	rng := rand.New(rand.NewPCG(1, 2))
	for range 40 {
		c := rng.Uint64N(4000)
		before, want := w.head.held, w.head.pagesToDirty(c, c)
		if _, s, now := w.head.change(c, new(mapWaiter)); !now || s != bdev.StatusOK {
			t.Fatal(now, s)
		}
		if got := w.head.held - before; got != want {
			t.Fatalf("a change of cluster %d made %d pages dirty, %d were expected", c, got, want)
		}
		if n := w.head.pagesToDirty(c, c); n != 0 {
			t.Fatalf("cluster %d: %d pages would become dirty that are", c, n)
		}
	}
}

// writer writes random blocks of one volume, each with its number and how often it was written.
type writer struct {
	c     *bdev.Channel
	rand  *rand.Rand
	span  uint64
	left  int
	out   int
	times map[uint64]uint64
	busy  map[uint64]bool
	ended chan<- *writer
	all   []*writerRequest
}

type writerRequest struct {
	bdev.Request
	w *writer
}

func (q *writerRequest) submit() {
	w := q.w
	for q.LBA = w.rand.Uint64N(w.span); w.busy[q.LBA]; {
		q.LBA = w.rand.Uint64N(w.span)
	}
	w.left--
	w.out++
	w.busy[q.LBA] = true
	w.times[q.LBA]++
	q.Kind, q.Blocks = bdev.Write, 1
	binary.LittleEndian.PutUint64(q.Data[0], q.LBA)
	binary.LittleEndian.PutUint64(q.Data[0][8:], w.times[q.LBA])
	w.c.Submit(&q.Request)
}

func (q *writerRequest) RequestDone(b *bdev.Request) {
	w := q.w
	w.out--
	delete(w.busy, q.LBA)
	if b.Status != bdev.StatusOK {
		panic(fmt.Sprintf("a write of block %d: %v", q.LBA, b.Status))
	}
	if w.left > 0 {
		q.submit()
	} else if w.out == 0 {
		w.ended <- w
	}
}

// reader reads back what a writer wrote.
type reader struct {
	bdev.Request
	ended chan struct{}
}

func (q *reader) RequestDone(*bdev.Request) { q.ended <- struct{}{} }

// All volumes of two pools stand on one reactor and share the least cache there is. They have many more pages of map than that, and all of
// them write at once.
func TestManyVolumesShareOneSmallCache(t *testing.T) {
	const poolsN, each, volumeBytes, writes, depth = 2, 32, 1 << 30, 600, 4
	g, err := reactor.Start(reactor.Config{Cores: []int{-1}, Idle: reactor.Adaptive, MemoryBytes: 128 << 20})
	if err != nil {
		t.Fatal(err)
	}
	reg := bdev.NewRegistry(g)
	r := g.Reactor(0)
	cache := NewMapCache(1)
	var pools []*Pool
	var handles []*bdev.Handle
	var writers []*writer
	ended := make(chan *writer, poolsN*each)
	for i := range poolsN {
		name := fmt.Sprintf("m%d", i)
		if _, err := bdev.NewMem(reg, name, uuid.New(), 4096, 4<<30/4096); err != nil {
			t.Fatal(err)
		}
		p, err := CreatePool(reg, name, PoolConfig{Name: name, Server: uuid.New(), Cache: cache, SmallLogs: true})
		if err != nil {
			t.Fatal(err)
		}
		pools = append(pools, p)
		for k := range each {
			v, err := p.CreateVolume(VolumeConfig{Name: fmt.Sprintf("v%d", k), Bytes: volumeBytes, LogBytes: 8 << 20})
			if err != nil {
				t.Fatal(err)
			}
			h, err := reg.Open(v.Device().Name(), bdev.OpenOptions{Who: "test"})
			if err != nil {
				t.Fatal(err)
			}
			handles = append(handles, h)
			w := &writer{
				rand: rand.New(rand.NewPCG(uint64(i), uint64(k))), span: volumeBytes / 4096, left: writes, ended: ended,
				times: map[uint64]uint64{}, busy: map[uint64]bool{},
			}
			writers = append(writers, w)
			_ = r.Call(func() {
				if w.c, err = h.Channel(r); err != nil {
					return
				}
				for range depth {
					q := &writerRequest{w: w}
					q.Done = q
					q.SetData(r.Memory().Get(4096))
					w.all = append(w.all, q)
				}
			})
			if err != nil {
				t.Fatal(err)
			}
		}
	}
	_ = r.Call(func() {
		for _, w := range writers {
			for _, q := range w.all {
				q.submit()
			}
		}
	})
	for range writers {
		<-ended
	}
	info := cacheInfo(t, cache, g)
	floor := uint64(43 * PageBytes) // leaves of 42 entries: 3 for a record, 12 above, 2 × 14 for homings
	if info.BytesGuaranteed != poolsN*each*floor {
		t.Errorf("%d bytes are guaranteed, want %d for each of %d volumes", info.BytesGuaranteed, floor, poolsN*each)
	}
	if most := uint64(cacheBytesMin + 2*poolsN*each*43*PageBytes + cacheChunkPages*PageBytes); info.Bytes > most || info.BytesLent > info.Bytes || info.Evictions == 0 {
		t.Errorf("%+v, want no more than %d bytes, and evictions", info, most)
	}
	q := &reader{ended: make(chan struct{}, 1)}
	q.Done = q
	_ = r.Call(func() { q.SetData(r.Memory().Get(4096)) })
	for i, w := range writers {
		for lba, times := range w.times {
			_ = r.Call(func() {
				q.Kind, q.LBA, q.Blocks = bdev.Read, lba, 1
				w.c.Submit(&q.Request)
			})
			<-q.ended
			if n, k := binary.LittleEndian.Uint64(q.Data[0]), binary.LittleEndian.Uint64(q.Data[0][8:]); q.Status != bdev.StatusOK || n != lba || k != times {
				t.Fatalf("block %d of volume %d: %v, number %d, version %d of %d", lba, i, q.Status, n, k, times)
			}
		}
	}
	_ = r.Call(func() {
		for _, w := range writers {
			for _, q := range w.all {
				r.Memory().Put(q.Data[0])
				q.Release()
			}
			w.c.Close()
		}
		q.Release()
	})
	for _, h := range handles {
		h.Close()
	}
	ctx := context.Background()
	if err := pools[0].Export(ctx); err != nil {
		t.Fatal(err)
	}
	if info := cacheInfo(t, cache, g); info.BytesGuaranteed != each*floor {
		t.Errorf("with one pool left: %+v", info)
	}
	if err := pools[1].Export(ctx); err != nil {
		t.Fatal(err)
	}
	if all, err := cache.Info(g); err != nil || len(all) != 0 {
		t.Errorf("the caches of no pool: %+v, %v", all, err)
	}
	for i := range poolsN {
		if err := reg.Unregister(ctx, fmt.Sprintf("m%d", i)); err != nil {
			t.Fatal(err)
		}
	}
	if err := g.Stop(ctx); err != nil {
		t.Fatal(err)
	}
}

func cacheInfo(t *testing.T, m *MapCache, g *reactor.Group) MapCacheInfo {
	t.Helper()
	all, err := m.Info(g)
	if err != nil || len(all) != 1 {
		t.Fatalf("%+v, %v", all, err)
	}
	return all[0]
}

// TestAFloorBesideWhatOthersWereLent: a volume is opened while another one has been lent all that may be dirty.
func TestAFloorBesideWhatOthersWereLent(t *testing.T) {
	h := newHouseWith(t, 1, 1, 64<<20, func(cfg *PoolConfig) { cfg.CacheBytes = 16 << 20 }) // the floors alone do not let it grow
	v := h.volume("v0", 8<<20)
	h.w.On(0, func(*reactor.Reactor) {
		if v.tree.widen(1 << 20); v.tree.c.lent != v.tree.c.max {
			t.Fatalf("%d pages of %d are lent", v.tree.c.lent, v.tree.c.max)
		}
	})
	if second := h.volume("v1", 8<<20); second.tree.budget < second.tree.floor || second.tree.floor == 0 {
		t.Fatalf("its floor is %d, and it has %d", second.tree.floor, second.tree.budget)
	}
}
