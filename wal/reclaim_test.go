package wal

import (
	"testing"

	"pgregory.net/rapid"

	"github.com/pollux-storage/pollux/bdev"
	"github.com/pollux-storage/pollux/reactor"
)

// ring is a log on a device that keeps nothing, on a simulated reactor, for its arithmetic.
type ring struct {
	t     interface{ Fatalf(string, ...any) }
	g     *reactor.Group
	cfg   Config
	log   *Log
	now   reactor.Ticks
	out   int // appended, not yet heard of
	begun bdev.Status
	over  bool
	life  Life
}

func newRing(t interface{ Fatalf(string, ...any) }, extents []Extent) *ring {
	g, err := reactor.Simulate(1, reactor.Config{MemoryBytes: 8 << 20})
	if err != nil {
		t.Fatalf("%v", err)
	}
	x := &ring{t: t, g: g}
	reg := bdev.NewRegistry(g)
	pages := uint64(0)
	for _, e := range extents {
		pages = max(pages, e.Place+e.Pages)
	}
	if _, err := bdev.NewNull(reg, "Null0", ringVolume, PageBytes, pages); err != nil {
		t.Fatalf("%v", err)
	}
	h, err := reg.Open("Null0", bdev.OpenOptions{Who: "log"})
	if err != nil {
		t.Fatalf("%v", err)
	}
	r := g.Reactor(0)
	x.on(func() {
		c, err := h.Channel(r)
		if err != nil {
			t.Fatalf("%v", err)
		}
		x.cfg = Config{Reactor: r, Channel: c, Barrier: NewBarrier(r, c), Extents: extents, Volume: ringVolume}
	})
	return x
}

func (x *ring) on(f func()) {
	if err := x.g.Reactor(0).Call(f); err != nil {
		x.t.Fatalf("%v", err)
	}
}

func (x *ring) settle() {
	for n := 0; ; n++ {
		x.now += 100
		if !x.g.Step(x.now) {
			return
		}
		if n > 100_000 {
			x.t.Fatalf("it does not come to rest")
		}
	}
}

// open opens the log where it was left, if it was, and begins a life.
func (x *ring) open() bdev.Status {
	var from State
	if old := x.log; old != nil {
		from = State{Tail: old.tail, Offset: old.head, Life: x.life, LSN: old.written}
		x.on(old.Close)
	}
	x.over = false
	x.on(func() {
		var err error
		if x.log, err = New(x.cfg); err != nil {
			x.t.Fatalf("%v", err)
		}
		if _, err = x.log.Recover(from, x); err != nil {
			x.t.Fatalf("%v", err)
		}
	})
	x.settle()
	if !x.over {
		x.t.Fatalf("no life has begun, and nobody was told")
	}
	return x.begun
}

func (x *ring) LogWindow(c *Recovery) { c.Go() }

func (x *ring) LogRecovered(_ *Recovery, s bdev.Status) {
	if s != bdev.StatusOK {
		x.t.Fatalf("recovery: %v", s)
	}
	x.log.Begin(x.log.Life()+1, 0, x)
}

func (x *ring) LogBegun(l *Log, s bdev.Status) {
	if x.begun, x.over = s, true; s == bdev.StatusOK {
		x.life = l.Life()
	}
}

func (x *ring) EntryWritten(_ *Entry, s bdev.Status) {
	if x.out--; s != bdev.StatusOK {
		x.t.Fatalf("a record was refused: %v", s)
	}
}

var blank = make([]byte, RecordPagesMax*PageBytes)

func (x *ring) append(pages int) {
	e := &Entry{Record: Record{Kind: KindWrite}, CRCs: make([]uint32, RecordPagesMax), Done: x, Payload: [][]byte{blank[:pages*PageBytes]}}
	x.out++
	x.on(func() { x.log.Append(e) })
}

