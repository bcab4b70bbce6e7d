package bdevtest

import (
	"bytes"
	"encoding/binary"
	"sync"
	"time"

	"github.com/pollux-storage/pollux/bdev"
	"github.com/pollux-storage/pollux/reactor"
)

// swapRules are about compare-and-write being one step against everything else.
var swapRules = []Rule{
	{Name: "compare-and-write loses no increment", Test: increments, data: true},
	{Name: "compare-and-write never overwrites what came after its compare", Test: overwrites, data: true},
	{Name: "compare-and-write is never seen half done", Test: halves, data: true},
}

// together waits for n jobs that run by themselves.
type together struct {
	sync.WaitGroup
	e *Env
}

func (e *Env) together(n int) *together {
	t := &together{e: e}
	t.Add(n)
	return t
}

func (t *together) wait() {
	t.e.Helper()
	done := make(chan struct{})
	go func() { t.WaitGroup.Wait(); close(done) }()
	late := time.NewTimer(t.e.Patience)
	defer late.Stop()
	select {
	case <-done:
	case <-late.C:
		t.e.Fatalf("requests not completed after %v", t.e.Patience)
	}
}

// start runs f on a reactor with a new job, which lives until the test ends.
func (e *Env) start(core int, f func(j *Job)) *Job {
	j := e.NewJob(core)
	_ = e.Group.Reactor(core).Call(func() { f(j) })
	return j
}

func increments(e *Env) {
	const depth, each = 3, 12
	size := int(e.G.BlockSize)
	e.Write(0, 2, make([]byte, size))
	t := e.together(e.Group.Len() * depth)
	var jobs []*Job
	for _, core := range e.Cores() {
		for range depth {
			left := each
			jobs = append(jobs, e.start(core, func(j *Job) {
				old, next := j.Memory(size), j.Memory(size)
				j.Q.Data, j.Q.Data2 = [][]byte{old}, [][]byte{next}
				j.Q.LBA, j.Q.Blocks, j.Q.Kind = 2, 1, bdev.Read
				j.then = func(j *Job) {
					switch {
					case j.Q.Kind == bdev.Read && j.Q.Status == bdev.StatusOK:
						copy(next, old)
						binary.LittleEndian.PutUint64(next, binary.LittleEndian.Uint64(old)+1)
						j.Q.Kind = bdev.CompareAndWrite
					case j.Q.Kind == bdev.CompareAndWrite && j.Q.Status == bdev.StatusOK:
						if left--; left == 0 {
							t.Done()
							return
						}
						j.Q.Kind = bdev.Read
					case j.Q.Kind == bdev.CompareAndWrite && j.Q.Status == bdev.StatusMiscompare:
						j.Q.Kind = bdev.Read
					default:
						e.Errorf("%v: %v", j.Q.Kind, j.Q.Status)
						t.Done()
						return
					}
					j.Submit()
				}
				j.Submit()
			}))
		}
	}
	t.wait()
	e.finish(jobs)
	r := e.Must(0, Op{Kind: bdev.Read, LBA: 2, Data: make([]byte, size)})
	if got, want := binary.LittleEndian.Uint64(r.Data), uint64(e.Group.Len()*depth*each); got != want {
		e.Errorf("the counter stands at %d after %d increments", got, want)
	}
}

// finish releases jobs that have ended.
func (e *Env) finish(jobs []*Job) {
	_ = e.Group.Each(func(r *reactor.Reactor) {
		for _, j := range jobs {
			if j.core == r.Index() {
				j.Release()
			}
		}
	})
}

func overwrites(e *Env) {
	a, b, c := e.Block(1, 2), e.Block(2, 2), e.Block(3, 2)
	for i := range 60 {
		swapper, writer := i%e.Group.Len(), (i+1)%e.Group.Len()
		e.Write(0, 10, a)
		swap := e.Begin(swapper, Op{Kind: bdev.CompareAndWrite, LBA: 10, Data: a, Data2: b})
		write := e.Begin(writer, Op{Kind: bdev.Write, LBA: 10, Data: c})
		swap.Wait()
		write.Wait()
		s := swap.Finish().Status
		if w := write.Finish().Status; w != bdev.StatusOK || s != bdev.StatusOK && s != bdev.StatusMiscompare {
			e.Fatalf("write: %v, compare-and-write: %v", w, s)
		}
		// Before or after: the write is what stays.
		e.WantData("a write beside a compare-and-write was lost", 0, 10, c)
	}
}

func halves(e *Env) {
	size := int(e.G.BlockSize)
	const blocks, rounds = 3, 40
	fill := func(b []byte, v byte) {
		for i := range b {
			b[i] = v
		}
	}
	first := make([]byte, blocks*size)
	e.Write(0, 4, first)
	readers := e.Group.Len()
	t := e.together(readers + 1)
	over := make(chan struct{})
	jobs := []*Job{e.start(0, func(j *Job) {
		old, next := j.Memory(blocks*size), j.Memory(blocks*size)
		j.Q.Kind, j.Q.LBA, j.Q.Blocks = bdev.CompareAndWrite, 4, blocks
		j.Q.Data, j.Q.Data2 = [][]byte{old}, [][]byte{next}
		n := byte(0)
		fill(old, n)
		fill(next, n+1)
		j.then = func(j *Job) {
			if j.Q.Status != bdev.StatusOK {
				e.Errorf("compare-and-write: %v", j.Q.Status)
			}
			if n++; n == rounds || j.Q.Status != bdev.StatusOK {
				close(over)
				t.Done()
				return
			}
			fill(old, n)
			fill(next, n+1)
			j.Submit()
		}
		j.Submit()
	})}
	for _, core := range e.Cores() {
		jobs = append(jobs, e.start(core, func(j *Job) {
			b := j.Memory(blocks * size)
			j.Q.Kind, j.Q.LBA, j.Q.Blocks, j.Q.Data = bdev.Read, 4, blocks, [][]byte{b}
			j.then = func(j *Job) {
				if j.Q.Status != bdev.StatusOK || !bytes.Equal(b, bytes.Repeat(b[:1], len(b))) {
					e.Errorf("read %v: %d, %d and %d at the blocks' ends", j.Q.Status, b[0], b[size], b[2*size])
				}
				select {
				case <-over:
					t.Done()
				default:
					j.Submit()
				}
			}
			j.Submit()
		}))
	}
	t.wait()
	e.finish(jobs)
}
