package reservation

import (
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/google/uuid"

	"github.com/pollux-storage/pollux/bdev"
	"github.com/pollux-storage/pollux/reactor"
)

// This file is the book: the state of one device in an engine, the doors that have it open, and what brings a change from the one to the others.
//
// What is kept, and where:
//
//   - A device that keeps reservations (bdev.ReservationStore) has them under one owner of its own, in version 2.
//   - Before, each subsystem kept its own there (version 1). Who opens the book for a subsystem names that owner, and what it finds is joined with the
//     book's, kept with it, and only then deleted there: a crash in between joins it once more, which changes nothing.
//   - A file (ptpl_file) keeps them where the device does not. That of a device which does is joined in the same way, and emptied. Of several files
//     of one device the first is the book's, the others are joined and emptied.
//
// To join is to take in what is not there. Where both have a reservation, that of the book counts, and the log says so: everybody stays registered.

// Door is one way to a device. It is called by control goroutines, one at a time.
type Door interface {
	// Publish gives a state to all reactors of the door, and returns when all have it. Until it was called once the state of Open counts.
	Publish(s *State) error
	// Tell lets those hear of an event who came by this door.
	Tell(notices []Notice)
	// End ends what these have in flight through this door, and returns when it is over. Commands about reservations are none of it: one may wait for
	// a change of the book that waits for this. Unlike the others it may run beside itself, and beside them.
	End(gone []Identity)
}

// Options say what a door brings.
type Options struct {
	File   string    // keeps the state where the device does not; "": none
	FileID uuid.UUID // that the file has to name: the namespace's
	Before uuid.UUID // under which the device may keep version 1 for this door; Nil: none
	Log    *slog.Logger
}

// Book is the reservations of a device.
type Book struct {
	device *bdev.Device
	store  bdev.ReservationStore // nil: the device keeps none
	keeper *reactor.Reactor      // on which it is asked
	owner  uuid.UUID             // of what it keeps
	users  int                   // who are opening it, or have it open; under Device.Attach

	changing sync.Mutex // held by one change at a time, until every reactor knows
	loaded   bool
	file     string
	fileID   uuid.UUID
	old      []func() error // let what was taken in be forgotten where it was
	unsure   bool           // the file may have what could not be kept: a write fails before it counts, or behind that
	doors    []Door

	kept atomic.Bool // what keeps says

	mu    sync.Mutex // never held for long
	state *State
}

// registrantsMax is how many a device has at most. One that keeps them has room for fewer, by the length of their names.
const registrantsMax = 1024

// KeepError is of a change that was not kept, and so has not happened.
type KeepError struct {
	Status bdev.Status // of the device; OK if it was a file
	Err    error
}

func (e *KeepError) Error() string { return e.Err.Error() }

// Unwrap gives what was wrong.
func (e *KeepError) Unwrap() error { return e.Err }

// Owner is under which a device keeps its book.
func Owner(d *bdev.Device) uuid.UUID { return uuid.NewSHA1(d.UUID(), []byte("reservations")) }

// Open lets a door have the book of a device, until it closes it. It is control work.
func Open(d *bdev.Device, door Door, o Options) (*Book, error) {
	var b *Book
	d.Attach(func(was any) any {
		if b, _ = was.(*Book); b == nil {
			g := d.Registry().Group()
			b = &Book{device: d, state: &State{}, owner: Owner(d), keeper: g.Reactor(int(d.UUID()[15]) % g.Len())}
			b.store, _ = d.Driver().(bdev.ReservationStore)
		}
		b.users++
		return b
	})
	b.changing.Lock()
	defer b.changing.Unlock()
	err := b.load(o)
	if err == nil {
		err = b.join(o)
	}
	if err != nil {
		if len(b.doors) == 0 { // who waits to open it too begins anew
			b.reset()
		}
		b.leave()
		return nil, fmt.Errorf("opening the reservations of device %s: %w", d.Name(), err)
	}
	b.kept.Store(b.keeps())
	b.doors = append(b.doors, door)
	return b, nil
}

