package bdevsim_test

import (
	"bytes"
	"encoding/binary"
	"runtime"
	"testing"

	"github.com/pollux-storage/pollux/bdev"
	"github.com/pollux-storage/pollux/bdev/bdevsim"
	"github.com/pollux-storage/pollux/internal/sim"
	"github.com/pollux-storage/pollux/reactor"
)

// client has one request after the other on a device, from one reactor.
type client struct {
	w    *bdevsim.World
	r    *reactor.Reactor
	c    *bdev.Channel
	q    bdev.Request
	b    []byte
	left bool // in flight

	again func() // runs when it has ended; nil for nothing
}

func newClient(w *bdevsim.World, core int, d *bdev.Device) *client {
	k := &client{w: w, r: w.Reactor(core)}
	h, err := w.Registry.Open(d.Name(), bdev.OpenOptions{Who: "test"})
	if err != nil {
		w.T.Fatal(err)
	}
	w.On(core, func(r *reactor.Reactor) {
		if k.c, err = h.Channel(r); err != nil {
			w.T.Fatal(err)
		}
		k.b = r.Memory().Get(128 << 10)
	})
	k.q.Done = k
	return k
}

func (k *client) RequestDone(*bdev.Request) {
	if k.left = false; k.again != nil {
		k.again()
	}
}

// begin submits a request of k.b[:n] blocks.
func (k *client) begin(kind bdev.Kind, lba, blocks uint64, fua bool) {
	k.w.On(k.r.Index(), func(*reactor.Reactor) {
		k.q.Kind, k.q.LBA, k.q.Blocks, k.q.FUA = kind, lba, blocks, fua
		k.q.Data = nil
		if kind == bdev.Read || kind == bdev.Write {
			k.q.SetData(k.b[:blocks<<k.c.Geometry().Shift()])
		}
		k.left = true
		k.c.Submit(&k.q)
	})
}

// do waits for it too.
func (k *client) do(kind bdev.Kind, lba, blocks uint64, fua bool) bdev.Status {
	k.w.T.Helper()
	k.begin(kind, lba, blocks, fua)
	k.w.Run(kind.String()+" done", func() bool { return !k.left })
	return k.q.Status
}

func (k *client) must(kind bdev.Kind, lba, blocks uint64, fua bool) {
	k.w.T.Helper()
	if s := k.do(kind, lba, blocks, fua); s != bdev.StatusOK {
		k.w.T.Fatalf("%v of %d blocks at %d: %v", kind, blocks, lba, s)
	}
}

// mark fills the client's memory with blocks that say a number.
func (k *client) mark(n uint64) {
	for i := 0; i < len(k.b); i += 8 {
		binary.LittleEndian.PutUint64(k.b[i:], n<<32|uint64(i/8))
	}
}

func TestPowerCutKeepsWhatWasFlushed(t *testing.T) {
	w := bdevsim.NewWorld(t, 1, 2)
	d := w.Disk("Disk0", 1<<20)
	k := newClient(w, 1, d)
	k.mark(1)
	k.must(bdev.Write, 3, 2, false)
	k.must(bdev.Flush, 0, 0, false)
	k.mark(2)
	k.must(bdev.Write, 4, 2, false)
	image := bdevsim.DiskOf(d).Medium().Snapshot()
	if n := len(image.Pending()); n != 16 {
		t.Errorf("%d sectors pending after a write of 16", n)
	}
	before := w.Now()
	w.Reboot()
	if w.Now() < before || w.Reactor(0).Now() != w.Now() {
		t.Errorf("the time went from %d to %d, on a reactor %d", before, w.Now(), w.Reactor(0).Now())
	}
	d = w.Open("Disk0", image.Crash(sim.Only(0)))
	k = newClient(w, 0, d)
	k.must(bdev.Read, 3, 3, false)
	got := append([]byte(nil), k.b[:3*4096]...)
	want := make([]byte, 3*4096)
	k.mark(1)
	copy(want, k.b[:2*4096])
	k.mark(2)
	copy(want[4096:][:512], k.b)
	if !bytes.Equal(got, want) {
		t.Error("other than: flushed, and one sector of what was not")
	}
}

