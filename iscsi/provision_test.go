package iscsi

import (
	"bytes"
	"encoding/binary"
	"testing"

	"github.com/pollux-storage/pollux/bdev"
)

// unmapList makes the parameter list of UNMAP.
func unmapList(ranges ...[2]uint64) []byte {
	n := len(ranges) * unmapDescriptorBytes
	b := binary.BigEndian.AppendUint16(nil, uint16(n+6))
	b = append(binary.BigEndian.AppendUint16(b, uint16(n)), 0, 0, 0, 0)
	for _, r := range ranges {
		b = binary.BigEndian.AppendUint64(b, r[0])
		b = append(binary.BigEndian.AppendUint32(b, uint32(r[1])), 0, 0, 0, 0)
	}
	return b
}

func (g *rig) unmap(list []byte) *exchange {
	return g.do(cdb10(0x42, 0, 0, uint16(len(list))), sends(list))
}

func TestUnmap(t *testing.T) {
	g := newRig(t, 512)
	full := random(20 * 512)
	g.write(0, full)
	g.unmap(nil).Want("no list", "good")
	g.unmap(unmapList()).Want("no descriptors", "good")
	g.unmap(unmapList([2]uint64{5, 0})).Want("no blocks", "good")
	g.unmap(unmapList([2]uint64{rigBlocks, 0})).Want("no blocks at the end", "good")
	g.unmap(unmapList([2]uint64{rigBlocks + 1, 0})).Want("no blocks past the end", "05/21/00")
	if !bytes.Equal(g.read(0, 20), full) {
		t.Fatal("unmapping nothing changed something")
	}
	g.unmap(unmapList([2]uint64{1, 2}, [2]uint64{4, 0}, [2]uint64{10, 5}, [2]uint64{rigBlocks - 1, 1})).Want("three ranges", "good")
	clear(full[512 : 3*512])
	clear(full[10*512 : 15*512])
	if !bytes.Equal(g.read(0, 20), full) {
		t.Fatal("unmapping did not leave zeros where it should and nothing else")
	}
	for name, c := range map[string]struct {
		list []byte
		cdb  []byte
		want string
	}{
		"one range of two past the end": {unmapList([2]uint64{0, 1}, [2]uint64{rigBlocks, 1}), nil, "05/21/00"},
		"a range over the end":          {unmapList([2]uint64{0, 1}, [2]uint64{rigBlocks - 1, 2}), nil, "05/21/00"},
		"a range around 0":              {unmapList([2]uint64{0, 1}, [2]uint64{1<<64 - 1, 2}), nil, "05/21/00"},
		"no header":                     {make([]byte, 7), nil, "05/1A/00"},
		"fewer descriptors than said":   {unmapList([2]uint64{0, 1}, [2]uint64{1, 1})[:39], nil, "05/1A/00"},
		"less than the CDB says":        {unmapList([2]uint64{0, 1}), cdb10(0x42, 0, 0, 40), "05/1A/00"},
		"ANCHOR":                        {unmapList([2]uint64{0, 1}), cdb10(0x42, 1, 0, 24), "05/24/00"},
	} {
		cdb := c.cdb
		if cdb == nil {
			cdb = cdb10(0x42, 0, 0, uint16(len(c.list)))
		}
		g.do(cdb, sends(c.list)).Want(name, c.want)
		if !bytes.Equal(g.read(0, 20), full) {
			t.Fatalf("%s: something was unmapped", name)
		}
	}
	short := append(unmapList([2]uint64{0, 1}), make([]byte, 8)...)
	short[3] += 8
	g.unmap(short).Want("an incomplete descriptor at the end", "good")
	if clear(full[:512]); !bytes.Equal(g.read(0, 20), full) {
		t.Fatal("an incomplete descriptor hid one before it")
	}
	g.reshape(func(q *bdev.Geometry) { q.Native &^= bdev.SetOf(bdev.Unmap) })
	g.unmap(nil).Want("a device that cannot", "05/20/00")
	g.do(cdb10(0x41, 0x08, 0, 1), sends(make([]byte, 512))).Want("WRITE SAME with UNMAP there", "05/24/00")
}

