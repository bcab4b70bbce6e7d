package bdevtest

import (
	"bytes"
	"math/rand/v2"

	"pgregory.net/rapid"

	"github.com/pollux-storage/pollux/bdev"
)

// modelRules compare the device with an array of bytes.
var modelRules = []Rule{
	{Name: "it behaves as an array of bytes", Test: twin, data: true},
	{Name: "reactors that keep to their own blocks do not disturb each other", Test: twins, data: true},
}

const twinBlocks = 48

// twin does random things one after the other, and the same things to an array.
func twin(e *Env) {
	rapid.Check(e.T, func(t *rapid.T) {
		base := e.G.Blocks - twinBlocks
		model := make([]byte, twinBlocks<<e.Shift())
		e.Must(0, Op{Kind: bdev.WriteZeroes, LBA: base, Blocks: twinBlocks})
		n := rapid.IntRange(1, 20).Draw(t, "requests")
		for range n {
			core := rapid.IntRange(0, e.Group.Len()-1).Draw(t, "reactor")
			op := e.draw(t, base, model)
			got := e.Do(core, op)
			want := e.apply(&op, base, model)
			if got.Status != want.Status || got.Status == bdev.StatusMiscompare && got.Detail != want.Detail {
				t.Fatalf("%v at %d, %d blocks: %v %d, want %v %d", op.Kind, op.LBA, op.Blocks, got.Status, got.Detail, want.Status, want.Detail)
			}
			if op.Kind == bdev.Read && got.Status == bdev.StatusOK && !bytes.Equal(got.Data, want.Data) {
				t.Fatalf("read at %d, %d blocks: other data than the model's", op.LBA, op.Blocks)
			}
		}
		if r := e.Do(0, Op{Kind: bdev.Read, LBA: base, Data: model}); !bytes.Equal(r.Data, model) {
			t.Fatalf("in the end the device differs from the model (%v)", r.Status)
		}
	})
}

var twinKinds = []bdev.Kind{bdev.Read, bdev.Write, bdev.Flush, bdev.Unmap, bdev.WriteZeroes, bdev.Compare, bdev.CompareAndWrite, bdev.Copy}

// draw makes up a request in and a little past the end of the device.
func (e *Env) draw(t *rapid.T, base uint64, model []byte) Op {
	kind := rapid.SampledFrom(twinKinds).Draw(t, "kind")
	if kind == bdev.Unmap && !(e.G.Supports(kind) && e.G.UnmapZeroes) {
		kind = bdev.WriteZeroes
	}
	lba := rapid.Uint64Range(0, twinBlocks-1).Draw(t, "lba")
	n := rapid.Uint64Range(1, 10).Draw(t, "blocks")
	op := Op{Kind: kind, LBA: base + lba, Blocks: n, FUA: rapid.IntRange(0, 9).Draw(t, "fua") == 0}
	if rapid.IntRange(0, 9).Draw(t, "odd") == 0 {
		op.Odd = 1 + rapid.IntRange(0, 4094).Draw(t, "address")
	}
	switch kind {
	case bdev.Copy:
		op.LBA2 = base + rapid.Uint64Range(0, twinBlocks-1).Draw(t, "source")
	case bdev.Read, bdev.Write, bdev.Compare, bdev.CompareAndWrite:
		op.Data = e.Block(rapid.Uint64().Draw(t, "seed"), n)
		if lba+n <= twinBlocks && kind >= bdev.Compare {
			copy(op.Data, model[lba<<e.Shift():])
			if rapid.Bool().Draw(t, "differs") {
				op.Data[rapid.IntRange(0, len(op.Data)-1).Draw(t, "at")] ^= 0x10
			}
		}
		if kind == bdev.CompareAndWrite {
			op.Data2 = e.Block(rapid.Uint64().Draw(t, "seed2"), n)
		}
		if cut := rapid.Uint64Range(0, n).Draw(t, "cut"); cut < n {
			op.Pieces = []int{int(cut << e.Shift()), int((n - cut) << e.Shift())}
		}
	}
	return op
}

