package volume

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"

	"github.com/pollux-storage/pollux/bdev"
	"github.com/pollux-storage/pollux/internal/sim"
)

// This file fills a pool to its last cluster while there are snapshots (V-27): what is overwritten then needs new places.

// tries writes to random blocks inside one cluster each, and tells how many of the writes were refused for want of space. Those leave what was there.
func (w *snapshotWorld) tries(n int) (refused int) {
	w.t.Helper()
	for range n {
		at := w.r.Uint64N(snapshotBlocks - 16)
		blocks := 1 + w.r.Uint64N(16-at%16)
		data := pageMemory(int(blocks))
		w.seq = fillCounting(data, w.seq)
		switch s := w.c.do(bdev.Write, at, blocks, data); s {
		case bdev.StatusOK:
			copy(w.head[at*PageBytes:], data)
		case bdev.StatusNoSpace:
			refused++
		default:
			w.t.Fatalf("writing %d blocks at %d: %v", blocks, at, s)
		}
	}
	return refused
}

// fill writes clusters to another volume, and then blocks to new clusters, until both are refused. It tells which watermarks were passed.
func (w *snapshotWorld) fill(filler *Volume) (told []Fill) {
	w.t.Helper()
	k := w.client(filler, 0)
	data := pageMemory(16)
	for at, size := uint64(0), uint64(16); ; at += 16 {
		s := k.do(bdev.Write, at, size, data[:size*PageBytes])
		if f := w.filled(); len(told) == 0 || told[len(told)-1] != f {
			told = append(told, f)
		}
		switch {
		case s == bdev.StatusOK:
		case s == bdev.StatusNoSpace && size == 16:
			size = 1
		case s == bdev.StatusNoSpace:
			k.close()
			return told
		default:
			w.t.Fatal(s)
		}
	}
}

func (w *snapshotWorld) filled() Fill {
	w.t.Helper()
	i, err := w.pool.Info()
	if err != nil {
		w.t.Fatal(err)
	}
	return i.Fill
}

// TestAFullPoolWithSnapshots: with volumes that snapshots hold to their old places, a full pool refuses what needs new ones and loses nothing, also over a
// power cut; a deletion of a snapshot gives room, and writes go on.
func TestAFullPoolWithSnapshots(t *testing.T) {
	for _, cut := range []bool{false, true} {
		t.Run(fmt.Sprint("a power cut ", cut), func(t *testing.T) {
			sim.Each(t, 3, nil, func(t *testing.T, seed uint64) {
				w := &snapshotWorld{house: newHouse(t, seed, 2, 64<<20), r: sim.Stream(seed, "snapshots"), head: make([]byte, snapshotBlocks*PageBytes)}
				w.v = w.volume("v0", snapshotBlocks*PageBytes)
				filler := w.volume("filler", 1<<30)
				w.c = w.client(w.v, 1)
				for at := uint64(0); at+16 <= snapshotBlocks; at += 16 {
					w.put(at, 16)
				}
				w.take("s0")
				for at := uint64(0); at < 500; at += 16 { // s0 has these clusters alone
					w.put(at, 16)
				}
				w.take("s1")
				w.put(160, 16) // and these are the head's own
				w.put(320, 16)
				w.forced(w.v)

				told := w.fill(filler) // what was reserved and is not needed comes back, so it may seem less full for a while
				if last := len(told) - 1; told[last] != FillFull || slices.Index(told, FillHigh) < 0 || slices.Index(told, FillCritical) < slices.Index(told, FillHigh) {
					t.Fatalf("told %v", told)
				}
				if refused := w.tries(40); refused == 0 {
					t.Fatal("a full pool takes overwrites of what snapshots have")
				}
				w.put(162, 4) // in place
				w.compare("full")
				again := func() {
					if cut {
						w.again()
						w.compare("full, after a power cut")
						w.put(322, 4)
						w.forced(w.v)
						w.again()
						w.compare("full, after another one")
					}
				}
				again()
				if refused := w.tries(20); refused == 0 {
					t.Fatal("there is room, and nobody made any")
				}
				if _, err := w.v.CloneSnapshot("s0", VolumeConfig{Name: "c0", LogBytes: 6 << 20}); !errors.Is(err, ErrNoSpace) {
					t.Fatalf("a clone in a full pool: %v", err)
				}
				w.c.must(bdev.Unmap, 640, 32, nil) // a trim needs no room that a full pool has not; it frees none either
				clear(w.head[640*PageBytes : 672*PageBytes])
				again()

				w.drop(0)
				w.cleared()
				w.forced(w.v)
				w.compare("one snapshot less")
				for at := uint64(512); at < 512+8*16; at += 16 { // s1 has these, and now there are places for them
					w.put(at+5, 3)
				}
				w.forced(w.v)
				w.compare("with room again")
				again()
				if err := w.v.DeleteSnapshot(context.Background(), "s1"); err != nil {
					t.Fatal(err)
				}
				w.old = w.old[:0]
				w.cleared()
				if refused := w.tries(60); refused > 0 {
					t.Fatalf("%d writes are refused by a pool with %v", refused, w.filled())
				}
				w.forced(w.v)
				again()
				w.compare("the end")
			})
		})
	}
}
