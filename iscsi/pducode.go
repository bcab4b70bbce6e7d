package iscsi

import "fmt"

// This file is the codes in PDUs, with the standard's words for them.

// RejectReason says why a PDU is not taken. RFC 7143 section 11.17.1, "Reason". 0 is none.
type RejectReason uint8

// The reasons.
const (
	RejectDataDigest       RejectReason = 0x02
	RejectSNACK            RejectReason = 0x03
	RejectProtocol         RejectReason = 0x04
	RejectNotSupported     RejectReason = 0x05
	RejectTooManyImmediate RejectReason = 0x06
	RejectTaskInProgress   RejectReason = 0x07
	RejectInvalidDataACK   RejectReason = 0x08
	RejectInvalidField     RejectReason = 0x09
	RejectLongOperation    RejectReason = 0x0A // out of resources for a Target Transfer Tag
	RejectWaitForLogout    RejectReason = 0x0C
)

// String gives the standard's words.
func (r RejectReason) String() string {
	switch r {
	case 0:
		return "no reason"
	case RejectDataDigest:
		return "data digest error"
	case RejectSNACK:
		return "SNACK reject"
	case RejectProtocol:
		return "protocol error"
	case RejectNotSupported:
		return "command not supported"
	case RejectTooManyImmediate:
		return "immediate command reject"
	case RejectTaskInProgress:
		return "task in progress"
	case RejectInvalidDataACK:
		return "invalid data ack"
	case RejectInvalidField:
		return "invalid PDU field"
	case RejectLongOperation:
		return "long op reject"
	case RejectWaitForLogout:
		return "waiting for logout"
	}
	return fmt.Sprintf("reason %02Xh", uint8(r))
}

// The task attributes. RFC 7143 section 11.3.1, "Flags and Task Attributes".
const (
	Untagged    TaskAttribute = 0
	Simple      TaskAttribute = 1
	Ordered     TaskAttribute = 2
	HeadOfQueue TaskAttribute = 3
	ACA         TaskAttribute = 4
)

// ServiceResponse is what the target port says of a command. RFC 7143 section 11.4.3, "Response". From 80h on it is vendor-specific.
type ServiceResponse uint8

// The service responses.
const (
	CommandCompleted ServiceResponse = 0x00
	TargetFailure    ServiceResponse = 0x01
)

// TaskFunction is a task management function. RFC 7143 section 11.5.1, RFC 7144 section 5.1.
type TaskFunction uint8

// The functions.
const (
	AbortTask        TaskFunction = 1
	AbortTaskSet     TaskFunction = 2
	ClearACA         TaskFunction = 3
	ClearTaskSet     TaskFunction = 4
	LogicalUnitReset TaskFunction = 5
	TargetWarmReset  TaskFunction = 6
	TargetColdReset  TaskFunction = 7
	TaskReassign     TaskFunction = 8
	QueryTask        TaskFunction = 9  // only where iSCSIProtocolLevel 2 was agreed on
	QueryTaskSet     TaskFunction = 10 // likewise
	NexusReset       TaskFunction = 11 // likewise
	QueryAsyncEvent  TaskFunction = 12 // likewise
)

var taskFunctionNames = [...]string{
	AbortTask: "ABORT TASK", AbortTaskSet: "ABORT TASK SET", ClearACA: "CLEAR ACA", ClearTaskSet: "CLEAR TASK SET",
	LogicalUnitReset: "LOGICAL UNIT RESET", TargetWarmReset: "TARGET WARM RESET", TargetColdReset: "TARGET COLD RESET", TaskReassign: "TASK REASSIGN",
	QueryTask: "QUERY TASK", QueryTaskSet: "QUERY TASK SET", NexusReset: "I_T NEXUS RESET", QueryAsyncEvent: "QUERY ASYNCHRONOUS EVENT",
}

// String gives the standard's name.
func (f TaskFunction) String() string {
	if int(f) < len(taskFunctionNames) && taskFunctionNames[f] != "" {
		return taskFunctionNames[f]
	}
	return fmt.Sprintf("task management function %d", uint8(f))
}

// TaskResponse answers one. RFC 7143 section 11.6.1, "Response".
type TaskResponse uint8

// The answers.
const (
	FunctionComplete      TaskResponse = 0
	TaskDoesNotExist      TaskResponse = 1
	LUNDoesNotExist       TaskResponse = 2
	TaskStillAllegiant    TaskResponse = 3
	ReassignNotSupported  TaskResponse = 4
	FunctionNotSupported  TaskResponse = 5
	FunctionNotAuthorized TaskResponse = 6
	FunctionSucceeded     TaskResponse = 7 // RFC 7144
	FunctionRejected      TaskResponse = 255
)

