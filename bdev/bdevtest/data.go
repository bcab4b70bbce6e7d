package bdevtest

import (
	"bytes"

	"github.com/pollux-storage/pollux/bdev"
)

// dataRules are about what is read after what was written.
var dataRules = []Rule{
	{Name: "every block is where it was written, for every reactor", Test: everyBlock, data: true},
	{Name: "every length and every number of pieces", Test: lengths, data: true},
	{Name: "memory at any address", Test: oddMemory, data: true},
	{Name: "zeroes are written where asked and nowhere else", Test: zeroes, data: true},
	{Name: "unmapped blocks are zeros if it says so, and their neighbours are left alone", Test: unmap, data: true},
	{Name: "compare finds the first byte that differs", Test: compare, data: true},
	{Name: "compare-and-write writes if equal and only then", Test: compareAndWrite, data: true},
	{Name: "extents name what is mapped", Test: extents, data: true},
	{Name: "copy copies, forwards and backwards and over itself", Test: copies, data: true},
}

func everyBlock(e *Env) {
	step := uint64(e.G.MaxBlocks)
	for lba := uint64(0); lba < e.G.Blocks; lba += step {
		e.Write(int(lba/step)%e.Group.Len(), lba, e.Block(lba, min(step, e.G.Blocks-lba)))
	}
	// Single blocks, spread over the device, its ends among them.
	single := []uint64{0, 1, 63, 64, e.G.Blocks / 2, e.G.Blocks - 2, e.G.Blocks - 1}
	for i, lba := range single {
		e.Write(i%e.Group.Len(), lba, e.Block(1000+lba, 1))
	}
	want := make([]byte, 0, Bytes)
	for lba := uint64(0); lba < e.G.Blocks; lba += step {
		want = append(want, e.Block(lba, min(step, e.G.Blocks-lba))...)
	}
	for _, lba := range single {
		copy(want[lba<<e.Shift():], e.Block(1000+lba, 1))
	}
	for _, core := range e.Cores() {
		e.WantData("after all was written", core, 0, want)
	}
}

func lengths(e *Env) {
	size := int(e.G.BlockSize)
	seed := uint64(1)
	for _, n := range []uint64{1, 2, 3, 7, 8, 9, 31, 64, uint64(e.G.MaxBlocks) - 1, uint64(e.G.MaxBlocks)} {
		if n == 0 || n > uint64(e.G.MaxBlocks) || n > e.G.Blocks {
			continue
		}
		for _, split := range [][]int{nil, {1}, {int(n) / 2}, {1, 1}, {0, 1, 0}} {
			var pieces []int
			rest := int(n) * size
			for _, s := range split {
				if s*size <= rest {
					pieces = append(pieces, s*size)
					rest -= s * size
				}
			}
			if split != nil {
				pieces = append(pieces, rest)
			}
			seed++
			core, lba := int(seed)%e.Group.Len(), seed*5%(e.G.Blocks-n+1)
			data := e.Block(seed, n)
			e.Must(core, Op{Kind: bdev.Write, LBA: lba, Data: data, Pieces: pieces})
			r := e.Must(e.Other(core), Op{Kind: bdev.Read, LBA: lba, Data: data, Pieces: pieces})
			if !bytes.Equal(r.Data, data) {
				e.Fatalf("%d blocks at %d in pieces %v: read something else than was written", n, lba, pieces)
			}
		}
	}
	// As many pieces as there can be: more than writev(2) takes.
	n := min(int(e.G.MaxBlocks), 1500)
	pieces := make([]int, n)
	for i := range pieces {
		pieces[i] = size
	}
	data := e.Block(99, uint64(n))
	e.Must(0, Op{Kind: bdev.Write, Data: data, Pieces: pieces, FUA: true})
	if r := e.Must(0, Op{Kind: bdev.Read, Data: data, Pieces: pieces}); !bytes.Equal(r.Data, data) {
		e.Fatalf("%d pieces: read something else than was written", n)
	}
}

