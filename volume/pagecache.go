package volume

import (
	"math/bits"
	"math/rand/v2"
	"unsafe"

	"github.com/google/uuid"

	"github.com/pollux-storage/pollux/internal/invariant"
)

// This file is the cache of map pages on one reactor: frames of one page each, in bounded memory, shared by all volumes and
// snapshots there.
//
//	          get                  read, checked              taken for another page
//	free ───────────▶ reading ───────────────▶ clean ─────────────────────────────▶ …
//	  │                  │ failed                │  ▲
//	  │                  ▼                change │  │ commit done
//	  │                free                      ▼  │
//	  └──────────────────────────────────────▶ dirty ──▶ frozen ──▶ sealed
//	                a page that was absent         ▲ commit failed│      │
//	                                               └──────────────┴──────┘
//
// Pages that have a place are found by their Ref: by place and CRC, so that what once stood in a place is never taken for what stands
// there now, and a page that several roots share is kept once. A dirty or frozen page has no place yet; the page above it is dirty or
// frozen too and refers to its frame (see inMemory). Only clean pages are taken for others: those that were not used since they
// were looked at last, the longest listed first.
//
// Frames hold indices instead of pointers, so that the collector has nothing to look at. The sizes at open say that a frame can always be
// had: dirtyMax, readsMax and two stand for all that cannot be taken, and there are as many frames or more. What may be dirty is divided
// among the maps (mapcache.go): lent is the sum of what they may have dirty, and no map has more than was lent to it.

// noFrame is no frame.
const noFrame = int32(-1)

// frameState says what a frame holds.
type frameState uint8

const (
	frameFree    frameState = iota
	frameReading            // its page comes from the device
	frameClean              // as on the device
	frameDirty              // changed since the last freeze
	frameFrozen             // of the commit that is under way; it changes no more, but for the refs to pages below
	frameSealed             // the same, with place and CRC: ready to be written
)

var frameStateNames = [...]string{"free", "reading", "clean", "dirty", "frozen", "sealed"}

func (s frameState) String() string { return frameStateNames[s] }

// frame is what is known of one page of the cache's memory.
type frame struct {
	ref      Ref // reading, clean, sealed: by which it is found
	was      Ref // dirty, frozen, sealed: the page that it replaces, zero if there was none
	wasStamp Stamp
	index    uint64
	volume   VolumeNumber // as its header says
	stamp    Stamp        // as its header says
	copied   int32        // frozen, sealed: the dirty page that was made from it, or noFrame
	chain    int32        // next in the table
	prev     int32        // in its list
	next     int32
	source   int16
	read     int16 // reading: the slot of the read
	level    uint8
	state    frameState
	listed   bool // it is in the list of those that may be taken
	recent   bool // it was used since it was looked at last
}

// inMemory is the bit of a Place that is a frame's number. No device has that many pages.
const inMemory = Place(1) << 63

func frameRef(f int32) Ref { return Ref{Place: inMemory | Place(f)} }

// frame gives the frame of a ref that stands for one.
func (r Ref) frame() (f int32, ok bool) { return int32(r.Place &^ inMemory), r.Place&inMemory != 0 }

// frameList is a first-in, first-out list of frames.
type frameList struct {
	first, last int32
	n           int
}

func (l *frameList) push(frames []frame, f int32) {
	fr := &frames[f]
	fr.prev, fr.next = l.last, noFrame
	if l.last == noFrame {
		l.first = f
	} else {
		frames[l.last].next = f
	}
	l.last = f
	l.n++
}

func (l *frameList) pushFirst(frames []frame, f int32) {
	fr := &frames[f]
	fr.prev, fr.next = noFrame, l.first
	if l.first == noFrame {
		l.last = f
	} else {
		frames[l.first].prev = f
	}
	l.first = f
	l.n++
}

func (l *frameList) remove(frames []frame, f int32) {
	fr := &frames[f]
	if fr.prev == noFrame {
		l.first = fr.next
	} else {
		frames[fr.prev].next = fr.next
	}
	if fr.next == noFrame {
		l.last = fr.prev
	} else {
		frames[fr.next].prev = fr.prev
	}
	l.n--
}

