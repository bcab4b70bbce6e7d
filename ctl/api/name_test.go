package api

import (
	"errors"
	"regexp"
	"strings"
	"testing"
)

var hostName = regexp.MustCompile(`^[a-z0-9.-]{1,64}(:[a-z0-9.-]{1,64})?$`)

func TestHostName(t *testing.T) {
	const hash = "-[0-9a-f]{16}"
	for device, want := range map[string]string{
		"m0": "m0", "pool0/volume0": "pool0:volume0", "a.b-c/d": `a\.b-c:d`, strings.Repeat("a", 64): strings.Repeat("a", 64), "--": "--",
		"Malloc0": "malloc0" + hash, "pool0:volume0": "pool0volume0" + hash, "a b/c": "ab" + hash + ":c", "p/": "p:x" + hash, "p/v@s": "p:vs" + hash, "ä": "x" + hash,
		strings.Repeat("a", 65): strings.Repeat("a", 47) + hash, "a-0123456789abcdef": "a-0123456789abcdef" + hash, "a/b/c": "a:bc" + hash,
	} {
		got, err := HostName(device)
		if err != nil || !hostName.MatchString(got) || !regexp.MustCompile("^"+want+"$").MatchString(got) {
			t.Errorf("%q becomes %q, %v, want %s", device, got, err, want)
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
