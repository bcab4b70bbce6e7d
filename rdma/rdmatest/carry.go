package rdmatest

import (
	"slices"
	"unsafe"

	"github.com/pollux-storage/pollux/rdma"
)

// This file is the cards at work. A queue pair that has something to do is in its provider's list run; carry does one thing for it, and puts it
// at the end of the list again. One whose next work is withheld is parked.

// outcome is what became of a work request that was tried.
type outcome uint8

const (
	doneWell outcome = iota
	doneIll          // ended with a status
	later            // not now; it is in a list that is looked at when something has changed
)

// ready puts a queue pair where it is looked at, whatever it waited for.
func (q *queuePair) ready() {
	if q.place == running || q.place == parked {
		return
	}
	q.leave()
	q.place = running
	q.card.p.run = append(q.card.p.run, q)
	if q.card.f.background {
		q.card.f.work.Signal()
	}
}

// leave takes it out of its list.
func (q *queuePair) leave() {
	switch p := q.card.p; q.place {
	case running:
		p.run = without(p.run, q)
	case parked:
		p.parked = without(p.parked, q)
	case waiting:
		q.waitsFor.waiting = without(q.waitsFor.waiting, q)
		q.waitsFor = nil
		q.card.f.rnr = without(q.card.f.rnr, q)
	}
	q.place = nowhere
}

func without(l []*queuePair, q *queuePair) []*queuePair {
	if i := slices.Index(l, q); i >= 0 {
		l = slices.Delete(l, i, i+1)
	}
	return l
}

// drain carries out all that is not withheld, unless a goroutine does.
func (f *Fabric) drain() {
	if f.background {
		return
	}
	for f.turn() {
	}
}

// turn does one thing for each queue pair that has one to do.
func (f *Fabric) turn() bool {
	any := false
	for _, p := range f.providers {
		for range len(p.run) {
			if len(p.run) == 0 {
				break
			}
			q := p.run[0]
			p.run = slices.Delete(p.run, 0, 1)
			q.place = nowhere
			any = true
			if p.withholds(q) {
				q.place = parked
				p.parked = append(p.parked, q)
				continue
			}
			q.step()
		}
	}
	return any
}

// step does one thing for a queue pair that is in no list, and puts it into one.
func (q *queuePair) step() {
	if q.carry() {
		q.ready()
	}
}

// carry reports whether there may be more to do.
func (q *queuePair) carry() bool {
	if q.state == failed {
		return q.flush()
	}
	if q.state != ready {
		return false
	}
	if q.started == q.posted || q.mustLand() {
		return q.land()
	}
	e := q.entry(q.started)
	if e.wr.Opcode == rdma.OpRead && q.card.p.readsLate {
		q.started++
		return true
	}
	switch o, status := q.execute(e); o {
	case doneWell:
		e.finished = true
		q.started++
		q.finish()
		return true
	case doneIll:
		for q.state == ready && q.done < q.started {
			q.land() // what went before it has been carried out
		}
		if q.state == ready {
			q.end(status)
		}
		return true
	}
	if q.done < q.started {
		q.leave()
		return q.land()
	}
	return false
}

// mustLand says that the next work request waits for RDMA READs: it is fenced.
func (q *queuePair) mustLand() bool {
	return q.done < q.started && q.entry(q.started).wr.Flags&rdma.Fence != 0
}

// land brings the oldest RDMA READ that is under way.
func (q *queuePair) land() bool {
	if q.done == q.started {
		return false
	}
	e := q.entry(q.done)
	switch o, status := q.execute(e); o {
	case doneWell:
		e.finished = true
		q.finish()
	case doneIll:
		q.end(status)
	case later:
		return false
	}
	return true
}

// finish tells of all work requests that are finished, in order.
func (q *queuePair) finish() {
	for q.done < q.started && q.entry(q.done).finished {
		if e := q.entry(q.done); e.wr.Flags&rdma.Signaled != 0 {
			q.tell(e, rdma.StatusOK)
		}
		q.done++
	}
}

// end ends the first work request that is not done with an error, and the queue pair with it.
func (q *queuePair) end(status rdma.Status) {
	q.tell(q.entry(q.done), status)
	q.done++
	q.started = max(q.started, q.done)
	q.fail()
}

