package wal

import (
	"encoding/binary"
	"errors"
	"strings"
	"testing"

	"github.com/pollux-storage/pollux/bdev"
	"github.com/pollux-storage/pollux/bdev/bdevsim"
	"github.com/pollux-storage/pollux/internal/sim"
)

// spoil changes a page of the log on the medium.
func (m *machine) spoil(at Offset, f func(page []byte)) {
	m.t.Helper()
	a, err := newArea(m.cfg.Extents)
	if err != nil {
		m.t.Fatal(err)
	}
	position, _ := a.find(at)
	b := make([]byte, PageBytes)
	m.disk.ReadAt(b, position)
	f(b)
	m.disk.Spoil(position, b)
}

// reheader changes a header and makes it whole again.
func reheader(f func(page []byte)) func([]byte) {
	return func(b []byte) {
		f(b)
		binary.LittleEndian.PutUint32(b[8:], slowCRC(b[12:]))
	}
}

// slowCRC is a checksum, computed bit by bit.
func slowCRC(b []byte) uint32 {
	c := ^uint32(0)
	for _, x := range b {
		c ^= uint32(x)
		for range 8 {
			c = c>>1 ^ 0x82f63b78&-(c&1)
		}
	}
	return ^c
}

// damaged is a log of four batches, of which LSN 1 to 3 are known as durable by the last header, and 4 and 5 by nobody.
func damaged(t *testing.T) (m *machine, headers []Offset) {
	w := bdevsim.NewWorld(t, 1, 1)
	m = newMachine(w, w.Disk("Disk0", diskBytes), 0)
	o := m.open(State{Life: 1})
	for _, batch := range [][]int{{1}, {2}, {0}} {
		headers = append(headers, o.log.Head())
		o.write(uint64(len(headers)), batch...)
	}
	o.sync()
	headers = append(headers, o.log.Head())
	o.write(4, 1, 1)
	o.sync()
	o.close()
	return m, headers
}

func TestCutsAndWounds(t *testing.T) {
	flip := func(b []byte) { b[700] ^= 4 }
	le := binary.LittleEndian
	for _, c := range []struct {
		name  string
		batch int
		page  Offset
		f     func(b []byte)
		known LSN // State.Durable
		left  int
		wound bool
		life  Life
	}{
		{"nothing", 0, 0, func([]byte) {}, 5, 5, false, 2},
		{"a bit of the last payload, above every mark", 3, 2, flip, 0, 4, false, 2},
		{"a bit of the last payload, and the volume knows it durable", 3, 2, flip, 5, 4, true, 2},
		{"a bit of the last header", 3, 0, flip, 3, 3, false, 2},
		{"a bit of the last header, and the volume knows it durable", 3, 0, flip, 4, 3, true, 2},
		{"a bit of a payload below the mark", 1, 2, flip, 0, 1, true, 2},
		{"a bit of a header below the mark", 0, 0, flip, 0, 0, true, 2},
		{"a bit of the life's first header", -1, 0, flip, 0, 0, true, 1},
		{"a header of another volume", 1, 0, reheader(func(b []byte) { b[30]++ }), 0, 1, true, 2},
		{"a header of another lineage", 1, 0, reheader(func(b []byte) { b[40]++ }), 0, 1, true, 2},
		{"a header of another life", 1, 0, reheader(func(b []byte) { b[48]++ }), 0, 1, true, 2},
		{"a header of an earlier life", 1, 0, reheader(func(b []byte) { b[48]-- }), 0, 1, true, 2},
		{"a header of another lap", 1, 0, reheader(func(b []byte) { le.PutUint64(b[16:], le.Uint64(b[16:])+ringPages*PageBytes) }), 0, 1, true, 2},
		{"a header that leaves an LSN out", 1, 0, reheader(func(b []byte) { b[64]++ }), 0, 1, true, 2},
		{"a header that repeats an LSN", 1, 0, reheader(func(b []byte) { b[64]-- }), 0, 1, true, 2},
		{"a life that follows another", 1, 0, reheader(func(b []byte) {
			b[12], b[14], b[48], b[80], b[88], b[96] = 0, flagLife, 3, 1, 1, 1
		}), 0, 1, true, 2},
		{"a life that follows another LSN", 1, 0, reheader(func(b []byte) {
			b[12], b[14], b[48], b[80], b[88], b[96] = 0, flagLife, 3, 1, 2, 0
		}), 0, 1, true, 2},
		{"a life that is not above the last", 1, 0, reheader(func(b []byte) {
			b[12], b[14], b[48], b[80], b[88], b[96] = 0, flagLife, 2, 1, 2, 1
		}), 0, 1, true, 2},
	} {
		m, headers := damaged(t)
		at := Offset(0) // the life's first header
		if c.batch >= 0 {
			at = headers[c.batch]
		}
		m.spoil(at+c.page*PageBytes, c.f)
		for range 2 { // looking changes nothing
			o := m.recover(State{Life: 1, Durable: c.known}, 0)
			if o.status != bdev.StatusOK || len(o.found) != c.left || !errors.Is(o.why, ErrEnd) || o.log.Life() != c.life {
				t.Errorf("%s: %v, %d records, life %d, it ends for %v", c.name, o.status, len(o.found), o.log.Life(), o.why)
			}
			if wound := errors.Is(o.wound, ErrCorrupt); wound != c.wound || !wound && o.wound != nil || wound != (o.log.Failed() == bdev.StatusReadOnly) {
				t.Errorf("%s: wound %v, failed %v", c.name, o.wound, o.log.Failed())
			}
			o.close()
		}
	}
}

