package bench

import (
	"encoding/hex"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func madeState() *State {
	return &State{seed: 0x1122334455667788, first: 5, blockSize: 4096, lines: []entry{{1, 2, 0, 0}, {7, 5, 0, 4}}}
}

func TestStateGolden(t *testing.T) {
	const want = "5058535441544531" + "8877665544332211" + "0500000000000000" + "0200000000000000" + "00100000" + "e6fb599b" +
		"01000000" + "02000000" + "00000000" + "00000000" + "07000000" + "05000000" + "00000000" + "04000000" + "e3ff98ac"
	b := madeState().AppendTo(nil)
	if got := hex.EncodeToString(b); got != want {
		t.Errorf("the format has changed:\n got %s\nwant %s", got, want)
	}
	s, err := DecodeState(b)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(madeState(), s, cmp.AllowUnexported(State{}, entry{})); d != "" {
		t.Error(d)
	}
	if offset, size := s.Region(); offset != 5*4096 || size != 2*4096 {
		t.Errorf("region %d, %d", offset, size)
	}
}

func TestDamagedStatesAreRefused(t *testing.T) {
	b := madeState().AppendTo(nil)
	for n := range b {
		if _, err := DecodeState(b[:n]); !errors.Is(err, ErrState) {
			t.Errorf("cut off at %d: %v", n, err)
		}
		bad := append([]byte(nil), b...)
		bad[n] ^= 0x40
		if _, err := DecodeState(bad); !errors.Is(err, ErrState) {
			t.Errorf("byte %d damaged: %v", n, err)
		}
	}
	if _, err := DecodeState(append(b, 0)); !errors.Is(err, ErrState) {
		t.Error("a byte too many")
	}
}

func TestAStateOfAStoppedRunAllowsWhatWasInFlight(t *testing.T) {
	s := madeState()
	s.lines[0] = entry{newest: 3, settled: 2, flying: 5}
	back, err := DecodeState(s.AppendTo(nil))
	if err != nil {
		t.Fatal(err)
	}
	if e := back.lines[0]; e.settled != 7 || e.flying != 0 {
		t.Errorf("%+v", e)
	}
}

func TestSavingAStateIsWholeOrNothing(t *testing.T) {
	dir := t.TempDir()
	if err := madeState().Save(filepath.Join(dir, "none", "state")); err == nil {
		t.Error("saved into a folder that is not there")
	}
	path := filepath.Join(dir, "state")
	if err := madeState().Save(path); err != nil {
		t.Fatal(err)
	}
	if _, err := LoadState(path); err != nil {
		t.Error(err)
	}
	if files, _ := os.ReadDir(dir); len(files) != 1 {
		t.Errorf("%v", files)
	}
}

func FuzzDecodeState(f *testing.F) {
	b := madeState().AppendTo(nil)
	f.Add(b)
	f.Add(b[:50])
	f.Fuzz(func(t *testing.T, b []byte) {
		if s, err := DecodeState(b); err == nil {
			if _, err := DecodeState(s.AppendTo(nil)); err != nil {
				t.Errorf("encoded again: %v", err)
			}
		}
	})
}

func FuzzCheckBlock(f *testing.F) {
	b := make([]byte, 512)
	writeBlock(b, 1, 7, 4)
	f.Add(b)
	f.Add(make([]byte, 512))
	f.Fuzz(func(t *testing.T, b []byte) {
		if len(b) != 512 {
			return
		}
		l, v := staged()
		if fault := checkBlock(b, 1, 7, &v, &l.entries[7]); fault != faultNone {
			_ = describe(b, fault, 1, 7, &v, &l.entries[7])
		} else if h, _ := readHeader(b); h.lba != 7 || h.gen < 4 || h.gen > 6 {
			t.Errorf("%+v passed", h)
		}
	})
}

func FuzzParseFio(f *testing.F) {
	b, err := os.ReadFile("testdata/fio.json")
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b)
	f.Fuzz(func(_ *testing.T, b []byte) { _, _ = parseFio(b) })
}
