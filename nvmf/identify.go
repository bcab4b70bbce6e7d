package nvmf

import "encoding/binary"

// This file is the data structures of Identify. Base Specification 2.0, "Identify command", and NVM Command Set
// Specification 1.0, "Identify Namespace Data Structure" and "I/O Command Set Specific Identify Controller Data
// Structure". Each is 4096 bytes; what is not named is reserved or not offered, and zero. The offsets are those of the
// standard; the numbers stand as they are on the wire, 0-based where the standard says so.

// IdentifyBytes is the size of every structure.
const IdentifyBytes = 4096

// AppendIdentifyZero appends a structure of zeros: an inactive namespace; the namespace structure of CNS 05, whose
// fields all belong to protection information, which we do not have.
func AppendIdentifyZero(b []byte) []byte {
	b, _ = grow(b, IdentifyBytes)
	return b
}

// CNTRLTYPE is the type of a controller.
type CNTRLTYPE uint8

// The types.
const (
	ControllerIO        CNTRLTYPE = 1
	ControllerDiscovery CNTRLTYPE = 2
)

// The bits of IdentifyController.
const (
	CMICPorts       uint8 = 1 << 0
	CMICControllers uint8 = 1 << 1 // the subsystem may have several
	CMICANA         uint8 = 1 << 3

	OAESNamespaces uint32 = 1 << 8 // as in feature 0Bh
	OAESANA        uint32 = 1 << 11
	OAESDiscovery  uint32 = 1 << 31

	CTRATTHOSTID128 uint32 = 1 << 0
	CTRATTTBKAS     uint32 = 1 << 6 // any command restarts keep alive

	LPAEffects  uint8 = 1 << 1
	LPAExtended uint8 = 1 << 2 // offsets and NUMDU
	LPAPages    uint8 = 1 << 5 // log pages 00h and 12h

	ANACAPOptimized    uint8 = 1 << 0 // the states that may be reported
	ANACAPNonOptimized uint8 = 1 << 1
	ANACAPInaccessible uint8 = 1 << 2
	ANACAPLoss         uint8 = 1 << 3
	ANACAPChange       uint8 = 1 << 4
	ANACAPGroupFixed   uint8 = 1 << 6 // a namespace never changes its group

	ONCSCompare            uint16 = 1 << 0
	ONCSWriteUncorrectable uint16 = 1 << 1
	ONCSDSM                uint16 = 1 << 2
	ONCSWriteZeroes        uint16 = 1 << 3
	ONCSSave               uint16 = 1 << 4
	ONCSReservations       uint16 = 1 << 5
	ONCSTimestamp          uint16 = 1 << 6
	ONCSVerify             uint16 = 1 << 7
	ONCSCopy               uint16 = 1 << 8

	FUSESCompareAndWrite uint16 = 1 << 0

	VWCPresent     uint8 = 1 << 0
	VWCFlushNotAll uint8 = 2 << 1 // Flush of FFFFFFFFh is refused
	VWCFlushAll    uint8 = 3 << 1 // and here taken

	NWPCProtect         uint8 = 1 << 0
	NWPCUntilPowerCycle uint8 = 1 << 1

	OCFSFormat0 uint16 = 1 << 0

	SGLSAnyAlign  uint32 = 1 << 0
	SGLSKeyed     uint32 = 1 << 2
	SGLSOffset    uint32 = 1 << 20 // Data Block Offset: data in the capsule
	SGLSTransport uint32 = 1 << 21

	FCATTStatic uint8 = 1 << 0

	OFCSDisconnect uint16 = 1 << 0
)

