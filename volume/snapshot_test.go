package volume

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/pollux-storage/pollux/bdev"
	"github.com/pollux-storage/pollux/internal/sim"
)

// past is what a volume had when a snapshot was taken.
type past struct {
	name string
	data []byte
}

// snapshotWorld is a volume whose content is known, and was known at each of its snapshots.
type snapshotWorld struct {
	*house
	r    *rand.Rand
	v    *Volume
	c    *client
	head []byte
	old  []past
	seq  uint64
}

const snapshotBlocks = 1000

func newSnapshotWorld(t *testing.T, seed uint64) *snapshotWorld {
	w := &snapshotWorld{house: newHouse(t, seed, 2, 256<<20), r: sim.Stream(seed, "snapshots"), head: make([]byte, snapshotBlocks*PageBytes)}
	w.v = w.volume("v0", snapshotBlocks*PageBytes)
	w.c = w.client(w.v, 1)
	return w
}

// change does n random things.
func (w *snapshotWorld) change(n int) {
	w.t.Helper()
	buf := pageMemory(256)
	for range n {
		blocks := 1 + w.r.Uint64N(12)
		if w.r.Uint32N(4) == 0 {
			blocks = 16 * (1 + w.r.Uint64N(6))
		}
		at := w.r.Uint64N(snapshotBlocks - blocks)
		if w.r.Uint32N(2) == 0 {
			at &^= 15
		}
		part := w.head[at*PageBytes:][:blocks*PageBytes]
		switch w.r.Uint32N(8) {
		case 0:
			w.c.must(bdev.Unmap, at, blocks, nil)
			clear(part)
		default:
			data := buf[:len(part)]
			for i := 0; i < len(data); i += 8 {
				w.seq++
				le.PutUint64(data[i:], w.seq)
			}
			w.c.must(bdev.Write, at, blocks, data)
			copy(part, data)
		}
	}
}

func (w *snapshotWorld) take(name string) {
	w.t.Helper()
	if _, err := w.v.CreateSnapshot(SnapshotConfig{Name: name}); err != nil {
		w.t.Fatal(err)
	}
	w.old = append(w.old, past{name, append([]byte(nil), w.head...)})
}

// reads reads all of a device.
func (w *snapshotWorld) reads(d *bdev.Device) []byte {
	w.t.Helper()
	got := pageMemory(snapshotBlocks)
	c := w.clientOf(d, 0)
	for at := uint64(0); at < snapshotBlocks; at += 250 {
		c.must(bdev.Read, at, 250, got[at*PageBytes:][:250*PageBytes])
	}
	return got
}

// compare compares head and snapshots with what is known, and checks the pool.
func (w *snapshotWorld) compare(what string) {
	w.t.Helper()
	if at := differs(w.reads(w.v.Device()), w.head); at >= 0 {
		w.t.Fatalf("%s: block %d of the head is another", what, at)
	}
	list, err := w.v.Snapshots()
	if err != nil {
		w.t.Fatal(err)
	}
	live := 0
	for _, s := range list {
		if s.Deleting {
			continue
		}
		if live == len(w.old) || w.old[live].name != s.Name {
			w.t.Fatalf("%s: there is a snapshot %s", what, s.Name)
		}
		if at := differs(w.reads(s.Device), w.old[live].data); at >= 0 {
			w.t.Fatalf("%s: block %d of snapshot %s is another", what, at, s.Name)
		}
		live++
	}
	if live != len(w.old) {
		w.t.Fatalf("%s: %d snapshots, there should be %d", what, live, len(w.old))
	}
	r, err := w.pool.Check()
	if err != nil {
		w.t.Fatal(err)
	}
	if !r.OK() {
		w.t.Fatalf("%s: the pool's check finds %d lost, %d free, %d twice: %q", what, r.Lost, r.Free, r.Twice, r.Problems)
	}
}

// again opens the pool after a power cut.
func (w *snapshotWorld) again() {
	w.t.Helper()
	w.crash(func(i *sim.Image) *sim.Image { return i.Crash(sim.Random(w.r, w.r.Float64())) })
	w.v = w.find("v0")
	w.c = w.client(w.v, 1)
}

// TestASnapshotReadsAsItWas: under later writes, after power cuts, with many of them (S-1, S-3, S-4).
func TestASnapshotReadsAsItWas(t *testing.T) {
	sim.Each(t, 4, nil, func(t *testing.T, seed uint64) {
		w := newSnapshotWorld(t, seed)
		for i := range 5 {
			w.change(60)
			w.take(fmt.Sprint("s", i))
			w.compare("at once")
			w.change(60)
			w.compare("after writes")
			w.again()
			w.compare("after a power cut")
		}
	})
}

func TestSnapshotsThatCannotBe(t *testing.T) {
	w := newSnapshotWorld(t, 1)
	w.take("s0")
	for _, c := range []struct {
		what, name string
		err        error
	}{
		{"the name is taken", "s0", ErrSnapshotExists},
		{"no name", "", ErrName},
		{"a name of 65 bytes", strings.Repeat("x", 65), ErrName},
	} {
		t.Run(c.what, func(t *testing.T) {
			if _, err := w.v.CreateSnapshot(SnapshotConfig{Name: c.name}); !errors.Is(err, c.err) {
				t.Errorf("got %v", err)
			}
		})
	}
	c := w.clientOf(w.v.openedSnapshots()[0].device, 0)
	if s := c.do(bdev.Write, 0, 1, pageMemory(1)); s != bdev.StatusReadOnly {
		t.Errorf("a write to a snapshot: %v", s)
	}
}
