package nvmf

import (
	"encoding/binary"
	"testing"
)

// One test a rule, named by the specification and the section that states it. TCP is the NVM Express TCP Transport
// Specification, Base the NVM Express Base Specification, NVM the NVM Command Set Specification.

// The length of a header is fixed by its type, and nothing else is taken.
func TestTCP_PDUHeaderLengths(t *testing.T) {
	for typ, want := range map[PDUType]uint8{
		PDUICReq: 128, PDUICResp: 128, PDUH2CTermReq: 24, PDUC2HTermReq: 24, PDUCapsuleCmd: 72, PDUCapsuleResp: 24,
		PDUH2CData: 24, PDUC2HData: 24, PDUR2T: 24,
	} {
		for hlen := range 256 {
			for _, from := range []Side{SideHost, SideController} {
				f := Framing{From: from, Open: typ > PDUICResp, Align: 4, CapsuleBytesMax: 8192, DataBytesMax: 8192}
				h := CommonHeader{Type: typ, HLEN: uint8(hlen), PLEN: uint32(want)}
				if typ == PDUH2CData || typ == PDUC2HData {
					h.PDO, h.PLEN = want, uint32(want)+4
				}
				_, e := f.Frame(h)
				if ok := hlen == int(want) && from == pduKinds[typ].from; e.OK() != ok {
					t.Errorf("%v from side %d with HLEN %d: %v", typ, from, hlen, e)
				}
			}
		}
	}
}

// "Setup & Initialization": ICReq comes first and once, ICResp likewise; TermReqs come at any time.
func TestTCP_SetupAndInitialization(t *testing.T) {
	for _, open := range []bool{false, true} {
		for typ := range pduKinds {
			k := pduKinds[typ]
			if k.name == "" {
				continue
			}
			f := Framing{From: k.from, Open: open, Align: 4, CapsuleBytesMax: 8192, DataBytesMax: 8192}
			h := CommonHeader{Type: PDUType(typ), HLEN: k.hlen, PLEN: uint32(k.hlen)}
			if k.data == dataMust {
				h.PDO, h.PLEN = k.hlen, h.PLEN+4
			}
			_, e := f.Frame(h)
			switch {
			case k.data == dataTerm, k.opens != open:
				if !e.OK() {
					t.Errorf("%s, open %t: %v", k.name, open, e)
				}
			case e != ErrSequence:
				t.Errorf("%s, open %t: %v, want %v", k.name, open, e, ErrSequence)
			}
		}
	}
}

// "Digests": neither covers the padding, and the header digest covers HLEN bytes.
func TestTCP_DigestsLeavePaddingOut(t *testing.T) {
	b := golden(t, "c2hdata")
	framing := with(fromController(), both, 64)
	f, e := framing.Frame(DecodeCommonHeader(b))
	if !e.OK() || f.DataAt-f.HeaderBytes != 36 {
		t.Fatalf("%+v, %v", f, e)
	}
	for at := f.HeaderBytes; at < f.DataAt; at++ {
		b[at] ^= 0xFF
	}
	if e := f.CheckHeader(b); !e.OK() {
		t.Errorf("padding changes the header digest: %v", e)
	}
	if DataDigest(0, b[f.DataAt:][:f.DataBytes]) != Digest(b[f.DataAt+f.DataBytes:]) {
		t.Error("padding changes the data digest")
	}
}