func oddMemory(e *Env) {
	for _, odd := range []int{1, 4, 512, 2048, 4095} {
		for _, n := range []uint64{1, 5, uint64(e.G.MaxBlocks)} {
			if n > 5 && odd != 1 {
				continue
			}
			lba := uint64(odd) % 32
			data := e.Block(uint64(odd)+n, n)
			var pieces []int
			if n == 5 {
				pieces = []int{2 * int(e.G.BlockSize), 3 * int(e.G.BlockSize)}
			}
			e.Must(0, Op{Kind: bdev.Write, LBA: lba, Data: data, Odd: odd, Pieces: pieces, FUA: n == 5})
			r := e.Must(0, Op{Kind: bdev.Read, LBA: lba, Data: data, Odd: odd, Pieces: pieces})
			if !bytes.Equal(r.Data, data) {
				e.Fatalf("memory %d bytes past a page, %d blocks: read something else than was written", odd, n)
			}
			e.Must(0, Op{Kind: bdev.Compare, LBA: lba, Data: data, Odd: odd, Pieces: pieces})
			e.Must(0, Op{Kind: bdev.CompareAndWrite, LBA: lba, Data: data, Data2: e.Block(3, n), Odd: odd, Pieces: pieces})
			e.WantData("compare-and-write from odd memory", 0, lba, e.Block(3, n))
		}
	}
}

// around fills a stretch, lets f change the part [from, from+n) of it, and wants want there and the rest untouched.
func (e *Env) around(why string, core int, n uint64, want func(old []byte) []byte, f func(from uint64)) {
	e.Helper()
	const margin = 9
	from := uint64(margin) + 4
	all := e.Block(n, n+2*margin)
	e.writeLong(core, from-margin, all)
	f(from)
	part := all[margin<<e.Shift() : (margin+n)<<e.Shift()]
	copy(part, want(part))
	e.WantData(why, e.Other(core), from-margin, all)
}

// writeLong writes more than a request may carry.
func (e *Env) writeLong(core int, lba uint64, data []byte) {
	e.Helper()
	for len(data) > 0 {
		n := min(len(data), int(e.G.MaxBlocks)<<e.Shift())
		e.Write(core, lba, data[:n])
		data = data[n:]
		lba += uint64(n) >> e.Shift()
	}
}

// stretches are lengths in blocks that pass the limits of pages, steps and largest requests.
func (e *Env) stretches() []uint64 {
	return []uint64{1, 2, 8, 9, 128<<10>>e.Shift() - 1, 128<<10>>e.Shift() + 1, 1<<20>>e.Shift() + 3, 2<<20>>e.Shift() + 5}
}

func toZeros(old []byte) []byte { return make([]byte, len(old)) }

func zeroes(e *Env) {
	for i, n := range e.stretches() {
		core := i % e.Group.Len()
		for _, fua := range []bool{false, true} {
			e.around("zeroes", core, n, toZeros, func(from uint64) {
				e.Must(core, Op{Kind: bdev.WriteZeroes, LBA: from, Blocks: n, FUA: fua})
			})
		}
	}
}

func unmap(e *Env) {
	if !e.G.Supports(bdev.Unmap) {
		return // that it is refused is another rule
	}
	for i, n := range e.stretches() {
		core := i % e.Group.Len()
		unmap := Op{Kind: bdev.Unmap, Blocks: n, FUA: i%2 == 0}
		if e.G.UnmapZeroes {
			e.around("unmap", core, n, toZeros, func(from uint64) {
				unmap.LBA = from
				e.Must(core, unmap)
				e.Must(core, unmap) // repeating it is harmless
			})
			continue
		}
		again := e.Block(88, n)
		e.around("written again after unmap", core, n, func([]byte) []byte { return again }, func(from uint64) {
			unmap.LBA = from
			e.Must(core, unmap)
			e.writeLong(core, from, again)
		})
	}
}

