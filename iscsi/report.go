package iscsi

import (
	"encoding/binary"

	"github.com/pollux-storage/pollux/reactor"
)

// This file is what reports on the target: its units, its port groups, its commands. SPC-4, the sections of the commands' names.

// accessState is the asymmetric access state of a target port group. SPC-4, "Target port group asymmetric access states". The numbers are those on the wire.
type accessState uint8

// The states.
const (
	accessOptimized     accessState = 0x0
	accessNonOptimized  accessState = 0x1
	accessStandby       accessState = 0x2
	accessUnavailable   accessState = 0x3
	accessTransitioning accessState = 0xF
)

// sense is what a command is told that is not served in this state.
func (s accessState) sense() senseCode {
	switch s {
	case accessStandby:
		return senseALUAStandby
	case accessUnavailable:
		return senseALUAOff
	}
	return senseALUATransition
}

// targetPort is a port of the target: a portal group of the node. Its tag is its relative port identifier and that of its port group too, since
// each is alone in its group.
type targetPort struct {
	tag   int
	state accessState
}

// ports are those of the node, in the order in which they were configured. This is not for the way of reads and writes.
func (n *nexus) ports() []targetPort {
	var out []targetPort
	for i := range n.node.maps {
		m := &n.node.maps[i]
		seen := false
		for _, p := range out {
			seen = seen || p.tag == m.group.tag
		}
		if !seen {
			out = append(out, targetPort{m.group.tag, n.node.states[m.group.tag]})
		}
	}
	return out
}

// admitReportLUNs judges REPORT LUNS: 00h all but the well known ones, of which there are none; 01h those; 02h both.
func (c *command) admitReportLUNs() bool {
	if c.cdb[2] > 2 {
		return c.refuseCDB(2, 7)
	}
	return true
}

// reportLUNs lists the units that the nexus reaches.
func (c *command) reportLUNs() {
	units := c.nexus.units
	n := 8 + 8*len(units)
	if n > reactor.BufferMax {
		n = reactor.BufferMax
	}
	b := c.page(uint32(n))
	if b == nil {
		return
	}
	b = append(b, make([]byte, 8)...)
	if c.cdb[2] != 1 {
		for i := range units {
			if units[i] != nil {
				b = binary.BigEndian.AppendUint64(b, uint64(lunOf(i)))
			}
		}
	}
	binary.BigEndian.PutUint32(b, uint32(len(b)-8))
	for _, u := range units { // SAM-5, "Unit attention conditions": this tells it, whichever unit was asked
		if u != nil {
			u.attentions.forget(u.unit, attentionLUNs)
		}
	}
	c.answer(b, binary.BigEndian.Uint32(c.cdb[6:]))
}

// lunOf is the LUN of unit i: with peripheral device addressing up to 255, with flat space addressing above. SAM-5, "Single level LUN structure".
func lunOf(i int) LUN {
	if i < 256 {
		return LUN(i) << 48
	}
	return LUN(0x4000|i) << 48
}

// admitPortGroups judges REPORT TARGET PORT GROUPS: with or without an extended header.
func (c *command) admitPortGroups() bool {
	if c.cdb[1]>>5 > 1 {
		return c.refuseCDB(1, 7)
	}
	return true
}

// accessStates are the states that a group may have: T_SUP, U_SUP, S_SUP, AN_SUP, AO_SUP.
const accessStates = 0x80 | 0x08 | 0x04 | 0x02 | 0x01

// reportPortGroups lists the port groups.
func (c *command) reportPortGroups() {
	ports := c.nexus.ports()
	b := c.page(uint32(min(8+12*len(ports), reactor.BufferMax)))
	if b == nil {
		return
	}
	b = append(b, 0, 0, 0, 0)
	if c.cdb[1]>>5 == 1 {
		b = append(b, 0x10, 0, 0, 0) // FORMAT TYPE, no IMPLICIT TRANSITION TIME
	}
	for _, p := range ports {
		hi, lo := byte(p.tag>>8), byte(p.tag)
		b = append(b, byte(p.state), accessStates, hi, lo, 0, statusImplicit, 0, 1)
		b = append(b, 0, 0, hi, lo)
	}
	binary.BigEndian.PutUint32(b, uint32(len(b)-4))
	c.answer(b, binary.BigEndian.Uint32(c.cdb[6:]))
}

// statusImplicit is STATUS CODE: the state was altered by implicit asymmetric logical unit access behavior.
const statusImplicit = 2

