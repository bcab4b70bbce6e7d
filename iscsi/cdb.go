package iscsi

import (
	"encoding/binary"

	"github.com/pollux-storage/pollux/bdev"
)

// This file is the commands: one table from which they are dispatched and judged, and which is what REPORT SUPPORTED OPERATION CODES lists.
//
// What a CDB means is in its usage: its length, and for each byte the bits that are looked at, as REPORT SUPPORTED OPERATION CODES gives it
// (SPC-4, "One_command parameter data format"): first the operation code, in the second byte the service action if there is one. The ranges
// of blocks stand by its length:
//
//	length   LBA     number of blocks
//	6        1..3    4, 0 is 256
//	10       2..5    7..8
//	12       2..5    6..9
//	16       2..9    10..13

// access is what reservations ask of a command. SPC-4 table 65 and SBC-3 table 13, "Commands that are allowed in the presence of various reservations".
type access uint8

const (
	accessAlways access = iota // whatever is reserved
	accessFree                 // unless the unit is reserved by RESERVE
	accessRead                 // reads, or looks at data
	accessWrite                // changes data, or what others see of the unit
	accessStop                 // as accessWrite, but for START STOP UNIT that starts it
)

// The bits that rules have.
const (
	writes   = 1 << iota // it changes the medium: not of a unit that is read-only
	tells                // it is served before unit attentions are told. SAM-5, "Unit attention conditions"
	anyState             // and whatever the state of the path
	acts                 // there is a service action
	reserves             // it is about reservations
)

// cdbRule says what a command needs, and who serves it.
type cdbRule struct {
	name    string
	usage   string
	access  access
	flags   uint8
	offered func(g *bdev.Geometry) bool // nil: always
	admit   func(c *command) bool       // judges its fields and says what it moves; nil: it has none and moves nothing
	execute func(c *command)
	done    func(c *command) // goes on after a request; nil: that was all

	next *cdbRule // of the same operation code
}

func (r *cdbRule) is(flag uint8) bool { return r.flags&flag != 0 }

func (r *cdbRule) opcode() byte { return r.usage[0] }

func (r *cdbRule) action() byte {
	if r.is(acts) {
		return r.usage[1] & 0x1F
	}
	return 0
}

// serves reports whether the command is offered for a device of this shape.
func (r *cdbRule) serves(g *bdev.Geometry) bool { return r.offered == nil || r.offered(g) }

// cdbRules are all commands, in the order of their codes. They are made in init, because one of them lists them.
var cdbRules []cdbRule

// rulesOf are the first of each operation code.
var rulesOf [256]*cdbRule

