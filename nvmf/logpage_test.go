package nvmf

import (
	"bytes"
	"encoding/binary"
	"reflect"
	"slices"
	"strings"
	"testing"
)

func TestSupportedPages(t *testing.T) {
	b := AppendSupportedPages(nil, []LID{LIDSupported, LIDReservation})
	want := make([]byte, 1024)
	want[0], want[0x80*4] = 1, 1
	wantBytes(t, "page 00", b, want)
}

func TestEffects(t *testing.T) {
	b := AppendEffects(nil, []AdminEffects{{AdminIdentify, EffectsSupported}, {AdminFabrics, EffectsSupported}},
		[]IOEffects{{IOFlush, EffectsSupported}, {IOWrite, EffectsSupported | EffectsContent}, {IOCopy, EffectsSupported | ScopeNamespace}})
	want := make([]byte, 4096)
	want[6*4], want[0x7F*4] = 1, 1
	want[1024], want[1024+4] = 1, 3
	copy(want[1024+0x19*4:], []byte{1, 0, 0x10, 0})
	wantBytes(t, "page 05", b, want)
	if e, ok := DecodeEffects(b, IOWrite); !ok || e != EffectsSupported|EffectsContent {
		t.Errorf("Write: %X, %t", e, ok)
	}
	if e, ok := DecodeEffects(b, IOOpcode(0xFF)); !ok || e != 0 {
		t.Errorf("FF: %X, %t", e, ok)
	}
	if _, ok := DecodeEffects(b[:4095], IOWrite); ok {
		t.Error("a short page is taken")
	}
	b = AppendFeatures(nil, []FeatureEffects{{FIDWriteProtect, EffectsSupported | EffectsNamespace | ScopeNamespace}, {FIDHostID, EffectsSupported | ScopeController}})
	want = make([]byte, 1024)
	copy(want[0x84*4:], []byte{5, 0, 0x10, 0})
	copy(want[0x81*4:], []byte{1, 0, 0x20, 0})
	wantBytes(t, "page 12", b, want)
}

func TestErrorEntry(t *testing.T) {
	e := ErrorEntry{Count: 0x0102, SQID: 0xFFFF, CID: 0xFFFF, Status: StatusKeepAliveExpired | DNR, Byte: 0xFFFF, LBA: 5, NSID: 6, TRTYPE: TransportTCP, Opcode: 7}
	want := make([]byte, 64)
	copy(want, []byte{2, 1, 0, 0, 0, 0, 0, 0, 0xFF, 0xFF, 0xFF, 0xFF, 0x32, 0x80, 0xFF, 0xFF, 5})
	want[24], want[29], want[31] = 6, 3, 7
	wantBytes(t, "entry", e.AppendTo(nil), want)
}

func TestHealth(t *testing.T) {
	b := Health{Kelvins: 300, SparePercent: 100, UnitsRead: 5}.AppendTo(nil)
	binary.LittleEndian.PutUint64(b[48+8:], 1) // 2^64 units written
	h, ok := DecodeHealth(b)
	if !ok || h.Kelvins != 300 || h.SparePercent != 100 || h.UnitsRead != 5 || h.UnitsWritten != ^uint64(0) {
		t.Errorf("%+v, %t", h, ok)
	}
	for bytes, want := range map[uint64]uint64{0: 0, 1: 1, 512000: 1, 512001: 2, ^uint64(0): 36028797018963} {
		if got := HealthUnits(bytes); got != want && bytes != ^uint64(0) || got < want {
			t.Errorf("%d bytes are %d units, want %d", bytes, got, want)
		}
	}
}

func TestFirmware(t *testing.T) {
	b := AppendFirmware(nil, "1.2")
	want := make([]byte, 512)
	want[0] = 1
	copy(want[8:], "1.2     ")
	wantBytes(t, "page 03", b, want)
}

func TestChanged(t *testing.T) {
	var full []NSID
	for i := range ChangedMax + 1 {
		full = append(full, NSID(i+1))
	}
	for _, c := range []struct {
		name string
		ids  []NSID
		all  bool
	}{{"none", nil, false}, {"some", []NSID{3, 1000000}, false}, {"all that fit", full[:ChangedMax], false}, {"too many", full, true}} {
		b := AppendChanged(nil, c.ids)
		if len(b) != ChangedBytes {
			t.Errorf("%s: %d bytes", c.name, len(b))
		}
		got, all, ok := DecodeChanged(nil, b)
		want := c.ids
		if c.all {
			want = nil
			wantBytes(t, "overflow", b, append([]byte{0xFF, 0xFF, 0xFF, 0xFF}, make([]byte, 4092)...))
		}
		if !ok || all != c.all || !slices.Equal(got, want) {
			t.Errorf("%s: %d ids, %t, %t", c.name, len(got), all, ok)
		}
		if _, _, ok := DecodeChanged(nil, b[:4095]); ok {
			t.Errorf("%s: a short page is taken", c.name)
		}
	}
}

