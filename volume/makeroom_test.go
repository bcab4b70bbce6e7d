package volume

import (
	"errors"
	"testing"

	"github.com/pollux-storage/pollux/internal/sim"
	"github.com/pollux-storage/pollux/reactor"
)

// TestALogInTooManyPiecesIsNotMade: it could not be opened, and with it the pool could not.
func TestALogInTooManyPiecesIsNotMade(t *testing.T) {
	h := newHouse(t, 1, 1, 64<<20)
	var all [1100]Place
	give := func(which func(i int) bool) {
		h.w.On(0, func(*reactor.Reactor) {
			for i, p := range all {
				if p != 0 && which(i) {
					h.pool.alloc.GiveBack(p, uint64(h.pool.shape.Blocks()))
					all[i] = 0
				}
			}
		})
	}
	h.w.On(0, func(*reactor.Reactor) { h.pool.alloc.GrantClusters(all[:], Ordinary) })
	give(func(i int) bool { return i%24 != 0 }) // runs of 23 clusters
	make := func(bytes uint64) error {
		_, err := h.pool.CreateVolume(VolumeConfig{Name: "v0", Bytes: 8 << 20, LogBytes: bytes})
		return err
	}
	if err := make(8 << 20); !errors.Is(err, ErrNoSpace) {
		t.Fatalf("a log of 8 MiB in six pieces: %v", err)
	}
	if n := len(h.pool.volumes); n != 0 {
		t.Fatalf("there are %d volumes", n)
	}
	h.crash(func(i *sim.Image) *sim.Image { return i.Crash(sim.All) }) // the pool opens
	if err := make(8 << 20); err != nil {
		t.Fatal(err)
	}
}
