package iscsi

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/google/uuid"

	"github.com/pollux-storage/pollux/bdev"
)

// The pages that are kept in testdata/pages.txt, byte by byte.
func TestPagesAreAsRecorded(t *testing.T) {
	g := newRig(t, 512)
	g.attach(1, "Mem0")
	g.quiet()
	volatile := func(q *bdev.Geometry) { q.Volatile, q.PhysicalBlockSize, q.OptimalBlocks = true, 4096, 128 }
	thick := func(q *bdev.Geometry) { q.Native &^= bdev.SetOf(bdev.Unmap) }
	var out strings.Builder
	page := func(name string, change func(*bdev.Geometry), cdb []byte) {
		was := *g.nexus.units[0].ch.Geometry()
		if change != nil {
			g.reshape(change)
		}
		x := g.do(cdb, wants(4096)).Want(name, "good")
		g.reshape(func(q *bdev.Geometry) { *q = was })
		fmt.Fprintf(&out, "# %s\n%s\n", name, hex.Dump(x.in))
	}
	vpd := func(code byte) []byte { return []byte{0x12, 1, code, 0x10, 0, 0} }
	page("standard INQUIRY", nil, []byte{0x12, 0, 0, 0x10, 0, 0})
	for i := range vpdPages {
		page(fmt.Sprintf("VPD page %02X", vpdPages[i].code), nil, vpd(vpdPages[i].code))
	}
	page("VPD page 86, volatile", volatile, vpd(0x86))
	page("VPD page B0, 4096 bytes a physical block", volatile, vpd(0xB0))
	page("VPD page B0, without UNMAP", thick, vpd(0xB0))
	page("VPD page B2, without UNMAP", thick, vpd(0xB2))
	page("MODE SENSE(6), all pages", nil, []byte{0x1A, 0, 0x3F, 0, 255, 0})
	page("MODE SENSE(6), all pages, volatile", volatile, []byte{0x1A, 0, 0x3F, 0, 255, 0})
	page("MODE SENSE(6), all pages, changeable", volatile, []byte{0x1A, 0, 0x7F, 0, 255, 0})
	thin := func(q *bdev.Geometry) { q.LowSpace = 20 }
	page("VPD page B2, with a threshold", thin, vpd(0xB2))
	page("MODE SENSE(6), all pages and subpages, with a threshold", thin, []byte{0x1A, 0, 0x3F, 0xFF, 255, 0})
	page("MODE SENSE(6), all pages and subpages, with a threshold, changeable", thin, []byte{0x1A, 0, 0x7F, 0xFF, 255, 0})
	page("READ CAPACITY(16)", volatile, cdb16(0x9E, 0x10, 0, 32))
	page("REPORT LUNS", nil, []byte{0xA0, 0, 0, 0, 0, 0, 0, 0, 0x10, 0, 0, 0})
	page("REPORT TARGET PORT GROUPS", nil, cdb12(0xA3, 0x0A, 0, 4096))
	page("REPORT TARGET PORT GROUPS, extended header", nil, cdb12(0xA3, 0x2A, 0, 4096))
	page("REPORT SUPPORTED OPERATION CODES", nil, cdb12(0xA3, 0x0C, 0, 4096))
	page("REPORT SUPPORTED TASK MANAGEMENT FUNCTIONS", nil, cdb12(0xA3, 0x0D, 0x80000000, 4096))
	page("RECEIVE COPY RESULTS, operating parameters", nil, cdb16(0x84, 0x03, 0, 4096))
	const file = "testdata/pages.txt"
	if *update {
		if err := os.WriteFile(file, []byte(out.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if got := out.String(); got != string(want) {
		g, w := strings.Split(got, "\n"), strings.Split(string(want), "\n")
		for i := range g {
			if i >= len(w) || g[i] != w[i] {
				t.Fatalf("the pages are not as in %s, from line %d on:\n%s\nRead the change, then record it with make golden", file, i+1, g[i])
			}
		}
		t.Fatalf("the pages are fewer than in %s", file)
	}
}

func TestInquiryIsCutAtTheAllocationLength(t *testing.T) {
	g := newRig(t, 512)
	for _, cdb := range [][]byte{{0x12, 0, 0, 0x10, 0, 0}, {0x12, 1, 0x83, 0x10, 0, 0}, {0x12, 1, 0xB0, 0x10, 0, 0}} {
		all := g.do(cdb, wants(4096)).Want("all of it", "good").in
		for n := 0; n <= len(all)+1; n++ {
			cdb := bytes.Clone(cdb)
			binary.BigEndian.PutUint16(cdb[3:], uint16(n))
			x := g.do(cdb, wants(n)).Want("a part", "good")
			if !bytes.Equal(x.in, all[:min(n, len(all))]) || x.want != uint32(min(n, len(all))) {
				t.Fatalf("%x cut at %d: %x, and moves %d bytes", cdb, n, x.in, x.want)
			}
		}
	}
	std := g.do([]byte{0x12, 0, 0, 0x01, 0xFF, 0}, wants(511)).in
	if int(std[4])+5 != len(std) {
		t.Errorf("ADDITIONAL LENGTH is %d of %d bytes", std[4], len(std))
	}
}

func TestPagesAreListedAscending(t *testing.T) {
	g := newRig(t, 512)
	list := g.do([]byte{0x12, 1, 0, 0, 255, 0}, wants(255)).in
	for i := 5; i < len(list); i++ {
		if list[i] <= list[i-1] {
			t.Errorf("the list of pages does not ascend: %x", list)
		}
	}
	for code := range 256 {
		x := g.do([]byte{0x12, 1, byte(code), 0x10, 0, 0}, wants(4096))
		if listed := bytes.IndexByte(list[4:], byte(code)) >= 0; listed != (x.status == Good) {
			t.Errorf("page %02X: listed %t, answered %s", code, listed, x.answered())
		} else if listed && (x.in[1] != byte(code) || int(binary.BigEndian.Uint16(x.in[2:])) != len(x.in)-4) {
			t.Errorf("page %02X begins with %x and is %d bytes long", code, x.in[:4], len(x.in))
		}
	}
}

func TestIdentityIsOfTheUUIDAlone(t *testing.T) {
	seen := map[[16]byte]bool{}
	for range 100 {
		id := uuid.New()
		n := naa(id)
		if n[0]>>4 != 6 || seen[n] {
			t.Fatalf("%s becomes NAA %x", id, n)
		}
		if company := uint32(n[0]&15)<<20 | uint32(n[1])<<12 | uint32(n[2])<<4 | uint32(n[3])>>4; company != companyID {
			t.Fatalf("%s becomes NAA %x of company %06x", id, n, company)
		}
		if !bytes.Equal(n[4:], id[4:]) || n[3]&15 != id[3]&15 {
			t.Fatalf("%s becomes NAA %x, which does not end as it does", id, n)
		}
		seen[n] = true
	}
}

func TestManyUnitsAndPorts(t *testing.T) {
	g := newRig(t, 512)
	u := g.node.units[0]
	for len(g.node.units) < 300 {
		g.node.units = append(g.node.units, u)
	}
	for tag := 2; tag < 20; tag++ {
		g.node.maps = append(g.node.maps, mapView{group: &groupView{tag: tag}}, mapView{group: &groupView{tag: tag}})
	}
	g.node.name = "iqn.2026-01.io.pollux:" + strings.Repeat("x", 223-22)
	g.join(g.nexus)
	g.quiet()
	x := g.do([]byte{0xA0, 0, 0, 0, 0, 0, 0, 0, 0x10, 0, 0, 0}, wants(4096)).Want("REPORT LUNS", "good")
	if len(x.in) != 8+300*8 || binary.BigEndian.Uint32(x.in) != 300*8 || !bytes.Equal(x.in[8+299*8:][:2], []byte{0x41, 0x2B}) {
		t.Errorf("REPORT LUNS of 300 units gives %d bytes", len(x.in))
	}
	x = g.do([]byte{0xA0, 0, 0, 0, 0, 0, 0, 0, 0, 16, 0, 0}, wants(16)).Want("REPORT LUNS", "good")
	if binary.BigEndian.Uint32(x.in) != 300*8 {
		t.Error("LUN LIST LENGTH is of what fits")
	}
	for i := range 300 {
		if n := g.nexus.find(lunOf(i)); n != g.nexus.units[i] {
			t.Fatalf("LUN %d is not found where it was told to be", i)
		}
	}
	if x = g.do(cdb12(0xA3, 0x0A, 0, 8), wants(8)); binary.BigEndian.Uint32(x.in) != 19*12 {
		t.Errorf("19 port groups are %x", x.in)
	}
	if x = g.do([]byte{0x12, 1, 0x88, 0x20, 0, 0}, wants(8192)).Want("SCSI Ports", "good"); int(binary.BigEndian.Uint16(x.in[2:])) != len(x.in)-4 {
		t.Errorf("page 88 of 19 long names is %d bytes and says %x", len(x.in), x.in[:4])
	}
}

func TestUnitsThatComeAndGoAreTold(t *testing.T) {
	g := newRig(t, 512)
	g.node.units = append(g.node.units, g.node.units[0])
	g.nexus.install(g.node, g.r)
	g.do([]byte{0x00}).Want("one more", "06/3F/0E")
	g.do([]byte{0x00}, at(1)).Want("the new one", "06/29/00")
	g.node.units = g.node.units[:1]
	g.nexus.install(g.node, g.r)
	g.do([]byte{0x00}).Want("one less", "06/3F/0E")
	g.nexus.install(g.node, g.r)
	g.do([]byte{0x00}).Want("no change", "good")
}
