package wal

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/pollux-storage/pollux/bdev"
	"github.com/pollux-storage/pollux/reactor"
)

// rig is a device on a real reactor, and the log on it.
type rig struct {
	t       *testing.T
	group   *reactor.Group
	r       *reactor.Reactor
	reg     *bdev.Registry
	handle  *bdev.Handle
	channel *bdev.Channel
	barrier *Barrier
	cfg     Config
}

const rigBytes = 16 << 20

func newRig(t *testing.T) *rig {
	t.Helper()
	g, err := reactor.Start(reactor.Config{Cores: []int{-1}, MemoryBytes: 64 << 20})
	if err != nil {
		t.Fatal(err)
	}
	w := &rig{t: t, group: g, r: g.Reactor(0), reg: bdev.NewRegistry(g)}
	if _, err := bdev.NewMem(w.reg, "m", uuid.New(), 4096, rigBytes/4096); err != nil {
		t.Fatal(err)
	}
	if w.handle, err = w.reg.Open("m", bdev.OpenOptions{Who: "log"}); err != nil {
		t.Fatal(err)
	}
	w.call(func() {
		if w.channel, err = w.handle.Channel(w.r); err == nil {
			w.barrier = NewBarrier(w.r, w.channel)
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	w.cfg = Config{
		Reactor: w.r, Channel: w.channel, Barrier: w.barrier, Volume: uuid.New(), Lineage: 7,
		Extents: []Extent{{Place: 100, Pages: 900}, {Place: 1500, Pages: 1100}},
	}
	t.Cleanup(func() {
		w.call(func() { w.barrier.Close(); w.channel.Close() })
		w.handle.Close()
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		if err := g.Stop(ctx); err != nil {
			t.Error(err)
		}
	})
	return w
}

func (w *rig) call(f func()) {
	w.t.Helper()
	if err := w.r.Call(f); err != nil {
		w.t.Fatal(err)
	}
}

// opened is a log that was recovered, with all that it held.
type opened struct {
	w         *rig
	log       *Log
	found     []Record
	payload   [][]byte
	why       error
	wound     error
	status    bdev.Status
	cutBefore LSN
	end       chan bdev.Status
}

func (o *opened) LogWindow(c *Recovery) {
	rd := c.Reader()
	for i := range rd.Records() {
		r := &rd.Records()[i]
		if r.LSN == o.cutBefore {
			rd.Cut(i, fmt.Errorf("%w: the test says so", ErrEnd))
			break
		}
		o.found = append(o.found, *r)
		o.payload = append(o.payload, bytes.Clone(rd.Payload(r)))
	}
	c.Go()
}

func (o *opened) LogRecovered(c *Recovery, s bdev.Status) {
	o.why, o.wound = c.Ended()
	o.end <- s
}

func (o *opened) LogBegun(_ *Log, s bdev.Status) { o.end <- s }

func (w *rig) open(from State) *opened { return w.openCut(from, 0) }

func (w *rig) openCut(from State, cutBefore LSN) *opened {
	w.t.Helper()
	o := &opened{w: w, end: make(chan bdev.Status, 1), cutBefore: cutBefore}
	w.call(func() {
		var err error
		if o.log, err = New(w.cfg); err == nil {
			_, err = o.log.Recover(from, o)
		}
		if err != nil {
			w.t.Error(err)
			o.end <- bdev.StatusIO
		}
	})
	if o.status = <-o.end; o.status != bdev.StatusOK {
		w.t.Fatalf("recovery: %v", o.status)
	}
	return o
}

func (o *opened) beginLife() {
	o.w.t.Helper()
	o.w.call(func() { o.log.Begin(o.log.Life()+1, o.log.Epoch(), o) })
	if s := <-o.end; s != bdev.StatusOK {
		o.w.t.Fatalf("beginning a life: %v", s)
	}
}

func (o *opened) close() {
	o.w.t.Helper()
	o.w.call(o.log.Close)
}

// writer appends records and hears of them.
type writer struct {
	o       *opened
	e       Entry
	wait    Waiter
	data    []byte
	left    int
	size    func() int
	written []LSN
	status  bdev.Status
	end     chan struct{}
}

func (o *opened) writer(n int, size func() int) *writer {
	v := &writer{o: o, left: n, size: size, end: make(chan struct{}), data: page(RecordPagesMax)}
	v.e.CRCs = make([]uint32, RecordPagesMax)
	v.e.Done, v.wait.Done = v, v
	return v
}

func page(n int) []byte {
	b := make([]byte, (n+1)*PageBytes)
	return b[:n*PageBytes]
}

func (v *writer) next() {
	if v.left == 0 {
		close(v.end)
		return
	}
	v.left--
	n := v.size()
	if !v.o.log.Reserve(n) {
		v.status = bdev.StatusNoSpace
		close(v.end)
		return
	}
	for i := range n {
		binary.LittleEndian.PutUint64(v.data[i*PageBytes:], uint64(v.left)<<20|uint64(i))
	}
	v.e.Kind, v.e.Block, v.e.Blocks = KindWrite, uint64(v.left), uint64(n)
	v.e.Payload = append(v.e.Payload[:0], v.data[:n*PageBytes])
	v.o.log.Append(&v.e)
}

func (v *writer) EntryWritten(e *Entry, s bdev.Status) {
	if s != bdev.StatusOK {
		v.status = s
		close(v.end)
		return
	}
	v.written = append(v.written, e.LSN)
	v.o.log.AwaitDurable(&v.wait, e.LSN)
}

func (v *writer) LogDurable(_ *Waiter, s bdev.Status) {
	if s != bdev.StatusOK {
		v.status = s
		close(v.end)
		return
	}
	v.next()
}

// fill lets several writers append n records each.
func (o *opened) fill(writers, n int, size func() int) {
	o.w.t.Helper()
	var all []*writer
	o.w.call(func() {
		for range writers {
			v := o.writer(n, size)
			all = append(all, v)
			v.next()
		}
	})
	for _, v := range all {
		<-v.end
		if v.status != bdev.StatusOK {
			o.w.t.Fatalf("a writer ended with %v", v.status)
		}
	}
}

func some(seed uint64, most int) func() int {
	r := rand.New(rand.NewPCG(seed, 1))
	return func() int { return r.IntN(most + 1) }
}

// TestWhatIsWrittenIsFound: whatever the sizes and the number of writers, over several lives and laps.
func TestWhatIsWrittenIsFound(t *testing.T) {
	w := newRig(t)
	var from State
	total := LSN(0)
	for life := range 6 {
		o := w.open(from)
		if o.wound != nil || !errors.Is(o.why, ErrEnd) {
			t.Fatalf("life %d: %v, wound %v", life, o.why, o.wound)
		}
		first := from.LSN + 1
		for i, r := range o.found {
			if r.LSN != first+LSN(i) || int(r.Pages) != int(r.Blocks) {
				t.Fatalf("life %d: record %d has LSN %d and %d pages for %d blocks", life, i, r.LSN, r.Pages, r.Blocks)
			}
			for k := range int(r.Pages) {
				if got := binary.LittleEndian.Uint64(o.payload[i][k*PageBytes:]); got != r.Block<<20|uint64(k) {
					t.Fatalf("life %d: page %d of LSN %d holds %x", life, k, r.LSN, got)
				}
			}
		}
		if last := from.LSN + LSN(len(o.found)); last != total {
			t.Fatalf("life %d: %d records from LSN %d on, want up to %d", life, len(o.found), first, total)
		}
		o.beginLife()
		for part := range 8 {
			o.fill(5, 12, some(uint64(life*8+part), 11))
			total += 60
			w.call(func() {
				a, wr, d := o.log.Marks()
				if a != total || wr != total || d != total {
					t.Errorf("marks %d, %d, %d, want %d", a, wr, d, total)
				}
				if o.log.reserved != 0 {
					t.Errorf("%d bytes stay reserved", o.log.reserved)
				}
				if part%2 == 1 { // a checkpoint
					from = State{Tail: o.log.Head(), Offset: o.log.Head(), Life: o.log.Life(), Epoch: o.log.Epoch(), LSN: d}
					o.log.Reclaim(from.Offset)
				}
			})
		}
		o.fill(3, 7, some(uint64(life), 30))
		total += 21
		o.close()
	}
}

// TestRecoveryReadsTheRingOnce: to find the records, and to search what is not theirs. What two windows share is not read again.
func TestRecoveryReadsTheRingOnce(t *testing.T) {
	w := newRig(t)
	from := State{}
	o := w.open(from)
	o.beginLife()
	for range 3 {
		o.fill(5, 12, some(1, 11))
		read := func() (n uint64) {
			w.call(func() { n = w.channel.Stats().Kinds[bdev.Read].Bytes })
			return n
		}
		o.close()
		before := read()
		o = w.open(from)
		if n, ring := read()-before, o.log.area.bytes; n < ring || n > ring+windowBytes {
			t.Errorf("%d bytes were read, the ring has %d", n, ring)
		}
		o.beginLife()
	}
	o.close()
}
