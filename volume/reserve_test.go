package volume

import (
	"bytes"
	"context"
	"errors"
	"slices"
	"testing"

	"github.com/google/uuid"

	"github.com/pollux-storage/pollux/bdev"
	"github.com/pollux-storage/pollux/bdev/bdevsim"
	"github.com/pollux-storage/pollux/internal/sim"
	"github.com/pollux-storage/pollux/reactor"
)

// saver is a target that saves reservations.
type saver struct {
	ended bool
	s     bdev.Status
}

func (s *saver) ReservationsSaved(st bdev.Status) { s.ended, s.s = true, st }

// beginSave saves a state on a reactor, and does not wait for it.
func (h *house) beginSave(v *Volume, core int, owner uuid.UUID, state []byte) *saver {
	s := &saver{}
	h.w.On(core, func(r *reactor.Reactor) {
		v.Device().Driver().(bdev.ReservationStore).SaveReservations(r, owner, state, s)
	})
	return s
}

func (h *house) save(v *Volume, core int, owner uuid.UUID, state []byte) bdev.Status {
	h.t.Helper()
	s := h.beginSave(v, core, owner, state)
	h.w.Run("reservations are saved", func() bool { return s.ended })
	return s.s
}

func (h *house) mustSave(v *Volume, core int, owner uuid.UUID, state []byte) {
	h.t.Helper()
	if s := h.save(v, core, owner, state); s != bdev.StatusOK {
		h.t.Fatalf("saving reservations: %v", s)
	}
}

func (h *house) wantReservations(what string, v *Volume, owner uuid.UUID, want []byte) {
	h.t.Helper()
	got, err := v.LoadReservations(owner)
	if err != nil {
		h.t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		h.t.Fatalf("%s: %.20q is reserved, it should be %.20q", what, got, want)
	}
}

var reserveOwners = []uuid.UUID{{1}, {2}, {3}}

// TestReservationsAreThereAgain: of each owner what it saved last, among writes and snapshots, after checkpoints and power cuts (T-16).
func TestReservationsAreThereAgain(t *testing.T) {
	sim.Each(t, 4, nil, func(t *testing.T, seed uint64) {
		w := newSnapshotWorld(t, seed)
		want := map[uuid.UUID][]byte{}
		for round := range 8 {
			for range w.r.IntN(5) {
				w.change(5)
				o := reserveOwners[w.r.IntN(len(reserveOwners))]
				want[o] = bytes.Repeat([]byte{byte(w.r.Uint32())}, w.r.IntN(1200))
				w.mustSave(w.v, w.r.IntN(2), o, want[o])
			}
			switch round % 4 {
			case 0:
				w.forced(w.v)
			case 1:
				w.take(string(rune('a' + round)))
			}
			if w.r.Uint32N(3) > 0 {
				w.again()
			}
			for _, o := range reserveOwners {
				w.wantReservations("later", w.v, o, want[o])
			}
			w.compare("with reservations")
		}
	})
}

// TestPowerCutsInsideReservations: whatever image is opened, the state is the one before or the one after, what is saved later stays, and
// after the answer it is the one after.
func TestPowerCutsInsideReservations(t *testing.T) {
	owner, other := reserveOwners[0], reserveOwners[1]
	for _, c := range []struct {
		name          string
		before, after []byte
	}{
		{"the first", nil, []byte("after")},
		{"a change", []byte("before"), []byte("after")},
		{"the last is cleared", []byte("before"), nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			sim.Each(t, 2, nil, func(t *testing.T, seed uint64) {
				w := newSnapshotWorld(t, seed)
				w.change(20)
				w.mustSave(w.v, 0, owner, c.before)
				w.forced(w.v)
				w.change(10)
				type cut struct {
					image *sim.Image
					heard bool
				}
				var cuts []cut
				medium := bdevsim.DiskOf(w.disk).Medium()
				s := &saver{}
				medium.Watch(func(sim.Point) { cuts = append(cuts, cut{medium.Snapshot(), s.ended}) })
				w.w.On(1, func(r *reactor.Reactor) { w.v.SaveReservations(r, owner, c.after, s) })
				w.w.Run("reservations are saved", func() bool { return s.ended })
				if s.s != bdev.StatusOK {
					t.Fatal(s.s)
				}
				w.forced(w.v) // the checkpoint that has them
				medium.Watch(nil)
				cuts = append(cuts, cut{medium.Snapshot(), true})
				w.r.Shuffle(len(cuts), func(i, j int) { cuts[i], cuts[j] = cuts[j], cuts[i] })
				for n, x := range cuts[:min(5, len(cuts))] {
					for crashed := range x.image.Images(1, seed+uint64(n)) {
						o := &snapshotWorld{house: &house{t: t, w: bdevsim.NewWorld(t, seed+uint64(n)+1<<32, 2)}, r: w.r, seq: 1 << 50, head: slices.Clone(w.head)}
						o.reopen(crashed, o.config())
						o.v = o.find("v0")
						o.c = o.client(o.v, 1)
						got, err := o.v.LoadReservations(owner)
						if err != nil {
							t.Fatal(err)
						}
						if !bytes.Equal(got, c.after) && (x.heard || !bytes.Equal(got, c.before)) {
							t.Fatalf("cut %d of %d, heard %v: %q is reserved", n, len(cuts), x.heard, got)
						}
						o.compare("after a power cut")
						o.mustSave(o.v, 0, other, []byte("later"))
						o.change(5)
						o.again()
						o.wantReservations("opened once more", o.v, other, []byte("later"))
						o.wantReservations("opened once more", o.v, owner, got)
						o.compare("opened once more")
					}
				}
			})
		})
	}
}

