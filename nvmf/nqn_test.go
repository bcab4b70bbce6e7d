package nvmf

import (
	"strings"
	"testing"
)

func TestCheckNQN(t *testing.T) {
	for _, nqn := range []string{
		DiscoveryNQN, testSUBNQN, testHOSTNQN,
		"nqn.2014-08.org.nvmexpress:uuid:F81D4FAE-7DEC-11D0-A765-00A0C91E6BF6",
		"nqn.2014-08.org.nvmexpress:NVMf:uuid:f81d4fae-7dec-11d0-a765-00a0c91e6bf6",
		"nqn.2019-08.org.qemu:disk 1", "nqn.2026-12.io:x", "nqn.2000-01.com.3par:ü:ö", "nqn.2016-06.io.spdk:cnode1",
		"nqn.2026-01.io.pollux:" + strings.Repeat("x", 223-22), "nqn.2026-01.io." + strings.Repeat("a", 63) + ":x",
		"nqn.2026-09.a0b9-azAZ:x", "nqn.2026-10.io:x",
	} {
		if err := CheckNQN(nqn); err != nil {
			t.Errorf("%q: %v", nqn, err)
		}
	}
	for name, nqn := range map[string]string{
		"empty":                    "",
		"an IQN":                   "iqn.2026-01.io.pollux:vol1",
		"prefix alone":             "nqn.",
		"capital prefix":           "NQN.2026-01.io.pollux:x",
		"no colon":                 "nqn.2026-01.io.pollux",
		"nothing behind colon":     "nqn.2026-01.io.pollux:",
		"no date":                  "nqn.io.pollux:x",
		"a dot in the date":        "nqn.2026.01.io.pollux:x",
		"month 00":                 "nqn.2026-00.io.pollux:x",
		"month 13":                 "nqn.2026-13.io.pollux:x",
		"month of one digit":       "nqn.2026-1.io.pollux:x",
		"letters in the date":      "nqn.2o26-01.io.pollux:x",
		"no domain":                "nqn.2026-01.:x",
		"no dot behind the date":   "nqn.2026-01:x",
		"empty label":              "nqn.2026-01.io..pollux:x",
		"label ends with hyphen":   "nqn.2026-01.io.pollux-:x",
		"label begins with hyphen": "nqn.2026-01.io.-pollux:x",
		"label with underscore":    "nqn.2026-01.io.pol_lux:x",
		"label of 64":              "nqn.2026-01.io." + strings.Repeat("a", 64) + ":x",
		"224 bytes":                "nqn.2026-01.io.pollux:" + strings.Repeat("x", 224-22),
		"not UTF-8":                "nqn.2026-01.io.pollux:\xc3\x28",
		"a NUL":                    "nqn.2026-01.io.pollux:a\x00b",
		"UUID too short":           "nqn.2014-08.org.nvmexpress:uuid:f81d4fae-7dec-11d0-a765-00a0c91e6bf",
		"UUID too long":            "nqn.2014-08.org.nvmexpress:uuid:f81d4fae-7dec-11d0-a765-00a0c91e6bf61",
		"UUID without hyphens":     "nqn.2014-08.org.nvmexpress:uuid:f81d4fae07dec011d00a765000a0c91e6bf6",
		"UUID not hexadecimal":     "nqn.2014-08.org.nvmexpress:uuid:g81d4fae-7dec-11d0-a765-00a0c91e6bf6",
		"discovery and more":       DiscoveryNQN + ".x",
	} {
		if err := CheckNQN(nqn); err == nil {
			t.Errorf("%s: %q was taken", name, nqn)
		} else if !strings.HasPrefix(err.Error(), "NQN ") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func FuzzNQN(f *testing.F) {
	f.Add(DiscoveryNQN)
	f.Add(testSUBNQN)
	f.Add(testHOSTNQN)
	f.Add("nqn.")
	f.Add("nqn.2026-01.:")
	f.Fuzz(func(t *testing.T, nqn string) {
		if CheckNQN(nqn) != nil {
			return
		}
		field := make([]byte, NQNFieldBytes)
		if n := copy(field, nqn); n >= NQNFieldBytes {
			t.Fatalf("%q has no room for its NUL", nqn)
		}
		if got, ok := decodeNQN(field); !ok || got != nqn {
			t.Errorf("%q came back as %q, %t", nqn, got, ok)
		}
	})
}
