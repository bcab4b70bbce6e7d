package rdma

import (
	"errors"
	"fmt"
)

// statusNames are those of ibv_wc_status_str(3).
var statusNames = [...]string{"success", "local length error", "local QP operation error", "local EE context operation error", "local protection error",
	"work request flushed", "memory bind error", "bad response", "local access error", "remote invalid request", "remote access error",
	"remote operation error", "transport retries exceeded", "receiver not ready: retries exceeded", "local RDD violation", "remote invalid RD request",
	"aborted by the peer", "invalid EE context number", "invalid EE context state", "fatal error", "response timeout", "general error"}

// String names the status.
func (s Status) String() string {
	if int(s) < len(statusNames) {
		return statusNames[s]
	}
	return fmt.Sprintf("Status(%d)", uint32(s))
}

// String names what a work request does.
func (o Opcode) String() string {
	return [...]string{"send", "send with invalidate", "RDMA write", "RDMA read"}[o&3]
}

// Why connections end, and why none comes about.
var (
	ErrDisconnected = errors.New("the peer ended the connection")
	ErrRemoved      = errors.New("the card was removed")
	ErrClosed       = errors.New("it was closed")
	ErrNoRoom       = errors.New("no room for another connection")
	ErrUnreachable  = errors.New("nobody answers there")
)

// WorkError is a work request that failed.
type WorkError struct {
	What   string // it was doing
	Status Status
	Vendor uint32 // the card's own account
}

func (e *WorkError) Error() string {
	return fmt.Sprintf("%s: %v (vendor's code %#x)", e.What, e.Status, e.Vendor)
}

// Rejected is a connection that the peer did not take.
type Rejected struct {
	Private []byte // what it said; it may be padded with zeros
	Reason  int    // of the connection manager
}

func (e *Rejected) Error() string {
	return fmt.Sprintf("the peer rejected the connection (reason %d, private data % x)", e.Reason, e.Private)
}
