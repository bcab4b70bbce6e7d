package nvmf

import (
	"reflect"
	"strings"
	"testing"
)

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

	if n, groups, err := DecodeANALog(AppendANALog(nil, 7, nil, false)); err != nil || n != 7 || len(groups) != 0 {
		t.Errorf("a page without groups: %d, %v, %v", n, groups, err)
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
		if !ok && (s.Status() != StatusANAInaccessible || s.String() == "") {
			t.Errorf("state %d: %v, %v", uint8(s), s, s.Status())
		}
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
