package nvmf

import (
	"bytes"
	"strings"
	"testing"
)

const (
	testSUBNQN  = "nqn.2026-01.io.pollux:vol1"
	testHOSTNQN = "nqn.2014-08.org.nvmexpress:uuid:f81d4fae-7dec-11d0-a765-00a0c91e6bf6"
)

func testConnectData() ConnectData {
	d := ConnectData{CNTLID: CNTLIDDynamic, SUBNQN: testSUBNQN, HOSTNQN: testHOSTNQN}
	for i := range d.HOSTID {
		d.HOSTID[i] = byte(i + 1)
	}
	return d
}

func TestConnect(t *testing.T) {
	var s SQE
	s.InitFabrics(FabricsConnect, 0x1234)
	s.SetSGL(SGL{Type: SGLDataBlock, Subtype: SGLOffset, Bytes: ConnectDataBytes})
	s.SetConnect(3, 128, CATTRNoFlow, 5000)
	d := testConnectData()
	b := d.AppendTo(s[:])
	wantBytes(t, "Connect", b, golden(t, "connect"))

	if s.Opcode() != OpcodeFabrics || s.FCTYPE() != FabricsConnect || s.RECFMT() != 0 || s.ConnectQID() != 3 ||
		s.QueueEntries() != 128 || s.CATTR() != CATTRNoFlow || s.ConnectKATO() != 5000 {
		t.Errorf("% X", s[:])
	}
	got, st, ipo := DecodeConnectData(b[SQEBytes:])
	if st != StatusSuccess || ipo != 0 || got != d {
		t.Errorf("%+v, %v, %X", got, st, ipo)
	}
	s.SetConnect(0, 65536, 0, 0)
	if s.QueueEntries() != 65536 {
		t.Errorf("%d entries", s.QueueEntries())
	}
}

func TestWrongConnectData(t *testing.T) {
	d := testConnectData()
	good := d.AppendTo(nil)
	for n := range good {
		if _, st, ipo := DecodeConnectData(good[:n:n]); st != StatusSGLLength|DNR || ipo != 0 {
			t.Fatalf("cut to %d bytes: %v, %X", n, st, ipo)
		}
	}
	fill := func(b []byte, s string) { clear(b[:256]); copy(b, s) }
	long := "nqn.2026-01.io.pollux:" + strings.Repeat("x", 224-22)
	for _, c := range []struct {
		name string
		edit func(b []byte)
		ipo  IPO
	}{
		{"SUBNQN empty", func(b []byte) { fill(b[256:], "") }, 0x10100},
		{"SUBNQN of 224 bytes", func(b []byte) { fill(b[256:], long) }, 0x10100},
		{"SUBNQN without NUL", func(b []byte) { copy(b[256:512], bytes.Repeat([]byte("x"), 256)) }, 0x10100},
		{"SUBNQN not UTF-8", func(b []byte) { fill(b[256:], "nqn.2026-01.io.pollux:\xff") }, 0x10100},
		{"HOSTNQN empty", func(b []byte) { fill(b[512:], "") }, 0x10200},
		{"HOSTNQN an IQN", func(b []byte) { fill(b[512:], "iqn.2026-01.io.pollux:x") }, 0x10200},
		{"HOSTNQN without NUL", func(b []byte) { copy(b[512:768], bytes.Repeat([]byte("x"), 256)) }, 0x10200},
		{"both: the lower is named", func(b []byte) { clear(b[256:768]) }, 0x10100},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := bytes.Clone(good)
			c.edit(b)
			if _, st, ipo := DecodeConnectData(b); st != StatusConnectParameters|DNR || ipo != c.ipo {
				t.Errorf("%v, %X; want IPO %X", st, ipo, c.ipo)
			}
		})
	}
	b := bytes.Clone(good)
	fill(b[256:], long[:223])
	b[511], b[1023], b[100] = 1, 1, 1
	if _, st, ipo := DecodeConnectData(b); st != StatusSuccess {
		t.Errorf("223 bytes, and bytes behind the NUL: %v, %X", st, ipo)
	}
}