func init() {
	none := "\x00\x00\x00\x00"
	all4, all8 := "\xff\xff\xff\xff", "\xff\xff\xff\xff\xff\xff\xff\xff"
	cdbRules = []cdbRule{
		{name: "TEST UNIT READY", usage: "\x00\x00\x00\x00\x00\x04", access: accessFree, execute: (*command).good},
		{name: "REQUEST SENSE", usage: "\x03\x01\x00\x00\xff\x04", flags: tells | anyState, execute: (*command).requestSense},
		{name: "READ(6)", usage: "\x08\x1f\xff\xff\xff\x04", access: accessRead, admit: (*command).admitRead, execute: (*command).read},
		{name: "WRITE(6)", usage: "\x0a\x1f\xff\xff\xff\x04", access: accessWrite, flags: writes, admit: (*command).admitWrite, execute: (*command).write},
		{name: "INQUIRY", usage: "\x12\x01\xff\xff\xff\x04", flags: tells | anyState, admit: (*command).admitInquiry, execute: (*command).inquiry},
		{name: "MODE SELECT(6)", usage: "\x15\x11\x00\x00\xff\x04", access: accessWrite, flags: anyState, admit: (*command).admitModeSelect, execute: (*command).modeSelect},
		{name: "RESERVE(6)", usage: "\x16\x00\x00\x00\x00\x04", flags: reserves, admit: (*command).admitReserve, execute: (*command).reserve},
		{name: "RELEASE(6)", usage: "\x17\x00\x00\x00\x00\x04", flags: reserves, admit: (*command).admitReserve, execute: (*command).release},
		{name: "MODE SENSE(6)", usage: "\x1a\x08\xff\xff\xff\x04", access: accessRead, flags: anyState, admit: (*command).admitModeSense, execute: (*command).modeSense},
		{name: "START STOP UNIT", usage: "\x1b\x01\x00\x00\xf5\x04", access: accessStop, execute: (*command).startStop},
		{name: "READ CAPACITY(10)", usage: "\x25\x00" + none + "\x00\x00\x00\x04", access: accessFree, execute: (*command).readCapacity10},
		{name: "READ(10)", usage: "\x28\xf8" + all4 + "\x00\xff\xff\x04", access: accessRead, admit: (*command).admitRead, execute: (*command).read},
		{name: "WRITE(10)", usage: "\x2a\xf8" + all4 + "\x00\xff\xff\x04", access: accessWrite, flags: writes, admit: (*command).admitWrite, execute: (*command).write},
		{name: "WRITE AND VERIFY(10)", usage: "\x2e\xf6" + all4 + "\x00\xff\xff\x04", access: accessWrite, flags: writes, admit: (*command).admitWriteVerify, execute: (*command).writeVerify, done: (*command).writeVerifyNext},
		{name: "VERIFY(10)", usage: "\x2f\xf6" + all4 + "\x00\xff\xff\x04", access: accessRead, admit: (*command).admitVerify, execute: (*command).verify, done: (*command).verifyNext},
		{name: "PRE-FETCH(10)", usage: "\x34\x00" + all4 + "\x00\xff\xff\x04", access: accessRead, admit: (*command).admitPrefetch, execute: (*command).prefetch},
		{name: "SYNCHRONIZE CACHE(10)", usage: "\x35\x00" + all4 + "\x00\xff\xff\x04", access: accessWrite, admit: (*command).admitSync, execute: (*command).sync},
		{name: "WRITE SAME(10)", usage: "\x41\xf8" + all4 + "\x00\xff\xff\x04", access: accessWrite, flags: writes, admit: (*command).admitWriteSame, execute: (*command).writeSame, done: (*command).writeSameNext},
		{name: "UNMAP", usage: "\x42\x01" + none + "\x00\xff\xff\x04", access: accessWrite, flags: writes, offered: unmaps, admit: (*command).admitUnmap, execute: (*command).unmap, done: (*command).unmapNext},
		{name: "MODE SELECT(10)", usage: "\x55\x11" + none + "\x00\xff\xff\x04", access: accessWrite, flags: anyState, admit: (*command).admitModeSelect, execute: (*command).modeSelect},
		{name: "RESERVE(10)", usage: "\x56\x00" + none + "\x00\x00\x00\x04", flags: reserves, admit: (*command).admitReserve, execute: (*command).reserve},
		{name: "RELEASE(10)", usage: "\x57\x00" + none + "\x00\x00\x00\x04", flags: reserves, admit: (*command).admitReserve, execute: (*command).release},
		{name: "MODE SENSE(10)", usage: "\x5a\x18\xff\xff\x00\x00\x00\xff\xff\x04", access: accessRead, flags: anyState, admit: (*command).admitModeSense, execute: (*command).modeSense},
		{name: "PERSISTENT RESERVE IN, READ KEYS", usage: "\x5e\x00" + none + "\x00\xff\xff\x04", access: accessFree, flags: acts | anyState | reserves, execute: (*command).readKeys},
		{name: "PERSISTENT RESERVE IN, READ RESERVATION", usage: "\x5e\x01" + none + "\x00\xff\xff\x04", access: accessFree, flags: acts | anyState | reserves, execute: (*command).readReservation},
		{name: "PERSISTENT RESERVE IN, REPORT CAPABILITIES", usage: "\x5e\x02" + none + "\x00\xff\xff\x04", access: accessFree, flags: acts | anyState | reserves, execute: (*command).reportCapabilities},
		{name: "PERSISTENT RESERVE IN, READ FULL STATUS", usage: "\x5e\x03" + none + "\x00\xff\xff\x04", access: accessFree, flags: acts | anyState | reserves, execute: (*command).readFullStatus},
		{name: "PERSISTENT RESERVE OUT, REGISTER", usage: "\x5f\x00\xff\x00\x00" + all4 + "\x04", access: accessFree, flags: acts | anyState | reserves, admit: (*command).admitPROut, execute: (*command).persistentReserve},
		{name: "PERSISTENT RESERVE OUT, RESERVE", usage: "\x5f\x01\xff\x00\x00" + all4 + "\x04", access: accessFree, flags: acts | anyState | reserves, admit: (*command).admitPROut, execute: (*command).persistentReserve},
		{name: "PERSISTENT RESERVE OUT, RELEASE", usage: "\x5f\x02\xff\x00\x00" + all4 + "\x04", access: accessFree, flags: acts | anyState | reserves, admit: (*command).admitPROut, execute: (*command).persistentReserve},
		{name: "PERSISTENT RESERVE OUT, CLEAR", usage: "\x5f\x03\xff\x00\x00" + all4 + "\x04", access: accessFree, flags: acts | anyState | reserves, admit: (*command).admitPROut, execute: (*command).persistentReserve},
		{name: "PERSISTENT RESERVE OUT, PREEMPT", usage: "\x5f\x04\xff\x00\x00" + all4 + "\x04", access: accessFree, flags: acts | anyState | reserves, admit: (*command).admitPROut, execute: (*command).persistentReserve},
		{name: "PERSISTENT RESERVE OUT, PREEMPT AND ABORT", usage: "\x5f\x05\xff\x00\x00" + all4 + "\x04", access: accessFree, flags: acts | anyState | reserves, admit: (*command).admitPROut, execute: (*command).persistentReserve},
		{name: "PERSISTENT RESERVE OUT, REGISTER AND IGNORE EXISTING KEY", usage: "\x5f\x06\xff\x00\x00" + all4 + "\x04", access: accessFree, flags: acts | anyState | reserves, admit: (*command).admitPROut, execute: (*command).persistentReserve},
		{name: "PERSISTENT RESERVE OUT, REGISTER AND MOVE", usage: "\x5f\x07\xff\x00\x00" + all4 + "\x04", access: accessFree, flags: acts | anyState | reserves, admit: (*command).admitPROut, execute: (*command).persistentReserve},
		{name: "EXTENDED COPY(LID1)", usage: "\x83\x00" + none + none + all4 + "\x00\x04", access: accessWrite, flags: acts, offered: copies, admit: (*command).admitCopy, execute: (*command).extendedCopy, done: (*command).copyNext},
		{name: "RECEIVE COPY STATUS(LID1)", usage: "\x84\x00\xff\x00\x00\x00" + none + all4 + "\x00\x04", access: accessFree, flags: acts, offered: copies, admit: (*command).admitCopyStatus, execute: (*command).copyStatus},
		{name: "RECEIVE COPY OPERATING PARAMETERS", usage: "\x84\x03" + none + none + all4 + "\x00\x04", access: accessFree, flags: acts, offered: copies, execute: (*command).copyParameters},
		{name: "READ(16)", usage: "\x88\xf8" + all8 + all4 + "\x00\x04", access: accessRead, admit: (*command).admitRead, execute: (*command).read},
		{name: "COMPARE AND WRITE", usage: "\x89\xf8" + all8 + "\x00\x00\x00\xff\x00\x04", access: accessWrite, flags: writes, offered: swaps, admit: (*command).admitCompareAndWrite, execute: (*command).compareAndWrite},
		{name: "WRITE(16)", usage: "\x8a\xf8" + all8 + all4 + "\x00\x04", access: accessWrite, flags: writes, admit: (*command).admitWrite, execute: (*command).write},
		{name: "ORWRITE(16)", usage: "\x8b\xf8" + all8 + all4 + "\x00\x04", access: accessWrite, flags: writes, offered: swaps, admit: (*command).admitOrWrite, execute: (*command).orWrite, done: (*command).orWriteNext},
		{name: "WRITE AND VERIFY(16)", usage: "\x8e\xf6" + all8 + all4 + "\x00\x04", access: accessWrite, flags: writes, admit: (*command).admitWriteVerify, execute: (*command).writeVerify, done: (*command).writeVerifyNext},
		{name: "VERIFY(16)", usage: "\x8f\xf6" + all8 + all4 + "\x00\x04", access: accessRead, admit: (*command).admitVerify, execute: (*command).verify, done: (*command).verifyNext},
		{name: "PRE-FETCH(16)", usage: "\x90\x00" + all8 + all4 + "\x00\x04", access: accessRead, admit: (*command).admitPrefetch, execute: (*command).prefetch},
		{name: "SYNCHRONIZE CACHE(16)", usage: "\x91\x00" + all8 + all4 + "\x00\x04", access: accessWrite, admit: (*command).admitSync, execute: (*command).sync},
		{name: "WRITE SAME(16)", usage: "\x93\xf9" + all8 + all4 + "\x00\x04", access: accessWrite, flags: writes, admit: (*command).admitWriteSame, execute: (*command).writeSame, done: (*command).writeSameNext},
		{name: "READ CAPACITY(16)", usage: "\x9e\x10" + none + none + all4 + "\x00\x04", access: accessFree, flags: acts, execute: (*command).readCapacity16},
		{name: "GET LBA STATUS", usage: "\x9e\x12" + all8 + all4 + "\x00\x04", access: accessRead, flags: acts, admit: (*command).admitLBAStatus, execute: (*command).lbaStatus, done: (*command).lbaStatusNext},
		{name: "REPORT LUNS", usage: "\xa0\x00\xff\x00\x00\x00" + all4 + "\x00\x04", flags: tells | anyState, admit: (*command).admitReportLUNs, execute: (*command).reportLUNs},
		{name: "REPORT TARGET PORT GROUPS", usage: "\xa3\xea" + none + all4 + "\x00\x04", access: accessFree, flags: acts | anyState, admit: (*command).admitPortGroups, execute: (*command).reportPortGroups},
		{name: "REPORT SUPPORTED OPERATION CODES", usage: "\xa3\x0c\x87\xff\xff\xff" + all4 + "\x00\x04", access: accessRead, flags: acts | anyState, admit: (*command).admitOpcodes, execute: (*command).reportOpcodes},
		{name: "REPORT SUPPORTED TASK MANAGEMENT FUNCTIONS", usage: "\xa3\x0d\x80\x00\x00\x00" + all4 + "\x00\x04", access: accessRead, flags: acts | anyState, admit: (*command).admitFunctions, execute: (*command).reportFunctions},
		{name: "READ(12)", usage: "\xa8\xf8" + all4 + all4 + "\x00\x04", access: accessRead, admit: (*command).admitRead, execute: (*command).read},
		{name: "WRITE(12)", usage: "\xaa\xf8" + all4 + all4 + "\x00\x04", access: accessWrite, flags: writes, admit: (*command).admitWrite, execute: (*command).write},
		{name: "WRITE AND VERIFY(12)", usage: "\xae\xf6" + all4 + all4 + "\x00\x04", access: accessWrite, flags: writes, admit: (*command).admitWriteVerify, execute: (*command).writeVerify, done: (*command).writeVerifyNext},
		{name: "VERIFY(12)", usage: "\xaf\xf6" + all4 + all4 + "\x00\x04", access: accessRead, admit: (*command).admitVerify, execute: (*command).verify, done: (*command).verifyNext},
	}
	for i := len(cdbRules) - 1; i >= 0; i-- {
		r := &cdbRules[i]
		r.next, rulesOf[r.opcode()] = rulesOf[r.opcode()], r
	}
}

