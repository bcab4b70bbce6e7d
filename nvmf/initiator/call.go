package initiator

import (
	"context"
	"errors"
	"fmt"

	"github.com/pollux-storage/pollux/nvmf"
)

// This file is a command that a goroutine waits for: everything but requests of devices.

// errLost ends the commands of a connection that ended.
var errLost = errors.New("the connection ended before the command was answered")

// call is one such command.
type call struct {
	sqe     nvmf.SQE
	vec     [1][]byte // its data, none if empty
	toHost  bool
	patient bool // it may take for ever

	cqe  nvmf.CQE
	err  error
	done chan struct{}
	next *call // waits for a slot
}

// newCall makes a call of sqe whose data, if there is any, goes in the direction that its opcode says.
func newCall(sqe *nvmf.SQE, data []byte) *call {
	c := &call{sqe: *sqe, done: make(chan struct{})}
	if len(data) > 0 {
		c.vec[0], c.toHost = data, toHost(sqe)
	}
	return c
}

// issue starts a call, now or when there is a slot. It runs on the queue's reactor.
func (q *queue) issue(a *call) {
	switch {
	case q.state > queueOpen:
		a.lost(false)
	case !q.hasSlot():
		q.calls.push(a)
	default:
		c := q.acquire(a)
		c.sqe, c.lax, c.patient = a.sqe, true, a.patient
		if len(a.vec[0]) > 0 {
			c.lend(a.vec[:], a.toHost)
		}
		q.start(c)
	}
}

// answered takes the end of the call.
func (a *call) answered(cqe nvmf.CQE) {
	a.cqe = cqe
	close(a.done)
}

// lost hears that there is no answer.
func (a *call) lost(bool) {
	a.err = errLost
	close(a.done)
}

// do runs a call to its end. If ctx ends first the queue does too: nothing else takes the call's memory back.
func (q *queue) do(ctx context.Context, a *call) error {
	if err := q.r.Go(func() { q.issue(a) }); err != nil {
		return err
	}
	select {
	case <-a.done:
	case <-ctx.Done():
		_ = q.r.Go(func() { q.fail(fmt.Errorf("%v: a command was given up: %w", q, ctx.Err())) })
		<-a.done
		if a.err != nil {
			return ctx.Err()
		}
	}
	if errors.Is(a.err, errLost) {
		<-q.closed
		return fmt.Errorf("%w: %w", errLost, q.err)
	}
	return a.err
}

// StatusError is the answer of a target that refused a command.
type StatusError struct {
	What   string // what was asked for
	Status nvmf.Status
	DW0    uint32
}

func (e *StatusError) Error() string {
	return fmt.Sprintf("%s: the target answered %v", e.What, e.Status)
}

// run is do, for commands that are to succeed.
func (q *queue) run(ctx context.Context, what string, sqe *nvmf.SQE, data []byte) (nvmf.CQE, error) {
	a := newCall(sqe, data)
	if err := q.do(ctx, a); err != nil {
		return nvmf.CQE{}, fmt.Errorf("%s: %w", what, err)
	}
	if !a.cqe.Status.OK() {
		return a.cqe, &StatusError{what, a.cqe.Status, a.cqe.DW0}
	}
	return a.cqe, nil
}

// callList is a first-in, first-out list of calls.
type callList struct{ first, last *call }

func (l *callList) push(c *call) {
	if l.last == nil {
		l.first = c
	} else {
		l.last.next = c
	}
	l.last = c
}

func (l *callList) pop() *call {
	c := l.first
	if c == nil {
		return nil
	}
	if l.first = c.next; l.first == nil {
		l.last = nil
	}
	c.next = nil
	return c
}

// toHost reports the direction of a command's data. Base Specification 2.0, "Opcode": bits 1:0 are 10b for data to the host. A
// Fabrics command has them in its type.
func toHost(sqe *nvmf.SQE) bool {
	if sqe.Opcode() == nvmf.OpcodeFabrics {
		return uint8(sqe.FCTYPE())&3 == 2
	}
	return sqe.Opcode()&3 == 2
}
