package api

import (
	"encoding/json"
	"errors"
	"fmt"
	"syscall"
)

// Codes of an Error. A device's own refusal is a negative errno beside these: -19 not found, -17 exists, -16 busy, -22
// invalid, -28 no space, -12 no memory.
const (
	CodeParse          = -32700 // not JSON; the connection ends, for nothing tells where the next request begins
	CodeInvalidRequest = -32600 // JSON, but no request
	CodeUnknownMethod  = -32601
	CodeInvalidParams  = -32602
	CodeInternal       = -32603
	CodeWrongState     = -1     // known, but not callable now; SPDK's SPDK_JSONRPC_ERROR_INVALID_STATE
	CodeReason         = -32000 // of Pollux's own methods: data.reason says which
)

// Error is a failed call as it crosses the socket.
type Error struct {
	Code    int    `json:"code" doc:"JSON-RPC code, or a negative errno"`
	Message string `json:"message" doc:"what was attempted, on what, why it failed, what to do"`
	Data    *Data  `json:"data,omitempty"`
}

// Data lets a program tell apart what shares a code.
type Data struct {
	Reason  string   `json:"reason" doc:"the name of the failure, stable over releases"`
	Details []string `json:"details,omitempty" doc:"what led to it, one sentence each"`
}

func (e *Error) Error() string { return e.Message }

// Is makes errors.Is(err, syscall.ENODEV) work on either end of the socket.
func (e *Error) Is(target error) bool {
	var errno syscall.Errno
	return errors.As(target, &errno) && e.Code == -int(errno)
}

// Errno is a refusal with a negative errno for its code, as SPDK gives them.
func Errno(errno syscall.Errno, format string, args ...any) *Error {
	return &Error{Code: -int(errno), Message: fmt.Sprintf(format, args...)}
}

// Invalid is a refusal of parameters.
func Invalid(format string, args ...any) *Error {
	return &Error{Code: CodeInvalidParams, Message: fmt.Sprintf(format, args...)}
}

// Reason is a refusal by a method of Pollux's own, told apart by its reason.
func Reason(reason, format string, args ...any) *Error {
	return &Error{Code: CodeReason, Message: fmt.Sprintf(format, args...), Data: &Data{Reason: reason}}
}

// AsError makes err fit to cross the socket: an *Error as it is, an errno under its negative number, anything else as an
// internal error.
func AsError(err error) *Error {
	var e *Error
	if errors.As(err, &e) {
		if message := err.Error(); message != e.Message {
			return &Error{Code: e.Code, Message: message, Data: e.Data} // what wrapped it says more
		}
		return e
	}
	var errno syscall.Errno
	if errors.As(err, &errno) {
		return &Error{Code: -int(errno), Message: err.Error()}
	}
	return &Error{Code: CodeInternal, Message: err.Error()}
}

// parseError is what the other end says of e, in full where it has data.
func parseError(code int, message string, data json.RawMessage) *Error {
	e := &Error{Code: code, Message: message}
	var d Data
	if json.Unmarshal(data, &d) == nil && d.Reason != "" {
		e.Data = &d
	}
	return e
}
