package iscsi

import (
	"encoding/binary"
	"slices"
	"strings"

	"github.com/pollux-storage/pollux/bdev/reservation"
	"github.com/pollux-storage/pollux/reactor"
)

// This file is PERSISTENT RESERVE OUT. SPC-4 section 6.16. Its parameter list:
//
//	                  all but REGISTER AND MOVE                        REGISTER AND MOVE
//	0..7, 8..15       RESERVATION KEY, SERVICE ACTION RESERVATION KEY  the same
//	17                                                                 UNREG 1, APTPL 0
//	18..19                                                             RELATIVE TARGET PORT IDENTIFIER
//	20                SPEC_I_PT 3, ALL_TG_PT 2, APTPL 0                TRANSPORTID LENGTH 20..23
//	24..              with SPEC_I_PT: length 24..27, TransportIDs 28…  one TransportID
//
// What the list says is judged on the reactor; the change itself is control work, as NVMe's reservation commands are.

// The service actions.
const (
	proutRegister     = 0x00
	proutReserve      = 0x01
	proutRelease      = 0x02
	proutClear        = 0x03
	proutPreempt      = 0x04
	proutPreemptAbort = 0x05
	proutIgnore       = 0x06 // REGISTER AND IGNORE EXISTING KEY
	proutMove         = 0x07
)

const (
	proutBytes    = 24
	proutBytesMax = 64 << 10 // with TransportIDs

	proutSpecIPT = 0x08
	proutAllTGPT = 0x04
	proutAPTPL   = 0x01
	proutUNREG   = 0x02
)

// proutList is the parameter list, once it was judged.
type proutList struct {
	key, actionKey uint64
	aptpl          bool
	allPorts       bool
	unregister     bool
	named          bool     // SPEC_I_PT
	port           uint16   // to which the reservation moves
	ids            []portID // initiator ports that are named
}

// portID is an initiator port, or an initiator whose ports are all meant.
type portID struct {
	name  string
	whole bool
	at    uint16 // where it stands in the list
}

// admitPROut judges the CDB.
func (c *command) admitPROut() bool {
	n := binary.BigEndian.Uint32(c.cdb[5:])
	_, known := typeOf(c.cdb[2] & 0x0F)
	switch c.cdb[1] & 0x1F {
	case proutReserve, proutPreempt, proutPreemptAbort:
		if !known {
			return c.refuseCDB(2, 3)
		}
		if c.cdb[2]>>4 != 0 { // SCOPE: the logical unit
			return c.refuseCDB(2, 7)
		}
	}
	if n < proutBytes || n > proutBytesMax {
		return c.refuse(senseListLength)
	}
	return c.bringsList(n)
}

// parsePROut takes the parameter list; if it reports false the answer is made.
func (c *command) parsePROut(b []byte) (l proutList, ok bool) {
	l.key, l.actionKey = binary.BigEndian.Uint64(b), binary.BigEndian.Uint64(b[8:])
	if c.cdb[1]&0x1F == proutMove {
		n := binary.BigEndian.Uint32(b[20:])
		l.unregister, l.aptpl, l.port = b[17]&proutUNREG != 0, b[17]&proutAPTPL != 0, binary.BigEndian.Uint16(b[18:])
		if uint64(n) != uint64(len(b)-proutBytes) {
			return l, c.refuse(senseListLength)
		}
		rest, ok := c.parsePort(&l, b[proutBytes:], proutBytes)
		if ok && len(rest) > 0 {
			return l, c.refuseList(senseInvalidList, 20, -1)
		}
		return l, ok
	}
	action := c.cdb[1] & 0x1F
	if action == proutRegister || action == proutIgnore {
		l.aptpl, l.allPorts = b[20]&proutAPTPL != 0, b[20]&proutAllTGPT != 0
	}
	if b[20]&proutSpecIPT == 0 {
		if len(b) != proutBytes {
			return l, c.refuse(senseListLength)
		}
		return l, true
	}
	if action != proutRegister {
		return l, c.refuseList(senseInvalidList, 20, 3)
	}
	l.named = true
	if len(b) < proutBytes+4 || uint64(binary.BigEndian.Uint32(b[24:])) != uint64(len(b)-proutBytes-4) {
		return l, c.refuseList(senseInvalidList, 24, -1)
	}
	for rest := b[proutBytes+4:]; len(rest) > 0; {
		if rest, ok = c.parsePort(&l, rest, len(b)-len(rest)); !ok {
			return l, false
		}
	}
	return l, true
}

// parsePort takes a TransportID, at byte at of the list.
func (c *command) parsePort(l *proutList, b []byte, at int) (rest []byte, ok bool) {
	name, whole, rest, wrong, ok := parseTransportID(b)
	if !ok {
		return nil, c.refuseList(senseInvalidList, uint16(at+wrong), -1)
	}
	l.ids = append(l.ids, portID{name, whole, uint16(at)})
	return rest, true
}