// Close ends the door's use. What is not kept is forgotten with the last.
func (b *Book) Close(door Door) {
	b.changing.Lock()
	defer b.changing.Unlock()
	if i := slices.Index(b.doors, door); i >= 0 {
		b.doors = slices.Delete(b.doors, i, i+1)
		b.leave()
	}
}

// reset forgets what was read for a door that could not be opened after all. changing is held.
func (b *Book) reset() {
	b.store, _ = b.device.Driver().(bdev.ReservationStore)
	b.loaded, b.file, b.fileID, b.old, b.unsure = false, "", uuid.Nil, nil, false
	b.mu.Lock()
	b.state = &State{}
	b.mu.Unlock()
}

// leave gives the book up with its last user. changing is held.
func (b *Book) leave() {
	b.device.Attach(func(any) any {
		if b.users--; b.users == 0 {
			return nil
		}
		return b
	})
}

// State is the state now.
func (b *Book) State() *State {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.state
}

// Keeps reports whether the state can survive a restart. Any reactor may ask.
func (b *Book) Keeps() bool { return b.kept.Load() }

func (b *Book) keeps() bool { return b.store != nil || b.file != "" }

// Change lets f change a copy of the state, and returns when what became of it is kept, every reactor of every door knows it, and who is to hear
// of it was told. f says what is wrong, and the book is left as it was unless that is nothing; persists says whether the state can persist. abort lets
// those whom it preempts lose what they have in flight as well, and the return waits for that.
func (b *Book) Change(abort bool, f func(next *State, persists bool) (Outcome, Verdict)) (Verdict, error) {
	out, v, doors, err := b.change(f)
	if v != OK || err != nil {
		return v, err
	}
	if abort && len(out.Ended) > 0 {
		for _, d := range doors {
			d.End(out.Ended)
		}
	}
	return OK, nil
}

func (b *Book) change(f func(next *State, persists bool) (Outcome, Verdict)) (Outcome, Verdict, []Door, error) {
	b.changing.Lock()
	defer b.changing.Unlock()
	if len(b.doors) == 0 { // who comes late may not write over what a later book has kept
		return Outcome{}, OK, nil, &KeepError{bdev.StatusGone, fmt.Errorf("device %s: its reservations are closed", b.device.Name())}
	}
	next := b.State().Clone()
	out, v := f(next, b.keeps())
	if v != OK {
		return out, v, nil, nil
	}
	if len(next.Registrants) > registrantsMax {
		return out, OK, nil, &KeepError{bdev.StatusNoSpace, fmt.Errorf("device %s: %d are registered, there can be no more", b.device.Name(), registrantsMax)}
	}
	for _, g := range next.Registrants {
		if len(g.Initiator) > nameMax || len(g.Target) > nameMax { // the kept form has no room for it
			return out, OK, nil, &KeepError{bdev.StatusNoSpace, fmt.Errorf("device %s: a port's name has more than %d bytes", b.device.Name(), nameMax)}
		}
	}
	// What persists is on the disk before anybody may rely on it.
	if err := b.keep(next); err != nil {
		return out, OK, nil, err
	}
	if err := b.publish(next); err != nil {
		return out, OK, nil, err
	}
	if len(out.Notices) > 0 {
		for _, d := range b.doors {
			d.Tell(out.Notices)
		}
	}
	return out, OK, slices.Clone(b.doors), nil
}

// publish makes a state the book's. changing is held.
func (b *Book) publish(s *State) error {
	b.mu.Lock()
	b.state = s
	b.mu.Unlock()
	for _, d := range b.doors {
		if err := d.Publish(s); err != nil {
			return fmt.Errorf("publishing the reservations of device %s: %w", b.device.Name(), err)
		}
	}
	return nil
}

