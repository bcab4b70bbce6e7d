package bdevtest

import (
	"bytes"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/pollux-storage/pollux/bdev"
	"github.com/pollux-storage/pollux/reactor"
)

// Job is a request with its memory on one reactor. It watches that the request keeps the rules.
type Job struct {
	Q bdev.Request

	e      *Env
	core   int
	ch     *bdev.Channel
	then   func(j *Job) // runs at the end, on the reactor; nil for nothing
	end    chan struct{}
	memory [][]byte // buffers of the reactor's pool

	was        fields
	submitting bool
	ends       int
}

// fields are what a device must give back as it got them.
type fields struct {
	kind             bdev.Kind
	fua              bool
	lba, blocks, lb2 uint64
	data, data2      unsafe.Pointer
	n, n2            int
}

func fieldsOf(q *bdev.Request) fields {
	return fields{q.Kind, q.FUA, q.LBA, q.Blocks, q.LBA2,
		unsafe.Pointer(unsafe.SliceData(q.Data)), unsafe.Pointer(unsafe.SliceData(q.Data2)), len(q.Data), len(q.Data2)}
}

// NewJob makes a job for a reactor. It runs anywhere.
func (e *Env) NewJob(core int) *Job {
	j := &Job{e: e, core: core, ch: e.Channels[core], end: make(chan struct{}, 1)}
	j.Q.Done = j
	return j
}

// Then sets what runs on the reactor when the request has ended, in place of Wait.
func (j *Job) Then(f func(j *Job)) { j.then = f }

// Submit submits the request. It runs on the job's reactor.
func (j *Job) Submit() {
	j.was, j.ends, j.submitting = fieldsOf(&j.Q), 0, true
	j.Q.Status, j.Q.Detail = 255, 0
	j.ch.Submit(&j.Q)
	j.submitting = false
	if !j.Q.InFlight() {
		j.e.Errorf("%v: not in flight after Submit", j.was.kind)
	}
}

// RequestDone hears the end.
func (j *Job) RequestDone(q *bdev.Request) {
	if j.submitting {
		j.e.Errorf("%v: completed inside Submit", j.was.kind)
	}
	if j.ends++; j.ends > 1 {
		j.e.Errorf("%v: completed %d times", j.was.kind, j.ends)
		return
	}
	if unix.Gettid() != j.e.Group.Reactor(j.core).ThreadID() {
		j.e.Errorf("%v: completed on another reactor than that which submitted it", j.was.kind)
	}
	if now := fieldsOf(q); now != j.was {
		j.e.Errorf("%v: came back as %+v, was submitted as %+v", j.was.kind, now, j.was)
	}
	if j.then != nil {
		j.then(j)
		return
	}
	j.end <- struct{}{}
}

// Wait waits for the end.
func (j *Job) Wait() {
	t := time.NewTimer(j.e.Patience)
	defer t.Stop()
	select {
	case <-j.end:
	case <-t.C:
		j.e.Fatalf("%v of %d blocks at %d: not completed after %v", j.was.kind, j.was.blocks, j.was.lba, j.e.Patience)
	}
}

// Memory gives a buffer of the reactor's pool, or, if that has none, of the heap. It runs on the reactor.
func (j *Job) Memory(n int) []byte {
	if n == 0 {
		return nil
	}
	if n <= reactor.BufferMax {
		if b := j.e.Group.Reactor(j.core).Memory().Get(n); b != nil {
			j.memory = append(j.memory, b)
			return b
		}
	}
	return aligned(n, 0)
}

// aligned gives memory of the heap at an address that is odd bytes past a page's begin.
func aligned(n, odd int) []byte {
	b := make([]byte, n+2*reactor.PageBytes)
	skip := -int(uintptr(unsafe.Pointer(&b[0])))&(reactor.PageBytes-1) + odd
	return b[skip : skip+n : skip+n]
}

// Release gives back what the job holds. It runs on the reactor.
func (j *Job) Release() {
	for _, b := range j.memory {
		j.e.Group.Reactor(j.core).Memory().Put(b)
	}
	j.memory = nil
	j.Q.Release()
}

// Op describes one request to Do.
type Op struct {
	Kind   bdev.Kind
	LBA    uint64
	Blocks uint64 // 0: what Data holds
	LBA2   uint64
	FUA    bool
	Data   []byte // written or compared; for a read how much is read
	Data2  []byte
	Pieces []int // lengths of the pieces of Data and Data2; nil for one
	Odd    int   // where their memory begins within a page

	Exactly bool // Blocks is what it says, even 0
}

