package reactor

import (
	"fmt"
	"net/netip"
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
	msg   unix.Msghdr
	iov   [SendVecMax]unix.Iovec
	state socketState
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

// NewSocket takes over fd, a connected socket.
func (r *Reactor) NewSocket(fd int, h SocketHandler) *Socket {
	s := &Socket{r: r, fd: fd, slot: r.takeFile(fd), h: h}
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

func (s *Socket) target(e *ring.SQE) int {
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
	invariant.Check(s.state == socketOpen, "reactor: receive on a closing socket")
	e := s.r.Start(&s.recv)
	ring.PrepRecv(e, s.target(e), unsafe.Pointer(&b[0]), uint32(len(b)), 0)
	s.finish(e)
}

// Send sends the pieces of vec in order; they are lent until Sent.
func (s *Socket) Send(vec [][]byte) {
	invariant.Check(s.state == socketOpen && len(vec) <= SendVecMax, "reactor: send on a closing socket, or of too many pieces")
	for i, b := range vec {
		s.iov[i].Base = unsafe.SliceData(b)
		s.iov[i].SetLen(len(b))
	}
	s.msg.Iov = &s.iov[0]
	s.msg.SetIovlen(len(vec))
	e := s.r.Start(&s.send)
	ring.PrepSendmsg(e, s.target(e), &s.msg, unix.MSG_NOSIGNAL|unix.MSG_WAITALL)
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
		if syscall.Errno(-res) == syscall.EINTR {
			res = -int32(syscall.EAGAIN) // a signal; the owner starts it again
		}
		n, err = 0, syscall.Errno(-res)
	}
	if op == &s.recv {
		s.h.Received(n, err)
	} else {
		s.h.Sent(n, err)
	}
}

// Close ends the socket: what is in flight is cut short and no longer reported, then the handler hears Closed. Closing twice
// is harmless.
func (s *Socket) Close() {
	if s.state != socketOpen {
		return
	}
	s.state = socketClosing
	_ = unix.Shutdown(s.fd, unix.SHUT_RDWR)
	s.r.Cancel(&s.recv)
	s.r.Cancel(&s.send)
	s.closeIfIdle()
}

// Abort closes with a reset instead of an orderly end.
func (s *Socket) Abort() {
	if s.state == socketOpen {
		_ = unix.SetsockoptLinger(s.fd, unix.SOL_SOCKET, unix.SO_LINGER, &unix.Linger{Onoff: 1})
		s.Close()
	}
}

func (s *Socket) closeIfIdle() {
	if s.state == socketClosing && !s.recv.inFlight && !s.send.inFlight {
		s.state = socketClosed
		fd := s.Detach()
		_ = unix.Close(fd)
		s.r.Defer(&s.later, s)
	}
}

// Run tells the handler that the socket has closed.
func (s *Socket) Run() { s.h.Closed() }

// Detach gives the descriptor up, for another reactor to take it. Nothing may be in flight.
func (s *Socket) Detach() int {
	s.r.Unbind(&s.recv)
	s.r.Unbind(&s.send)
	s.r.giveFile(s.slot)
	fd := s.fd
	s.fd, s.slot, s.state = -1, -1, socketClosed
	return fd
}

// Listener accepts connections on one reactor.
type Listener struct {
	r      *Reactor
	fd     int
	accept Op
	h      ListenHandler
	later  Deferred
	closed bool
}

// ListenHandler takes new connections, and owns their descriptors.
type ListenHandler interface {
	Accepted(fd int)
	ListenEnded(err error) // err nil: it was closed
}

// ListenTCP opens a listening socket. It is made by hand because Go's own listeners speak MPTCP by default.
func ListenTCP(addr netip.AddrPort) (fd int, err error) {
	family := unix.AF_INET
	if addr.Addr().Is6() && !addr.Addr().Is4In6() {
		family = unix.AF_INET6
	}
	fd, err = unix.Socket(family, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return -1, fmt.Errorf("listening on %v: making a socket: %w", addr, err)
	}
	_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1)
	if err = unix.Bind(fd, Sockaddr(addr)); err == nil {
		err = unix.Listen(fd, 1024)
	}
	if err != nil {
		_ = unix.Close(fd)
		return -1, fmt.Errorf("listening on %v: %w", addr, err)
	}
	return fd, nil
}

