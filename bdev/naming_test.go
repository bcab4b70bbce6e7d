package bdev

import (
	"errors"
	"testing"

	"github.com/google/uuid"

	"github.com/pollux-storage/pollux/reactor"
)

func TestOtherAliases(t *testing.T) {
	group, err := reactor.Start(reactor.Config{Cores: []int{-1}, MemoryBytes: 16 << 20})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := group.Stop(t.Context()); err != nil {
			t.Error(err)
		}
	}()
	g := NewRegistry(group)
	a, err := NewMem(g, "a", uuid.New(), 512, 64)
	if err != nil {
		t.Fatal(err)
	}
	b, err := NewMem(g, "b", uuid.New(), 512, 64)
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range []struct {
		d       *Device
		aliases []string
		err     error
	}{{a, []string{"x", "y"}, nil}, {b, []string{"y"}, ErrExists}, {b, []string{"a"}, ErrExists}, {a, []string{"y", "z"}, nil}, {b, []string{"x"}, nil}} {
		if err := s.d.SetAliases(s.aliases); !errors.Is(err, s.err) {
			t.Errorf("%v for %s: %v", s.aliases, s.d.Name(), err)
		}
	}
	for name, want := range map[string]*Device{"a": a, "b": b, "x": b, "y": a, "z": a, a.UUID().String(): a} {
		if d, err := g.Lookup(name); d != want {
			t.Errorf("%s is %v, %v", name, d, err)
		}
	}
	for _, d := range g.Devices() {
		if err := g.Unregister(t.Context(), d.Name()); err != nil {
			t.Error(err)
		}
	}
	if err := a.SetAliases([]string{"w"}); !errors.Is(err, ErrNotFound) {
		t.Error(err)
	}
	if _, err := g.Lookup("z"); !errors.Is(err, ErrNotFound) {
		t.Error(err)
	}
}

// TestNamesThatAreFound: a name that no device has may mean one, until somebody has it.
func TestNamesThatAreFound(t *testing.T) {
	group, err := reactor.Start(reactor.Config{Cores: []int{-1}, MemoryBytes: 16 << 20})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := group.Stop(t.Context()); err != nil {
			t.Error(err)
		}
	}()
	g := NewRegistry(group)
	a, err := NewMem(g, "a", uuid.New(), 512, 64)
	if err != nil {
		t.Fatal(err)
	}
	g.Resolve(func(name string) *Device {
		if d, err := g.Lookup("a"); name == "the first" && err == nil {
			return d
		}
		return nil
	})
	if d, err := g.Lookup("the first"); d != a {
		t.Error(d, err)
	}
	if _, err := g.Lookup("the second"); !errors.Is(err, ErrNotFound) {
		t.Error(err)
	}
	h, err := g.Open("the first", OpenOptions{Who: "test"})
	if err != nil || h.Device() != a {
		t.Fatal(err)
	}
	h.Close()
	b, err := NewMem(g, "the first", uuid.New(), 512, 64)
	if err != nil {
		t.Fatal(err)
	}
	if d, err := g.Lookup("the first"); d != b {
		t.Error(d, err)
	}
	for _, name := range []string{"the first", "the first"} { // the one that has it, and then the one that is meant
		if err := g.Unregister(t.Context(), name); err != nil {
			t.Error(err)
		}
	}
	if n := len(g.Devices()); n != 0 {
		t.Error(n, "devices are left")
	}
}
