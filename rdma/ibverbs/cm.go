//go:build cgo

package ibverbs

// #include "shim.h"
import "C"

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"sync"
	"syscall"
	"unsafe"

	"github.com/pollux-storage/pollux/rdma"
)

// How much private data a message of the connection manager carries. rdma_connect(3), rdma_accept(3); a REJ as in InfiniBand
// Architecture Specification 1.4, volume 1, section 12.6.7 "REJ - Reject".
const (
	connectBytesMax = 56
	acceptBytesMax  = 196
	rejectBytesMax  = 148
)

// cm is a connection manager: an event channel.
type cm struct {
	p       *provider
	channel C.uintptr_t
	wait    *waiter

	// Held while an event is read, which may change the state of a queue pair, and while what it could be about is made or destroyed.
	mu     sync.Mutex
	closed bool
}

// conn is a listener or a connection. Its fields belong to m.mu.
type conn struct {
	m    *cm
	id   rdma.ID
	at   C.uintptr_t // struct rdma_cm_id
	qp   rdma.QP
	card *card // of qp
	gone bool
}

// NewCM opens a connection manager.
func (p *provider) NewCM() (rdma.CM, error) {
	m := &cm{p: p}
	var fd C.int
	if rc := C.s_create_channel(p.lib, &m.channel, &fd); rc < 0 {
		return nil, failure("open a connection manager (rdma_create_event_channel)", -rc)
	}
	w, err := newWaiter(int(fd), "events of the RDMA connection manager")
	if err != nil {
		C.s_destroy_channel(p.lib, m.channel)
		return nil, fmt.Errorf("ibverbs: open a connection manager: %w", err)
	}
	m.wait = w
	p.mu.Lock()
	p.cms++
	p.mu.Unlock()
	return m, nil
}

// Close ends Next.
func (m *cm) Close() error {
	m.mu.Lock()
	if m.closed {
		m.mu.Unlock()
		return nil
	}
	left := m.p.left(m)
	m.closed = left == 0
	m.mu.Unlock()
	// Outside of the lock, which Next takes.
	m.wait.close()
	if left > 0 {
		return fmt.Errorf("ibverbs: close a connection manager: %d connections and listeners of it are not destroyed", left)
	}
	C.s_destroy_channel(m.p.lib, m.channel)
	m.p.mu.Lock()
	m.p.cms--
	m.p.mu.Unlock()
	return nil
}

// enter gives a new connection its number. The caller has m.mu.
func (p *provider) enter(c *conn) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.lastID++
	c.id = p.lastID
	p.ids[c.id] = c
}

func (p *provider) find(id rdma.ID) *conn {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.ids[id]
}

func (p *provider) forget(id rdma.ID) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.ids, id)
}

func (p *provider) left(m *cm) int {
	p.mu.Lock()
	defer p.mu.Unlock()
	n := 0
	for _, c := range p.ids {
		if c.m == m {
			n++
		}
	}
	return n
}

// find finds a connection of this manager. The caller has m.mu.
func (m *cm) find(what string, id rdma.ID) (*conn, error) {
	c := m.p.find(id)
	if c == nil || c.m != m {
		return nil, failure(fmt.Sprintf("%s: there is no connection or listener %d", what, id), C.int(syscall.EINVAL))
	}
	return c, nil
}

// create makes an ID. The caller has m.mu.
func (m *cm) create(what string) (*conn, error) {
	if m.closed {
		return nil, fmt.Errorf("ibverbs: %s: the connection manager: %w", what, os.ErrClosed)
	}
	c := &conn{m: m}
	m.p.enter(c)
	if rc := C.s_create_id(m.p.lib, m.channel, C.uint64_t(c.id), &c.at); rc < 0 {
		m.p.forget(c.id)
		return nil, failure(what+" (rdma_create_id)", -rc)
	}
	return c, nil
}

// destroy forgets an ID. The caller has m.mu, so none of its events waits to be acknowledged.
func (m *cm) destroy(c *conn) error {
	if rc := C.s_destroy_id(m.p.lib, c.at); rc < 0 {
		return failure("destroy a connection or listener (rdma_destroy_id)", -rc)
	}
	c.gone = true
	m.p.forget(c.id)
	return nil
}