// flush ends one work request of a queue pair in error. IBA volume 1, section 10.3.1.7, "Error": what is on the queues, and what is posted
// from then on, completes as flushed.
func (q *queuePair) flush() bool {
	if q.done < q.posted {
		q.tell(q.entry(q.done), rdma.StatusFlushed)
		q.done++
		q.started = max(q.started, q.done)
		return true
	}
	if q.recv == &q.own && q.own.first() != nil {
		q.receives(q.own.first(), rdma.StatusFlushed, 0, 0)
		return true
	}
	return false
}

// undefined is what fields have that are undefined after an error. ibv_poll_cq(3).
const undefined = 0xff

var did = [...]rdma.CompletionKind{rdma.OpSend: rdma.DidSend, rdma.OpSendInvalidate: rdma.DidSend, rdma.OpWrite: rdma.DidWrite, rdma.OpRead: rdma.DidRead}

// tell adds the completion of the work request that is done next.
func (q *queuePair) tell(e *sendEntry, status rdma.Status) {
	c := ended{q: q, seq: q.done, Completion: rdma.Completion{ID: e.wr.ID, QPN: q.number, Status: status, Kind: did[e.wr.Opcode]}}
	if status != rdma.StatusOK {
		c.Kind, c.Vendor = undefined, undefined
	}
	q.send.add(&c)
}

// receives takes the first receive, and adds its completion.
func (q *queuePair) receives(r *receive, status rdma.Status, bytes uint32, key uint32) {
	c := ended{recv: q.recv, Completion: rdma.Completion{ID: r.wr.ID, QPN: q.number, Status: status, Bytes: bytes, Kind: rdma.DidRecv}}
	if key != 0 {
		c.Flags, c.Invalid = rdma.Invalidated, key
	}
	if status != rdma.StatusOK {
		c.Kind, c.Vendor, c.Bytes = undefined, undefined, 0
	}
	q.recv.taken++
	q.got.add(&c)
}

// execute carries a work request out. Nothing of it has been carried out when it says later.
func (q *queuePair) execute(e *sendEntry) (outcome, rdma.Status) {
	c := q.card
	pieces := e.wr.SGE[:e.wr.SGEs]
	bytes := bytesOf(&e.wr)
	if e.wr.Flags&rdma.Inline == 0 {
		if _, ok := c.localAll(pieces); !ok {
			return doneIll, rdma.StatusLocalProtection
		}
	}
	if bytes > 1<<31 { // IBA section 9.7.5.1, "Message size": larger ones do not exist
		return doneIll, rdma.StatusLocalLength
	}
	switch q.way() {
	case broken:
		return doneIll, rdma.StatusRetry
	case down:
		q.place = stalled
		return later, 0
	}
	send := e.wr.Opcode == rdma.OpSend || e.wr.Opcode == rdma.OpSendInvalidate
	if send && q.peer.recv.first() == nil {
		return q.noReceive()
	}
	if s, is := c.p.wounded(did[e.wr.Opcode]); is {
		q.peer.hears(s)
		return doneIll, s
	}
	var status rdma.Status
	switch {
	case send:
		status = q.deliver(e, pieces, uint32(bytes))
	case e.wr.Opcode == rdma.OpWrite:
		status = q.write(e, pieces, uint32(bytes))
	default:
		status = q.read(e, pieces, uint32(bytes))
	}
	if status != rdma.StatusOK {
		return doneIll, status
	}
	return doneWell, status
}

// noReceive waits for a receive, as often as the peer wants.
func (q *queuePair) noReceive() (outcome, rdma.Status) {
	f := q.card.f
	if q.rnr < 7 {
		if q.rnrLeft == 0 {
			return doneIll, rdma.StatusRNRRetry
		}
		q.rnrLeft--
		f.rnr = append(f.rnr, q)
	}
	q.place, q.waitsFor = waiting, q.peer.recv
	q.waitsFor.waiting = append(q.waitsFor.waiting, q)
	return later, 0
}

// retryRNR lets those sends try again that may not wait for ever. A poll of any completion queue stands for the time between.
func (f *Fabric) retryRNR() {
	for range len(f.rnr) {
		f.rnr[0].ready()
	}
	f.drain()
}

