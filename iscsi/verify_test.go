package iscsi

import (
	"bytes"
	"testing"

	"github.com/pollux-storage/pollux/bdev"
)

func TestVerify(t *testing.T) {
	g := newRig(t, 512)
	b := random(8 * 512)
	g.write(10, b)
	same := bytes.Repeat(b[:512], 150)
	g.write(100, same)
	wrong := bytes.Clone(b)
	wrong[700] ^= 1
	for _, op := range []byte{0x2F, 0xAF, 0x8F} {
		g.do(cdbOf(op, 0, 10, 8), wants(0)).Want("the medium", "good")
		g.do(cdbOf(op, 0, rigBlocks-1, 2), wants(0)).Want("past the end", "05/21/00")
		g.do(cdbOf(op, 0, rigBlocks, 0), wants(0)).Want("no blocks past the end", "05/21/00")
		g.do(cdbOf(op, 0, 10, 0), wants(0)).Want("no blocks", "good")
		g.do(cdbOf(op, 0x20, 10, 1), wants(0)).Want("protection", "05/24/00")
		g.do(cdbOf(op, 0x04, 10, 1), sends(b[:512])).Want("BYTCHK 2", "05/24/00")
		g.do(cdbOf(op, 0x02, 10, 8), sends(b)).Want("the same", "good")
		if x := g.do(cdbOf(op, 0x02, 10, 8), sends(wrong)).Want("another", "0E/1D/00"); x.sense.info != 700 {
			t.Errorf("the difference is told to be at %d", x.sense.info)
		}
		g.do(cdbOf(op, 0x02, 10, 8), sends(b[:512])).Want("too little data", "05/0E/03")
		g.do(cdbOf(op, 0x06, 100, 150), sends(b[:512])).Want("one block, all the same", "good")
		g.do(cdbOf(op, 0x06, 99, 150), sends(b[:512])).Want("one block, the first is another", "0E/1D/00")
		g.do(cdbOf(op, 0x06, 101, 150), sends(b[:512])).Want("one block, the last is another", "0E/1D/00")
	}
}

func TestWriteAndVerify(t *testing.T) {
	g := newRig(t, 512)
	for i, op := range []byte{0x2E, 0xAE, 0x8E} {
		b := random(512 * (i + 1))
		g.do(cdbOf(op, 0, 5, uint32(i+1)), sends(b)).Want("writing", "good")
		if !bytes.Equal(g.read(5, i+1), b) {
			t.Errorf("%x wrote something else", op)
		}
		g.do(cdbOf(op, 0x02, 5, uint32(i+1)), sends(b)).Want("writing and comparing", "good")
		g.do(cdbOf(op, 0x04, 5, 1), sends(b[:512])).Want("BYTCHK 2", "05/24/00")
		g.do(cdbOf(op, 0x06, 5, 1), sends(b[:512])).Want("BYTCHK 3", "05/24/00")
		g.do(cdbOf(op, 0x20, 5, 1), sends(b[:512])).Want("protection", "05/24/00")
		g.do(cdbOf(op, 0, rigBlocks, 0), sends(nil)).Want("past the end", "05/21/00")
		g.do(cdbOf(op, 0, 5, 1), sends(nil)).Want("EDTL 0", "good")
		g.do(cdbOf(op, 0, 5, 1), sends(b[:200])).Want("EDTL 200", "05/0E/03")
	}
}

// cdbSwap is COMPARE AND WRITE.
func cdbSwap(flags byte, lba uint64, n byte) []byte {
	b := cdb16(0x89, flags, lba, uint32(n))
	return b
}

func TestCompareAndWrite(t *testing.T) {
	g := newRig(t, 512)
	old, is, data := random(3*512), bytes.Repeat([]byte{7}, 3*512), []byte(nil)
	g.write(5, old)
	data = append(append(data, old...), is...)
	g.do(cdbSwap(0x18, 5, 3), sends(data)).Want("what is there", "good")
	if !bytes.Equal(g.read(5, 3), is) {
		t.Fatal("it was not written")
	}
	is[1030] = 9
	if x := g.do(cdbSwap(0, 5, 3), sends(append(bytes.Clone(is), old...))).Want("something else", "0E/1D/00"); !x.sense.informs || x.sense.info != 1030 {
		t.Errorf("the difference is told to be at %d", x.sense.info)
	}
	if is[1030] = 7; !bytes.Equal(g.read(5, 3), is) {
		t.Fatal("it was written though it differed")
	}
	g.do(cdbSwap(0, 5, 0), sends(nil)).Want("no blocks", "good")
	for name, c := range map[string]struct {
		cdb  []byte
		n    int
		want string
	}{
		"past the end":            {cdbSwap(0, rigBlocks, 1), 1024, "05/21/00"},
		"over the end":            {cdbSwap(0, rigBlocks-1, 2), 2048, "05/21/00"},
		"no blocks, past the end": {cdbSwap(0, rigBlocks, 0), 0, "05/21/00"},
		"protection":              {cdbSwap(0x20, 0, 1), 1024, "05/24/00"},
		"too little data":         {cdbSwap(0, 0, 3), 2048, "05/24/00"},
		"too much data":           {cdbSwap(0, 0, 1), 2048, "05/24/00"},
		"256 blocks":              {cdbSwap(0, 0, 0), 256 * 1024, "05/24/00"},
	} {
		g.do(c.cdb, sends(make([]byte, c.n))).Want(name, c.want)
	}
	g.reshape(func(q *bdev.Geometry) { q.MaxBlocks = 8 })
	g.do(cdbSwap(0, 0, 9), sends(make([]byte, 9*1024))).Want("more than the maximum", "05/24/00").WantPointer(pointsCDB, 13)
}

func TestPrefetch(t *testing.T) {
	g := newRig(t, 512)
	for _, op := range []byte{0x34, 0x90} {
		g.do(cdbOf(op, 0, 0, 100), wants(0)).Want("inside", "good")
		g.do(cdbOf(op, 2, 0, 0), wants(0)).Want("to the end, IMMED", "good")
		g.do(cdbOf(op, 0, rigBlocks-1, 2), wants(0)).Want("over the end", "05/21/00")
		g.do(cdbOf(op, 0, rigBlocks, 0), wants(0)).Want("past the end", "05/21/00")
	}
}
