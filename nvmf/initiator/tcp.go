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

// connect starts the connection. It runs on the queue's reactor.
func (q *queue) connect() {
	d, err := q.r.Connect(q.addr, q)
	if err != nil {
		q.fail(err)
		return
	}
	q.dial = d
}

// Connected hears the end of TCP's connect.
func (q *queue) Connected(fd int, err error) {
	q.dial = nil
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
	q.conn.init(q.depth(), q.capsule, q.digests, buf)
	q.state = queueGreeting
	q.sock = q.r.NewSocket(fd, q)
	q.send()
	q.receive()
}

func (q *queue) receive() {
	if q.state < queueEnding && !q.sock.Receiving() {
		q.sock.Recv(q.conn.in.Room())
	}
}

// Received takes what the target sent.
func (q *queue) Received(n int, err error) {
	switch {
	case q.state >= queueEnding:
	case errors.Is(err, syscall.EAGAIN):
		q.receive()
	case err != nil:
		q.fail(fmt.Errorf("%v: receiving: %w", q, err))
	case n == 0:
		q.fail(fmt.Errorf("%v: the target closed the connection", q))
	default:
		q.conn.in.Feed(n)
		q.arrive()
	}
}

// arrive works off what has arrived.
func (q *queue) arrive() {
	for q.state < queueEnding {
		switch e, c := q.conn.next(); e {
		case eventAnswer:
			q.end(c)
		case eventNothing:
			if q.conn.out.ready != nil { // an R2T came
				q.send()
			}
			q.receive()
			return
		case eventOpen:
			q.state = queueOpen
			q.opened <- nil
		case eventTermReq:
			q.fail(fmt.Errorf("%v: the target ended the connection: %w", q, q.conn.in.TermReq.Err))
		case eventFault:
			q.terminate(fmt.Errorf("%v: the target broke the protocol: %w", q, q.conn.fault))
			return
		}
	}
}

// terminate tells the target what it did wrong, and ends the queue when that has left.
func (q *queue) terminate(why error) {
	if !q.conn.out.ending {
		q.fail(why)
		return
	}
	q.lost(why)
	q.state = queueEnding
	q.r.SetTimer(&q.timer, q.r.Now()+endingTimeout, q)
	q.send()
}

// send lets what there is to send leave at the end of the tick.
func (q *queue) send() {
	if !q.sock.Sending() {
		q.r.AtFlush(&q.flush, (*queueFlush)(q))
	}
}

type queueFlush queue

// Run sends what has gathered.
func (f *queueFlush) Run() {
	q := (*queue)(f)
	if q.state >= queueClosing || q.sock.Sending() {
		return
	}
	if v := q.conn.output(); len(v) > 0 {
		q.sock.Send(v)
	}
}

// Sent counts off what has left.
func (q *queue) Sent(n int, err error) {
	if err != nil && !errors.Is(err, syscall.EAGAIN) {
		q.lost(fmt.Errorf("%v: sending: %w", q, err))
		q.close()
		return
	}
	if !q.conn.sent(n) {
		q.send()
		return
	}
	if q.conn.out.ended {
		q.close()
		return
	}
	for c := q.conn.takeLate(); c != nil; c = q.conn.takeLate() {
		q.end(c)
	}
	if q.state < queueClosing && (q.conn.out.ready != nil || q.conn.out.ending) {
		q.send()
	}
}

// Closed hears that nothing of the socket is in flight any more.
func (q *queue) Closed() {
	if buf := q.conn.in.Buffer(); q.r.Memory().Owns(buf) {
		q.r.Memory().Put(buf)
	}
	q.finish()
}

// ticksText is a span for people.
func ticksText(t reactor.Ticks) time.Duration { return time.Duration(t) }
