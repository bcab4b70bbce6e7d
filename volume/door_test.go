package volume

import (
	"fmt"
	"testing"

	"github.com/pollux-storage/pollux/bdev"
	"github.com/pollux-storage/pollux/bdev/bdevsim"
	"github.com/pollux-storage/pollux/internal/sim"
	"github.com/pollux-storage/pollux/reactor"
	"github.com/pollux-storage/pollux/wal"
)

// This file is the door under a log that becomes full (V-43), and closing while somebody stands there (V-50, G-14).

// heldHouse is a volume whose checkpoints can be held, so that its tail does not move.
func heldHouse(t *testing.T) (*house, *Volume, *wal.Stages) {
	t.Helper()
	h, stages := newStagedHouse(t, 1, 1, crashPoolBytes)
	return h, h.volumeOf(VolumeConfig{Name: "v0", Bytes: 16 << 20, LogBytes: crashLogBytes}), stages
}

// fillLog writes until the door is shut: the last write waits. It gives the client that has it.
func fillLog(h *house, v *Volume) *client {
	h.t.Helper()
	k := h.client(v, 0)
	data := pageMemory(15)
	for i := uint64(0); ; i++ {
		k.begin(bdev.Write, 1+i%200*16, 15, data)
		h.w.RunFor(100 * reactor.Millisecond)
		if !k.e {
			return k
		}
		if k.q.Status != bdev.StatusOK || i > 1000 {
			h.t.Fatalf("filling the log: %v after %d writes", k.q.Status, i)
		}
	}
}

// TestEachBandOfTheDoor holds the tail and measures how long writes take.
func TestEachBandOfTheDoor(t *testing.T) {
	h, v, stages := heldHouse(t)
	stages.Shut(wal.StageMap)
	k := h.client(v, 0)
	data := pageMemory(4)
	var met [wal.PressureWait + 1]int
	var free reactor.Ticks // the longest that a write takes with the door wide open
	for i := uint64(0); ; i++ {
		p, delay := wal.Admission(v.log.Used(), v.log.Size())
		if met[p]++; p == wal.PressureWait {
			break
		}
		asked := v.flusher.asked
		v.flusher.asked = false
		began := h.w.Now()
		k.must(bdev.Write, 1+i%500*8, 4, data)
		took := h.w.Now() - began
		switch {
		case p == wal.PressureNone:
			free = max(free, took)
		case took < delay || took > delay+8*free:
			t.Fatalf("with %d of %d bytes used a write took %d ns; its delay is %d, and without one it is %d at most", v.log.Used(), v.log.Size(), took, delay, free)
		}
		if p == wal.PressureUrgent && !v.flusher.asked {
			t.Fatal("no checkpoint was asked for at once")
		}
		v.flusher.asked = v.flusher.asked || asked
	}
	for p, n := range met {
		if n == 0 {
			t.Errorf("no write met band %d", p)
		}
	}

	// In the last band a write waits, 5 s from when it came and not a moment more.
	began := h.w.Now()
	k.begin(bdev.Write, 0, 1, data[:PageBytes])
	h.w.RunFor(admitTimeout - reactor.Millisecond)
	if k.e {
		t.Fatalf("a write passed a full log: %v after %d", k.q.Status, h.w.Now()-began)
	}
	h.w.RunFor(2 * reactor.Millisecond)
	if !k.e || k.q.Status != bdev.StatusBusy {
		t.Fatalf("its deadline is over: %v, %v", k.e, k.q.Status)
	}
	stages.Open(wal.StageMap)
	k.must(bdev.Write, 0, 1, data[:PageBytes])
}

// TestOneDeadlineCoversAllWaits: at the door, and before that for an op, of which there are fewer than requests (V-43). The tail is held, and
// waiting costs nothing: what the reactor does does not grow with those who wait (G-19).
func TestOneDeadlineCoversAllWaits(t *testing.T) {
	h, v, stages := heldHouse(t)
	stages.Shut(wal.StageMap)
	first := fillLog(h, v)
	h.w.Run("the first is refused", func() bool { return first.e })
	const requests = opsMax + 200
	var all []*client
	data := pageMemory(1)
	for i := range requests {
		k := &client{h: h, r: first.r, c: first.c}
		k.q.Done = k
		k.begin(bdev.Write, uint64(i), 1, data)
		all = append(all, k)
	}
	most := h.w.Rounds
	h.w.Rounds = 2000 // the flusher's timer, and nobody tries again and again
	h.w.RunFor(admitTimeout - reactor.Millisecond)
	h.w.Rounds = most
	for i, k := range all {
		if k.e {
			t.Fatalf("request %d has ended before its deadline: %v", i, k.q.Status)
		}
	}
	h.w.RunFor(10 * reactor.Millisecond)
	for i, k := range all {
		if !k.e || k.q.Status != bdev.StatusBusy {
			t.Fatalf("request %d after its deadline: %v, %v", i, k.e, k.q.Status)
		}
	}
	stages.Open(wal.StageMap)
	first.must(bdev.Write, 0, 1, data)
}