func TestWriteSame(t *testing.T) {
	for _, size := range []int{512, 4096} {
		g := newRig(t, uint32(size))
		pattern := random(size)
		for _, op := range []byte{0x41, 0x93} {
			for _, n := range []uint64{1, 2, 9, 300, 4000} {
				full := bytes.Repeat([]byte{0xAA}, int(n+2)*size)
				for at := 0; at < len(full); at += 1 << 20 {
					g.write(uint64(at/size), full[at:min(at+1<<20, len(full))])
				}
				g.do(cdbOf(op, 0, 1, uint32(n)), sends(pattern)).Want("a pattern", "good")
				copy(full[size:], bytes.Repeat(pattern, int(n)))
				for _, lba := range []uint64{0, n} {
					if got := g.read(lba, 2); !bytes.Equal(got, full[lba*uint64(size):][:2*size]) {
						t.Fatalf("%x of %d blocks: block %d or the next is wrong", op, n, lba)
					}
				}
				for lba := uint64(0); lba < n; lba += 64 {
					m := min(64, n-lba)
					if !bytes.Equal(g.read(1+lba, int(m)), bytes.Repeat(pattern, int(m))) {
						t.Fatalf("%x of %d blocks: some of the blocks from %d on are not as written", op, n, lba+1)
					}
				}
				for _, flags := range []byte{0, writeSameUnmap} {
					g.do(cdbOf(op, 0, 1, uint32(n)), sends(pattern)).Want("a pattern", "good")
					g.do(cdbOf(op, flags, 1, uint32(n)), sends(make([]byte, size))).Want("zeros", "good")
					if got := g.read(n, 2); !bytes.Equal(got[:size], make([]byte, size)) || !bytes.Equal(got[size:], full[:size]) {
						t.Fatalf("%x of %d blocks of zeros, flags %x: the last block or the next is wrong", op, n, flags)
					}
				}
			}
			g.do(cdbOf(op, writeSameUnmap, 7, 1), sends(pattern)).Want("UNMAP of what is not zeros", "good")
			if !bytes.Equal(g.read(7, 1), pattern) {
				t.Error("a pattern was unmapped")
			}
		}
		g.do(cdb16(0x93, writeSameNoData, 7, 1), wants(0)).Want("NDOB", "good")
		if !bytes.Equal(g.read(7, 1), make([]byte, size)) {
			t.Error("NDOB did not write zeros")
		}
	}
}

func TestWriteSameRefused(t *testing.T) {
	g := newRig(t, 512)
	g.reshape(func(q *bdev.Geometry) { q.Blocks = 1 << 20 })
	b := make([]byte, 512)
	for name, c := range map[string]struct {
		cdb  []byte
		data []byte
		want string
	}{
		"past the end":            {cdb16(0x93, 0, 1<<20, 1), b, "05/21/00"},
		"no blocks, past the end": {cdb16(0x93, 0, 1<<63, 0), b, "05/21/00"},
		"more than the maximum":   {cdb16(0x93, 0, 0, writeSameBytesMax/512+1), b, "05/24/00"},
		"no blocks":               {cdb16(0x93, 0, 0, 0), b, "05/24/00"},
		"protection":              {cdb16(0x93, 0x20, 0, 1), b, "05/24/00"},
		"ANCHOR without UNMAP":    {cdb16(0x93, 0x10, 0, 1), b, "05/24/00"},
		"ANCHOR without ANC_SUP":  {cdb16(0x93, 0x18, 0, 1), b, "05/24/00"},
		"half a block":            {cdb16(0x93, 0, 0, 1), b[:256], "05/0E/03"},
		"two blocks":              {cdb16(0x93, 0, 0, 1), make([]byte, 1024), "05/0E/03"},
		"no block":                {cdb16(0x93, 0, 0, 1), nil, "05/0E/03"},
		"NDOB in WRITE SAME (10)": {cdb10(0x41, 1, 0, 1), nil, "05/0E/03"},
	} {
		g.do(c.cdb, sends(c.data)).Want(name, c.want)
	}
}
