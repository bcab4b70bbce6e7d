package volume

import "github.com/pollux-storage/pollux/bdev"

// This file tells what is mapped (bdev.Extent): a block is if it has bytes somewhere, be it in the log, in a place of a record, or at home, its own
// or those that a snapshot or the origin of a clone has. Every other one reads as zeros and has none. Of a thick volume all are mapped: their space is
// taken, whatever stands in it.
//
// It looks where a read looks (read.go), and waits for pages of the map as one does. What it says may be less than the whole run: it looks at so
// many pieces at once, lest others wait for it.

// extentPieces is how many pieces are looked at: runs of blocks in a cluster, or a cluster.
const extentPieces = 256

// extent goes on until what follows is not like what came before.
func (v *Volume) extent(o *op) {
	q := o.q
	for n := 0; n < extentPieces && o.at < o.end && o.status == bdev.StatusOK; n++ {
		run := o.run()
		mapped, blocks := run.from == dirtyLog || run.from == dirtyPlaced, run.blocks
		switch {
		case v.thick.on && o.tree == v.tree:
			mapped, blocks = true, o.end-o.at
		case run.from == dirtyHome:
			e, first, found := o.home()
			if !found {
				return
			}
			if o.status != bdev.StatusOK {
				continue
			}
			mapped, blocks = e.stretch(first, run.blocks)
		}
		if o.at > o.block && mapped != q.Mapped {
			break
		}
		q.Mapped = mapped
		o.at += blocks
	}
	q.Alike = min(o.at<<v.sub-q.LBA, q.Blocks)
	o.issued()
}
