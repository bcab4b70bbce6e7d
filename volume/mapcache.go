package volume

import (
	"fmt"
	"sync"

	"github.com/pollux-storage/pollux/reactor"
)

// This file is the memory for pages of maps: one cache on each reactor, which the volumes there share, whatever pool they are of.
//
//	floor      pages of a volume's map that may be dirty whatever the others do: with so many its flusher brings home one record after the
//	           other. They are the volume's from its opening to its end (mapTree.guarantee).
//	the rest   is lent to whose flusher asks first, until its next checkpoint (mapTree.widen, mapTree.yield).
//
// So no volume waits for another: who cannot have more makes a checkpoint of its own, and goes on with its floor. The cache has the bytes that
// were asked for, touched as they are needed, or more where there are so many volumes that their floors would take more than half
// of what may be dirty.

// DefaultCacheBytes is the memory for map pages on each reactor.
const DefaultCacheBytes = 64 << 20

// cacheBytesMin is the least that is useful: room for what is read and changed at once.
const cacheBytesMin = 1 << 20

// MapCache is the caches of all reactors. Pools that are opened with the same one share it.
type MapCache struct {
	bytes uint64 // of each cache, when it is made

	mu sync.Mutex
	on []cacheHere // by reactor
}

// cacheHere is the cache of one reactor, there is one as long as a pool uses it.
type cacheHere struct {
	c      *pageCache
	users  int
	memory [][]byte // mapped
}

// NewMapCache gives caches of so many bytes, 0 is DefaultCacheBytes. They take no memory before the first volume is opened.
func NewMapCache(bytes uint64) *MapCache {
	if bytes == 0 {
		bytes = DefaultCacheBytes
	}
	return &MapCache{bytes: max(bytes, cacheBytesMin)}
}

// cachePool is a pool's part in the cache of one reactor.
type cachePool struct {
	c      *pageCache
	pager  *devicePager
	source int16
}

// enter makes a pool's pages known to the cache of a reactor. It is control work.
func (m *MapCache) enter(p *Pool, r *reactor.Reactor) (cachePool, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for len(m.on) <= r.Index() {
		m.on = append(m.on, cacheHere{})
	}
	here := &m.on[r.Index()]
	if here.c == nil {
		memory, err := mapMemory(int(m.bytes / PageBytes))
		if err != nil {
			return cachePool{}, err
		}
		frames := len(memory) / PageBytes
		readsMax := min(64, frames/8)
		here.memory = [][]byte{memory}
		here.c = newPageCache(pageCacheConfig{memory: memory, readsMax: readsMax, dirtyMax: frames/2 - readsMax})
	}
	in := cachePool{c: here.c}
	if err := r.Call(func() {
		in.pager = newDevicePager(in.c, p.channels[r.Index()])
		in.source = in.c.addSource(in.pager, p.id, p.pages)
	}); err != nil {
		return cachePool{}, err
	}
	here.users++
	return in, nil
}

// leave takes a pool's pages out of the cache of a reactor; all its volumes are closed. The last to leave takes the cache with it.
func (m *MapCache) leave(in cachePool, r *reactor.Reactor) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if r.Call(func() {
		in.c.dropSource(in.source)
		in.pager.close()
	}) != nil {
		return // the reactor is gone, and nobody says any more what refers to the memory
	}
	here := &m.on[r.Index()]
	if here.users--; here.users == 0 {
		for _, b := range here.memory {
			unmapMemory(b)
		}
		*here = cacheHere{}
	}
}

// admit guarantees a volume its floor. Where the floors come to more than half of what may be dirty, the cache grows, and where others
// have been lent so much that the floor has no room beside it. It is control work.
func (m *MapCache) admit(t *mapTree, r *reactor.Reactor) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	here := &m.on[r.Index()]
	var b []byte
	for {
		in := false
		if err := r.Call(func() {
			if b != nil {
				t.c.grow(b)
			}
			n := t.floorPages()
			if in = 2*(t.c.floors+n) <= t.c.max && t.c.lent+n <= t.c.max; in {
				t.guarantee(n)
			}
		}); err != nil || in {
			return err
		}
		var err error
		if b, err = mapMemory(cacheChunkPages); err != nil {
			return fmt.Errorf("making the cache of map pages larger, for one volume more: %w", err)
		}
		here.memory = append(here.memory, b)
	}
}

// MapCacheInfo is the cache of one reactor as it is now.
type MapCacheInfo struct {
	Reactor                 int
	Bytes                   uint64 // that it has
	BytesUsed               uint64 // of pages that are in it
	BytesDirty              uint64 // of those that a checkpoint has to write
	BytesGuaranteed         uint64 // that volumes may have dirty whatever others do
	BytesLent               uint64 // that, and what is lent beyond it
	BytesForPages           uint64 // what it keeps about its pages, beside them
	Hits, Misses, Evictions uint64
}

// Info tells about the caches of the reactors that have one.
func (m *MapCache) Info(g *reactor.Group) ([]MapCacheInfo, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	var all []MapCacheInfo
	for i, here := range m.on {
		if here.c == nil {
			continue
		}
		info := MapCacheInfo{Reactor: i}
		if err := g.Reactor(i).Call(func() { here.c.describe(&info) }); err != nil {
			return nil, err
		}
		all = append(all, info)
	}
	return all, nil
}
