package nvmf

import "testing"

func TestNLB(t *testing.T) {
	var s SQE
	for _, n := range []uint32{1, 2, 256, 65535, 65536} {
		s.SetRW(RW{NLB: n, DEAC: true})
		if s.NLB() != n || s.FUA() || s.LR() || !s.DEAC() || s.uint16At(48) != uint16(n-1) {
			t.Errorf("%d came back as %d, on the wire %d", n, s.NLB(), s.uint16At(48))
		}
	}
}

func TestDatasetManagement(t *testing.T) {
	var s SQE
	s.Init(uint8(IODatasetManagement), 1, 1)
	s.SetDSM(256, true)
	if s.Ranges() != 256 || !s.AD() || s.CDW(10) != 255 || s.CDW(11) != 4 {
		t.Errorf("%d ranges, AD %t", s.Ranges(), s.AD())
	}
	s.SetDSM(1, false)
	if s.Ranges() != 1 || s.AD() {
		t.Errorf("%d ranges, AD %t", s.Ranges(), s.AD())
	}
	list := DSMRange{5, 6}.AppendTo(nil)
	list = DSMRange{0x01020304, 0x0102030405060708}.AppendTo(list)
	wantBytes(t, "range", list[16:], []byte{0, 0, 0, 0, 4, 3, 2, 1, 8, 7, 6, 5, 4, 3, 2, 1})
	if got := DecodeDSMRange(list, 1); got != (DSMRange{0x01020304, 0x0102030405060708}) {
		t.Errorf("%+v", got)
	}
}

func TestCopy(t *testing.T) {
	var s SQE
	s.Init(uint8(IOCopy), 1, 1)
	s.SetCopy(77, 128, true)
	if s.SLBA() != 77 || s.Ranges() != 128 || s.CopyFormat() != 0 || !s.FUA() {
		t.Errorf("SDLBA %d, %d sources, format %d, FUA %t", s.SLBA(), s.Ranges(), s.CopyFormat(), s.FUA())
	}
	s[49] = 0xF2 // PRINFOR above the format
	if s.CopyFormat() != 2 {
		t.Errorf("format %d", s.CopyFormat())
	}
	list := CopySource{1, 1}.AppendTo(nil)
	list = CopySource{0x0102030405060708, 65536}.AppendTo(list)
	want := make([]byte, 32)
	copy(want[8:], []byte{8, 7, 6, 5, 4, 3, 2, 1, 0xFF, 0xFF})
	wantBytes(t, "source", list[32:], want)
	if got := DecodeCopySource(list, 1); got != (CopySource{0x0102030405060708, 65536}) {
		t.Errorf("%+v", got)
	}
}

func TestReservationCommands(t *testing.T) {
	var s SQE
	s.Init(uint8(IOReservationRegister), 1, 1)
	s.SetReservation(RREGAReplace, true, 0, PTPLSet)
	if s.CDW(10) != 0xC000000A || s.ReservationAction() != RREGAReplace || !s.IEKEY() || s.CPTPL() != PTPLSet {
		t.Errorf("CDW10 %08X", s.CDW(10))
	}
	s.SetReservation(RACQAPreemptAbort, false, ExclusiveAccessAll, PTPLKeep)
	if s.CDW(10) != 0x602 || s.ReservationAction() != RACQAPreemptAbort || s.IEKEY() || s.RTYPE() != ExclusiveAccessAll {
		t.Errorf("CDW10 %08X", s.CDW(10))
	}
	s.SetCDW(10, 0xFFFFFFFF)
	s.SetCDW(11, 1)
	if s.ReportBytes() != 1<<34 || !s.EDS() {
		t.Errorf("%d bytes, EDS %t", s.ReportBytes(), s.EDS())
	}
	b := ReservationKeys{0x0102030405060708, 0x1112131415161718}.AppendTo(nil)
	wantBytes(t, "keys", b, []byte{8, 7, 6, 5, 4, 3, 2, 1, 0x18, 0x17, 0x16, 0x15, 0x14, 0x13, 0x12, 0x11})
	for n := range 17 {
		k, ok := DecodeReservationKeys(b[:n])
		switch {
		case ok != (n >= 8):
			t.Errorf("%d bytes: %t", n, ok)
		case n >= 16 && k != (ReservationKeys{0x0102030405060708, 0x1112131415161718}):
			t.Errorf("%d bytes: %+v", n, k)
		case n >= 8 && n < 16 && k != (ReservationKeys{CRKEY: 0x0102030405060708}):
			t.Errorf("%d bytes: %+v", n, k)
		}
	}
}
