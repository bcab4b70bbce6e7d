package volume

import (
	"math/bits"
	"math/rand/v2"

	"github.com/pollux-storage/pollux/internal/invariant"
	"github.com/pollux-storage/pollux/wal"
)

// This file is the dirty map of a volume: for each block that has changed since it last went home, the newest record that
// changed it, and where its bytes are meanwhile.
//
//	table of clusters ──▶ cluster: newest LSN │ whole: nothing, zeros, or placed (LSN, place, CRCs) │ bit for each block
//	                                                                                                       │
//	table of blocks ────▶ block: LSN, log offset, CRC, or zeros ◀──────────────────────────────────────────┘
//
// A block is what its own record says, if its bit is set; else what the last record of the whole cluster says; else what stands
// at home. A record of a whole cluster removes those of its blocks: they are older, since records come in the order of their LSN.
//
// An entry leaves by the LSN that went home, and only if it is still that one: a block that was written again meanwhile stays (V-21).
// All memory is made at open and holds no pointers, so that the collector has nothing to look at; room is reserved at the door, so
// that a record that has its LSN has its entries too.

// clusterBlocksMax is the number of blocks in the largest cluster, of 1 MiB.
const clusterBlocksMax = 256

// dirtyNone is no slot of a table.
const dirtyNone = -1

// zeroOffset stands where the log offset would, in a block that reads as zeros.
const zeroOffset = ^wal.Offset(0)

// dirtySource says where the newest content of a block is.
type dirtySource uint8

const (
	dirtyHome   dirtySource = iota // not dirty: the map knows
	dirtyLog                       // in the log
	dirtyZeros                     // nowhere: it reads as zeros
	dirtyPlaced                    // in the place of a record that the map does not have yet
)

var dirtySourceNames = [...]string{"home", "log", "zeros", "placed"}

func (s dirtySource) String() string { return dirtySourceNames[s] }

// dirtyRoom counts what a dirty map has room for.
type dirtyRoom struct {
	clusters int
	blocks   int
	placed   int // clusters that wait with a place
}

func (a dirtyRoom) plus(b dirtyRoom) dirtyRoom {
	return dirtyRoom{a.clusters + b.clusters, a.blocks + b.blocks, a.placed + b.placed}
}

func (a dirtyRoom) minus(b dirtyRoom) dirtyRoom {
	return dirtyRoom{a.clusters - b.clusters, a.blocks - b.blocks, a.placed - b.placed}
}

func (a dirtyRoom) within(b dirtyRoom) bool {
	return a.clusters <= b.clusters && a.blocks <= b.blocks && a.placed <= b.placed
}

// dirtyMap belongs to the reactor of its volume.
type dirtyMap struct {
	shift uint   // log2 of blocks in a cluster
	odd   uint64 // multiplier of both tables: drawn at open, so that no host can choose blocks that collide

	limit, used, reserved dirtyRoom

	clusters     []dirtyCluster
	clusterHeads []int32 // table: the first slot of each chain
	clusterFree  int32   // the first unused slot
	blocks       []dirtyBlock
	blockHeads   []int32
	blockFree    int32
	crcs         []uint32 // of placed clusters, as many for each as it has blocks
	crcsFree     []int32  // stack of unused ones

	last    wal.LSN // of the last record that came
	surplus int     // credits of clusters that became clean
}

// dirtyCluster is a cluster of which something is dirty.
type dirtyCluster struct {
	number   uint64
	newest   wal.LSN // the newest record that changed something of it
	wholeLSN wal.LSN // the newest record of all of it
	place    Place   // of that record, if it is placed
	bits     [clusterBlocksMax / 64]uint64
	crcs     int32
	credits  int32 // pages of the pool that are reserved for it
	chain    int32 // next in the table, or among the unused
	blocks   uint16
	whole    dirtySource // dirtyHome if there was no such record
}

// dirtyBlock is a block with a record of its own.
type dirtyBlock struct {
	number uint64
	lsn    wal.LSN
	offset wal.Offset // of the page with its bytes; zeroOffset if there are none
	crc    uint32
	chain  int32
}

