package volume

import (
	"bytes"
	"errors"
	"testing"

	"github.com/google/uuid"
)

func TestReservationSetsThatAreNone(t *testing.T) {
	entry := func(owner byte, state string) []byte {
		s, _ := reserveSet(nil).with(uuid.UUID{owner}, []byte(state))
		return s
	}
	for _, c := range []struct {
		what string
		set  []byte
	}{
		{"a part of an owner", entry(1, "x")[:17]},
		{"a part of a state", entry(1, "xy")[:19]},
		{"no state", append(entry(1, "x"), make([]byte, 18)...)},
		{"an owner twice", append(entry(1, "x"), entry(1, "y")...)},
		{"longer than a page", make([]byte, ReservationBytesMax+1)},
	} {
		t.Run(c.what, func(t *testing.T) {
			if err := reserveSet(c.set).check(); !errors.Is(err, ErrCorrupt) {
				t.Errorf("got %v", err)
			}
		})
	}
	if s, ok := reserveSet(nil).with(uuid.UUID{1}, make([]byte, ReservationBytesMax-reserveEntryBytes)); !ok || s.check() != nil {
		t.Error("a set that just fits is refused")
	}
}

// FuzzReservationSet changes a set as a map is changed, and reads what may be none.
func FuzzReservationSet(f *testing.F) {
	f.Add([]byte{}, []byte{1, 3, 2, 5, 1, 0, 2, 200})
	f.Add(make([]byte, 40), []byte{})
	f.Fuzz(func(t *testing.T, raw, script []byte) {
		if s := reserveSet(raw); s.check() == nil {
			for rest := s; len(rest) > 0; {
				var o uuid.UUID
				var state []byte
				if o, state, rest = rest.next(); !bytes.Equal(s.of(o), state) {
					t.Fatalf("%s has two states", o)
				}
			}
		}
		model := map[uuid.UUID][]byte{}
		var s reserveSet
		for i := 0; i+1 < len(script); i += 2 {
			o, state := uuid.UUID{script[i] % 8}, bytes.Repeat(script[i:i+1], int(script[i+1])*5)
			next, ok := s.with(o, state)
			if !ok {
				continue
			}
			s, model[o] = next, state
			if err := s.check(); err != nil {
				t.Fatal(err)
			}
			for o, want := range model {
				if !bytes.Equal(s.of(o), want) {
					t.Fatalf("%s has %x, not %x", o, s.of(o), want)
				}
			}
		}
	})
}
