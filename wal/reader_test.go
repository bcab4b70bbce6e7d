package wal

import (
	"testing"

	"github.com/pollux-storage/pollux/bdev"
	"github.com/pollux-storage/pollux/bdev/bdevsim"
)

// A pad whose header is the last page of a window goes on behind it: the next window begins behind the pad.
func TestAPadGoesOnBehindAWindow(t *testing.T) {
	w := bdevsim.NewWorld(t, 1, 1)
	m := newMachine(w, w.Disk("Disk0", diskBytes), 0)
	const left = 100 // pages of the first extent behind the pad's header, itself included
	at := Offset(ringExtents[0].Pages-left-batchPagesMax+1) * PageBytes
	from := State{Tail: at, Offset: at, Life: 1}
	o := m.open(from)
	o.write(1, 128, batchPagesMax-1-1-1-128)
	if head := o.log.Head(); head != at+(batchPagesMax-1)*PageBytes {
		t.Fatalf("the pad will begin at %d", head)
	}
	o.write(3, RecordPagesMax, 1)
	if o.log.Stats().Pads == 0 {
		t.Fatal("no pad")
	}
	o.sync()
	o.close()
	o = m.open(from)
	o.mustHold(1, append(writes(0, 1, 128, batchPagesMax-1-1-1-128), writes(0, 3, RecordPagesMax, 1)...))
}

// window is what a reader has read.
type window struct{ done bool }

func (v *window) WindowRead(*Reader, bdev.Status) { v.done = true }

// A batch that was torn goes on, in name, behind the life that was begun in it: a reader takes what there is up to its mark.
func TestATornBatchBehindTheMark(t *testing.T) {
	w := bdevsim.NewWorld(t, 1, 1)
	m := newMachine(w, w.Disk("Disk0", diskBytes), 0)
	o := m.open(State{Life: 1})
	o.write(1, 1, 8)
	o.close()
	m.spoil(6*PageBytes, func(b []byte) { b[100]++ })
	o = m.open(State{Life: 1})
	o.mustHold(1, writes(0, 1, 1))
	if end := o.log.DurableEnd(); end != 4*PageBytes {
		t.Fatalf("durable up to %d", end)
	}
	v := &window{}
	var rd *Reader
	m.on(func() {
		var err error
		if rd, err = o.log.NewReader(); err != nil {
			t.Fatal(err)
		}
		rd.Seek(Follow{Life: 1})
	})
	records := 0
	for ends := false; !ends; ends, _ = rd.Ends() {
		v.done = false
		m.on(func() { rd.Next(o.log.DurableEnd(), v) })
		w.Run("a window is read", func() bool { return v.done })
		records += len(rd.Records())
	}
	if ends, why := rd.Ends(); !ends || why != nil || records != 1 || rd.Follow().Offset != 4*PageBytes || rd.Follow().Life != 3 {
		t.Errorf("ends %v for %v, %d records, then %+v", ends, why, records, rd.Follow())
	}
}