// TestReservationsInAQueue: changes of several owners at once are made one after the other, none undoes another.
func TestReservationsInAQueue(t *testing.T) {
	h := newHouse(t, 1, 2, 64<<20)
	v := h.volume("v0", 16<<20)
	var all []*saver
	for i := range 4 {
		for _, o := range reserveOwners {
			all = append(all, h.beginSave(v, i%2, o, []byte{o[0], byte(i)}))
		}
	}
	h.w.Run("all are saved", func() bool { return !slices.ContainsFunc(all, func(s *saver) bool { return !s.ended }) })
	h.crash(func(i *sim.Image) *sim.Image { return i.Crash(sim.None) })
	for _, o := range reserveOwners {
		h.wantReservations("after a power cut", h.find("v0"), o, []byte{o[0], 3})
	}
}

// TestReservationsOfAVolumeEndWithIt: the page is free again; a clone has none, and a restore brings none back.
func TestReservationsOfAVolumeEndWithIt(t *testing.T) {
	w := newSnapshotWorld(t, 1)
	owner := reserveOwners[0]
	w.mustSave(w.v, 0, owner, []byte("old"))
	w.change(10)
	w.take("s0")
	w.mustSave(w.v, 0, owner, []byte("new"))
	w.restore(0)
	w.wantReservations("after a restore", w.v, owner, []byte("new"))
	c, err := w.v.CloneSnapshot("s0", VolumeConfig{Name: "c0", LogBytes: 8 << 20})
	if err != nil {
		t.Fatal(err)
	}
	w.wantReservations("of a clone", c, owner, nil)
	w.mustSave(c, 1, owner, []byte("its own"))
	w.forced(c)
	w.compare("with a clone")
	if err := w.pool.DeleteVolume(context.Background(), c, nil); err != nil {
		t.Fatal(err)
	}
	w.compare("without it")
}

// TestReservationsThatCannotBeSaved: the state is the one before.
func TestReservationsThatCannotBeSaved(t *testing.T) {
	h := newHouse(t, 1, 1, 64<<20)
	v := h.volume("v0", 16<<20)
	owner := reserveOwners[0]
	h.mustSave(v, 0, owner, []byte("before"))
	if s := h.save(v, 0, reserveOwners[1], make([]byte, ReservationBytesMax)); s != bdev.StatusNoSpace {
		t.Errorf("more than a page: %v", s)
	}
	h.w.On(0, func(*reactor.Reactor) { v.role = RoleReplica })
	if s := h.save(v, 0, owner, []byte("after")); s != bdev.StatusNotPrimary {
		t.Errorf("not primary: %v", s)
	}
	h.w.On(0, func(*reactor.Reactor) { v.role = RolePrimary })
	medium := bdevsim.DiskOf(h.disk).Medium()
	medium.Inject(sim.Fault{Effect: sim.Fail, Kinds: sim.KindsOf(sim.Flush)})
	if s := h.save(v, 0, owner, []byte("after")); s == bdev.StatusOK {
		t.Error("saved, though the log could not be flushed")
	}
	if s := h.save(v, 0, owner, []byte("later")); s == bdev.StatusOK {
		t.Error("saved to a volume that has failed")
	}
}

// TestADamagedPageOfReservationsIsSaid: the volume is there, but not for who asks whom it is reserved for.
func TestADamagedPageOfReservationsIsSaid(t *testing.T) {
	h := newHouse(t, 1, 1, 64<<20)
	v := h.volume("v0", 16<<20)
	h.mustSave(v, 0, reserveOwners[0], []byte("before"))
	h.forced(v)
	place, page := v.page.Reservations.Place, pageMemory(1)
	err := h.pool.disk.read(place, page)
	page[headerBytes+20] ^= 1
	if err = errors.Join(err, h.pool.disk.write(place, page), h.pool.disk.flush()); err != nil {
		t.Fatal(err)
	}
	h.crash(func(i *sim.Image) *sim.Image { return i.Crash(sim.None) })
	v = h.find("v0")
	if _, err := v.LoadReservations(reserveOwners[0]); !errors.Is(err, ErrCorrupt) {
		t.Errorf("read with: %v", err)
	}
	if len(h.pool.problems) != 1 {
		t.Errorf("the pool says %q", h.pool.problems)
	}
	if s := h.save(v, 0, reserveOwners[1], []byte("after")); s != bdev.StatusCorrupt {
		t.Errorf("saved beside what cannot be read: %v", s)
	}
	h.client(v, 0).must(bdev.Write, 0, 1, pageMemory(1))
	r, err := h.pool.Check()
	if err != nil {
		t.Fatal(err)
	}
	if r.OK() {
		t.Error("the check finds nothing")
	}
}
