package volume

import (
	"bytes"
	"errors"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/pollux-storage/pollux/bdev"
	"github.com/pollux-storage/pollux/bdev/bdevsim"
	"github.com/pollux-storage/pollux/internal/sim"
)

// logHouse is a house with a log device.
type logHouse struct {
	*house
	log *bdev.Device
}

func newLogHouse(t *testing.T, seed uint64) *logHouse {
	t.Helper()
	h := &logHouse{house: &house{t: t, w: bdevsim.NewWorld(t, seed, 2)}}
	h.disk, h.log = h.w.Disk("Disk0", 64<<20), h.w.Disk("Log0", 32<<20)
	cfg := h.config()
	cfg.LogDevice = "Log0"
	var err error
	if h.pool, err = CreatePool(h.w.Registry, "Disk0", cfg); err != nil {
		t.Fatal(err)
	}
	return h
}

// TestAPoolsDevicesSayWhichItIs: who may not have them reads the pool's name, the one it has now.
func TestAPoolsDevicesSayWhichItIs(t *testing.T) {
	h := newLogHouse(t, 1)
	says := func(want string) {
		t.Helper()
		for _, d := range []*bdev.Device{h.disk, h.log} {
			if _, err := h.w.Registry.Open(d.Name(), bdev.OpenOptions{Who: "another", Claim: true}); !errors.Is(err, bdev.ErrClaimed) || !strings.HasSuffix(err.Error(), ": "+want) {
				t.Errorf("claiming %s: %v, want %s to have it", d.Name(), err, want)
			}
			if got := d.Users(); !slices.Equal(got, []string{want}) {
				t.Errorf("%s is used by %q, want %s", d.Name(), got, want)
			}
		}
	}
	name := h.pool.Name()
	says("pool " + name)
	if err := h.pool.Rename("other"); err != nil {
		t.Fatal(err)
	}
	says("pool other")
	if err := h.pool.Export(t.Context()); err != nil {
		t.Fatal(err)
	}
	for _, d := range []*bdev.Device{h.disk, h.log} {
		if who := d.Claim(); who != "" {
			t.Errorf("%s of a closed pool is claimed by %s", d.Name(), who)
		}
	}
	if err := h.load(h.config()); err != nil {
		t.Fatal(err)
	}
	says("pool other")
}

// images are of both devices after a power cut that took what was not flushed.
func (h *logHouse) images() (disk, log *sim.Image) {
	return bdevsim.DiskOf(h.disk).Medium().Snapshot().Crash(sim.None), bdevsim.DiskOf(h.log).Medium().Snapshot().Crash(sim.None)
}

// boot begins with images; without one there is no such device.
func (h *logHouse) boot(disk, log *sim.Image) {
	h.w.Reboot()
	h.disk, h.log = nil, nil
	if disk != nil {
		h.disk = h.w.Open("Disk0", disk)
	}
	if log != nil {
		h.log = h.w.Open("Log0", log)
	}
}

func (h *logHouse) load(cfg PoolConfig) error {
	var err error
	h.pool, err = ImportPool(h.w.Registry, "Disk0", cfg)
	return err
}

func (h *logHouse) write(v *Volume, block uint64, with byte) {
	h.t.Helper()
	h.client(v, 0).must(bdev.Write, block, 1, bytes.Repeat([]byte{with}, PageBytes))
}

func (h *logHouse) want(v *Volume, block uint64, with byte) {
	h.t.Helper()
	got := pageMemory(1)
	h.client(v, 0).must(bdev.Read, block, 1, got)
	if !bytes.Equal(got, bytes.Repeat([]byte{with}, PageBytes)) {
		h.t.Fatalf("block %d begins with %x, want %x", block, got[0], with)
	}
}

