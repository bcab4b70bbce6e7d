package bdevtest

import (
	"bytes"
	"runtime"

	"github.com/pollux-storage/pollux/bdev"
)

// loadRules are about many requests at once.
var loadRules = []Rule{
	{Name: "thousands in flight", Test: deep},
	{Name: "in steady state nothing is allocated", Test: allocations},
}

func deep(e *Env) {
	depth := 4096 / e.Group.Len()
	per := uint64(depth) // blocks of each reactor
	if per*uint64(e.Group.Len()) > e.G.Blocks {
		per = e.G.Blocks / uint64(e.Group.Len())
	}
	size := int(e.G.BlockSize)
	for _, kind := range []bdev.Kind{bdev.Write, bdev.Read} {
		var all [][]*Job
		for _, core := range e.Cores() {
			jobs := make([]*Job, depth)
			slab := aligned(depth*size, 0)
			_ = e.Group.Reactor(core).Call(func() {
				for i := range jobs {
					j := e.NewJob(core)
					j.Q.Kind, j.Q.LBA, j.Q.Blocks = kind, uint64(core)*per+uint64(i)%per, 1
					b := slab[i*size:][:size:size]
					if kind == bdev.Write {
						Fill(b, j.Q.LBA)
					}
					j.Q.Data = [][]byte{b}
					jobs[i] = j
					j.Submit()
				}
				if n := e.Channels[core].InFlight(); n != depth {
					e.Errorf("%d in flight, want %d", n, depth)
				}
			})
			all = append(all, jobs)
		}
		want := make([]byte, size)
		for _, jobs := range all {
			for _, j := range jobs {
				j.Wait()
				if j.Q.Status != bdev.StatusOK {
					e.Fatalf("%v: %v", kind, j.Q.Status)
				}
				if Fill(want, j.Q.LBA); kind == bdev.Read && !e.Subject.Forgets && !bytes.Equal(j.Q.Data[0], want) {
					e.Fatalf("block %d: read something else than was written", j.Q.LBA)
				}
			}
			e.finish(jobs)
		}
	}
}

// allocations runs each kind of request often, and then counts what the process allocated meanwhile.
func allocations(e *Env) {
	const depth, rounds = 8, 1600
	for _, op := range append(e.ops(3, 2),
		Op{Kind: bdev.Flush},
		Op{Kind: bdev.Write, LBA: 3, Data: e.Block(1, 2), FUA: true},
		Op{Kind: bdev.Write, LBA: 3, Data: e.Block(1, 2), Odd: 1},
		Op{Kind: bdev.Read, LBA: 3, Data: e.Block(1, 2), Odd: 1},
		Op{Kind: bdev.Read, LBA: 3, Data: e.Block(1, 3), Pieces: []int{int(e.G.BlockSize), 2 * int(e.G.BlockSize)}},
		Op{Kind: bdev.Read, LBA: e.G.Blocks, Blocks: 1},
	) {
		if !e.G.Supports(op.Kind) {
			continue
		}
		var jobs []*Job
		for _, core := range e.Cores() {
			for range depth {
				j := e.NewJob(core)
				_ = e.Group.Reactor(core).Call(func() { j.set(op) })
				jobs = append(jobs, j)
			}
		}
		n := rounds / len(jobs)
		if op.Kind == bdev.CompareAndWrite || op.Kind == bdev.Flush || op.FUA {
			n = max(n/10, 2) // slow, and what is allocated at each shows as well
		}
		run := func() uint64 {
			t := e.together(len(jobs))
			for _, j := range jobs {
				left := n
				j.then = func(j *Job) {
					if left--; left == 0 {
						t.Done()
						return
					}
					j.Submit()
				}
			}
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			for _, core := range e.Cores() {
				_ = e.Group.Reactor(core).Call(func() {
					for _, j := range jobs {
						if j.core == core {
							j.Submit()
						}
					}
				})
			}
			t.wait()
			runtime.ReadMemStats(&after)
			return after.Mallocs - before.Mallocs
		}
		run()
		total := uint64(n * len(jobs))
		// What the test and the runtime allocate themselves is a few dozen, not at every run the same.
		most, made := 60+total/20, uint64(0)
		for range 4 {
			if made = run(); made <= most {
				break
			}
		}
		if made > most {
			e.Errorf("%v (FUA %v, odd %d): %d allocations in %d requests", op.Kind, op.FUA, op.Odd, made, total)
		}
		e.finish(jobs)
	}
}
