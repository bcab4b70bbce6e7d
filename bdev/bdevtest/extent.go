package bdevtest

import (
	"bytes"

	"github.com/pollux-storage/pollux/bdev"
)

// extents writes stretches, one of them over all members of a stripe, and wants all of what was written to be mapped, and what is not to be zeros.
func extents(e *Env) {
	if !e.G.Supports(bdev.Extent) {
		e.Want("a device that cannot tell", 0, bdev.StatusNotSupported, Op{Kind: bdev.Extent, Blocks: 1})
		return
	}
	e.Must(0, Op{Kind: bdev.WriteZeroes, Blocks: e.G.Blocks})
	if e.G.Supports(bdev.Unmap) {
		e.Must(0, Op{Kind: bdev.Unmap, Blocks: e.G.Blocks})
	}
	written := make([]bool, e.G.Blocks)
	write := func(lba, n uint64) {
		e.writeLong(int(lba)%e.Group.Len(), lba, e.Block(lba, n))
		for i := range n {
			written[lba+i] = true
		}
	}
	unmap := func(lba, n uint64) {
		if e.G.Supports(bdev.Unmap) {
			e.Must(int(lba)%e.Group.Len(), Op{Kind: bdev.Unmap, LBA: lba, Blocks: n})
			clear(written[lba : lba+n])
		}
	}
	write(0, 1)
	write(2, 1)
	write(40, 300)
	unmap(47, 2)
	unmap(64, 64)
	write(70, 1)
	write(e.G.Blocks-1, 1)
	for _, core := range e.Cores() {
		for _, most := range []uint64{e.G.Blocks, 77} {
			for lba := uint64(0); lba < e.G.Blocks; {
				n := min(most, e.G.Blocks-lba)
				r := e.Must(core, Op{Kind: bdev.Extent, LBA: lba, Blocks: n})
				if r.Alike == 0 || r.Alike > n {
					e.Fatalf("an extent of %d blocks among the %d from %d on", r.Alike, n, lba)
				}
				for i := lba; i < lba+r.Alike && !r.Mapped; i++ {
					if written[i] {
						e.Fatalf("block %d was written and is not mapped", i)
					}
				}
				for at := lba; at < lba+r.Alike && !r.Mapped && e.G.UnmapZeroes && core == 0; {
					k := min(lba+r.Alike-at, uint64(e.G.MaxBlocks))
					got := e.Must(core, Op{Kind: bdev.Read, LBA: at, Data: make([]byte, k<<e.Shift())})
					if !bytes.Equal(got.Data, make([]byte, len(got.Data))) {
						e.Fatalf("blocks %d to %d are not mapped, and are no zeros", at, at+k)
					}
					at += k
				}
				lba += r.Alike
			}
		}
	}
	e.Want("past the end", 0, bdev.StatusOutOfRange, Op{Kind: bdev.Extent, LBA: e.G.Blocks - 1, Blocks: 2})
	e.Want("no blocks", 0, bdev.StatusMisaligned, Op{Kind: bdev.Extent, Exactly: true})
}