// TestAPoolOpensOnlyWithItsLogs: without them, with another pool's, with an older copy, and with an older copy of the pool it does not.
func TestAPoolOpensOnlyWithItsLogs(t *testing.T) {
	other := newLogHouse(t, 2)
	_, foreign := other.images()

	h := newLogHouse(t, 1)
	v := h.volume("v0", 8<<20)
	h.write(v, 5, 1)
	disk0, log0 := h.images()
	h.boot(disk0, log0)
	if err := h.load(h.config()); err != nil { // found by itself
		t.Fatal(err)
	}
	h.want(h.find("v0"), 5, 1)
	h.write(h.find("v0"), 5, 2)
	disk1, log1 := h.images()
	h.boot(disk1, log1)
	if err := h.load(h.config()); err != nil {
		t.Fatal(err)
	}
	disk2, log2 := h.images()

	for _, c := range []struct {
		name      string
		disk, log *sim.Image
		named     bool
		want      string // "": it opens
	}{
		{"both", disk2, log2, false, ""},
		{"both, named", disk2, log2, true, ""},
		{"no log device", disk2, nil, false, "no device is it"},
		{"another pool's is no log device", disk2, foreign, false, "no device is it"},
		{"another pool's, named", disk2, foreign, true, "is the log device of pool"},
		{"an older copy", disk2, log0, false, "is an older copy of it"},
		{"a copy of the opening before", disk2, log1, false, "is an older copy of it"},
		{"an older copy of the pool", disk0, log2, false, "this is an older copy of the pool"},
		{"no log device, but a blank one", disk2, nil, true, "is not it"},
	} {
		h.boot(c.disk, c.log)
		if c.log == nil && c.named {
			h.log = h.w.Disk("Log0", 32<<20)
		}
		cfg := h.config()
		if c.named {
			cfg.LogDevice = "Log0"
		}
		err := h.load(cfg)
		if c.want == "" {
			if err != nil {
				t.Errorf("%s: %v", c.name, err)
				continue
			}
			h.want(h.find("v0"), 5, 2)
			continue
		}
		if !errors.Is(err, ErrLogMissing) || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", c.name, err, c.want)
		}
		if h.disk.Claim() != "" || h.log != nil && h.log.Claim() != "" {
			t.Errorf("%s: a device is held after the refusal", c.name)
		}
	}
}

// TestAnOpeningThatIsCutShort: the power fails between the head of the log device and the slot, at each write of either device.
func TestAnOpeningThatIsCutShort(t *testing.T) {
	h := newLogHouse(t, 1)
	v := h.volume("v0", 8<<20)
	h.write(v, 5, 1)
	disk, log := h.images()
	type pair struct{ disk, log *sim.Image }
	var all []pair
	h.boot(disk, log)
	take := func(sim.Point) {
		all = append(all, pair{bdevsim.DiskOf(h.disk).Medium().Snapshot(), bdevsim.DiskOf(h.log).Medium().Snapshot()})
	}
	bdevsim.DiskOf(h.disk).Medium().Watch(take)
	bdevsim.DiskOf(h.log).Medium().Watch(take)
	if err := h.load(h.config()); err != nil {
		t.Fatal(err)
	}
	if len(all) < 10 {
		t.Fatalf("only %d points", len(all))
	}
	for n, p := range all {
		for _, choose := range []sim.Choice{sim.None, sim.All} {
			for _, other := range []sim.Choice{sim.None, sim.All} {
				h.boot(p.disk.Crash(choose), p.log.Crash(other))
				if err := h.load(h.config()); err != nil {
					t.Fatalf("point %d of %d: %v", n, len(all), err)
				}
				h.want(h.find("v0"), 5, 1)
				h.write(h.find("v0"), 5, 1)
			}
		}
	}
}

