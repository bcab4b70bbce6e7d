package reservation_test

import (
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/google/uuid"

	"github.com/pollux-storage/pollux/bdev"
	"github.com/pollux-storage/pollux/bdev/bdevtest"
	"github.com/pollux-storage/pollux/bdev/reservation"
	"github.com/pollux-storage/pollux/reactor"
)

var (
	host  = reservation.Host([16]byte{1})
	other = reservation.Host([16]byte{2})
	nexus = reservation.Nexus("iqn.2026-01.test:c,i,0x000000000001", "iqn.2026-01.test:t,t,0x0001")
)

// door writes down what it hears.
type door struct {
	mu     sync.Mutex
	states []*reservation.State
	told   []reservation.Notice
	ended  []reservation.Identity
}

func (d *door) Publish(s *reservation.State) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.states = append(d.states, s)
	return nil
}

func (d *door) Tell(n []reservation.Notice) { d.told = append(d.told, n...) }

func (d *door) End(gone []reservation.Identity) { d.ended = append(d.ended, gone...) }

// keeper is a device of memory that keeps reservations, or does not.
type keeper struct {
	bdev.Driver
	*kept
}

func (k *keeper) Close() error { return nil } // the device below is registered itself

type kept struct {
	mu     sync.Mutex
	states map[uuid.UUID][]byte
	fail   func(owner uuid.UUID) bdev.Status
	read   error
}

func (k *kept) LoadReservations(owner uuid.UUID) ([]byte, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.states[owner], k.read
}

func (k *kept) SaveReservations(r *reactor.Reactor, owner uuid.UUID, state []byte, done bdev.ReservationsSaved) {
	k.mu.Lock()
	s := bdev.StatusOK
	if k.fail != nil {
		s = k.fail(owner)
	}
	if s == bdev.StatusOK {
		delete(k.states, owner)
		if len(state) > 0 {
			k.states[owner] = slices.Clone(state)
		}
	}
	k.mu.Unlock()
	_ = r.Go(func() { done.ReservationsSaved(s) })
}

var deviceID = uuid.MustParse("5b1b7a4e-93c1-4c54-8a3c-27f3c6b9a101")

