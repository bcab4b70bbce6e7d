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
