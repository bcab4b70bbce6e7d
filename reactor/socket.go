package reactor

import (
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/pollux-storage/pollux/internal/invariant"
	"github.com/pollux-storage/pollux/reactor/ring"
)

// Socket is a connected stream socket on one reactor. One receive and one send may be in flight.
//
// States, in order: open → closing (Close was called, operations end) → closed (the handler heard Closed).
type Socket struct {
	r     *Reactor
	fd    int
	slot  int
	h     SocketHandler
	recv  Op
	send  Op
	into  []byte // what is received into
	msg   unix.Msghdr
	iov   [SendVecMax]unix.Iovec
	state socketState
	rests bool // the receive in flight is to end: Rest
	later Deferred
}

type socketState uint8

const (
	socketOpen socketState = iota
	socketClosing
	socketClosed
)

// SendVecMax is the number of pieces that one send takes.
const SendVecMax = 128

// SocketHandler hears of a socket. n is the number of bytes; err is nil, or why there are none.
type SocketHandler interface {
	Received(n int, err error) // n 0 without err: the peer sends nothing more
	Sent(n int, err error)     // n may be less than was given
	Closed()                   // nothing is in flight any more, the descriptor is closed
}

// NewSocket takes over fd, a connected socket. It is made a blocking one: for others io_uring of older
// kernels answers EAGAIN instead of waiting.
func (r *Reactor) NewSocket(fd int, h SocketHandler) *Socket {
	_ = unix.SetNonblock(fd, false)
	s := &Socket{r: r, fd: fd, slot: r.files.take(fd), h: h}
	r.Bind(&s.recv, s)
	r.Bind(&s.send, s)
	return s
}

// Fd is the descriptor, for options and addresses.
func (s *Socket) Fd() int { return s.fd }

// Receiving reports whether a receive is in flight, Sending a send.
func (s *Socket) Receiving() bool { return s.recv.inFlight }

// Sending reports whether a send is in flight.
func (s *Socket) Sending() bool { return s.send.inFlight }

// Open reports whether Close was not called yet.
func (s *Socket) Open() bool { return s.state == socketOpen }

func (s *Socket) target() int {
	if s.slot >= 0 {
		return s.slot
	}
	return s.fd
}

func (s *Socket) finish(e *ring.SQE) {
	if s.slot >= 0 {
		e.Flags |= ring.FixedFile
	}
}

// Recv receives into b, which is lent until Received.
func (s *Socket) Recv(b []byte) {
	invariant.Check(s.state == socketOpen && len(b) > 0, "reactor: receive on a closing socket, or into nothing")
	s.into = b
	s.startRecv()
}

func (s *Socket) startRecv() {
	e := s.r.Start(&s.recv)
	ring.PrepRecv(e, s.target(), unsafe.Pointer(&s.into[0]), uint32(len(s.into)), 0)
	s.finish(e)
}

// Send sends the pieces of vec in order; they are lent until Sent.
func (s *Socket) Send(vec [][]byte) {
	invariant.Check(s.state == socketOpen && len(vec) <= SendVecMax, "reactor: send on a closing socket, or of too many pieces")
	invariant.Check(!s.send.inFlight, "reactor: two sends on one socket")
	for i, b := range vec {
		s.iov[i].Base = unsafe.SliceData(b)
		s.iov[i].SetLen(len(b))
	}
	s.msg.Iov = &s.iov[0]
	s.msg.SetIovlen(len(vec))
	s.startSend()
}

func (s *Socket) startSend() {
	e := s.r.Start(&s.send)
	ring.PrepSendmsg(e, s.target(), &s.msg, unix.MSG_NOSIGNAL|unix.MSG_WAITALL)
	s.finish(e)
}

// OpDone hears the end of the receive or the send.
func (s *Socket) OpDone(op *Op, res int32, _ uint32) {
	if s.state != socketOpen {
		s.closeIfIdle()
		return
	}
	n, err := int(res), error(nil)
	if res < 0 {
		errno := syscall.Errno(-res)
		if errno == syscall.EINTR || errno == syscall.EAGAIN || errno == syscall.ECANCELED { // nothing was done, and nothing is wrong
			if op != &s.recv || !s.rests {
				s.again(op)
				return
			}
			errno = syscall.ECANCELED
		}
		n, err = 0, errno
	}
	if op == &s.recv {
		s.into, s.rests = nil, false
		s.h.Received(n, err)
	} else {
		s.h.Sent(n, err)
	}
}

func (s *Socket) again(op *Op) {
	if op == &s.recv {
		s.startRecv()
	} else {
		s.startSend()
	}
}

// Rest ends a receive that is in flight, so that the socket can be detached. Received hears how it ended: with bytes, if some had
// arrived, else with ECANCELED. They are not lost: what the kernel has is the next receive's, wherever that is.
func (s *Socket) Rest() {
	if s.recv.inFlight && !s.rests {
		s.rests = true
		s.r.Cancel(&s.recv)
	}
}

// Close ends the socket: what is in flight is cut short and no longer reported, then the handler hears Closed. What was sent
// still reaches the peer. Closing twice is harmless.
func (s *Socket) Close() {
	if s.state == socketOpen {
		_ = unix.Shutdown(s.fd, unix.SHUT_RDWR)
		s.close()
	}
}

// Abort closes with a reset instead of an orderly end: without a shutdown, whose FIN would come before it.
func (s *Socket) Abort() {
	if s.state == socketOpen {
		_ = unix.SetsockoptLinger(s.fd, unix.SOL_SOCKET, unix.SO_LINGER, &unix.Linger{Onoff: 1})
		s.close()
	}
}

func (s *Socket) close() {
	s.state = socketClosing
	s.r.Cancel(&s.recv)
	s.r.Cancel(&s.send)
	s.closeIfIdle()
}

func (s *Socket) closeIfIdle() {
	if s.state == socketClosing && !s.recv.inFlight && !s.send.inFlight {
		s.state = socketClosed
		fd := s.Detach()
		_ = unix.Close(fd)
		s.into = nil
		s.r.Defer(&s.later, s)
	}
}

// Run tells the handler that the socket has closed.
func (s *Socket) Run() { s.h.Closed() }

// Detach gives the descriptor up, for another reactor to take it. Nothing may be in flight.
func (s *Socket) Detach() int {
	s.r.Unbind(&s.recv)
	s.r.Unbind(&s.send)
	s.r.files.give(s.slot)
	fd := s.fd
	s.fd, s.slot, s.state = -1, -1, socketClosed
	return fd
}