// newDirtyMap makes the map of a volume whose clusters have 2^shift blocks.
func newDirtyMap(shift uint, limit dirtyRoom) *dirtyMap {
	invariant.Check(1<<shift <= clusterBlocksMax, "volume: more blocks in a cluster than the format has")
	d := &dirtyMap{
		shift: shift, odd: rand.Uint64() | 1, limit: limit,
		clusters: make([]dirtyCluster, limit.clusters), clusterHeads: make([]int32, tableSize(limit.clusters)),
		blocks: make([]dirtyBlock, limit.blocks), blockHeads: make([]int32, tableSize(limit.blocks)),
		crcs: make([]uint32, limit.placed<<shift), crcsFree: make([]int32, limit.placed),
	}
	d.reset()
	return d
}

// tableSize is the number of chains for n entries: a power of two, and one on average in each chain.
func tableSize(n int) int { return 1 << bits.Len(uint(max(n, 2)-1)) }

// reset empties the map.
func (d *dirtyMap) reset() {
	for i := range d.clusters {
		d.clusters[i].chain = int32(i) + 1
	}
	for i := range d.blocks {
		d.blocks[i].chain = int32(i) + 1
	}
	for i := range d.crcsFree {
		d.crcsFree[i] = int32(i)
	}
	for i := range d.clusterHeads {
		d.clusterHeads[i] = dirtyNone
	}
	for i := range d.blockHeads {
		d.blockHeads[i] = dirtyNone
	}
	d.crcsFree = d.crcsFree[:d.limit.placed]
	d.clusterFree, d.blockFree = 0, 0
	d.used, d.reserved, d.last, d.surplus = dirtyRoom{}, dirtyRoom{}, 0, 0
}

// reserve keeps room for a record before it gets its LSN: for each cluster that it touches, each block that it changes without
// changing its whole cluster, and each cluster that it places. It reports whether there was room.
func (d *dirtyMap) reserve(n dirtyRoom) bool {
	if !d.used.plus(d.reserved).plus(n).within(d.limit) {
		return false
	}
	d.reserved = d.reserved.plus(n)
	return true
}

// unreserve gives room back, just before the record comes or when it will not.
func (d *dirtyMap) unreserve(n dirtyRoom) {
	d.reserved = d.reserved.minus(n)
	invariant.Check(dirtyRoom{}.within(d.reserved), "volume: more room of the dirty map given back than was reserved")
}

// write takes a block of a record whose payload is in the log, at offset.
func (d *dirtyMap) write(block uint64, lsn wal.LSN, offset wal.Offset, crc uint32) {
	d.put(block, lsn, offset, crc)
}

// zero takes a block that a record zeroed or trimmed, if the record does not have its whole cluster.
func (d *dirtyMap) zero(block uint64, lsn wal.LSN) { d.put(block, lsn, zeroOffset, 0) }

// clear takes a cluster that a record zeroed or trimmed as a whole.
func (d *dirtyMap) clear(cluster uint64, lsn wal.LSN) {
	d.replace(cluster, lsn).whole = dirtyZeros
}

// place takes a cluster whose new content stands in a place already, with the CRC of each of its blocks.
func (d *dirtyMap) place(cluster uint64, lsn wal.LSN, place Place, crcs []uint32) {
	invariant.Check(len(crcs) == 1<<d.shift, "volume: a placed cluster without the CRC of each block")
	c := d.replace(cluster, lsn)
	n := len(d.crcsFree) - 1
	invariant.Check(n >= 0, "volume: a placed record without room in the dirty map")
	c.crcs, d.crcsFree = d.crcsFree[n], d.crcsFree[:n]
	d.used.placed++
	c.whole, c.place = dirtyPlaced, place
	copy(d.crcs[int(c.crcs)<<d.shift:], crcs)
}

func (d *dirtyMap) put(block uint64, lsn wal.LSN, offset wal.Offset, crc uint32) {
	i := d.touch(block>>d.shift, lsn)
	c := &d.clusters[i]
	w, bit := d.bit(block)
	var b *dirtyBlock
	if c.bits[w]&bit != 0 {
		b = &d.blocks[d.findBlock(block)]
	} else {
		b = d.newBlock(block)
		c.bits[w] |= bit
		c.blocks++
	}
	b.lsn, b.offset, b.crc = lsn, offset, crc
}

