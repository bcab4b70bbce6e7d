package nvmf

// This file is the controller properties: their offsets and bits.
//
// Base Specification 2.0, "Controller Properties".

// The properties, by offset.
const (
	PropertyCAP  = 0x00 // Controller Capabilities, 8 bytes
	PropertyVS   = 0x08 // Version
	PropertyCC   = 0x14 // Controller Configuration
	PropertyCSTS = 0x1C // Controller Status
	PropertyNSSR = 0x20 // NVM Subsystem Reset
	PropertyCRTO = 0x68 // Controller Ready Timeouts
)

// Version20 is VS of revision 2.0: major 31:16, minor 15:8, tertiary 7:0.
const Version20 = 0x00020000

// NSSRValue is what a host writes to NSSR: "NVMe".
const NSSRValue = 0x4E564D65

// CAP is the Controller Capabilities: MQES 15:0 (0-based), CQR 16, TO 31:24, NSSRS 36, CSS 44:37, MPSMIN 51:48,
// MPSMAX 55:52, CRWMS 59.
type CAP uint64

// MakeCAP gives the capabilities of a controller whose queues have entries, and which is enabled or disabled within
// timeout, in units of 500 ms. Queues are contiguous, the command set is NVM, the memory page is 4096 bytes, NSSR is there
// if nssr, and the controller becomes ready with its media (CRWMS).
func MakeCAP(entries uint32, timeout uint8, nssr bool) CAP {
	c := CAP(entries-1)&0xFFFF | 1<<16 | CAP(timeout)<<24 | 1<<37 | 1<<59
	if nssr {
		c |= 1 << 36
	}
	return c
}

// QueueEntries is the entries that a queue may have, 1 to 65,536.
func (c CAP) QueueEntries() uint32 { return uint32(c&0xFFFF) + 1 }

// TO is how long enabling or disabling may take, in units of 500 ms. Where CRWMS is set, CRTO says more.
func (c CAP) TO() uint8 { return uint8(c >> 24) }

// NSSRS: the subsystem can be reset.
func (c CAP) NSSRS() bool { return c>>36&1 != 0 }

// NVM: the NVM command set is there.
func (c CAP) NVM() bool { return c>>37&1 != 0 }

// PageBytesMin is the smallest memory page, which MDTS counts in.
func (c CAP) PageBytesMin() uint64 { return 1 << (12 + c>>48&0xF) }

// CRWMS: the controller can become ready with its media, and CRTO says when.
func (c CAP) CRWMS() bool { return c>>59&1 != 0 }

// CC is the Controller Configuration.
type CC uint32

// SHN is the shutdown that a host asks for.
type SHN uint8

// The values of SHN.
const (
	SHNNone   SHN = 0
	SHNNormal SHN = 1
	SHNAbrupt SHN = 2
)

// EN enables the controller.
func (c CC) EN() bool { return c&1 != 0 }

// CSS is the command set selected.
func (c CC) CSS() uint8 { return uint8(c >> 4 & 7) }

// MPS is the memory page size, 2^(12+MPS).
func (c CC) MPS() uint8 { return uint8(c >> 7 & 0xF) }

// AMS is the arbitration selected.
func (c CC) AMS() uint8 { return uint8(c >> 11 & 7) }

// SHN is the shutdown asked for.
func (c CC) SHN() SHN { return SHN(c >> 14 & 3) }

// IOSQES is the size of an I/O submission queue entry, as a power of two.
func (c CC) IOSQES() uint8 { return uint8(c >> 16 & 0xF) }

// IOCQES is the size of an I/O completion queue entry, as a power of two.
func (c CC) IOCQES() uint8 { return uint8(c >> 20 & 0xF) }

// The values that IOSQES and IOCQES have.
const (
	IOSQES = 6
	IOCQES = 4
)

// CCEnable is what a host writes to enable a controller: EN, the NVM command set, pages of 4096 bytes, round robin,
// and the entry sizes.
const CCEnable CC = 1 | IOSQES<<16 | IOCQES<<20

// WithSHN is c with another shutdown asked for.
func (c CC) WithSHN(s SHN) CC { return c&^(3<<14) | CC(s)<<14 }

// CSTS is the Controller Status.
type CSTS uint32

// The bits of CSTS. SHST is 3:2.
const (
	CSTSRDY          CSTS = 1 << 0
	CSTSCFS          CSTS = 1 << 1 // the controller has failed for good
	CSTSShutting     CSTS = 1 << 2 // SHST 01b: a shutdown is going on
	CSTSShutDone     CSTS = 2 << 2 // SHST 10b: it is complete
	CSTSShutMask     CSTS = 3 << 2
	CSTSNSSRO        CSTS = 1 << 4 // a subsystem reset occurred
	CSTSPaused       CSTS = 1 << 5
	CSTSShutdownType CSTS = 1 << 6 // of the whole subsystem
)

// MakeCRTO gives CRTO for a controller that is ready with its media within timeout, in units of 500 ms: CRWMT 15:0.
func MakeCRTO(timeout uint16) uint32 { return uint32(timeout) }
