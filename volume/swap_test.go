package volume

import (
	"bytes"
	"testing"

	"github.com/pollux-storage/pollux/bdev"
	"github.com/pollux-storage/pollux/internal/sim"
	"github.com/pollux-storage/pollux/reactor"
)

// swap begins a compare-and-write of a block: old must be there, and new takes its place.
func (k *client) swap(lba uint64, old, next []byte) {
	k.e = false
	k.h.w.On(k.r.Index(), func(*reactor.Reactor) {
		k.q.Kind, k.q.LBA, k.q.Blocks, k.q.FUA = bdev.CompareAndWrite, lba, 1, false
		k.q.SetData(old)
		k.q.Data2 = [][]byte{next}
		k.c.Submit(&k.q)
	})
}

// TestTwoHostsCompareAndWriteOneBlock (V-52): two hosts, each on a reactor of its own, count in one block, while others write beside it, trim
// around it, and the power goes. Each number is given once, and the count is that of the successes. Who comes too late hears at which byte.
func TestTwoHostsCompareAndWriteOneBlock(t *testing.T) {
	for _, size := range []uint64{512, PageBytes} {
		sim.Each(t, 2, nil, func(t *testing.T, seed uint64) {
			h := newHouse(t, seed, 3, 64<<20)
			v, err := h.pool.CreateVolume(VolumeConfig{Name: "v0", Bytes: 4 << 20, BlockBytes: uint32(size), LogBytes: crashLogBytes})
			if err != nil {
				t.Fatal(err)
			}
			const lba, at = 13, 24 // byte of the count in its block
			r := sim.Stream(seed, "hosts")
			count := func() []byte { return make([]byte, size) }
			type host struct {
				*client
				old, next []byte
			}
			var won uint64
			for round := range 3 {
				hosts := []*host{{h.client(v, 0), count(), count()}, {h.client(v, 1), count(), count()}}
				beside := h.client(v, 2)
				beside.e = true
				guess := make([]byte, size)
				h.client(v, 0).must(bdev.Read, lba, 1, guess)
				if got := le.Uint64(guess[at:]); got != won {
					t.Fatalf("round %d begins with %d, and %d have succeeded", round, got, won)
				}
				late := 0
				for range 60 {
					for _, k := range hosts {
						le.PutUint64(k.old[at:], won)
						le.PutUint64(k.next[at:], won+1)
						k.swap(lba, k.old, k.next)
					}
					if beside.e {
						switch r.Uint32N(3) {
						case 0:
							beside.begin(bdev.Unmap, lba+1, 1+r.Uint64N(9), nil)
						case 1:
							beside.begin(bdev.WriteZeroes, r.Uint64N(lba), 1, nil)
						default:
							beside.begin(bdev.Write, lba-1, 1, count())
						}
					}
					h.w.Run("both hosts have heard", func() bool { return hosts[0].e && hosts[1].e })
					n := 0
					for _, k := range hosts {
						switch k.q.Status {
						case bdev.StatusOK:
							n++
						case bdev.StatusMiscompare:
							if late++; k.q.Detail != at {
								t.Fatalf("a miscompare at byte %d, want %d", k.q.Detail, at)
							}
						default:
							t.Fatalf("compare-and-write: %v", k.q.Status)
						}
					}
					if n != 1 {
						t.Fatalf("%d hosts have both counted from %d", n, won)
					}
					won++
				}
				if late != 60 {
					t.Fatalf("%d were too late of 60", late)
				}
				h.w.Run("the other one ends", func() bool { return beside.e })
				if round == 1 {
					h.forced(v)
				}
				h.crash(func(i *sim.Image) *sim.Image { return i.Crash(sim.None) })
				v = h.find("v0")
			}
		})
	}
}

// TestACopyIsOfOneMoment: a copy and a write of its source, on two reactors: the target has the old bytes or the new ones, not both.
func TestACopyIsOfOneMoment(t *testing.T) {
	sim.Each(t, 2, nil, func(t *testing.T, seed uint64) {
		h := newHouse(t, seed, 2, 64<<20)
		v := h.volume("v0", 4<<20)
		w, c := h.client(v, 0), h.client(v, 1)
		const n = 8
		for i := range byte(20) {
			w.begin(bdev.Write, 0, n, bytes.Repeat([]byte{i + 1}, n*PageBytes))
			c.e = false
			h.w.On(1, func(*reactor.Reactor) {
				c.q.Kind, c.q.LBA, c.q.LBA2, c.q.Blocks, c.q.FUA = bdev.Copy, 100, 0, n, false
				c.c.Submit(&c.q)
			})
			h.w.Run("both end", func() bool { return w.e && c.e })
			got := pageMemory(n)
			w.must(bdev.Read, 100, n, got)
			if got[0] != i && got[0] != i+1 || !bytes.Equal(got, bytes.Repeat(got[:1], len(got))) {
				t.Fatalf("write %d beside a copy: the copy begins with %d and ends with %d", i+1, got[0], got[len(got)-1])
			}
		}
	})
}
