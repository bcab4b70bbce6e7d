package nvmf

import (
	"encoding/binary"
	"fmt"
)

// This file is the submission and the completion queue entry: what every command has in common. The fields of I/O
// commands are in iocmd.go, those of Admin commands in admincmd.go, those of Fabrics commands in fabricscmd.go.
//
// NVM Express Base Specification 2.0, "Submission Queue Entry" and "Completion Queue Entry". All numbers are
// little-endian.
//
//	SQE                                        CQE
//	 0      opcode                              0..3   DW0    result of the command
//	 1      FUSE 1:0, PSDT 7:6                  4..7   DW1
//	 2..3   CID                                 8..9   SQHD   how far the submission queue was consumed
//	 4..7   NSID; Fabrics: FCTYPE@4            10..11  SQID   reserved over fabrics
//	24..39  SGL1                               12..13  CID
//	40..63  CDW10 to CDW15                     14..15  status 15:1; phase 0, reserved over fabrics
//
// An SGL descriptor ("Scatter Gather List (SGL)"): address or offset 0..7, length 8..11, type 15 (7:4 type, 3:0
// sub-type); a keyed one has its length in 8..10 and the key in 11..14.

// QID is a queue identifier; 0 is the Admin queue.
type QID uint16

// CID is a command identifier. All 16 bits are the host's: it is compared, and is never an index.
type CID uint16

// NSID is a namespace identifier; 0 names none, NSIDAll all.
type NSID uint32

// NSIDAll is the broadcast value.
const NSIDAll NSID = 0xFFFFFFFF

// CNTLID is a controller identifier.
type CNTLID uint16

// The controller identifiers with a meaning of their own, and the largest that a controller may have.
const (
	CNTLIDMax     CNTLID = 0xFFEF
	CNTLIDStatic  CNTLID = 0xFFFE // Connect: any controller of the static model
	CNTLIDDynamic CNTLID = 0xFFFF // Connect: a controller of the dynamic model
)

// Sizes of the entries and of a descriptor, in bytes.
const (
	SQEBytes = 64
	CQEBytes = 16
	SGLBytes = 16
)

// AdminOpcode is the opcode of a command on the Admin queue.
type AdminOpcode uint8

// IOOpcode is the opcode of a command of the NVM command set on an I/O queue.
type IOOpcode uint8

// FCTYPE is the type of a Fabrics command.
type FCTYPE uint8

// OpcodeFabrics is the opcode of every Fabrics command, on any queue.
const OpcodeFabrics = 0x7F

// The Admin opcodes. Base Specification 2.0, "Admin Command Set".
const (
	AdminDeleteSQ    AdminOpcode = 0x00
	AdminCreateSQ    AdminOpcode = 0x01
	AdminGetLogPage  AdminOpcode = 0x02
	AdminDeleteCQ    AdminOpcode = 0x04
	AdminCreateCQ    AdminOpcode = 0x05
	AdminIdentify    AdminOpcode = 0x06
	AdminAbort       AdminOpcode = 0x08
	AdminSetFeatures AdminOpcode = 0x09
	AdminGetFeatures AdminOpcode = 0x0A
	AdminAER         AdminOpcode = 0x0C
	AdminKeepAlive   AdminOpcode = 0x18
	AdminFabrics     AdminOpcode = OpcodeFabrics
)

var adminNames = map[AdminOpcode]string{
	AdminDeleteSQ: "Delete I/O Submission Queue", AdminCreateSQ: "Create I/O Submission Queue",
	AdminGetLogPage: "Get Log Page", AdminDeleteCQ: "Delete I/O Completion Queue",
	AdminCreateCQ: "Create I/O Completion Queue", AdminIdentify: "Identify", AdminAbort: "Abort",
	AdminSetFeatures: "Set Features", AdminGetFeatures: "Get Features", AdminAER: "Asynchronous Event Request",
	AdminKeepAlive: "Keep Alive", AdminFabrics: "Fabrics",
}

// String gives the standard's name.
func (o AdminOpcode) String() string {
	if n, ok := adminNames[o]; ok {
		return n
	}
	return fmt.Sprintf("Admin opcode %02Xh", uint8(o))
}

// The I/O opcodes. Base Specification 2.0, "I/O Commands"; NVM Command Set Specification 1.0, "I/O Commands".
const (
	IOFlush               IOOpcode = 0x00
	IOWrite               IOOpcode = 0x01
	IORead                IOOpcode = 0x02
	IOWriteUncorrectable  IOOpcode = 0x04
	IOCompare             IOOpcode = 0x05
	IOWriteZeroes         IOOpcode = 0x08
	IODatasetManagement   IOOpcode = 0x09
	IOVerify              IOOpcode = 0x0C
	IOReservationRegister IOOpcode = 0x0D
	IOReservationReport   IOOpcode = 0x0E
	IOReservationAcquire  IOOpcode = 0x11
	IOReservationRelease  IOOpcode = 0x15
	IOCancel              IOOpcode = 0x18
	IOCopy                IOOpcode = 0x19
	IOFabrics             IOOpcode = OpcodeFabrics
)