// deliver is a send.
func (q *queuePair) deliver(e *sendEntry, pieces []rdma.SGE, bytes uint32) rdma.Status {
	p := q.peer
	r := p.recv.first()
	q.rnrLeft = q.rnr
	into := r.wr.SGE[:r.wr.SGEs]
	p.card.verifyReceive(r)
	if s, is := p.card.p.wounded(rdma.DidRecv); is {
		p.receives(r, s, 0, 0)
		p.fail()
		return rdma.StatusRemoteOperation
	}
	room, ok := p.card.localAll(into)
	switch {
	case !ok:
		p.receives(r, rdma.StatusLocalProtection, 0, 0)
		p.fail()
		return rdma.StatusRemoteOperation
	case room < uint64(bytes):
		// IBA section 9.9.3, "Responder Side Behavior": the receive ends with a length error, the sender hears of an invalid request.
		p.receives(r, rdma.StatusLocalLength, 0, 0)
		p.fail()
		return rdma.StatusRemoteInvalid
	}
	at := 0
	for i := range pieces {
		b := q.source(e, i)
		p.card.scatter(into, at, b)
		at += len(b)
	}
	key := uint32(0)
	if e.wr.Opcode == rdma.OpSendInvalidate {
		if key = e.wr.Invalidate; !p.card.invalidate(key) {
			p.receives(r, rdma.StatusRemoteInvalid, 0, 0)
			p.fail()
			return rdma.StatusRemoteOperation
		}
	}
	p.receives(r, rdma.StatusOK, bytes, key)
	return rdma.StatusOK
}

// source is piece i of what a send or an RDMA WRITE carries.
func (q *queuePair) source(e *sendEntry, i int) []byte {
	if e.wr.Flags&rdma.Inline == 0 {
		b, _ := q.card.local(&e.wr.SGE[i])
		return b
	}
	n := int(uintptr(unsafe.Pointer(e))-uintptr(unsafe.Pointer(&q.sq[0]))) / int(unsafe.Sizeof(*e)) * q.cfg.InlineBytes
	for k := range i {
		n += int(e.wr.SGE[k].Bytes)
	}
	return q.inline[n : n+int(e.wr.SGE[i].Bytes)]
}

// remote is the peer's memory that a work request names. Where it may not be reached the peer's queue pair ends as well: IBA section 9.9.3.
func (q *queuePair) remote(e *sendEntry, bytes uint32, right rdma.Access) ([]byte, bool) {
	if bytes == 0 {
		return nil, true // no key is looked at: IBA section 9.7.4.1.5
	}
	m := q.peer.card.reach(e.wr.Remote, bytes, e.wr.RemoteKey, true)
	if m == nil || m.access&right == 0 {
		q.peer.card.tell(rdma.CardEvent{Kind: rdma.CardQPFatal, ID: q.peer.id.h})
		q.peer.fail()
		return nil, false
	}
	return m.at(e.wr.Remote, bytes), true
}

func (q *queuePair) write(e *sendEntry, pieces []rdma.SGE, bytes uint32) rdma.Status {
	to, ok := q.remote(e, bytes, rdma.RemoteWrite)
	if !ok {
		return rdma.StatusRemoteAccess
	}
	for i := range pieces {
		to = to[copy(to, q.source(e, i)):]
	}
	return rdma.StatusOK
}

func (q *queuePair) read(e *sendEntry, pieces []rdma.SGE, bytes uint32) rdma.Status {
	from, ok := q.remote(e, bytes, rdma.RemoteRead)
	if !ok {
		return rdma.StatusRemoteAccess
	}
	q.card.verifyRead(e)
	q.card.scatter(pieces, 0, from)
	return rdma.StatusOK
}

// memoryAt is memory that need not be registered. Its address came from a pointer that the poster keeps, as in a C library that gets it.
func memoryAt(address uint64, n uint32) []byte {
	if n == 0 {
		return nil
	}
	a := uintptr(address)
	return unsafe.Slice(*(**byte)(unsafe.Pointer(&a)), n)
}

func bytesOf(w *rdma.SendWR) uint64 {
	n := uint64(0)
	for i := range w.SGE[:w.SGEs] {
		n += uint64(w.SGE[i].Bytes)
	}
	return n
}
