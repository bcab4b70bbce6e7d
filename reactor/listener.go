package reactor

import (
	"fmt"
	"net/netip"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/pollux-storage/pollux/reactor/ring"
)

// Listener accepts connections on one reactor.
//
// States, in order: accepting ⇄ resting (the system could not give a descriptor, a timer runs) → closing (Close was called, the
// accept ends) → ended (the handler heard ListenEnded).
type Listener struct {
	r      *Reactor
	fd     int
	accept Op
	h      ListenHandler
	state  listenState
	rest   Timer
	later  Deferred

	failures uint64
	failed   error
}

type listenState uint8

const (
	listenAccepting listenState = iota
	listenResting
	listenClosing
	listenEnded
)

// listenRest is how long a listener waits for a descriptor to become free before it tries again. Those who connect wait in the
// kernel's queue meanwhile.
const listenRest = 50 * Millisecond

// ListenHandler takes new connections, and owns their descriptors.
type ListenHandler interface {
	Accepted(fd int)
	ListenEnded(err error) // err nil: it was closed; the listening descriptor is closed too
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
	zone, _ := zoneOf(a.Addr()) // without a zone that is needed the call with this address says so
	return &unix.SockaddrInet6{Port: int(a.Port()), Addr: a.Addr().As16(), ZoneId: zone}
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
	_ = unix.SetNonblock(fd, false)
	l := &Listener{r: r, fd: fd, h: h}
	r.Bind(&l.accept, l)
	l.arm()
	return l
}

func (l *Listener) arm() {
	l.state = listenAccepting
	if e := l.r.Start(&l.accept); l.r.can.acceptMultishot {
		ring.PrepAcceptMultishot(e, l.fd)
	} else {
		ring.PrepAccept(e, l.fd)
	}
}

// OpDone takes one accepted connection, or the end of the accepting.
func (l *Listener) OpDone(_ *Op, res int32, flags uint32) {
	if res >= 0 {
		if l.state == listenAccepting {
			l.h.Accepted(int(res))
		} else {
			_ = unix.Close(int(res))
		}
	}
	switch errno := syscall.Errno(-res); {
	case flags&ring.More != 0:
	case l.state == listenClosing:
		l.end(nil)
	case res >= 0, errno == syscall.EINTR, errno == syscall.ECONNABORTED, errno == syscall.EAGAIN:
		l.arm()
	case errno == syscall.EBADF, errno == syscall.EINVAL, errno == syscall.ENOTSOCK, errno == syscall.EOPNOTSUPP, errno == syscall.EFAULT:
		l.failed = errno
		l.end(errno) // this descriptor will never accept
	default:
		// accept(2), "Errors": the process or the system has no descriptor or memory to give, or the network had a fault.
		l.failures++
		l.failed = errno
		l.state = listenResting
		l.r.SetTimer(&l.rest, l.r.now+listenRest, (*listenAgain)(l))
	}
}

type listenAgain Listener

func (l *listenAgain) Run() { (*Listener)(l).arm() }

// Failures counts the times that a connection could not be accepted, and says why the last one was not.
func (l *Listener) Failures() (n uint64, last error) { return l.failures, l.failed }

func (l *Listener) end(err error) {
	l.state = listenEnded
	l.r.Unbind(&l.accept)
	_ = unix.Close(l.fd)
	l.h.ListenEnded(err)
}

// Close stops accepting; the handler hears ListenEnded(nil). Closing twice is harmless.
func (l *Listener) Close() {
	switch l.state {
	case listenAccepting:
		l.state = listenClosing
		l.r.Cancel(&l.accept)
	case listenResting:
		l.state = listenClosing
		l.r.StopTimer(&l.rest)
		l.r.Defer(&l.later, l)
	}
}

// Run ends a listener that was closed while nothing was in flight.
func (l *Listener) Run() { l.end(nil) }
