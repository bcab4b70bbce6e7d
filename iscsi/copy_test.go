package iscsi

import (
	"bytes"
	"encoding/binary"
	"testing"

	"github.com/pollux-storage/pollux/bdev"
)

// copyList makes the parameter list of EXTENDED COPY, all of whose targets are the unit.
func copyList(list, usage byte, targets int, segments ...[3]uint64) []byte {
	b := make([]byte, copyHeaderBytes)
	b[0], b[1] = list, usage<<3
	binary.BigEndian.PutUint16(b[2:], uint16(targets*copyTargetBytes))
	binary.BigEndian.PutUint32(b[8:], uint32(len(segments)*copySegmentBytes))
	id := naa(rigUUID)
	for range targets {
		d := make([]byte, copyTargetBytes)
		d[0], d[4], d[5], d[7], d[30] = 0xE4, 1, 3, 16, 2
		copy(d[8:], id[:])
		b = append(b, d...)
	}
	for _, s := range segments {
		d := make([]byte, copySegmentBytes)
		d[0], d[3] = 0x02, 24
		binary.BigEndian.PutUint64(d[12:], s[0])
		binary.BigEndian.PutUint64(d[20:], s[1])
		binary.BigEndian.PutUint16(d[10:], uint16(s[2]))
		b = append(b, d...)
	}
	return b
}

func (g *rig) xcopy(list []byte) *exchange {
	return g.do(cdb16(0x83, 0, 0, uint32(len(list))), sends(list))
}

func (g *rig) copyStatus(list byte) *exchange {
	cdb := cdb16(0x84, 0, 0, 12)
	cdb[2] = list
	return g.do(cdb, wants(12))
}

func TestExtendedCopy(t *testing.T) {
	g := newRig(t, 512)
	b := random(2048 * 512)
	g.write(0, b)
	g.xcopy(nil).Want("an empty list", "good")
	g.copyStatus(1).Want("before the copy", "05/24/00")
	g.xcopy(copyList(1, copyDiscards, 1, [3]uint64{0, rigBlocks - 2048, 2048})).Want("a copy", "good")
	if !bytes.Equal(g.read(rigBlocks-2048, 2048), b) {
		t.Fatal("the blocks were not copied")
	}
	g.copyStatus(1).Want("of a list that is discarded", "05/24/00")
	g.xcopy(copyList(7, copyHolds, 2, [3]uint64{2, 2000, 6}, [3]uint64{0, 0, 0}, [3]uint64{2000, 3000, 2})).Want("three segments", "good")
	if !bytes.Equal(g.read(2000, 6), b[2*512:8*512]) || !bytes.Equal(g.read(3000, 2), b[2*512:4*512]) {
		t.Fatal("the blocks were not copied")
	}
	if x := g.copyStatus(7).Want("held", "good"); !bytes.Equal(x.in, []byte{0, 0, 0, 8, 1, 0, 3, 1, 0, 0, 0, 4}) {
		t.Errorf("the status is %x", x.in)
	}
	for list := range byte(20) {
		g.xcopy(copyList(list+100, copyHolds, 1, [3]uint64{0, 0, 0})).Want("nothing", "good")
	}
	g.copyStatus(7).Want("too long ago", "05/24/00")
	g.copyStatus(119).Want("the last", "good")
}

func TestExtendedCopyRefused(t *testing.T) {
	g := newRig(t, 512)
	good := copyList(1, copyHolds, 1, [3]uint64{0, 100, 8})
	many := make([][3]uint64, copySegmentsMax+1)
	with := func(at int, x byte) []byte {
		b := bytes.Clone(good)
		b[at] = x
		return b
	}
	for name, c := range map[string]struct {
		list []byte
		want string
	}{
		"half a header":               {good[:15], "05/1A/00"},
		"a target cut off":            {good[:16+31], "05/1A/00"},
		"a segment cut off":           {good[:16+32+27], "05/1A/00"},
		"too many targets":            {copyList(1, 0, copyTargetsMax+1, [3]uint64{0, 100, 8}), "05/26/06"},
		"too many segments":           {copyList(1, 0, 1, many...), "05/26/08"},
		"too many of both":            {copyList(1, 0, copyTargetsMax+1, many...), "05/1A/00"},
		"inline data":                 {append(with(15, 4), 0, 0, 0, 0), "05/26/0B"},
		"a reserved LIST ID USAGE":    {with(1, 1<<3), "05/26/00"},
		"a list that is none":         {with(1, 3<<3), "05/26/00"},
		"a target of another type":    {with(16, 0xE0), "05/26/07"},
		"a segment of another type":   {with(48, 0x03), "05/26/09"},
		"a segment of another length": {with(51, 20), "05/26/00"},
		"a target that is not there":  {with(48+7, 1), "0A/08/04"},
		"another device":              {with(16+20, 0x55), "0A/0D/02"},
		"blocks of another size":      {with(16+30, 4), "0A/0D/02"},
		"from past the end":           {copyList(1, 0, 1, [3]uint64{0, 100, 8}, [3]uint64{rigBlocks - 1, 0, 2}), "0A/00/00"},
		"to past the end":             {copyList(1, 0, 1, [3]uint64{0, 100, 8}, [3]uint64{0, rigBlocks - 1, 2}), "0A/00/00"},
		"around 0":                    {copyList(1, 0, 1, [3]uint64{0, 1<<64 - 1, 2}), "0A/00/00"},
	} {
		g.write(0, random(16*512))
		g.write(100, make([]byte, 8*512))
		g.xcopy(c.list).Want(name, c.want)
		if !bytes.Equal(g.read(100, 8), make([]byte, 8*512)) {
			t.Fatalf("%s: something was copied", name)
		}
	}
	g.xcopy(good).Want("the same without an error", "good")
	g.reshape(func(q *bdev.Geometry) { q.Native &^= bdev.SetOf(bdev.Write) })
	g.xcopy(good).Want("a device that cannot copy", "05/20/00")
}
