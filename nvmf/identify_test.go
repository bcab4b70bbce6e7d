package nvmf

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"os"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// A structure with a layout: how it is encoded, and what is read back.
type structure struct {
	new    func() any // a pointer to a zero one
	append func(v any, b []byte) []byte
	decode func(b []byte) (any, bool)
	bytes  int
}

var structures = map[string]structure{
	"IdentifyController": {
		func() any { return new(IdentifyController) },
		func(v any, b []byte) []byte { return v.(*IdentifyController).AppendTo(b) },
		func(b []byte) (any, bool) { v, ok := DecodeIdentifyController(b); return &v, ok },
		4096,
	},
	"IdentifyNamespace": {
		func() any { return new(IdentifyNamespace) },
		func(v any, b []byte) []byte { return v.(*IdentifyNamespace).AppendTo(b) },
		func(b []byte) (any, bool) { v, ok := DecodeIdentifyNamespace(b); return &v, ok },
		4096,
	},
	"IndependentNamespace": {
		func() any { return new(IndependentNamespace) },
		func(v any, b []byte) []byte { return v.(*IndependentNamespace).AppendTo(b) },
		func(b []byte) (any, bool) { v, ok := DecodeIndependentNamespace(b); return &v, ok },
		4096,
	},
	"NVMController": {
		func() any { return new(NVMController) },
		func(v any, b []byte) []byte { return v.(*NVMController).AppendTo(b) },
		func(b []byte) (any, bool) { v, ok := DecodeNVMController(b); return &v, ok },
		4096,
	},
	"Health": {
		func() any { return new(Health) },
		func(v any, b []byte) []byte { return v.(*Health).AppendTo(b) },
		func(b []byte) (any, bool) { v, ok := DecodeHealth(b); return &v, ok },
		512,
	},
	"ErrorEntry": {
		func() any { return new(ErrorEntry) },
		func(v any, b []byte) []byte { return v.(*ErrorEntry).AppendTo(b) },
		func(b []byte) (any, bool) { v, ok := DecodeErrorEntry(b); return &v, ok },
		64,
	},
	"DiscoveryEntry": {
		func() any { return new(DiscoveryEntry) },
		func(v any, b []byte) []byte { return v.(*DiscoveryEntry).AppendTo(b) },
		func(b []byte) (any, bool) { v, ok := DecodeDiscoveryEntry(b); return &v, ok },
		1024,
	},
	"DiscoveryHeader": {
		func() any { return new(DiscoveryHeader) },
		func(v any, b []byte) []byte { return v.(*DiscoveryHeader).AppendTo(b) },
		func(b []byte) (any, bool) {
			v, err := DecodeDiscoveryHeader(b)
			return &v, err == nil && len(b) >= 1024
		},
		1024,
	},
	"ReservationReport": {
		func() any { return new(ReservationReport) },
		func(v any, b []byte) []byte { return v.(*ReservationReport).AppendTo(b) },
		func(b []byte) (any, bool) { v, ok := DecodeReservationReport(b); return &v, ok },
		64,
	},
	"Registrant": {
		func() any { return new(Registrant) },
		func(v any, b []byte) []byte { return v.(*Registrant).AppendTo(b) },
		func(b []byte) (any, bool) { v, ok := DecodeRegistrant(b); return &v, ok },
		64,
	},
	"ReservationNotification": {
		func() any { return new(ReservationNotification) },
		func(v any, b []byte) []byte { return v.(*ReservationNotification).AppendTo(b) },
		func(b []byte) (any, bool) { v, ok := DecodeReservationNotification(b); return &v, ok },
		64,
	},
}

// The fields that testdata/offsets.txt cannot have, because they are not whole bytes of their own.
var withoutOffset = map[string]bool{
	"ErrorEntry.Status": true, "ReservationReport.PTPLS": true, "Registrant.Holder": true,
}