var ioNames = map[IOOpcode]string{
	IOFlush: "Flush", IOWrite: "Write", IORead: "Read", IOWriteUncorrectable: "Write Uncorrectable",
	IOCompare: "Compare", IOWriteZeroes: "Write Zeroes", IODatasetManagement: "Dataset Management",
	IOVerify: "Verify", IOReservationRegister: "Reservation Register", IOReservationReport: "Reservation Report",
	IOReservationAcquire: "Reservation Acquire", IOReservationRelease: "Reservation Release", IOCancel: "Cancel",
	IOCopy: "Copy", IOFabrics: "Fabrics",
}

// String gives the standard's name.
func (o IOOpcode) String() string {
	if n, ok := ioNames[o]; ok {
		return n
	}
	return fmt.Sprintf("I/O opcode %02Xh", uint8(o))
}

// The Fabrics command types. Base Specification 2.0, "Fabrics Command Set".
const (
	FabricsPropertySet FCTYPE = 0x00
	FabricsConnect     FCTYPE = 0x01
	FabricsPropertyGet FCTYPE = 0x04
	FabricsAuthSend    FCTYPE = 0x05
	FabricsAuthReceive FCTYPE = 0x06
	FabricsDisconnect  FCTYPE = 0x08
)

var fabricsNames = map[FCTYPE]string{
	FabricsPropertySet: "Property Set", FabricsConnect: "Connect", FabricsPropertyGet: "Property Get",
	FabricsAuthSend: "Authentication Send", FabricsAuthReceive: "Authentication Receive", FabricsDisconnect: "Disconnect",
}

// String gives the standard's name.
func (t FCTYPE) String() string {
	if n, ok := fabricsNames[t]; ok {
		return n
	}
	return fmt.Sprintf("Fabrics command type %02Xh", uint8(t))
}

// Fuse says whether a command is one of a fused pair.
type Fuse uint8

// The values of FUSE.
const (
	FuseNone     Fuse = 0
	FuseFirst    Fuse = 1
	FuseSecond   Fuse = 2
	FuseReserved Fuse = 3
)

// PSDT says how a command points to its data.
type PSDT uint8

// The values of PSDT. Over fabrics a command never has PRPs.
const (
	PSDTPRP        PSDT = 0
	PSDTSGL        PSDT = 1 // metadata, of which we have none, in one buffer
	PSDTSGLSegment PSDT = 2 // metadata in an SGL
)

// SQE is a submission queue entry: 64 bytes of the host's, read by accessors that check nothing.
type SQE [SQEBytes]byte

// Opcode is the opcode: an AdminOpcode or an IOOpcode, by the queue.
func (s *SQE) Opcode() uint8 { return s[0] }

// Fuse gives the place in a fused pair.
func (s *SQE) Fuse() Fuse { return Fuse(s[1] & 3) }

// PSDT gives the kind of the data pointer. It is reserved in Fabrics commands.
func (s *SQE) PSDT() PSDT { return PSDT(s[1] >> 6) }

// CID gives the command identifier.
func (s *SQE) CID() CID { return CID(binary.LittleEndian.Uint16(s[2:])) }

// NSID gives the namespace identifier; it is not one in Fabrics commands.
func (s *SQE) NSID() NSID { return NSID(binary.LittleEndian.Uint32(s[4:])) }

// FCTYPE gives the type of a Fabrics command.
func (s *SQE) FCTYPE() FCTYPE { return FCTYPE(s[4]) }

// SGL gives the data pointer.
func (s *SQE) SGL() SGL { return decodeSGL((*[16]byte)(s[24:40])) }

// CDW gives command dword n, 0 to 15.
func (s *SQE) CDW(n int) uint32 { return binary.LittleEndian.Uint32(s[n*4:]) }

func (s *SQE) uint64At(offset int) uint64 { return binary.LittleEndian.Uint64(s[offset:]) }
func (s *SQE) uint16At(offset int) uint16 { return binary.LittleEndian.Uint16(s[offset:]) }

// Init makes s a command without data and with all other fields zero. PSDT says SGL: over fabrics PRPs do not exist,
// and the Linux host sends it so in every command.
func (s *SQE) Init(opcode uint8, cid CID, nsid NSID) {
	*s = SQE{0: opcode, 1: byte(PSDTSGL) << 6}
	binary.LittleEndian.PutUint16(s[2:], uint16(cid))
	binary.LittleEndian.PutUint32(s[4:], uint32(nsid))
	s.SetSGL(SGL{Type: SGLTransport, Subtype: SGLTransportData})
}

// InitFabrics makes s a Fabrics command without data and with all other fields zero.
func (s *SQE) InitFabrics(t FCTYPE, cid CID) { s.Init(OpcodeFabrics, cid, NSID(t)) }

// SetCID sets the command identifier.
func (s *SQE) SetCID(c CID) { binary.LittleEndian.PutUint16(s[2:], uint16(c)) }

// SetFuse sets the place in a fused pair.
func (s *SQE) SetFuse(f Fuse) { s[1] = s[1]&^3 | byte(f) }