func TestCheckNQN(t *testing.T) {
	for _, nqn := range []string{
		DiscoveryNQN, testSUBNQN, testHOSTNQN,
		"nqn.2014-08.org.nvmexpress:uuid:F81D4FAE-7DEC-11D0-A765-00A0C91E6BF6",
		"nqn.2014-08.org.nvmexpress:NVMf:uuid:f81d4fae-7dec-11d0-a765-00a0c91e6bf6",
		"nqn.2019-08.org.qemu:disk 1", "nqn.2026-12.io:x", "nqn.2000-01.com.3par:ü:ö", "nqn.2016-06.io.spdk:cnode1",
		"nqn.2026-01.io.pollux:" + strings.Repeat("x", 223-22),
	} {
		if err := CheckNQN(nqn); err != nil {
			t.Errorf("%q: %v", nqn, err)
		}
	}
	for name, nqn := range map[string]string{
		"empty":                    "",
		"an IQN":                   "iqn.2026-01.io.pollux:vol1",
		"prefix alone":             "nqn.",
		"capital prefix":           "NQN.2026-01.io.pollux:x",
		"no colon":                 "nqn.2026-01.io.pollux",
		"nothing behind colon":     "nqn.2026-01.io.pollux:",
		"no date":                  "nqn.io.pollux:x",
		"a dot in the date":        "nqn.2026.01.io.pollux:x",
		"month 00":                 "nqn.2026-00.io.pollux:x",
		"month 13":                 "nqn.2026-13.io.pollux:x",
		"month of one digit":       "nqn.2026-1.io.pollux:x",
		"no domain":                "nqn.2026-01.:x",
		"no dot behind the date":   "nqn.2026-01:x",
		"empty label":              "nqn.2026-01.io..pollux:x",
		"label ends with hyphen":   "nqn.2026-01.io.pollux-:x",
		"label begins with hyphen": "nqn.2026-01.io.-pollux:x",
		"label with underscore":    "nqn.2026-01.io.pol_lux:x",
		"label of 64":              "nqn.2026-01.io." + strings.Repeat("a", 64) + ":x",
		"224 bytes":                "nqn.2026-01.io.pollux:" + strings.Repeat("x", 224-22),
		"not UTF-8":                "nqn.2026-01.io.pollux:\xc3\x28",
		"a NUL":                    "nqn.2026-01.io.pollux:a\x00b",
		"UUID too short":           "nqn.2014-08.org.nvmexpress:uuid:f81d4fae-7dec-11d0-a765-00a0c91e6bf",
		"UUID too long":            "nqn.2014-08.org.nvmexpress:uuid:f81d4fae-7dec-11d0-a765-00a0c91e6bf61",
		"UUID without hyphens":     "nqn.2014-08.org.nvmexpress:uuid:f81d4fae07dec011d00a765000a0c91e6bf6",
		"UUID not hexadecimal":     "nqn.2014-08.org.nvmexpress:uuid:g81d4fae-7dec-11d0-a765-00a0c91e6bf6",
		"discovery and more":       DiscoveryNQN + ".x",
	} {
		if err := CheckNQN(nqn); err == nil {
			t.Errorf("%s: %q was taken", name, nqn)
		} else if !strings.HasPrefix(err.Error(), "NQN ") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

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

func TestAuthentication(t *testing.T) {
	var s SQE
	s.InitFabrics(FabricsAuthSend, 1)
	s.SetAuth(0x01020304)
	wantBytes(t, "CDW10, 11", s[40:48], []byte{0, 1, 1, 0xE9, 4, 3, 2, 1})
	if !s.AuthProtocol() || s.AuthBytes() != 0x01020304 {
		t.Errorf("protocol %t, %d bytes", s.AuthProtocol(), s.AuthBytes())
	}
	for at := 41; at <= 43; at++ {
		bad := s
		bad[at]++
		if bad.AuthProtocol() {
			t.Errorf("byte %d wrong", at)
		}
	}
}

func FuzzConnectData(f *testing.F) {
	d := testConnectData()
	f.Add(d.AppendTo(nil))
	f.Add(make([]byte, ConnectDataBytes))
	f.Fuzz(func(t *testing.T, b []byte) {
		d, st, ipo := DecodeConnectData(b)
		if st == StatusSuccess {
			again, st, _ := DecodeConnectData(d.AppendTo(nil))
			if st != StatusSuccess || again != d || CheckNQN(d.SUBNQN) != nil || CheckNQN(d.HOSTNQN) != nil {
				t.Errorf("%+v came back as %+v, %v", d, again, st)
			}
		} else if st.Code() == StatusInvalidField || (st.Code() == StatusConnectParameters) != (ipo != 0) {
			t.Errorf("%v, IPO %X", st, ipo)
		}
	})
}
