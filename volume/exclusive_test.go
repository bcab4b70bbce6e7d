package volume

import (
	"errors"
	"testing"

	"github.com/pollux-storage/pollux/bdev"
	"github.com/pollux-storage/pollux/internal/sim"
	"github.com/pollux-storage/pollux/reactor"
	"github.com/pollux-storage/pollux/wal"
)

// TestAnExclusiveActSeesNoRequest: writers on two reactors go on around acts; no op is under way in any, and all of them end.
func TestAnExclusiveActSeesNoRequest(t *testing.T) {
	sim.Each(t, 2, nil, func(t *testing.T, seed uint64) {
		k := newCrashHarness(t, seed, crashPoolBytes)
		clients := k.clients(6)
		for range 12 {
			k.work(clients, 20)
			v := k.v[k.r.IntN(2)]
			acted := false
			if err := v.exclusive(func() error {
				acted = true
				for range 3 {
					if v.opsOut != 0 {
						t.Errorf("%d requests under way in an exclusive act", v.opsOut)
					}
					for _, c := range clients {
						if !c.busy {
							c.random(k.r)
						}
					}
					k.w.RunFor(10 * reactor.Millisecond)
				}
				return nil
			}); err != nil {
				t.Fatal(err)
			}
			if !acted {
				t.Fatal("the act was not done, and no error says so")
			}
		}
		k.rest(clients)
		for vol, b := range k.all() {
			k.compare("after the acts", vol, 0, b, k.m.tick, k.m.tick, false)
		}
	})
}

// TestAnExclusiveActHasADeadline: what does not end makes the act fail, undone, and the volume goes on; who waits for a long act is told to
// come again.
func TestAnExclusiveActHasADeadline(t *testing.T) {
	h, stages := newStagedHouse(t, 1, 2, crashPoolBytes)
	v := h.volumeOf(VolumeConfig{Name: "v0", Bytes: 8 << 20, LogBytes: crashLogBytes})
	stuck, late := h.client(v, 0), h.client(v, 1)
	stages.Shut(wal.StageAck)
	stuck.begin(bdev.Write, 0, 1, pageMemory(1))
	err := v.exclusive(func() error { t.Error("the act is done while a write is under way"); return nil })
	if !errors.Is(err, ErrBusy) {
		t.Fatalf("an act that waits for ever: %v", err)
	}
	stages.Open(wal.StageAck)
	h.w.Run("the write ends", func() bool { return stuck.e })
	late.must(bdev.Write, 8, 1, pageMemory(1))

	other := h.client(v, 0)
	if err := v.exclusive(func() error {
		late.begin(bdev.Write, 8, 1, pageMemory(1))
		h.w.RunFor(2 * reactor.Second)
		other.begin(bdev.Write, 9, 1, pageMemory(1))
		if h.w.RunFor(2 * reactor.Second); late.e {
			t.Error("a write was answered inside the act, before its deadline")
		}
		h.w.RunFor(2 * reactor.Second)
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	h.w.Run("all have ended", func() bool { return late.e && other.e })
	if late.q.Status != bdev.StatusBusy || other.q.Status != bdev.StatusOK {
		t.Fatalf("after 6 s: %v; after 4 s: %v", late.q.Status, other.q.Status)
	}
}
