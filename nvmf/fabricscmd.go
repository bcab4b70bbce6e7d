package nvmf

import "encoding/binary"

// This file is the fields of the Fabrics commands, and the data of Connect.
//
// Base Specification 2.0, "Fabrics Command Set". FCTYPE@4 tells them apart:
//
//	    Connect        Property Get, Set   Authentication Send, Receive   Disconnect
//	40  RECFMT 2       ATTRIB 1            reserved                       RECFMT 2
//	41                                     SPSP0 1
//	42  QID    2                           SPSP1 1
//	43                                     SECP  1
//	44  SQSIZE 2       OFST 4              TL, AL 4
//	46  CATTR  1
//	48  KATO   4       VALUE 8
//
// The data of Connect, 1024 bytes: HOSTID@0 16, CNTLID@16 2, SUBNQN@256 256, HOSTNQN@512 256.

// Offsets in a Connect, for the IPO of its answer.
const (
	connectQID     = 42
	connectSQSIZE  = 44
	connectHOSTID  = 0
	connectCNTLID  = 16
	connectSUBNQN  = 256
	connectHOSTNQN = 512
)

// ConnectDataBytes is the size of the data of a Connect.
const ConnectDataBytes = 1024

// CATTRNoFlow is the bit of CATTR by which a host gives up submission queue flow control.
const CATTRNoFlow = 1 << 2

// RECFMT gives the record format of a Connect or Disconnect; only 0 exists.
func (s *SQE) RECFMT() uint16 { return s.uint16At(40) }

// ConnectQID gives the queue that a Connect makes.
func (s *SQE) ConnectQID() QID { return QID(s.uint16At(connectQID)) }

// QueueEntries gives the entries of the queue that a Connect makes, 1 to 65,536: SQSIZE is one less.
func (s *SQE) QueueEntries() uint32 { return uint32(s.uint16At(connectSQSIZE)) + 1 }

// CATTR gives the attributes of a Connect.
func (s *SQE) CATTR() uint8 { return s[46] }

// ConnectKATO gives the keep alive timeout of a Connect, in milliseconds.
func (s *SQE) ConnectKATO() uint32 { return s.CDW(12) }

// SetConnect sets the fields of a Connect.
func (s *SQE) SetConnect(q QID, entries uint32, cattr uint8, katoMilliseconds uint32) {
	binary.LittleEndian.PutUint16(s[connectQID:], uint16(q))
	binary.LittleEndian.PutUint16(s[connectSQSIZE:], uint16(entries-1))
	s[46] = cattr
	s.SetCDW(12, katoMilliseconds)
}

// IPO names the parameter at fault in a Connect answered with StatusConnectParameters: it is DW0 of the answer. The
// offset is in 15:0; bit 16 says that it is into the data. "Connect Command and Response".
type IPO uint32

// The parameters that can be at fault.
const (
	ipoInData  IPO = 1 << 16
	IPOQID         = IPO(connectQID)
	IPOSQSIZE      = IPO(connectSQSIZE)
	IPOHOSTID      = IPO(connectHOSTID) | ipoInData
	IPOCNTLID      = IPO(connectCNTLID) | ipoInData
	IPOSUBNQN      = IPO(connectSUBNQN) | ipoInData
	IPOHOSTNQN     = IPO(connectHOSTNQN) | ipoInData
)

// The bits of DW0 of a Connect that succeeded; CNTLID is in 15:0.
const (
	ConnectATR  = 1 << 17 // authentication is required
	ConnectASCR = 1 << 18 // authentication and a secure channel are required
)

// ConnectData is the data of a Connect.
type ConnectData struct {
	HOSTID  [16]byte
	CNTLID  CNTLID
	SUBNQN  string
	HOSTNQN string
}

// DecodeConnectData reads the data of a Connect. The answer is StatusSuccess, StatusSGLLength, or
// StatusConnectParameters with IPO.
func DecodeConnectData(b []byte) (ConnectData, Status, IPO) {
	if len(b) < ConnectDataBytes {
		return ConnectData{}, StatusSGLLength | DNR, 0
	}
	d := ConnectData{
		HOSTID: [16]byte(b[connectHOSTID:]),
		CNTLID: CNTLID(binary.LittleEndian.Uint16(b[connectCNTLID:])),
	}
	var ok bool
	if d.SUBNQN, ok = decodeNQN(b[connectSUBNQN:][:NQNFieldBytes]); !ok {
		return ConnectData{}, StatusConnectParameters | DNR, IPOSUBNQN
	}
	if d.HOSTNQN, ok = decodeNQN(b[connectHOSTNQN:][:NQNFieldBytes]); !ok {
		return ConnectData{}, StatusConnectParameters | DNR, IPOHOSTNQN
	}
	return d, StatusSuccess, 0
}

// AppendTo appends the data to b. The NQNs have passed CheckNQN.
func (d *ConnectData) AppendTo(b []byte) []byte {
	start := len(b)
	b = append(b, make([]byte, ConnectDataBytes)...)
	data := b[start:]
	copy(data[connectHOSTID:], d.HOSTID[:])
	binary.LittleEndian.PutUint16(data[connectCNTLID:], uint16(d.CNTLID))
	copy(data[connectSUBNQN:][:NQNFieldBytes-1], d.SUBNQN)
	copy(data[connectHOSTNQN:][:NQNFieldBytes-1], d.HOSTNQN)
	return b
}

// PropertyBytes gives the size of the property that a Property Get or Set names: 4, 8, or 0 for one that does not exist.
func (s *SQE) PropertyBytes() int {
	switch s[40] & 7 {
	case 0:
		return 4
	case 1:
		return 8
	}
	return 0
}

// PropertyOffset gives the property that a Property Get or Set names.
func (s *SQE) PropertyOffset() uint32 { return s.CDW(11) }

// PropertyValue gives the value of a Property Set; of a property of 4 bytes the lower half counts.
func (s *SQE) PropertyValue() uint64 { return s.uint64At(48) }

// SetProperty sets the fields of a Property Get or Set; bytes is 4 or 8.
func (s *SQE) SetProperty(offset uint32, bytes int, value uint64) {
	s[40] = byte(bytes / 8)
	s.SetCDW(11, offset)
	binary.LittleEndian.PutUint64(s[48:], value)
}

// The security protocol of Authentication Send and Receive. "Authentication Send Command and Response".
const (
	AuthSECP = 0xE9
	AuthSPSP = 0x01 // both SPSP0 and SPSP1
)

// AuthProtocol reports that an Authentication Send or Receive names the only protocol that there is.
func (s *SQE) AuthProtocol() bool { return s[41] == AuthSPSP && s[42] == AuthSPSP && s[43] == AuthSECP }

// AuthBytes gives the length, TL or AL, of an Authentication Send or Receive.
func (s *SQE) AuthBytes() uint32 { return s.CDW(11) }

// SetAuth sets the fields of an Authentication Send or Receive.
func (s *SQE) SetAuth(bytes uint32) {
	s[41], s[42], s[43] = AuthSPSP, AuthSPSP, AuthSECP
	s.SetCDW(11, bytes)
}