// "Digests": TermReq, ICReq and ICResp never have any; every other PDU has HDGST when it is in use, and DDGST when it is
// in use and there is data.
func TestTCP_WhichPDUsHaveDigests(t *testing.T) {
	sqe := testSQE()
	for d := range Digests(4) {
		flags := func(b []byte) (hdgst, ddgst bool) { return b[1]&FlagHDGST != 0, b[1]&FlagDDGST != 0 }
		for name, c := range map[string]struct {
			b          []byte
			hdgst, ddg bool
		}{
			"ICReq":               {ICReq{Digests: d}.AppendTo(nil), false, false},
			"ICResp":              {ICResp{Digests: d}.AppendTo(nil), false, false},
			"H2CTermReq":          {TermReq{PDUH2CTermReq, ErrSequence, make([]byte, 8)}.AppendTo(nil), false, false},
			"CapsuleCmd":          {AppendCapsuleCmd(nil, sqe, 0, d, 4), d&HeaderDigests != 0, false},
			"CapsuleCmd and data": {AppendCapsuleCmd(nil, sqe, 4, d, 4), d&HeaderDigests != 0, d&DataDigests != 0},
			"CapsuleResp":         {AppendCapsuleResp(nil, CQE{}, d), d&HeaderDigests != 0, false},
			"R2T":                 {R2T{R2TL: 4}.AppendTo(nil, d), d&HeaderDigests != 0, false},
			"H2CData":             {DataPDU{DATAL: 4}.AppendH2CData(nil, d, 4), d&HeaderDigests != 0, d&DataDigests != 0},
			"C2HData":             {DataPDU{DATAL: 4}.AppendC2HData(nil, d, 4), d&HeaderDigests != 0, d&DataDigests != 0},
		} {
			if h, dd := flags(c.b); h != c.hdgst || dd != c.ddg {
				t.Errorf("%s with digests %d: HDGSTF %t, DDGSTF %t", name, d, h, dd)
			}
		}
	}
}

// "ICReq", HPDA: data begins at a multiple of (HPDA+1)×4; with HPDA 0 right behind the header and its digest.
func TestTCP_DataAlignment(t *testing.T) {
	for pda := range uint8(32) {
		for d := range Digests(4) {
			b := DataPDU{DATAL: 4}.AppendC2HData(nil, d, DataAlign(pda))
			header := 24
			if d&HeaderDigests != 0 {
				header = 28
			}
			step := (int(pda) + 1) * 4
			want := (header + step - 1) / step * step
			if len(b) != want || int(b[3]) != want {
				t.Errorf("PDA %d, digests %d: %d bytes, PDO %d, want %d", pda, d, len(b), b[3], want)
			}
			plen := want + 4
			if d&DataDigests != 0 {
				plen += 4
			}
			if got := binary.LittleEndian.Uint32(b[4:]); int(got) != plen {
				t.Errorf("PDA %d, digests %d: PLEN %d, want %d", pda, d, got, plen)
			}
		}
	}
}

// "Command Capsules": without data PDO is 0 and PLEN is header and digest.
func TestTCP_CapsuleWithoutData(t *testing.T) {
	for d := range Digests(4) {
		b := AppendCapsuleCmd(nil, testSQE(), 0, d, 128)
		if b[3] != 0 || int(binary.LittleEndian.Uint32(b[4:])) != len(b) {
			t.Errorf("digests %d: PDO %d, PLEN % X, %d bytes", d, b[3], b[4:8], len(b))
		}
	}
}

// "Error Handling Model": a TermReq holds at most 128 bytes of the header at fault.
func TestTCP_TermReqLength(t *testing.T) {
	for n := range 200 {
		b := TermReq{PDUC2HTermReq, badByte(4), make([]byte, n)}.AppendTo(nil)
		if want := 24 + min(n, 128); len(b) != want || int(binary.LittleEndian.Uint32(b[4:])) != want {
			t.Errorf("%d bytes of header: %d long, PLEN % X, want %d", n, len(b), b[4:8], want)
		}
	}
}

// "Connect Command and Response": whatever is wrong with a Connect, it is not Invalid Field.
func TestBase_ConnectIsNeverInvalidField(t *testing.T) {
	d := testConnectData()
	good := d.AppendTo(nil)
	for at := range good {
		for _, x := range []byte{0x01, 0x80, 0xFF} {
			b := append([]byte(nil), good...)
			b[at] ^= x
			if _, st, _ := DecodeConnectData(b); st.Code() == StatusInvalidField {
				t.Errorf("byte %d: %v", at, st)
			}
		}
	}
	var s SQE
	for typ := range 16 {
		for subtype := range uint8(16) {
			for psdt := range 4 {
				s.InitFabrics(FabricsConnect, 1)
				s[1] = byte(psdt) << 6
				s.SetSGL(SGL{Type: SGLType(typ), Subtype: subtype, Bytes: 1024})
				if _, _, st := s.TCPData(1024); st.Code() == StatusInvalidField {
					t.Errorf("SGL %X%X, PSDT %d: %v", typ, subtype, psdt, st)
				}
			}
		}
	}
}

