package nvmf

// This file is how a TCP connection comes to rest and is given to another reactor. move.go says what for.
//
// While a queue comes to rest the host's data for commands that had begun lies behind commands that it sent since, so the stream is read
// on: H2CData goes where it belongs, and what must not begin is kept as it came.

// keptBytesMax is what a queue may keep; a host that sends more is not kept waiting any longer.
const keptBytesMax = 4 << 20

// keep puts a command off that came while the queue comes to rest.
func (t *tcpQueue) keep() {
	t.keeping = t.conn.Awaiting()
	t.kept = t.conn.Keep(t.kept)
	if len(t.kept) > keptBytesMax && t.move.err == nil {
		t.move.err = errMoveKept
	}
}

// keepEnd hears that all of its data is there.
func (t *tcpQueue) keepEnd() {
	t.keeping = false
	t.kept = t.conn.KeepEnd(t.kept)
}

// rest brings the queue to rest, or, when its move is given up, takes it back. It reports whether no more is to be received. It is called
// again whenever something has ended.
func (t *tcpQueue) rest() bool {
	m := t.move
	switch {
	case m == nil || t.state >= queueClosing || t.last:
		return false
	case t.rested:
		return true
	}
	if m.err == nil && (t.state != queueLive || t.auth != nil && !t.auth.machine.idle()) {
		m.err = errMoveAuth // what was on its way when the move began has begun an exchange, or ended one badly
	}
	switch {
	case !t.conn.Between() && !t.keeping:
		return false // data arrives that goes on to a command, or nowhere
	case m.err == nil && (!t.atRest() || len(t.out) > 0 || t.sock.Sending()):
		return false
	case t.sock.Receiving():
		t.sock.Rest()
		return true
	case m.err == nil:
		t.tellRest()
		return true
	}
	t.conn.Resume(t.remains())
	t.endMove()
	t.resume()
	return true
}

// remains takes what was received and not begun.
func (t *tcpQueue) remains() []byte {
	b := t.conn.Remains(t.kept, t.keeping)
	t.kept, t.keeping = nil, false
	return b
}

// detach gives the connection of a queue at rest up, and closes the queue here.
func (t *tcpQueue) detach() origin {
	o := t.origin()
	o.remains = t.remains()
	t.state = queueClosing
	t.Closed()
	return o
}

// origin takes the connection from this queue.
func (t *tcpQueue) origin() tcpOrigin {
	ic := t.conn.ICReq
	ic.Digests = t.conn.Digests()
	t.r.StopTimer(&t.timer)
	return tcpOrigin{fd: t.sock.Detach(), port: t.port, opened: true, icreq: ic, found: t.found}
}
