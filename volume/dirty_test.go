package volume

import (
	"fmt"
	"iter"
	"math/bits"
	"math/rand/v2"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/pollux-storage/pollux/internal/invariant"
	"github.com/pollux-storage/pollux/wal"
)

// dirtyTwin is the dirty map as one would write it without regard to memory and time: everything that a record said of a block.
type dirtyTwin struct {
	shift  uint
	blocks map[uint64]dirtyHit
	whole  map[uint64]dirtyHit // by cluster; of placed ones the place is that of the first page
	crcs   map[uint64][]uint32
}

func newDirtyTwin(shift uint) *dirtyTwin {
	return &dirtyTwin{shift, map[uint64]dirtyHit{}, map[uint64]dirtyHit{}, map[uint64][]uint32{}}
}

func (m *dirtyTwin) replace(cluster uint64, h dirtyHit) {
	for b := range m.blocks {
		if b>>m.shift == cluster {
			delete(m.blocks, b)
		}
	}
	m.whole[cluster] = h
}

func (m *dirtyTwin) lookup(block uint64) dirtyHit {
	if h, ok := m.blocks[block]; ok {
		return h
	}
	h := m.whole[block>>m.shift]
	if h.from == dirtyPlaced {
		in := block & (1<<m.shift - 1)
		h.place += Place(in)
		h.crc = m.crcs[block>>m.shift][in]
	}
	return h
}

func (m *dirtyTwin) run(block, end uint64) dirtyRun {
	first := m.lookup(block)
	r := dirtyRun{first.from, 0, first.offset, first.place}
	for ; block < end; block++ {
		h := m.lookup(block)
		if h.from != first.from || r.blocks > 0 && block&(1<<m.shift-1) == 0 ||
			h.from == dirtyLog && h.offset != first.offset+wal.Offset(r.blocks*PageBytes) {
			break
		}
		r.blocks++
	}
	return r
}

func (m *dirtyTwin) newest() map[uint64]wal.LSN {
	n := map[uint64]wal.LSN{}
	for b, h := range m.blocks {
		n[b>>m.shift] = max(n[b>>m.shift], h.lsn)
	}
	for c, h := range m.whole {
		n[c] = max(n[c], h.lsn)
	}
	return n
}

func (m *dirtyTwin) lowest() (low wal.LSN) {
	for _, of := range []map[uint64]dirtyHit{m.blocks, m.whole} {
		for _, h := range of {
			if low == 0 || h.lsn < low {
				low = h.lsn
			}
		}
	}
	return low
}

// dirty walks over the slots of dirty clusters.
func (d *dirtyMap) dirty() iter.Seq[int32] {
	return func(yield func(int32) bool) {
		for _, i := range d.clusterHeads {
			for ; i != dirtyNone; i = d.clusters[i].chain {
				if !yield(i) {
					return
				}
			}
		}
	}
}

// lowest is the lowest LSN of any entry, 0 if nothing is dirty.
func (d *dirtyMap) lowest() wal.LSN {
	low := wal.LSN(0)
	for i := range d.dirty() {
		c := &d.clusters[i]
		if c.whole != dirtyHome && (low == 0 || c.wholeLSN < low) {
			low = c.wholeLSN
		}
		for w, set := range c.bits {
			for ; set != 0; set &= set - 1 {
				b := &d.blocks[d.findBlock(c.number<<d.shift+uint64(w*64+bits.TrailingZeros64(set)))]
				if low == 0 || b.lsn < low {
					low = b.lsn
				}
			}
		}
	}
	return low
}

// placedCRCs gives the CRCs of a cluster whose newest whole record is placed, until the map changes.
func (d *dirtyMap) placedCRCs(cluster uint64) []uint32 {
	i := d.findCluster(cluster)
	invariant.Check(i != dirtyNone && d.clusters[i].whole == dirtyPlaced, "volume: CRCs of a cluster that is not placed")
	at := int(d.clusters[i].crcs) << d.shift
	return d.crcs[at : at+1<<d.shift]
}