// TestCloseEndsWaitingAtTheDoor: those who wait there, and those behind them, hear that the volume is closed, at once.
func TestCloseEndsWaitingAtTheDoor(t *testing.T) {
	h, v, stages := heldHouse(t)
	stages.Shut(wal.StageMap)
	first := fillLog(h, v)
	all := []*client{first}
	data := pageMemory(1)
	for i := range opsMax + 50 {
		k := &client{h: h, r: first.r, c: first.c}
		k.q.Done = k
		k.begin(bdev.Write, uint64(i), 1, data)
		all = append(all, k)
	}
	h.w.RunFor(reactor.Millisecond)
	began := h.w.Now()
	h.w.On(0, func(*reactor.Reactor) { v.shutDoor() })
	h.w.RunFor(10 * reactor.Millisecond)
	for i, k := range all {
		if !k.e || k.q.Status != bdev.StatusClosed {
			t.Fatalf("request %d, %d ns after the door was shut: %v, %v", i, h.w.Now()-began, k.e, k.q.Status)
		}
	}
	stages.Open(wal.StageMap)
	if err := v.Close(); err != nil {
		t.Fatal(err)
	}
	if err := v.Close(); err != nil {
		t.Fatalf("closing it again: %v", err)
	}
	h.w.On(0, func(*reactor.Reactor) { first.c.Close() })
}

// closeStates are what a volume is doing when it is closed; what has a slot is one that must be met.
func closeStates(v *Volume) (all []string) {
	add := func(is bool, what string) {
		if is {
			all = append(all, what)
		}
	}
	f := &v.flusher
	for s, name := range []string{"resting", "reading the log", "waiting for reads", "bringing home", "making a checkpoint"} {
		add(f.state == flushState(s), "flusher "+name)
	}
	for s, name := range []string{"none", "waiting for reads", "waiting for places", "writing pages of the map", "writing the volume page", "committing"} {
		add(s > 0 && v.ckpt.step == checkpointStep(s), "checkpoint "+name)
	}
	add(len(v.homeWaits) > 0, "homings wait for places")
	add(v.asking, "the pool is asked")
	add(v.doorList.n > 0, "writes at the door")
	add(v.syncing, "a flush is waited for")
	add(!v.log.Idle(), "the log writes")
	add(v.opsOut > 0, "requests under way")
	return all
}

// TestCloseFromEveryState closes a volume under load at moments that are drawn, until every state was met: all requests end, memory comes back,
// and when it is opened again in the same process nothing acknowledged is missing.
func TestCloseFromEveryState(t *testing.T) {
	want := []string{
		"flusher resting", "flusher reading the log", "flusher waiting for reads", "flusher bringing home", "flusher making a checkpoint",
		"checkpoint waiting for reads", "checkpoint waiting for places", "checkpoint writing pages of the map", "checkpoint writing the volume page",
		"checkpoint committing", "homings wait for places", "the pool is asked", "a flush is waited for", "the log writes",
		"requests under way",
	}
	met := map[string]int{}
	missing := func() (all []string) {
		for _, s := range want {
			if met[s] == 0 {
				all = append(all, s)
			}
		}
		return all
	}
	s := newSimulation(t, 5)
	s.makeVolumeOf(CacheVolatile)   // without one no flusher waits for a flush
	s.faulty, s.gentle = true, true // requests are refused while it closes
	for round := range 400 {
		for range 20 + s.r.IntN(60) {
			s.step()
		}
		looked := missing()
		for range 20_000 { // for a state that was not met, if there is one
			for _, x := range s.volumes {
				if c := x.free(); c != nil && s.r.Uint32N(8) == 0 {
					at, n := s.where(x, 64)
					c.read(at, n)
				}
			}
			found := len(looked) == 0
			for _, x := range s.volumes {
				for _, state := range closeStates(x.v) {
					for _, l := range looked {
						found = found || l == state
					}
				}
			}
			if found || !s.w.Step() {
				break
			}
		}
		for _, x := range s.volumes {
			for _, state := range closeStates(x.v) {
				met[state]++
			}
			if err := x.v.Close(); err != nil {
				t.Fatal(err)
			}
		}
		s.rest()
		s.closePool()
		tick := s.tick
		s.importPool()
		s.faulty = true
		s.found(fmt.Sprint("closed under load, round ", round), simSight{at: tick, until: tick})
		if len(missing()) == 0 && round >= sim.Rounds(30) {
			return
		}
	}
	t.Errorf("it was never closed with %q; met %v", missing(), met)
}

// TestClosingAHundredTimes: closed in order and opened again in one process, nothing that was acknowledged is missing, and nothing stays (G-18).
func TestClosingAHundredTimes(t *testing.T) {
	s := newSimulation(t, 7)
	for range sim.Rounds(100) {
		for range 5 {
			s.step()
		}
		s.heal()
		s.rest()
		s.reopen()
		for _, x := range s.volumes {
			x.content.prune(s.older(x))
		}
	}
}

// simDisk is the medium of a house.
func simDisk(h *house) *sim.Disk { return bdevsim.DiskOf(h.disk).Medium() }