// ruleOf is the rule of a CDB: nil, false if there is no such operation code, nil, true if it has no such service action.
func ruleOf(cdb *CDB) (r *cdbRule, known bool) {
	r = rulesOf[cdb[0]]
	if r == nil || !r.is(acts) {
		return r, r != nil
	}
	for ; r != nil; r = r.next {
		if r.action() == cdb[1]&0x1F {
			break
		}
	}
	return r, true
}

// parseRange takes the range that the CDB names.
func (c *command) parseRange() {
	b := &c.cdb
	switch len(c.rule.usage) {
	case 6:
		c.lba, c.blocks = uint64(binary.BigEndian.Uint32(b[:])&0x1FFFFF), uint64(b[4])
		if c.blocks == 0 { // SBC-2, "READ (6) command"
			c.blocks = 256
		}
	case 10:
		c.lba, c.blocks = uint64(binary.BigEndian.Uint32(b[2:])), uint64(binary.BigEndian.Uint16(b[7:]))
	case 12:
		c.lba, c.blocks = uint64(binary.BigEndian.Uint32(b[2:])), uint64(binary.BigEndian.Uint32(b[6:]))
	case 16:
		c.lba, c.blocks = binary.BigEndian.Uint64(b[2:]), uint64(binary.BigEndian.Uint32(b[10:]))
	}
}