// persistentReserve serves it.
func (c *command) persistentReserve() {
	l, ok := c.parsePROut(c.data[:c.out])
	if !ok {
		c.port.end()
		return
	}
	id, action := c.nexus.identity, c.cdb[1]&0x1F
	t, _ := typeOf(c.cdb[2] & 0x0F)
	if c.cdb[2]>>4 != 0 { // of RELEASE: no reservation is of another scope. SPC-4 section 5.13.11.2.2, "Releasing"
		t = reservation.None
	}
	switch action {
	case proutRegister, proutIgnore:
		c.registerNexus(l, action == proutIgnore)
	case proutMove:
		c.move(l)
	default:
		c.changeReservations(action == proutPreemptAbort, func(next *reservation.State, _ bool) (out reservation.Outcome, v reservation.Verdict) {
			switch action {
			case proutReserve:
				v = next.Reserve(id, l.key, t)
			case proutRelease:
				out, v = next.Release(id, l.key, t)
			case proutClear:
				out, v = next.Clear(id, l.key)
			default:
				out, v = next.Preempt(id, l.key, l.actionKey, t, true)
			}
			return out, v
		}, c.settled)
	}
}

// target is the nexus of an initiator port with a port of this target.
func (c *command) target(initiator string, tag int) reservation.Registrant {
	return reservation.Registrant{Identity: reservation.Nexus(initiator, TargetPort(c.nexus.node.name, tag)), Port: uint16(tag)}
}

// registerNexus serves REGISTER and REGISTER AND IGNORE EXISTING KEY.
func (c *command) registerNexus(l proutList, ignore bool) {
	by := c.target(c.nexus.initiator, c.nexus.tag)
	by.Key = l.actionKey
	tags := []int{c.nexus.tag}
	var ports []reservation.Registrant
	if l.allPorts {
		for _, p := range c.nexus.ports() {
			if p.tag != c.nexus.tag {
				tags = append(tags, p.tag)
				ports = append(ports, c.target(c.nexus.initiator, p.tag))
			}
		}
	}
	c.withPorts(l.ids, func(initiators []string) {
		var others []reservation.Registrant
		if l.named {
			others = []reservation.Registrant{}
		}
		for _, i := range initiators {
			for _, tag := range tags {
				others = append(others, c.target(i, tag))
			}
		}
		refused := false
		c.changeReservations(false, func(next *reservation.State, persists bool) (out reservation.Outcome, v reservation.Verdict) {
			was := next.Generation
			out, v = next.RegisterNexus(by, l.key, ignore, ports, others)
			if refused = v == reservation.OK && l.aptpl && !persists; refused {
				return out, reservation.Conflict
			}
			if next.Generation != was { // the latest APTPL counts, of whoever it comes
				next.PTPL = l.aptpl
			}
			return out, v
		}, func(v reservation.Verdict, err error) {
			switch {
			case refused:
				c.refuseList(senseInvalidList, 20, 0)
			case err == nil && v == reservation.Registered: // SPC-4 table 67
				c.refuseList(senseInvalidList, 20, 3)
			default:
				c.settled(v, err)
				return
			}
			c.port.end()
		})
	})
}

// move serves REGISTER AND MOVE.
func (c *command) move(l proutList) {
	if !slices.ContainsFunc(c.nexus.ports(), func(p targetPort) bool { return p.tag == int(l.port) }) {
		c.refuseList(senseInvalidList, 18, -1)
		c.port.end()
		return
	}
	c.withPorts(l.ids, func(initiators []string) {
		// An initiator that is named without its port is to have one; and the initiator port that asks is none to move to.
		if len(initiators) != 1 || initiators[0] == c.nexus.initiator {
			c.refuseList(senseInvalidList, proutBytes, -1)
			c.port.end()
			return
		}
		id, to := c.nexus.identity, c.target(initiators[0], int(l.port))
		to.Key = l.actionKey
		refused := false
		c.changeReservations(false, func(next *reservation.State, persists bool) (out reservation.Outcome, v reservation.Verdict) {
			v = next.Move(id, l.key, to, l.unregister)
			if refused = v == reservation.OK && l.aptpl && !persists; refused {
				return out, reservation.Conflict
			}
			next.PTPL = l.aptpl
			return out, v
		}, func(v reservation.Verdict, err error) {
			if refused {
				c.refuseList(senseInvalidList, 17, 0)
				c.port.end()
				return
			}
			c.settled(v, err)
		})
	})
}

// withPorts finds the ports of initiators that are named without theirs: those that are logged in to the node. SPC-4 section 7.6.4.6: such a TransportID
// stands for all initiator ports of that name that the device server knows of. then runs on the command's reactor, unless one has none.
func (c *command) withPorts(ids []portID, then func(initiators []string)) {
	if !slices.ContainsFunc(ids, func(p portID) bool { return !p.whole }) {
		var names []string
		for _, p := range ids {
			names = append(names, p.name)
		}
		then(names)
		return
	}
	d, node, r := c.unit.unit.door, c.nexus.node.node, c.nexus.r
	go func() {
		known := make([][]string, d.t.group.Len())
		_ = d.t.group.Each(func(r *reactor.Reactor) {
			d.t.groups[r.Index()].each(func(s *session) {
				if s.node == node {
					known[r.Index()] = append(known[r.Index()], s.nexus.initiator)
				}
			})
		})
		var names []string
		none := -1
		for i, p := range ids {
			before := len(names)
			for _, name := range slices.Concat(known...) {
				if p.name == name || !p.whole && strings.HasPrefix(name, p.name+portMark) {
					names = append(names, name)
				}
			}
			if p.whole && len(names) == before {
				names = append(names, p.name)
			} else if len(names) == before {
				none = i
			}
		}
		slices.Sort(names)
		names = slices.Compact(names)
		_ = r.Go(func() {
			if none >= 0 {
				c.refuseList(senseInvalidList, ids[none].at, -1)
				c.port.end()
				return
			}
			then(names)
		})
	}()
}
