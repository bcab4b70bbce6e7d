package bdevtest

import (
	"bytes"
	"fmt"
	"runtime"
	"slices"
	"strings"

	"github.com/pollux-storage/pollux/bdev"
)

// loadRules are about many requests at once.
var loadRules = []Rule{
	{Name: "thousands in flight", Test: deep},
	{Name: "in steady state nothing is allocated", Test: allocations, heap: true},
	{Name: "no reactor waits for a lock", Test: waits, heap: true},
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

// allocations runs each kind of request often, and asks the heap's profile what the reactors allocated meanwhile.
func allocations(e *Env) {
	e.oftenEach(func(what string, run func()) {
		run() // what grows to a high-water mark grows here
		// Where the mark depends on timing, as that of a list of timers, another run may still reach a higher one.
		var made map[string]int64
		for range 4 {
			if made = OnReactors(run); len(made) == 0 {
				break
			}
		}
		for where, times := range made {
			e.Errorf("%s: %d allocations:\n%s", what, times, where)
		}
	})
}

// waits runs them, and asks the profile of blocking which reactors waited for something else than the kernel: who waits so gives its thread
// up, and everything on that reactor waits with it.
func waits(e *Env) {
	e.oftenEach(func(what string, run func()) {
		for where, times := range WaitsOnReactors(run) {
			e.Errorf("%s: a reactor waited %d times:\n%s", what, times, where)
		}
	})
}

// oftenEach gives, for each kind of request, something that runs it often on all reactors at once, on the same blocks.
func (e *Env) oftenEach(use func(what string, run func())) {
	const depth, rounds = 8, 800
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
			n = max(n/10, 2) // slow, and what is found at each shows as well
		}
		use(fmt.Sprintf("%v (FUA %v, odd %d), %d requests", op.Kind, op.FUA, op.Odd, n*len(jobs)), func() {
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
		})
		e.finish(jobs)
	}
}

// OnReactors runs f and gives the allocations made on reactors meanwhile, by stack, but for those of the suite itself.
func OnReactors(f func()) map[string]int64 {
	before := allocated()
	was := runtime.MemProfileRate
	runtime.MemProfileRate = 1
	f()
	runtime.MemProfileRate = was
	made := map[string]int64{}
	for stack, n := range allocated() {
		if n -= before[stack]; n > 0 {
			if where, own := describe(stack); own {
				made[where] += n
			}
		}
	}
	return made
}

// AlwaysOnReactors runs f until no allocation is made on reactors, four times at the most, and gives those of the last time: where what grows to a
// high-water mark depends on timing, another run may still reach a higher one.
func AlwaysOnReactors(f func()) (made map[string]int64) {
	for range 4 {
		if made = OnReactors(f); len(made) == 0 {
			break
		}
	}
	return made
}

// WaitsOnReactors runs f and gives what reactors waited for meanwhile, by stack: locks and channels, but for those of the suite itself.
func WaitsOnReactors(f func()) map[string]int64 {
	before := blocked()
	runtime.SetBlockProfileRate(1)
	f()
	runtime.SetBlockProfileRate(0)
	made := map[string]int64{}
	for stack, n := range blocked() {
		if n -= before[stack]; n > 0 {
			if where, own := describe(stack); own {
				made[where] += n
			}
		}
	}
	return made
}

// blocked gives the profile of blocking: how often each stack waited.
func blocked() map[stack]int64 {
	records := make([]runtime.BlockProfileRecord, 1024)
	n, ok := runtime.BlockProfile(records)
	for !ok {
		records = make([]runtime.BlockProfileRecord, n+1024)
		n, ok = runtime.BlockProfile(records)
	}
	all := map[stack]int64{}
	for i := range records[:n] {
		all[records[i].Stack0] += records[i].Count
	}
	return all
}

// stack is the callers of an allocation or of a wait, innermost first.
type stack [32]uintptr

// allocated gives the profile of the heap: how often was allocated by each stack, as far as it was recorded.
func allocated() map[stack]int64 {
	runtime.GC() // publishes what happened before it
	records := make([]runtime.MemProfileRecord, 1024)
	n, ok := runtime.MemProfile(records, true)
	for !ok {
		records = make([]runtime.MemProfileRecord, n+1024)
		n, ok = runtime.MemProfile(records, true)
	}
	all := map[stack]int64{}
	for i := range records[:n] {
		all[records[i].Stack0] += records[i].AllocObjects
	}
	return all
}

// describe gives the functions of a stack, and whether it is that of code under test on a reactor: a tick runs it, and
// the innermost function of this module does not belong to the suite (the suite's own tests have devices of theirs).
func describe(s stack) (text string, own bool) {
	const module = "github.com/pollux-storage/pollux/"
	pcs := s[:]
	if n := slices.Index(pcs, 0); n >= 0 {
		pcs = pcs[:n]
	}
	tick, innermost, suite := false, "", false
	frames := runtime.CallersFrames(pcs)
	for {
		f, more := frames.Next()
		text += "    " + f.Function + "\n"
		if innermost == "" && strings.HasPrefix(f.Function, module) {
			innermost = f.Function
			suite = strings.HasPrefix(innermost, module+"bdev/bdevtest.") && !strings.HasSuffix(f.File, "_test.go")
		}
		tick = tick || f.Function == module+"reactor.(*Reactor).tick"
		if !more {
			break
		}
	}
	return text, tick && innermost != "" && !suite
}
