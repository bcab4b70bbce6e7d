package volume

import (
	"errors"
	"strings"
	"testing"

	"github.com/google/uuid"
)

// Each slot torn, zeroed and swapped (V-12).
func TestChoiceOfSlots(t *testing.T) {
	good := *formats[0].want.(*Slot)
	slot := func(number uint32, g Generation, f func([]byte)) []byte {
		s := good
		s.Number, s.Generation = number, g
		page := make([]byte, PageBytes)
		s.EncodeTo(page)
		if f != nil {
			f(page)
		}
		return page
	}
	torn := func(b []byte) { clear(b[512:1024]); b[600] = 1 }
	zero := func(b []byte) { clear(b) }
	seal := func(b []byte) { le.PutUint32(b[4092:], crcOf(b[:4092])) }
	other := func(b []byte) { copy(b[24:40], (&uuid.UUID{1})[:]); seal(b) }
	newer := func(b []byte) { b[8] = 2; seal(b) }
	for _, c := range []struct {
		name          string
		a, b          []byte
		newest, older Generation
		err           error
		says          string
	}{
		{"both, slot 0 newer", slot(0, 8, nil), slot(1, 7, nil), 8, 7, nil, ""},
		{"both, slot 1 newer", slot(0, 8, nil), slot(1, 9, nil), 9, 8, nil, ""},
		{"the newer one torn", slot(0, 8, torn), slot(1, 7, nil), 7, 0, nil, ""},
		{"the older one torn", slot(0, 8, nil), slot(1, 7, torn), 8, 0, nil, ""},
		{"slot 1 zeroed", slot(0, 8, nil), slot(1, 9, zero), 8, 0, nil, ""},
		{"slot 0 zeroed", slot(0, 8, zero), slot(1, 9, nil), 9, 0, nil, ""},
		{"both zeroed", slot(0, 8, zero), slot(1, 9, zero), 0, 0, ErrPoolCorrupt, "slot 1"},
		{"both torn", slot(0, 8, torn), slot(1, 9, torn), 0, 0, ErrPoolCorrupt, "torn or damaged"},
		{"swapped", slot(1, 9, nil), slot(0, 8, nil), 0, 0, ErrPoolCorrupt, "says that it is slot 1"},
		{"the older one is not the one before", slot(0, 8, nil), slot(1, 5, nil), 8, 0, nil, ""},
		{"two of one generation", slot(0, 8, nil), slot(1, 8, nil), 0, 0, ErrPoolCorrupt, "two programs"},
		{"of two pools", slot(0, 8, nil), slot(1, 7, other), 0, 0, ErrPoolCorrupt, "slot 1 to pool"},
		{"one of a newer version", slot(0, 8, nil), slot(1, 7, newer), 0, 0, ErrVersion, "slot 1"},
		{"one of a newer version, the other torn", slot(0, 8, newer), slot(1, 7, torn), 0, 0, ErrVersion, "slot 0"},
		{"a newer version, but torn", slot(0, 8, func(b []byte) { b[8] = 2 }), slot(1, 7, nil), 7, 0, nil, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			var s [2]Slot
			newest, older, err := ReadSlots([2][]byte{c.a, c.b}, &s)
			if !errors.Is(err, c.err) || err != nil && !strings.Contains(err.Error(), c.says) {
				t.Fatalf("%v, want %v %q", err, c.err, c.says)
			}
			if generationOf(newest) != c.newest || generationOf(older) != c.older {
				t.Errorf("opened by %d, older %d; want %d and %d", generationOf(newest), generationOf(older), c.newest, c.older)
			}
		})
	}
}

func generationOf(s *Slot) Generation {
	if s == nil {
		return 0
	}
	return s.Generation
}
