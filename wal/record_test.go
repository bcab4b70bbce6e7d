package wal

import (
	"bytes"
	"encoding/hex"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

var golden = flag.Bool("golden", false, "write the golden files anew")

// goldenPages are pages as a log writes them, by name.
func goldenPages() map[string][]byte {
	all := make([]byte, PageBytes)
	h := header{
		offset: 0x0102030405060708 &^ 0xfff, volume: ringVolume, lineage: 0x1112131415161718, life: 0x2122232425262728,
		epoch: 0x3132333435363738, first: 0x4142434445464748, durable: 0x5152535455565758, pages: 1,
	}
	for k := KindWrite; k < kindEnd; k++ {
		r := Record{Kind: k, Flags: 0x80 | uint8(k), Pages: uint16(k), CRC: 0xa0b0c0d0 + uint32(k), Block: 0x6162636465666768, Blocks: 0x7172737475767778, Place: 0x8182838485868788}
		copy(r.Extra[:], "twenty-four bytes extra.")
		r.put(recordAt(all, h.records))
		h.records++
		h.pages += int(k)
	}
	h.put(all)
	pad, life := bytes.Repeat([]byte{0xff}, PageBytes), bytes.Repeat([]byte{0xff}, PageBytes)
	h.records, h.pages, h.flags = 0, 77, flagPad
	h.put(pad)
	h.pages, h.flags, h.prevLife, h.prevLSN = 1, flagLife, 0x2122232425262727, 0x4142434445464747
	h.boot = ringBoot
	h.put(life)
	return map[string][]byte{"records": all, "pad": pad, "life": life}
}

// draw writes a page as text: the rows that are not zero.
func draw(page []byte) string {
	var b strings.Builder
	for at := 0; at < len(page); at += 16 {
		if row := page[at:][:16]; !bytes.Equal(row, make([]byte, 16)) {
			fmt.Fprintf(&b, "%4d  %s %s\n", at, hex.EncodeToString(row[:8]), hex.EncodeToString(row[8:]))
		}
	}
	return b.String()
}

// The bytes are those of docs/format.md, and stay what they are.
func TestGoldenBatches(t *testing.T) {
	for name, page := range goldenPages() {
		file := filepath.Join("testdata", name+".txt")
		if *golden {
			if err := os.WriteFile(file, []byte(draw(page)), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		want, err := os.ReadFile(file)
		if err != nil {
			t.Fatalf("%v; -golden makes it", err)
		}
		if got := draw(page); got != string(want) {
			t.Errorf("%s moved:\n%s\nwant\n%s", name, got, want)
		}
		var h header
		if err := h.get(page); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		again := make([]byte, PageBytes)
		for i := range h.records {
			var r Record
			if err := r.get(recordAt(page, i)); err != nil || r.Kind != Kind(i+1) {
				t.Errorf("%s: record %d: %v, %v", name, i, r.Kind, err)
			}
			r.put(recordAt(again, i))
		}
		if h.put(again); !bytes.Equal(again, page) {
			t.Errorf("%s: read and written again it differs", name)
		}
	}
}

// Every bit of a header page is held by its magic or its checksum, and so is every end.
func TestEveryBitOfAHeaderCounts(t *testing.T) {
	page := goldenPages()["records"]
	var h header
	for bit := range len(page) * 8 {
		page[bit/8] ^= 1 << (bit % 8)
		if err := h.get(page); !errors.Is(err, ErrEnd) {
			t.Fatalf("bit %d flipped: %v", bit, err)
		}
		page[bit/8] ^= 1 << (bit % 8)
	}
	for end := range len(page) {
		torn := append(bytes.Clone(page[:end]), make([]byte, PageBytes-end)...)
		if err := h.get(torn); err == nil && !bytes.Equal(torn, page) {
			t.Fatalf("only %d bytes: accepted", end)
		}
	}
}

func FuzzHeader(f *testing.F) {
	for _, page := range goldenPages() {
		f.Add(page)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		page := make([]byte, PageBytes)
		copy(page, b)
		reheader(func(b []byte) { copy(b, batchMagic[:]) })(page)
		var h header
		if err := h.get(page); err != nil {
			t.Fatalf("whole, but %v", err)
		}
		if h.check() == nil && (h.records > batchRecordsMax || h.pages < 1 || h.pages > batchPagesMax) {
			t.Errorf("accepted: %+v", h)
		}
	})
}

func FuzzRecord(f *testing.F) {
	page := goldenPages()["records"]
	for i := range int(kindEnd) - 1 {
		f.Add(recordAt(page, i))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		var in, out [recordBytes]byte
		copy(in[:], b)
		var r Record
		if err := r.get(in[:]); err != nil {
			return
		}
		clear(in[56:])
		if r.put(out[:]); in != out {
			t.Errorf("% x became % x", in, out)
		}
	})
}

// FuzzRing lays any bytes over a log that is there, headers made whole again, and reads it: nothing is accepted that does not follow, and nothing
// stops the process.
func FuzzRing(f *testing.F) {
	for i, page := range goldenPages() {
		f.Add(page, uint16(len(i)), true)
	}
	f.Add([]byte{0x55}, uint16(700), false)
	f.Fuzz(func(t *testing.T, b []byte, at uint16, whole bool) {
		m, _ := damaged(t)
		for i := 0; i*PageBytes < min(len(b), 8*PageBytes); i++ {
			m.spoil(Offset(int(at)/16%12+i)*PageBytes, func(page []byte) {
				for k, x := range b[i*PageBytes : min(len(b), (i+1)*PageBytes)] {
					page[(k+int(at%16)*8)%PageBytes] ^= x
				}
				if whole {
					reheader(func(b []byte) { copy(b, batchMagic[:]) })(page)
				}
			})
		}
		o := m.recover(State{Life: 1}, 0)
		for i, lsn := range o.lsns {
			if lsn != LSN(i+1) {
				t.Errorf("LSN %d after %d records", lsn, i)
			}
		}
		if o.why == nil {
			t.Error("a log without end")
		}
		o.close()
	})
}
