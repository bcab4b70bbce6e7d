package reactor

import "github.com/pollux-storage/pollux/internal/invariant"

// Runner is something that runs on a reactor.
type Runner interface{ Run() }

// Deferred is a place in one of the reactor's lists of things to run later in the same tick. It is part of its owner and is
// in one list at most.
type Deferred struct {
	next   *Deferred
	run    Runner
	queued bool
}

// Queued reports whether it waits in a list.
func (d *Deferred) Queued() bool { return d.queued }

type list struct{ head, tail *Deferred }

func (l *list) push(d *Deferred, run Runner) {
	invariant.Check(!d.queued, "reactor: deferred twice")
	d.run, d.next, d.queued = run, nil, true
	if l.tail == nil {
		l.head = d
	} else {
		l.tail.next = d
	}
	l.tail = d
}

// Defer runs run later in this tick, after completions, messages, timers and pollers. Completions that are known inside a
// call go this way, so that no caller is called back before its call returns.
func (r *Reactor) Defer(d *Deferred, run Runner) { r.deferred.push(d, run) }

// AtFlush runs run at the end of this tick, once, however often it is asked for: what gathered by then goes out together.
func (r *Reactor) AtFlush(d *Deferred, run Runner) {
	if !d.queued {
		r.flushes.push(d, run)
	}
}

// runBudget bounds one list in one tick, so that things that defer themselves for ever starve nobody.
const runBudget = 4096

// runAll runs what is in the list and what that adds.
func (r *Reactor) runAll(l *list) int {
	n := 0
	for ; l.head != nil && n < runBudget; n++ {
		d := l.head
		l.head = d.next
		if l.head == nil {
			l.tail = nil
		}
		d.next, d.queued = nil, false
		d.run.Run()
	}
	return n
}