var noFrames = frameList{first: noFrame, last: noFrame}

// pageSource is the pool that pages come from.
type pageSource struct {
	pager pager
	pool  uuid.UUID
	pages uint64 // of its device; more when the pool has grown
}

// pageCacheConfig sizes a cache.
type pageCacheConfig struct {
	memory   []byte // page-aligned, a frame for each page; not on the Go heap, if the pager wants to lend it to a device
	readsMax int    // in flight at once
	dirtyMax int    // pages that are not clean at once, those of commits under way included
}

// pageCache belongs to one reactor.
type pageCache struct {
	memory   []byte   // of the first frames
	chunks   [][]byte // of those after them
	frames   []frame
	heads    []int32 // table by place
	odd      uint64  // its multiplier
	free     int32   // the first free frame
	evict    frameList
	dirty    int // frames that are dirty, frozen or sealed
	promised int // those that changes under way may make dirty
	max      int // of both
	floors   int // that maps may have dirty whatever others do
	lent     int // floors, and what is lent beyond them; not above max
	sources  []pageSource
	pageReads
	stats pageCacheStats
}

// pageCacheStats is what a cache counts.
type pageCacheStats struct {
	hits, misses, evictions, faults uint64
}

func newPageCache(cfg pageCacheConfig) *pageCache {
	n := len(cfg.memory) / PageBytes
	invariant.Check(cfg.readsMax > 0 && n >= cfg.dirtyMax+cfg.readsMax+2, "volume: a page cache that is smaller than what it must hold at once")
	c := &pageCache{
		memory: cfg.memory, frames: make([]frame, n), heads: make([]int32, tableSize(n)), odd: rand.Uint64() | 1,
		evict: noFrames, max: cfg.dirtyMax,
	}
	for i := range c.heads {
		c.heads[i] = noFrame
	}
	c.free = noFrame
	for f := n - 1; f >= 0; f-- {
		c.frames[f].chain, c.free = c.free, int32(f)
	}
	c.pageReads.init(cfg.readsMax)
	return c
}

// cacheChunkPages is by how many pages a cache grows.
const cacheChunkPages = 1024

// grow gives the cache a chunk of memory more, all of which may be dirty.
func (c *pageCache) grow(chunk []byte) {
	invariant.Check(len(chunk) == cacheChunkPages*PageBytes, "volume: a page cache grows by chunks")
	first := len(c.frames)
	c.frames = append(c.frames, make([]frame, cacheChunkPages)...)
	c.chunks = append(c.chunks, chunk)
	for f := len(c.frames) - 1; f >= first; f-- {
		c.frames[f].chain, c.free = c.free, int32(f)
	}
	c.max += cacheChunkPages
}

// describe tells how the cache is.
func (c *pageCache) describe(i *MapCacheInfo) {
	free := 0
	for f := c.free; f != noFrame; f = c.frames[f].chain {
		free++
	}
	i.Bytes, i.BytesUsed = uint64(len(c.frames))*PageBytes, uint64(len(c.frames)-free)*PageBytes
	i.BytesDirty, i.BytesGuaranteed, i.BytesLent = uint64(c.dirty)*PageBytes, uint64(c.floors)*PageBytes, uint64(c.lent)*PageBytes
	i.BytesForPages = uint64(len(c.frames))*uint64(unsafe.Sizeof(frame{})) + uint64(len(c.heads))*uint64(unsafe.Sizeof(c.free))
	i.Hits, i.Misses, i.Evictions = c.stats.hits, c.stats.misses, c.stats.evictions
}

// addSource makes the pages of a pool known. It gets the number of one that was dropped, of which nothing is left, or a new one.
func (c *pageCache) addSource(p pager, pool uuid.UUID, pages uint64) (source int16) {
	for i := range c.sources {
		if c.sources[i].pager == nil {
			c.sources[i] = pageSource{p, pool, pages}
			return int16(i)
		}
	}
	c.sources = append(c.sources, pageSource{p, pool, pages})
	return int16(len(c.sources) - 1)
}