// IdentifyController is what CNS 01h answers.
type IdentifyController struct {
	VID, SSVID        uint16
	SN, MN, FR        string // at most 20, 40 and 8 bytes of ASCII
	RAB               uint8
	IEEE              [3]uint8
	CMIC              uint8
	MDTS              uint8 // 2^MDTS pages of CAP.MPSMIN; 0 is no limit
	CNTLID            CNTLID
	VER               uint32
	RTD3R, RTD3E      uint32 // microseconds
	OAES              uint32
	CTRATT            uint32
	CNTRLTYPE         CNTRLTYPE
	CRDT              [3]uint16 // in units of 100 ms
	OACS              uint16
	ACL, AERL         uint8 // 0-based
	FRMW              uint8
	LPA               uint8
	ELPE              uint8 // 0-based
	NPSS              uint8 // 0-based
	AVSCC             uint8
	WCTEMP, CCTEMP    uint16 // kelvins
	KAS               uint16 // in units of 100 ms
	ANATT             uint8  // seconds
	ANACAP            uint8
	ANAGRPMAX         uint32
	NANAGRPID         uint32
	SQES, CQES        uint8
	MAXCMD            uint16
	NN                uint32
	ONCS              uint16
	FUSES             uint16
	FNA               uint8
	VWC               uint8
	AWUN, AWUPF       uint16 // 0-based
	NWPC              uint8
	ACWU              uint16 // 0-based
	OCFS              uint16
	SGLS              uint32
	MNAN              uint32
	SUBNQN            string
	IOCCSZ            uint32 // in units of 16 bytes
	IORCSZ            uint32 // in units of 16 bytes
	ICDOFF            uint16 // in units of 16 bytes
	FCATT             uint8
	MSDBD             uint8
	OFCS              uint16
	DCTYPE            uint8
	MaxPowerCentiwatt uint16 // MP of power state 0
}

func (c *IdentifyController) layout(l layout) {
	l.u16(0, &c.VID)
	l.u16(2, &c.SSVID)
	l.text(4, 20, &c.SN)
	l.text(24, 40, &c.MN)
	l.text(64, 8, &c.FR)
	l.u8(72, &c.RAB)
	l.bytes(73, c.IEEE[:])
	l.u8(76, &c.CMIC)
	l.u8(77, &c.MDTS)
	l.u16(78, (*uint16)(&c.CNTLID))
	l.u32(80, &c.VER)
	l.u32(84, &c.RTD3R)
	l.u32(88, &c.RTD3E)
	l.u32(92, &c.OAES)
	l.u32(96, &c.CTRATT)
	l.u8(111, (*uint8)(&c.CNTRLTYPE))
	l.u16(128, &c.CRDT[0])
	l.u16(130, &c.CRDT[1])
	l.u16(132, &c.CRDT[2])
	l.u16(256, &c.OACS)
	l.u8(258, &c.ACL)
	l.u8(259, &c.AERL)
	l.u8(260, &c.FRMW)
	l.u8(261, &c.LPA)
	l.u8(262, &c.ELPE)
	l.u8(263, &c.NPSS)
	l.u8(264, &c.AVSCC)
	l.u16(266, &c.WCTEMP)
	l.u16(268, &c.CCTEMP)
	l.u16(320, &c.KAS)
	l.u8(342, &c.ANATT)
	l.u8(343, &c.ANACAP)
	l.u32(344, &c.ANAGRPMAX)
	l.u32(348, &c.NANAGRPID)
	l.u8(512, &c.SQES)
	l.u8(513, &c.CQES)
	l.u16(514, &c.MAXCMD)
	l.u32(516, &c.NN)
	l.u16(520, &c.ONCS)
	l.u16(522, &c.FUSES)
	l.u8(524, &c.FNA)
	l.u8(525, &c.VWC)
	l.u16(526, &c.AWUN)
	l.u16(528, &c.AWUPF)
	l.u8(531, &c.NWPC)
	l.u16(532, &c.ACWU)
	l.u16(534, &c.OCFS)
	l.u32(536, &c.SGLS)
	l.u32(540, &c.MNAN)
	l.nqn(768, &c.SUBNQN)
	l.u32(1792, &c.IOCCSZ)
	l.u32(1796, &c.IORCSZ)
	l.u16(1800, &c.ICDOFF)
	l.u8(1802, &c.FCATT)
	l.u8(1803, &c.MSDBD)
	l.u16(1804, &c.OFCS)
	l.u8(1806, &c.DCTYPE)
	l.u16(2048, &c.MaxPowerCentiwatt)
}

// AppendTo appends the structure to b.
func (c *IdentifyController) AppendTo(b []byte) []byte {
	b, page := grow(b, IdentifyBytes)
	c.layout(layout{page, false})
	return b
}

// DecodeIdentifyController reads the structure in b; ok is false if b is too short for one.
func DecodeIdentifyController(b []byte) (c IdentifyController, ok bool) {
	if len(b) < IdentifyBytes {
		return c, false
	}
	c.layout(layout{b, true})
	return c, true
}

// TransferBytesMax is the largest transfer of a controller whose pages are pageBytesMin long: 2^MDTS pages, and 0 is no
// limit. An MDTS that no number holds is no limit either.
func (c *IdentifyController) TransferBytesMax(pageBytesMin uint64) uint64 {
	if c.MDTS == 0 || c.MDTS >= 40 {
		return 0
	}
	return pageBytesMin << c.MDTS
}

