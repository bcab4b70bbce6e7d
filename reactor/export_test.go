package reactor

import (
	"github.com/pollux-storage/pollux/reactor/ring"
)

// OldKernel lets the reactors do without what kernels later than 5.15 brought.
func (c *Config) OldKernel() { c.old, c.RingSetup = true, []ring.SetupSet{0} }

// MessageRingSize is the number of messages that fit between two ticks of the receiver.
const MessageRingSize = messageRingSize

// FailWake does what waking r from by would, with a message that the kernel refuses. It reports whether r slept.
func FailWake(by, r *Reactor) bool {
	if !r.takeWake() {
		return false
	}
	e := by.ring.Next()
	ring.PrepMsgRing(e, by.wakeFD, idWake, 0) // not a ring
	e.Flags = ring.SkipSuccess
	e.UserData = idWakeFailed | uint64(r.index)
	return true
}

// MsgRing reports whether r wakes peers by messages from its ring.
func (r *Reactor) MsgRing() bool { return r.can.msgRing }

// OpsTable is the number of places in the table of operations, and of those that are free.
func (r *Reactor) OpsTable() (places, free int) { return len(r.ops), len(r.opsFree) }

// FilesFree is the number of free places in the ring's file table.
func (r *Reactor) FilesFree() int { return len(r.files.free) }

// Waiting is the number of messages to another reactor that found no room in the ring, and the memory kept for them.
func (r *Reactor) Waiting(to *Reactor) (n, room int) {
	o := &r.outbox[to.index]
	return len(o.waiting) - o.first, cap(o.waiting)
}

// EndSpin lets the reactor believe that its last I/O was long ago.
func (r *Reactor) EndSpin() { r.lastIO -= 1 << 60 }

// BeginSpin lets the reactor believe that its last I/O was just now.
func (r *Reactor) BeginSpin() { r.lastIO = r.now }

// Tick is one turn of the loop, inside a call.
func (r *Reactor) Tick() bool { return r.tick() }

// RegisterNoMore lets the reactor register no more memory or files with its ring.
func (r *Reactor) RegisterNoMore() { r.tables, r.files.free = false, nil }

// NewPolledFileAnyway does not ask whether the device has poll queues.
func (r *Reactor) NewPolledFileAnyway(fd int) (*File, error) { return r.newPolledFile(fd) }

// Polling reports whether something is in flight on a polled device.
func (r *Reactor) Polling() bool { return r.polling() }

// PolledFilesFree is the number of free places for polled files.
func (r *Reactor) PolledFilesFree() int { return len(r.polled.files.free) }

// DevicePolls says what is missing to the device under a folder of sysfs.
var DevicePolls = devicePolls

// RequestsPassed is how often the reactor was asked to make room, and let it pass.
func (r *Reactor) RequestsPassed() uint64 { return r.requests.Passed }

// RequestOwed reports whether one that was let pass is still to be served.
func (r *Reactor) RequestOwed() bool { return r.requests.Owes() }

// ForgetTuning undoes what TuneRuntime told the reactors.
func ForgetTuning() { procs.Store(0) }
