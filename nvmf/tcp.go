package nvmf

import (
	"errors"
	"math"
	"net/netip"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/pollux-storage/pollux/internal/invariant"
	"github.com/pollux-storage/pollux/reactor"
)

// This file is the TCP transport: it moves bytes between a socket, a Conn and a queue, and holds no rule of the protocol that
// the Conn could hold.
//
// Down: Received → Conn.Next → queue.acquire, start → (R2T → H2CData → queue.fetched). Up: queue.respond → respond → flush → Sent →
// queue.release. All that gathered in a tick leaves in one send.

// Sizes of the TCP transport, in bytes.
const (
	recvBytes      = 64 << 10 // the receive buffer of an I/O queue
	recvBytesAdmin = 16 << 10
	h2cDataMax     = 128 << 10 // MAXH2CDATA
)

// wireHeaderBytes holds all that is sent for a command beside its data: C2HData's header, padded to the largest HPDA, which is
// 31, then the data's digest, then CapsuleResp and its own.
const wireHeaderBytes = 32*4 + DigestBytes + CapsuleRespBytes + DigestBytes

// tcpSlot is what TCP keeps for a command.
type tcpSlot struct {
	header [wireHeaderBytes]byte // R2T; or C2HData, its digest, CapsuleResp
	got    uint32                // bytes of the R2T's data that have arrived
	asked  bool                  // an R2T is open
	bad    bool                  // a data digest was wrong
}

// tcpQueue is a queue on a TCP connection.
type tcpQueue struct {
	queue
	sock *reactor.Socket
	conn Conn
	wire []tcpSlot // by command

	align   uint32 // of data in our PDUs, by the host's HPDA
	success bool   // the transport's c2h_success
	icresp  [ICBytes]byte
	termreq [TermReqBytesMax]byte

	placing *command // whose data arrives now; nil to throw it away
	stalled *command // an in-capsule write that waits for memory, and the connection with it

	out      []outPiece
	outHead  int
	vec      [][]byte
	flush    reactor.Deferred
	last     bool // nothing is sent after what is in out: then the connection waits for the host to close
	resuming reactor.Deferred

	fetches  int           // commands with an open R2T
	progress reactor.Ticks // when the host last sent data that it was asked for, or began to be asked
	taken    reactor.Ticks // when it last took something, or was sent something after it had taken all
	timer    reactor.Timer

	leaving *handoff // not nil: the connection goes to another reactor as soon as nothing is in flight

	kept    []byte // what arrived while the queue comes to rest for a move, and is not begun here
	keeping bool   // the data of the last command in it arrives
}

// outPiece is a part of what is to be sent. c is released when it has left.
type outPiece struct {
	b []byte
	c *command
}

// tcpOrigin is a connection on its way to a reactor.
type tcpOrigin struct {
	fd     int
	port   *portal
	opened bool // ICReq was answered; icreq has the digests in use
	icreq  ICReq

	remains []byte        // was received, and is the first to be read
	found   reactor.Ticks // when the last of it was
}

// open makes a queue of entries commands on the connection. It runs on the queue's reactor.
func (o tcpOrigin) open(pg *pollGroup, id QID, entries uint32) *queue {
	t := &tcpQueue{success: o.port.limits.C2HSuccess}
	q := &t.queue
	q.t, q.pg, q.r, q.id, q.port, q.limits = t, pg, pg.r, id, o.port, o.port.limits
	q.init(entries, spares)
	t.wire = make([]tcpSlot, len(q.commands))
	size := recvBytes
	if id == 0 {
		size = recvBytesAdmin
	}
	buf := pg.r.Memory().GetReceive(size, recvBytesAdmin)
	t.conn.Init(SideController, buf, 0)
	t.conn.Limits(q.limits.capsuleBytes(id), h2cDataMax)
	if o.opened {
		t.conn.ICReq = o.icreq
		t.conn.opened(o.icreq.Digests)
		t.align = DataAlign(o.icreq.HPDA)
		t.conn.Resume(o.remains)
		q.found = o.found
	}
	t.out = make([]outPiece, 0, 4*len(t.commands)+8)
	t.vec = make([][]byte, 0, reactor.SendVecMax)
	t.sock = pg.r.NewSocket(o.fd, t)
	pg.add(q)
	return q
}

func (o tcpOrigin) cpu() int { return reactor.IncomingCPU(o.fd) }

func (o tcpOrigin) home() *reactor.Reactor { return nil }

func (o tcpOrigin) entries(QID) uint32 { return math.MaxUint32 }

func (o tcpOrigin) close(*pollGroup) { _ = unix.Close(o.fd) }

func (t *tcpQueue) portal() *portal { return t.port }

func (t *tcpQueue) slot(c *command) *tcpSlot { return &t.wire[c.index] }

