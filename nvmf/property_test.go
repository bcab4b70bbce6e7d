package nvmf

import "testing"

func TestProperties(t *testing.T) {
	var s SQE
	s.InitFabrics(FabricsPropertySet, 1)
	s.SetProperty(PropertyCC, 4, uint64(CCEnable))
	if s.PropertyBytes() != 4 || s.PropertyOffset() != 0x14 || s.PropertyValue() != 0x460001 || s[40] != 0 {
		t.Errorf("% X", s[40:])
	}
	s.SetProperty(PropertyCAP, 8, 0)
	if s.PropertyBytes() != 8 || s.PropertyOffset() != 0 || s[40] != 1 {
		t.Errorf("% X", s[40:])
	}
	for _, size := range []byte{2, 3, 7} {
		s[40] = size
		if s.PropertyBytes() != 0 {
			t.Errorf("size %d has %d bytes", size, s.PropertyBytes())
		}
	}

	c := MakeCAP(128, 15, true)
	if uint64(c) != 0x0800_0030_0F01_007F || c.QueueEntries() != 128 || c.TO() != 15 || !c.NSSRS() || !c.NVM() || !c.CRWMS() ||
		c.PageBytesMin() != 4096 {
		t.Errorf("CAP %016X", uint64(c))
	}
	if c := MakeCAP(65536, 0, false); c.QueueEntries() != 65536 || c.NSSRS() {
		t.Errorf("CAP %016X", uint64(c))
	}
	if got := (CAP(1) << 48).PageBytesMin(); got != 8192 {
		t.Errorf("MPSMIN 1 is %d bytes", got)
	}
	if got := (CAP(0x1F) << 48).PageBytesMin(); got != 1<<27 { // bit 52 is MPSMAX
		t.Errorf("MPSMIN 15 is %d bytes", got)
	}

	cc := CCEnable.WithSHN(SHNAbrupt)
	if !cc.EN() || cc.SHN() != SHNAbrupt || cc.IOSQES() != 6 || cc.IOCQES() != 4 || cc.CSS() != 0 || cc.MPS() != 0 || cc.AMS() != 0 {
		t.Errorf("CC %08X", uint32(cc))
	}
	if cc := cc.WithSHN(SHNNone); cc != CCEnable {
		t.Errorf("CC %08X", uint32(cc))
	}
	if cc := CC(0xFFFFFF); cc.CSS() != 7 || cc.MPS() != 15 || cc.AMS() != 7 || cc.SHN() != 3 || cc.IOSQES() != 15 || cc.IOCQES() != 15 {
		t.Errorf("CC %08X", uint32(cc))
	}
	if CSTSRDY|CSTSCFS|CSTSShutDone != 0xB || CSTSShutMask != 0xC || MakeCRTO(30) != 30 {
		t.Error("CSTS, CRTO")
	}
}
