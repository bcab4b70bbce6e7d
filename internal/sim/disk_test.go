package sim

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"testing"

	"pgregory.net/rapid"
)

// disk makes one for a test.
func disk(t testing.TB, cfg Config) *Disk {
	t.Helper()
	d, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// sectors fills n sectors with a number each: value, and its place in the data.
func sectors(value, n uint64) []byte {
	b := make([]byte, n*SectorBytes)
	for i := range n {
		binary.LittleEndian.PutUint64(b[i*SectorBytes:], value)
		binary.LittleEndian.PutUint64(b[i*SectorBytes+8:], i)
	}
	return b
}

// value reads the number of a sector, 0 if it is zeros.
func value(read func(b []byte, off uint64), sector uint64) uint64 {
	var b [SectorBytes]byte
	read(b[:], sector*SectorBytes)
	return binary.LittleEndian.Uint64(b[:])
}

// do submits an operation and completes it.
func do(d *Disk, op *Op) Result {
	d.Submit(0, op)
	return d.Complete(0, op)
}

func write(d *Disk, v, lba, blocks uint64) *Op {
	return &Op{Kind: Write, LBA: lba, Blocks: blocks, Data: [][]byte{sectors(v, blocks*d.perLBA)}}
}

// twin is the same disk as one would describe it: for each sector the versions that a power failure may leave. The last that completed
// is read.
type twin struct {
	reads   []uint64
	durable []uint64
	pending [][]twinVersion // in the order in which they completed
}

type twinVersion struct {
	value, done uint64
}

// TestDiskAgainstItsTwin compares each sector's legal values after a power cut, exactly, at every step.
func TestDiskAgainstItsTwin(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		const size = 40
		blockSize := rapid.SampledFrom([]uint32{512, 4096}).Draw(t, "block size")
		per := uint64(blockSize / SectorBytes)
		durable := rapid.IntRange(0, 4).Draw(t, "no cache") == 0
		d, err := New(Config{Blocks: size, BlockSize: blockSize, Durable: durable, Seed: 1})
		if err != nil {
			t.Fatal(err)
		}
		n := size * per
		m := twin{make([]uint64, n), make([]uint64, n), make([][]twinVersion, n)}
		type flight struct {
			op     *Op
			value  uint64
			covers uint64
		}
		var flying []flight
		var completed uint64
		steps := rapid.Uint64Range(5, 40).Draw(t, "steps")
		for step := uint64(1); step <= steps; step++ {
			if len(flying) == 0 || rapid.Bool().Draw(t, "submit") {
				f := flight{op: &Op{
					Kind: Kind(rapid.IntRange(0, int(kinds)-1).Draw(t, "kind")),
					LBA:  rapid.Uint64Range(0, size-1).Draw(t, "lba"),
					FUA:  rapid.IntRange(0, 3).Draw(t, "fua") == 0,
				}, covers: completed}
				f.op.Blocks = rapid.Uint64Range(1, size-f.op.LBA).Draw(t, "blocks")
				switch f.op.Kind {
				case Write:
					f.value = step
					b := sectors(step, f.op.Blocks*per)
					cut := len(b) / 2 &^ (int(blockSize) - 1)
					f.op.Data = [][]byte{b[:cut], b[cut:]}
				case Read:
					f.op.Data = [][]byte{make([]byte, f.op.Blocks*uint64(blockSize))}
				case Flush:
					f.op.FUA = false
				}
				if d.Submit(int64(step), f.op) <= 0 {
					t.Fatal("it takes no time")
				}
				if f.op.Kind == Write {
					clear(f.op.Data[0]) // it was copied
				}
				flying = append(flying, f)
			} else {
				k := rapid.IntRange(0, len(flying)-1).Draw(t, "which")
				f := flying[k]
				flying = append(flying[:k], flying[k+1:]...)
				if f.op.Kind >= Write && f.op.Kind <= Unmap && rapid.IntRange(0, 9).Draw(t, "drop") == 0 {
					d.Drop(int64(step), f.op)
					continue
				}
				if r := d.Complete(int64(step), f.op); r != OK {
					t.Fatalf("%v: %v", f.op.Kind, r)
				}
				first, end := f.op.LBA*per, (f.op.LBA+f.op.Blocks)*per
				switch f.op.Kind {
				case Flush:
					for s := range n {
						for len(m.pending[s]) > 0 && m.pending[s][0].done <= f.covers {
							m.durable[s], m.pending[s] = m.pending[s][0].value, m.pending[s][1:]
						}
					}
				case Read:
					for s := first; s < end; s++ {
						if got := binary.LittleEndian.Uint64(f.op.Data[0][(s-first)*SectorBytes:]); got != m.reads[s] {
							t.Fatalf("sector %d reads as %d, want %d", s, got, m.reads[s])
						}
						if f.op.FUA {
							m.durable[s], m.pending[s] = m.reads[s], nil
						}
					}
				default:
					completed++
					for s := first; s < end; s++ {
						m.reads[s] = f.value
						if f.op.FUA || durable {
							m.durable[s], m.pending[s] = f.value, nil
						} else {
							m.pending[s] = append(m.pending[s], twinVersion{f.value, completed})
						}
					}
				}
			}
			i := d.Snapshot()
			legal := make([]map[uint64]bool, n)
			for s := range n {
				legal[s] = map[uint64]bool{m.durable[s]: true}
				for _, v := range m.pending[s] {
					legal[s][v.value] = true
				}
				for _, f := range flying {
					if f.op.Kind >= Write && f.op.Kind <= Unmap && s >= f.op.LBA*per && s < (f.op.LBA+f.op.Blocks)*per {
						legal[s][f.value] = true
					}
				}
			}
			// Each sector: the values that some choice leaves are those, no more and no fewer.
			found := make([]map[uint64]bool, n)
			for s := range n {
				found[s] = map[uint64]bool{value(i.ReadAt, s): true}
			}
			for k, p := range i.Pending() {
				found[p.Sector][pendingValue(i, k)] = true
			}
			if a, b := fmt.Sprint(found), fmt.Sprint(legal); a != b {
				t.Fatalf("after a power cut there may be\n%s, want\n%s", a, b)
			}
			for s := range n {
				if got := value(d.ReadAt, s); got != m.reads[s] {
					t.Fatalf("sector %d holds %d, want %d", s, got, m.reads[s])
				}
			}
		}
	})
}