// device makes one that keeps reservations in k, or keeps none.
func device(t *testing.T, k *kept) *bdev.Device {
	t.Helper()
	g := bdev.NewRegistry(bdevtest.Start(t, 2))
	id := deviceID
	if k != nil {
		id = uuid.Nil
	}
	m, err := bdev.NewMem(g, "Malloc0", id, 4096, 16)
	if err == nil && k != nil {
		m, err = g.Register(bdev.Config{Name: "Keeper0", Product: "test", UUID: deviceID, Driver: &keeper{m.Driver(), k}, Geometry: m.Geometry()})
	}
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func open(t *testing.T, d *bdev.Device, o reservation.Options) (*reservation.Book, *door) {
	t.Helper()
	x := &door{}
	b, err := reservation.Open(d, x, o)
	if err != nil {
		t.Fatal(err)
	}
	return b, x
}

// register gives somebody a key, and lets the state persist.
func register(b *reservation.Book, id reservation.Identity, key uint64) (reservation.Verdict, error) {
	return b.Change(false, func(next *reservation.State, persists bool) (out reservation.Outcome, v reservation.Verdict) {
		next.PTPL = persists
		return out, next.Register(id, key)
	})
}

func keys(s *reservation.State) (all []uint64) {
	for _, g := range s.Registrants {
		all = append(all, g.Key)
	}
	return all
}

func wantKeys(t *testing.T, why string, s *reservation.State, want ...uint64) {
	t.Helper()
	if got := keys(s); !slices.Equal(got, want) {
		t.Errorf("%s: keys %v, want %v", why, got, want)
	}
}

func must(t *testing.T, v reservation.Verdict, err error) {
	t.Helper()
	if v != reservation.OK || err != nil {
		t.Fatalf("verdict %d, error %v", v, err)
	}
}

// TestBookHasManyDoors: what changes by one is published by all, told by all, and with an abort ended by all; a door that closed hears nothing, and with
// the last one what is not kept is forgotten.
func TestBookHasManyDoors(t *testing.T) {
	d := device(t, nil)
	b, one := open(t, d, reservation.Options{})
	again, two := open(t, d, reservation.Options{})
	if b != again || b.Keeps() {
		t.Fatal("one device has two books, or keeps what it cannot")
	}
	v, err := register(b, host, 1)
	must(t, v, err)
	v, err = register(b, nexus, 2)
	must(t, v, err)
	if v, err := register(b, host, 9); v != reservation.Conflict || err != nil || len(two.states) != 2 {
		t.Errorf("a refused change: verdict %d, error %v, %d states", v, err, len(two.states))
	}
	before := b.State()
	v, err = b.Change(true, func(next *reservation.State, _ bool) (reservation.Outcome, reservation.Verdict) {
		return next.Preempt(host, 1, 2, reservation.WriteExclusive, false)
	})
	must(t, v, err)
	wantKeys(t, "an earlier state", before, 1, 2)
	for _, x := range []*door{one, two} {
		if len(x.states) != 3 || x.states[2] != b.State() || len(x.told) != 1 || x.told[0].To != nexus || !slices.Equal(x.ended, []reservation.Identity{nexus}) {
			t.Errorf("a door heard %+v", x)
		}
	}
	b.Close(one)
	b.Close(one)
	v, err = register(b, other, 3)
	must(t, v, err)
	if len(one.states) != 3 || len(two.states) != 4 {
		t.Errorf("states: %d by the closed door, %d by the other", len(one.states), len(two.states))
	}
	b.Close(two)
	late := b
	b, _ = open(t, d, reservation.Options{})
	wantKeys(t, "opened anew", b.State())
	_, err = register(late, host, 1)
	if kept := (*reservation.KeepError)(nil); !errors.As(err, &kept) || kept.Status != bdev.StatusGone {
		t.Errorf("a change of a book that is closed: %v", err)
	}
	for n := range uint64(1024) {
		v, err := register(b, reservation.Host([16]byte{9, byte(n), byte(n >> 8)}), 1)
		must(t, v, err)
	}
	_, err = register(b, host, 1)
	if kept := (*reservation.KeepError)(nil); !errors.As(err, &kept) || kept.Status != bdev.StatusNoSpace || len(b.State().Registrants) != 1024 {
		t.Errorf("one registrant too many: %v", err)
	}
}

// TestBookIsKeptByTheDevice: what persists is there again, what does not is cleared, and a change that is not kept has not happened.
func TestBookIsKeptByTheDevice(t *testing.T) {
	k := &kept{states: map[uuid.UUID][]byte{}}
	b, x := open(t, device(t, k), reservation.Options{})
	v, err := register(b, host, 1)
	must(t, v, err)
	v, err = b.Change(false, func(next *reservation.State, _ bool) (reservation.Outcome, reservation.Verdict) {
		return next.RegisterNexus(reservation.Registrant{Identity: nexus, Key: 2, Port: 7}, 0, false, nil, nil)
	})
	must(t, v, err)
	k.fail = func(uuid.UUID) bdev.Status { return bdev.StatusNotPrimary }
	_, err = register(b, other, 3)
	if kept := (*reservation.KeepError)(nil); !errors.As(err, &kept) || kept.Status != bdev.StatusNotPrimary || len(x.states) != 2 {
		t.Errorf("a change that is not kept: %v, %d states", err, len(x.states))
	}
	k.fail = nil

	b2, _ := open(t, device(t, k), reservation.Options{})
	if !reflect.DeepEqual(b2.State(), b.State()) {
		t.Errorf("after a restart %+v, before it %+v", b2.State(), b.State())
	}
	v, err = b2.Change(false, func(next *reservation.State, _ bool) (out reservation.Outcome, v reservation.Verdict) {
		next.PTPL = false
		return out, v
	})
	must(t, v, err)
	if len(k.states) != 1 {
		t.Error("what does not persist is not kept for who goes on elsewhere")
	}
	b3, _ := open(t, device(t, k), reservation.Options{})
	if wantKeys(t, "after a restart without persistence", b3.State()); len(k.states) != 0 {
		t.Errorf("the device still keeps %x", k.states)
	}

	k.states[reservation.Owner(device(t, k))] = []byte{9}
	if _, err := reservation.Open(device(t, k), &door{}, reservation.Options{}); err == nil {
		t.Error("a form of another version was opened")
	}
	file := filepath.Join(t.TempDir(), "ptpl")
	b4, _ := open(t, device(t, k), reservation.Options{File: file})
	v, err = register(b4, host, 1)
	must(t, v, err)
	if _, err := os.Stat(file); err != nil {
		t.Errorf("the file does not keep what its device cannot: %v", err)
	}
}

// form1 is version 1 of a host with key 5, that holds.
func form1(host byte, ptpl byte) []byte {
	b := make([]byte, 50)
	b[0], b[1], b[2], b[4], b[8], b[24], b[26], b[42] = 1, 1, ptpl, 9, host, 1, host, 5
	return b
}

// TestVersion1IsTakenOver: once, whichever step fails, and nothing of what is there is lost.
func TestVersion1IsTakenOver(t *testing.T) {
	before, second := uuid.New(), uuid.New()
	owner := reservation.Owner(device(t, nil))
	for _, c := range []struct {
		why  string
		fail uuid.UUID // the first save of this one
	}{{"no step fails", uuid.Nil}, {"it is not kept", owner}, {"it is not deleted", before}} {
		t.Run(c.why, func(t *testing.T) {
			k := &kept{states: map[uuid.UUID][]byte{before: form1(1, 1)}}
			k.fail = func(o uuid.UUID) bdev.Status {
				if o == c.fail {
					return bdev.StatusIO
				}
				return bdev.StatusOK
			}
			b, _ := open(t, device(t, k), reservation.Options{Before: before})
			s := b.State()
			if wantKeys(t, "taken over", s, 5); !s.Holds(host) || s.Generation != 9 || !s.PTPL {
				t.Errorf("taken over: %+v", s)
			}
			if c.fail != uuid.Nil {
				if _, err := register(b, other, 3); err == nil {
					t.Error("a change was kept beside what it replaces")
				}
				k.fail = nil
				// What was not settled is taken over once more.
				b, _ = open(t, device(t, k), reservation.Options{Before: before})
			}
			wantKeys(t, "taken over", b.State(), 5)
			v, err := register(b, other, 3)
			must(t, v, err)
			if k.states[before] != nil || len(k.states) != 1 {
				t.Errorf("the device keeps %x", k.states)
			}
		})
	}
	// Of two subsystems both are there, and the first reservation counts.
	k := &kept{states: map[uuid.UUID][]byte{before: form1(1, 1), second: form1(2, 1)}}
	d := device(t, k)
	b, x := open(t, d, reservation.Options{Before: before})
	_, _ = open(t, d, reservation.Options{Before: second})
	if s := b.State(); !s.Holds(host) || s.Find(other) == nil || len(x.states) != 1 || len(k.states) != 1 {
		t.Errorf("of two subsystems: %+v, published %d, kept %x", s, len(x.states), k.states)
	}
	// What did not persist is gone.
	k = &kept{states: map[uuid.UUID][]byte{before: form1(1, 0)}}
	b, _ = open(t, device(t, k), reservation.Options{Before: before})
	if wantKeys(t, "without PTPL", b.State()); len(k.states) != 0 {
		t.Errorf("kept: %x", k.states)
	}
	// What cannot be read is not passed over.
	k = &kept{states: map[uuid.UUID][]byte{before: {1, 2}}}
	if _, err := reservation.Open(device(t, k), &door{}, reservation.Options{Before: before}); err == nil {
		t.Error("opened with a broken form")
	}
}

// TestFilesOfOneDevice: the first keeps the book, what others have is joined and emptied, in whichever order they come; a device that keeps
// reservations takes what a file has.
func TestFilesOfOneDevice(t *testing.T) {
	dir, id := t.TempDir(), uuid.New()
	one, two := reservation.Options{File: filepath.Join(dir, "one"), FileID: id}, reservation.Options{File: filepath.Join(dir, "two"), FileID: id}
	b, _ := open(t, device(t, nil), one)
	v, err := register(b, host, 1)
	must(t, v, err)

	d := device(t, nil)
	b, _ = open(t, d, reservation.Options{}) // a door without a file comes first
	if v, err := register(b, other, 7); v != reservation.OK || err != nil {
		t.Fatal(v, err)
	}
	_, x := open(t, d, two)
	_, _ = open(t, d, one)
	wantKeys(t, "both", b.State(), 7, 1)
	if len(x.states) != 1 || !b.Keeps() {
		t.Errorf("published %d times", len(x.states))
	}
	b, _ = open(t, device(t, nil), one)
	wantKeys(t, "the file that was joined", b.State())
	b, _ = open(t, device(t, nil), two)
	wantKeys(t, "the file that keeps them", b.State(), 7, 1)

	k := &kept{states: map[uuid.UUID][]byte{}}
	b, _ = open(t, device(t, k), two)
	wantKeys(t, "a device that keeps them", b.State(), 7, 1)
	b, _ = open(t, device(t, k), reservation.Options{})
	wantKeys(t, "a device that keeps them, again", b.State(), 7, 1)
	b, _ = open(t, device(t, nil), two)
	wantKeys(t, "the file after that", b.State())
}

// TestFileThatMayHaveBeenWritten: a change that could not be kept has not happened; what of it may be in the file all the same the next change
// takes out.
func TestFileThatMayHaveBeenWritten(t *testing.T) {
	path, id := filepath.Join(t.TempDir(), "kept"), uuid.New()
	d := device(t, nil)
	o := reservation.Options{File: path, FileID: id}
	b, x := open(t, d, o)
	v, err := register(b, host, 1)
	must(t, v, err)
	there, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	b.Close(x)
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	b, _ = open(t, d, o)
	if err := os.Mkdir(path+".new", 0o700); err != nil { // nothing can be written
		t.Fatal(err)
	}
	kept := (*reservation.KeepError)(nil)
	if _, err := register(b, host, 1); !errors.As(err, &kept) {
		t.Fatalf("kept where nothing can be: %v", err)
	}
	wantKeys(t, "after a change that was not kept", b.State())
	if err := errors.Join(os.Remove(path+".new"), os.WriteFile(path, there, 0o600)); err != nil { // as if it had failed behind the rename
		t.Fatal(err)
	}
	v, err = b.Change(false, func(next *reservation.State, _ bool) (out reservation.Outcome, v reservation.Verdict) {
		return out, next.Register(other, 2)
	})
	must(t, v, err)
	b, _ = open(t, device(t, nil), o)
	wantKeys(t, "what the file says", b.State())
}

// TestNamesThatDoNotFit: who has a longer name than the kept form has room for is not registered: with it nobody could read the form again.
func TestNamesThatDoNotFit(t *testing.T) {
	k := &kept{states: map[uuid.UUID][]byte{}}
	b, _ := open(t, device(t, k), reservation.Options{})
	long := reservation.Registrant{Identity: reservation.Nexus(strings.Repeat("i", 256), "t"), Key: 1, Port: 1}
	_, err := b.Change(false, func(next *reservation.State, _ bool) (reservation.Outcome, reservation.Verdict) {
		return next.RegisterNexus(long, 0, false, nil, nil)
	})
	kept := (*reservation.KeepError)(nil)
	if !errors.As(err, &kept) {
		t.Errorf("kept with a name of 256 bytes: %v", err)
	}
	b, _ = open(t, device(t, k), reservation.Options{})
	wantKeys(t, "after that", b.State())
}

// TestOpenedBesideOneThatFails: what a door could not open is not open for another that came at the same time.
func TestOpenedBesideOneThatFails(t *testing.T) {
	path := filepath.Join(t.TempDir(), "kept")
	if err := os.WriteFile(path, []byte(`{"version": 2, "uuid": "00000000-0000-0000-0000-000000000001"}`), 0o600); err != nil {
		t.Fatal(err)
	}
	k := &kept{states: map[uuid.UUID][]byte{}, read: errors.New("the page is damaged")}
	d := device(t, k)
	for range 100 { // however they meet
		var both sync.WaitGroup
		k.mu.Lock() // mostly, the second has come when the first hears what the device says
		for _, o := range []reservation.Options{{}, {File: path, FileID: uuid.New()}} {
			both.Go(func() {
				if _, err := reservation.Open(d, &door{}, o); err == nil {
					t.Errorf("opened with file %q", o.File)
				}
			})
		}
		for range 100 {
			runtime.Gosched()
		}
		k.mu.Unlock()
		both.Wait()
		if t.Failed() {
			return
		}
	}
}
