package volume

import (
	"context"
	"fmt"
	"slices"
	"testing"

	"github.com/google/uuid"

	"github.com/pollux-storage/pollux/bdev/bdevsim"
	"github.com/pollux-storage/pollux/internal/sim"
)

// This file cuts the power inside what is done to a volume's history: whatever image is opened, the act has happened wholly or not at all, and
// everything else is as it was. Each is written to again, crashed and opened once more.

// actState is what a world has before or after an act.
type actState struct {
	head []byte
	old  []past
}

func (w *snapshotWorld) state() actState {
	return actState{slices.Clone(w.head), slices.Clone(w.old)}
}

func (s *actState) has(w *snapshotWorld) bool {
	if differs(w.reads(w.v.Device()), s.head) >= 0 {
		return false
	}
	opened := w.v.openedSnapshots()
	if len(opened) != len(s.old) {
		return false
	}
	for i, d := range opened {
		if d.of.Name.String() != s.old[i].name {
			return false
		}
	}
	return true
}

func TestPowerCutsInsideActs(t *testing.T) {
	acts := []struct {
		name string
		act  func(w *snapshotWorld)
	}{
		{"create", func(w *snapshotWorld) { w.take("new") }},
		{"delete", func(w *snapshotWorld) { w.drop(w.r.IntN(len(w.old))); w.cleared() }},
		{"restore", func(w *snapshotWorld) { w.restore(len(w.old) - 1) }},
		{"clone", func(w *snapshotWorld) {
			if _, err := w.v.CloneSnapshot(w.old[0].name, VolumeConfig{Name: "c0", LogBytes: 8 << 20}); err != nil {
				w.t.Fatal(err)
			}
		}},
	}
	for _, a := range acts {
		t.Run(a.name, func(t *testing.T) {
			sim.Each(t, 3, nil, func(t *testing.T, seed uint64) {
				w := newSnapshotWorld(t, seed)
				for i := range 3 {
					w.change(30)
					w.take(fmt.Sprint("s", i))
				}
				w.change(40)
				before := w.state()
				var images []*sim.Image
				medium := bdevsim.DiskOf(w.disk).Medium()
				medium.Watch(func(sim.Point) {
					if w.r.Uint32N(6) == 0 {
						images = append(images, medium.Snapshot())
					}
				})
				a.act(w)
				medium.Watch(nil)
				after := w.state()
				if len(images) == 0 {
					images = append(images, medium.Snapshot())
				}
				for n := range min(sim.Rounds(4), len(images)) {
					image := images[w.r.IntN(len(images))]
					for crashed := range image.Images(1, seed+uint64(n)) {
						other := &snapshotWorld{house: &house{t: t, w: bdevsim.NewWorld(t, seed+uint64(n)+1<<32, 2)}, r: w.r, seq: 1 << 50}
						other.reopen(crashed, other.config())
						other.prove(before, after)
					}
				}
			})
		})
	}
}

// prove looks at what an image was opened to.
func (w *snapshotWorld) prove(before, after actState) {
	w.t.Helper()
	w.v = w.find("v0")
	switch {
	case before.has(w):
		w.head, w.old = before.head, before.old
	case after.has(w):
		w.head, w.old = after.head, after.old
	default:
		w.t.Fatal("after a power cut inside the act the volume is neither what it was nor what it should be")
	}
	w.head = slices.Clone(w.head)
	w.c = w.client(w.v, 1)
	w.compare("after a power cut inside the act")
	w.change(20)
	w.take("later")
	w.change(20)
	if len(w.pool.Volumes()) == 1 {
		w.drop(0)
	}
	w.again()
	w.compare("written to again")
	if c := w.pool.Volumes(); len(c) > 1 {
		if err := w.pool.DeleteVolume(context.Background(), c[1], nil); err != nil {
			w.t.Fatal(err)
		}
		w.compare("without the clone")
	}
}

// request restores a snapshot as a request, which may have been made before.
func (w *snapshotWorld) request(name string, id uuid.UUID) {
	w.t.Helper()
	if err := w.v.RestoreSnapshot(context.Background(), name, RestoreOptions{Force: true, Request: id}); err != nil {
		w.t.Fatal(err)
	}
}

// TestARequestToRestoreActsOnce (S-8): over power cuts at any moment too, the one between act and answer among them.
func TestARequestToRestoreActsOnce(t *testing.T) {
	id := uuid.MustParse("0aafa1a9-bcb6-4d42-a9f5-1b5c1c6f5a04")
	sim.Each(t, 4, nil, func(t *testing.T, seed uint64) {
		w := newSnapshotWorld(t, seed)
		w.change(40)
		w.take("s")
		w.change(40)
		before := w.state()
		var images []*sim.Image
		medium := bdevsim.DiskOf(w.disk).Medium()
		medium.Watch(func(sim.Point) { images = append(images, medium.Snapshot()) })
		w.request("s", id)
		medium.Watch(nil)
		copy(w.head, w.old[0].data)
		after := w.state()
		images = append(images, medium.Snapshot())
		acted := 0
		for n := range sim.Rounds(12) {
			image := images[w.r.IntN(len(images))]
			if n == 0 {
				image = images[len(images)-1]
			}
			for crashed := range image.Images(1, seed+uint64(n)) {
				o := &snapshotWorld{house: &house{t: t, w: bdevsim.NewWorld(t, seed+uint64(n)+1<<32, 2)}, r: w.r, seq: 1 << 50}
				o.reopen(crashed, o.config())
				o.v = o.find("v0")
				o.old = after.old
				switch {
				case before.has(o):
					o.head = slices.Clone(before.head)
				case after.has(o):
					acted++
					o.head = slices.Clone(after.head)
				default:
					t.Fatal("a restore in part")
				}
				was := after.has(o)
				o.c = o.client(o.v, 1)
				o.change(20)
				o.request("s", id)
				if !was {
					copy(o.head, after.old[0].data)
				}
				o.compare("asked again after a power cut")
				o.change(20)
				o.again()
				o.request("s", id)
				o.compare("asked again after another")
				for i := range RequestsMax { // others come
					o.request("s", uuid.UUID{15: byte(i + 1)})
					copy(o.head, after.old[0].data)
				}
				o.change(20)
				o.again()
				for i := range RequestsMax {
					o.request("s", uuid.UUID{15: byte(i + 1)})
				}
				o.compare("asked again for each of the others")
				o.request("s", id)
				copy(o.head, after.old[0].data)
				o.compare("after so many others it is another")
			}
		}
		if acted == 0 {
			t.Error("no power cut was behind the act")
		}
	})
}