func TestDirtyMapAgreesWithItsTwin(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		const clusters = 6
		shift := uint(rapid.IntRange(4, 8).Draw(t, "shift"))
		blocks := uint64(clusters) << shift
		d := newDirtyMap(shift, dirtyRoom{clusters: clusters, blocks: int(blocks), placed: clusters})
		m := newDirtyTwin(shift)
		lsn, offset := wal.LSN(0), wal.Offset(0)
		newestAtLeast := map[uint64]wal.LSN{} // of a cluster whose newest record left, the list may remember it
		touch := func(c uint64) { newestAtLeast[c] = lsn }
		block := rapid.Uint64Range(0, blocks-1)
		cluster := rapid.Uint64Range(0, clusters-1)
		t.Repeat(map[string]func(*rapid.T){
			"write": func(t *rapid.T) {
				first := block.Draw(t, "first")
				n := min(rapid.Uint64Range(1, 40).Draw(t, "n"), blocks-first)
				lsn++
				offset += PageBytes
				for b := first; b < first+n; b++ {
					h := dirtyHit{from: dirtyLog, lsn: lsn, offset: offset, crc: uint32(offset) + uint32(b)}
					d.write(b, lsn, offset, h.crc)
					m.blocks[b] = h
					touch(b >> shift)
					offset += PageBytes
				}
			},
			"zero": func(t *rapid.T) {
				b := block.Draw(t, "block")
				lsn++
				d.zero(b, lsn)
				m.blocks[b] = dirtyHit{from: dirtyZeros, lsn: lsn}
				touch(b >> shift)
			},
			"clear": func(t *rapid.T) {
				c := cluster.Draw(t, "cluster")
				lsn++
				d.clear(c, lsn)
				m.replace(c, dirtyHit{from: dirtyZeros, lsn: lsn})
				touch(c)
			},
			"place": func(t *rapid.T) {
				c := cluster.Draw(t, "cluster")
				lsn++
				crcs := make([]uint32, 1<<shift)
				for i := range crcs {
					crcs[i] = uint32(lsn)<<8 + uint32(i)
				}
				d.place(c, lsn, Place(lsn)<<shift, crcs)
				m.replace(c, dirtyHit{from: dirtyPlaced, lsn: lsn, place: Place(lsn) << shift})
				m.crcs[c] = crcs
				touch(c)
			},
			"leave": func(t *rapid.T) {
				b := block.Draw(t, "block")
				h, ok := m.blocks[b]
				at := h.lsn
				if rapid.Bool().Draw(t, "an older one went home") {
					at--
				}
				if left, want := d.leave(b, at), ok && at == h.lsn; left != want {
					t.Fatalf("leave(%d, %d) = %v, newest is %d", b, at, left, h.lsn)
				} else if left {
					delete(m.blocks, b)
				}
			},
			"leave all of a cluster": func(t *rapid.T) {
				c := cluster.Draw(t, "cluster")
				for b := c << shift; b < (c+1)<<shift; b++ {
					if h, ok := m.blocks[b]; ok != d.leave(b, h.lsn) {
						t.Fatalf("leave(%d, %d), in the twin %v", b, h.lsn, ok)
					}
					delete(m.blocks, b)
				}
			},
			"leave whole": func(t *rapid.T) {
				c := cluster.Draw(t, "cluster")
				h, ok := m.whole[c]
				at := h.lsn
				if rapid.Bool().Draw(t, "an older one went home") {
					at--
				}
				if left, want := d.leaveWhole(c, at), ok && at == h.lsn; left != want {
					t.Fatalf("leaveWhole(%d, %d) = %v, newest is %d", c, at, left, h.lsn)
				} else if left {
					delete(m.whole, c)
				}
			},
			"": func(t *rapid.T) {
				for b := range blocks {
					if got, want := d.lookup(b), m.lookup(b); got != want {
						t.Fatalf("block %d: %+v, want %+v", b, got, want)
					}
				}
				for b := uint64(0); b < blocks; {
					got, want := d.run(b, blocks), m.run(b, blocks)
					if got != want {
						t.Fatalf("run at %d: %+v, want %+v", b, got, want)
					}
					b += got.blocks
				}
				if got, want := d.lowest(), m.lowest(); got != want {
					t.Fatalf("lowest LSN %d, want %d", got, want)
				}
				newest := m.newest()
				placed := 0
				for c, h := range m.whole {
					if got := d.wholeOf(c); got != h {
						t.Fatalf("whole of %d: %+v, want %+v", c, got, h)
					}
					if h.from == dirtyPlaced {
						placed++
						if !slices.Equal(d.placedCRCs(c), m.crcs[c]) {
							t.Fatalf("CRCs of cluster %d", c)
						}
					}
				}
				if want := (dirtyRoom{len(newest), len(m.blocks), placed}); d.used != want {
					t.Fatalf("used %+v, want %+v", d.used, want)
				}
				seen := 0
				for i := range d.dirty() {
					c := &d.clusters[i]
					if c.newest != newestAtLeast[c.number] || c.newest < newest[c.number] {
						t.Fatalf("the newest of cluster %d is %d, want %d", c.number, c.newest, newestAtLeast[c.number])
					}
					seen++
				}
				if seen != len(newest) {
					t.Fatalf("%d clusters listed, %d are dirty", seen, len(newest))
				}
			},
		})
	})
}

