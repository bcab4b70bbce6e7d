package volume

import (
	"testing"

	"github.com/pollux-storage/pollux/bdev"
	"github.com/pollux-storage/pollux/reactor"
)

// TestPassesShareACheckpoint: while a few writes come all the time their passes share a checkpoint each second; when no more come the volume makes
// one at once, and then nothing.
func TestPassesShareACheckpoint(t *testing.T) {
	h := newHouse(t, 1, 1, 64<<20)
	v := h.volume("v0", 32<<20)
	k := h.client(v, 0)
	k.must(bdev.Write, 0, 1, pageMemory(1))
	h.forced(v)
	before := h.stats(v)
	for n := range uint64(150) {
		k.must(bdev.Write, n*40%8192, 1, pageMemory(1))
		h.w.RunFor(20 * reactor.Millisecond)
	}
	s := h.stats(v)
	if n := s.Checkpoints - before.Checkpoints; n < 2 || n > 4 {
		t.Errorf("%d checkpoints in 3 s", n)
	}
	if n := s.HomePasses - before.HomePasses; n < 20 || s.Dirty > 15 {
		t.Errorf("%d passes in 3 s, %d blocks not home", n, s.Dirty)
	}
	h.w.RunFor(3 * flushPeriod)
	if s = h.stats(v); s.Home != s.Appended || s.Dirty != 0 {
		t.Errorf("a volume that rests: LSN %d of %d is in a checkpoint, %d blocks are not home", s.Home, s.Appended, s.Dirty)
	}
	at := s.Checkpoints
	h.w.RunFor(10 * reactor.Second)
	if s = h.stats(v); s.Checkpoints != at {
		t.Errorf("%d checkpoints of nothing", s.Checkpoints-at)
	}
}