// giveBack has nothing: what a command has over TCP was lent by the pool.
func (t *tcpQueue) giveBack(*command) {}

func (t *tcpQueue) locate(c *command, carried uint32) (DataPlace, uint32, Status) {
	return c.sqe.TCPData(carried)
}

// tuneTCP sets the options of an accepted connection: small PDUs leave at once, and a host that takes nothing of what it is sent
// is given up as soon as one that does not send what it was asked for; both hold memory. tcp(7), TCP_USER_TIMEOUT: it
// counts while a window is closed too.
func tuneTCP(fd int) {
	_ = unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_NODELAY, 1)
	_ = unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, int(patience.data/reactor.Millisecond))
}

// peer gives the addresses of the two ends.
func (t *tcpQueue) peer() (local, remote string) {
	l, _ := unix.Getsockname(t.sock.Fd())
	r, _ := unix.Getpeername(t.sock.Fd())
	return addrString(l), addrString(r)
}

func addrString(sa unix.Sockaddr) string {
	if a := reactor.AddrPort(sa); a != (netip.AddrPort{}) {
		return a.String()
	}
	return ""
}

// receive asks for more, unless the connection is held up or ends.
func (t *tcpQueue) receive() {
	if t.move != nil && t.rest() {
		return
	}
	if t.sock.Open() && !t.sock.Receiving() && t.leaving == nil && t.stalled == nil && !t.starved && !t.paused {
		t.sock.Recv(t.conn.Room())
	}
}

// Received takes what the host sent.
func (t *tcpQueue) Received(n int, err error) {
	switch {
	case errors.Is(err, syscall.EAGAIN), errors.Is(err, syscall.ECANCELED): // the latter where the queue comes to rest
		t.receive()
		return
	case err != nil || n == 0:
		t.close()
		return
	}
	if t.last {
		t.sock.Recv(t.conn.buf) // after a TermReq nothing is read any more, but for the end
		return
	}
	if t.placing != nil {
		t.progress = t.r.Now()
	}
	t.found = t.r.Now()
	t.conn.Feed(n)
	t.arrive()
}

// arrive works off what has arrived, until there is no more or something has to be waited for.
func (t *tcpQueue) arrive() {
	for t.state < queueClosing && t.stalled == nil && t.leaving == nil && !t.last && !t.paused {
		if t.conn.state == connHeader && !t.hasSlot() {
			return
		}
		switch t.conn.Next() {
		case ArrivedNothing:
			t.receive()
			return
		case ArrivedIC:
			t.greet()
		case ArrivedCommand:
			if t.move != nil && t.half == nil { // the second of a pair belongs to the first, which has begun
				t.keep()
			} else {
				t.command()
			}
		case ArrivedData:
			t.data()
		case ArrivedDataEnd:
			if t.keeping {
				t.keepEnd()
			} else {
				t.dataEnd()
			}
		case ArrivedTermReq:
			t.pg.target.log.Warn("the host ended its connection", "host", t.hostNQN(), "error", t.conn.TermReq.Err.Error())
			t.close()
		case ArrivedFault:
			t.terminate()
		default:
			invariant.Check(false, "nvmf: arrival that a controller does not have")
		}
	}
	t.receive()
}

// greet answers ICReq.
func (t *tcpQueue) greet() {
	t.align = DataAlign(t.conn.ICReq.HPDA)
	t.send(outPiece{b: ICResp{Digests: t.conn.Digests(), MAXH2CDATA: h2cDataMax}.AppendTo(t.icresp[:0])})
}

// command takes a command capsule.
func (t *tcpQueue) command() {
	carried := t.conn.DataBytes
	c, overrun, conflict := t.acquire(t.conn.SQE)
	if overrun {
		t.conn.Reject(ErrSequence)
		return
	}
	s := t.slot(c)
	s.got, s.asked, s.bad = 0, false, false
	wanted := t.start(c, carried, conflict)
	switch {
	case carried == 0:
	case !wanted:
		t.placing = nil
		t.conn.Discard()
	default:
		t.placing = c
		if !t.lendCapsule(c) {
			t.stalled = c
			t.memory.Await(&c.loan, t.stalledRunner())
			return
		}
		t.conn.Place(c.data)
	}
}

// stalledRun goes on with the connection when there is memory for the write that it stands at.
type stalledRun tcpQueue

func (t *tcpQueue) stalledRunner() reactor.Runner { return (*stalledRun)(t) }

func (s *stalledRun) Run() {
	t := (*tcpQueue)(s)
	c := t.stalled
	if t.state >= queueClosing {
		return
	}
	if !t.lendCapsule(c) {
		t.memory.Await(&c.loan, s)
		return
	}
	t.stalled = nil
	t.progress = t.r.Now()
	t.conn.Place(c.data)
	t.arrive()
}

