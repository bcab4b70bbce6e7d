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