// Sockaddr converts an address for package unix.
func Sockaddr(a netip.AddrPort) unix.Sockaddr {
	if a.Addr().Is4() || a.Addr().Is4In6() {
		return &unix.SockaddrInet4{Port: int(a.Port()), Addr: a.Addr().Unmap().As4()}
	}
	return &unix.SockaddrInet6{Port: int(a.Port()), Addr: a.Addr().As16()}
}

// AddrPort converts a socket address back; the zero AddrPort if it is not an IP one.
func AddrPort(sa unix.Sockaddr) netip.AddrPort {
	switch a := sa.(type) {
	case *unix.SockaddrInet4:
		return netip.AddrPortFrom(netip.AddrFrom4(a.Addr), uint16(a.Port))
	case *unix.SockaddrInet6:
		return netip.AddrPortFrom(netip.AddrFrom16(a.Addr).Unmap(), uint16(a.Port))
	}
	return netip.AddrPort{}
}

// Listen takes over fd, a listening socket, and accepts from now on.
func (r *Reactor) Listen(fd int, h ListenHandler) *Listener {
	l := &Listener{r: r, fd: fd, h: h}
	r.Bind(&l.accept, l)
	l.arm()
	return l
}

func (l *Listener) arm() { ring.PrepAcceptMultishot(l.r.Start(&l.accept), l.fd) }

// OpDone takes one accepted connection, or the end of the accepting.
func (l *Listener) OpDone(_ *Op, res int32, flags uint32) {
	if res >= 0 {
		if l.closed {
			_ = unix.Close(int(res))
		} else {
			l.h.Accepted(int(res))
		}
	}
	if flags&ring.More != 0 {
		return
	}
	if l.closed {
		l.end(nil)
		return
	}
	switch err := syscall.Errno(-res); {
	case res >= 0, err == syscall.EINTR, err == syscall.ECONNABORTED, err == syscall.EAGAIN:
		l.arm()
	default:
		l.end(err)
	}
}

func (l *Listener) end(err error) {
	l.closed = true
	l.r.Unbind(&l.accept)
	_ = unix.Close(l.fd)
	l.h.ListenEnded(err)
}

// Close stops accepting; the handler hears ListenEnded(nil).
func (l *Listener) Close() {
	if !l.closed {
		l.closed = true
		l.r.Cancel(&l.accept)
	}
}

// Connector makes one connection.
type Connector struct {
	r  *Reactor
	fd int
	op Op
	h  ConnectHandler
	sa unix.RawSockaddrInet6 // the larger of the two; the kernel reads it while connecting
}

// ConnectHandler hears the end of a Connect; fd is its own, or -1 and err says why.
type ConnectHandler interface{ Connected(fd int, err error) }

// Connect starts a TCP connection to addr.
func (r *Reactor) Connect(addr netip.AddrPort, h ConnectHandler) (*Connector, error) {
	family, n := unix.AF_INET6, unsafe.Sizeof(unix.RawSockaddrInet6{})
	c := &Connector{r: r, h: h}
	port := addr.Port()<<8 | addr.Port()>>8
	if a := addr.Addr().Unmap(); a.Is4() {
		family, n = unix.AF_INET, unsafe.Sizeof(unix.RawSockaddrInet4{})
		*(*unix.RawSockaddrInet4)(unsafe.Pointer(&c.sa)) = unix.RawSockaddrInet4{Family: unix.AF_INET, Port: port, Addr: a.As4()}
	} else {
		c.sa = unix.RawSockaddrInet6{Family: unix.AF_INET6, Port: port, Addr: a.As16()}
	}
	fd, err := unix.Socket(family, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("connecting to %v: making a socket: %w", addr, err)
	}
	c.fd = fd
	r.Bind(&c.op, c)
	ring.PrepConnect(r.Start(&c.op), fd, unsafe.Pointer(&c.sa), uint32(n))
	return c, nil
}

// Cancel gives the attempt up; the handler hears of it as of any failure.
func (c *Connector) Cancel() { c.r.Cancel(&c.op) }

// OpDone hears the end of the attempt.
func (c *Connector) OpDone(_ *Op, res int32, _ uint32) {
	c.r.Unbind(&c.op)
	if res < 0 {
		_ = unix.Close(c.fd)
		c.h.Connected(-1, syscall.Errno(-res))
		return
	}
	c.h.Connected(c.fd, nil)
}