func TestWhatIsNotUnderstoodStopsRecovery(t *testing.T) {
	for _, c := range []struct {
		name, why string
		f         func(b []byte)
	}{
		{"an unknown kind", "kind 12", func(b []byte) { b[headerBytes] = byte(kindEnd) }},
		{"no kind", "kind 0", func(b []byte) { b[headerBytes] = 0 }},
		{"a newer version", "version 2", func(b []byte) { b[15] = 2 }},
		{"too many records", "63 records", func(b []byte) { b[12] = 63 }},
		{"no pages", " 0 pages", func(b []byte) { b[80] = 0 }},
		{"more pages than a batch has", "257 pages", func(b []byte) { b[80], b[81] = 1, 1 }},
		{"a life with records", "flags 0x1", func(b []byte) { b[14] = flagLife }},
		{"a record beyond its batch", "not as many", func(b []byte) { b[headerBytes+2] = 3 }},
		{"a batch beyond its records", "end before", func(b []byte) { b[80]++ }},
		{"a pad that does not end where its extent does", "a pad of", func(b []byte) { b[12], b[14] = 0, flagPad }},
	} {
		m, headers := damaged(t)
		m.spoil(headers[1], reheader(c.f))
		o := m.recover(State{Life: 1}, 0)
		if o.status != bdev.StatusNotSupported || !errors.Is(o.why, ErrVersion) || !strings.Contains(o.why.Error(), c.why) {
			t.Errorf("%s: %v, %v", c.name, o.status, o.why)
		}
		o.close()
	}
	m, headers := damaged(t)
	m.spoil(headers[3], reheader(func(b []byte) { b[15], b[30] = 2, 99 })) // not of this log: where it ends somebody else's page lies
	o := m.recover(State{Life: 1}, 0)
	if o.status != bdev.StatusOK || len(o.found) != 3 {
		t.Errorf("a newer version of another volume: %v, %v", o.status, o.why)
	}
	m, headers = damaged(t)
	m.spoil(headers[1], reheader(func(b []byte) { b[14] = 0xfc; b[headerBytes+60] = 7 }))
	if o := m.recover(State{Life: 1}, 0); len(o.found) != 5 {
		t.Errorf("unknown flags: %v, %v", o.status, o.why)
	}
}

// A life whose beginning is lost is not begun a second time: its records would follow.
func TestNoLifeIsBegunTwice(t *testing.T) {
	w := bdevsim.NewWorld(t, 1, 1)
	m := newMachine(w, w.Disk("Disk0", diskBytes), 0)
	o := m.open(State{Life: 1})
	o.write(1, 1)
	o.sync()
	o.close()
	m.spoil(0, func(b []byte) { clear(b) })
	o = m.open(State{Life: 1})
	o.mustHold(1, nil)
	if o.log.Life() != 3 {
		t.Errorf("life %d, want 3: the ring names 2", o.log.Life())
	}
	o.close()
	o = m.open(State{Life: 1})
	o.mustHold(1, nil)
}

// A durable mark that an earlier life knew is no evidence against a life that began below it.
func TestMarksOfEarlierLivesAreNoWound(t *testing.T) {
	m, headers := damaged(t)
	m.spoil(headers[1], func(b []byte) { // LSN 2 to 5 are cut, durable or not, as all replicas together may
		h := header{flags: flagLife, offset: headers[1], volume: ringVolume, lineage: ringLineage, life: 3, first: 2, pages: 1, prevLife: 2, prevLSN: 1}
		h.put(b)
	})
	o := m.open(State{Life: 1})
	o.mustHold(1, writes(0, 1, 1))
	if o.log.Life() != 4 {
		t.Errorf("life %d", o.log.Life())
	}
}

// A log that was recovered cannot be read where the device cannot.
func TestADeviceThatDoesNotReadEndsRecovery(t *testing.T) {
	for skip := range uint64(4) {
		m, _ := damaged(t)
		f := m.disk.Inject(sim.Fault{Effect: sim.Fail, Kinds: sim.KindsOf(sim.Read), Skip: skip})
		o := m.recover(State{Life: 1}, 0)
		if o.status != bdev.StatusIO || o.log.Failed() != bdev.StatusIO {
			t.Errorf("read %d fails: %v", skip, o.status)
		}
		f.Remove()
		o.close()
	}
}
