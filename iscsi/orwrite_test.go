package iscsi

import (
	"bytes"
	"testing"

	"github.com/pollux-storage/pollux/bdev"
)

// filled is n blocks of 512 bytes that hold x.
func filled(x byte, n int) []byte { return bytes.Repeat([]byte{x}, n*512) }

func TestOrWrite(t *testing.T) {
	g := newRig(t, 512)
	g.write(9, filled(0x50, 4))
	g.do(cdb16(0x8B, 0x18, 10, 2), sends(filled(0x0F, 2))).Want("ORWRITE", "good")
	want := append(append(filled(0x50, 1), filled(0x5F, 2)...), filled(0x50, 1)...)
	if !bytes.Equal(g.read(9, 4), want) {
		t.Fatal("ORWRITE does something else")
	}
	g.do(cdb16(0x8B, 0, 10, 0), sends(nil)).Want("no blocks", "good")
	for name, c := range map[string]struct {
		cdb  []byte
		n    int
		want string
	}{
		"past the end":            {cdb16(0x8B, 0, rigBlocks, 1), 1, "05/21/00"},
		"over the end":            {cdb16(0x8B, 0, rigBlocks-1, 2), 2, "05/21/00"},
		"no blocks, past the end": {cdb16(0x8B, 0, rigBlocks, 0), 0, "05/21/00"},
		"protection":              {cdb16(0x8B, 0x20, 10, 1), 1, "05/24/00"},
		"too much":                {cdb16(0x8B, 0, 0, 2049), 2049, "05/24/00"},
		"too little data":         {cdb16(0x8B, 0, 10, 2), 1, "05/0E/03"},
	} {
		g.do(c.cdb, sends(filled(0xFF, c.n))).Want(name, c.want)
		if !bytes.Equal(g.read(9, 4), want) {
			t.Fatalf("%s: something was written", name)
		}
	}
}

// A write of another that comes while the blocks are or'ed is not lost, whenever it comes.
func TestOrWriteLosesNoWrite(t *testing.T) {
	again := false
	for when := range 12 {
		g := newRig(t, 512)
		x := g.start(cdb16(0x8B, 0, 0, 4), sends(filled(0x0F, 4)))
		for range when {
			g.step()
		}
		w := g.start(cdb10(0x2A, 0, 1, 2), sends(filled(0x30, 2)))
		g.finish(w).Want("a write", "good")
		for i := 0; x.ends == 0; i++ {
			g.step()
		}
		again = again || x.step > 1
		g.finish(x).Want("ORWRITE", "good")
		got := g.read(0, 4)
		if got[0] != 0x0F || got[512] != 0x30 && got[512] != 0x3F || got[3*512] != 0x0F {
			t.Fatalf("after %d turns: %x %x %x", when, got[0], got[512], got[3*512])
		}
	}
	if !again {
		t.Error("no write came between")
	}
}

func TestOrWritesWaitForEachOther(t *testing.T) {
	g := newRig(t, 512)
	var all []*exchange
	for i := range 8 {
		all = append(all, g.start(cdb16(0x8B, 0, 0, 4), sends(filled(1<<i, 4))))
	}
	for _, x := range all {
		g.finish(x).Want("ORWRITE", "good")
	}
	if !bytes.Equal(g.read(0, 4), filled(0xFF, 4)) {
		t.Error("one of them was lost")
	}
	f := g.faulty()
	g.inject(f, bdev.Rule{Kinds: bdev.SetOf(bdev.Read), Status: bdev.StatusIO, Count: 1})
	first := g.start(cdb16(0x8B, 0, 0, 4), sends(filled(1, 4)), at(1))
	second := g.start(cdb16(0x8B, 0, 0, 4), sends(filled(1, 4)), at(1))
	g.finish(first).Want("a read error", "03/11/00")
	g.finish(second).Want("the next", "good")
	if g.nexus.units[1].here.or.by != nil {
		t.Error("the memory is still held")
	}
}
