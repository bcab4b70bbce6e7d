package reactor

import (
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/pollux-storage/pollux/reactor/ring"
)

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
	port := binary.NativeEndian.Uint16(binary.BigEndian.AppendUint16(nil, addr.Port()))
	if a := addr.Addr().Unmap(); a.Is4() {
		family, n = unix.AF_INET, unsafe.Sizeof(unix.RawSockaddrInet4{})
		*(*unix.RawSockaddrInet4)(unsafe.Pointer(&c.sa)) = unix.RawSockaddrInet4{Family: unix.AF_INET, Port: port, Addr: a.As4()}
	} else {
		zone, err := zoneOf(a)
		if err != nil {
			return nil, fmt.Errorf("connecting to %v: %w", addr, err)
		}
		c.sa = unix.RawSockaddrInet6{Family: unix.AF_INET6, Port: port, Addr: a.As16(), Scope_id: zone}
	}
	fd, err := unix.Socket(family, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("connecting to %v: making a socket: %w", addr, err)
	}
	c.fd = fd
	r.group.Sockets().Tune(fd)
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

// zoneOf is the index of the interface that a link-local address names; 0 for other addresses.
func zoneOf(a netip.Addr) (uint32, error) {
	if a.Zone() == "" {
		return 0, nil
	}
	if n, err := strconv.ParseUint(a.Zone(), 10, 32); err == nil {
		return uint32(n), nil
	}
	i, err := net.InterfaceByName(a.Zone())
	if err != nil {
		return 0, fmt.Errorf("looking for interface %q: %w", a.Zone(), err)
	}
	return uint32(i.Index), nil
}
