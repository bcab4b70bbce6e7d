package wal

import (
	"fmt"
	"testing"

	"github.com/pollux-storage/pollux/bdev"
)

// stream appends the same entries again and again, and waits for all of them at once.
type stream struct {
	x       *ring
	entries []Entry
	wait    Waiter
	out     int
	bad     bdev.Status
}

func newStream(x *ring, depth, pages int) *stream {
	s := &stream{x: x, entries: make([]Entry, depth)}
	for i := range s.entries {
		s.entries[i] = Entry{Record: Record{Kind: KindWrite}, CRCs: make([]uint32, pages), Done: s, Payload: [][]byte{blank[:pages*PageBytes]}}
	}
	s.wait.Done = s
	return s
}

func (s *stream) EntryWritten(_ *Entry, status bdev.Status) {
	if status != bdev.StatusOK {
		s.bad = status
	}
	if s.out--; s.out == 0 {
		_, written, _ := s.x.log.Marks()
		s.x.log.AwaitDurable(&s.wait, written)
	}
}

func (s *stream) LogDurable(_ *Waiter, status bdev.Status) {
	if status != bdev.StatusOK {
		s.bad = status
	}
	s.x.log.Reclaim(s.x.log.DurableEnd())
}

// round appends all entries and steps until they are durable.
func (s *stream) round() {
	l := s.x.log
	s.out = len(s.entries)
	for i := range s.entries {
		e := &s.entries[i]
		if !l.Reserve(len(e.CRCs)) {
			s.bad = bdev.StatusNoSpace
			return
		}
		l.Append(e)
	}
	for !l.Idle() {
		s.x.now += 100
		s.x.g.Step(s.x.now)
	}
}

func newNullRing(t testing.TB) *ring {
	x := newRing(t, []Extent{{Place: 1, Pages: 3000}, {Place: 4000, Pages: 1000}})
	t.Cleanup(x.g.Abandon)
	x.cfg.Barrier.volatile = true // the device has no cache; its flush is to be asked for
	if s := x.open(); s != bdev.StatusOK {
		t.Fatal(s)
	}
	return x
}

func TestAppendAllocatesNothing(t *testing.T) {
	for _, c := range []struct{ depth, pages int }{{1, 1}, {8, 1}, {128, 1}, {3, 128}, {70, 0}} {
		x := newNullRing(t)
		s := newStream(x, c.depth, c.pages)
		if n := testing.AllocsPerRun(200, s.round); n != 0 || s.bad != bdev.StatusOK {
			t.Errorf("%d records of %d pages: %v allocations, %v", c.depth, c.pages, n, s.bad)
		}
		if _, _, durable := x.log.Marks(); durable != LSN(201*c.depth) || x.cfg.Barrier.Flushes() < 201 || x.log.Used() != 0 {
			t.Errorf("%d durable after %d flushes, %d used", durable, x.cfg.Barrier.Flushes(), x.log.Used())
		}
	}
}

// BenchmarkAppend is the log's own cost of a record of 4 KiB, on a device that does nothing, from its reservation to its durability.
func BenchmarkAppend(b *testing.B) {
	for _, depth := range []int{1, 8, 32, 128} {
		b.Run(fmt.Sprintf("gathered=%d", depth), func(b *testing.B) {
			s := newStream(newNullRing(b), depth, 1)
			b.ReportAllocs()
			b.SetBytes(PageBytes)
			b.ResetTimer()
			for n := 0; n < b.N; n += depth {
				s.round()
			}
			if s.bad != bdev.StatusOK {
				b.Fatal(s.bad)
			}
		})
	}
}