var taskResponseNames = [...]string{
	"function complete", "task does not exist", "LUN does not exist", "task still allegiant", "task allegiance reassignment not supported",
	"task management function not supported", "function authorization failed", "function succeeded",
}

// String gives the standard's words.
func (r TaskResponse) String() string {
	switch {
	case int(r) < len(taskResponseNames):
		return taskResponseNames[r]
	case r == FunctionRejected:
		return "function rejected"
	}
	return fmt.Sprintf("task management response %d", uint8(r))
}

// LogoutReason is what an initiator wants to end. RFC 7143 section 11.14.1, "Reason Code".
type LogoutReason uint8

// The reasons.
const (
	LogoutSession    LogoutReason = 0
	LogoutConnection LogoutReason = 1
	LogoutRecovery   LogoutReason = 2 // remove the connection, and recover its tasks on another
)

// LogoutCode answers. RFC 7143 section 11.15.1, "Response".
type LogoutCode uint8

// The answers.
const (
	LogoutDone                 LogoutCode = 0
	LogoutCIDNotFound          LogoutCode = 1
	LogoutRecoveryNotSupported LogoutCode = 2
	LogoutCleanupFailed        LogoutCode = 3
)

// AsyncEvent is what the target tells of itself. RFC 7143 section 11.9.1, "AsyncEvent".
type AsyncEvent uint8

// The events.
const (
	AsyncSense             AsyncEvent = 0 // sense data is in the data segment
	AsyncRequestLogout     AsyncEvent = 1 // within Parameter3 seconds
	AsyncDropConnection    AsyncEvent = 2 // Parameter1 is the CID, 2 Time2Wait, 3 Time2Retain
	AsyncDropSession       AsyncEvent = 3 // Parameter2 Time2Wait, 3 Time2Retain
	AsyncRequestParameters AsyncEvent = 4 // within Parameter3 seconds
	AsyncTasksTerminated   AsyncEvent = 5 // all tasks of the LUN
	AsyncVendor            AsyncEvent = 255
)

// LoginStatus is Status-Class and Status-Detail. RFC 7143 section 11.13.5, "Status-Class and Status-Detail".
type LoginStatus uint16

// The statuses.
const (
	LoginSuccess            LoginStatus = 0x0000
	LoginMovedForNow        LoginStatus = 0x0101
	LoginMovedForGood       LoginStatus = 0x0102
	LoginInitiatorError     LoginStatus = 0x0200
	LoginAuthenticationFail LoginStatus = 0x0201
	LoginNotAllowed         LoginStatus = 0x0202
	LoginNotFound           LoginStatus = 0x0203
	LoginRemoved            LoginStatus = 0x0204
	LoginVersion            LoginStatus = 0x0205
	LoginTooManyConnections LoginStatus = 0x0206
	LoginMissingParameter   LoginStatus = 0x0207
	LoginCannotInclude      LoginStatus = 0x0208
	LoginSessionType        LoginStatus = 0x0209
	LoginNoSuchSession      LoginStatus = 0x020A
	LoginInvalidRequest     LoginStatus = 0x020B // not a login PDU
	LoginTargetError        LoginStatus = 0x0300
	LoginServiceUnavailable LoginStatus = 0x0301
	LoginOutOfResources     LoginStatus = 0x0302
)

var loginStatusNames = [...][]string{
	{"success"},
	{1: "target moved temporarily", 2: "target moved permanently"},
	{
		"initiator error", "authentication failure", "authorization failure", "not found", "target removed", "unsupported version",
		"too many connections", "missing parameter", "can't include in session", "session type not supported", "session does not exist",
		"invalid during login",
	},
	{"target error", "service unavailable", "out of resources"},
}

// String gives the standard's words, and the number.
func (s LoginStatus) String() string {
	class, detail := int(s>>8), int(s&0xFF)
	if class < len(loginStatusNames) && detail < len(loginStatusNames[class]) && loginStatusNames[class][detail] != "" {
		return fmt.Sprintf("%s (%04X)", loginStatusNames[class][detail], uint16(s))
	}
	return fmt.Sprintf("login status %04X", uint16(s))
}

// Stage is a stage of a login: CSG and NSG. RFC 7143 section 11.12.3.
type Stage uint8

// The stages.
const (
	SecurityNegotiation Stage = 0
	OperationalStage    Stage = 1
	FullFeature         Stage = 3
)

// String gives the standard's name.
func (s Stage) String() string {
	switch s {
	case SecurityNegotiation:
		return "SecurityNegotiation"
	case OperationalStage:
		return "LoginOperationalNegotiation"
	case FullFeature:
		return "FullFeaturePhase"
	}
	return fmt.Sprintf("stage %d", uint8(s))
}
