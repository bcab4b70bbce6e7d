package iscsi

import (
	"slices"
	"strings"
	"testing"
)

func TestText(t *testing.T) {
	long := strings.Repeat("v", valueBytesMax)
	for _, c := range []struct {
		name, text string
		want       []pair
	}{
		{"nothing", "", nil},
		{"NULs alone", "\x00\x00\x00", nil},
		{"one", "SendTargets=All\x00", []pair{{"SendTargets", "All"}}},
		{"no NUL at the end", "SendTargets=All", []pair{{"SendTargets", "All"}}},
		{"two, with NULs between and behind", "A=1\x00\x00B=2\x00\x00\x00", []pair{{"A", "1"}, {"B", "2"}}},
		{"no value", "SendTargets=\x00", []pair{{"SendTargets", ""}}},
		{"= in the value", "CHAP_C=0bAAAA==\x00", []pair{{"CHAP_C", "0bAAAA=="}}},
		{"keys that differ in case", "A=1\x00a=2\x00", []pair{{"A", "1"}, {"a", "2"}}},
		{"X- and X#", "X-com.example.key=1\x00X#NodeArchitecture=2\x00", []pair{{"X-com.example.key", "1"}, {"X#NodeArchitecture", "2"}}},
		{"the longest key", strings.Repeat("K", 63) + "=v\x00", []pair{{strings.Repeat("K", 63), "v"}}},
		{"the longest value", "K=" + long + "\x00", []pair{{"K", long}}},
		{"a list of the longest values", "K=" + long + "," + long + "\x00", []pair{{"K", long + "," + long}}},
		{"the longest binary value", "K=0x" + strings.Repeat("ab", 255) + "\x00", []pair{{"K", "0x" + strings.Repeat("ab", 255)}}},
		{"a long challenge", "CHAP_C=0x" + strings.Repeat("ab", 1024) + "\x00", []pair{{"CHAP_C", "0x" + strings.Repeat("ab", 1024)}}},
		{"UTF-8", "InitiatorAlias=Größe 盤\x00", []pair{{"InitiatorAlias", "Größe 盤"}}},
	} {
		got, err := parseText([]byte(c.text))
		if err != nil || !slices.Equal(got, c.want) {
			t.Errorf("%s: %q, %v", c.name, got, err)
		}
	}
}

func TestWrongText(t *testing.T) {
	for _, c := range []struct{ name, text, why string }{
		{"no =", "SendTargets\x00", "without ="},
		{"no key", "=All\x00", "without a key"},
		{"= alone", "=\x00", "without a key"},
		{"a key of 64 bytes", strings.Repeat("K", 64) + "=v\x00", "63"},
		{"a space in a key", "Send Targets=All\x00", "bytes that no key has"},
		{"a newline in a key", "A\n=1\x00", "bytes that no key has"},
		{"a key that is not ASCII", "Größe=1\x00", "bytes that no key has"},
		{"a key twice", "A=1\x00B=2\x00A=1\x00", "A twice"},
		{"a value of 256 bytes", "K=" + strings.Repeat("v", 256) + "\x00", "255"},
		{"a long element of a list", "K=a," + strings.Repeat("v", 256) + "\x00", "255"},
		{"a binary value of 256 bytes", "K=0x" + strings.Repeat("ab", 256) + "\x00", "512"},
		{"a value that is not UTF-8", "K=\xFF\xFE\x00", "UTF-8"},
		{"a control character in a value", "K=a\x1Bb\x00", "control"},
		{"the second is wrong", "A=1\x00B\x00", "without ="},
	} {
		got, err := parseText([]byte(c.text))
		if err == nil || !strings.Contains(err.Error(), c.why) || got != nil {
			t.Errorf("%s: %q, %v; want %q", c.name, got, err, c.why)
		}
	}
}

func TestNumbers(t *testing.T) {
	for s, want := range map[string]uint64{
		"0": 0, "7": 7, "262144": 262144, "18446744073709551615": 1<<64 - 1, "0x0": 0, "0x40000": 262144, "0XaBc": 0xABC, "0x000001": 1,
		"0xffffffffffffffff": 1<<64 - 1,
	} {
		if got, ok := parseNumber(s); !ok || got != want {
			t.Errorf("%q is %d, %v", s, got, ok)
		}
	}
	for _, s := range []string{
		"", "-1", "+1", " 1", "1 ", "1.5", "08", "00", "0x", "0x-1", "0x+1", "0xg", "0b1", "0bAA==", "abc", "1_000", "0x1_0", "18446744073709551616",
		"0x10000000000000000", "Yes", "1,2", "1~2", "\u0661",
	} {
		if v, ok := parseNumber(s); ok {
			t.Errorf("%q is the number %d", s, v)
		}
	}
}

func TestBooleans(t *testing.T) {
	for s, want := range map[string][2]bool{
		"Yes": {true, true}, "No": {false, true}, "yes": {}, "NO": {}, "": {}, "Yes ": {}, "1": {}, "Yes,No": {},
	} {
		if v, ok := parseBool(s); v != want[0] || ok != want[1] {
			t.Errorf("%q: %v, %v", s, v, ok)
		}
	}
}

// FuzzText: what is taken is within the limits, and is the same when it is said again.
func FuzzText(f *testing.F) {
	for _, s := range []string{
		"", "SendTargets=All\x00", "InitiatorName=iqn.2026-01.io.pollux:host\x00SessionType=Normal\x00HeaderDigest=CRC32C,None\x00", "A=1\x00\x00=\x00",
		"CHAP_C=0x" + strings.Repeat("ab", 300), "K=0b////\x00K=\x00",
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		pairs, err := parseText(text)
		if err != nil {
			return
		}
		var again []byte
		seen := map[string]bool{}
		for _, p := range pairs {
			if p.key == "" || len(p.key) > keyBytesMax || seen[p.key] || strings.ContainsAny(p.key+p.value, "\x00\n") || strings.Contains(p.key, "=") {
				t.Fatalf("the pair %q was taken", p)
			}
			seen[p.key] = true
			if v, ok := parseNumber(p.value); ok && v > 0 && len(p.value) > 2+64 {
				if !strings.HasPrefix(strings.ToLower(p.value), "0x0") {
					t.Fatalf("%q is a number", p.value)
				}
			}
			again = appendPair(again, p.key, p.value)
		}
		second, err := parseText(again)
		if err != nil || !slices.Equal(pairs, second) {
			t.Fatalf("%q, then %q: %v", pairs, second, err)
		}
	})
}