// growSource notes that a pool's device has more pages than before.
func (c *pageCache) growSource(source int16, pages uint64) { c.sources[source].pages = pages }

// dropSource forgets all pages of a pool, none of which is dirty or being read.
func (c *pageCache) dropSource(source int16) {
	for f := range c.frames {
		fr := &c.frames[f]
		if fr.state == frameFree || fr.source != source {
			continue
		}
		invariant.Check(fr.state == frameClean && fr.listed, "volume: a pool leaves the page cache while its pages are in use")
		c.evict.remove(c.frames, int32(f))
		c.unhash(int32(f))
		c.release(int32(f))
	}
	c.sources[source] = pageSource{}
}

// page is a frame's memory.
func (c *pageCache) page(f int32) []byte {
	at, memory := int(f)*PageBytes, c.memory
	if at >= len(memory) {
		at -= len(memory)
		memory = c.chunks[at/(cacheChunkPages*PageBytes)]
		at %= cacheChunkPages * PageBytes
	}
	return memory[at : at+PageBytes : at+PageBytes]
}

// chainOf is the table's chain for a place: multiplication by a random odd number, of which the highest bits are the best.
func (c *pageCache) chainOf(p Place) *int32 {
	return &c.heads[uint64(p)*c.odd>>(64-uint(bits.TrailingZeros(uint(len(c.heads)))))]
}

// lookup finds the frame of a page that has a place, or noFrame.
func (c *pageCache) lookup(source int16, r Ref) int32 {
	f := *c.chainOf(r.Place)
	for f != noFrame && (c.frames[f].ref != r || c.frames[f].source != source) {
		f = c.frames[f].chain
	}
	return f
}

// hash enters a frame into the table.
func (c *pageCache) hash(f int32) {
	head := c.chainOf(c.frames[f].ref.Place)
	c.frames[f].chain, *head = *head, f
}

func (c *pageCache) unhash(f int32) {
	at := c.chainOf(c.frames[f].ref.Place)
	for *at != f {
		at = &c.frames[*at].chain
	}
	*at = c.frames[f].chain
}

// forget gives up what once stood in a place that now gets another page. Refs tell them apart; this only frees the frame.
func (c *pageCache) forget(source int16, p Place) {
	for f := *c.chainOf(p); f != noFrame; {
		fr := &c.frames[f]
		next := fr.chain
		if fr.ref.Place == p && fr.source == source && fr.listed {
			c.evict.remove(c.frames, f)
			c.unhash(f)
			c.release(f)
		}
		f = next
	}
}

// take gives a frame that holds nothing: a free one, or that of a clean page.
func (c *pageCache) take() int32 {
	f := c.free
	if f != noFrame {
		c.free = c.frames[f].chain
		return f
	}
	for {
		f = c.evict.first
		invariant.Check(f != noFrame, "volume: no frame can be had, though the page cache has more than may be in use")
		c.evict.remove(c.frames, f)
		fr := &c.frames[f]
		if !fr.recent {
			break
		}
		fr.recent = false
		c.evict.push(c.frames, f)
	}
	c.stats.evictions++
	c.unhash(f)
	c.frames[f].listed = false
	return f
}

// release makes a frame free that is in no list and not in the table.
func (c *pageCache) release(f int32) {
	c.frames[f] = frame{chain: c.free}
	c.free = f
}

// offer lists a clean page among those that may be taken; first if it is not expected to be used again.
func (c *pageCache) offer(f int32, cold bool) {
	fr := &c.frames[f]
	fr.listed = true
	if cold {
		c.evict.pushFirst(c.frames, f)
	} else {
		c.evict.push(c.frames, f)
	}
}

// keep takes a clean page out of the list of those that may be taken.
func (c *pageCache) keep(f int32) {
	if fr := &c.frames[f]; fr.listed {
		c.evict.remove(c.frames, f)
		fr.listed = false
	}
}