// field finds a.b.0.c in v and gives it with its wire value set to 01 02 03 …, and those bytes.
func setField(t *testing.T, v reflect.Value, path string, n int) []byte {
	for name := range strings.SplitSeq(path, ".") {
		if i, err := strconv.Atoi(name); err == nil {
			v = v.Index(i)
		} else {
			v = v.FieldByName(name)
		}
		if !v.IsValid() {
			t.Fatalf("there is no field %s", path)
		}
	}
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(i + 1)
	}
	switch v.Kind() {
	case reflect.String:
		if n == NQNFieldBytes && strings.HasSuffix(path, "NQN") {
			b = append(bytes.Repeat([]byte("n"), NQNFieldBytes-1), 0)
			v.SetString(string(b[:NQNFieldBytes-1]))
		} else {
			b = bytes.Repeat([]byte("x"), n)
			v.SetString(string(b))
		}
	case reflect.Array:
		reflect.Copy(v, reflect.ValueOf(b))
	case reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		size := int(v.Type().Size())
		if size < n { // 16 bytes of which 8 are kept
			clear(b[size:])
		}
		var x uint64
		for i := range min(size, n) {
			x |= uint64(b[i]) << (8 * i)
		}
		v.SetUint(x)
	default:
		t.Fatalf("%s is a %v", path, v.Kind())
	}
	return b
}

// Every field stands where the headers of others have it, and nowhere else.
func TestOffsets(t *testing.T) {
	text, err := os.ReadFile("testdata/offsets.txt")
	if err != nil {
		t.Fatal(err)
	}
	seen := map[string]bool{}
	for line := range strings.Lines(string(text)) {
		if strings.HasPrefix(line, "#") {
			continue
		}
		var row string
		var at, n int
		if _, err := fmt.Sscan(line, &row, &at, &n); err != nil {
			t.Fatalf("%q: %v", line, err)
		}
		typ, path, _ := strings.Cut(row, ".")
		s := structures[typ]
		v := s.new()
		base := s.append(v, nil)
		want := setField(t, reflect.ValueOf(v).Elem(), path, n)
		got := s.append(v, nil)
		wantBytes(t, row, got[at:at+n], want)
		if !bytes.Equal(got[:at], base[:at]) || !bytes.Equal(got[at+n:], base[at+n:]) {
			t.Errorf("%s changes bytes outside %d to %d", row, at, at+n)
		}
		name, _, _ := strings.Cut(path, ".")
		seen[typ+"."+name] = true
	}
	for typ, s := range structures {
		v := reflect.ValueOf(s.new()).Elem()
		for i := range v.NumField() {
			if name := typ + "." + v.Type().Field(i).Name; !seen[name] && !withoutOffset[name] {
				t.Errorf("%s has no row in testdata/offsets.txt", name)
			}
		}
	}
}

// fill sets every field to something random that can be told from its neighbours.
func fill(rng *rand.Rand, v reflect.Value) {
	switch v.Kind() {
	case reflect.Struct:
		for i := range v.NumField() {
			fill(rng, v.Field(i))
		}
	case reflect.Array:
		for i := range v.Len() {
			fill(rng, v.Index(i))
		}
	case reflect.String:
		b := make([]byte, rng.IntN(8))
		for i := range b {
			b[i] = 'a' + byte(rng.IntN(26))
		}
		v.SetString(string(b))
	case reflect.Bool:
		v.SetBool(rng.IntN(2) == 0)
	default:
		v.SetUint(rng.Uint64() >> (64 - 8*v.Type().Size()))
		if v.Type() == reflect.TypeFor[Status]() {
			v.SetUint(v.Uint() & 0x7FFF)
		}
	}
}

func TestStructuresComeBack(t *testing.T) {
	rng := rand.New(rand.NewPCG(5, 6))
	for name, s := range structures {
		t.Run(name, func(t *testing.T) {
			for range 100 {
				v := s.new()
				fill(rng, reflect.ValueOf(v).Elem())
				b := s.append(v, []byte("before"))[6:]
				if len(b) != s.bytes {
					t.Fatalf("%d bytes, want %d", len(b), s.bytes)
				}
				got, ok := s.decode(b)
				if !ok || !reflect.DeepEqual(got, v) {
					t.Fatalf("%+v came back as %+v, %t", v, got, ok)
				}
				wantBytes(t, "encoded again", s.append(got, nil), b)
			}
			b := s.append(s.new(), nil)
			for n := range b {
				if _, ok := s.decode(b[:n:n]); ok {
					t.Fatalf("cut to %d bytes it is taken", n)
				}
			}
		})
	}
}

