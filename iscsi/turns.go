package iscsi

// This file is memory that the commands of a unit use on a reactor one after the other, since it is not the pool's: ORWRITE's and EXTENDED COPY's.

// turns are who has it, and who waits.
type turns struct {
	by          *command // who has it
	first, last *command // who waits, in their order
}

// take reports whether the command has it now; if not it is given it later.
func (w *turns) take(c *command) bool {
	switch {
	case w.by == nil:
		w.by = c
		return true
	case w.first == nil:
		w.first, w.last = c, c
	default:
		w.last.nextTurn, w.last = c, c
	}
	return false
}

// give gives it to the next, nil if nobody waits.
func (w *turns) give() *command {
	next := w.first
	if w.by = next; next != nil {
		w.first, next.nextTurn = next.nextTurn, nil
	}
	return next
}

// forget takes out a command that waits, and reports whether it did.
func (w *turns) forget(c *command) bool {
	var before *command
	for o := w.first; o != nil; before, o = o, o.nextTurn {
		if o != c {
			continue
		}
		if before == nil {
			w.first = c.nextTurn
		} else {
			before.nextTurn = c.nextTurn
		}
		if w.last == c {
			w.last = before
		}
		c.nextTurn = nil
		return true
	}
	return false
}
