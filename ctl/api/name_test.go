package api

import (
	"errors"
	"regexp"
	"strings"
	"testing"
)

var hostName = regexp.MustCompile(`^[a-z0-9.-]{1,64}(:[a-z0-9.-]{1,64})?$`)

func TestHostName(t *testing.T) {
	for device, want := range map[string]string{
		"m0": "m0", "pool0/volume0": "pool0:volume0", "a.b-c/d": "a.b-c:d", strings.Repeat("a", 64): strings.Repeat("a", 64),
		"Malloc0": "malloc0-", "pool0:volume0": "pool0volume0-", "a b/c": "ab-", "p/": "p:x-", "p/v@s": "p:vs-", "ä": "x-",
		strings.Repeat("a", 65): strings.Repeat("a", 47) + "-", "a-0123456789abcdef": "a-0123456789abcdef-", "a/b/c": "a:bc-", "--": "--",
	} {
		got, err := HostName(device)
		hashed := strings.HasSuffix(want, "-") && device != want
		if err != nil || !hostName.MatchString(got) || !hashed && got != want || hashed && (!strings.HasPrefix(got, want) || len(got) != len(want)+16) {
			t.Errorf("%q becomes %q, %v, want %q", device, got, err, want)
		}
	}
	if _, err := HostName(""); !errors.Is(err, ErrName) {
		t.Error(err)
	}
}

// FuzzHostName: every name is one that hosts take, and no two are the same.
func FuzzHostName(f *testing.F) {
	for _, s := range []string{"m0", "pool0/volume0", "Malloc0", "malloc0", "a:b", "a/b", "a-0123456789abcdef"} {
		f.Add(s, "m0")
		f.Add(s, strings.ToLower(s))
	}
	f.Fuzz(func(t *testing.T, a, b string) {
		if a == "" || b == "" {
			return
		}
		x, err1 := HostName(a)
		y, err2 := HostName(b)
		if err1 != nil || err2 != nil || !hostName.MatchString(x) || (x == y) != (a == b) {
			t.Errorf("%q becomes %q, %v, and %q %q, %v", a, x, err1, b, y, err2)
		}
		if again, _ := HostName(x); a != x && again == x && !strings.Contains(x, ":") {
			t.Errorf("%q and %q both become %q", a, x, x)
		}
	})
}
