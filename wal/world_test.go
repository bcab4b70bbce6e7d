package wal

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"testing"

	"github.com/google/uuid"

	"github.com/pollux-storage/pollux/bdev"
	"github.com/pollux-storage/pollux/bdev/bdevsim"
	"github.com/pollux-storage/pollux/internal/sim"
	"github.com/pollux-storage/pollux/reactor"
)

// This file is logs in a simulated world: machines that open them, and the model of what is in them.

// ringExtents are those of the logs in these tests: one is too small for the largest record.
var ringExtents = []Extent{{Place: 100, Pages: 900}, {Place: 1100, Pages: 130}, {Place: 1400, Pages: 800}}

const (
	ringPages = 1830
	diskBytes = 2300 * PageBytes
)

var (
	ringVolume = uuid.MustParse("6ba7b810-9dad-11d1-80b4-00c04fd430c8")
	ringBoot   = uuid.MustParse("1b1c1d1e-2b2c-2d2e-3b3c-3d3e4b4c4d4e")
)

const ringLineage = Lineage(0x1234_5678_9abc)

// machine is a reactor with a log's device.
type machine struct {
	t    testing.TB
	w    *bdevsim.World
	core int
	disk *sim.Disk
	cfg  Config
}

func newMachine(w *bdevsim.World, d *bdev.Device, core int) *machine {
	w.T.Helper()
	m := &machine{t: w.T, w: w, core: core, disk: bdevsim.DiskOf(d).Medium()}
	h, err := w.Registry.Open(d.Name(), bdev.OpenOptions{Who: "log"})
	if err != nil {
		w.T.Fatal(err)
	}
	w.On(core, func(r *reactor.Reactor) {
		c, err := h.Channel(r)
		if err != nil {
			w.T.Fatal(err)
		}
		m.cfg = Config{
			Reactor: r, Channel: c, Barrier: NewBarrier(r, c), Extents: ringExtents, Volume: ringVolume, Lineage: ringLineage,
		}
	})
	return m
}

func (m *machine) on(f func()) {
	m.t.Helper()
	m.w.On(m.core, func(*reactor.Reactor) { f() })
}

// fact is a record as the model knows it.
type fact struct {
	tag   uint64 // given once
	kind  Kind
	pages int
	epoch Epoch
}

// fillPage makes the i-th page of a payload.
func fillPage(b []byte, tag uint64, i int) {
	for at := 0; at < PageBytes; at += 512 { // each sector is its own
		binary.LittleEndian.PutUint64(b[at:], tag)
		binary.LittleEndian.PutUint64(b[at+8:], uint64(i)<<32|uint64(at)|1)
		b[at+511] = byte(tag)
	}
}

var expected = make([]byte, PageBytes)

// same compares a record that was read with what the model knows.
func (f *fact) same(r *Record, payload []byte) error {
	switch {
	case r.Block != f.tag || r.Place != ^f.tag || binary.LittleEndian.Uint64(r.Extra[16:]) != f.tag:
		return fmt.Errorf("LSN %d is record %d, want record %d", r.LSN, r.Block, f.tag)
	case r.Kind != f.kind || int(r.Pages) != f.pages || r.Flags != uint8(f.tag) || r.Blocks != uint64(f.pages) || r.Epoch != f.epoch:
		return fmt.Errorf("LSN %d is %+v, want %+v", r.LSN, r, f)
	case len(payload) != f.pages*PageBytes:
		return fmt.Errorf("LSN %d has %d bytes", r.LSN, len(payload))
	}
	for i := range f.pages {
		if fillPage(expected, f.tag, i); !bytes.Equal(payload[i*PageBytes:][:PageBytes], expected) {
			return fmt.Errorf("page %d of LSN %d (record %d) has other bytes", i, r.LSN, f.tag)
		}
	}
	return nil
}

// opening is a log that is being recovered and begun.
type opening struct {
	m     *machine
	log   *Log
	found []fact
	lsns  []LSN
	after []Follow // Before of each
	err   error    // of the records by themselves

	cutBefore  LSN
	recovered  bool
	status     bdev.Status
	why, wound error
	begun      bool
	beginning  bdev.Status
}

func (o *opening) LogWindow(c *Recovery) {
	rd := c.Reader()
	for i := range rd.Records() {
		r := &rd.Records()[i]
		if o.cutBefore != 0 && r.LSN >= o.cutBefore && r.Pages > 0 {
			rd.Cut(i, fmt.Errorf("%w: the test says so", ErrEnd))
			break
		}
		f := fact{tag: r.Block, kind: r.Kind, pages: int(r.Pages), epoch: r.Epoch}
		if err := f.same(r, rd.Payload(r)); err != nil && o.err == nil {
			o.err = err
		}
		o.found, o.lsns, o.after = append(o.found, f), append(o.lsns, r.LSN), append(o.after, rd.Before(i))
	}
	c.Go()
}

func (o *opening) LogRecovered(c *Recovery, s bdev.Status) {
	o.why, o.wound = c.Ended()
	o.recovered, o.status = true, s
}

func (o *opening) LogBegun(_ *Log, s bdev.Status) { o.begun, o.beginning = true, s }

