package volume

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/pollux-storage/pollux/bdev"
	"github.com/pollux-storage/pollux/reactor"
)

// This file is making and opening on a device that does not answer.

// hasty is a config with which nothing is waited for long.
func (x *stuckRig) hasty() PoolConfig {
	cfg := x.config()
	cfg.OpenLimit = cfg.CloseLimit
	return cfg
}

// refusedStuck fails the test unless an error says which device does not answer, and what to do.
func (x *stuckRig) refusedStuck(what string, err error) {
	x.t.Helper()
	if !errors.Is(err, ErrStuck) || !strings.Contains(err.Error(), "fault has had") || !strings.Contains(err.Error(), "when") {
		x.t.Fatalf("%s: %v", what, err)
	}
}

// unclean lets the pool be as after a power cut: the volume's last writes are in its log.
func (x *stuckRig) unclean() {
	x.t.Helper()
	x.write(0, 16)
	x.must(x.v.settleNow())
	_, err := x.v.CreateSnapshot(SnapshotConfig{Name: "s"})
	x.must(err)
	x.write(3, 7)
	x.write(30, 2)
	x.keeps(bdev.Rule{Kinds: bdev.SetOf(bdev.Write, bdev.Flush)})
	if err := x.pool.Export(x.ctx()); !errors.Is(err, ErrStuck) {
		x.t.Fatal(err)
	}
	x.answers()
	x.letGo()
}

func TestAnImportIsGivenUpOnADeviceThatDoesNotAnswer(t *testing.T) {
	for _, c := range []struct {
		name string
		rule func(x *stuckRig) bdev.Rule
	}{
		{"the slots", func(*stuckRig) bdev.Rule { return bdev.Rule{Kinds: bdev.SetOf(bdev.Read), First: 0, Blocks: 17} }},
		{"the bitmap", func(x *stuckRig) bdev.Rule {
			return bdev.Rule{Kinds: bdev.SetOf(bdev.Read), First: uint64(x.pool.slot.Areas[0].First), Blocks: 3}
		}},
		{"the directory", func(x *stuckRig) bdev.Rule {
			return bdev.Rule{Kinds: bdev.SetOf(bdev.Read), First: uint64(x.pool.slot.Directory.Place), Blocks: 1}
		}},
		{"the page of a volume", func(x *stuckRig) bdev.Rule {
			return bdev.Rule{Kinds: bdev.SetOf(bdev.Read), First: uint64(x.v.ref.Place), Blocks: 1}
		}},
		{"a log", func(x *stuckRig) bdev.Rule {
			e := x.v.page.Log[0]
			return bdev.Rule{Kinds: bdev.SetOf(bdev.Read), First: uint64(e.Place), Blocks: e.Pages}
		}},
		{"the beginning of a life", func(x *stuckRig) bdev.Rule {
			e := x.v.page.Log[0]
			return bdev.Rule{Kinds: bdev.SetOf(bdev.Write), First: uint64(e.Place), Blocks: e.Pages}
		}},
		{"any write", func(*stuckRig) bdev.Rule { return bdev.Rule{Kinds: bdev.SetOf(bdev.Write)} }},
		{"any flush", func(*stuckRig) bdev.Rule { return bdev.Rule{Kinds: bdev.SetOf(bdev.Flush)} }},
		{"what an event in the log writes", func(x *stuckRig) bdev.Rule {
			e := x.v.page.Log[len(x.v.page.Log)-1].End()
			return bdev.Rule{Kinds: bdev.SetOf(bdev.Write), First: uint64(e), Blocks: 1 << 20}
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			x := newStuckRig(t, CacheNone)
			x.unclean()
			device := x.pool.handle.Device()
			x.keeps(c.rule(x))
			began := time.Now()
			p, err := ImportPool(x.reg, "fault", x.hasty())
			if err == nil { // what comes home by itself is not waited for
				if c.name != "what an event in the log writes" {
					t.Fatal("it was opened")
				}
				x.answers()
				x.must(p.Export(x.ctx()))
				x.same()
				return
			}
			x.refusedStuck("importing it", err)
			if time.Since(began) < x.hasty().OpenLimit {
				t.Error("it did not wait")
			}
			for _, d := range x.reg.Devices() {
				if _, ok := d.Driver().(*Volume); ok {
					t.Errorf("volume %s is there", d.Name())
				}
			}
			if _, err := ImportPool(x.reg, "fault", x.config()); !errors.Is(err, ErrPoolInUse) {
				t.Errorf("another opens it, and the device has not answered: %v", err)
			}
			writes := device.Counted().Kinds[bdev.Write].Ops
			if c.rule(x).Kinds.Has(bdev.Write) {
				writes += uint64(device.InFlight())
			}
			x.answers()
			x.letGo()
			if n := device.Counted().Kinds[bdev.Write].Ops; n > writes {
				t.Errorf("%d writes were sent to the device after it was given up", n-writes)
			}
			x.same()
		})
	}
}

