package reactor

import (
	"unsafe"

	"github.com/pollux-storage/pollux/internal/invariant"
	"github.com/pollux-storage/pollux/reactor/ring"
)

// Op is one operation that its owner may have in flight on a reactor's ring. It is bound once, when its owner is set up, and
// started any number of times, one at a time.
type Op struct {
	done     Completion
	id       uint32
	bound    bool
	inFlight bool
	lent     unsafe.Pointer // what the kernel reads or writes: the collector does not see it in the ring
}

// Completion takes the end of an operation: res is the kernel's result, a negative errno on failure; flags are ring.More
// and such. It runs on the reactor that started the operation, never inside the call that did.
type Completion interface {
	OpDone(op *Op, res int32, flags uint32)
}

// InFlight reports whether the operation was started and has not completed.
func (op *Op) InFlight() bool { return op.inFlight }

// Bound reports whether Bind was called.
func (op *Op) Bound() bool { return op.bound }

// Bind gives op a place in the reactor's table. It may allocate.
func (r *Reactor) Bind(op *Op, done Completion) {
	invariant.Check(!op.bound, "reactor: operation bound twice")
	invariant.Check(!r.ringless, "reactor: a simulated reactor has no ring for operations")
	op.done, op.bound = done, true
	if n := len(r.opsFree); n > 0 {
		op.id = r.opsFree[n-1]
		r.opsFree = r.opsFree[:n-1]
		r.ops[op.id] = op
		return
	}
	op.id = uint32(len(r.ops))
	r.ops = append(r.ops, op)
}

// Unbind takes op's place back.
func (r *Reactor) Unbind(op *Op) {
	invariant.Check(op.bound && !op.inFlight, "reactor: unbinding an operation that is unbound or in flight")
	r.ops[op.id] = nil
	r.opsFree = append(r.opsFree, op.id)
	*op = Op{}
}

// Start gives the entry in which the caller describes op; it goes to the kernel at the end of the tick. The entry is lent
// until the next Start.
func (r *Reactor) Start(op *Op) *ring.SQE { return r.startOn(r.ring, op) }

func (r *Reactor) startOn(on *ring.Ring, op *Op) *ring.SQE {
	invariant.Check(op.bound && !op.inFlight, "reactor: starting an operation that is unbound or in flight")
	op.inFlight = true
	r.inFlight++
	e := on.Next()
	e.UserData = uint64(op.id)
	return e
}

// Cancel asks the kernel to end op early; it completes as any other, with ECANCELED if that helped. It does not help what a
// polled device has begun.
func (r *Reactor) Cancel(op *Op) {
	if op.inFlight {
		e := r.ring.Next()
		ring.PrepCancel(e, uint64(op.id))
		e.UserData = idIgnored
	}
}
