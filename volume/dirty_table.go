package volume

import (
	"math/bits"

	"github.com/pollux-storage/pollux/internal/invariant"
)

// This file is the tables under the dirty map: slots of an array, chained by their indices.

// hash is the chain of a number: multiplication by a random odd number, of which the highest bits are the best.
func (d *dirtyMap) hash(n uint64, heads []int32) uint64 {
	return n * d.odd >> (64 - uint(bits.TrailingZeros(uint(len(heads)))))
}

// bit is where a block has its bit in its cluster.
func (d *dirtyMap) bit(block uint64) (word int, bit uint64) {
	in := block & (1<<d.shift - 1)
	return int(in / 64), 1 << (in % 64)
}

func (d *dirtyMap) findCluster(n uint64) int32 {
	i := d.clusterHeads[d.hash(n, d.clusterHeads)]
	for i != dirtyNone && d.clusters[i].number != n {
		i = d.clusters[i].chain
	}
	return i
}

// findBlock finds a block whose bit is set.
func (d *dirtyMap) findBlock(n uint64) int32 {
	i := d.blockHeads[d.hash(n, d.blockHeads)]
	for d.blocks[i].number != n {
		i = d.blocks[i].chain
	}
	return i
}

// newCluster takes a slot for a cluster.
func (d *dirtyMap) newCluster(n uint64) int32 {
	invariant.Check(d.used.clusters < d.limit.clusters, "volume: a record without room for its cluster in the dirty map")
	i := d.clusterFree
	c := &d.clusters[i]
	d.clusterFree = c.chain
	head := &d.clusterHeads[d.hash(n, d.clusterHeads)]
	*c = dirtyCluster{number: n, chain: *head}
	*head = i
	d.used.clusters++
	return i
}

// newBlock takes a slot for a block.
func (d *dirtyMap) newBlock(n uint64) *dirtyBlock {
	invariant.Check(d.used.blocks < d.limit.blocks, "volume: a record without room for its blocks in the dirty map")
	i := d.blockFree
	b := &d.blocks[i]
	d.blockFree = b.chain
	head := &d.blockHeads[d.hash(n, d.blockHeads)]
	b.number, b.chain = n, *head
	*head = i
	d.used.blocks++
	return b
}

// dropBlock gives the slot of a block back. Its bit is the caller's.
func (d *dirtyMap) dropBlock(n uint64) {
	at := &d.blockHeads[d.hash(n, d.blockHeads)]
	for d.blocks[*at].number != n {
		at = &d.blocks[*at].chain
	}
	i := *at
	*at = d.blocks[i].chain
	d.blocks[i].chain, d.blockFree = d.blockFree, i
	d.used.blocks--
}
