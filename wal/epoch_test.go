package wal

import (
	"encoding/binary"
	"slices"
	"strings"
	"testing"

	"github.com/pollux-storage/pollux/bdev"
	"github.com/pollux-storage/pollux/bdev/bdevsim"
)

// What gathers in several epochs goes out in as many batches; each record keeps the epoch in which it was appended, and a batch of a lower
// epoch than the last is not accepted.
func TestEpochs(t *testing.T) {
	w := bdevsim.NewWorld(t, 1, 1)
	m := newMachine(w, w.Disk("Disk0", diskBytes), 0)
	stages := &Stages{}
	m.cfg.Stages = stages
	o := m.open(State{Life: 1, Epoch: 3})
	head, batches := o.log.Head(), o.log.Stats().Batches
	var want []fact
	m.on(func() {
		for i, epoch := range []Epoch{3, 3, 4, 9, 9} {
			o.log.SetEpoch(epoch)
			if !newAdd(o).put(uint64(i), KindWrite, 1) {
				t.Fatal("no room")
			}
			want = append(want, fact{tag: uint64(i), kind: KindWrite, pages: 1, epoch: epoch})
		}
		wantBroken(t, "an epoch that falls", func() { o.log.SetEpoch(8) })
	})
	w.Settle()
	if n := o.log.Stats().Batches - batches; n != 3 {
		t.Errorf("%d batches, want one for each epoch", n)
	}
	o.sync()
	o.close()
	o = m.recover(State{Life: 1, Epoch: 3}, 0)
	o.mustHold(1, want)
	if o.log.Epoch() != 9 {
		t.Errorf("epoch %d, want 9", o.log.Epoch())
	}
	o.close()
	m.spoil(head+3*PageBytes, reheader(func(b []byte) { binary.LittleEndian.PutUint64(b[56:], 2) }))
	o = m.recover(State{Life: 1, Epoch: 3}, 0)
	o.mustHold(1, want[:2])
	if o.wound != nil || !strings.Contains(o.why.Error(), "epoch 2 after epoch 3") {
		t.Errorf("a lower epoch: %v, wound %v", o.why, o.wound)
	}
}

// While a batch is held before it is written, nothing of it is written, and what comes gathers behind it.
func TestRecordsGatherWhileABatchIsHeld(t *testing.T) {
	w := bdevsim.NewWorld(t, 1, 1)
	m := newMachine(w, w.Disk("Disk0", diskBytes), 0)
	m.cfg.Stages = &Stages{}
	o := m.open(State{Life: 1})
	before := o.log.Stats()
	m.on(func() { m.cfg.Stages.Shut(StageWrite) })
	var adds []*add
	for i := range 100 {
		m.on(func() {
			a := newAdd(o)
			adds = append(adds, a)
			a.put(uint64(i), KindTrim, 0)
		})
		w.Step()
	}
	w.Settle()
	if a, written, _ := o.log.Marks(); a != 100 || written != 0 || o.log.Stats().Batches != before.Batches || o.log.Idle() {
		t.Errorf("appended %d, written %d", a, written)
	}
	m.on(func() { m.cfg.Stages.Open(StageWrite) })
	w.Settle()
	if n := o.log.Stats().Batches - before.Batches; n != 2 || slices.ContainsFunc(adds, func(a *add) bool { return !a.written || a.status != bdev.StatusOK }) {
		t.Errorf("%d batches of at most %d records for 100", n, batchRecordsMax)
	}
}
