package nvmf

import (
	"bytes"
	"testing"
)

func TestIdentifyCommand(t *testing.T) {
	var s SQE
	s.Init(uint8(AdminIdentify), 1, 7)
	s.SetIdentify(CNSControllers, CSINVM, 0x1234)
	wantBytes(t, "CDW10, 11", s[40:48], []byte{0x13, 0, 0x34, 0x12, 0, 0, 0, 0})
	s.SetIdentify(CNSIONamespace, 2, 0)
	if s.CNS() != CNSIONamespace || s.IdentifyCSI() != 2 || s.CNTID() != 0 {
		t.Errorf("% X", s[40:48])
	}
}

func TestLogPageCommand(t *testing.T) {
	var s SQE
	s.Init(uint8(AdminGetLogPage), 1, NSIDAll)
	p := LogPage{LID: LIDANA, LSP: LSPANAGroupsOnly, RAE: true, LSI: 0x0102, CSI: 3, Offset: 0x1122334455667788, Bytes: 0x0A0B0C0D * 4}
	s.SetLogPage(p)
	wantBytes(t, "CDW10 to 14", s[40:60], []byte{
		0x0C, 0x81, 0x0C, 0x0C, 0x0B, 0x0A, 0x02, 0x01, 0x88, 0x77, 0x66, 0x55, 0x44, 0x33, 0x22, 0x11, 0, 0, 0, 3})
	if got := s.LogPage(); got != p {
		t.Errorf("%+v came back as %+v", p, got)
	}
	for _, p := range []LogPage{
		{Bytes: 4}, {Bytes: 1 << 34}, {Bytes: 4096, OffsetIndex: true, Offset: 1}, {LID: LIDDiscovery, LSP: 0x7F, Bytes: 1024},
	} {
		s.SetLogPage(p)
		if got := s.LogPage(); got != p {
			t.Errorf("%+v came back as %+v", p, got)
		}
	}
}

func TestLogPageWindow(t *testing.T) {
	page := []byte("0123456789AB")
	for _, c := range []struct {
		name   string
		p      LogPage
		want   string
		status Status
	}{
		{"all", LogPage{Bytes: 12}, "0123456789AB", 0},
		{"front", LogPage{Bytes: 4}, "0123", 0},
		{"middle", LogPage{Offset: 4, Bytes: 4}, "4567", 0},
		{"past the end", LogPage{Offset: 8, Bytes: 4096}, "89AB", 0},
		{"at the end", LogPage{Offset: 12, Bytes: 4}, "", 0},
		{"largest", LogPage{Bytes: 1 << 34}, "0123456789AB", 0},
		{"behind the end", LogPage{Offset: 16, Bytes: 4}, "", StatusInvalidField | DNR},
		{"offset not a multiple of 4", LogPage{Offset: 2, Bytes: 4}, "", StatusInvalidField | DNR},
		{"offset near 2^64", LogPage{Offset: ^uint64(3), Bytes: 4}, "", StatusInvalidField | DNR},
		{"offset is an index", LogPage{OffsetIndex: true, Bytes: 4}, "", StatusInvalidField | DNR},
	} {
		if got, st := c.p.Window(page); !bytes.Equal(got, []byte(c.want)) || st != c.status {
			t.Errorf("%s: %q, %v; want %q, %v", c.name, got, st, c.want, c.status)
		}
	}
}

func TestFeatureCommands(t *testing.T) {
	var s SQE
	s.Init(uint8(AdminSetFeatures), 1, 0)
	s.SetFID(FIDQueues, 0x00030007)
	if s.FID() != FIDQueues || s.SEL() != SELCurrent || s.SV() || s.CDW(11) != 0x00030007 {
		t.Errorf("% X", s[40:48])
	}
	s.SetCDW(10, 1<<31|3<<8|0x81)
	if s.FID() != FIDHostID || s.SEL() != SELSupported || !s.SV() {
		t.Errorf("% X", s[40:48])
	}
}

func TestAbortCommand(t *testing.T) {
	var s SQE
	s.Init(uint8(AdminAbort), 1, 0)
	s.SetAbort(3, 0xBEEF)
	if s.AbortSQID() != 3 || s.AbortCID() != 0xBEEF || s.CDW(10) != 0xBEEF0003 {
		t.Errorf("% X", s[40:44])
	}
}

func TestEvents(t *testing.T) {
	for e, want := range map[Event]uint32{
		EventNamespaces: 0x040002, EventANA: 0x0C0302, EventDiscovery: 0x70F002, EventReservation: 0x800006,
	} {
		if got := e.DW0(); got != want {
			t.Errorf("%+v is %06X, want %06X", e, got, want)
		}
		if got := DecodeEvent(want); got != e {
			t.Errorf("%06X is %+v, want %+v", want, got, e)
		}
	}
}

func TestQueues(t *testing.T) {
	for q, want := range map[Queues]uint32{{8, 4}: 0x00030007, {1, 1}: 0, {65536, 65535}: 0xFFFEFFFF} {
		if got := q.Encode(); got != want {
			t.Errorf("%+v is %08X, want %08X", q, got, want)
		}
		if got := DecodeQueues(want); got != q {
			t.Errorf("%08X is %+v, want %+v", want, got, q)
		}
	}
}