// CapsuleDataBytes is the in-capsule data that IOCCSZ leaves room for on an I/O queue.
func (c *IdentifyController) CapsuleDataBytes() uint64 {
	return max(uint64(c.IOCCSZ)*16, SQEBytes) - SQEBytes
}

// The bits of IdentifyNamespace.
const (
	NSFEATThin       uint8 = 1 << 0
	NSFEATAtomic     uint8 = 1 << 1 // NAWUN, NAWUPF and NACWU count instead of the controller's
	NSFEATOptimal    uint8 = 1 << 4 // NPWG, NPWA, NPDG, NPDA and NOWS count
	NMICShared       uint8 = 1 << 0
	DLFEATZeros      uint8 = 1 << 0 // deallocated blocks read as zeros
	DLFEATDEAC       uint8 = 1 << 3 // Write Zeroes knows DEAC
	NSATTRProtected  uint8 = 1 << 0
	NSTATReady       uint8 = 1 << 0 // NRDY, of IndependentNamespace
	RESCAPPTPL       uint8 = 1 << 0
	RESCAPTypes      uint8 = 0x3F << 1 // all six reservation types
	RESCAPIgnoreKeys uint8 = 1 << 7    // IEKEY as since revision 1.3
	lbaFormats             = 64
)

// LBAFormat is one of the formats of a namespace.
type LBAFormat struct {
	MS    uint16 // bytes of metadata per block
	LBADS uint8  // a block has 2^LBADS bytes
	RP    uint8
}

// IdentifyNamespace is what CNS 00h and 11h answer.
type IdentifyNamespace struct {
	NSZE, NCAP, NUSE     uint64 // blocks
	NSFEAT               uint8
	NLBAF                uint8 // 0-based
	FLBAS                uint8 // which of LBAF: see LBAFormat
	MC, DPC, DPS         uint8
	NMIC                 uint8
	RESCAP               uint8
	FPI                  uint8
	DLFEAT               uint8
	NAWUN, NAWUPF, NACWU uint16 // blocks, 0-based
	NABSN, NABO, NABSPF  uint16
	NOIOB                uint16 // blocks
	NVMCAP               uint64 // bytes
	NPWG, NPWA           uint16 // blocks, 0-based
	NPDG, NPDA           uint16 // blocks, 0-based
	NOWS                 uint16 // blocks, 0-based
	MSSRL                uint16 // blocks of one source of a Copy
	MCL                  uint32 // blocks of a whole Copy
	MSRC                 uint8  // sources of a Copy, 0-based
	ANAGRPID             uint32
	NSATTR               uint8
	NVMSETID, ENDGID     uint16
	NGUID                [16]uint8
	EUI64                [8]uint8
	LBAF                 [lbaFormats]LBAFormat
}

func (n *IdentifyNamespace) layout(l layout) {
	l.u64(0, &n.NSZE)
	l.u64(8, &n.NCAP)
	l.u64(16, &n.NUSE)
	l.u8(24, &n.NSFEAT)
	l.u8(25, &n.NLBAF)
	l.u8(26, &n.FLBAS)
	l.u8(27, &n.MC)
	l.u8(28, &n.DPC)
	l.u8(29, &n.DPS)
	l.u8(30, &n.NMIC)
	l.u8(31, &n.RESCAP)
	l.u8(32, &n.FPI)
	l.u8(33, &n.DLFEAT)
	l.u16(34, &n.NAWUN)
	l.u16(36, &n.NAWUPF)
	l.u16(38, &n.NACWU)
	l.u16(40, &n.NABSN)
	l.u16(42, &n.NABO)
	l.u16(44, &n.NABSPF)
	l.u16(46, &n.NOIOB)
	l.u128(48, &n.NVMCAP)
	l.u16(64, &n.NPWG)
	l.u16(66, &n.NPWA)
	l.u16(68, &n.NPDG)
	l.u16(70, &n.NPDA)
	l.u16(72, &n.NOWS)
	l.u16(74, &n.MSSRL)
	l.u32(76, &n.MCL)
	l.u8(80, &n.MSRC)
	l.u32(92, &n.ANAGRPID)
	l.u8(99, &n.NSATTR)
	l.u16(100, &n.NVMSETID)
	l.u16(102, &n.ENDGID)
	l.bytes(104, n.NGUID[:])
	l.bytes(120, n.EUI64[:])
	for i := range n.LBAF {
		l.u16(128+4*i, &n.LBAF[i].MS)
		l.u8(130+4*i, &n.LBAF[i].LBADS)
		l.u8(131+4*i, &n.LBAF[i].RP)
	}
}

