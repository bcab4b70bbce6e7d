package nvmf

import (
	"fmt"

	"github.com/pollux-storage/pollux/bdev"
)

// This file is the status of a command, and the one place where a bdev.Status becomes an NVMe status and back.
//
// Base Specification 2.0, "Status Field Definition". The phase, bit 0 of the field on the wire, is not part of Status:
//
//	 7:0   SC    status code
//	10:8   SCT   status code type
//	12:11  CRD   command retry delay
//	13     M     more, in the error log
//	14     DNR   do not retry

// Status is the status of a command: what is compared, printed and put into a CQE.
type Status uint16

// The bits beside the code.
const (
	DNR      Status = 1 << 14 // repeating the command as it is cannot help
	More     Status = 1 << 13
	crdShift        = 11
	crdMask  Status = 3 << crdShift
	codeMask Status = 1<<11 - 1
)

// The statuses. Type 0 is "Generic Command Status", 1 "Command Specific Status", 2 "Media and Data Integrity Errors",
// 3 "Path Related Status".
const (
	StatusSuccess            Status = 0x000
	StatusInvalidOpcode      Status = 0x001
	StatusInvalidField       Status = 0x002
	StatusCIDConflict        Status = 0x003
	StatusDataTransfer       Status = 0x004
	StatusInternal           Status = 0x006
	StatusAbortRequested     Status = 0x007
	StatusSQDeleted          Status = 0x008
	StatusFusedFailed        Status = 0x009
	StatusFusedMissing       Status = 0x00A
	StatusInvalidNamespace   Status = 0x00B
	StatusSequence           Status = 0x00C
	StatusSGLSegment         Status = 0x00D
	StatusSGLCount           Status = 0x00E
	StatusSGLLength          Status = 0x00F
	StatusSGLMetadataLength  Status = 0x010
	StatusSGLType            Status = 0x011
	StatusAtomicWriteUnit    Status = 0x014
	StatusOperationDenied    Status = 0x015
	StatusSGLOffset          Status = 0x016
	StatusHostIDInconsistent Status = 0x018
	StatusKeepAliveExpired   Status = 0x019
	StatusKeepAliveInvalid   Status = 0x01A
	StatusPreempted          Status = 0x01B
	StatusWriteProtected     Status = 0x020
	StatusInterrupted        Status = 0x021
	StatusTransientTransport Status = 0x022

	StatusLBAOutOfRange       Status = 0x080
	StatusCapacityExceeded    Status = 0x081
	StatusNamespaceNotReady   Status = 0x082
	StatusReservationConflict Status = 0x083

	StatusInvalidQID            Status = 0x101
	StatusInvalidQueueSize      Status = 0x102
	StatusAbortLimit            Status = 0x103
	StatusAERLimit              Status = 0x105
	StatusInvalidLogPage        Status = 0x109
	StatusFeatureNotSaveable    Status = 0x10D
	StatusFeatureNotChangeable  Status = 0x10E
	StatusFeatureNotNamespace   Status = 0x10F
	StatusANAGroupInvalid       Status = 0x124
	StatusConnectFormat         Status = 0x180 // Fabrics commands
	StatusConnectBusy           Status = 0x181
	StatusConnectParameters     Status = 0x182
	StatusConnectRestart        Status = 0x183
	StatusConnectHost           Status = 0x184
	StatusQueueTypeInvalid      Status = 0x185
	StatusDiscoveryRestart      Status = 0x190
	StatusAuthenticationNeeded  Status = 0x191
	StatusConflictingAttributes Status = 0x180 // I/O commands
	StatusReadOnlyRange         Status = 0x182
	StatusCommandSize           Status = 0x183

	StatusWriteFault     Status = 0x280
	StatusReadError      Status = 0x281
	StatusGuardCheck     Status = 0x282
	StatusAppTagCheck    Status = 0x283
	StatusRefTagCheck    Status = 0x284
	StatusCompareFailure Status = 0x285
	StatusAccessDenied   Status = 0x286

	StatusPathInternal      Status = 0x300
	StatusANAPersistentLoss Status = 0x301
	StatusANAInaccessible   Status = 0x302
	StatusANATransition     Status = 0x303
	StatusPathController    Status = 0x360
	StatusPathHost          Status = 0x370
	StatusPathHostAborted   Status = 0x371
)

