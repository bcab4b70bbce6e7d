package iscsi

import (
	"errors"
	"strings"
	"testing"
)

func TestNormalName(t *testing.T) {
	long := "iqn.2026-01.io.pollux:" + strings.Repeat("a", NameBytesMax-len("iqn.2026-01.io.pollux:"))
	for _, c := range []struct{ why, name, want string }{
		{"a domain and a name", "iqn.2026-01.io.pollux:disk-1.a:b", "iqn.2026-01.io.pollux:disk-1.a:b"},
		{"a domain alone", "iqn.1992-01.com.example", "iqn.1992-01.com.example"},
		{"capitals", "IQN.2026-01.IO.Pollux:Disk", "iqn.2026-01.io.pollux:disk"},
		{"as long as it may be", long, long},
		{"EUI-64", "eui.02004567A425678D", "eui.02004567a425678d"},
		{"NAA of 64 bits", "naa.52004567BA64678D", "naa.52004567ba64678d"},
		{"NAA of 128 bits", "naa.62004567BA64678D0123456789ABCDEF", "naa.62004567ba64678d0123456789abcdef"},

		{"empty", "", ""},
		{"too long", long + "a", ""},
		{"no type", "disk", ""},
		{"another type", "nqn.2026-01.io.pollux:disk", ""},
		{"no date", "iqn.io.pollux:disk", ""},
		{"a month that is none", "iqn.2026-13.io.pollux:disk", ""},
		{"a month of 0", "iqn.2026-00.io.pollux:disk", ""},
		{"no domain", "iqn.2026-01:disk", ""},
		{"an empty label", "iqn.2026-01.io..pollux:disk", ""},
		{"a label with a dash at its end", "iqn.2026-01.io.pollux-:disk", ""},
		{"nothing behind the colon", "iqn.2026-01.io.pollux:", ""},
		{"an underscore", "iqn.2026-01.io.pollux:a_b", ""},
		{"a slash", "iqn.2026-01.io.pollux:a/b", ""},
		{"a space", "iqn.2026-01.io.pollux:a b", ""},
		{"a NUL", "iqn.2026-01.io.pollux:a\x00", ""},
		{"a comma", "iqn.2026-01.io.pollux:a,i,0x1", ""},
		{"no ASCII", "iqn.2026-01.io.pollux:ä", ""},
		{"EUI of 15 digits", "eui.02004567A425678", ""},
		{"EUI with another letter", "eui.02004567A425678G", ""},
		{"NAA of 17 digits", "naa.52004567BA64678D0", ""},
	} {
		got, err := NormalName(c.name)
		if got != c.want || (err == nil) != (c.want != "") || err != nil && !errors.Is(err, ErrInvalid) {
			t.Errorf("%s: %q, %v", c.why, got, err)
		}
	}
}

func TestFullName(t *testing.T) {
	for name, want := range map[string]string{
		"disk1": DefaultNodeBase + ":disk1", "Disk1": DefaultNodeBase + ":disk1", "iqn.1992-01.com.example:a": "iqn.1992-01.com.example:a",
		"EUI.02004567A425678D": "eui.02004567a425678d", "iqn.nothing": "", "": "", "a/b": "",
	} {
		if got, err := fullName(DefaultNodeBase, name); got != want || (err == nil) != (want != "") {
			t.Errorf("%q: %q, %v", name, got, err)
		}
	}
}

func FuzzNormalName(f *testing.F) {
	for _, s := range []string{"iqn.2026-01.io.pollux:disk", "eui.02004567A425678D", "naa.62004567BA64678D0123456789ABCDEF", "iqn.2026-01.", "IQN."} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		name, err := NormalName(s)
		if err != nil {
			return
		}
		if again, err := NormalName(name); err != nil || again != name || !strings.EqualFold(name, s) {
			t.Errorf("%q becomes %q, and that %q, %v", s, name, again, err)
		}
	})
}
