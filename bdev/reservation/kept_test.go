package reservation

import (
	"bytes"
	"encoding/hex"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/google/uuid"
)

func example() *State {
	return &State{Generation: 7, Type: WriteExclusive, Holder: nexusC, PTPL: true, Registrants: []Registrant{
		{hostB, 20, 0}, {nexusC, 1 << 40, 1}, {nexusD, 4, 0x0203}, {hostA, 5, 0},
	}}
}

// golden is example's form.
const golden = "02010100" + "07000000" + "0200" + "0400" + "0300" + "0000" +
	"23" + "69716e2e323032362d30312e746573743a632c692c3078303030303030303030303031" +
	"1b" + "69716e2e323032362d30312e746573743a742c742c307830303031" +
	"23" + "69716e2e323032362d30312e746573743a642c692c3078303030303030303030303032" +
	"01" + "02000000000000000000000000000000" + "1400000000000000" +
	"02" + "0000000000010000" + "0100" + "0000" + "0100" +
	"02" + "0400000000000000" + "0302" + "0200" + "0100" +
	"01" + "01000000000000000000000000000000" + "0500000000000000"

// golden1 is a form of version 1: two hosts, the first of which holds.
const golden1 = "01010100" + "07000000" + "01000000000000000000000000000000" + "0200" +
	"02000000000000000000000000000000" + "1400000000000000" + "01000000000000000000000000000000" + "0000000000010000"

