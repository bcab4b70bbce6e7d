package initiator

import (
	"errors"
	"fmt"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/pollux-storage/pollux/reactor"
)

// This file moves bytes between a queue's socket and its connection, and holds no rule of the protocol. What is started in one
// tick leaves in one send.

// Sizes of the receive buffers, in bytes.
const (
	recvBytes      = 64 << 10
	recvBytesAdmin = 16 << 10
)

// tcp is a queue's connection over TCP.
type tcp struct {
	q    *queue
	dial *reactor.Connector
	sock *reactor.Socket
	conn conn

	flush reactor.Deferred
}

// begin lets the queue's reactor connect.
func (t *tcp) begin() error { return t.q.r.Go(t.connect) }

// connect starts the connection. It runs on the queue's reactor.
func (t *tcp) connect() {
	q := t.q
	d, err := q.r.Connect(q.addr, t)
	if err != nil {
		q.fail(err)
		return
	}
	t.dial = d
}

// Connected hears the end of TCP's connect.
func (t *tcp) Connected(fd int, err error) {
	q := t.q
	t.dial = nil
	if q.state == queueClosing { // given up
		if fd >= 0 {
			_ = unix.Close(fd)
		}
		q.finish()
		return
	}
	if err != nil {
		q.fail(fmt.Errorf("connecting to %v: %w", q.addr, err))
		return
	}
	_ = unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_NODELAY, 1)
	q.r.Group().Sockets().TuneOpen(fd)
	size := recvBytes
	if q.id == 0 {
		size = recvBytesAdmin
	}
	buf := q.r.Memory().Get(size)
	if buf == nil {
		buf = make([]byte, recvBytesAdmin) // the pool is at its limit: slower, but it serves
	}
	t.conn.init(&q.slots, q.capsule, q.digests, buf)
	q.state = queueGreeting
	t.sock = q.r.NewSocket(fd, t)
	t.send()
	t.receive()
}

func (t *tcp) receive() {
	if t.q.state < queueEnding && !t.sock.Receiving() {
		t.sock.Recv(t.conn.in.Room())
	}
}

// Received takes what the target sent.
func (t *tcp) Received(n int, err error) {
	q := t.q
	switch {
	case q.state >= queueEnding:
	case errors.Is(err, syscall.EAGAIN):
		t.receive()
	case err != nil:
		q.fail(fmt.Errorf("%v: receiving: %w", q, err))
	case n == 0:
		q.fail(fmt.Errorf("%v: the target closed the connection", q))
	default:
		t.conn.in.Feed(n)
		t.arrive()
	}
}

// arrive works off what has arrived.
func (t *tcp) arrive() {
	q := t.q
	for q.state < queueEnding {
		switch e, c := t.conn.next(); e {
		case eventAnswer:
			q.end(c)
		case eventNothing:
			if t.conn.out.ready != nil { // an R2T came
				t.send()
			}
			t.receive()
			return
		case eventOpen:
			q.open()
		case eventTermReq:
			q.fail(fmt.Errorf("%v: the target ended the connection: %w", q, t.conn.in.TermReq.Err))
		case eventFault:
			t.terminate(fmt.Errorf("%v: the target broke the protocol: %w", q, t.conn.fault))
			return
		}
	}
}

// terminate tells the target what it did wrong, and ends the queue when that has left.
func (t *tcp) terminate(why error) {
	q := t.q
	if !t.conn.out.ending {
		q.fail(why)
		return
	}
	q.lost(why)
	q.state = queueEnding
	q.r.SetTimer(&q.timer, q.r.Now()+endingTimeout, q)
	t.send()
}

// start sends a command.
func (t *tcp) start(c *command) {
	t.conn.start(c)
	t.send()
}

// send lets what there is to send leave at the end of the tick.
func (t *tcp) send() {
	if !t.sock.Sending() {
		t.q.r.AtFlush(&t.flush, (*tcpFlush)(t))
	}
}

type tcpFlush tcp

// Run sends what has gathered.
func (f *tcpFlush) Run() {
	t := (*tcp)(f)
	q := t.q
	if q.state >= queueClosing || t.sock.Sending() {
		return
	}
	if v := t.conn.output(); len(v) > 0 {
		t.sock.Send(v)
	}
}

// Sent counts off what has left.
func (t *tcp) Sent(n int, err error) {
	q := t.q
	if err != nil && !errors.Is(err, syscall.EAGAIN) {
		q.lost(fmt.Errorf("%v: sending: %w", q, err))
		q.close()
		return
	}
	if !t.conn.sent(n) {
		t.send()
		return
	}
	if t.conn.out.ended {
		q.close()
		return
	}
	for c := t.conn.takeLate(); c != nil; c = t.conn.takeLate() {
		q.end(c)
	}
	if q.state < queueClosing && (t.conn.out.ready != nil || t.conn.out.ending) {
		t.send()
	}
}

// close ends the connection, or the attempt to make one.
func (t *tcp) close() {
	switch {
	case t.dial != nil:
		t.dial.Cancel()
	case t.sock != nil:
		t.sock.Close()
	default:
		t.q.finish()
	}
}

// Closed hears that nothing of the socket is in flight any more.
func (t *tcp) Closed() {
	q := t.q
	if buf := t.conn.in.Buffer(); q.r.Memory().Owns(buf) {
		q.r.Memory().Put(buf)
	}
	q.finish()
}

// ticksText is a span for people.
func ticksText(t reactor.Ticks) time.Duration { return time.Duration(t) }