// The standard's words. A code that Fabrics and I/O commands share has both.
var statusNames = map[Status]string{
	StatusSuccess:            "Successful Completion",
	StatusInvalidOpcode:      "Invalid Command Opcode",
	StatusInvalidField:       "Invalid Field in Command",
	StatusCIDConflict:        "Command ID Conflict",
	StatusDataTransfer:       "Data Transfer Error",
	StatusInternal:           "Internal Error",
	StatusAbortRequested:     "Command Abort Requested",
	StatusSQDeleted:          "Command Aborted due to SQ Deletion",
	StatusFusedFailed:        "Command Aborted due to Failed Fused Command",
	StatusFusedMissing:       "Command Aborted due to Missing Fused Command",
	StatusInvalidNamespace:   "Invalid Namespace or Format",
	StatusSequence:           "Command Sequence Error",
	StatusSGLSegment:         "Invalid SGL Segment Descriptor",
	StatusSGLCount:           "Invalid Number of SGL Descriptors",
	StatusSGLLength:          "Data SGL Length Invalid",
	StatusSGLMetadataLength:  "Metadata SGL Length Invalid",
	StatusSGLType:            "SGL Descriptor Type Invalid",
	StatusAtomicWriteUnit:    "Atomic Write Unit Exceeded",
	StatusOperationDenied:    "Operation Denied",
	StatusSGLOffset:          "SGL Offset Invalid",
	StatusHostIDInconsistent: "Host Identifier Inconsistent Format",
	StatusKeepAliveExpired:   "Keep Alive Timer Expired",
	StatusKeepAliveInvalid:   "Keep Alive Timeout Invalid",
	StatusPreempted:          "Command Aborted due to Preempt and Abort",
	StatusWriteProtected:     "Namespace is Write Protected",
	StatusInterrupted:        "Command Interrupted",
	StatusTransientTransport: "Transient Transport Error",

	StatusLBAOutOfRange:       "LBA Out of Range",
	StatusCapacityExceeded:    "Capacity Exceeded",
	StatusNamespaceNotReady:   "Namespace Not Ready",
	StatusReservationConflict: "Reservation Conflict",

	StatusInvalidQID:           "Invalid Queue Identifier",
	StatusInvalidQueueSize:     "Invalid Queue Size",
	StatusAbortLimit:           "Abort Command Limit Exceeded",
	StatusAERLimit:             "Asynchronous Event Request Limit Exceeded",
	StatusInvalidLogPage:       "Invalid Log Page",
	StatusFeatureNotSaveable:   "Feature Identifier Not Saveable",
	StatusFeatureNotChangeable: "Feature Not Changeable",
	StatusFeatureNotNamespace:  "Feature Not Namespace Specific",
	StatusANAGroupInvalid:      "ANA Group Identifier Invalid",
	StatusConnectFormat:        "Connect Incompatible Format, or Conflicting Attributes",
	StatusConnectBusy:          "Connect Controller Busy, or Invalid Protection Information",
	StatusConnectParameters:    "Connect Invalid Parameters, or Attempted Write to Read Only Range",
	StatusConnectRestart:       "Connect Restart Discovery, or Command Size Limit Exceeded",
	StatusConnectHost:          "Connect Invalid Host",
	StatusQueueTypeInvalid:     "Invalid Queue Type",
	StatusDiscoveryRestart:     "Discover Restart",
	StatusAuthenticationNeeded: "Authentication Required",

	StatusWriteFault:     "Write Fault",
	StatusReadError:      "Unrecovered Read Error",
	StatusGuardCheck:     "End-to-end Guard Check Error",
	StatusAppTagCheck:    "End-to-end Application Tag Check Error",
	StatusRefTagCheck:    "End-to-end Reference Tag Check Error",
	StatusCompareFailure: "Compare Failure",
	StatusAccessDenied:   "Access Denied",

	StatusPathInternal:      "Internal Path Error",
	StatusANAPersistentLoss: "Asymmetric Access Persistent Loss",
	StatusANAInaccessible:   "Asymmetric Access Inaccessible",
	StatusANATransition:     "Asymmetric Access Transition",
	StatusPathController:    "Controller Pathing Error",
	StatusPathHost:          "Host Pathing Error",
	StatusPathHostAborted:   "Command Aborted By Host",
}

// OK reports success.
func (s Status) OK() bool { return s&codeMask == 0 }

// Code is the status without DNR, More and CRD: what two statuses are compared by.
func (s Status) Code() Status { return s & codeMask }

// SCT is the status code type.
func (s Status) SCT() uint8 { return uint8(s >> 8 & 7) }

