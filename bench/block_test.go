package bench

import (
	"bytes"
	"encoding/hex"
	"math/rand/v2"
	"strings"
	"testing"
)

func TestBlockGolden(t *testing.T) {
	b := make([]byte, 512)
	writeBlock(b, 0x1122334455667788, 0x99, 3)
	const want = "505842454e434831" + "8877665544332211" + "9900000000000000" + "03000000" + "00020000"
	if got := hex.EncodeToString(b[:32]); got != want {
		t.Errorf("the header has changed:\n got %s\nwant %s", got, want)
	}
	const rest = "db2afb28557ae1b1e9179c5d05ba5edbdc0c47ae394ea8517968e8e0e1737f38"
	if got := hex.EncodeToString(b[32:64]); got != rest {
		t.Errorf("checksums and payload have changed:\n got %s\nwant %s", got, rest)
	}
}

// staged is a block 7 of which generations 1 to 4 were acknowledged and 5 and 6 are in flight.
func staged() (ledger, view) {
	l := ledger{entries: fresh(16)}
	v := make([]view, 1)
	for range 4 {
		l.submit(7, v, false)
		l.complete(7, v, true)
	}
	l.submit(7, v, false)
	l.submit(7, v, false)
	l.look(7, v)
	return l, v[0]
}

func TestEachCorruptionIsCaughtAndNamed(t *testing.T) {
	const seed = 42
	block := func(lba uint64, gen uint32) []byte {
		b := make([]byte, 4096)
		writeBlock(b, seed, lba, gen)
		return b
	}
	for _, c := range []struct {
		name  string
		block func() []byte
		want  fault
		text  string
	}{
		{"the acknowledged one", func() []byte { return block(7, 4) }, faultNone, ""},
		{"one in flight", func() []byte { return block(7, 5) }, faultNone, ""},
		{"another in flight", func() []byte { return block(7, 6) }, faultNone, ""},
		{"stale", func() []byte { return block(7, 3) }, faultStale, "generation 3; expected generation 6 or 5 or 4"},
		{"never written", func() []byte { return block(7, 9) }, faultFuture, "the newest written is 6"},
		{"swapped", func() []byte { return block(8, 4) }, faultMisplaced, "generation 4 of LBA 8"},
		{"of an earlier run", func() []byte {
			b := make([]byte, 4096)
			writeBlock(b, 41, 7, 4)
			return b
		}, faultSeed, "0x29"},
		{"lost", func() []byte { return make([]byte, 4096) }, faultZero, "a write was lost"},
		{"something else", func() []byte { return bytes.Repeat([]byte("ext4"), 1024) }, faultForeign, "65 78 74 34"},
		{"a bit of the payload", func() []byte { b := block(7, 4); b[2047] ^= 8; return b }, faultPayload, "1 wrong bits of generation 4, the first in byte 2047"},
		{"a bit of the header", func() []byte { b := block(7, 4); b[17] ^= 1; return b }, faultHeader, "1 wrong bits of generation 4, the first in byte 17"},
		{"torn, new before old", func() []byte { b := block(7, 5); copy(b[1536:], block(7, 4)[1536:]); return b }, faultPayload,
			"bytes 0–1535 generation 5, bytes 1536–4095 generation 4"},
		{"torn, old before new", func() []byte { b := block(7, 4); copy(b[512:], block(7, 5)[512:]); return b }, faultPayload,
			"bytes 0–511 generation 4, bytes 512–4095 generation 5"},
		{"half a block", func() []byte { b := block(7, 4); clear(b[2048:]); return b }, faultPayload, "bytes 0–2047 generation 4, bytes 2048–4095 unknown"},
		{"garbage under a good header", func() []byte {
			b := block(7, 4)
			r := rand.New(rand.NewPCG(1, 2))
			for i := 40; i < len(b); i++ {
				b[i] = byte(r.Uint32())
			}
			return b
		}, faultPayload, "like no generation"},
	} {
		t.Run(c.name, func(t *testing.T) {
			l, v := staged()
			b := c.block()
			f := checkBlock(b, seed, 7, &v, &l.entries[7])
			if f != c.want {
				t.Fatalf("judged %v, want %v", f, c.want)
			}
			if f != faultNone {
				if s := describe(b, f, seed, 7, &v, &l.entries[7]); !strings.Contains(s, c.text) {
					t.Errorf("%q does not say %q", s, c.text)
				}
			}
		})
	}
}

func TestABlockThatWasNeverWrittenMayHoldAnything(t *testing.T) {
	l := ledger{entries: fresh(1)}
	v := make([]view, 1)
	l.look(0, v)
	for _, b := range [][]byte{make([]byte, 512), bytes.Repeat([]byte{1}, 512)} {
		if f := checkBlock(b, 1, 0, &v[0], &l.entries[0]); f != faultNone {
			t.Errorf("judged %v", f)
		}
	}
}

func TestZerosAreRightAfterATrimAlone(t *testing.T) {
	l := ledger{entries: fresh(1)}
	zeros, v := make([]byte, 512), make([]view, 1)
	judge := func() fault {
		l.look(0, v)
		return checkBlock(zeros, 1, 0, &v[0], &l.entries[0])
	}
	step := func(trim bool) {
		l.submit(0, v, trim)
		l.complete(0, v, true)
	}
	step(false)
	if f := judge(); f != faultZero {
		t.Errorf("after a write: %v", f)
	}
	step(true)
	if f := judge(); f != faultNone {
		t.Errorf("after a trim: %v", f)
	}
	old := make([]byte, 512)
	writeBlock(old, 1, 0, 1)
	if f := checkBlock(old, 1, 0, &v[0], &l.entries[0]); f != faultStale {
		t.Errorf("the block from before the trim: %v", f)
	}
	step(false)
	if f := judge(); f != faultZero {
		t.Errorf("after another write: %v", f)
	}
}

func BenchmarkWriteBlock(b *testing.B) {
	buf := make([]byte, 4096)
	b.SetBytes(4096)
	for b.Loop() {
		writeBlock(buf, 1, 2, 3)
	}
}

func BenchmarkCheckBlock(b *testing.B) {
	l, v := staged()
	buf := make([]byte, 4096)
	writeBlock(buf, 1, 7, 4)
	b.SetBytes(4096)
	for b.Loop() {
		if checkBlock(buf, 1, 7, &v, &l.entries[7]) != faultNone {
			b.Fatal("judged wrong")
		}
	}
}
