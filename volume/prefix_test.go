package volume

import (
	"fmt"
	"testing"

	"github.com/pollux-storage/pollux/bdev"
	"github.com/pollux-storage/pollux/internal/sim"
	"github.com/pollux-storage/pollux/reactor"
	"github.com/pollux-storage/pollux/wal"
)

// This file is what log and map are to each other at every moment, and what a write that fails leaves behind.

// TestTheFlushedSetIsAPrefix: 1 and 16 writers for 20 s, a flusher that is forced every millisecond, and now and then a batch, a flush or
// pages of the map that are held: no checkpoint passes a record that is dirty or not durable, none goes back, the tail neither, and the log
// is never more than full (G-7, V-14).
func TestTheFlushedSetIsAPrefix(t *testing.T) {
	for _, writers := range []int{1, 16} {
		t.Run(fmt.Sprint(writers, " writers"), func(t *testing.T) {
			h, v, stages := heldHouse(t)
			r := sim.Stream(uint64(writers), "script")
			const blocks = 200
			data := pageMemory(15)
			var all []*client
			for range writers {
				k := h.client(v, 0)
				k.e = true
				all = append(all, k)
			}
			var before mark
			var tail wal.Offset
			held, checkpoints := wal.Stage(0), v.counters.Checkpoints
			for ms := range sim.Rounds(20_000) {
				if ms%10 == 0 {
					for _, k := range all {
						if !k.e {
							continue
						}
						if s := k.q.Status; s != bdev.StatusOK && s != bdev.StatusBusy {
							t.Fatal(s)
						}
						n := 1 + r.Uint64N(15)
						k.begin(bdev.Write, r.Uint64N(blocks-n), n, data[:n*PageBytes])
					}
				}
				h.w.On(0, func(*reactor.Reactor) {
					switch r.IntN(200) {
					case 0:
						held = wal.Stage(r.IntN(wal.StageCount))
						stages.Shut(held)
					case 1, 2, 3, 4:
						stages.Open(held)
					}
					v.flusher.force = true
					v.hurry()
				})
				h.w.RunFor(reactor.Millisecond)
				_, _, durable := v.log.Marks()
				switch {
				case v.newer.lsn < before.lsn || v.newer.offset < before.offset || v.log.Tail() < tail:
					t.Fatalf("at %d ms the checkpoint is %+v, it was %+v; the tail %d, it was %d", ms, v.newer, before, v.log.Tail(), tail)
				case v.newer.lsn > durable:
					t.Fatalf("at %d ms the checkpoint is of LSN %d, and durable is %d", ms, v.newer.lsn, durable)
				case v.log.Used() > v.log.Size():
					t.Fatalf("at %d ms %d bytes of the log are used, it has %d", ms, v.log.Used(), v.log.Size())
				}
				for b := uint64(0); b < blocks && ms%50 == 0; b++ {
					if hit := v.dirty.lookup(b); hit.from != dirtyHome && hit.lsn <= v.newer.lsn {
						t.Fatalf("at %d ms the checkpoint is of LSN %d, and block %d is dirty since %d", ms, v.newer.lsn, b, hit.lsn)
					}
				}
				before, tail = v.newer, v.log.Tail()
			}
			if v.counters.Checkpoints < checkpoints+uint64(sim.Rounds(500)) {
				t.Fatalf("only %d checkpoints were made", v.counters.Checkpoints-checkpoints)
			}
		})
	}
}

// TestAReleasedHoldLetsTheLogDrain: held until it is full, everything home and the dirty map empty; when the hold goes, and goes again, the fill
// and the pressure follow at once and the next write is admitted (G-8, V-18).
func TestAReleasedHoldLetsTheLogDrain(t *testing.T) {
	h, v, _ := heldHouse(t)
	hold := new(wal.Hold)
	h.w.On(0, func(*reactor.Reactor) { v.log.Hold(hold, v.log.Tail()) })
	k := fillLog(h, v)
	h.w.Run("the write is refused", func() bool { return k.e })
	h.w.RunFor(reactor.Second)
	if v.dirty.used != (dirtyRoom{}) || v.flusher.home.Offset != v.log.Head() {
		t.Fatalf("not everything is home: %+v", v.dirty.used)
	}
	if p, _ := wal.Admission(v.log.Used(), v.log.Size()); p != wal.PressureWait {
		t.Fatalf("the log is not full: %d of %d", v.log.Used(), v.log.Size())
	}
	h.w.On(0, func(*reactor.Reactor) {
		v.log.Release(hold)
		if p, _ := wal.Admission(v.log.Used(), v.log.Size()); p != wal.PressureNone {
			t.Errorf("%d of %d bytes are used when nothing holds the log any more", v.log.Used(), v.log.Size())
		}
		used := v.log.Used()
		if v.log.Release(hold); v.log.Used() != used {
			t.Error("the second release changed something")
		}
	})
	k.must(bdev.Write, 0, 15, pageMemory(15))
	fillLogTwice := func() {
		for i := range uint64(2 * crashLogBytes / (16 * PageBytes)) {
			k.must(bdev.Write, 1+i%200*16, 15, pageMemory(15))
		}
	}
	fillLogTwice()
}