// Result is what came of it.
type Result struct {
	bdev.Status
	Detail uint32
	Data   []byte // what was read
	Alike  uint64
	Mapped bool
}

// Do submits op on a reactor and waits for its end.
func (e *Env) Do(core int, op Op) Result {
	e.Helper()
	j := e.Begin(core, op)
	j.Wait()
	return j.Finish()
}

// Begin submits op and does not wait.
func (e *Env) Begin(core int, op Op) *Job {
	j := e.NewJob(core)
	_ = e.Group.Reactor(core).Call(func() { j.set(op); j.Submit() })
	return j
}

// Finish gives the result of a job that has ended, and releases it.
func (j *Job) Finish() Result {
	r := Result{Status: j.Q.Status, Detail: j.Q.Detail, Alike: j.Q.Alike, Mapped: j.Q.Mapped}
	if j.Q.Kind == bdev.Read {
		r.Data = bytes.Join(j.Q.Data, nil)
	}
	_ = j.e.Group.Reactor(j.core).Call(j.Release)
	return r
}

func (j *Job) set(op Op) {
	q := &j.Q
	q.Kind, q.LBA, q.Blocks, q.LBA2, q.FUA = op.Kind, op.LBA, op.Blocks, op.LBA2, op.FUA
	if q.Blocks == 0 && !op.Exactly {
		q.Blocks = uint64(len(op.Data)) >> j.e.Shift()
	}
	q.Data, q.Data2 = j.pieces(op, op.Data), j.pieces(op, op.Data2)
}

func (j *Job) pieces(op Op, data []byte) [][]byte {
	if data == nil {
		return nil
	}
	lengths := op.Pieces
	if lengths == nil {
		lengths = []int{len(data)}
	}
	var vec [][]byte
	for _, n := range lengths {
		var b []byte
		if op.Odd > 0 {
			b = aligned(n, op.Odd)
		} else {
			b = j.Memory(n)
		}
		if op.Kind == bdev.Read {
			Fill(b, 0xdead)
		} else {
			copy(b, data)
		}
		data = data[n:]
		vec = append(vec, b)
	}
	return vec
}

// Must does op and wants it to succeed.
func (e *Env) Must(core int, op Op) Result {
	e.Helper()
	r := e.Do(core, op)
	if r.Status != bdev.StatusOK {
		e.Fatalf("%v of %d blocks at %d on reactor %d: %v", op.Kind, max(op.Blocks, uint64(len(op.Data))>>e.Shift()), op.LBA, core, r.Status)
	}
	return r
}

// Write writes data at lba and wants it to succeed.
func (e *Env) Write(core int, lba uint64, data []byte) {
	e.Helper()
	e.Must(core, Op{Kind: bdev.Write, LBA: lba, Data: data})
}

// WantData wants the device to hold data at lba, read on the given reactor.
func (e *Env) WantData(why string, core int, lba uint64, data []byte) {
	e.Helper()
	for len(data) > 0 {
		n := min(len(data), int(e.G.MaxBlocks)<<e.Shift())
		r := e.Must(core, Op{Kind: bdev.Read, LBA: lba, Data: data[:n]})
		if !bytes.Equal(r.Data, data[:n]) {
			i := 0
			for r.Data[i] == data[i] {
				i++
			}
			e.Fatalf("%s: read on reactor %d, block %d differs from byte %d on: %#x, want %#x", why, core, lba+uint64(i)>>e.Shift(), i&(1<<e.Shift()-1), r.Data[i], data[i])
		}
		data = data[n:]
		lba += uint64(n) >> e.Shift()
	}
}

// Want wants op to end with a status.
func (e *Env) Want(why string, core int, s bdev.Status, op Op) Result {
	e.Helper()
	r := e.Do(core, op)
	if r.Status != s {
		e.Errorf("%s: %v: %v, want %v", why, op.Kind, r.Status, s)
	}
	return r
}

// Cores are the indices of the reactors.
func (e *Env) Cores() []int {
	out := make([]int, e.Group.Len())
	for i := range out {
		out[i] = i
	}
	return out
}

// Other is another reactor than core, if there is one.
func (e *Env) Other(core int) int { return (core + 1) % e.Group.Len() }

// Settle lets every reactor take a few turns.
func (e *Env) Settle() {
	for range 3 {
		_ = e.Group.Each(func(*reactor.Reactor) {})
	}
}
