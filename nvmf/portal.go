package nvmf

import (
	"net/netip"

	"golang.org/x/sys/unix"

	"github.com/pollux-storage/pollux/reactor"
)

// This file is where connections come in.

// portal is a listening address, used by every subsystem that has a listener there.
type portal struct {
	address Address
	bound   netip.AddrPort
	limits  *TransportOptions // of its transport
	id      uint16
	users   int  // listeners; under the target's lock
	door    door // under the target's lock, as long as the target has the portal
}

// door takes connections for a portal, by its transport.
type door interface {
	// accept takes connections from now on, those first that came since the door was made. More than once is as good as once.
	accept() error
	// close takes none any more when it has returned.
	close()
}

// openPortal gives the portal of an address, opened if this is its first listener. The lock is held; the reactor that
// accepts takes no lock.
func (t *Target) openPortal(a Address, bound netip.AddrPort) (*portal, error) {
	for _, p := range t.portals {
		if p.address == a {
			p.users++
			return p, nil
		}
	}
	t.nextPortal++
	p := &portal{address: a, bound: bound, limits: t.transports[a.TRType], id: t.nextPortal, users: 1}
	var err error
	if p.door, err = t.openDoor(p); err != nil {
		return nil, err
	}
	if !t.holding.Load() {
		if err = p.door.accept(); err != nil {
			p.door.close()
			return nil, err
		}
	}
	t.portals = append(t.portals, p)
	return p, nil
}

// openDoor begins to listen for p.
func (t *Target) openDoor(p *portal) (door, error) {
	if p.address.TRType == "RDMA" {
		return t.openRDMA(p)
	}
	fd, err := reactor.ListenTCP(p.bound)
	if err != nil {
		return nil, err
	}
	t.group.Sockets().Tune(fd) // nobody knows of the address yet
	return &tcpDoor{p: p, pg: t.groups[int(p.id-1)%len(t.groups)], fd: fd, ended: make(chan error, 1)}, nil
}

// tcpDoor is a listening socket, on one reactor.
type tcpDoor struct {
	p     *portal
	pg    *pollGroup
	fd    int               // l's as soon as there is one
	l     *reactor.Listener // nil until it accepts
	ended chan error
}

func (d *tcpDoor) accept() error {
	if d.l != nil {
		return nil
	}
	return d.pg.r.Call(func() { d.l = d.pg.r.Listen(d.fd, d) })
}

func (d *tcpDoor) close() {
	if d.l == nil {
		_ = unix.Close(d.fd)
		return
	}
	_ = d.pg.r.Call(d.l.Close)
	<-d.ended
}

// Accepted makes a queue of a new connection; what it becomes, its Connect decides.
func (d *tcpDoor) Accepted(fd int) {
	if d.pg.target.draining.Load() {
		_ = unix.Close(fd)
		return
	}
	tuneTCP(fd)
	d.pg.target.group.Sockets().TuneOpen(fd)
	q := tcpOrigin{fd: fd, port: d.p}.open(d.pg, 0, 1)
	q.t.resume()
	q.expectConnect()
}

// ListenEnded hears that the door is closed.
func (d *tcpDoor) ListenEnded(err error) {
	d.ended <- err
	close(d.ended)
}