// TestTheLossOfALogDeviceIsAccepted: the checkpoint is there, what is lost is named, and what is written afterwards stays.
func TestTheLossOfALogDeviceIsAccepted(t *testing.T) {
	for _, replace := range []bool{false, true} {
		h := newLogHouse(t, 1)
		v := h.volume("v0", 8<<20)
		h.volume("v1", 8<<20)
		h.write(v, 5, 1)
		h.forced(v)
		at := v.page.Checkpoint
		h.write(v, 5, 2) // durable, and in the log alone
		h.write(v, 6, 2)
		disk, log := h.images()
		before := v.page.Lineage
		cfg := h.config()
		h.boot(disk, nil)
		if err := h.load(cfg); !errors.Is(err, ErrLogMissing) {
			t.Fatalf("without its log device: %v", err)
		}
		if h.disk.Claim() != "" {
			t.Fatal("a refusal keeps the device")
		}
		h.boot(bdevsim.DiskOf(h.disk).Medium().Snapshot(), nil) // the refusal has changed nothing
		cfg.AcceptLogLoss = true
		if replace {
			h.w.Disk("New0", 32<<20)
			cfg.LogDevice = "New0"
		}
		if err := h.load(cfg); err != nil {
			t.Fatal(err)
		}
		v = h.find("v0")
		if pg := &v.page; pg.Loss != LossDevice || pg.LossFound != at || pg.LossKnown < at || pg.Lineage == before || pg.epochNow() < 2 || v.log.Epoch() < 2 {
			t.Fatalf("loss %v of what is above %d, known to %d; lineage %x, epoch %d, of the log %d; the checkpoint was %d", pg.Loss, pg.LossFound, pg.LossKnown, pg.Lineage, pg.epochNow(), v.log.Epoch(), at)
		}
		if got := strings.Join(h.pool.problems, "; "); !strings.Contains(got, "volume v0 lost what its log device held: LSNs above") {
			t.Fatalf("problems: %s", got)
		}
		h.want(v, 5, 1)
		h.want(v, 6, 0)
		h.write(v, 7, 3)
		if r, err := h.pool.Check(); err != nil || !r.OK() {
			t.Fatal(err, r)
		}
		// The old log device turns up again, and is left alone.
		disk = bdevsim.DiskOf(h.disk).Medium().Snapshot().Crash(sim.None)
		var other *sim.Image
		if replace {
			d, err := h.w.Registry.Lookup("New0")
			if err != nil {
				t.Fatal(err)
			}
			other = bdevsim.DiskOf(d).Medium().Snapshot().Crash(sim.None)
		}
		h.boot(disk, log)
		if replace {
			h.w.Open("New0", other)
		}
		if err := h.load(h.config()); err != nil {
			t.Fatal(err)
		}
		v = h.find("v0")
		h.want(v, 5, 1)
		h.want(v, 7, 3)
		if v.page.Loss != LossDevice {
			t.Fatal("the loss is forgotten by the next opening")
		}
		if h.log.Claim() != "" {
			t.Fatal("the old log device is used")
		}
	}
}

// TestALostLogDeviceOfAPoolThatWasClosed: everything was home, so nothing is lost but the log.
func TestALostLogDeviceOfAPoolThatWasClosed(t *testing.T) {
	h := newLogHouse(t, 1)
	v := h.volume("v0", 8<<20)
	h.write(v, 5, 1)
	if err := v.shutDown(); err != nil {
		t.Fatal(err)
	}
	h.pool.volumes = map[VolumeNumber]*Volume{}
	if err := h.exported(); err != nil {
		t.Fatal(err)
	}
	disk, _ := h.images()
	h.boot(disk, nil)
	cfg := h.config()
	cfg.AcceptLogLoss = true
	if err := h.load(cfg); err != nil {
		t.Fatal(err)
	}
	v = h.find("v0")
	h.want(v, 5, 1)
	if v.page.Loss != LossNone {
		t.Fatalf("loss %v above %d", v.page.Loss, v.page.LossFound)
	}
}

// TestALogDeviceIsFlushedAlone: small synced writes do not flush the pool's device, placed ones do, before the log's.
func TestALogDeviceIsFlushedAlone(t *testing.T) {
	h := newLogHouse(t, 1)
	v := h.volume("v0", 8<<20)
	count := func() uint64 { return h.pool.barrier.Flushes() }
	k := h.client(v, 0)
	k.must(bdev.Write, 900, 1, pageMemory(1)) // what the opening had to flush is flushed
	h.forced(v)
	before := count()
	for i := range uint64(10) {
		k.must(bdev.Write, i, 1, pageMemory(1))
	}
	if n := count() - before; n != 0 {
		t.Errorf("10 small writes flushed the pool's device %d times", n)
	}
	k.must(bdev.Write, 64, uint64(v.shape.Blocks()), pageMemory(int(v.shape.Blocks())))
	if n := count() - before; n != 1 {
		t.Errorf("a placed write flushed the pool's device %d times", n)
	}
}