// TestAnImportThatIsLateIsNotGivenUp: what the device answers in time is taken, however long all of it lasts.
func TestAnImportThatIsLateIsNotGivenUp(t *testing.T) {
	x := newStuckRig(t, CacheNone)
	x.unclean()
	x.keeps(bdev.Rule{Kinds: bdev.SetOf(bdev.Read), Count: 1})
	go func() {
		for x.pool.handle.Device().InFlight() == 0 {
			time.Sleep(time.Millisecond)
		}
		_ = x.fault.Resume()
	}()
	x.same()
}

// TestNobodyWaitsLongWhenTheProcessEnds: from then on an import has no more patience than closing has.
func TestNobodyWaitsLongWhenTheProcessEnds(t *testing.T) {
	x := newStuckRig(t, CacheNone)
	x.unclean()
	x.keeps(bdev.Rule{Kinds: bdev.SetOf(bdev.Read)})
	ending := make(chan struct{})
	cfg := x.config()
	cfg.OpenLimit, cfg.Ending = time.Hour, ending
	over := make(chan error, 1)
	go func() {
		_, err := ImportPool(x.reg, "fault", cfg)
		over <- err
	}()
	for x.pool.handle.Device().InFlight() == 0 {
		time.Sleep(time.Millisecond)
	}
	close(ending)
	x.refusedStuck("importing it", <-over)
	x.answers()
	x.letGo()
	x.same()
}

func TestAPoolIsMadeOnADeviceThatDoesNotAnswer(t *testing.T) {
	for _, c := range []struct {
		name string
		rule bdev.Rule
	}{
		{"the slots are wiped", bdev.Rule{Kinds: bdev.SetOf(bdev.Write), First: 0, Blocks: 1}},
		{"the bitmap", bdev.Rule{Kinds: bdev.SetOf(bdev.Write), First: 32, Blocks: 3}},
		{"a flush", bdev.Rule{Kinds: bdev.SetOf(bdev.Flush)}},
	} {
		t.Run(c.name, func(t *testing.T) {
			x := newStuckRig(t, CacheNone)
			x.must(x.pool.Destroy(x.ctx()))
			device := x.pool.handle.Device()
			x.keeps(c.rule)
			_, err := CreatePool(x.reg, "fault", x.hasty())
			x.refusedStuck("making it", err)
			x.answers()
			for len(device.Users()) > 0 {
				time.Sleep(time.Millisecond)
			}
			if _, err := ImportPool(x.reg, "fault", x.config()); !errors.Is(err, ErrPoolCorrupt) {
				t.Errorf("there is a pool that was never made: %v", err)
			}
			x.pool, err = CreatePool(x.reg, "fault", x.config())
			x.must(err)
			x.v = x.volumeAs("v0", CacheNone)
			x.write(0, 8)
			x.must(x.pool.Export(x.ctx()))
			x.same()
		})
	}
}

func TestAVolumeIsMadeOnADeviceThatDoesNotAnswer(t *testing.T) {
	for _, c := range []struct {
		name string
		rule bdev.Rule
	}{
		{"its page", bdev.Rule{Kinds: bdev.SetOf(bdev.Write)}},
		{"the commit", bdev.Rule{Kinds: bdev.SetOf(bdev.Flush)}},
		{"its log", bdev.Rule{Kinds: bdev.SetOf(bdev.Read)}},
	} {
		t.Run(c.name, func(t *testing.T) {
			x := newStuckRig(t, CacheNone)
			x.write(0, 16)
			x.must(x.v.settleNow())
			_, err := x.v.CreateSnapshot(SnapshotConfig{Name: "s"})
			x.must(err)
			x.pool.cfg.OpenLimit = x.hasty().OpenLimit
			x.keeps(c.rule)
			for what, f := range map[string]func() error{
				"a volume": func() error {
					_, err := x.pool.CreateVolume(VolumeConfig{Name: "late", Bytes: 8 << 20, LogBytes: 8 << 20})
					return err
				},
				"a clone": func() error {
					_, err := x.v.CloneSnapshot("s", VolumeConfig{Name: "clone", LogBytes: 8 << 20})
					return err
				},
			} {
				x.refusedStuck("making "+what, f()) // the second waits for the first
			}
			x.answers()
			x.pool.cfg.OpenLimit = 0
			_, err = x.pool.CreateVolume(VolumeConfig{Name: "after", Bytes: 8 << 20, LogBytes: 8 << 20})
			x.must(err)
			made := 0
			for _, v := range x.pool.Volumes() {
				if v.Name() == "late" || v.Name() == "clone" {
					made++
				}
			}
			if made != 1 {
				t.Errorf("%d volumes are there of those that were begun, want the first", made)
			}
			x.must(x.pool.Export(x.ctx()))
			x.same()
		})
	}
}

func TestADeviceThatDoesNotAnswerIsNotLookedAt(t *testing.T) {
	x := newStuckRig(t, CacheNone)
	x.must(x.pool.Export(x.ctx()))
	x.keeps(bdev.Rule{Kinds: bdev.SetOf(bdev.Read)})
	_, err := Examine(x.reg, "fault", x.hasty())
	x.refusedStuck("looking at it", err)
	x.answers()
	x.letGo()
	if found, err := Examine(x.reg, "fault", x.config()); err != nil || !found.Pool {
		t.Errorf("afterwards: %+v, %v", found, err)
	}
}

