package nvmf_test

import (
	"sync"
	"testing"

	"github.com/google/uuid"

	"github.com/pollux-storage/pollux/bdev"
	"github.com/pollux-storage/pollux/nvmf"
	"github.com/pollux-storage/pollux/nvmf/nvmftest"
	"github.com/pollux-storage/pollux/reactor"
)

// keeper is a device of memory whose reservations outlive the engine.
type keeper struct {
	bdev.Driver
	*kept
}

type kept struct {
	mu     sync.Mutex
	states map[uuid.UUID][]byte
	fail   bdev.Status
}

func (k *keeper) Close() error { return nil } // the device below is registered itself

func (k *kept) LoadReservations(owner uuid.UUID) ([]byte, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.states[owner], nil
}

func (k *kept) SaveReservations(r *reactor.Reactor, owner uuid.UUID, state []byte, done bdev.ReservationsSaved) {
	k.mu.Lock()
	s := k.fail
	if s == bdev.StatusOK {
		k.states[owner] = append([]byte(nil), state...)
	}
	k.mu.Unlock()
	_ = r.Go(func() { done.ReservationsSaved(s) })
}

func startKeeping(t *testing.T, start func(nvmftest.Options) *nvmftest.Portal, k *kept, id uuid.UUID) *nvmftest.Portal {
	t.Helper()
	e := start(nvmftest.Options{Empty: true, Reactors: 2})
	m, err := bdev.NewMem(e.Bdevs, "Malloc0", uuid.Nil, 4096, 1024)
	if err == nil {
		_, err = e.Bdevs.Register(bdev.Config{Name: "Keeper0", Product: "test", UUID: id, Driver: &keeper{m.Driver(), k}, Geometry: m.Geometry()})
	}
	if err != nil {
		t.Fatal(err)
	}
	e.AddNamespace(nvmf.NamespaceOptions{BdevName: "Keeper0"})
	return e
}

// TestReservationsAreKeptByTheDevice: those that are to persist are there after a restart, the others are cleared, and a change that is not
// kept has not happened.
func TestReservationsAreKeptByTheDevice(t *testing.T) {
	nvmftest.Each(t, func(t *testing.T, start func(nvmftest.Options) *nvmftest.Portal) {
		k, id := &kept{states: map[uuid.UUID][]byte{}}, uuid.New()
		e := startKeeping(t, start, k, id)
		a := newReserver(e, 1)
		a.WantStatus("register", a.reserve(nvmf.IOReservationRegister, nvmf.RREGARegister, 0, nvmf.PTPLSet, 0, 10), nvmf.StatusSuccess)
		a.WantStatus("acquire", a.reserve(nvmf.IOReservationAcquire, nvmf.RACQAAcquire, nvmf.ExclusiveAccess, 0, 10, 0), nvmf.StatusSuccess)

		e = startKeeping(t, start, k, id)
		a, b := newReserver(e, 1), newReserver(e, 2)
		b.WantStatus("another host after a restart", b.read(), nvmf.StatusReservationConflict)
		a.WantStatus("the holder after a restart", a.write(), nvmf.StatusSuccess)
		k.mu.Lock()
		k.fail = bdev.StatusNotPrimary
		k.mu.Unlock()
		a.WantStatus("a release that is not kept", a.reserve(nvmf.IOReservationRelease, nvmf.RRELARelease, nvmf.ExclusiveAccess, 0, 10, 0), nvmf.StatusANAInaccessible)
		b.WantStatus("another host after a release that is not kept", b.read(), nvmf.StatusReservationConflict)
		k.mu.Lock()
		k.fail = bdev.StatusOK
		k.mu.Unlock()
		a.WantStatus("no longer to persist", a.reserve(nvmf.IOReservationRegister, nvmf.RREGARegister, 0, nvmf.PTPLClear, 0, 10), nvmf.StatusSuccess)
		b.WantStatus("another host before the restart", b.read(), nvmf.StatusReservationConflict)

		e = startKeeping(t, start, k, id)
		b = newReserver(e, 2)
		b.WantStatus("another host after a restart without persistence", b.write(), nvmf.StatusSuccess)
		if s, _ := k.LoadReservations(uuid.NewSHA1(id, []byte("reservations"))); len(s) > 0 {
			t.Errorf("the device still keeps %x", s)
		}
	})
}
