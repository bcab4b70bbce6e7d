package nvmf

import (
	"fmt"
	"math"
	"strings"

	"github.com/pollux-storage/pollux/bdev"
	"github.com/pollux-storage/pollux/reactor"
)

// This file is the limits of a transport: what was said when it was created. They are never altered; every portal, and every queue that
// comes by it, has those of its transport, and so a controller those of its Admin queue.

// TransportOptions bound what a transport takes. The names are those of SPDK's nvmf_create_transport.
type TransportOptions struct {
	TRType             string
	MaxQueueDepth      uint32
	MaxAdminDepth      uint32
	MaxQueues          uint32 // I/O queues of a controller
	InCapsuleDataBytes uint32
	MaxIOBytes         uint32
	KAS                uint16 // granularity of the keep-alive timeout, in 100 ms
	MinKATO            uint32 // ms

	C2HSuccess bool // TCP

	MaxSRQDepth uint32 // RDMA: receives of a shared receive queue at most
	NoSRQ       bool   // RDMA: every queue has receives of its own
	AckTimeout  uint32 // RDMA: ms until a host that does not answer is given up; 0 is the system's choice
}

// DefaultTransport is what a transport is made with where nothing else is said.
func DefaultTransport(trtype string) TransportOptions {
	o := TransportOptions{
		TRType: strings.ToUpper(trtype), MaxQueueDepth: 128, MaxAdminDepth: 128, MaxQueues: 127, InCapsuleDataBytes: 8192, MaxIOBytes: 1 << 20, KAS: 1, MinKATO: 10000,
	}
	switch o.TRType {
	case "TCP":
		o.C2HSuccess = true
	case "RDMA":
		o.InCapsuleDataBytes, o.MaxSRQDepth = 4096, 4096
	}
	return o
}

// check refuses options that no transport can have.
func (o *TransportOptions) check() error {
	switch {
	case o.TRType != "TCP" && o.TRType != "RDMA":
		return fmt.Errorf("%w: there are TCP and RDMA", ErrInvalid)
	case o.MaxQueueDepth < 2 || o.MaxQueueDepth > 4096:
		return fmt.Errorf("max_queue_depth %d: %w: 2 to 4096", o.MaxQueueDepth, ErrInvalid)
	case o.MaxAdminDepth < 32 || o.MaxAdminDepth > 4096: // Base Specification 2.0, "Discovery Log Page": ASQSZ is 32 at least
		return fmt.Errorf("max_aq_depth %d: %w: 32 to 4096", o.MaxAdminDepth, ErrInvalid)
	case o.MaxQueues < 1 || o.MaxQueues > 65535:
		return fmt.Errorf("max_io_qpairs_per_ctrlr %d: %w: 1 to 65535", o.MaxQueues, ErrInvalid)
	case o.InCapsuleDataBytes%16 != 0 || o.InCapsuleDataBytes > 64<<10:
		return fmt.Errorf("in_capsule_data_size %d: %w: a multiple of 16 up to 65536", o.InCapsuleDataBytes, ErrInvalid)
	case o.MaxIOBytes < 4096 || o.MaxIOBytes > reactor.BufferMax || o.MaxIOBytes&(o.MaxIOBytes-1) != 0:
		return fmt.Errorf("max_io_size %d: %w: a power of two from 4096 to %d", o.MaxIOBytes, ErrInvalid, reactor.BufferMax)
	case o.KAS == 0:
		return fmt.Errorf("kas 0: %w: Linux refuses a controller without keep-alive", ErrInvalid)
	case o.TRType == "RDMA" && !o.NoSRQ && (o.MaxSRQDepth < o.MaxQueueDepth || o.MaxSRQDepth > 1<<16):
		return fmt.Errorf("max_srq_depth %d: %w: from max_queue_depth, %d, to 65536", o.MaxSRQDepth, ErrInvalid, o.MaxQueueDepth)
	}
	return nil
}

// capsuleBytes is the most data that a capsule may bring over TCP. Fabrics commands, authentication among them, may carry as much on an I/O queue
// as on the Admin queue, whatever IOCCSZ says.
func (o *TransportOptions) capsuleBytes(id QID) uint32 {
	if id == 0 {
		return AdminCapsuleBytesMax
	}
	return max(AdminCapsuleBytesMax, o.InCapsuleDataBytes)
}

// queueEntries is the largest queue that a host may make.
func (o *TransportOptions) queueEntries(id QID) uint32 {
	if id == 0 {
		return o.MaxAdminDepth
	}
	return o.MaxQueueDepth
}

// fusedBlocks is the largest range of a pair on a namespace, in blocks: NACWU + 1. Beyond it the device's CompareAndWrite would not be
// one step.
func (o *TransportOptions) fusedBlocks(g *bdev.Geometry) uint32 {
	return min(min(fusedBytesMax, o.MaxIOBytes)>>g.Shift(), g.MaxBlocks)
}

// identify says what the transport takes: how a host describes its data, and what it may put into a capsule. ICDOFF is 0. TCP Transport
// Specification 1.0 and RDMA Transport Specification 1.0, "Fabric Dependent Settings".
func (o *TransportOptions) identify(c *IdentifyController) {
	c.SGLS, c.MSDBD = SGLSAnyAlign|SGLSOffset|SGLSTransport, 1
	if o.TRType == "RDMA" {
		c.SGLS = SGLSAnyAlign | SGLSKeyed
		if o.InCapsuleDataBytes > 0 {
			c.SGLS |= SGLSOffset
		}
		c.MSDBD = uint8(max(1, min(rdmaPiecesMax, o.InCapsuleDataBytes/SGLBytes)))
	}
	c.IOCCSZ = (SQEBytes + o.InCapsuleDataBytes) / 16
	c.IORCSZ = CQEBytes / 16
}

// CreateTransport makes a transport known. Listeners need it.
func (t *Target) CreateTransport(o TransportOptions) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	o.TRType = strings.ToUpper(o.TRType)
	fail := func(err error) error { return fmt.Errorf("creating transport %s: %w", o.TRType, err) }
	if err := o.check(); err != nil {
		return fail(err)
	}
	if t.transports[o.TRType] != nil {
		return fail(fmt.Errorf("it %w", ErrExists))
	}
	for _, s := range t.subsystems {
		if err := s.o.checkANA(o.MaxIOBytes); err != nil {
			return fail(err)
		}
	}
	if o.TRType == "RDMA" {
		if err := t.rdma.start(t, &o); err != nil {
			return fail(err)
		}
	}
	t.transports[o.TRType] = &o
	return nil
}

// Transports lists them.
func (t *Target) Transports() []TransportOptions {
	t.mu.Lock()
	defer t.mu.Unlock()
	var out []TransportOptions
	for _, name := range []string{"TCP", "RDMA"} {
		if o := t.transports[name]; o != nil {
			out = append(out, *o)
		}
	}
	return out
}

// leastIOBytes is the least of the largest transfers that hosts may ask for, by whatever transport they come. The lock is held.
func (t *Target) leastIOBytes() uint32 {
	least := uint32(math.MaxUint32)
	for _, o := range t.transports {
		least = min(least, o.MaxIOBytes)
	}
	if len(t.transports) == 0 {
		least = DefaultTransport("TCP").MaxIOBytes
	}
	return least
}