// apply does op to the model.
func (e *Env) apply(op *Op, base uint64, model []byte) Result {
	if op.Kind == bdev.Flush {
		return Result{}
	}
	end := base + twinBlocks
	if op.LBA+op.Blocks > end || op.Kind == bdev.Copy && op.LBA2+op.Blocks > end {
		return Result{Status: bdev.StatusOutOfRange}
	}
	at := model[(op.LBA-base)<<e.Shift():][:op.Blocks<<e.Shift()]
	switch op.Kind {
	case bdev.Read:
		return Result{Data: at}
	case bdev.Write:
		copy(at, op.Data)
	case bdev.Unmap, bdev.WriteZeroes:
		clear(at)
	case bdev.Copy:
		copy(at, model[(op.LBA2-base)<<e.Shift():][:op.Blocks<<e.Shift()])
	case bdev.Compare, bdev.CompareAndWrite:
		for i := range at {
			if at[i] != op.Data[i] {
				return Result{Status: bdev.StatusMiscompare, Detail: uint32(i)}
			}
		}
		copy(at, op.Data2)
	}
	return Result{}
}

// twins lets several jobs on every reactor write, zero, copy and compare in a stretch of their own, all at once.
func twins(e *Env) {
	const depth, rounds, blocks = 4, 30, 24
	size := int(e.G.BlockSize)
	t := e.together(e.Group.Len() * depth)
	var jobs []*Job
	for i := range e.Group.Len() * depth {
		jobs = append(jobs, e.start(i%e.Group.Len(), func(j *Job) {
			w := &twinJob{e: e, j: j, t: t, base: uint64(i * blocks), left: rounds, random: rand.New(rand.NewPCG(uint64(i), 77))}
			w.model, w.data, w.data2 = make([]byte, blocks*size), aligned(blocks*size, 0), aligned(blocks*size, 0)
			j.then = w.done
			w.next(bdev.WriteZeroes, 0, blocks)
		}))
	}
	t.wait()
	e.finish(jobs)
}

// twinJob is one stretch with its model.
type twinJob struct {
	e                  *Env
	j                  *Job
	t                  *together
	base               uint64
	left               int
	random             *rand.Rand
	model, data, data2 []byte
}

func (w *twinJob) next(k bdev.Kind, at, n uint64) {
	q, shift := &w.j.Q, w.e.Shift()
	q.Kind, q.LBA, q.Blocks, q.FUA = k, w.base+at, n, w.random.IntN(8) == 0
	part := w.model[at<<shift : (at+n)<<shift]
	q.Data, q.Data2 = [][]byte{w.data[:len(part)]}, nil
	switch k {
	case bdev.Read:
		clear(w.data)
	case bdev.Write:
		Fill(w.data[:len(part)], w.random.Uint64())
		copy(part, w.data)
	case bdev.WriteZeroes:
		clear(part)
	case bdev.Copy:
		from := w.random.Uint64N(uint64(len(w.model))>>shift - n + 1)
		q.LBA2 = w.base + from
		copy(part, bytes.Clone(w.model[from<<shift:][:len(part)]))
	case bdev.Compare:
		copy(w.data, part)
	case bdev.CompareAndWrite:
		copy(w.data, part)
		Fill(w.data2[:len(part)], w.random.Uint64())
		copy(part, w.data2)
		q.Data2 = [][]byte{w.data2[:len(part)]}
	}
	w.j.Submit()
}

func (w *twinJob) done(j *Job) {
	q := &j.Q
	if q.Status != bdev.StatusOK {
		w.e.Errorf("%v at %d, %d blocks: %v", q.Kind, q.LBA, q.Blocks, q.Status)
		w.t.Done()
		return
	}
	if at := (q.LBA - w.base) << w.e.Shift(); q.Kind == bdev.Read && !bytes.Equal(q.Data[0], w.model[at:][:len(q.Data[0])]) {
		w.e.Errorf("read at %d, %d blocks: other data than the model's", q.LBA, q.Blocks)
		w.t.Done()
		return
	}
	if w.left--; w.left <= 0 {
		w.t.Done()
		return
	}
	blocks := uint64(len(w.model)) >> w.e.Shift()
	n := 1 + w.random.Uint64N(9)
	at := w.random.Uint64N(blocks - n + 1)
	k := []bdev.Kind{bdev.Read, bdev.Read, bdev.Write, bdev.Write, bdev.WriteZeroes, bdev.Copy, bdev.Compare, bdev.CompareAndWrite}[w.random.IntN(8)]
	if w.left == 1 {
		k, at, n = bdev.Read, 0, blocks
	}
	w.next(k, at, n)
}