// replace removes what the records before said of a cluster.
func (d *dirtyMap) replace(cluster uint64, lsn wal.LSN) *dirtyCluster {
	c := &d.clusters[d.touch(cluster, lsn)]
	first := cluster << d.shift
	for w, set := range c.bits {
		for ; set != 0; set &= set - 1 {
			d.dropBlock(first + uint64(w*64+bits.TrailingZeros64(set)))
		}
		c.bits[w] = 0
	}
	c.blocks = 0
	d.dropWhole(c)
	c.wholeLSN = lsn
	return c
}

// touch finds or makes the slot of a cluster that a record changes.
func (d *dirtyMap) touch(cluster uint64, lsn wal.LSN) int32 {
	invariant.Check(lsn >= d.last && lsn > 0, "volume: a record came into the dirty map before an older one")
	d.last = lsn
	i := d.findCluster(cluster)
	if i == dirtyNone {
		i = d.newCluster(cluster)
	}
	d.clusters[i].newest = lsn
	return i
}

// dirtyHit is what the map knows of one block.
type dirtyHit struct {
	from   dirtySource
	lsn    wal.LSN    // of its newest record; 0 at home
	offset wal.Offset // dirtyLog: of its page in the log
	place  Place      // dirtyPlaced: its own page, not the first of the cluster
	crc    uint32     // dirtyLog and dirtyPlaced: of its bytes
}

// lookup finds a block.
func (d *dirtyMap) lookup(block uint64) dirtyHit {
	i := d.findCluster(block >> d.shift)
	if i == dirtyNone {
		return dirtyHit{}
	}
	return d.lookupIn(&d.clusters[i], block)
}

func (d *dirtyMap) lookupIn(c *dirtyCluster, block uint64) dirtyHit {
	if w, bit := d.bit(block); c.bits[w]&bit != 0 {
		b := &d.blocks[d.findBlock(block)]
		if b.offset == zeroOffset {
			return dirtyHit{from: dirtyZeros, lsn: b.lsn}
		}
		return dirtyHit{from: dirtyLog, lsn: b.lsn, offset: b.offset, crc: b.crc}
	}
	switch c.whole {
	case dirtyZeros:
		return dirtyHit{from: dirtyZeros, lsn: c.wholeLSN}
	case dirtyPlaced:
		in := block & (1<<d.shift - 1)
		return dirtyHit{from: dirtyPlaced, lsn: c.wholeLSN, place: c.place + Place(in), crc: d.crcs[uint64(c.crcs)<<d.shift+in]}
	}
	return dirtyHit{}
}

// dirtyRun is a range of blocks that are read from one source, in one piece.
type dirtyRun struct {
	from   dirtySource
	blocks uint64
	offset wal.Offset // dirtyLog: of the first block's page; the others follow
	place  Place      // dirtyPlaced: of the first block's page; the others follow
}

// run finds the longest run that begins at block and ends before end and within the block's cluster.
func (d *dirtyMap) run(block, end uint64) dirtyRun {
	end = min(end, (block>>d.shift+1)<<d.shift)
	i := d.findCluster(block >> d.shift)
	if i == dirtyNone {
		return dirtyRun{from: dirtyHome, blocks: end - block}
	}
	c := &d.clusters[i]
	first := d.lookupIn(c, block)
	r := dirtyRun{from: first.from, blocks: 1, offset: first.offset, place: first.place}
	if c.blocks == 0 {
		r.blocks = end - block
		return r
	}
	for block++; block < end; block, r.blocks = block+1, r.blocks+1 {
		h := d.lookupIn(c, block)
		if h.from != r.from || h.from == dirtyLog && h.offset != r.offset+wal.Offset(r.blocks*PageBytes) {
			break
		}
	}
	return r
}

