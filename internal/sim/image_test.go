package sim

import (
	"fmt"
	"strings"
	"testing"
)

// content is the numbers of the first n sectors of an image.
func content(i *Image, n uint64) string {
	var s []string
	for k := range n {
		s = append(s, fmt.Sprint(value(i.ReadAt, k)))
	}
	return strings.Join(s, " ")
}

// pendingDisk has a flushed write, two completed ones of which the second overlaps, and one in flight. Blocks are sectors.
func pendingDisk(t *testing.T) *Disk {
	d := disk(t, Config{Blocks: 4096, BlockSize: 512})
	do(d, write(d, 1, 0, 4))
	do(d, &Op{Kind: Flush})
	do(d, write(d, 2, 0, 2))
	do(d, write(d, 3, 1, 1))
	d.Submit(0, write(d, 4, 2, 1))
	return d
}

func TestAllImagesWhenTheyAreFew(t *testing.T) {
	i := pendingDisk(t).Snapshot()
	seen := map[string]int{}
	for c := range i.Images(12, 1) {
		seen[content(c, 5)]++
		if len(c.Pending()) != 0 {
			t.Error("an image is not decided")
		}
	}
	// The first sector is 1 or 2, the second 1, 2 or 3, the third 1 or 4.
	for _, a := range []int{1, 2} {
		for _, b := range []int{1, 2, 3} {
			for _, c := range []int{1, 4} {
				s := fmt.Sprint(a, b, c, 1, 0)
				if seen[s] != 1 {
					t.Errorf("%q: %d times", s, seen[s])
				}
				delete(seen, s)
			}
		}
	}
	if len(seen) > 0 {
		t.Errorf("images that cannot be: %v", seen)
	}
	n := 0
	for range disk(t, Config{Blocks: 1}).Snapshot().Images(100, 1) {
		n++
	}
	if n != 1 {
		t.Errorf("%d images of a disk on which nothing is pending", n)
	}
}

func TestSomeImagesWhenTheyAreMany(t *testing.T) {
	d := pendingDisk(t)
	for k := range uint64(10) {
		do(d, write(d, 100+k, 8*k, 8))
	}
	i := d.Snapshot()
	for _, limit := range []int{0, 2, 11, 100, 1000} {
		run := func(seed uint64) (list []string, different map[string]bool) {
			different = map[string]bool{}
			for c := range i.Images(limit, seed) {
				list = append(list, c.String()+fmt.Sprint(c.Hash()))
				different[content(c, 80)] = true
			}
			return list, different
		}
		list, different := run(5)
		if len(list) != max(limit, 2) {
			t.Errorf("limit %d: %d images", limit, len(list))
		}
		if !different[content(i.Crash(None), 80)] || !different[content(i.Crash(All), 80)] {
			t.Errorf("limit %d: none or all of what is pending is missing", limit)
		}
		if len(different) < len(list)*3/4 {
			t.Errorf("limit %d: only %d different images", limit, len(different))
		}
		if again, _ := run(5); fmt.Sprint(again) != fmt.Sprint(list) {
			t.Errorf("limit %d: the same seed gives others", limit)
		}
		if other, _ := run(6); limit > 2 && fmt.Sprint(other) == fmt.Sprint(list) {
			t.Errorf("limit %d: another seed gives the same", limit)
		}
	}
	// The regular ones are all there when there is room for them.
	how := map[string]bool{}
	for c := range i.Images(1000, 1) {
		how[c.String()] = true
	}
	for _, s := range []string{"what comes before pending write 3", "only pending write 12", "all but pending write 0", "only pending sector 83", "all but pending sector 7"} {
		if !how[s] {
			t.Errorf("no image %q", s)
		}
	}
}

func TestEachImageObeysTheRules(t *testing.T) {
	d := disk(t, Config{Blocks: 256, BlockSize: 512, Seed: 3})
	r := Stream(3, "test")
	durable, newest := make([]uint64, 256), make([]uint64, 256)
	var flying []*Op
	flushed := uint64(0) // the last write before the last flush
	for v := uint64(1); v < 300; v++ {
		lba := r.Uint64N(240)
		op := write(d, v, lba, 1+r.Uint64N(16))
		for s := lba; s < lba+op.Blocks; s++ {
			newest[s] = v
		}
		if d.Submit(0, op); r.IntN(3) == 0 {
			flying = append(flying, op)
			continue
		}
		d.Complete(0, op)
		if v%20 == 0 {
			for _, op := range flying {
				d.Complete(0, op)
			}
			flying = nil
			do(d, &Op{Kind: Flush})
			flushed = v
			for s := range durable {
				durable[s] = value(d.ReadAt, uint64(s))
			}
		}
		if v%7 > 0 {
			continue
		}
		seen := map[uint64]bool{}
		for c := range d.Snapshot().Images(40, v) {
			for s := range durable {
				// What was flushed may only have been followed by what was written later.
				got := value(c.ReadAt, uint64(s))
				if got != durable[s] && got <= flushed || got > newest[s] {
					t.Fatalf("%v after write %d: sector %d is %d, was durable as %d, last written as %d", c, v, s, got, durable[s], newest[s])
				}
			}
			seen[c.Hash()] = true
		}
		if v-flushed > 3 && len(seen) < 4 {
			t.Errorf("after write %d only %d different images", v, len(seen))
		}
	}
}

func TestStoresShareUntilTheyWrite(t *testing.T) {
	s := newStore(3 * tableSectors)
	s.write(0, 3, sectors(1, 3))
	a := s.copy()
	b := a.share()
	if s.page(0) != a.page(0) || a.page(0) != b.page(0) {
		t.Error("copies do not share")
	}
	b.write(1, 1, nil)
	s.write(0, 8, nil)
	get := func(s *store) string {
		at := func(b []byte, off uint64) { s.read(off/SectorBytes, b) }
		return fmt.Sprint(value(at, 0), value(at, 1), value(at, 2))
	}
	if x := get(&s) + ", " + get(&a) + ", " + get(&b); x != "0 0 0, 1 1 1, 1 0 1" {
		t.Errorf("they hold %s", x)
	}
	if s.page(0) != nil || s.tables[1] != nil {
		t.Error("zeros take memory")
	}
}