// fetch asks the host for a command's data.
func (t *tcpQueue) fetch(c *command) {
	if t.last {
		return // a C2HTermReq is the last thing that the host hears; the end of the connection releases c
	}
	s := t.slot(c)
	s.asked = true
	if t.fetches++; t.fetches == 1 {
		t.progress = t.r.Now()
		t.r.SetTimer(&t.timer, t.progress+patience.data, (*dataTimer)(t))
	}
	r2t := R2T{CCCID: c.cid, TTAG: c.index, R2TL: c.transfer}
	t.send(outPiece{b: r2t.AppendTo(s.header[:0], t.conn.Digests())})
}

// dataTimer ends a connection whose host does not send what it was asked for.
type dataTimer tcpQueue

func (d *dataTimer) Run() {
	t := (*tcpQueue)(d)
	if t.last {
		t.close()
		return
	}
	if t.fetches == 0 || t.state >= queueClosing {
		return
	}
	if t.held() {
		t.progress = t.r.Now()
	}
	if due := t.progress + patience.data; t.r.Now() < due {
		t.r.SetTimer(&t.timer, due, d)
		return
	}
	t.pg.target.log.Warn("a host did not send the data of its write, its connection ends", "host", t.hostNQN(), "queue", t.id)
	t.close()
}

// stalls reports whether the host has kept us waiting since then. As long as we do not receive it is not the host that waits.
func (t *tcpQueue) stalls(since reactor.Ticks) bool {
	return t.fetches > 0 && t.progress <= since && !t.held() || t.sock.Sending() && t.taken <= since
}

// held reports whether we do not receive, for want of memory or of a slot.
func (t *tcpQueue) held() bool { return t.stalled != nil || t.starved }

// data takes the header of an H2CData. TCP Transport Specification 1.0, "Data Transfer Model": it answers one R2T, in order and
// without a gap, with LAST_PDU on its last.
func (t *tcpQueue) data() {
	d := t.conn.Data
	t.progress = t.r.Now()
	if int(d.TTAG) >= len(t.wire) || !t.wire[d.TTAG].asked {
		t.conn.Reject(ErrTTAG)
		return
	}
	c, s := &t.commands[d.TTAG], &t.wire[d.TTAG]
	if c.cid != d.CCCID {
		t.conn.Reject(ErrCCCID)
		return
	}
	switch end := uint64(d.DATAO) + uint64(d.DATAL); {
	case end > uint64(c.transfer):
		t.conn.Reject(ErrOutOfRange)
		return
	case d.DATAO != s.got, d.Last != (end == uint64(c.transfer)):
		t.conn.Reject(ErrSequence)
		return
	}
	t.placing = c
	t.conn.Place(c.data[d.DATAO : d.DATAO+d.DATAL])
	s.got += d.DATAL
}

// dataEnd hears that the data of a PDU is in its place. A wrong digest is not fatal: the command is answered so.
func (t *tcpQueue) dataEnd() {
	c := t.placing
	t.placing = nil
	if c == nil {
		return
	}
	s := t.slot(c)
	s.bad = s.bad || !t.conn.DigestOK
	if c.place == DataTransfer {
		if s.got < c.transfer {
			return
		}
		s.asked = false
		if t.fetches--; t.fetches == 0 {
			t.r.StopTimer(&t.timer)
		}
	}
	t.fetched(c, !s.bad)
}

// respond sends a command's data and completion. TCP Transport Specification 1.0, "C2HData": with SQ flow control off, a
// success without a result needs no CapsuleResp.
func (t *tcpQueue) respond(c *command) {
	if t.last {
		t.release(c) // a C2HTermReq is the last thing that the host hears
		return
	}
	h, d := t.slot(c).header[:0], t.conn.Digests()
	if c.send > 0 {
		success := t.noFlow && t.success && c.dw0 == 0 && c.dw1 == 0
		p := DataPDU{CCCID: c.cid, DATAL: c.send, Last: true, Success: success}
		h = p.AppendC2HData(h, d, t.align)
		data := outPiece{b: c.data[:c.send]}
		t.out = append(t.out, outPiece{b: h})
		if d&DataDigests != 0 {
			t.out = append(t.out, data)
			at := len(h)
			h = AppendDigest(h, DataDigest(0, data.b))
			data = outPiece{b: h[at:]}
		}
		if success {
			data.c = c
			t.send(data)
			return
		}
		t.out = append(t.out, data)
	}
	at := len(h)
	h = AppendCapsuleResp(h, t.cqe(c), d)
	t.send(outPiece{b: h[at:], c: c})
}

