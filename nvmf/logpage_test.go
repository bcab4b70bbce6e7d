package nvmf

import (
	"encoding/binary"
	"slices"
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