var testGroups = []ANAGroup{
	{ID: 1, CHGCNT: 3, State: ANAOptimized, NSIDs: []NSID{1, 2, 300}},
	{ID: 2, CHGCNT: 0x0102030405060708, State: ANAInaccessible},
	{ID: 7, CHGCNT: 1, State: ANAChange, NSIDs: []NSID{9}},
}

func TestANALog(t *testing.T) {
	b := AppendANALog(nil, 0x1122, testGroups, false)
	wantBytes(t, "page 0C", b, golden(t, "ana"))
	if len(b) != ANALogBytes(3, 4) {
		t.Errorf("%d bytes, ANALogBytes says %d", len(b), ANALogBytes(3, 4))
	}
	chgcnt, groups, err := DecodeANALog(append(b, 0xFF))
	if err != nil || chgcnt != 0x1122 || !reflect.DeepEqual(groups, testGroups) {
		t.Errorf("%d, %+v, %v", chgcnt, groups, err)
	}
	for n := range b {
		if _, _, err := DecodeANALog(b[:n:n]); err == nil {
			t.Errorf("cut to %d bytes it is taken", n)
		}
	}

	short := AppendANALog(nil, 5, testGroups, true)
	if len(short) != ANALogBytes(3, 0) {
		t.Errorf("groups only: %d bytes", len(short))
	}
	_, groups, err = DecodeANALog(short)
	if err != nil || len(groups) != 3 || groups[0].NSIDs != nil || groups[2].State != ANAChange {
		t.Errorf("groups only: %+v, %v", groups, err)
	}
}

func TestWrongANALog(t *testing.T) {
	for _, c := range []struct {
		name  string
		at    int
		bytes []byte
	}{
		{"more groups than there are", 8, []byte{4}},
		{"65,535 groups", 8, []byte{0xFF, 0xFF}},
		{"group 0", 16, []byte{0}},
		{"state 0", 32, []byte{0}},
		{"state 5", 32, []byte{5}},
		{"2^32-1 NSIDs", 20, []byte{0xFF, 0xFF, 0xFF, 0xFF}},
		{"NSIDs that wrap 32 bits", 20, []byte{0, 0, 0, 0x40}},
		{"NSID 0", 48, []byte{0}},
		{"NSIDs out of order", 52, []byte{1}},
	} {
		b := AppendANALog(nil, 1, testGroups, false)
		copy(b[c.at:], c.bytes)
		if _, _, err := DecodeANALog(b); err == nil {
			t.Errorf("%s: it is taken", c.name)
		} else if !strings.HasPrefix(err.Error(), "ANA log page: ") {
			t.Errorf("%s: %v", c.name, err)
		}
	}
}

func TestANAStates(t *testing.T) {
	want := map[ANAState]struct {
		name   string
		status Status
	}{
		1: {"optimized", 0}, 2: {"non_optimized", 0}, 3: {"inaccessible", 0x302}, 4: {"persistent_loss", 0x301}, 15: {"change", 0x303},
	}
	for s := range ANAState(16) {
		w, ok := want[s]
		if s.Valid() != ok {
			t.Errorf("state %d: %t", s, s.Valid())
		}
		if ok && (s.String() != w.name || s.Status() != w.status) {
			t.Errorf("state %d: %v, %v", s, s, s.Status())
		}
		if !ok && s.Status() != StatusANAInaccessible {
			t.Errorf("state %d: %v", s, s.Status())
		}
	}
}