// spots are byte offsets in n bytes that are worth a difference.
func (e *Env) spots(n int) []int {
	size := int(e.G.BlockSize)
	var out []int
	for _, at := range []int{0, 1, size - 1, size, n/2 + 3, 128<<10 - 1, 128 << 10, 128<<10 + 77, n - 1} {
		if at < n {
			out = append(out, at)
		}
	}
	return out
}

func compare(e *Env) {
	for i, n := range []uint64{1, 3, 128<<10>>e.Shift() + 2, uint64(e.G.MaxBlocks)} {
		core := i % e.Group.Len()
		data := e.Block(n, n)
		e.Write(core, 5, data)
		for _, pieces := range [][]int{nil, {int(e.G.BlockSize), len(data) - int(e.G.BlockSize)}} {
			e.Want("equal", core, bdev.StatusOK, Op{Kind: bdev.Compare, LBA: 5, Data: data, Pieces: pieces})
			for _, at := range e.spots(len(data)) {
				other := bytes.Clone(data)
				other[at] ^= 1
				other[len(other)-1] ^= 0x80 // a later difference does not matter
				r := e.Want("a byte differs", e.Other(core), bdev.StatusMiscompare, Op{Kind: bdev.Compare, LBA: 5, Data: other, Pieces: pieces})
				if r.Detail != uint32(at) {
					e.Errorf("a byte differs at %d of %d: reported at %d", at, len(data), r.Detail)
				}
			}
		}
		e.WantData("after compare", core, 5, data)
	}
}

func compareAndWrite(e *Env) {
	for i, n := range []uint64{1, 3, 128<<10>>e.Shift() + 2, uint64(e.G.MaxBlocks)} {
		core := i % e.Group.Len()
		data, next := e.Block(n, n), e.Block(n+50, n)
		e.Write(core, 5, data)
		op := Op{Kind: bdev.CompareAndWrite, LBA: 5, Data: data, Data2: next, FUA: i%2 == 0}
		for _, at := range e.spots(len(data)) {
			o := op
			o.Data = bytes.Clone(data)
			o.Data[at] ^= 4
			if r := e.Want("a byte differs", core, bdev.StatusMiscompare, o); r.Detail != uint32(at) {
				e.Errorf("a byte differs at %d of %d: reported at %d", at, len(data), r.Detail)
			}
			e.WantData("after a miscompare", core, 5, data)
		}
		e.Want("equal", core, bdev.StatusOK, op)
		e.WantData("after compare-and-write", e.Other(core), 5, next)
		e.Want("a second time", e.Other(core), bdev.StatusMiscompare, op)
	}
}

func copies(e *Env) {
	seed := uint64(0)
	for _, n := range e.stretches() {
		for i, apart := range []int64{int64(n), 1, -1, -int64(n) / 2, int64(n) + 7, int64(n) / 2, -int64(n), 0} {
			if i > 3 && n<<e.Shift() > 256<<10 {
				break
			}
			seed++
			core := int(seed) % e.Group.Len()
			from := n + 3
			to := uint64(int64(from) + apart)
			if from+n > e.G.Blocks || to+n > e.G.Blocks {
				from, to = 0, uint64(max(apart, 0))
				if to+n > e.G.Blocks {
					continue
				}
			}
			lo, hi := min(from, to), max(from, to)+n
			all := e.Block(seed, hi-lo)
			e.writeLong(core, lo, all)
			e.Must(core, Op{Kind: bdev.Copy, LBA: to, LBA2: from, Blocks: n, FUA: seed%2 == 0})
			copy(all[(to-lo)<<e.Shift():], bytes.Clone(all[(from-lo)<<e.Shift():(from-lo+n)<<e.Shift()]))
			e.WantData("copy", e.Other(core), lo, all)
		}
	}
}