// AppendTo appends the structure to b.
func (n *IdentifyNamespace) AppendTo(b []byte) []byte {
	b, page := grow(b, IdentifyBytes)
	n.layout(layout{page, false})
	return b
}

// DecodeIdentifyNamespace reads the structure in b; ok is false if b is too short for one.
func DecodeIdentifyNamespace(b []byte) (n IdentifyNamespace, ok bool) {
	if len(b) < IdentifyBytes {
		return n, false
	}
	n.layout(layout{b, true})
	return n, true
}

// Format gives the format that the namespace has: FLBAS 3:0, and 6:5 above them where there are more than 16.
func (n *IdentifyNamespace) Format() LBAFormat {
	i := n.FLBAS & 0xF
	if n.NLBAF >= 16 {
		i |= n.FLBAS >> 5 & 3 << 4
	}
	return n.LBAF[i]
}

// IndependentNamespace is what CNS 08h answers: what does not depend on the command set.
type IndependentNamespace struct {
	NSFEAT   uint8
	NMIC     uint8
	RESCAP   uint8
	FPI      uint8
	ANAGRPID uint32
	NSATTR   uint8
	NVMSETID uint16
	ENDGID   uint16
	NSTAT    uint8
}

func (n *IndependentNamespace) layout(l layout) {
	l.u8(0, &n.NSFEAT)
	l.u8(1, &n.NMIC)
	l.u8(2, &n.RESCAP)
	l.u8(3, &n.FPI)
	l.u32(4, &n.ANAGRPID)
	l.u8(8, &n.NSATTR)
	l.u16(10, &n.NVMSETID)
	l.u16(12, &n.ENDGID)
	l.u8(14, &n.NSTAT)
}

// AppendTo appends the structure to b.
func (n *IndependentNamespace) AppendTo(b []byte) []byte {
	b, page := grow(b, IdentifyBytes)
	n.layout(layout{page, false})
	return b
}

// DecodeIndependentNamespace reads the structure in b; ok is false if b is too short for one.
func DecodeIndependentNamespace(b []byte) (n IndependentNamespace, ok bool) {
	if len(b) < IdentifyBytes {
		return n, false
	}
	n.layout(layout{b, true})
	return n, true
}

// NVMController is what CNS 06h answers for the NVM command set: the limits of commands. Of each, 0 is no limit.
type NVMController struct {
	VSL   uint8  // Verify: 2^VSL pages of CAP.MPSMIN
	WZSL  uint8  // Write Zeroes, likewise
	WUSL  uint8  // Write Uncorrectable, likewise
	DMRL  uint8  // ranges of a Dataset Management
	DMRSL uint32 // blocks of one range
	DMSL  uint64 // blocks of all ranges
}

func (c *NVMController) layout(l layout) {
	l.u8(0, &c.VSL)
	l.u8(1, &c.WZSL)
	l.u8(2, &c.WUSL)
	l.u8(3, &c.DMRL)
	l.u32(4, &c.DMRSL)
	l.u64(8, &c.DMSL)
}

// AppendTo appends the structure to b.
func (c *NVMController) AppendTo(b []byte) []byte {
	b, page := grow(b, IdentifyBytes)
	c.layout(layout{page, false})
	return b
}

// DecodeNVMController reads the structure in b; ok is false if b is too short for one.
func DecodeNVMController(b []byte) (c NVMController, ok bool) {
	if len(b) < IdentifyBytes {
		return c, false
	}
	c.layout(layout{b, true})
	return c, true
}

// NSIDListMax is the number of namespaces in a list.
const NSIDListMax = IdentifyBytes / 4

// AppendNSIDList appends the list that CNS 02h, 07h and 10h answer: at most NSIDListMax of the ids, which ascend.
func AppendNSIDList(b []byte, ids []NSID) []byte {
	b, page := grow(b, IdentifyBytes)
	for i, id := range ids[:min(len(ids), NSIDListMax)] {
		binary.LittleEndian.PutUint32(page[4*i:], uint32(id))
	}
	return b
}