// leave removes the record of a block that went home, and reports whether it was still the newest.
func (d *dirtyMap) leave(block uint64, lsn wal.LSN) bool {
	i := d.findCluster(block >> d.shift)
	if i == dirtyNone {
		return false
	}
	c := &d.clusters[i]
	w, bit := d.bit(block)
	if c.bits[w]&bit == 0 || d.blocks[d.findBlock(block)].lsn != lsn {
		return false
	}
	d.dropBlock(block)
	c.bits[w] &^= bit
	c.blocks--
	d.cleaned(i)
	return true
}

// leaveWhole removes the record of a whole cluster that went home, and reports whether it was still the newest of that kind.
// Blocks that were written after it stay.
func (d *dirtyMap) leaveWhole(cluster uint64, lsn wal.LSN) bool {
	i := d.findCluster(cluster)
	if i == dirtyNone {
		return false
	}
	c := &d.clusters[i]
	if c.whole == dirtyHome || c.wholeLSN != lsn {
		return false
	}
	d.dropWhole(c)
	d.cleaned(i)
	return true
}

// wholeOf gives the newest record of a whole cluster: dirtyHome if there is none; dirtyPlaced with the first page of the place.
func (d *dirtyMap) wholeOf(cluster uint64) dirtyHit {
	i := d.findCluster(cluster)
	if i == dirtyNone || d.clusters[i].whole == dirtyHome {
		return dirtyHit{}
	}
	c := &d.clusters[i]
	return dirtyHit{from: c.whole, lsn: c.wholeLSN, place: c.place}
}

// addCredits notes n pages of the pool more that are reserved for a dirty cluster.
func (d *dirtyMap) addCredits(cluster uint64, n int) {
	i := d.findCluster(cluster)
	invariant.Check(i != dirtyNone, "volume: credits for a clean cluster")
	d.clusters[i].credits += int32(n)
}

// takeCredits takes what is reserved for a cluster, to be used or given back.
func (d *dirtyMap) takeCredits(cluster uint64) (n int) {
	if i := d.findCluster(cluster); i != dirtyNone {
		n, d.clusters[i].credits = int(d.clusters[i].credits), 0
	}
	return n
}

// dropPages takes the pages of all dirty clusters, and leaves them their places.
func (d *dirtyMap) dropPages() {
	for _, i := range d.clusterHeads {
		for ; i != dirtyNone; i = d.clusters[i].chain {
			c := &d.clusters[i]
			c.credits = int32(credits{clusters: unpack(int(c.credits)).clusters}.pack())
		}
	}
}

// newestOf gives the LSN of the newest record that changed something of a cluster, 0 if it is clean.
func (d *dirtyMap) newestOf(cluster uint64) wal.LSN {
	if i := d.findCluster(cluster); i != dirtyNone {
		return d.clusters[i].newest
	}
	return 0
}

// creditsAt gives a cluster's credits without taking them.
func (d *dirtyMap) creditsAt(cluster uint64) int {
	if i := d.findCluster(cluster); i != dirtyNone {
		return int(d.clusters[i].credits)
	}
	return 0
}

// takeSurplus takes the credits of clusters that became clean without using them.
func (d *dirtyMap) takeSurplus() (n int) {
	n, d.surplus = d.surplus, 0
	return n
}

// dropWhole forgets the record of a whole cluster.
func (d *dirtyMap) dropWhole(c *dirtyCluster) {
	if c.whole == dirtyPlaced {
		d.crcsFree = append(d.crcsFree, c.crcs)
		d.used.placed--
	}
	c.whole, c.wholeLSN, c.place = dirtyHome, 0, 0
}

// cleaned removes a cluster's slot if nothing of it is dirty any more.
func (d *dirtyMap) cleaned(i int32) {
	c := &d.clusters[i]
	if c.blocks > 0 || c.whole != dirtyHome {
		return
	}
	d.surplus += int(c.credits)
	at := &d.clusterHeads[d.hash(c.number, d.clusterHeads)]
	for *at != i {
		at = &d.clusters[*at].chain
	}
	*at = c.chain
	c.chain, d.clusterFree = d.clusterFree, i
	d.used.clusters--
}