// REPORTING OPTIONS of REPORT SUPPORTED OPERATION CODES. SPC-4, "REPORT SUPPORTED OPERATION CODES command introduction".
const (
	reportAll     = 0
	reportOpcode  = 1 // that has no service actions
	reportAction  = 2 // of one that has
	reportEither  = 3 // with the action if it has one
	reportOptions = 7

	reportTimeouts = 0x80 // RCTD
)

// admitOpcodes judges REPORT SUPPORTED OPERATION CODES.
func (c *command) admitOpcodes() bool {
	r := rulesOf[c.cdb[3]]
	switch c.cdb[2] & reportOptions {
	case reportAll, reportEither:
		return true
	case reportOpcode:
		if r != nil && r.is(acts) {
			return c.refuseCDB(2, 2)
		}
		return true
	case reportAction:
		if r != nil && !r.is(acts) {
			return c.refuseCDB(2, 2)
		}
		return true
	}
	return c.refuseCDB(2, 2)
}

// reportOpcodes lists the commands, or tells of one.
func (c *command) reportOpcodes() {
	b := c.page(reactor.PageBytes)
	if b == nil {
		return
	}
	allocated := binary.BigEndian.Uint32(c.cdb[6:])
	timeouts := c.cdb[2]&reportTimeouts != 0
	g := c.unit.ch.Geometry()
	if c.cdb[2]&reportOptions != reportAll {
		c.answer(c.appendOpcode(b, timeouts), allocated)
		return
	}
	b = append(b, 0, 0, 0, 0)
	for i := range cdbRules {
		r := &cdbRules[i]
		if !r.serves(g) {
			continue
		}
		var flags byte
		if r.is(acts) {
			flags |= 0x01 // SERVACTV
		}
		if timeouts {
			flags |= 0x02 // CTDP
		}
		b = append(b, r.opcode(), 0, 0, r.action(), 0, flags, 0, byte(len(r.usage)))
		if timeouts {
			b = appendTimeouts(b)
		}
	}
	binary.BigEndian.PutUint32(b, uint32(len(b)-4))
	c.answer(b, allocated)
}

// appendOpcode tells of one command. SPC-4, "One_command parameter data format".
func (c *command) appendOpcode(b []byte, timeouts bool) []byte {
	r := rulesOf[c.cdb[3]]
	if r != nil && r.is(acts) {
		for action := binary.BigEndian.Uint16(c.cdb[4:]); r != nil && uint16(r.action()) != action; {
			r = r.next
		}
	} else if r != nil && c.cdb[2]&reportOptions == reportEither && (c.cdb[4] != 0 || c.cdb[5] != 0) {
		r = nil // it has no actions, so there is none but 0
	}
	if r == nil || !r.serves(c.unit.ch.Geometry()) {
		return append(b, 0, 0x01, 0, 0) // SUPPORT: not supported
	}
	support := byte(0x03) // as the standard says
	if timeouts {
		support |= 0x80 // CTDP
	}
	b = append(b, 0, support, 0, byte(len(r.usage)))
	b = append(b, r.usage...)
	if timeouts {
		b = appendTimeouts(b)
	}
	return b
}

// appendTimeouts appends a command timeouts descriptor that gives none. SPC-4, "Command timeouts descriptor".
func appendTimeouts(b []byte) []byte { return append(b, 0, 10, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0) }

// admitFunctions judges REPORT SUPPORTED TASK MANAGEMENT FUNCTIONS: the allocation length is at least 4.
func (c *command) admitFunctions() bool {
	if binary.BigEndian.Uint32(c.cdb[6:]) < 4 {
		return c.refuseCDB(6, -1)
	}
	return true
}

// functions are ATS, ATSS, CTSS, LURS and TRS: ABORT TASK, ABORT TASK SET, CLEAR TASK SET, LOGICAL UNIT RESET, TARGET RESET.
const functions = 0x80 | 0x40 | 0x10 | 0x08 | 0x02

// reportFunctions lists the task management functions.
func (c *command) reportFunctions() {
	b := c.page(16)
	if b == nil {
		return
	}
	b = append(b, functions, 0, 0, 0)
	if c.cdb[2]&0x80 != 0 { // REPD
		b[3] = 12
		b = append(b, make([]byte, 12)...)
	}
	c.answer(b, binary.BigEndian.Uint32(c.cdb[6:]))
}
