package volume

import (
	"bytes"
	"testing"

	"github.com/pollux-storage/pollux/bdev"
	"github.com/pollux-storage/pollux/internal/sim"
	"github.com/pollux-storage/pollux/reactor"
	"github.com/pollux-storage/pollux/wal"
)

// partialHouse has a volume with blocks of 512 bytes, and stages.
func partialHouse(t *testing.T, seed uint64, cache WriteCache) (*house, *Volume, *wal.Stages) {
	t.Helper()
	h, stages := newStagedHouse(t, seed, 2, crashPoolBytes)
	return h, h.volumeOf(VolumeConfig{Name: "v0", Bytes: 4 << 20, BlockBytes: 512, LogBytes: crashLogBytes, Cache: cache}), stages
}

func filled(n int, with byte) []byte { return bytes.Repeat([]byte{with}, n) }

// TestPartsOfABlockKeepTheirOrder holds the first change of a block in the log, and lets others come in a known order: each of them that
// overlaps has its effect in that order, and no part is lost.
func TestPartsOfABlockKeepTheirOrder(t *testing.T) {
	type change struct {
		kind bdev.Kind
		lba  uint64
		n    uint64
	}
	for _, c := range []struct {
		name    string
		changes []change
	}{
		{"two parts", []change{{bdev.Write, 1, 1}, {bdev.Write, 3, 1}}},
		{"two that overlap", []change{{bdev.Write, 1, 4}, {bdev.Write, 3, 4}}},
		{"a part before the whole", []change{{bdev.Write, 1, 2}, {bdev.Write, 0, 8}}},
		{"a part after the whole", []change{{bdev.Write, 0, 8}, {bdev.Write, 1, 2}}},
		{"a part between two wholes", []change{{bdev.Write, 0, 8}, {bdev.Write, 1, 2}, {bdev.Write, 0, 16}}},
		{"the ends of two long ones", []change{{bdev.Write, 0, 20}, {bdev.Write, 20, 20}, {bdev.Write, 18, 4}}},
		{"a trim of the whole after a part", []change{{bdev.Write, 1, 2}, {bdev.Unmap, 0, 8}}},
		{"a part after a trim", []change{{bdev.Write, 0, 8}, {bdev.Unmap, 0, 8}, {bdev.Write, 1, 2}}},
		{"a trim of a part", []change{{bdev.Write, 0, 8}, {bdev.Unmap, 3, 2}}},
		{"zeroes over parts of three blocks", []change{{bdev.Write, 0, 24}, {bdev.WriteZeroes, 3, 17}, {bdev.Write, 4, 1}}},
		{"zeroes of all that there is", []change{{bdev.Write, 3, 2}, {bdev.WriteZeroes, 2, 5}}},
		{"longer than a record", []change{{bdev.Write, 3, 700}, {bdev.Write, 1, 700}, {bdev.Unmap, 9, 600}}},
	} {
		t.Run(c.name, func(t *testing.T) {
			for _, held := range []wal.Stage{wal.StageWrite, wal.StageFlush} {
				h, v, stages := partialHouse(t, 1, CacheNone)
				const size = 1024 * 512
				model := filled(size, 0xee)
				all := make([]*client, len(c.changes)+1)
				for i := range all {
					all[i] = h.client(v, 0) // one reactor: they come in this order
				}
				all[0].must(bdev.Write, 0, 1024, filled(size, 0xee))
				stages.Shut(held)
				for i, x := range c.changes {
					var data []byte
					part := model[x.lba*512:][:x.n*512]
					clear(part)
					if x.kind == bdev.Write {
						data = filled(len(part), byte(i+1))
						copy(part, data)
					}
					all[i].begin(x.kind, x.lba, x.n, data)
					h.w.RunFor(reactor.Millisecond)
				}
				stages.Open(held)
				for i := range c.changes {
					h.w.Run("it ends", func() bool { return all[i].e })
					if all[i].q.Status != bdev.StatusOK {
						t.Fatalf("change %d: %v", i, all[i].q.Status)
					}
				}
				look := func(when string) {
					t.Helper()
					got := make([]byte, size)
					h.client(v, 1).must(bdev.Read, 0, 1024, got)
					for at := 0; at < size; at += 512 {
						if !bytes.Equal(got[at:at+512], model[at:at+512]) {
							t.Fatalf("%s: block %d begins with %x, want %x", when, at/512, got[at], model[at])
						}
					}
				}
				look("at once")
				h.forced(v)
				look("at home")
				h.crash(func(i *sim.Image) *sim.Image { return i.Crash(sim.None) })
				v = h.find("v0")
				look("after a power cut")
				if v.first != nil || v.partials != 0 || v.claimWaiters != 0 {
					t.Error("claims are left")
				}
			}
		})
	}
}

// TestAPartOfABlockIsWrittenInAFullPool: zeroes of a part need no space where nothing is.
func TestZeroesOfPartsNeedNoSpace(t *testing.T) {
	h, v, _ := partialHouse(t, 1, CacheNone)
	k := h.client(v, 0)
	k.must(bdev.Unmap, 3, 100, nil)
	k.must(bdev.WriteZeroes, 205, 1, nil)
	h.forced(v)
	if v.alone != 0 {
		t.Fatalf("%d clusters for zeros", v.alone)
	}
}

// TestManyPartsAtOnce has more changes and reads under way than there is memory for: all of them end.
func TestManyPartsAtOnce(t *testing.T) {
	h, v, stages := partialHouse(t, 1, CacheVolatile)
	stages.Shut(wal.StageWrite)
	var all []*client
	for i := range uint64(600) {
		k := h.client(v, int(i%2))
		all = append(all, k)
		switch i % 3 {
		case 0:
			k.begin(bdev.Write, i*7, 9, make([]byte, 9*512))
		case 1:
			k.begin(bdev.Write, i*7%4000+1, 150, make([]byte, 150*512))
		default:
			k.begin(bdev.Read, i*7%4000+3, 77, make([]byte, 77*512))
		}
	}
	h.w.RunFor(10 * reactor.Millisecond)
	stages.Open(wal.StageWrite)
	for i, k := range all {
		h.w.Run("it ends", func() bool { return k.e })
		if k.q.Status != bdev.StatusOK {
			t.Fatalf("request %d: %v", i, k.q.Status)
		}
	}
	free := 0
	for b := v.bounces; b != nil; b = b.next {
		free++
	}
	for b := v.edges; b != nil; b = b.next {
		free++
	}
	if free != bouncesMax+edgesMax || v.first != nil {
		t.Fatalf("%d of %d pieces of memory came back", free, bouncesMax+edgesMax)
	}
}