// recover reads a log.
func (m *machine) recover(from State, cutBefore LSN) *opening {
	m.t.Helper()
	o := &opening{m: m, cutBefore: cutBefore}
	m.on(func() {
		var err error
		if o.log, err = New(m.cfg); err == nil {
			_, err = o.log.Recover(from, o)
		}
		if err != nil {
			m.t.Fatal(err)
		}
	})
	m.w.Run("the log is recovered", func() bool { return o.recovered })
	return o
}

// begin begins a life, in an epoch that is higher by raise.
func (o *opening) begin(raise Epoch) {
	o.m.t.Helper()
	o.m.on(func() { o.log.Begin(o.log.Life()+1, o.log.Epoch()+raise, o) })
	o.m.w.Run("a life has begun", func() bool { return o.begun })
}

// open reads a log and begins a life; nothing may be wrong.
func (m *machine) open(from State) *opening {
	m.t.Helper()
	o := m.recover(from, 0)
	if o.status != bdev.StatusOK || o.wound != nil || !errors.Is(o.why, ErrEnd) || o.err != nil {
		m.t.Fatalf("recovery: %v, ends for %v, wound %v, %v", o.status, o.why, o.wound, o.err)
	}
	if o.begin(0); o.beginning != bdev.StatusOK {
		m.t.Fatalf("beginning a life: %v", o.beginning)
	}
	return o
}

func (o *opening) close() {
	o.m.t.Helper()
	o.m.on(func() { o.log.Close() })
}

// add appends one record and hears of it.
type add struct {
	o       *opening
	e       Entry
	wait    Waiter
	written bool
	durable bool
	status  bdev.Status
	order   *[]*add // in which they hear that they are durable
}

func newAdd(o *opening) *add {
	a := &add{o: o}
	a.e.CRCs = make([]uint32, RecordPagesMax)
	a.e.Done, a.wait.Done = a, a
	return a
}

// put appends a record of a kind and so many pages; it runs on the log's reactor. It reports false if there is no room.
func (a *add) put(tag uint64, kind Kind, pages int) bool {
	if !a.o.log.Reserve(pages) {
		return false
	}
	a.fill(tag, kind, pages)
	a.written, a.durable, a.status = false, false, bdev.StatusOK
	a.o.log.Append(&a.e)
	return true
}

func (a *add) fill(tag uint64, kind Kind, pages int) {
	a.e.Record = Record{Kind: kind, Flags: uint8(tag), Block: tag, Blocks: uint64(pages), Place: ^tag}
	binary.LittleEndian.PutUint64(a.e.Extra[16:], tag)
	a.e.Payload = a.e.Payload[:0]
	for left, i := pages, 0; left > 0; { // in pieces of different lengths
		n := min(left, 1+int(tag+uint64(i))%5)
		b := make([]byte, n*PageBytes)
		for k := range n {
			fillPage(b[k*PageBytes:], tag, i+k)
		}
		a.e.Payload = append(a.e.Payload, b)
		left -= n
		i += n
	}
}

func (a *add) EntryWritten(_ *Entry, s bdev.Status) { a.written, a.status = true, s }

func (a *add) LogDurable(_ *Waiter, s bdev.Status) {
	a.durable, a.status = true, s
	if a.order != nil {
		*a.order = append(*a.order, a)
	}
}

// write appends records of so many pages, one batch of as many as fit, and waits until they are written.
func (o *opening) write(tag uint64, pages ...int) []*add {
	o.m.t.Helper()
	var all []*add
	o.m.on(func() {
		for i, n := range pages {
			a := newAdd(o)
			if !a.put(tag+uint64(i), KindWrite, n) {
				o.m.t.Fatalf("no room for %d pages: %d of %d used", n, o.log.Used(), o.log.Size())
			}
			all = append(all, a)
		}
	})
	o.m.w.Run("all is written", func() bool { return !slices.ContainsFunc(all, func(a *add) bool { return !a.written }) })
	return all
}

// sync makes durable what is written.
func (o *opening) sync() bdev.Status {
	o.m.t.Helper()
	a := newAdd(o)
	o.m.on(func() { o.log.AwaitDurable(&a.wait, o.log.appended) })
	o.m.w.Run("all is durable", func() bool { return a.durable })
	return a.status
}

// mustHold wants the records of a model, from an LSN on.
func (o *opening) mustHold(first LSN, want []fact) {
	o.m.t.Helper()
	for i, f := range o.found {
		if o.lsns[i] != first+LSN(i) {
			o.m.t.Fatalf("LSN %d where %d should be", o.lsns[i], first+LSN(i))
		}
		if i < len(want) && f != want[i] {
			o.m.t.Fatalf("LSN %d is %+v, want %+v", o.lsns[i], f, want[i])
		}
	}
	if len(o.found) != len(want) {
		o.m.t.Fatalf("%d records from LSN %d on, want %d; it ends for %v", len(o.found), first, len(want), o.why)
	}
}

// writes is the model of what write appended.
func writes(epoch Epoch, tag uint64, pages ...int) []fact {
	var out []fact
	for i, n := range pages {
		out = append(out, fact{tag: tag + uint64(i), kind: KindWrite, pages: n, epoch: epoch})
	}
	return out
}

// wantBroken wants f to break an invariant.
func wantBroken(t *testing.T, why string, f func()) {
	t.Helper()
	defer func() {
		if p := fmt.Sprint(recover()); p != "invariant broken: wal: "+why {
			t.Errorf("%s, want it broken that %q", p, why)
		}
	}()
	f()
}