// "Status Field Definition": on the wire the status begins at bit 1, and bit 0, the phase, is 0 over fabrics.
func TestBase_StatusField(t *testing.T) {
	for s, want := range map[Status]uint16{
		0: 0, StatusInvalidField: 0x0004, StatusConnectParameters: 0x0304, StatusReadError | DNR: 0x8502,
		StatusSuccess | 1<<11: 0x1000, StatusSuccess | More: 0x4000,
	} {
		b := CQE{Status: s}.AppendTo(nil)
		if got := binary.LittleEndian.Uint16(b[14:]); got != want {
			t.Errorf("%v: %04X, want %04X", s, got, want)
		}
	}
}

// "Asymmetric Namespace Access": no path status tells a host not to retry, because another path may serve it.
func TestBase_PathStatusesAreRetried(t *testing.T) {
	for s := range ANAState(16) {
		if st := s.Status(); st.DNR() || !st.OK() && st.SCT() != 3 {
			t.Errorf("%v: %v", s, st)
		}
	}
}

// "Namespace Identification Descriptor": each type has its length, and the list ends with zeros.
func TestBase_NamespaceIdentificationDescriptors(t *testing.T) {
	n := NamespaceIDs{EUI64: [8]byte{1}, NGUID: [16]byte{1}, UUID: [16]byte{1}}
	b := n.AppendTo(nil)
	for _, want := range []struct{ nidt, bytes int }{{1, 8}, {2, 16}, {3, 16}, {4, 1}} {
		if int(b[0]) != want.nidt || int(b[1]) != want.bytes {
			t.Errorf("type %d, length %d, want %d and %d", b[0], b[1], want.nidt, want.bytes)
		}
		b = b[4+want.bytes:]
	}
	for i, x := range b {
		if x != 0 {
			t.Fatalf("byte %d behind the last descriptor is %d", i, x)
		}
	}
}

// "Get Log Page command": NUMD counts dwords from 0 and has two halves, and an offset is a multiple of 4.
func TestBase_LogPageLength(t *testing.T) {
	var s SQE
	s[42], s[43], s[44], s[45] = 0xFF, 0xFF, 0xFF, 0xFF
	if p := s.LogPage(); p.Bytes != 1<<34 {
		t.Errorf("%d bytes", p.Bytes)
	}
	s = SQE{}
	if p := s.LogPage(); p.Bytes != 4 {
		t.Errorf("%d bytes", p.Bytes)
	}
	page := make([]byte, 8)
	for offset := range uint64(16) {
		_, st := LogPage{Offset: offset, Bytes: 4}.Window(page)
		if want := offset%4 == 0 && offset <= 8; st.OK() != want {
			t.Errorf("offset %d of 8: %v", offset, st)
		}
	}
}

// "Read command" and its siblings: NLB is 0-based, CDW12 15:0.
func TestNVM_NumberOfLogicalBlocks(t *testing.T) {
	var s SQE
	for _, c := range []struct{ cdw12, want uint32 }{{0, 1}, {7, 8}, {0xFFFF, 65536}, {0xFFFF0000, 1}} {
		s.SetCDW(12, c.cdw12)
		if got := s.NLB(); got != c.want {
			t.Errorf("CDW12 %08X: %d blocks, want %d", c.cdw12, got, c.want)
		}
	}
}