// load gets what the device keeps, when the first door opens the book.
func (b *Book) load(o Options) error {
	if b.loaded || b.store == nil {
		b.loaded = true
		return nil
	}
	kept, err := b.store.LoadReservations(b.owner)
	var s *State
	if err == nil {
		s, err = Decode(kept)
	}
	switch {
	case err != nil && o.File != "":
		o.warn("the device's reservations cannot be read, and its file keeps them", "device", b.device.Name(), "file", o.File, "error", err)
		b.store = nil
	case err != nil:
		return fmt.Errorf("reading those that it keeps: %w; a namespace with a ptpl_file that is added first keeps them there instead", err)
	case len(kept) > 0 && !s.PTPL:
		if err := b.save(b.owner, nil); err != nil { // nobody goes by it: the next opening clears it again
			o.warn("reservations that do not persist are still with their device", "device", b.device.Name(), "error", err)
		}
	default:
		b.state = s
	}
	b.loaded = true
	return nil
}

// join takes in what was kept for this door elsewhere. changing is held.
func (b *Book) join(o Options) error {
	if b.store != nil && o.Before != uuid.Nil {
		kept, err := b.store.LoadReservations(o.Before)
		var s *State
		if err == nil {
			s, err = Decode(kept)
		}
		if err == nil && len(kept) > 0 {
			err = b.take(s, o, "version 1", func() error { return b.save(o.Before, nil) })
		}
		if err != nil {
			return fmt.Errorf("taking over those that it keeps in version 1: %w", err)
		}
	}
	if o.File != "" && o.File != b.file {
		s, err := readFile(o.File, o.FileID)
		if err != nil {
			return err
		}
		empty := func() error { return writeFile(o.File, o.FileID, &State{}) }
		if !b.keeps() {
			b.file, b.fileID, empty = o.File, o.FileID, func() error { return nil }
		}
		if err := b.take(s, o, o.File, empty); err != nil {
			return err
		}
	}
	if err := b.settle(); err != nil {
		o.warn("reservations that were taken over are kept as they should with the next change only", "device", b.device.Name(), "error", err)
	}
	return nil
}

// take joins a state with the book's. drop makes the place forget it where it was, once it is kept with the book. changing is held.
func (b *Book) take(s *State, o Options, from string, drop func() error) error {
	if len(s.Registrants) == 0 && !s.PTPL {
		return nil
	}
	b.old = append(b.old, drop)
	if !s.PTPL {
		return nil // as after any power on
	}
	next := b.State().Clone()
	if !next.join(s) {
		o.warn("two reservations were kept for one device, and not all of the second could be joined with the first", "device", b.device.Name(), "second", from)
	}
	return b.publish(next)
}

// settle keeps what was taken in, and then lets it be forgotten where it was. changing is held.
func (b *Book) settle() error {
	if len(b.old) == 0 {
		return nil
	}
	if err := b.write(b.State()); err != nil {
		return err
	}
	for len(b.old) > 0 {
		if err := b.old[0](); err != nil {
			return err
		}
		b.old = b.old[1:]
	}
	return nil
}

func (o *Options) warn(what string, args ...any) {
	if o.Log != nil {
		o.Log.Warn(what, args...)
	}
}

// keep makes a state durable where the device's are kept; without such a place, nothing. changing is held.
func (b *Book) keep(s *State) error {
	if err := b.settle(); err != nil {
		return err
	}
	if b.store == nil && (b.file == "" || !s.PTPL && !b.State().PTPL && !b.unsure) {
		return nil
	}
	return b.write(s)
}

func (b *Book) write(s *State) error {
	if b.store != nil {
		return b.save(b.owner, s.Encode())
	}
	err := writeFile(b.file, b.fileID, s)
	if b.unsure = err != nil; b.unsure {
		return &KeepError{Err: err}
	}
	return nil
}

// saved is control work that waits for the device.
type saved chan bdev.Status

// ReservationsSaved hears that the state is durable, or why not.
func (c saved) ReservationsSaved(s bdev.Status) { c <- s }

// save lets the device keep a form under an owner, and returns when it is durable.
func (b *Book) save(owner uuid.UUID, form []byte) error {
	c := make(saved, 1)
	if err := b.keeper.Call(func() { b.store.SaveReservations(b.keeper, owner, form, c) }); err != nil {
		return &KeepError{Err: err}
	}
	if s := <-c; s != bdev.StatusOK {
		return &KeepError{Status: s, Err: fmt.Errorf("keeping reservations with device %s: %v", b.device.Name(), s)}
	}
	return nil
}