func TestDirtyRoomIsKeptAtTheDoor(t *testing.T) {
	d := newDirtyMap(4, dirtyRoom{clusters: 2, blocks: 3, placed: 1})
	one := dirtyRoom{clusters: 1, blocks: 2}
	if !d.reserve(one) || d.reserve(one) {
		t.Fatal("two blocks fit once into room for three")
	}
	d.unreserve(one)
	d.write(1, 1, 4096, 0)
	d.write(2, 1, 8192, 0)
	for _, c := range []struct {
		name string
		n    dirtyRoom
		want bool
	}{
		{"two more blocks", dirtyRoom{1, 2, 0}, false},
		{"two more clusters", dirtyRoom{2, 1, 0}, false},
		{"two placed", dirtyRoom{1, 0, 2}, false},
		{"just what is left", dirtyRoom{1, 1, 1}, true},
	} {
		if got := d.reserve(c.n); got != c.want {
			t.Errorf("%s: %v", c.name, got)
		}
	}
}

func TestDirtyCreditsComeBackWithTheCluster(t *testing.T) {
	d := newDirtyMap(4, dirtyRoom{clusters: 2, blocks: 4})
	d.write(1, 1, 4096, 0)
	d.addCredits(0, 18)
	d.write(2, 2, 8192, 0)
	d.addCredits(0, 18)
	d.leave(1, 1)
	if n := d.takeSurplus(); n != 0 {
		t.Fatalf("%d credits of a cluster that is still dirty", n)
	}
	if n := d.takeCredits(0); n != 36 {
		t.Fatalf("%d credits, want 36", n)
	}
	d.addCredits(0, 3)
	d.leave(2, 2)
	if a, b, c := d.takeSurplus(), d.takeSurplus(), d.takeCredits(0); a != 3 || b != 0 || c != 0 {
		t.Fatalf("surplus %d, then %d, credits %d: want 3, 0, 0", a, b, c)
	}
}