// "Write Zeroes command" and its siblings: DEAC is bit 25 of CDW12, FUA 30 and LR 31, and no other bit is any of them.
func TestNVM_ControlBits(t *testing.T) {
	var s SQE
	for bit := range 32 {
		s.SetCDW(12, 1<<bit)
		if s.DEAC() != (bit == 25) || s.FUA() != (bit == 30) || s.LR() != (bit == 31) {
			t.Errorf("bit %d: DEAC %t, FUA %t, LR %t", bit, s.DEAC(), s.FUA(), s.LR())
		}
	}
	s.SetRW(RW{NLB: 1, DEAC: true})
	if s.CDW(12) != 1<<25 {
		t.Errorf("DEAC is set as %08X", s.CDW(12))
	}
}

// "Dataset Management command": NR is 0-based, the length of a range is not.
func TestNVM_DatasetManagementRanges(t *testing.T) {
	var s SQE
	s.Init(uint8(IODatasetManagement), 1, 1)
	for nr := range uint32(256) {
		s.SetCDW(10, nr|0xFFFFFF00)
		if got := s.Ranges(); got != int(nr)+1 {
			t.Errorf("NR %d: %d ranges", nr, got)
		}
	}
	if r := DecodeDSMRange(make([]byte, 16), 0); r.NLB != 0 {
		t.Errorf("an empty range has %d blocks", r.NLB)
	}
}