// TestReclaimAgainstATwin: whatever the extents, sizes, pads, holds and lives, lap after lap, the tail is where the twin says, room is
// promised exactly while the twin has it, the head never overruns the tail (an invariant stops the process), and a log whose holds are
// released takes the largest record again.
func TestReclaimAgainstATwin(t *testing.T) {
	laps, full, lives, pads := uint64(0), 0, 0, uint64(0)
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.IntRange(1, 6).Draw(t, "extents")
		var extents []Extent
		place, pages := uint64(1), uint64(0)
		for i := range n {
			size := rapid.Uint64Range(2, 400).Draw(t, "pages")
			if i == n-1 {
				size += uint64(n+4)*batchPagesMax - min(pages+size, uint64(n+4)*batchPagesMax)
			}
			extents = append(extents, Extent{Place: place, Pages: size})
			place, pages = place+size+rapid.Uint64Range(0, 9).Draw(t, "gap"), pages+size
		}
		x := newRing(t, extents)
		defer x.g.Abandon()
		if s := x.open(); s != bdev.StatusOK {
			t.Fatalf("%v", s)
		}
		bytes := pages * PageBytes
		var promised []int
		var tail, wanted Offset
		holds := map[int]*Hold{}
		number := 0
		advance := func() {
			to := wanted
			for _, h := range holds {
				to = min(to, h.at)
			}
			tail = max(tail, to)
		}
		check := func() {
			advance()
			if x.log.Tail() != tail || x.log.Head() < tail || uint64(x.log.Head()-tail) > bytes {
				t.Fatalf("tail %d, want %d; head %d of %d bytes", x.log.Tail(), tail, x.log.Head(), bytes)
			}
		}
		for range rapid.IntRange(50, 250).Draw(t, "steps") {
			switch op := rapid.IntRange(0, 15).Draw(t, "op"); op {
			case 0, 1, 2, 3, 4, 5: // as many as fit
				size := rapid.IntRange(0, RecordPagesMax).Draw(t, "size")
				for range rapid.IntRange(1, 12).Draw(t, "records") {
					room, used := uint64(size+1)*PageBytes, x.log.Used()
					if got, want := x.log.Reserve(size), used+room <= x.log.Size(); got != want {
						t.Fatalf("room for %d pages: %v, want %v", size, got, want)
					} else if !got {
						full++
						break
					}
					promised = append(promised, size)
				}
			case 6, 7, 8, 9:
				for range rapid.IntRange(1, 200).Draw(t, "appends") {
					if len(promised) == 0 {
						break
					}
					x.append(promised[0])
					promised = promised[1:]
				}
				x.settle()
				if x.out != 0 {
					t.Fatalf("%d records were not written", x.out)
				}
			case 10:
				if len(promised) > 0 {
					x.log.Unreserve(promised[0])
					promised = promised[1:]
				}
			case 11, 12:
				part := rapid.Uint64Range(0, 4).Draw(t, "quarters")
				to := x.log.tail + Offset(uint64(x.log.head-x.log.tail)*part/4/PageBytes*PageBytes)
				wanted = max(wanted, to)
				x.log.Reclaim(to)
				x.log.Reclaim(to)
				x.log.Reclaim(to - min(to, PageBytes))
			case 13:
				h := &Hold{}
				at := x.log.tail + Offset(uint64(x.log.head-x.log.tail)*rapid.Uint64Range(0, 2).Draw(t, "halves")/2/PageBytes*PageBytes)
				x.log.Hold(h, at)
				number++
				holds[number] = h
			case 14:
				if len(holds) > 0 {
					var some []int
					for i := range number + 1 {
						if holds[i] != nil {
							some = append(some, i)
						}
					}
					i := rapid.SampledFrom(some).Draw(t, "hold")
					h := holds[i]
					delete(holds, i)
					x.log.Release(h)
					x.log.Release(h)
				}
			case 15: // a process ends, with whatever was promised and held; many times in a row
				promised, holds = nil, map[int]*Hold{}
				for range rapid.IntRange(1, 90).Draw(t, "lives") {
					wanted = x.log.tail
					if x.open() != bdev.StatusOK {
						if uint64(x.log.head-x.log.tail) != bytes {
							t.Fatalf("no life could begin with %d of %d bytes used", x.log.head-x.log.tail, bytes)
						}
						wanted = x.log.head // a checkpoint, without a life
						x.log.Reclaim(wanted)
					}
					lives++
				}
				if x.log.phase != phaseOpen && x.open() != bdev.StatusOK {
					t.Fatalf("no life begins in an empty log")
				}
			}
			check()
		}
		laps += uint64(x.log.Head()) / bytes
		for _, h := range holds {
			x.log.Release(h)
		}
		holds = nil
		wanted = x.log.head
		x.log.Reclaim(wanted)
		for _, p := range promised {
			x.log.Unreserve(p)
		}
		check()
		if x.log.Used() != 0 || !x.log.Reserve(RecordPagesMax) {
			t.Fatalf("%d used with nothing in the log", x.log.Used())
		}
		pads += x.log.Stats().Pads
	})
	t.Logf("%d laps, %d times full, %d lives, %d pads", laps, full, lives, pads)
	if laps == 0 || full == 0 || lives == 0 || pads == 0 {
		t.Errorf("%d laps, %d times full, %d lives, %d pads: the test does not reach its case", laps, full, lives, pads)
	}
}