// A controller as the target describes itself, against bytes written by hand.
func TestIdentifyControllerGolden(t *testing.T) {
	c := IdentifyController{
		SN: "POLLUX0001", MN: "Pollux", FR: "0.1", CMIC: CMICPorts | CMICControllers | CMICANA, MDTS: 5, CNTLID: 0x1234,
		VER: Version20, RTD3E: 10_000_000, OAES: OAESNamespaces | OAESANA, CTRATT: CTRATTHOSTID128 | CTRATTTBKAS,
		CNTRLTYPE: ControllerIO, ACL: 3, AERL: 3, LPA: LPAEffects | LPAExtended, KAS: 10, ANATT: 10, ANACAP: 0x1F,
		ANAGRPMAX: 64, NANAGRPID: 64, SQES: 0x66, CQES: 0x44, MAXCMD: 128, NN: 1024,
		ONCS:  ONCSCompare | ONCSDSM | ONCSWriteZeroes | ONCSReservations | ONCSTimestamp | ONCSVerify | ONCSCopy,
		FUSES: FUSESCompareAndWrite, VWC: VWCPresent | VWCFlushNotAll, NWPC: NWPCProtect, ACWU: 0, OCFS: OCFSFormat0,
		SGLS: SGLSAnyAlign | SGLSOffset | SGLSTransport, MNAN: 1024, SUBNQN: testSUBNQN, IOCCSZ: 260, IORCSZ: 1, MSDBD: 1,
	}
	want := golden(t, "identify_controller")
	wantBytes(t, "encoded", c.AppendTo(nil), want)
	if got, ok := DecodeIdentifyController(want); !ok || got != c {
		t.Errorf("decoded %+v, want %+v", got, c)
	}
	if c.TransferBytesMax(4096) != 131072 || c.CapsuleDataBytes() != 4096 {
		t.Errorf("transfers of %d, capsules of %d", c.TransferBytesMax(4096), c.CapsuleDataBytes())
	}
	for _, c := range []IdentifyController{{MDTS: 0}, {MDTS: 40}, {MDTS: 255}, {IOCCSZ: 3}} {
		if c.TransferBytesMax(4096) != 0 || c.CapsuleDataBytes() != 0 {
			t.Errorf("MDTS %d, IOCCSZ %d: transfers of %d, capsules of %d", c.MDTS, c.IOCCSZ, c.TransferBytesMax(4096), c.CapsuleDataBytes())
		}
	}
}

func TestIdentifyNamespaceGolden(t *testing.T) {
	n := IdentifyNamespace{
		NSZE: 0x200000, NCAP: 0x200000, NUSE: 0x1000, NSFEAT: NSFEATThin | NSFEATAtomic | NSFEATOptimal, NMIC: NMICShared,
		RESCAP: RESCAPPTPL | RESCAPTypes | RESCAPIgnoreKeys, DLFEAT: DLFEATZeros | DLFEATDEAC, NAWUPF: 7, NOIOB: 8, NPWG: 7, NPDG: 7,
		MSSRL: 256, MCL: 1024, MSRC: 127, ANAGRPID: 1, NGUID: [16]byte{1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16},
		EUI64: [8]byte{0x21, 0x22, 0x23, 0x24, 0x25, 0x26, 0x27, 0x28},
	}
	n.LBAF[0].LBADS = 9
	want := golden(t, "identify_namespace")
	wantBytes(t, "encoded", n.AppendTo(nil), want)
	if got, ok := DecodeIdentifyNamespace(want); !ok || got != n {
		t.Errorf("decoded %+v, want %+v", got, n)
	}
	if n.Format() != (LBAFormat{LBADS: 9}) {
		t.Errorf("format %+v", n.Format())
	}
}

// "Identify Namespace Data Structure", FLBAS: 6:5 count only where there are more than 16 formats.
func TestFormatOfNamespace(t *testing.T) {
	var n IdentifyNamespace
	for i := range n.LBAF {
		n.LBAF[i].LBADS = uint8(i)
	}
	for _, c := range []struct{ nlbaf, flbas, want uint8 }{
		{0, 0, 0}, {15, 0x0F, 15}, {15, 0x6F, 15}, {15, 0x13, 3}, {63, 0x6F, 63}, {63, 0x25, 21}, {16, 0x20, 16}, {63, 0x4A, 42},
	} {
		n.NLBAF, n.FLBAS = c.nlbaf, c.flbas
		if got := n.Format().LBADS; got != c.want {
			t.Errorf("NLBAF %d FLBAS %02X: %d, want %d", c.nlbaf, c.flbas, got, c.want)
		}
	}
}

