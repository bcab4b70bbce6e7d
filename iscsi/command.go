package iscsi

import (
	"github.com/pollux-storage/pollux/bdev"
)

// This file is a SCSI command as the logical unit sees it, and the seam between that and the transport:
//
//	transport                        SCSI
//	task, with its data still out ─▶ admit: judges, and says in want and out what the CDB moves; or ends it
//	brings out bytes to data      ─▶ execute: serves it, with requests of its own to the device, lends memory for what goes back
//	sends, counts residuals       ◀─ port.end: status, sense, send bytes of data
//
// The states of a command, in order: free → admitted (its data is on the way, or it waits for memory) → executing → ended → free.

// LUN is a logical unit number as on the wire. SAM-5 section 4.7, "Logical unit number".
type LUN uint64

// CDB is a command descriptor block; a short one ends in zeros.
type CDB [16]byte

// TaskAttribute is ATTR of a SCSI Command. RFC 7143 section 11.3.1.
type TaskAttribute uint8

// SCSIStatus is a status code. SAM-5 section 5.3.1, "Status codes".
type SCSIStatus uint8

// The statuses that are given.
const (
	Good                SCSIStatus = 0x00
	CheckCondition      SCSIStatus = 0x02
	ConditionMet        SCSIStatus = 0x04
	Busy                SCSIStatus = 0x08
	ReservationConflict SCSIStatus = 0x18
	TaskSetFull         SCSIStatus = 0x28
	ACAActive           SCSIStatus = 0x30
	TaskAborted         SCSIStatus = 0x40
)

// commandPort is what a command has of the transport that brought it: a task.
type commandPort interface {
	// lend gets the command n bytes of memory in data, at most reactor.BufferMax. If there are none now it reports false; execute is
	// called again when there may be.
	lend(n uint32) bool
	// end answers the command, once: status, sense, and after Good or ConditionMet the first send bytes of data. Never inside admit: that one
	// reports false instead.
	end()
}

// command is one command of an I_T_L nexus. A task has one, made when its session begins, and uses it again and again.
type command struct {
	port  commandPort
	nexus *nexus
	unit  *nexusUnit // nil if nothing is at lun

	// What came.
	lun    LUN
	cdb    CDB
	attr   TaskAttribute
	reads  bool   // R: the initiator expects data
	writes bool   // W: it has data
	edtl   uint32 // Expected Data Transfer Length, of that data
	tooBig bool   // with an extended CDB, or for both directions: admit refuses it

	// What admit and execute make of it.
	rule *cdbRule
	want uint32 // bytes that the CDB moves, in the direction that it has; edtl against it is the residual
	out  uint32 // of them, what the initiator is to send before execute: never more than edtl
	data []byte // lent: what it sent, then what goes to it
	send uint32 // bytes of data that go to it

	status SCSIStatus
	sense  sense

	lba    uint64 // the range that the CDB names
	blocks uint64

	req  bdev.Request
	two  [1][]byte // what Data2 is
	step uint64    // of commands that take several requests: what is done

	copying  *copying // an EXTENDED COPY under way
	nextTurn *command // of those that wait for memory that another has
}

// start makes a command as it came ready for admit. port, nexus, unit, lun, cdb, attr, reads, writes, edtl and tooBig are set.
func (c *command) start() {
	c.rule, c.want, c.out, c.send, c.status, c.sense, c.step, c.copying = nil, 0, 0, 0, Good, sense{}, 0, nil
}
