package rdmatest

// Watch lets the fabric look at all memory that is the card's: what a work request sends may not change before its completion is polled, and what
// one receives into may not change before something arrives. Who changes it has reused a buffer too early, which ends the test. It costs a
// checksum of all of it, so it is not on by itself; and it forbids what it cannot tell from a mistake, sending from memory into which an
// RDMA READ that is under way, or a peer, writes.
func (f *Fabric) Watch() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.watch = true
}

func (q *queuePair) verifySent(e *sendEntry) {
	if e.watched && q.state != gone && q.card.sum(e.wr.SGE[:e.wr.SGEs]) != e.sum {
		fault("the memory of work request %#x of queue pair %#x changed, or lost its key, before the completion was polled", e.wr.ID, q.number)
	}
}

func (c *card) verifyRead(e *sendEntry) {
	if e.watched && c.sum(e.wr.SGE[:e.wr.SGEs]) != e.sum {
		fault("the memory that RDMA READ %#x fills changed before it had come", e.wr.ID)
	}
}

func (c *card) verifyReceive(r *receive) {
	if r.watched && c.sum(r.wr.SGE[:r.wr.SGEs]) != r.sum {
		fault("the memory of receive %#x changed before something had come", r.wr.ID)
	}
}
