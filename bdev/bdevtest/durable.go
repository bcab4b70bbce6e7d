package bdevtest

import "github.com/pollux-storage/pollux/bdev"

// durableRules are about what outlives a power failure. Where there is none to be had, they only look whether FUA and flush
// are served.
var durableRules = []Rule{
	{Name: "what was flushed is durable", Test: flushed, data: true},
	{Name: "what FUA wrote is durable", Test: forced, data: true},
	{Name: "what FUA read is durable", Test: readForced, data: true},
	{Name: "flush and FUA are served", Test: served},
}

func (e *Env) crash() {
	if e.Subject.Crash != nil {
		e.Settle()
		e.Subject.Crash(e.Device)
	}
}

func flushed(e *Env) {
	for _, core := range e.Cores() {
		data := e.Block(uint64(core)+3, 20)
		e.Write(core, 3, data)
		e.Must(core, Op{Kind: bdev.WriteZeroes, LBA: 5, Blocks: 2})
		clear(data[2<<e.Shift() : 4<<e.Shift()])
		e.Must(e.Other(core), Op{Kind: bdev.Flush})
		e.crash()
		e.WantData("flushed, then power lost", core, 3, data)
	}
}

func forced(e *Env) {
	const n = 40
	for _, core := range e.Cores() {
		lba := uint64(100 * core)
		write := func() []byte {
			data := e.Block(lba+9, n)
			e.Must(core, Op{Kind: bdev.Write, LBA: lba, Data: data, FUA: true})
			return data
		}
		data := write()
		e.crash()
		e.WantData("written with FUA, then power lost", core, lba, data)

		data = e.Block(lba+10, n)
		e.Must(core, Op{Kind: bdev.Write, LBA: lba, Data: data, FUA: true, Odd: 512})
		e.crash()
		e.WantData("written with FUA from odd memory, then power lost", core, lba, data)

		e.Must(core, Op{Kind: bdev.WriteZeroes, LBA: lba, Blocks: n, FUA: true})
		e.crash()
		e.WantData("zeroed with FUA, then power lost", core, lba, make([]byte, len(data)))

		data = write()
		next := e.Block(lba+11, n)
		e.Must(core, Op{Kind: bdev.CompareAndWrite, LBA: lba, Data: data, Data2: next, FUA: true})
		e.crash()
		e.WantData("compared and written with FUA, then power lost", core, lba, next)

		e.Must(core, Op{Kind: bdev.Copy, LBA: lba + n, LBA2: lba, Blocks: n, FUA: true})
		e.crash()
		e.WantData("copied with FUA, then power lost", core, lba+n, next)

		if e.G.Supports(bdev.Unmap) && e.G.UnmapZeroes {
			e.Must(core, Op{Kind: bdev.Unmap, LBA: lba, Blocks: n, FUA: true})
			e.crash()
			e.WantData("unmapped with FUA, then power lost", core, lba, make([]byte, len(data)))
		}
	}
}

func readForced(e *Env) {
	for i, kind := range []bdev.Kind{bdev.Read, bdev.Compare} {
		data := e.Block(uint64(i)+60, 4)
		e.Write(0, 8, data)
		e.Must(0, Op{Kind: kind, LBA: 8, Data: data, FUA: true})
		e.crash()
		e.WantData("read with FUA, then power lost", 0, 8, data)
	}
}

func served(e *Env) {
	for _, core := range e.Cores() {
		e.Must(core, Op{Kind: bdev.Flush})
		for _, op := range e.ops(0, 2) {
			if op.Kind == bdev.Compare || op.Kind == bdev.CompareAndWrite || !e.G.Supports(op.Kind) {
				continue
			}
			op.FUA = true
			e.Must(core, op)
		}
		// LBA and Blocks of a flush mean nothing.
		e.Must(core, Op{Kind: bdev.Flush, LBA: ^uint64(0), Blocks: ^uint64(0)})
	}
}