// TestALogDeviceIsLeftAloneOnceItsPoolIsGivenUp: what the pool's device answers later does not begin an opening there, which would make the pool
// as it is with another server an older copy.
func TestALogDeviceIsLeftAloneOnceItsPoolIsGivenUp(t *testing.T) {
	x := newStuckRig(t, CacheNone)
	x.must(x.pool.Destroy(x.ctx()))
	logs, err := bdev.NewMem(x.reg, "logs", [16]byte{}, PageBytes, 16<<10, bdev.Hints{})
	x.must(err)
	cfg := x.config()
	cfg.LogDevice = "logs"
	x.pool, err = CreatePool(x.reg, "fault", cfg)
	x.must(err)
	x.v = x.volumeAs("v0", CacheNone)
	x.write(0, 16)
	place := x.v.ref.Place
	x.must(x.pool.Export(x.ctx()))
	for _, at := range []Place{place, x.v.ref.Place} {
		x.keeps(bdev.Rule{Kinds: bdev.SetOf(bdev.Read), First: uint64(at), Blocks: 1})
	}
	writes := logs.Counted().Kinds[bdev.Write].Ops
	_, err = ImportPool(x.reg, "fault", x.hasty())
	x.refusedStuck("importing it", err)
	x.answers()
	x.letGo()
	if n := logs.Counted().Kinds[bdev.Write].Ops; n > writes {
		t.Errorf("%d writes were sent to the log device after the pool was given up", n-writes)
	}
	x.same()
	x.must(x.pool.Export(x.ctx()))
	x.must(x.reg.Unregister(x.ctx(), "logs"))
}

// TestALogDeviceThatDoesNotAnswerIsNotMissing: what is in the logs is not lost, so its loss cannot be accepted, found or named.
func TestALogDeviceThatDoesNotAnswerIsNotMissing(t *testing.T) {
	x := newStuckRig(t, CacheNone)
	x.must(x.pool.Destroy(x.ctx()))
	_, err := bdev.NewMem(x.reg, "memory", [16]byte{}, PageBytes, 16<<10, bdev.Hints{})
	x.must(err)
	d, err := bdev.NewFault(x.reg, "logs", "memory", [16]byte{})
	x.must(err)
	logs := d.Driver().(*bdev.Fault)
	cfg := x.config()
	cfg.LogDevice = "logs"
	x.pool, err = CreatePool(x.reg, "fault", cfg)
	x.must(err)
	x.v = x.volumeAs("v0", CacheNone)
	x.write(0, 16)
	x.must(x.pool.Export(x.ctx()))
	for _, name := range []string{"", "logs"} {
		x.must(logs.Inject(bdev.Rule{Kinds: bdev.SetOf(bdev.Read), Effect: bdev.EffectPending}))
		cfg := x.hasty()
		cfg.LogDevice, cfg.AcceptLogLoss = name, true
		p, err := ImportPool(x.reg, "fault", cfg)
		logs.Clear(^bdev.KindSet(0))
		x.must(logs.Resume())
		if err == nil {
			x.must(p.Export(x.ctx()))
		}
		if !errors.Is(err, ErrStuck) || errors.Is(err, ErrLogMissing) || !strings.Contains(err.Error(), "logs has had") {
			t.Errorf("log device %q: %v", name, err)
		}
		x.letGo()
		for len(d.Users()) > 0 {
			time.Sleep(time.Millisecond)
		}
	}
	x.same()
	x.must(x.pool.Export(x.ctx()))
	x.must(x.reg.Unregister(x.ctx(), "logs"))
	x.must(x.reg.Unregister(x.ctx(), "memory"))
}

// TestWhatGatheredBeforeAPoolIsGivenUpIsNotCommitted, when a check lets commits go on.
func TestWhatGatheredBeforeAPoolIsGivenUpIsNotCommitted(t *testing.T) {
	h := newHouse(t, 1, 1, 64<<20)
	h.volume("v0", 8<<20)
	if err := h.pool.hold(); err != nil {
		t.Fatal(err)
	}
	gathered := &commitMessage{refer: make([]Place, 1), tell: newEvent()}
	writes := h.disk.Counted().Kinds[bdev.Write].Ops
	h.w.On(0, func(*reactor.Reactor) {
		h.pool.alloc.GrantPages(gathered.refer, Ordinary)
		h.pool.enlist(gathered)
		h.pool.committer.failed = bdev.StatusClosed
	})
	h.pool.letGo()
	h.w.Run("it is answered", func() bool { return gathered.tell.set })
	if s := gathered.tell.s; s != bdev.StatusClosed {
		t.Errorf("it is answered with %v", s)
	}
	if n := h.disk.Counted().Kinds[bdev.Write].Ops - writes; n > 0 {
		t.Errorf("%d pages were written", n)
	}
}
