package nvmf

// This file is the memory of commands, from their queue's share of the reactor's pool (reactor/share.go).

// spares is how many writes a queue has room for beside the pool, for data that comes in capsules: one, and another while the first of a
// fused pair holds that one and waits for the second.
const spares = 2

// lend gets c memory for n bytes that the host is to send or to take. If there is none c waits, and Run tries again.
func (q *queue) lend(c *command, n uint32) bool {
	if !q.memory.Lend(&c.loan, int(n), c) {
		return false
	}
	c.data = c.loan.B
	c.mark(TraceMemory)
	return true
}

// lendCapsule gets c memory for data that arrives in its capsule. If there is none the connection has to wait.
func (q *queue) lendCapsule(c *command) bool {
	if !q.memory.LendArriving(&c.loan, int(c.transfer)) {
		return false
	}
	c.data = c.loan.B
	c.mark(TraceMemory)
	return true
}

// giveBack takes c's memory, if it has any.
func (q *queue) giveBack(c *command) {
	c.data = nil
	q.t.giveBack(c)
	if q.memory.GiveBack(&c.loan) {
		q.t.resume()
	}
}

// wanted ends the connections of hosts that stall while somebody waits for the pool.
type wanted pollGroup

func (w *wanted) Run() {
	pg := (*pollGroup)(w)
	since := pg.r.Now() - pg.lender.Every
	var next *queue
	for q := pg.queues; q != nil; q = next {
		next = q.next
		if q.state < queueClosing && q.memory.Bytes() > 0 && q.t.stalls(since) {
			pg.target.log.Warn("a host neither sends what it was asked for nor takes what it is sent, and others want the memory: its connection ends",
				"host", q.hostNQN(), "queue", q.id, "bytes", q.memory.Bytes())
			q.close()
		}
	}
}
