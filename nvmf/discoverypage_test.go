package nvmf

import (
	"bytes"
	"testing"
)

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
	for got, want := range map[string]string{
		TransportRDMA.String(): "RDMA", TransportFC.String(): "FC", TransportTCP.String(): "TCP", TRTYPE(9).String(): "transport type 9",
		AddressIPv4.String(): "IPv4", AddressIPv6.String(): "IPv6", ADRFAM(9).String(): "address family 9",
	} {
		if got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
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