// lengthAt is the byte at which the number of blocks, or a parameter list's length, begins.
func (c *command) lengthAt() uint16 {
	switch len(c.rule.usage) {
	case 6:
		return 4
	case 10:
		return 7
	case 12:
		return 6
	}
	return 10
}

// The rest of this file is what several commands have in common.

// admitRange judges the range, of a command whose protection bits are the first three of its flags. SBC-3, "Protection information model":
// there is none.
func (c *command) admitRange() bool {
	c.parseRange()
	if len(c.rule.usage) != 6 && c.cdb[1]>>5 != 0 {
		return c.refuseCDB(1, 7)
	}
	return c.inside()
}

// inside refuses what is past the end, zero blocks too.
func (c *command) inside() bool {
	g := c.unit.ch.Geometry()
	if c.lba >= g.Blocks || c.blocks > g.Blocks-c.lba {
		return c.refuse(senseOutOfRange)
	}
	return true
}

// admitData judges the range of a command that moves as much, and says how many bytes it is.
func (c *command) admitData() (bytes uint32, ok bool) {
	if !c.admitRange() {
		return 0, false
	}
	g := c.unit.ch.Geometry()
	if c.blocks > uint64(g.MaxBlocks) { // MAXIMUM TRANSFER LENGTH
		return 0, c.refuseCDB(c.lengthAt(), -1)
	}
	return uint32(c.blocks << g.Shift()), true
}

