package reactor

import "errors"

// Poller is asked for work once a tick. It never blocks, does at most its budget, and reports how much it did.
type Poller interface {
	Poll(now Ticks) (work int)
}

// Wake says how a reactor that sleeps learns that a poller has work.
type Wake struct {
	// Busy reports that the poller waits for something that cannot wake the reactor (memory that a device writes): the reactor
	// polls on while it is true.
	Busy func() bool
	// Arm is called when the reactor is about to sleep. It lets the next work that comes end an operation of the reactor, then looks
	// once more, and reports whether there was work by then: the reactor stays up if so. It is never called where the policy is to poll.
	Arm func() (work bool)
	// Events reports that work comes only from operations, timers or messages of the same reactor, which wake it anyway.
	Events bool
}

// ErrNoWake refuses a poller that could be forgotten by a sleeping reactor.
var ErrNoWake = errors.New("reactor: a poller needs a source that wakes it: Wake.Busy, Wake.Arm or Wake.Events")

type pollerEntry struct {
	poller     Poller
	name       string
	busy       func() bool
	arm        func() bool
	removed    bool
	runs, hits uint64
}

func (p *pollerEntry) poll(now Ticks) int {
	if p.removed {
		return 0
	}
	work := p.poller.Poll(now)
	p.runs++
	if work > 0 {
		p.hits++
	}
	return work
}

// PollerStats counts one poller's turns.
type PollerStats struct {
	Name       string
	Runs, Hits uint64 // asked, and found work
}

// AddPoller lets p be asked every tick.
func (r *Reactor) AddPoller(name string, p Poller, wake Wake) error {
	if wake.Busy == nil && wake.Arm == nil && !wake.Events {
		return ErrNoWake
	}
	r.pollers = append(r.pollers, &pollerEntry{poller: p, name: name, busy: wake.Busy, arm: wake.Arm})
	return nil
}

// RemovePoller ends that. A poller may remove itself or another while it is asked: the one that is removed is not asked again.
func (r *Reactor) RemovePoller(p Poller) {
	for i, e := range r.pollers {
		if e.poller == p {
			e.removed = true
			r.pollers = append(r.pollers[:i:i], r.pollers[i+1:]...) // a copy: a tick may be going through the list
			return
		}
	}
}

// busyPoller gives a poller that waits for something which cannot wake the reactor, if there is one.
func (r *Reactor) busyPoller() *pollerEntry {
	for _, p := range r.pollers {
		if p.busy != nil && p.busy() {
			return p
		}
	}
	return nil
}

// armPollers lets pollers be woken by what they wait for, and reports whether one has found work.
func (r *Reactor) armPollers() (work bool) {
	for _, p := range r.pollers {
		if p.arm != nil && !p.removed && p.arm() {
			p.hits++
			r.lastIO = r.now
			return true
		}
	}
	return false
}

// Pollers lists the pollers with their counters.
func (r *Reactor) Pollers() []PollerStats {
	out := make([]PollerStats, 0, len(r.pollers))
	for _, p := range r.pollers {
		out = append(out, PollerStats{p.name, p.runs, p.hits})
	}
	return out
}