func TestDiscoveryPage(t *testing.T) {
	b := DiscoveryHeader{GENCTR: 0x0102030405060708, NUMREC: 2}.AppendTo(nil)
	first := DiscoveryEntry{
		TRTYPE: TransportTCP, ADRFAM: AddressIPv4, SUBTYPE: SubsystemNVMe, TREQ: TREQNoSQFlow, PORTID: 1, CNTLID: CNTLIDDynamic, ASQSZ: 32,
		TRSVCID: "4420", SUBNQN: testSUBNQN, TRADDR: "192.0.2.1",
	}
	second := DiscoveryEntry{
		TRTYPE: TransportTCP, ADRFAM: AddressIPv6, SUBTYPE: SubsystemDiscovery, TREQ: TREQSecure, PORTID: 2, CNTLID: CNTLIDDynamic, ASQSZ: 128,
		EFLAGS: EFLAGSPersistent | EFLAGSDuplicate, TRSVCID: "8009", SUBNQN: DiscoveryNQN, TRADDR: "2001:db8::1", TSAS: [3]uint8{SecurityTLS13},
	}
	b = second.AppendTo(first.AppendTo(b))
	wantBytes(t, "page 70", b, golden(t, "discovery"))

	h, err := DecodeDiscoveryHeader(b[:20])
	if err != nil || h != (DiscoveryHeader{0x0102030405060708, 2}) {
		t.Errorf("%+v, %v", h, err)
	}
	for n := range DiscoveryHeaderMin {
		if _, err := DecodeDiscoveryHeader(b[:n]); err == nil {
			t.Errorf("a header of %d bytes is taken", n)
		}
	}
	for i, want := range []DiscoveryEntry{first, second} {
		if e, ok := DecodeDiscoveryEntry(b[1024*(i+1):]); !ok || e != want {
			t.Errorf("entry %d: %+v, %t", i, e, ok)
		}
	}
	// Some targets pad with NULs.
	e := second
	nul := bytes.ReplaceAll(e.AppendTo(nil), []byte(" "), []byte{0})
	if e, ok := DecodeDiscoveryEntry(nul); !ok || e != second {
		t.Errorf("padded with NULs: %+v, %t", e, ok)
	}
	b[16] = 1
	if _, err := DecodeDiscoveryHeader(b); err == nil {
		t.Error("record format 1 is taken")
	}
	if TransportTCP.String() != "TCP" || AddressIPv6.String() != "IPv6" || TRTYPE(9).String() != "transport type 9" || ADRFAM(9).String() != "address family 9" {
		t.Error("names")
	}
}

func TestReservationPages(t *testing.T) {
	b := ReservationReport{GEN: 0x01020304, RTYPE: WriteExclusiveAll, REGCTL: 0x0506, PTPLS: true}.AppendTo(nil)
	want := make([]byte, 64)
	copy(want, []byte{4, 3, 2, 1, 5, 6, 5, 0, 0, 1})
	wantBytes(t, "report", b, want)

	r := Registrant{CNTLID: 0xFFFF, Holder: true, RKEY: 0x0102030405060708, HOSTID: [16]byte{0: 1, 15: 2}}
	want = make([]byte, 64)
	copy(want, []byte{0xFF, 0xFF, 1, 0, 0, 0, 0, 0, 8, 7, 6, 5, 4, 3, 2, 1, 1})
	want[31] = 2
	wantBytes(t, "registrant", r.AppendTo(nil), want)

	b = ReservationNotification{LPC: 1, Type: ReservationReleased, NALP: 2, NSID: 0x01020304}.AppendTo(nil)
	want = make([]byte, 64)
	copy(want, []byte{1, 0, 0, 0, 0, 0, 0, 0, 2, 2, 0, 0, 4, 3, 2, 1})
	wantBytes(t, "page 80", b, want)

	if RegistrationPreempted.Mask() != 2 || ReservationReleased.Mask() != 4 || ReservationPreempted.Mask() != 8 || ReservationMaskAll != 0xE {
		t.Error("masks of feature 82")
	}
}

func FuzzANALog(f *testing.F) {
	f.Add(AppendANALog(nil, 1, testGroups, false))
	f.Add(AppendANALog(nil, 1, testGroups, true))
	f.Add([]byte{15: 0})
	f.Fuzz(func(t *testing.T, b []byte) {
		chgcnt, groups, err := DecodeANALog(b)
		if err != nil {
			return
		}
		again := AppendANALog(nil, chgcnt, groups, false)
		c, g, err := DecodeANALog(again)
		if err != nil || c != chgcnt || !reflect.DeepEqual(g, groups) || len(again) > len(b) {
			t.Errorf("%d %+v came back as %d %+v, %v", chgcnt, groups, c, g, err)
		}
	})
}

func FuzzDiscovery(f *testing.F) {
	f.Add(DiscoveryHeader{1, 2}.AppendTo(nil))
	f.Add(DiscoveryEntry{SUBNQN: testSUBNQN, TRADDR: "::1"}.AppendTo(nil))
	f.Fuzz(func(t *testing.T, b []byte) {
		if h, err := DecodeDiscoveryHeader(b); err == nil {
			if again, err := DecodeDiscoveryHeader(h.AppendTo(nil)); err != nil || again != h {
				t.Errorf("%+v came back as %+v, %v", h, again, err)
			}
		}
		if e, ok := DecodeDiscoveryEntry(b); ok {
			if again, ok := DecodeDiscoveryEntry(e.AppendTo(nil)); !ok || again != e {
				t.Errorf("%+v came back as %+v", e, again)
			}
		}
	})
}