// SC is the status code.
func (s Status) SC() uint8 { return uint8(s) }

// DNR reports that repeating the command cannot help.
func (s Status) DNR() bool { return s&DNR != 0 }

// CRD is the index of the delay, in Identify Controller, after which a command may be repeated; 0 is none.
func (s Status) CRD() uint8 { return uint8(s & crdMask >> 11) }

// String gives type and code in hex and the standard's words: "0/02 Invalid Field in Command, do not retry".
func (s Status) String() string {
	name, ok := statusNames[s.Code()]
	if !ok {
		name = "status unknown"
	}
	if s.DNR() {
		name += ", do not retry"
	}
	return fmt.Sprintf("%X/%02X %s", s.SCT(), s.SC(), name)
}

// StatusOf is the answer to a command whose request, of kind k, ended with b. Transient statuses, and those that another
// path or node may not have, are without DNR; the Linux host retries those and gives the others to its caller.
func StatusOf(b bdev.Status, k bdev.Kind) Status {
	switch b {
	case bdev.StatusOK:
		return StatusSuccess

	case bdev.StatusMisaligned, bdev.StatusTooLarge:
		return StatusInvalidField | DNR
	case bdev.StatusOutOfRange:
		return StatusLBAOutOfRange | DNR
	case bdev.StatusNotSupported:
		return StatusInvalidOpcode | DNR
	case bdev.StatusMiscompare:
		return StatusCompareFailure | DNR

	case bdev.StatusIO:
		if k.Writes() || k == bdev.Flush {
			return StatusWriteFault | DNR
		}
		return StatusReadError | DNR
	case bdev.StatusCorrupt:
		return StatusReadError | DNR
	case bdev.StatusNoSpace:
		return StatusCapacityExceeded | DNR
	case bdev.StatusReadOnly:
		return StatusWriteProtected | DNR
	case bdev.StatusGone:
		return StatusInternal

	case bdev.StatusBusy:
		return StatusInterrupted
	case bdev.StatusNotReady, bdev.StatusNotDurable, bdev.StatusQuorumLost:
		return StatusNamespaceNotReady
	case bdev.StatusNotPrimary:
		return StatusANAInaccessible
	case bdev.StatusEpochStale, bdev.StatusLeaseExpired, bdev.StatusClosed:
		return StatusANATransition
	case bdev.StatusAborted:
		return StatusAbortRequested
	}
	return StatusInternal
}

// DeviceStatus is how a request to a remote namespace ended whose I/O command was answered with s: the way back of
// StatusOf. Several statuses of a device have one NVMe status; of these it is the mildest that StatusOf answers in the
// same way. Two do not come back as themselves: Internal Error says nothing about the device, so it is not StatusGone,
// and Unrecovered Read Error is StatusIO, because only the far end knows of checksums.
func (s Status) DeviceStatus() bdev.Status {
	switch s.Code() {
	case StatusSuccess:
		return bdev.StatusOK

	case StatusInvalidOpcode:
		return bdev.StatusNotSupported
	case StatusInvalidField, StatusSGLLength, StatusSGLType, StatusSGLOffset, StatusSGLCount, StatusSGLSegment:
		return bdev.StatusMisaligned
	case StatusLBAOutOfRange:
		return bdev.StatusOutOfRange
	case StatusCommandSize, StatusAtomicWriteUnit:
		return bdev.StatusTooLarge
	case StatusCompareFailure:
		return bdev.StatusMiscompare

	case StatusCapacityExceeded:
		return bdev.StatusNoSpace
	case StatusWriteProtected, StatusReadOnlyRange:
		return bdev.StatusReadOnly
	case StatusInvalidNamespace, StatusANAPersistentLoss:
		return bdev.StatusGone
	case StatusGuardCheck, StatusAppTagCheck, StatusRefTagCheck:
		return bdev.StatusCorrupt

	case StatusInterrupted, StatusTransientTransport, StatusDataTransfer, StatusPathInternal, StatusPathController,
		StatusPathHost:
		return bdev.StatusBusy
	case StatusNamespaceNotReady:
		return bdev.StatusNotReady
	case StatusANAInaccessible:
		return bdev.StatusNotPrimary
	case StatusANATransition, StatusSQDeleted:
		return bdev.StatusClosed
	case StatusAbortRequested, StatusPreempted, StatusFusedFailed, StatusFusedMissing, StatusPathHostAborted:
		return bdev.StatusAborted
	}
	return bdev.StatusIO
}
