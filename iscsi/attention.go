package iscsi

import "sync/atomic"

// This file is unit attentions: what an initiator is told of a logical unit before its next command, once. SAM-5, "Unit attention
// conditions".
//
// There are those of one nexus, which its session raises, and those of all. For the latter a unit counts how often each has happened, and a
// nexus remembers how much of it it has told: so nobody has to find the others, and the way of a command looks at one number.

// attention is one of them; the numbers are the order in which they are told.
type attention uint8

// The attentions.
const (
	attentionReset         attention = iota // or a new nexus
	attentionNexusLoss                      // of this nexus
	attentionCleared                        // commands of the nexus, by another
	attentionLUNs                           // there are more, or fewer
	attentionCapacity                       // the unit has another size
	attentionMode                           // another nexus changed the mode parameters
	attentionPreempted                      // the nexus' reservation
	attentionReleased                       // a reservation that it had a part in
	attentionRegistrations                  // the nexus' registration was preempted
	attentionALUA                           // the state of a port group
	attentionThreshold                      // of thin provisioning

	attentionEnd
)

var attentionCodes = [attentionEnd]senseCode{
	senseReset, senseNexusLoss, senseCleared, senseLUNsChanged, senseCapacity, senseModeChanged, sensePreempted, senseReleased, senseRegistrations,
	senseALUAChanged, senseSoftThreshold,
}

// attentionSense is what is told.
func attentionSense(code senseCode) sense {
	s := sense{code: code}
	if code == senseSoftThreshold { // SBC-4 section 4.7.3.7.6: where the threshold stands in its mode page
		s.informs, s.info = true, thresholdAt
	}
	return s
}

// attentions are those that a nexus has not been told of.
type attentions struct {
	pending uint16
	seen    uint32 // of happenings.all
	told    [attentionEnd]uint32
}

// happenings count what every nexus of a unit is to be told.
type happenings struct {
	all  atomic.Uint32
	each [attentionEnd]atomic.Uint32
}

// begin makes a nexus know what has happened before it came. It is told that it is new.
func (a *attentions) begin(u *Unit) {
	*a = attentions{seen: u.happenings.all.Load()}
	for i := range a.told {
		a.told[i] = u.happenings.each[i].Load()
	}
	a.raise(attentionReset)
}

// raise notes one for this nexus.
func (a *attentions) raise(what attention) { a.pending |= 1 << what }

// some reports whether there are any.
func (a *attentions) some(u *Unit) bool {
	if n := u.happenings.all.Load(); n != a.seen {
		a.seen = n
		for i := range a.told {
			if h := u.happenings.each[i].Load(); h != a.told[i] {
				a.told[i] = h
				a.raise(attention(i))
			}
		}
	}
	return a.pending != 0
}

// take takes the first.
func (a *attentions) take(u *Unit) (senseCode, bool) {
	if !a.some(u) {
		return senseNone, false
	}
	for what := range attentionEnd {
		if a.pending&(1<<what) != 0 {
			a.pending &^= 1 << what
			if what == attentionReset { // it says all that a lost nexus would
				a.pending &^= 1 << attentionNexusLoss
			}
			return attentionCodes[what], true
		}
	}
	return senseNone, false
}

// forget drops one that the nexus has learnt of otherwise.
func (a *attentions) forget(u *Unit, what attention) {
	if a.some(u) {
		a.pending &^= 1 << what
	}
}

// tell lets every nexus of the unit hear of it. Any goroutine may call it.
func (u *Unit) tell(what attention) {
	u.happenings.each[what].Add(1)
	u.happenings.all.Add(1)
}

// tellOthers lets every nexus hear of it but the command's own.
func (c *command) tellOthers(what attention) {
	a := &c.unit.attentions
	a.some(c.unit.unit) // what others have done is not lost
	a.told[what]++
	c.unit.unit.tell(what)
}