// TestAWriteThatFailsCostsNoLSN: whatever refuses it at the door, the next record has the next LSN, nothing stays reserved, and others go on
// (G-10, V-4).
func TestAWriteThatFailsCostsNoLSN(t *testing.T) {
	h, v, stages := heldHouse(t)
	k := h.client(v, 0)
	data := pageMemory(16)
	k.must(bdev.Write, 1, 15, data[:15*PageBytes])
	appended := func() wal.LSN {
		a, _, _ := v.log.Marks()
		return a
	}
	five := func(what string) {
		t.Helper()
		for i := range wal.LSN(5) {
			was := appended()
			k.begin(bdev.Write, 100+uint64(i), 1, data[:PageBytes])
			h.w.Run("a write after "+what, func() bool { return k.e })
			if k.q.Status != bdev.StatusOK || appended() != was+1 {
				t.Fatalf("write %d after %s: %v, LSN %d after %d", i, what, k.q.Status, appended(), was)
			}
		}
	}
	refused := func(what string, want bdev.Status, f func() bdev.Status) {
		t.Helper()
		was := appended()
		if s := f(); s != want {
			t.Fatalf("%s: %v", what, s)
		}
		if now := appended(); now != was {
			t.Fatalf("%s took the LSNs up to %d; it was %d", what, now, was)
		}
	}
	refused("a write larger than the device takes", bdev.StatusTooLarge, func() bdev.Status {
		return k.do(bdev.Write, 0, 1025, pageMemory(1025))
	})
	five("that")
	stages.Shut(wal.StageMap)
	w := fillLog(h, v)
	refused("a write that found no room in the log", bdev.StatusBusy, func() bdev.Status {
		h.w.Run("it is refused", func() bool { return w.e })
		return w.q.Status
	})
	stages.Open(wal.StageMap)
	h.forced(v)
	five("a full log")
	var taken [2000]Place
	h.w.On(0, func(*reactor.Reactor) { h.pool.alloc.GrantClusters(taken[:], Ordinary) })
	at := uint64(2000)
	for n := 0; ; n++ { // what was granted before may still serve
		was := appended()
		s := k.do(bdev.Write, at, 1, data[:PageBytes])
		at += 16
		if s == bdev.StatusOK && n < 200 {
			continue
		}
		if s != bdev.StatusNoSpace || appended() != was {
			t.Fatalf("a write to a full pool: %v, LSN %d after %d", s, appended(), was)
		}
		break
	}
	k.must(bdev.Unmap, 0, 64, nil)
	h.w.On(0, func(*reactor.Reactor) {
		for _, p := range taken {
			if p != 0 {
				h.pool.alloc.GiveBack(p, uint64(v.shape.Blocks()))
			}
		}
	})
	five("a full pool")
	h.forced(v)
	if v.log.Used() > v.log.Size()/8 {
		t.Errorf("%d bytes of the log are used, and everything is home", v.log.Used())
	}
}

// TestEveryWaiterHearsOfAFailedFlush: 64 writers wait for a flush, which fails; each hears it once, none later than the flush, and whoever comes
// after is refused (G-13, V-40).
func TestEveryWaiterHearsOfAFailedFlush(t *testing.T) {
	h, v, stages := heldHouse(t)
	stages.Shut(wal.StageFlush)
	first := h.client(v, 0)
	data := pageMemory(16)
	var all []*client
	for i := range uint64(64) {
		k := &client{h: h, r: first.r, c: first.c}
		k.q.Done = k
		k.begin(bdev.Write, i*16, 16, data) // whole clusters, whose data nothing but a flush makes durable
		all = append(all, k)
	}
	h.w.RunFor(100 * reactor.Millisecond)
	simDisk(h).Inject(sim.Fault{Effect: sim.Fail, Kinds: sim.KindsOf(sim.Flush), Count: 1})
	h.w.On(0, func(*reactor.Reactor) { stages.Open(wal.StageFlush) })
	h.w.Run("all have heard", func() bool {
		for _, k := range all {
			if !k.e {
				return false
			}
		}
		return true
	})
	for i, k := range all {
		if k.q.Status == bdev.StatusOK {
			t.Fatalf("write %d was acknowledged, and its flush failed", i)
		}
	}
	data = data[:PageBytes]
	if s := first.do(bdev.Write, 0, 1, data); s != bdev.StatusIO && s != bdev.StatusReadOnly {
		t.Errorf("a write after it: %v", s)
	}
	for _, kind := range []bdev.Kind{bdev.Write, bdev.Unmap} {
		if s := first.do(kind, 0, 1, data); s != bdev.StatusReadOnly {
			t.Errorf("%v after that: %v", kind, s)
		}
	}
}
