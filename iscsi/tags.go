package iscsi

// This file finds the open tasks of a session by their tags. RFC 7143 section 11.2.1.8, "Initiator Task Tag": as long as a task exists its tag is that of
// no other of the session. A task is open, here, until its answer is on its way: from then on the initiator may use the tag again, and may do so before we
// hear that the answer has left.

// tags are the open tasks of a session, in chains by the lower bits of their tags.
type tags []*task

// init makes room for n tasks.
func (x *tags) init(n int) {
	size := 1
	for size < n {
		size *= 2
	}
	*x = make(tags, size)
}

func (x tags) chain(itt ITT) **task { return &x[int(itt)&(len(x)-1)] }

// find gives the open task of a tag, nil if there is none.
func (x tags) find(itt ITT) *task {
	if len(x) == 0 {
		return nil
	}
	t := *x.chain(itt)
	for t != nil && t.itt != itt {
		t = t.chained
	}
	return t
}

// put adds a task.
func (x tags) put(t *task) {
	at := x.chain(t.itt)
	t.chained, *at = *at, t
}

// drop takes one out.
func (x tags) drop(t *task) {
	at := x.chain(t.itt)
	for *at != t {
		at = &(*at).chained
	}
	*at, t.chained = t.chained, nil
}