func TestNSIDList(t *testing.T) {
	var full, more []NSID
	for i := range NSIDListMax {
		full = append(full, NSID(i+1))
	}
	more = append(full, 5000)
	for _, c := range []struct{ ids, want []NSID }{
		{nil, nil}, {[]NSID{1}, []NSID{1}}, {[]NSID{1, 7, 0xFFFFFFFD}, []NSID{1, 7, 0xFFFFFFFD}}, {full, full}, {more, full},
	} {
		b := AppendNSIDList(nil, c.ids)
		if got, ok := DecodeNSIDList(nil, b); !ok || !slices.Equal(got, c.want) {
			t.Errorf("%d ids came back as %d, %t", len(c.ids), len(got), ok)
		}
		if len(b) != IdentifyBytes {
			t.Errorf("%d bytes", len(b))
		}
		if _, ok := DecodeNSIDList(nil, b[:4095]); ok {
			t.Error("a short list is taken")
		}
	}
	wantBytes(t, "list", AppendNSIDList(nil, []NSID{1, 0x01020304})[:12], []byte{1, 0, 0, 0, 4, 3, 2, 1, 0, 0, 0, 0})
	for _, ids := range [][]NSID{{2, 1}, {1, 1}} {
		if _, ok := DecodeNSIDList(nil, AppendNSIDList(nil, ids)); ok {
			t.Errorf("%v is taken", ids)
		}
	}
}

func TestCNTLIDList(t *testing.T) {
	var full []CNTLID
	for i := range CNTLIDListMax + 1 {
		full = append(full, CNTLID(i+1))
	}
	for _, c := range []struct{ ids, want []CNTLID }{
		{nil, nil}, {[]CNTLID{1, 0xFFEF}, []CNTLID{1, 0xFFEF}}, {full, full[:CNTLIDListMax]},
	} {
		b := AppendCNTLIDList(nil, c.ids)
		if got, ok := DecodeCNTLIDList(nil, b); !ok || !slices.Equal(got, c.want) {
			t.Errorf("%d ids came back as %d, %t", len(c.ids), len(got), ok)
		}
		if _, ok := DecodeCNTLIDList(nil, b[:4095]); ok {
			t.Error("a short list is taken")
		}
	}
	wantBytes(t, "list", AppendCNTLIDList(nil, []CNTLID{0x0102, 0x0304})[:8], []byte{2, 0, 2, 1, 4, 3, 0, 0})
	b := AppendCNTLIDList(nil, nil)
	b[1] = 8 // 2048
	if _, ok := DecodeCNTLIDList(nil, b); ok {
		t.Error("2048 ids are taken")
	}
}