// A log that is full to the last promise, in the worst arrangement of its extents, takes all that was promised.
func TestWhatWasPromisedFits(t *testing.T) {
	for _, extents := range [][]Extent{
		{{Place: 1, Pages: 1300}},
		{{Place: 1, Pages: 128}, {Place: 200, Pages: 128}, {Place: 400, Pages: 128}, {Place: 600, Pages: 1664}},
		{{Place: 1, Pages: 2}, {Place: 10, Pages: 2}, {Place: 20, Pages: 2}, {Place: 400, Pages: 129}, {Place: 1000, Pages: 2200}},
		{{Place: 1, Pages: 700}, {Place: 800, Pages: 700}, {Place: 1600, Pages: 700}},
	} {
		for _, size := range []int{0, 1, 61, 63, 127, 128} {
			x := newRing(t, extents)
			for lap := range 6 {
				for range 1 + lap*20 {
					if s := x.open(); s != bdev.StatusOK {
						t.Fatalf("a life in a log with %d of %d bytes used: %v", x.log.head-x.log.tail, x.log.area.bytes, s)
					}
				}
				n := 0
				for x.log.Reserve(size) {
					n++
				}
				for range n {
					x.append(size)
				}
				if x.settle(); x.out != 0 {
					t.Fatalf("%d of %d records were not written", x.out, n)
				}
				for range beginningsMax { // on the full log
					if s := x.open(); s != bdev.StatusOK {
						t.Fatalf("a life in a full log: %v", s)
					}
				}
				x.log.Reclaim(x.log.head - Offset(lap*PageBytes))
			}
			x.g.Abandon()
		}
	}
}

func TestBrokenPromises(t *testing.T) {
	x := newRing(t, []Extent{{Place: 1, Pages: 1300}})
	defer x.g.Abandon()
	x.open()
	wantBroken(t, "appending without a reservation", func() { x.log.Append(&Entry{Record: Record{Kind: KindTrim}, Done: x}) })
	wantBroken(t, "more room given back than was reserved", func() { x.log.Unreserve(0) })
	wantBroken(t, "a record larger than the largest", func() { x.log.Reserve(RecordPagesMax + 1) })
	wantBroken(t, "reclaiming what was not written", func() { x.log.Reclaim(x.log.head + 1) })
	wantBroken(t, "waits for an LSN that was not given", func() { x.log.AwaitDurable(&Waiter{}, 1) })
	h := &Hold{}
	x.log.Hold(h, x.log.head)
	wantBroken(t, "holding what is gone, or twice", func() { x.log.Hold(h, x.log.head) })
}