// A record comes home while the block is written again: the new one stays (V-21).
func TestDirtyRewrittenBlockStays(t *testing.T) {
	d := newDirtyMap(4, dirtyRoom{clusters: 2, blocks: 4, placed: 2})
	d.write(5, 7, 4096, 1)
	d.write(5, 8, 8192, 2)
	if d.leave(5, 7) || d.lookup(5) != (dirtyHit{from: dirtyLog, lsn: 8, offset: 8192, crc: 2}) {
		t.Fatal("the newer record left with the older one")
	}
	d.clear(0, 9)
	d.write(5, 10, 12288, 3)
	if !d.leaveWhole(0, 9) || d.lookup(5).lsn != 10 || d.lookup(6).from != dirtyHome {
		t.Fatal("a block written after the trim did not stay alone")
	}
}

func TestDirtyRefusesOlderRecords(t *testing.T) {
	d := newDirtyMap(4, dirtyRoom{clusters: 2, blocks: 4})
	d.write(5, 7, 4096, 1)
	defer func() {
		if recover() == nil {
			t.Fatal("an older record came after a newer one")
		}
	}()
	d.write(6, 6, 4096, 1)
}

func TestDirtyAllocatesNothing(t *testing.T) {
	const blocks = 1 << 10
	d := newDirtyMap(6, dirtyRoom{clusters: blocks >> 6, blocks: blocks, placed: 2})
	crcs := make([]uint32, 64)
	lsn := wal.LSN(0)
	room := dirtyRoom{clusters: 1, blocks: 1}
	if n := testing.AllocsPerRun(20, func() {
		for b := uint64(0); b < blocks; b += 3 {
			lsn++
			if !d.reserve(room) {
				continue
			}
			d.unreserve(room)
			d.write(b, lsn, wal.Offset(b)*PageBytes, 1)
			d.lookup(b)
		}
		d.addCredits(1, 2)
		lsn++
		d.zero(9, lsn)
		d.place(3, lsn, 64, crcs)
		d.clear(4, lsn)
		for b := uint64(0); b < blocks; {
			b += d.run(b, blocks).blocks
		}
		for b := range uint64(blocks) {
			d.leave(b, d.lookup(b).lsn)
		}
		d.leaveWhole(3, lsn)
		d.leaveWhole(4, lsn)
		d.takeSurplus()
		if d.used != (dirtyRoom{}) {
			t.Fatalf("%+v stayed", d.used)
		}
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func BenchmarkDirty(b *testing.B) {
	const blocks, volumeBlocks = 16 << 10, 1 << 28 // a log of 64 MiB, a volume of 1 TiB
	for _, pattern := range []string{"random", "sequential"} {
		order := make([]uint64, blocks)
		for i := range order {
			order[i] = uint64(i)
			if pattern == "random" {
				order[i] = rand.Uint64N(volumeBlocks)
			}
		}
		d := newDirtyMap(6, dirtyRoom{clusters: blocks, blocks: blocks})
		fill := func() {
			for i, n := range order {
				d.write(n, wal.LSN(i+1), wal.Offset(i+1)*PageBytes, 1)
			}
		}
		b.Run(fmt.Sprintf("%s/insert", pattern), func(b *testing.B) {
			for n := 0; n < b.N; n += blocks {
				b.StopTimer()
				d.reset()
				b.StartTimer()
				fill()
			}
		})
		b.Run(fmt.Sprintf("%s/lookup", pattern), func(b *testing.B) {
			d.reset()
			fill()
			b.ResetTimer()
			for n := range b.N {
				if d.lookup(order[n%blocks]).from != dirtyLog {
					b.Fatal("not found")
				}
			}
		})
		b.Run(fmt.Sprintf("%s/miss", pattern), func(b *testing.B) {
			for n := range b.N {
				d.lookup(uint64(n) + 1<<40)
			}
		})
		b.Run(fmt.Sprintf("%s/leave", pattern), func(b *testing.B) {
			for n := range b.N {
				if n%blocks == 0 {
					b.StopTimer()
					d.reset()
					fill()
					b.StartTimer()
				}
				d.leave(order[n%blocks], wal.LSN(n%blocks+1))
			}
		})
	}
}