// TestWhatCannotBeALogDevice is refused when a pool is made, and nothing is held or written.
func TestWhatCannotBeALogDevice(t *testing.T) {
	w := bdevsim.NewWorld(t, 1, 1)
	h := &house{t: t, w: w}
	w.Disk("Disk0", 64<<20)
	w.Disk("Small0", 8<<20)
	for name, want := range map[string]error{"Disk0": ErrInvalid, "Small0": ErrInvalid, "None0": bdev.ErrNotFound} {
		cfg := h.config()
		cfg.LogDevice = name
		if _, err := CreatePool(w.Registry, "Disk0", cfg); !errors.Is(err, want) {
			t.Errorf("log device %s: %v, want %v", name, err, want)
		}
		if x, err := Examine(w.Registry, "Disk0", cfg); err != nil || x.Pool {
			t.Errorf("log device %s: a pool was made all the same, %v", name, err)
		}
	}
	cfg := h.config()
	if _, err := CreatePool(w.Registry, "Disk0", cfg); err != nil {
		t.Fatal(err)
	}
}

// TestSpaceOfLogDevices holds the extents against a bitmap.
func TestSpaceOfLogDevices(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		const pages = 2000
		s := logSpace{pages: pages}
		commits := uint64(0)
		used := make([]bool, pages)
		var have [][]Extent
		for range rapid.IntRange(1, 60).Draw(t, "acts") {
			commits += rapid.Uint64Max(2).Draw(t, "commits")
			if len(have) > 0 && rapid.Bool().Draw(t, "give") {
				i := rapid.IntRange(0, len(have)-1).Draw(t, "which")
				for _, e := range have[i] {
					s.rest(e, commits)
				}
				have = append(have[:i], have[i+1:]...)
				continue
			}
			n := rapid.Uint64Range(1, 400).Draw(t, "pages")
			var runs [4]Extent
			resting := slices.Clone(s.resting)
			k, ok := s.take(runs[:], n, commits)
			for _, r := range resting {
				if commits >= r.after+2 {
					for p := r.Place; p < r.End(); p++ {
						used[p] = false
					}
				}
			}
			if !ok {
				continue
			}
			got := uint64(0)
			for _, e := range runs[:k] {
				got += e.Pages
				for p := e.Place; p < e.End(); p++ {
					if p < logFirst || p >= pages || used[p] {
						t.Fatalf("page %d is given, and is in use or none", p)
					}
					used[p] = true
				}
			}
			if got < n || got >= n+logUnit {
				t.Fatalf("%d pages given of %d", got, n)
			}
			have = append(have, append([]Extent(nil), runs[:k]...))
		}
	})
}

// TestLogsDoNotTakeWhatIsPromisedToThickVolumes when they come into the pool, since their device is lost.
func TestLogsDoNotTakeWhatIsPromisedToThickVolumes(t *testing.T) {
	h := newLogHouse(t, 1)
	v := h.volumeOf(VolumeConfig{Name: "v0", Bytes: 58 << 20, LogBytes: 8 << 20, Thick: true})
	h.write(v, 3, 0x33)
	h.forced(v)
	disk, _ := h.images()
	h.boot(disk, nil)
	cfg := h.config()
	cfg.AcceptLogLoss = true
	if err := h.load(cfg); !errors.Is(err, ErrNoSpace) {
		t.Fatalf("the log came into the pool: %v", err)
	}
	h.boot(disk, nil)
	h.log = h.w.Disk("Log1", 32<<20)
	cfg.LogDevice = "Log1"
	if err := h.load(cfg); err != nil {
		t.Fatal(err)
	}
	v = h.find("v0")
	h.want(v, 3, 0x33)
	if n := v.floorLacks(); !n.isNone() {
		t.Errorf("it lacks %+v", n)
	}
	if r, err := h.pool.Check(); err != nil || !r.OK() {
		t.Errorf("%v: %+v", err, r)
	}
}