// Every bit and code that we name, beside the number that the headers of Linux 6.12 and libnvme 1.3 give it.
func TestBase_Numbers(t *testing.T) {
	same := func(name string, got, want uint64) {
		if got != want {
			t.Errorf("%s is %X, want %X", name, got, want)
		}
	}
	for name, c := range map[string][2]uint64{
		"CMIC ports": {uint64(CMICPorts), 1}, "CMIC controllers": {uint64(CMICControllers), 2}, "CMIC ANA": {uint64(CMICANA), 8},
		"OAES namespaces": {uint64(OAESNamespaces), 0x100}, "OAES ANA": {uint64(OAESANA), 0x800}, "OAES discovery": {uint64(OAESDiscovery), 0x80000000},
		"CTRATT HOSTID128": {uint64(CTRATTHOSTID128), 1}, "CTRATT TBKAS": {uint64(CTRATTTBKAS), 0x40},
		"LPA effects": {uint64(LPAEffects), 2}, "LPA extended": {uint64(LPAExtended), 4}, "LPA pages": {uint64(LPAPages), 0x20},
		"ANACAP optimized": {uint64(ANACAPOptimized), 1}, "ANACAP non-optimized": {uint64(ANACAPNonOptimized), 2},
		"ANACAP inaccessible": {uint64(ANACAPInaccessible), 4}, "ANACAP loss": {uint64(ANACAPLoss), 8}, "ANACAP change": {uint64(ANACAPChange), 0x10},
		"ANACAP group fixed": {uint64(ANACAPGroupFixed), 0x40},
		"ONCS compare":       {uint64(ONCSCompare), 1}, "ONCS write uncorrectable": {uint64(ONCSWriteUncorrectable), 2}, "ONCS DSM": {uint64(ONCSDSM), 4},
		"ONCS write zeroes": {uint64(ONCSWriteZeroes), 8}, "ONCS save": {uint64(ONCSSave), 0x10}, "ONCS reservations": {uint64(ONCSReservations), 0x20},
		"ONCS timestamp": {uint64(ONCSTimestamp), 0x40}, "ONCS verify": {uint64(ONCSVerify), 0x80}, "ONCS copy": {uint64(ONCSCopy), 0x100},
		"FUSES": {uint64(FUSESCompareAndWrite), 1}, "VWC": {uint64(VWCPresent), 1}, "VWC no flush of all": {uint64(VWCFlushNotAll), 4},
		"VWC flush of all": {uint64(VWCFlushAll), 6}, "NWPC": {uint64(NWPCProtect), 1}, "OCFS": {uint64(OCFSFormat0), 1},
		"SGLS": {uint64(SGLSAnyAlign), 1}, "SGLS keyed": {uint64(SGLSKeyed), 4}, "SGLS offset": {uint64(SGLSOffset), 0x100000},
		"SGLS transport": {uint64(SGLSTransport), 0x200000}, "FCATT": {uint64(FCATTStatic), 1}, "OFCS": {uint64(OFCSDisconnect), 1},
		"CNTRLTYPE I/O": {uint64(ControllerIO), 1}, "CNTRLTYPE discovery": {uint64(ControllerDiscovery), 2},

		"NSFEAT thin": {uint64(NSFEATThin), 1}, "NSFEAT atomic": {uint64(NSFEATAtomic), 2}, "NSFEAT optimal": {uint64(NSFEATOptimal), 0x10},
		"NMIC": {uint64(NMICShared), 1}, "DLFEAT zeros": {uint64(DLFEATZeros), 1}, "DLFEAT DEAC": {uint64(DLFEATDEAC), 8},
		"NSATTR": {uint64(NSATTRProtected), 1}, "NSTAT": {uint64(NSTATReady), 1},
		"RESCAP": {uint64(RESCAPPTPL | RESCAPTypes | RESCAPIgnoreKeys), 0xFF}, "RESCAP types": {uint64(RESCAPTypes), 0x7E}, "RESCAP PTPL": {uint64(RESCAPPTPL), 1},

		"CSUPP": {uint64(EffectsSupported), 1}, "LBCC": {uint64(EffectsContent), 2}, "NCC": {uint64(EffectsNamespace), 4},
		"NIC": {uint64(EffectsInventory), 8}, "CCC": {uint64(EffectsControl), 0x10}, "scope namespace": {uint64(ScopeNamespace), 0x100000},
		"scope controller": {uint64(ScopeController), 0x200000}, "scope subsystem": {uint64(ScopeSubsystem), 0x2000000},
		"warning spare": {uint64(WarningSpare), 1}, "warning temperature": {uint64(WarningTemperature), 2},
		"warning reliability": {uint64(WarningReliability), 4}, "warning read-only": {uint64(WarningReadOnly), 8},
		"RGO": {LSPANAGroupsOnly, 1}, "EXTDLPE": {LSPDiscoveryExtend, 1}, "PLEO": {LSPDiscoveryPort, 2}, "ALLSUBE": {LSPDiscoveryAll, 4},
		"feature saveable": {FeatureSaveable, 1}, "feature per namespace": {FeatureNamespace, 2}, "feature changeable": {FeatureChangeable, 4},

		"SUBTYPE referral": {uint64(SubsystemReferral), 1}, "SUBTYPE NVMe": {uint64(SubsystemNVMe), 2}, "SUBTYPE this service": {uint64(SubsystemDiscovery), 3},
		"TREQ required": {uint64(TREQSecure), 1}, "TREQ not required": {uint64(TREQNotSecure), 2}, "TREQ SQ flow": {uint64(TREQNoSQFlow), 4},
		"EFLAGS duplicate": {uint64(EFLAGSDuplicate), 1}, "EFLAGS persistent": {uint64(EFLAGSPersistent), 2},
		"SECTYPE": {uint64(SecurityNone), 0}, "SECTYPE TLS 1.3": {uint64(SecurityTLS13), 2},

		"CATTR": {CATTRNoFlow, 4}, "ATR": {ConnectATR, 0x20000}, "ASCR": {ConnectASCR, 0x40000}, "NSSR": {NSSRValue, 0x4E564D65},
		"CRTO": {PropertyCRTO, 0x68}, "VS": {PropertyVS, 8}, "CSTS": {PropertyCSTS, 0x1C}, "NSSR@": {PropertyNSSR, 0x20},
		"RDY": {uint64(CSTSRDY), 1}, "CFS": {uint64(CSTSCFS), 2}, "SHST going on": {uint64(CSTSShutting), 4}, "SHST complete": {uint64(CSTSShutDone), 8},
		"NSSRO": {uint64(CSTSNSSRO), 0x10}, "PP": {uint64(CSTSPaused), 0x20}, "ST": {uint64(CSTSShutdownType), 0x40},
		"DNR": {uint64(DNR), 0x4000}, "M": {uint64(More), 0x2000},
	} {
		same(name, c[0], c[1])
	}
}
