package volume

import (
	"context"
	"testing"

	"github.com/pollux-storage/pollux/bdev"
	"github.com/pollux-storage/pollux/bdev/bdevsim"
	"github.com/pollux-storage/pollux/internal/sim"
	"github.com/pollux-storage/pollux/reactor"
	"github.com/pollux-storage/pollux/wal"
)

func (h *house) stats(v *Volume) VolumeStats {
	h.t.Helper()
	s, err := v.Stats()
	if err != nil {
		h.t.Fatal(err)
	}
	return s
}

// sums gives what the stages took together, and the whole.
func (c *Counters) sums() (stages, total uint64) {
	for s := range StageTotal {
		stages += c.Stages[s].Sum
	}
	return stages, c.Stages[StageTotal].Sum
}

// TestStagesAddUpToTheWhole (N-4): whatever clients do and however long they wait, to the nanosecond.
func TestStagesAddUpToTheWhole(t *testing.T) {
	sim.Each(t, 3, nil, func(t *testing.T, seed uint64) {
		k := newCrashHarness(t, seed, crashPoolBytes)
		clients := k.clients(8)
		k.work(clients, 600)
		k.rest(clients)
		for vol, v := range k.v {
			s := k.stats(v)
			changes := s.Device.Kinds[bdev.Write].Ops + s.Device.Kinds[bdev.Unmap].Ops + s.Device.Kinds[bdev.WriteZeroes].Ops
			for _, at := range []Stage{StageAdmit, StageAppend, StageWrite, StageTotal} {
				if n := s.Stages[at].Count; n != changes || n == 0 {
					t.Errorf("volume %d: %d changes in stage %v, of %d", vol, n, at, changes)
				}
			}
			if stages, total := s.sums(); stages != total || total == 0 {
				t.Errorf("volume %d: the stages took %d ns, the whole %d", vol, stages, total)
			}
			if n := s.Stages[StagePlace].Count; n == 0 || n >= changes {
				t.Errorf("volume %d: %d of %d changes had whole clusters", vol, n, changes)
			}
			if n := s.Stages[StageFlush].Count; k.cache[vol] == CacheNone && n != changes || k.cache[vol] == CacheVolatile && (n == 0 || n >= changes) {
				t.Errorf("volume %d, cache %v: %d of %d changes waited for a flush", vol, k.cache[vol], n, changes)
			}
		}
	})
}

// TestEachStageHasItsTime holds a write at one stage after the other.
func TestEachStageHasItsTime(t *testing.T) {
	h, stages := newStagedHouse(t, 1, 1, 96<<20)
	v := h.volume("v0", 32<<20)
	medium := bdevsim.DiskOf(h.disk).Medium()
	k := h.client(v, 0)
	const span, most = 100 * reactor.Millisecond, 8 * reactor.Millisecond // by itself no stage takes so long
	for _, c := range []struct {
		stage  Stage
		blocks uint64
		hold   func() (let func())
	}{
		{StagePlace, 32, func() func() {
			return medium.Inject(sim.Fault{Kinds: sim.KindsOf(sim.Write), Effect: sim.Stick, Count: 1}).Release
		}},
		{StageAppend, 1, func() func() { stages.Shut(wal.StageWrite); return func() { stages.Open(wal.StageWrite) } }},
		{StageWrite, 1, func() func() {
			return medium.Inject(sim.Fault{Kinds: sim.KindsOf(sim.Write), Effect: sim.Stick, Count: 1}).Release
		}},
		{StageFlush, 1, func() func() { stages.Shut(wal.StageFlush); return func() { stages.Open(wal.StageFlush) } }},
		{StageFlush, 1, func() func() { stages.Shut(wal.StageAck); return func() { stages.Open(wal.StageAck) } }},
	} {
		h.forced(v)
		h.w.RunFor(reactor.Second)
		before := h.stats(v)
		let := c.hold()
		k.begin(bdev.Write, 0, c.blocks, pageMemory(int(c.blocks)))
		h.w.RunFor(span)
		h.w.On(0, func(*reactor.Reactor) { let() })
		medium.Heal()
		h.w.Run("it is written", func() bool { return k.e })
		now := h.stats(v)
		for s := range Stages {
			took := reactor.Ticks(now.Stages[s].Sum - before.Stages[s].Sum)
			if s == c.stage || s == StageTotal {
				if took < span-most || took > span+most {
					t.Errorf("held in stage %v: %v took %d", c.stage, s, took)
				}
			} else if took > most {
				t.Errorf("held in stage %v: %v took %d", c.stage, s, took)
			}
		}
	}
}

// TestTheDoorCounts: open, slowed down, waiting, turned away; what was waited for is the stage.
func TestTheDoorCounts(t *testing.T) {
	h, stages := newStagedHouse(t, 1, 1, 96<<20)
	v := h.volume("v0", 32<<20)
	k := h.client(v, 0)
	k.must(bdev.Write, 0, 1, pageMemory(1))
	if s := h.stats(v); s.Door != [Doors]uint64{DoorSpace: 1} || s.Pressure != wal.PressureNone {
		t.Errorf("at first: %v, %v", s.Door, s.Pressure)
	}
	stages.Shut(wal.StageMap) // no checkpoint: the log fills
	data := pageMemory(15)
	for n := uint64(1); ; n++ {
		s := k.do(bdev.Write, 16*(n%64)+1, 15, data)
		if s == bdev.StatusBusy {
			break
		}
		if s != bdev.StatusOK || n > 2000 {
			t.Fatalf("write %d: %v", n, s)
		}
	}
	s := h.stats(v)
	if s.Door[DoorSoft] < 10 || s.Door[DoorTimeout] != 1 || s.Pressure != wal.PressureWait || s.DoorWait[DoorTimeout] != admitTimeout {
		t.Errorf("with a full log: %v, %v, %v", s.Door, s.DoorWait, s.Pressure)
	}
	k.begin(bdev.Write, 0, 1, pageMemory(1))
	h.w.RunFor(2 * reactor.Second)
	h.w.On(0, func(*reactor.Reactor) { stages.Open(wal.StageMap) })
	h.w.Run("it is written", func() bool { return k.e })
	s = h.stats(v)
	if s.Door[DoorHard] != 1 || s.DoorWait[DoorHard] < 2*reactor.Second {
		t.Errorf("when there is room again: %v, %v", s.Door, s.DoorWait)
	}
	if waited := s.DoorWait[DoorSpace] + s.DoorWait[DoorSoft] + s.DoorWait[DoorHard]; uint64(waited) != s.Stages[StageAdmit].Sum {
		t.Errorf("the door says %d, the stage %d", waited, s.Stages[StageAdmit].Sum)
	}
}