// gives says that the command has n bytes for the initiator.
func (c *command) gives(n uint32) {
	c.want, c.send = n, 0
	switch {
	case c.reads:
		c.send = min(n, c.edtl)
	case c.writes: // what it would send instead is not asked for
		c.want = 0
	}
}

// brings says that the initiator has to send exactly n bytes.
func (c *command) brings(n uint32) bool {
	c.want = n
	if n == 0 {
		return true
	}
	if !c.writes || c.edtl != n {
		return c.refuse(senseInvalidIU)
	}
	c.out = n
	return true
}

// bringsList says that the initiator is to send a parameter list of n bytes, at least.
func (c *command) bringsList(n uint32) bool {
	c.want = n
	if n == 0 {
		return true
	}
	if !c.writes || c.edtl < n {
		return c.refuse(senseListLength)
	}
	c.out = n
	return true
}

// page lends memory for n bytes of an answer, and gives it empty; nil if there is none now.
func (c *command) page(n uint32) []byte {
	if c.data == nil && !c.port.lend(n) {
		return nil
	}
	return c.data[:0]
}

// answer ends the command with b, cut to the allocation length.
func (c *command) answer(b []byte, allocated uint32) {
	c.gives(min(uint32(len(b)), allocated, uint32(copy(c.data, b))))
	c.port.end()
}

// submit gives the device a request.
func (c *command) submit() {
	c.unit.ch.Submit(&c.req)
}

// good ends the command.
func (c *command) good() { c.port.end() }