// pendingValue is the number in the k-th pending sector.
func pendingValue(i *Image, k int) uint64 {
	for _, e := range i.pending {
		if uint64(k) < e.n {
			if e.data == nil {
				return 0
			}
			return binary.LittleEndian.Uint64(e.data[k*SectorBytes:])
		}
		k -= int(e.n)
	}
	return ^uint64(0)
}

func TestAFlushDoesNotCoverWhatCompletesDuringIt(t *testing.T) {
	d := disk(t, Config{Blocks: 8})
	before, during := write(d, 1, 0, 1), write(d, 2, 1, 1)
	d.Submit(0, during)
	do(d, before)
	flush := &Op{Kind: Flush}
	d.Submit(0, flush)
	d.Complete(0, during)
	d.Complete(0, flush)
	i := d.Snapshot().Crash(None)
	if a, b := value(i.ReadAt, 0), value(i.ReadAt, 8); a != 1 || b != 0 {
		t.Errorf("durable: %d and %d, want what had completed before the flush alone", a, b)
	}
}

func TestADurableSectorDoesNotBecomeOlder(t *testing.T) {
	for _, c := range []struct {
		name string
		last *Op
	}{
		{"written with FUA", &Op{Kind: Write, FUA: true, Blocks: 1, Data: [][]byte{sectors(9, 8)}}},
		{"read with FUA", &Op{Kind: Read, FUA: true, Blocks: 1, Data: [][]byte{make([]byte, 4096)}}},
		{"zeroed with FUA", &Op{Kind: Zeroes, FUA: true, Blocks: 1}},
	} {
		d := disk(t, Config{Blocks: 8})
		flush := &Op{Kind: Flush}
		do(d, write(d, 1, 0, 2))
		d.Submit(0, flush) // covers the write, and ends after what makes its sectors durable
		do(d, c.last)
		want := value(d.ReadAt, 0)
		d.Complete(0, flush)
		for i := range d.Snapshot().Images(1000, 1) {
			if got := value(i.ReadAt, 0); got != want {
				t.Errorf("%s: %d after a power cut, want %d", c.name, got, want)
			}
			if got := value(i.ReadAt, 8); got != 1 {
				t.Errorf("%s: the neighbour, which was flushed, is %d", c.name, got)
			}
		}
	}
}