func TestOneSeedOneTrace(t *testing.T) {
	run := func(seed uint64) (uint64, uint64) {
		w := bdevsim.NewWorld(t, seed, 3)
		d := w.Disk("Disk0", 1<<20)
		bdevsim.DiskOf(d).Medium().Inject(sim.Fault{Effect: sim.Fail, Rate: 0.1})
		var all []*client
		for core := range 3 {
			for range 4 {
				all = append(all, newClient(w, core, d))
			}
		}
		for range 50 {
			for _, k := range all {
				k.mark(w.Rand.Uint64N(1000))
				kind := []bdev.Kind{bdev.Read, bdev.Write, bdev.Flush, bdev.Unmap}[w.Rand.IntN(4)]
				k.begin(kind, w.Rand.Uint64N(200), w.Rand.Uint64N(20)+1, w.Rand.IntN(4) == 0)
			}
			w.Run("all are done", func() bool {
				for _, k := range all {
					if k.left {
						return false
					}
				}
				return true
			})
		}
		return w.Trace.Hash(), w.Trace.Events()
	}
	h, n := run(7)
	if again, m := run(7); again != h || m != n {
		t.Errorf("the same seed: %#x after %d events, then %#x after %d", h, n, again, m)
	}
	if other, _ := run(8); other == h {
		t.Error("another seed has the same trace")
	}
	if n < 1000 {
		t.Errorf("only %d events", n)
	}
}

func TestManyRebootsKeepNothing(t *testing.T) {
	w := bdevsim.NewWorld(t, 1, 2)
	var before, after runtime.MemStats
	image := bdevsim.DiskOf(w.Disk("Disk0", 1<<20)).Medium().Snapshot()
	heap := func(m *runtime.MemStats) {
		runtime.GC()
		runtime.ReadMemStats(m)
	}
	for i := range 300 {
		if i == 100 {
			heap(&before)
		}
		w.Reboot()
		k := newClient(w, 1, w.Open("Disk0", image))
		k.mark(uint64(i))
		k.must(bdev.Write, 3, 1, true)
	}
	if heap(&after); after.HeapAlloc > before.HeapAlloc+4<<20 {
		t.Errorf("%d KiB in use after 100 reboots, %d after 300", before.HeapAlloc>>10, after.HeapAlloc>>10)
	}
}

// The way of a crash harness: images at every point of a run, every one of which is opened in another world.
func TestAcknowledgedWritesAreInEveryImage(t *testing.T) {
	sim.Each(t, 3, nil, func(t *testing.T, seed uint64) {
		w := bdevsim.NewWorld(t, seed, 2)
		d := w.Disk("Disk0", 1<<20)
		m := bdevsim.DiskOf(d).Medium()
		k, other := newClient(w, 0, d), newClient(w, 1, d)
		acknowledged := uint64(0)
		type crash struct {
			image *sim.Image
			least uint64
		}
		var crashes []crash
		m.Watch(func(sim.Point) { crashes = append(crashes, crash{m.Snapshot(), acknowledged}) })
		for n := uint64(1); n <= 6; n++ {
			other.mark(1000 + n)
			other.begin(bdev.Write, 100, 2, false)
			k.mark(n)
			if n%2 == 0 {
				k.must(bdev.Write, 5, 1, true)
			} else {
				k.must(bdev.Write, 5, 1, false)
				k.must(bdev.Flush, 0, 0, false)
			}
			acknowledged = n
			w.Run("the other is done", func() bool { return !other.left })
		}
		m.Watch(nil)
		images := 0
		after := bdevsim.NewWorld(t, seed, 1)
		for _, c := range crashes {
			for i := range c.image.Images(12, seed) {
				images++
				after.Reboot()
				r := newClient(after, 0, after.Open("Disk0", i))
				r.must(bdev.Read, 5, 1, false)
				for at := 0; at < 4096; at += 512 {
					if got := binary.LittleEndian.Uint64(r.b[at:]) >> 32; got < c.least || got > c.least+1 {
						t.Fatalf("%v: sector %d holds write %d, and %d was acknowledged", i, at/512, got, c.least)
					}
				}
			}
		}
		if len(crashes) < 24 || images < 200 {
			t.Errorf("only %d points, %d images", len(crashes), images)
		}
	})
}
