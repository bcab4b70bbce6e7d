package iscsi

import (
	"context"
	"fmt"

	"github.com/pollux-storage/pollux/reactor"
)

// This file is task management. RFC 7143 sections 11.5 and 11.6; SAM-5 section 7. A function is answered when the tasks that it ends are over; those
// have no answer.
//
// Tasks of other sessions are on any reactor. A sweep visits each of them, ends what it is to end there, and tells its origin when all of that is over:
//
//	origin ──▶ reactor 0: ends tasks ─▶ … the last of them is released ─▶ origin counts
//	       ──▶ reactor 1: nothing to end ───────────────────────────────▶ origin counts: all are back, done

// managePDU takes a Task Management Function Request.
func (s *session) managePDU() {
	h, bad := DecodeTaskRequest(s.conn.BHS)
	if !bad.OK() {
		s.reject(bad.Reason)
		return
	}
	if !s.admitted(h.ITT) {
		return
	}
	s.ignoreData()
	t := s.acquire(kindManage, h.ITT, h.CmdSN, h.Immediate)
	t.manage, t.result, t.lun = h, FunctionComplete, h.LUN
	t.state = taskExecuting
	u := s.nexus.find(h.LUN)
	switch h.Function {
	case AbortTask:
		o := s.tags.find(h.RefITT)
		if o == nil || o == t || o.lun != h.LUN {
			t.result = TaskDoesNotExist
			s.answer(t)
			return
		}
		s.sweep(&sweep{match: func(x *task) bool { return x == o }, here: true}, t)
		return
	case AbortTaskSet, ClearTaskSet, LogicalUnitReset:
		if u == nil {
			t.result = LUNDoesNotExist
			s.answer(t)
			return
		}
		unit := u.unit
		x := &sweep{match: func(o *task) bool { return o.kind == kindSCSI && o.unit != nil && o.unit.unit == unit }}
		switch h.Function {
		case AbortTaskSet:
			x.here = true
		case ClearTaskSet:
			x.clears = unit
		default:
			x.reset = func(n *nexus) { n.reset(unit) }
		}
		s.sweep(x, t)
		return
	case TargetWarmReset, TargetColdReset:
		node := s.node
		x := &sweep{match: func(o *task) bool { return o.kind == kindSCSI && o.s.node == node }, reset: func(n *nexus) { n.reset(nil) }}
		x.cold = h.Function == TargetColdReset
		s.sweep(x, t)
		return
	case TaskReassign:
		t.result = ReassignNotSupported
	case ClearACA:
		t.result = FunctionNotSupported
	default:
		t.result = FunctionRejected
	}
	s.answer(t)
}

// sweep ends tasks wherever they are.
type sweep struct {
	match  func(o *task) bool
	here   bool         // of this session alone
	clears *Unit        // whose commands others hear to be gone
	reset  func(*nexus) // what happens to every nexus
	cold   bool         // every session of the node ends after it
	origin *session     // nil: of control
	node   *Node
	target *Target

	back *reactor.Reactor // who hears
	left int              // reactors that have not told
	done func()           // hears once, on back
}

// sweepPart is a sweep on one reactor.
type sweepPart struct {
	sweep *sweep
	pg    *pollGroup
	left  int  // tasks that are not over
	over  bool // on its way back
}

// sweep ends tasks for a task management function, which is answered after it.
func (s *session) sweep(x *sweep, t *task) {
	x.origin, x.node, x.target = s, s.node, s.pg.target
	t.sweep = x
	x.run(s.pg, func() {
		if t.sweep != x {
			return // it was ended meanwhile, with its session or by another
		}
		s.answer(t)
		if x.cold { // this one when its answer has left
			s.endOthers()
			s.last = true
		}
	})
}

// endTasks ends the tasks that match, wherever they are, and returns when they are over. It runs on a control goroutine; match runs on the reactors.
func (t *Target) endTasks(ctx context.Context, match func(o *task) bool) error {
	pg, over := t.groups[0], make(chan struct{})
	if err := pg.r.Call(func() { (&sweep{match: match, target: t}).run(pg, func() { close(over) }) }); err != nil {
		return err
	}
	select {
	case <-over:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("waiting for the end of commands: %w", ctx.Err())
	}
}

// run begins a sweep on reactor pg, where done hears that it is over.
func (x *sweep) run(pg *pollGroup, done func()) {
	x.back, x.done, x.left = pg.r, done, 1
	if !x.here {
		x.left = len(x.target.groups)
		for _, o := range x.target.groups {
			if o != pg {
				pg.send(o.r, &sweepPart{sweep: x, pg: o})
			}
		}
	}
	(&sweepPart{sweep: x, pg: pg}).Receive(pg.r)
}

// Receive does a part of a sweep, or counts it off where the sweep began.
func (p *sweepPart) Receive(r *reactor.Reactor) {
	x := p.sweep
	if p.over {
		if x.left--; x.left == 0 {
			x.done()
		}
		return
	}
	p.left = 1 // until all have been looked at
	if x.here {
		p.visit(x.origin)
	} else {
		for s := p.pg.sessions; s != nil; s = s.next {
			if s.tasks != nil && (x.node == nil || s.node == x.node) {
				p.visit(s)
			}
		}
	}
	p.off()
}

// visit ends the tasks of one session that the sweep is about.
func (p *sweepPart) visit(s *session) {
	x, hit := p.sweep, false
	for i := range s.tasks {
		t := &s.tasks[i]
		if t.state != taskGathering && t.state != taskExecuting || !x.match(t) {
			continue
		}
		hit = true
		p.left++
		t.parts = append(t.parts, p)
		s.cut(t)
	}
	if x.reset != nil {
		x.reset(&s.nexus)
	}
	if hit && s != x.origin && x.clears != nil {
		for _, u := range s.nexus.units {
			if u != nil && u.unit == x.clears {
				u.attentions.raise(attentionCleared)
			}
		}
	}
}

// off counts one task off, and tells the origin when that was the last.
func (p *sweepPart) off() {
	if p.left--; p.left == 0 {
		p.over = true
		p.pg.send(p.sweep.back, p)
	}
}

// sweptOff tells the sweeps that wait for a task that it is over.
func (s *session) sweptOff(t *task) {
	parts := t.parts
	t.parts = nil
	for _, p := range parts {
		p.off()
	}
}