func TestNamespaceIDs(t *testing.T) {
	n := NamespaceIDs{EUI64: [8]byte{1, 2, 3, 4, 5, 6, 7, 8}, NGUID: [16]byte{0: 9, 15: 10}, UUID: [16]byte{0: 11, 15: 12}}
	want := make([]byte, 4096)
	copy(want, golden(t, "namespace_ids"))
	b := n.AppendTo(nil)
	wantBytes(t, "encoded", b, want)
	if got, ok := DecodeNamespaceIDs(b); !ok || got != n {
		t.Errorf("%+v came back as %+v, %t", n, got, ok)
	}
	// Only a UUID.
	n = NamespaceIDs{UUID: [16]byte{1}}
	b = n.AppendTo(nil)
	wantBytes(t, "UUID alone", b[:28], append([]byte{3, 16, 0, 0, 1}, append(make([]byte, 15), 4, 1, 0, 0, 0, 0, 0, 0)...))

	for _, c := range []struct {
		name  string
		bytes []byte
		ok    bool
	}{
		{"unknown type", []byte{9, 2, 0, 0, 1, 2, 4, 1, 0, 0, 0}, true},
		{"type 0", []byte{0, 2, 0, 0, 1, 2}, true},
		{"EUI64 of 7", []byte{1, 7, 0, 0}, false},
		{"NGUID of 8", []byte{2, 8, 0, 0}, false},
		{"UUID of 17", []byte{3, 17, 0, 0}, false},
		{"CSI of 2", []byte{4, 2, 0, 0}, false},
	} {
		b := make([]byte, 4096)
		copy(b, c.bytes)
		if _, ok := DecodeNamespaceIDs(b); ok != c.ok {
			t.Errorf("%s: %t", c.name, ok)
		}
	}
	for i := range want { // descriptors of 251 unknown bytes, until one runs out of the list
		if i%255 == 0 {
			want[i] = 9
		} else {
			want[i] = 251
		}
	}
	if _, ok := DecodeNamespaceIDs(want); ok {
		t.Error("a descriptor that runs out of the list is taken")
	}
	clear(want[4092:]) // so many unknown ones that 4 bytes are left
	for i := 0; i < 4092; {
		n := min(200, 4092-i-4)
		want[i], want[i+1] = 9, byte(n)
		i += 4 + n
	}
	if _, ok := DecodeNamespaceIDs(want); !ok {
		t.Error("a full list is refused")
	}
	want[4092], want[4093] = nidtCSI, 1
	if _, ok := DecodeNamespaceIDs(want); ok {
		t.Error("a descriptor without room for its identifier is taken")
	}
	if _, ok := DecodeNamespaceIDs(b[:4095]); ok {
		t.Error("a short list is taken")
	}
}

func TestSmallIdentifies(t *testing.T) {
	if b := AppendIdentifyZero(nil); !bytes.Equal(b, make([]byte, 4096)) {
		t.Error("a structure of zeros is not")
	}
	b := AppendCommandSets(nil)
	want := make([]byte, 4096)
	want[0] = 1
	wantBytes(t, "command sets", b, want)
}

func TestIdentifyAllocatesNothing(t *testing.T) {
	buf := make([]byte, 0, 4096)
	var c IdentifyController
	var n IdentifyNamespace
	ids := []NSID{1, 2, 3}
	if allocs := testing.AllocsPerRun(20, func() {
		c.AppendTo(buf)
		n.AppendTo(buf)
		DecodeIdentifyNamespace(n.AppendTo(buf))
		AppendNSIDList(buf, ids)
		(&NamespaceIDs{UUID: [16]byte{1}}).AppendTo(buf)
		Health{}.AppendTo(buf)
		AppendANALog(buf, 1, []ANAGroup{{ID: 1, State: ANAOptimized, NSIDs: ids}}, false)
	}); allocs != 0 {
		t.Errorf("%v allocations", allocs)
	}
}

func FuzzIdentify(f *testing.F) {
	f.Add(make([]byte, 4096))
	f.Add(bytes.Repeat([]byte{0xFF}, 4096))
	ids := NamespaceIDs{UUID: [16]byte{1}}
	f.Add(ids.AppendTo(nil))
	f.Add(AppendNSIDList(nil, []NSID{1, 2}))
	f.Add(AppendCNTLIDList(nil, []CNTLID{1, 2}))
	f.Fuzz(func(t *testing.T, b []byte) {
		for name, s := range structures {
			v, ok := s.decode(b)
			if ok != (len(b) >= s.bytes) && name != "DiscoveryHeader" {
				t.Errorf("%s: %d bytes, %t", name, len(b), ok)
			}
			if ok {
				again, _ := s.decode(s.append(v, nil))
				if !reflect.DeepEqual(again, v) {
					t.Errorf("%s: %+v came back as %+v", name, v, again)
				}
			}
		}
		if n, ok := DecodeIdentifyNamespace(b); ok {
			n.Format()
		}
		if n, ok := DecodeNamespaceIDs(b); ok {
			if again, ok := DecodeNamespaceIDs(n.AppendTo(nil)); !ok || again != n {
				t.Errorf("%+v came back as %+v", n, again)
			}
		}
		if ids, ok := DecodeNSIDList(nil, b); ok {
			if again, ok := DecodeNSIDList(nil, AppendNSIDList(nil, ids)); !ok || !slices.Equal(again, ids) {
				t.Errorf("%v came back as %v", ids, again)
			}
		}
		DecodeCNTLIDList(nil, b)
		DecodeChanged(nil, b)
		DecodeEffects(b, IOWrite)
	})
}