// TestCountersSurviveReopening (G-37): a volume that is opened anew with another write cache goes on counting.
func TestCountersSurviveReopening(t *testing.T) {
	h := newHouse(t, 1, 2, 96<<20)
	v := h.volume("v0", 32<<20)
	k := h.client(v, 1)
	for at := range uint64(20) {
		k.must(bdev.Write, 16*at, 16, pageMemory(16))
	}
	k.must(bdev.Read, 0, 16, pageMemory(16))
	h.scrubbed(v)
	h.w.RunFor(reactor.Second)
	h.w.On(1, func(*reactor.Reactor) { k.q.Release(); k.c.Close() })
	for _, u := range h.handles {
		u.Close()
	}
	was := h.stats(v)
	again, err := h.pool.SetWriteCache(context.Background(), v, CacheVolatile)
	if err != nil {
		t.Fatal(err)
	}
	now := h.stats(again)
	if now.Stages != was.Stages || now.Door != was.Door || now.Device.Kinds != was.Device.Kinds || now.Device.Kinds[bdev.Write].Ops != 20 {
		t.Error("the counters of requests are others")
	}
	if now.Scrub.Passes != 1 || now.Scrub.Bytes != was.Scrub.Bytes || !now.Scrub.Last.Equal(was.Scrub.Last) || was.Scrub.Last.IsZero() {
		t.Errorf("scrub: %+v, was %+v", now.Scrub, was.Scrub)
	}
	if now.Log.Batches < was.Log.Batches || now.Log.PayloadBytes < was.Log.PayloadBytes || now.HomeBytes < was.HomeBytes || now.Checkpoints < was.Checkpoints {
		t.Errorf("log and flusher: %+v, was %+v", now.Log, was.Log)
	}
}

// countedOp is an op as it is when it is answered.
func countedOp() (*Volume, *op) {
	g, err := reactor.Simulate(1, reactor.Config{MemoryBytes: 1 << 20})
	if err != nil {
		panic(err)
	}
	g.Step(100_000)
	v := &Volume{r: g.Reactor(0)}
	o := &op{v: v, q: &bdev.Request{Kind: bdev.Write}}
	o.opTimes = opTimes{came: 20_000, given: 21_000, written: 40_000}
	return v, o
}

func TestCountingAllocatesNothing(t *testing.T) {
	v, o := countedOp()
	if n := testing.AllocsPerRun(100, func() { v.passedDoor(o); o.admitted = 20_100; v.served(o) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

// BenchmarkCounting is what counting a change costs, the door and all stages.
func BenchmarkCounting(b *testing.B) {
	v, o := countedOp()
	for i := range b.N {
		o.came, o.given, o.written = reactor.Ticks(20_000-i&1023), reactor.Ticks(21_000+i&511), reactor.Ticks(40_000+i&4095)
		v.passedDoor(o)
		o.admitted = o.came + reactor.Ticks(i&127)
		v.served(o)
	}
}

// TestStagesOfSmallBlocks: parts of pages are read and written again before they pass the door, and add up as well.
func TestStagesOfSmallBlocks(t *testing.T) {
	h := newHouse(t, 1, 2, 96<<20)
	v, err := h.pool.CreateVolume(VolumeConfig{Name: "v0", Bytes: 16 << 20, LogBytes: 8 << 20, BlockBytes: 512})
	if err != nil {
		t.Fatal(err)
	}
	r := sim.Stream(1, "script")
	var all []*client
	for i := range 4 {
		all = append(all, h.client(v, i%2))
	}
	data := pageMemory(32)
	for n := range uint64(200) {
		for _, k := range all {
			at, blocks := r.Uint64N(4000), 1+r.Uint64N(200)
			kind := []bdev.Kind{bdev.Write, bdev.Write, bdev.Unmap, bdev.WriteZeroes, bdev.Read}[r.Uint32N(5)]
			var b []byte
			if kind == bdev.Write || kind == bdev.Read {
				b = data[:blocks*512]
			}
			k.begin(kind, at, blocks, b)
		}
		h.w.Run("all are done", func() bool {
			for _, k := range all {
				if !k.e {
					return false
				}
			}
			return true
		})
		if n%50 == 49 {
			h.forced(v)
		}
	}
	s := h.stats(v)
	if stages, total := s.sums(); stages != total || total == 0 || total > uint64(h.w.Now())*8 {
		t.Errorf("the stages took %d ns, the whole %d", stages, total)
	}
	for st := range Stages {
		if h := &s.Stages[st]; h.Sum > s.Stages[StageTotal].Sum {
			t.Errorf("stage %v took %d", st, h.Sum)
		}
	}
	if i := h.scrubbed(v); i.ScrubStats.Errors != 0 {
		t.Errorf("%+v", i.First)
	}
}