func unhex(t testing.TB, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(s)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestGolden(t *testing.T) {
	if got := hex.EncodeToString(example().Encode()); got != golden {
		t.Errorf("encoded as\n%s, want\n%s", got, golden)
	}
	s, err := Decode(unhex(t, golden))
	if err != nil || !reflect.DeepEqual(s, example()) {
		t.Errorf("decoded as %+v, %v", s, err)
	}
	s, err = Decode(unhex(t, golden1))
	one := &State{Generation: 7, Type: WriteExclusive, Holder: hostA, PTPL: true, Registrants: []Registrant{{hostB, 20, 0}, {hostA, 1 << 40, 0}}}
	if err != nil || !reflect.DeepEqual(s, one) {
		t.Errorf("version 1 decoded as %+v, %v", s, err)
	}
	for _, g := range []string{golden, golden1} {
		whole := unhex(t, g)
		for n := 1; n < len(whole); n++ {
			if s, err := Decode(whole[:n]); err == nil {
				t.Errorf("the first %d bytes are read as %+v", n, s)
			}
		}
		if s, err := Decode(append(whole, 0)); err == nil {
			t.Errorf("a byte more is read as %+v", s)
		}
	}
	if b := (&State{Generation: 9}).Encode(); b != nil {
		t.Errorf("nothing is kept as %x", b)
	}
	if s, err := Decode(nil); err != nil || !reflect.DeepEqual(s, &State{}) {
		t.Errorf("nothing is read as %+v, %v", s, err)
	}
}

func TestKeptThatAreNone(t *testing.T) {
	names := 16 + 1 + 35 + 1 + 27 + 1 + 35 // where the registrants begin
	for _, c := range []struct {
		what, form string
		at         int
		to         byte
	}{
		{"another version", golden, 0, 3},
		{"a type that there is not", golden, 1, 7},
		{"PTPL is no bit", golden, 2, 2},
		{"a byte that is zero is not", golden, 3, 1},
		{"a holder who is not there", golden, 8, 5},
		{"no holder", golden, 8, 0},
		{"a holder of no reservation", golden, 1, 0},
		{"a holder of one that all hold", golden, 1, 5},
		{"one registrant more", golden, 10, 5},
		{"one registrant less", golden, 10, 3},
		{"one name more", golden, 12, 4},
		{"reserved bytes", golden, 14, 1},
		{"a name that is cut", golden, 16, 0x24},
		{"a host registered twice", golden, names + 1, 1},
		{"a nexus registered twice", golden, names + 25 + 15 + 11, 0},
		{"a name that is not there", golden, names + 25 + 11, 3},
		{"names in another order", golden, names + 25 + 11, 2},
		{"neither host nor nexus", golden, names, 3},
		{"version 1: a type that there is not", golden1, 1, 7},
		{"version 1: PTPL is no bit", golden1, 2, 2},
		{"version 1: a byte that is zero is not", golden1, 3, 1},
		{"version 1: a holder who is not registered", golden1, 8, 9},
		{"version 1: a holder of no reservation", golden1, 1, 0},
		{"version 1: one registrant more", golden1, 24, 3},
		{"version 1: a host registered twice", golden1, 26, 1},
	} {
		t.Run(c.what, func(t *testing.T) {
			b := unhex(t, c.form)
			if b[c.at] == c.to {
				t.Fatal("the case changes nothing")
			}
			b[c.at] = c.to
			if s, err := Decode(b); err == nil {
				t.Errorf("read as %+v", s)
			}
		})
	}
}

// FuzzDecode reads what may be none; what is accepted in version 2 is written as the same bytes, and in version 1 as the same state.
func FuzzDecode(f *testing.F) {
	f.Add(unhex(f, golden))
	f.Add(unhex(f, golden1))
	f.Add(make([]byte, headBytes))
	f.Fuzz(func(t *testing.T, b []byte) {
		s, err := Decode(b)
		if err != nil || len(b) == 0 {
			return
		}
		again := s.Encode()
		if b[0] == version && !bytes.Equal(again, b) {
			t.Fatalf("%x was accepted, and is written as %x", b, again)
		}
		if len(again) == 0 {
			return
		}
		if o, err := Decode(again); err != nil || !reflect.DeepEqual(s, o) {
			t.Fatalf("%+v is read back as %+v: %v", s, o, err)
		}
	})
}

func TestFile(t *testing.T) {
	path, id := filepath.Join(t.TempDir(), "ptpl"), uuid.New()
	if s, err := readFile(path, id); err != nil || !reflect.DeepEqual(s, &State{}) {
		t.Errorf("no file is read as %+v, %v", s, err)
	}
	if err := writeFile(path, id, example()); err != nil {
		t.Fatal(err)
	}
	if s, err := readFile(path, id); err != nil || !reflect.DeepEqual(s, example()) {
		t.Errorf("read as %+v, %v", s, err)
	}
	whole, _ := os.ReadFile(path)
	one := `{"version":1,"uuid":"` + id.String() + `","generation":7,"type":1,"holder":[1,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0],"ptpl":true,` +
		`"registrants":[{"host":[1,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0],"key":1099511627776}]}`
	if err := os.WriteFile(path, []byte(one), 0o600); err != nil {
		t.Fatal(err)
	}
	want := &State{Generation: 7, Type: WriteExclusive, Holder: hostA, PTPL: true, Registrants: []Registrant{{hostA, 1 << 40, 0}}}
	if s, err := readFile(path, id); err != nil || !reflect.DeepEqual(s, want) {
		t.Errorf("version 1 is read as %+v, %v", s, err)
	}
	for _, c := range []struct{ what, was, is string }{
		{"no JSON", "{", ""}, {"another version", `"version": 2`, `"version": 3`}, {"another namespace", id.String(), uuid.Nil.String()},
		{"a type that there is not", `"type": 1`, `"type": 9`}, {"no holder", `"holder": true`, `"holder": false`},
		{"a host that is a nexus", `"host": "02`, `"initiator": "i", "host": "02`},
		{"a port without a nexus", `"host": "02`, `"port": 3, "host": "02`},
	} {
		t.Run(c.what, func(t *testing.T) {
			b := strings.Replace(string(whole), c.was, c.is, 1)
			if b == string(whole) {
				t.Fatal("the case changes nothing")
			}
			if err := os.WriteFile(path, []byte(b), 0o600); err != nil {
				t.Fatal(err)
			}
			if s, err := readFile(path, id); err == nil {
				t.Errorf("read as %+v", s)
			}
		})
	}
	if err := writeFile(path, id, &State{Registrants: example().Registrants}); err != nil {
		t.Fatal(err)
	}
	if s, err := readFile(path, id); err != nil || !reflect.DeepEqual(s, &State{}) {
		t.Errorf("what does not persist is read as %+v, %v", s, err)
	}
}