// SetCDW sets command dword n.
func (s *SQE) SetCDW(n int, v uint32) { binary.LittleEndian.PutUint32(s[n*4:], v) }

// SetSGL sets the data pointer.
func (s *SQE) SetSGL(d SGL) { d.encode((*[16]byte)(s[24:40])) }

// SGLType is the type of an SGL descriptor.
type SGLType uint8

// The types that a host may send over TCP or RDMA.
const (
	SGLDataBlock   SGLType = 0x0
	SGLLastSegment SGLType = 0x3
	SGLKeyed       SGLType = 0x4
	SGLTransport   SGLType = 0x5
)

// The sub-types.
const (
	SGLAddress       = 0x0
	SGLOffset        = 0x1 // of SGLDataBlock: in the capsule
	SGLTransportData = 0xA // of SGLTransport: moved by the transport's own means, in TCP by R2T, H2CData and C2HData
	SGLInvalidate    = 0xF // of SGLKeyed: the key is to be invalidated by the answer
)

// SGL is an SGL descriptor.
type SGL struct {
	Type    SGLType
	Subtype uint8
	Address uint64 // or offset
	Bytes   uint32
	Key     uint32 // of SGLKeyed
}

func decodeSGL(b *[16]byte) SGL {
	d := SGL{
		Type:    SGLType(b[15] >> 4),
		Subtype: b[15] & 0xF,
		Address: binary.LittleEndian.Uint64(b[:]),
		Bytes:   binary.LittleEndian.Uint32(b[8:]),
	}
	if d.Type == SGLKeyed {
		d.Bytes &= 0xFFFFFF
		d.Key = binary.LittleEndian.Uint32(b[11:])
	}
	return d
}

func (d SGL) encode(b *[16]byte) {
	*b = [16]byte{15: byte(d.Type)<<4 | d.Subtype&0xF}
	binary.LittleEndian.PutUint64(b[:], d.Address)
	binary.LittleEndian.PutUint32(b[8:], d.Bytes)
	if d.Type == SGLKeyed {
		b[11] = 0
		binary.LittleEndian.PutUint32(b[11:], d.Key)
	}
}

// DataPlace says where the data of a command is.
type DataPlace uint8

// The places.
const (
	DataNone      DataPlace = iota // there is none
	DataInCapsule                  // it came, or is to come, with the command
	DataTransfer                   // the transport moves it: in PDUs of its own, or by RDMA
)

// TCPData says where the data of a command is and how many bytes of it there are. It is called for commands that move
// data, and carried is the data that its capsule brought. TCP Transport Specification
// 1.0, "Data Transfer Model"; Base Specification 2.0, "SGL Descriptor Type" and "Generic Command Status Definition".
// They belong to the command; the connection goes on.
func (s *SQE) TCPData(carried uint32) (DataPlace, uint32, Status) {
	if p := s.PSDT(); s[0] != OpcodeFabrics && p != PSDTSGL && p != PSDTSGLSegment {
		return DataNone, 0, StatusInvalidField | DNR
	}
	d := s.SGL()
	switch {
	case d.Type == SGLTransport && d.Subtype == SGLTransportData && carried == 0:
		if d.Bytes == 0 {
			return DataNone, 0, StatusSuccess
		}
		return DataTransfer, d.Bytes, StatusSuccess
	case d.Type == SGLDataBlock && d.Subtype == SGLOffset:
		if d.Address != 0 { // ICDOFF is 0, and one descriptor describes it all
			return DataNone, 0, StatusSGLOffset | DNR
		}
		if d.Bytes != carried {
			return DataNone, 0, StatusSGLLength | DNR
		}
		if carried == 0 {
			return DataNone, 0, StatusSuccess
		}
		return DataInCapsule, carried, StatusSuccess
	}
	return DataNone, 0, StatusSGLType | DNR
}

// CQE is a completion queue entry.
type CQE struct {
	DW0, DW1 uint32 // the result of the command
	SQHD     uint16
	CID      CID
	Status   Status
}

// DecodeCQE reads the first CQEBytes of b.
func DecodeCQE(b []byte) CQE {
	_ = b[15]
	return CQE{
		DW0:    binary.LittleEndian.Uint32(b),
		DW1:    binary.LittleEndian.Uint32(b[4:]),
		SQHD:   binary.LittleEndian.Uint16(b[8:]),
		CID:    CID(binary.LittleEndian.Uint16(b[12:])),
		Status: Status(binary.LittleEndian.Uint16(b[14:]) >> 1),
	}
}

// AppendTo appends the entry to b. SQID and the phase are reserved over fabrics and zero.
func (c CQE) AppendTo(b []byte) []byte {
	b = binary.LittleEndian.AppendUint32(b, c.DW0)
	b = binary.LittleEndian.AppendUint32(b, c.DW1)
	b = binary.LittleEndian.AppendUint16(b, c.SQHD)
	b = append(b, 0, 0)
	b = binary.LittleEndian.AppendUint16(b, uint16(c.CID))
	return binary.LittleEndian.AppendUint16(b, uint16(c.Status)<<1)
}