// send queues a piece; all pieces leave together at the end of the tick.
func (t *tcpQueue) send(p outPiece) {
	t.out = append(t.out, p)
	if !t.sock.Sending() {
		t.r.AtFlush(&t.flush, (*tcpFlush)(t))
	}
}

type tcpFlush tcpQueue

// Run sends what has gathered.
func (f *tcpFlush) Run() {
	t := (*tcpQueue)(f)
	if !t.sock.Open() || t.sock.Sending() || t.outHead == len(t.out) {
		return
	}
	t.vec = t.vec[:0]
	for _, p := range t.out[t.outHead:] {
		if len(t.vec) == cap(t.vec) {
			break
		}
		t.vec = append(t.vec, p.b)
	}
	t.taken = t.r.Now()
	if t.trace != nil {
		t.flushed = reactor.Clock()
	}
	t.sock.Send(t.vec)
}

// Sent counts off what has left, and releases the commands whose last byte that was.
func (t *tcpQueue) Sent(n int, err error) {
	if err != nil && !errors.Is(err, syscall.EAGAIN) {
		t.close()
		return
	}
	for n > 0 {
		p := &t.out[t.outHead]
		if n < len(p.b) {
			p.b = p.b[n:]
			break
		}
		n -= len(p.b)
		c := p.c
		*p = outPiece{}
		t.outHead++
		if c != nil {
			t.release(c)
		}
	}
	if t.outHead == len(t.out) {
		t.out, t.outHead = t.out[:0], 0
		if t.leaving != nil {
			t.leave()
		} else if t.move != nil {
			t.rest()
		}
		return
	}
	// The queue of pieces never grows past what its commands need at once: it starts again at the front.
	if t.outHead > 0 {
		m := copy(t.out, t.out[t.outHead:])
		clear(t.out[m:])
		t.out, t.outHead = t.out[:m], 0
	}
	t.r.AtFlush(&t.flush, (*tcpFlush)(t))
}

// resume goes on receiving when there is a free slot again, or memory for a write that arrives in its capsule.
func (t *tcpQueue) resume() {
	if !t.resuming.Queued() {
		t.r.Defer(&t.resuming, (*tcpResume)(t))
	}
}

type tcpResume tcpQueue

func (s *tcpResume) Run() {
	t := (*tcpQueue)(s)
	switch {
	case !t.sock.Open():
	case t.stalled != nil:
		t.memory.Forget(&t.stalled.loan)
		t.stalledRunner().Run()
	default:
		t.progress = t.r.Now()
		t.arrive()
	}
}

// terminate tells the host what it did wrong, and waits for it to close.
func (t *tcpQueue) terminate() {
	t.pg.target.log.Warn("a host broke the protocol, its connection ends", "host", t.hostNQN(), "queue", t.id, "error", t.conn.Fault.Error())
	t.pg.faults++
	if PDUType(t.conn.FaultHeader[0]) == PDUH2CTermReq {
		t.close() // a TermReq is not answered by one
		return
	}
	t.last = true
	if t.move != nil {
		t.dropMove()
	}
	t.send(outPiece{b: TermReq{Type: PDUC2HTermReq, Err: t.conn.Fault, Header: t.conn.FaultHeader[:t.conn.FaultBytes]}.AppendTo(t.termreq[:0])})
	t.r.SetTimer(&t.timer, t.r.Now()+patience.terminate, (*dataTimer)(t))
	if !t.sock.Receiving() {
		t.sock.Recv(t.conn.buf)
	}
}

// shut ends the connection.
func (t *tcpQueue) shut() {
	t.r.StopTimer(&t.timer)
	if t.stalled != nil {
		t.memory.Forget(&t.stalled.loan)
		t.stalled = nil
	}
	if t.leaving != nil { // it closes before its Connect could be passed on
		t.release(t.leaving.command)
		t.leaving = nil
	}
	t.sock.Close()
}

// Closed hears that the socket is closed and nothing of it is in flight.
func (t *tcpQueue) Closed() {
	t.r.Memory().PutReceive(t.conn.Buffer())
	t.out, t.outHead = t.out[:0], 0
	t.queue.shut()
}

// handOver gives the connection to another reactor as soon as what was sent has left.
func (t *tcpQueue) handOver(h *handoff) {
	t.leaving = h
	if t.outHead == len(t.out) {
		t.leave()
	}
}

// leave takes the connection from this queue. Nothing of the host's may be unread: it waits for the answer to its Connect.
func (t *tcpQueue) leave() {
	h := t.leaving
	if t.conn.Unread() > 0 {
		t.leaving = nil
		t.release(h.command)
		t.conn.Reject(ErrSequence)
		t.terminate()
		return
	}
	h.origin = t.origin()
	t.state = queueClosing
	t.release(h.command)
	t.Closed()
	h.depart(t.pg)
}