// Listen listens.
func (m *cm) Listen(at netip.AddrPort, backlog int) (rdma.ID, netip.AddrPort, error) {
	what := fmt.Sprintf("listen at %s for RDMA connections", at)
	a, err := toC(at)
	if err != nil {
		return 0, netip.AddrPort{}, fmt.Errorf("ibverbs: %s: %w", what, err)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	c, err := m.create(what)
	if err != nil {
		return 0, netip.AddrPort{}, err
	}
	port := C.s_listen(m.p.lib, c.at, &a, C.int(backlog))
	if port < 0 {
		err := failure(what, -port)
		switch syscall.Errno(-port) {
		case syscall.ENODEV, syscall.EADDRNOTAVAIL:
			err = fmt.Errorf("%w: no RDMA card has this address. `rdma link` says which network interface each card is on", err)
		case syscall.EADDRINUSE:
			err = fmt.Errorf("%w: somebody listens there already; `rdma resource show cm_id` says who", err)
		}
		return 0, netip.AddrPort{}, errors.Join(err, m.destroy(c))
	}
	return c.id, netip.AddrPortFrom(at.Addr(), uint16(port)), nil
}

// Resolve begins to look for the way. Its two steps, address and route, are one here: Next takes the second.
func (m *cm) Resolve(from netip.Addr, to netip.AddrPort, l rdma.Link) (rdma.ID, error) {
	what := fmt.Sprintf("look for an RDMA way to %s", to)
	t, err := toC(to)
	if err != nil {
		return 0, fmt.Errorf("ibverbs: %s: %w", what, err)
	}
	var f C.struct_s_address
	if from.IsValid() && !from.IsUnspecified() {
		if f, err = toC(netip.AddrPortFrom(from, 0)); err != nil {
			return 0, fmt.Errorf("ibverbs: %s from %s: %w", what, from, err)
		}
		if f.family != t.family {
			return 0, failure(fmt.Sprintf("%s from %s, which is of the other family", what, from), C.int(syscall.EAFNOSUPPORT))
		}
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	c, err := m.create(what)
	if err != nil {
		return 0, err
	}
	if rc := C.s_resolve(m.p.lib, c.at, &f, &t, C.uint8_t(l.AckTimeout), C.uint8_t(l.TOS)); rc < 0 {
		return 0, errors.Join(failure(what+" (rdma_set_option, rdma_resolve_addr)", -rc), m.destroy(c))
	}
	return c.id, nil
}

// Connect begins a connection.
func (m *cm) Connect(id rdma.ID, p rdma.ConnParams) error {
	const what = "connect (rdma_connect)"
	return m.handshake(what, id, p.Private, connectBytesMax, true, func(c *conn, data unsafe.Pointer, n C.int) C.int {
		return C.s_connect(m.p.lib, c.at, paramsToC(p), data, n)
	})
}

// Accept takes a connection.
func (m *cm) Accept(id rdma.ID, p rdma.ConnParams) error {
	const what = "accept a connection (rdma_accept)"
	return m.handshake(what, id, p.Private, acceptBytesMax, true, func(c *conn, data unsafe.Pointer, n C.int) C.int {
		return C.s_accept(m.p.lib, c.at, paramsToC(p), data, n)
	})
}

// Reject refuses a connection.
func (m *cm) Reject(id rdma.ID, private []byte) error {
	const what = "reject a connection (rdma_reject)"
	return m.handshake(what, id, private, rejectBytesMax, false, func(c *conn, data unsafe.Pointer, n C.int) C.int {
		return C.s_reject(m.p.lib, c.at, data, n)
	})
}

func (m *cm) handshake(what string, id rdma.ID, private []byte, most int, needsQP bool, do func(*conn, unsafe.Pointer, C.int) C.int) error {
	if len(private) > most {
		return failure(fmt.Sprintf("%s with %d bytes of private data, of which there is room for %d", what, len(private), most), C.int(syscall.EMSGSIZE))
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	c, err := m.find(what, id)
	if err != nil {
		return err
	}
	if needsQP && c.qp == 0 {
		return failure(fmt.Sprintf("%s: connection %d has no queue pair", what, id), C.int(syscall.EINVAL))
	}
	if rc := do(c, unsafe.Pointer(unsafe.SliceData(private)), C.int(len(private))); rc < 0 {
		err := failure(what, -rc)
		if needsQP && syscall.Errno(-rc) == syscall.EINVAL {
			err = fmt.Errorf("%w: the connection has ended already, or more RDMA READs are asked for than %s allows (%d in, %d out)",
				err, c.card.name, c.card.info.ReadsIn, c.card.info.ReadsOut)
		}
		return err
	}
	return nil
}

// Disconnect ends a connection.
func (m *cm) Disconnect(id rdma.ID) error {
	const what = "disconnect (rdma_disconnect)"
	m.mu.Lock()
	defer m.mu.Unlock()
	c, err := m.find(what, id)
	if err != nil {
		return err
	}
	if rc := C.s_disconnect(m.p.lib, c.at); rc < 0 {
		return failure(what, -rc)
	}
	return nil
}

// Destroy forgets a listener or a connection.
func (m *cm) Destroy(id rdma.ID) error {
	const what = "destroy a connection or listener (rdma_destroy_id)"
	m.mu.Lock()
	defer m.mu.Unlock()
	c, err := m.find(what, id)
	if err != nil {
		return err
	}
	if c.qp != 0 {
		return failure(fmt.Sprintf("%s: connection %d still has its queue pair", what, id), C.int(syscall.EBUSY))
	}
	return m.destroy(c)
}

// communication tells librdmacm that the peer has sent something already.
func (m *cm) communication(c *conn) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if !c.gone {
		C.s_communication(m.p.lib, c.at) // where the last message came meanwhile it is refused
	}
}

func paramsToC(p rdma.ConnParams) C.struct_s_params {
	return C.struct_s_params{
		reads_in: C.uint8_t(p.ReadsIn), reads_out: C.uint8_t(p.ReadsOut),
		retries: C.uint8_t(min(p.Retries, 7)), rnr: C.uint8_t(min(p.RNR, 7)), // three bits: rdma_connect(3)
		ack_timeout: C.uint8_t(p.AckTimeout),
	}
}