func TestCrashOfADiskEndsWhatWasInFlight(t *testing.T) {
	d := disk(t, Config{Blocks: 8})
	do(d, write(d, 1, 0, 1))
	flying := write(d, 2, 0, 1)
	d.Submit(0, flying)
	d.Crash(Only(0, 9))
	for s, want := range []uint64{1, 2, 0} {
		if got := value(d.ReadAt, uint64(s)); got != want {
			t.Errorf("sector %d: %d, want %d", s, got, want)
		}
	}
	if d.Complete(0, flying) != Failed || value(d.ReadAt, 0) != 1 {
		t.Error("a write completed after the power had failed")
	}
	if len(d.Snapshot().Pending()) != 0 {
		t.Error("something is pending after a power cut")
	}
}

func TestImagesAreNotChangedByWhatComesAfter(t *testing.T) {
	d := disk(t, Config{Blocks: 1024})
	do(d, write(d, 1, 0, 600))
	do(d, &Op{Kind: Flush})
	i := d.Snapshot()
	h := i.Hash()
	do(d, write(d, 2, 100, 3))
	do(d, &Op{Kind: Unmap, Blocks: 512})
	do(d, &Op{Kind: Flush})
	other, err := Open(i, Config{Name: "other"})
	if err != nil {
		t.Fatal(err)
	}
	do(other, write(other, 3, 100, 1))
	do(other, &Op{Kind: Flush})
	if i.Hash() != h || value(i.ReadAt, 800) != 1 {
		t.Error("an image changed")
	}
	if a, b := value(d.ReadAt, 800), value(other.ReadAt, 800); a != 0 || b != 3 {
		t.Errorf("the disks hold %d and %d, want their own", a, b)
	}
	if a, b := d.Snapshot(), d.Snapshot(); a.Hash() == h || a.Hash() != b.Hash() {
		t.Error("the hash does not tell images apart")
	}
}

func TestPointsComeBeforeAnybodyElseHears(t *testing.T) {
	d := disk(t, Config{Blocks: 8})
	var got []string
	d.Watch(func(p Point) { got = append(got, fmt.Sprint(p.Stage, p.Kind, " ", len(d.Snapshot().Pending()))) })
	do(d, write(d, 1, 0, 1))
	do(d, &Op{Kind: Read, Blocks: 1, Data: [][]byte{make([]byte, 4096)}})
	do(d, &Op{Kind: Flush})
	want := "[0 write 8 1 write 8 0 flush 8 1 flush 0]"
	if s := fmt.Sprint(got); s != want {
		t.Errorf("%s, want %s", s, want)
	}
}

func TestDisksThatCannotBe(t *testing.T) {
	for _, c := range []Config{{}, {Blocks: 1, BlockSize: 1024}, {Blocks: 1 << 41}} {
		if _, err := New(c); err == nil {
			t.Errorf("%+v: was made", c)
		}
	}
}

func TestSpoilIsThereAtOnceAndForEver(t *testing.T) {
	d := disk(t, Config{Blocks: 8})
	do(d, write(d, 1, 0, 1))
	d.Spoil(512, bytes.Repeat([]byte{7}, 512))
	for i := range d.Snapshot().Images(1000, 1) {
		if got := value(i.ReadAt, 1); got != 0x0707070707070707 {
			t.Fatalf("%#x after a power cut", got)
		}
	}
	if len(d.Snapshot().Pending()) != 7 {
		t.Error("the rest of the write is not as it was")
	}
}