// DecodeNSIDList appends to ids what the list in b names, up to its first 0. ok is false if b is too short, or the ids
// do not ascend, of which no end would be found by asking for the next.
func DecodeNSIDList(ids []NSID, b []byte) (all []NSID, ok bool) {
	if len(b) < IdentifyBytes {
		return ids, false
	}
	var last NSID
	for i := range NSIDListMax {
		id := NSID(binary.LittleEndian.Uint32(b[4*i:]))
		if id == 0 {
			break
		}
		if id <= last {
			return ids, false
		}
		last = id
		ids = append(ids, id)
	}
	return ids, true
}

// CNTLIDListMax is the number of controllers in a list: the first 2 bytes are the number of those that follow.
const CNTLIDListMax = IdentifyBytes/2 - 1

// AppendCNTLIDList appends the list that CNS 12h and 13h answer: at most CNTLIDListMax of the ids, which ascend.
func AppendCNTLIDList(b []byte, ids []CNTLID) []byte {
	ids = ids[:min(len(ids), CNTLIDListMax)]
	b, page := grow(b, IdentifyBytes)
	binary.LittleEndian.PutUint16(page, uint16(len(ids)))
	for i, id := range ids {
		binary.LittleEndian.PutUint16(page[2+2*i:], uint16(id))
	}
	return b
}

// DecodeCNTLIDList appends to ids what the list in b names. ok is false if b is too short or says that it has more than
// it can have.
func DecodeCNTLIDList(ids []CNTLID, b []byte) (all []CNTLID, ok bool) {
	if len(b) < IdentifyBytes {
		return ids, false
	}
	n := int(binary.LittleEndian.Uint16(b))
	if n > CNTLIDListMax {
		return ids, false
	}
	for i := range n {
		ids = append(ids, CNTLID(binary.LittleEndian.Uint16(b[2+2*i:])))
	}
	return ids, true
}

// AppendCommandSets appends what CNS 1Ch answers: 512 combinations of command sets, of which the first has NVM alone
// and the others are empty.
func AppendCommandSets(b []byte) []byte {
	b, page := grow(b, IdentifyBytes)
	binary.LittleEndian.PutUint64(page, 1<<CSINVM)
	return b
}

// NIDT is the type of a namespace identification descriptor: type 0, length 1, reserved 2..3, then the identifier.
const (
	nidtEUI64 = 1
	nidtNGUID = 2
	nidtUUID  = 3
	nidtCSI   = 4
)

// nidtBytes are the lengths; the Linux host stops at a wrong one.
var nidtBytes = [...]int{nidtEUI64: 8, nidtNGUID: 16, nidtUUID: 16, nidtCSI: 1}

// NamespaceIDs is what CNS 03h answers. An identifier of zeros is none.
type NamespaceIDs struct {
	EUI64 [8]uint8
	NGUID [16]uint8
	UUID  [16]uint8 // in the order of its digits
	CSI   uint8
}

// AppendTo appends the list of descriptors to b.
func (n *NamespaceIDs) AppendTo(b []byte) []byte {
	b, page := grow(b, IdentifyBytes)
	put := func(nidt byte, id []byte) {
		page[0], page[1] = nidt, byte(len(id))
		copy(page[4:], id)
		page = page[4+len(id):]
	}
	if n.EUI64 != ([8]uint8{}) {
		put(nidtEUI64, n.EUI64[:])
	}
	if n.NGUID != ([16]uint8{}) {
		put(nidtNGUID, n.NGUID[:])
	}
	if n.UUID != ([16]uint8{}) {
		put(nidtUUID, n.UUID[:])
	}
	put(nidtCSI, []byte{n.CSI})
	return b
}

// DecodeNamespaceIDs reads the list in b. Unknown types are skipped; ok is false if b is too short, or a descriptor
// has a length that its type does not have or that runs out of the list.
func DecodeNamespaceIDs(b []byte) (n NamespaceIDs, ok bool) {
	if len(b) < IdentifyBytes {
		return n, false
	}
	b = b[:IdentifyBytes]
	for len(b) >= 4 && b[1] != 0 {
		nidt, length := b[0], int(b[1])
		if 4+length > len(b) || int(nidt) < len(nidtBytes) && nidtBytes[nidt] != 0 && nidtBytes[nidt] != length {
			return NamespaceIDs{}, false
		}
		id := b[4 : 4+length]
		switch nidt {
		case nidtEUI64:
			copy(n.EUI64[:], id)
		case nidtNGUID:
			copy(n.NGUID[:], id)
		case nidtUUID:
			copy(n.UUID[:], id)
		case nidtCSI:
			n.CSI = id[0]
		}
		b = b[4+length:]
	}
	return n, true
}
