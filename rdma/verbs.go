package rdma

import (
	"errors"
	"net/netip"
	"unsafe"
)

// This file is the seam between the engine and a card: the verbs (InfiniBand Architecture Specification 1.4, volume 1, chapter 11) and the
// connection manager, as libibverbs and librdmacm have them, without what is not used here.

// ErrUnavailable is wrapped by a provider that cannot be had on this machine: no libraries, no card, or a build without cgo.
var ErrUnavailable = errors.New("RDMA is not available")

// Provider gives cards and a connection manager.
type Provider interface {
	// Name is what people know it by.
	Name() string
	// Cards lists the cards there are, opened. They stay open until the provider is closed.
	Cards() ([]Verbs, error)
	// NewCM opens a connection manager, whose events are apart from those of others.
	NewCM() (CM, error)
	Close() error
}

// Handles are what a provider knows its objects by: addresses of its own memory, which mean nothing here. 0 is none.
type (
	// CQ is a completion queue, with a channel that tells of completions.
	CQ uintptr
	// SRQ is a shared receive queue.
	SRQ uintptr
	// QP is a reliable connected queue pair.
	QP uintptr
	// ID is a connection, or a listener, of the connection manager.
	ID uintptr
)

// CardInfo is what a card can do. ibv_query_device(3), ibv_query_port(3).
type CardInfo struct {
	Name        string // as in /sys/class/infiniband
	GUID        uint64
	QPDepthMax  int // max_qp_wr
	SGEsMax     int
	CQDepthMax  int
	SRQDepth    int  // max_srq_wr; 0 without shared receive queues
	ReadsIn     int  // max_qp_rd_atom: RDMA READs of a peer that it answers at once
	ReadsOut    int  // max_qp_init_rd_atom: those of its own that may be in flight
	InlineMax   int  // bytes that a send may carry itself
	MTU         int  // of the first active port, in bytes; 0 where none is active
	Ethernet    bool // RoCE; else InfiniBand
	Invalidates bool // it has OpSendInvalidate
}

// Access says what a peer may do with memory.
type Access uint8

// The rights. Local writing is always allowed.
const (
	RemoteRead Access = 1 << iota
	RemoteWrite
)

// MR is registered memory.
type MR struct {
	Handle         uintptr
	Local, Remote  uint32 // keys
	Address, Bytes uint64
}

// Verbs is an open card, with one protection domain for all that is made on it.
//
// Post, PostRecv, PostShared, Poll, Arm and Heard are called by the one reactor that has the CQ, the queue pair or the SRQ. They do not block and
// allocate nothing. The others are for control goroutines, from any.
type Verbs interface {
	Info() CardInfo
	// NextEvent waits for what the card tells outside of completions. It ends with an error when the provider is closed or the card is
	// gone. One goroutine calls it.
	NextEvent() (CardEvent, error)

	// Post gives the card work requests, in order, of any queue pairs, and reports how many it took; the error is of the first that it
	// did not take.
	Post(w []SendWR) (int, error)
	// PostRecv gives a queue pair without an SRQ buffers to receive into.
	PostRecv(q QP, w []RecvWR) (int, error)
	// PostShared does so for an SRQ.
	PostShared(s SRQ, w []RecvWR) (int, error)
	// Poll takes completions, as many as there is room for.
	Poll(c CQ, w []Completion) (int, error)
	// Arm lets the next completion, which is one after this call, make the CQ's descriptor readable, once.
	Arm(c CQ) error
	// Heard takes what makes the descriptor readable.
	Heard(c CQ) error

	Register(b []byte, a Access) (MR, error)
	Deregister(m MR) error
	CreateCQ(depth int) (CQ, error)
	// CQFD is the descriptor of the CQ's channel: non-blocking, readable after Arm.
	CQFD(c CQ) int
	DestroyCQ(c CQ) error
	CreateSRQ(depth, sges int) (SRQ, error)
	DestroySRQ(s SRQ) error
	// CreateQP makes the queue pair of a connection that has not been accepted, or not been begun.
	CreateQP(id ID, c QPConfig) (QP, QPCaps, error)
	// Fail puts a queue pair into the error state: all that it was given completes as flushed.
	Fail(q QP) error
	DestroyQP(q QP) error
}

// CardEventKind is what a card tells outside of completions. ibv_get_async_event(3).
type CardEventKind uint8

// The kinds.
const (
	CardPortUp      CardEventKind = iota // Port can be used; Info tells its MTU
	CardPortDown                         // what is sent through Port is retried, and fails if it stays away
	CardFatal                            // the card has failed, and all that is on it
	CardCQFatal                          // CQ has failed, and all connections of it
	CardSRQFatal                         // SRQ has failed, and all connections of it
	CardQPFatal                          // the queue pair of ID has failed
	CardLastReceive                      // the queue pair of ID, which has failed, takes nothing more from its SRQ
)

// CardEvent is one such account.
type CardEvent struct {
	Kind CardEventKind
	Port int
	ID   ID
	CQ   CQ
	SRQ  SRQ
}

// QPConfig is what a queue pair is made with.
type QPConfig struct {
	Send, Recv  CQ
	Shared      SRQ // 0: receives of its own
	SendDepth   int
	RecvDepth   int // without SRQ
	SGEs        int
	InlineBytes int
}

// QPCaps is what came of it: at least what was asked for.
type QPCaps struct {
	Number      uint32
	SendDepth   int
	RecvDepth   int
	InlineBytes int
}

// Opcode is what a work request does.
type Opcode uint8

// The opcodes that are used. Their numbers are this package's.
const (
	OpSend           Opcode = iota
	OpSendInvalidate        // and the peer's key is invalid when it has arrived
	OpWrite
	OpRead
)

// SendFlags are those of a work request.
type SendFlags uint8

// The flags. Without Signaled a work request completes in silence, unless it fails.
const (
	Signaled SendFlags = 1 << iota
	Inline             // the data is copied by Post: its memory may be used again at once, and needs no key
	Fence              // begins when all RDMA READs before it are done
)

// SGE is a piece of registered memory.
type SGE struct {
	Address uint64
	Bytes   uint32
	Key     uint32
}

// SGEsMax is how many pieces a work request may have.
const SGEsMax = 2

// SendWR is a work request of a send queue. C code reads it: its layout is fixed.
type SendWR struct {
	ID         uint64
	QP         QP
	Remote     uint64 // address, of OpRead and OpWrite
	RemoteKey  uint32
	Invalidate uint32 // the key, of OpSendInvalidate
	SGE        [SGEsMax]SGE
	Opcode     Opcode
	Flags      SendFlags
	SGEs       uint8
	_          [5]byte
}

// RecvWR is a work request of a receive queue. C code reads it.
type RecvWR struct {
	ID   uint64
	SGE  [SGEsMax]SGE
	SGEs uint8
	_    [7]byte
}

// Completion is the end of a work request. C code writes it.
type Completion struct {
	ID      uint64
	QPN     uint32 // QPCaps.Number
	Status  Status
	Bytes   uint32 // that were received
	Invalid uint32 // the key that the peer's send has invalidated, with Invalidated
	Vendor  uint32 // the card's own account of an error
	Kind    CompletionKind
	Flags   CompletionFlags
	_       [2]byte
}

var _ = [1]struct{}{}[unsafe.Sizeof(SendWR{})-72]
var _ = [1]struct{}{}[unsafe.Sizeof(RecvWR{})-48]
var _ = [1]struct{}{}[unsafe.Sizeof(Completion{})-32]

// CompletionKind says what ended. It is undefined where Status is not StatusOK, as in ibv_poll_cq(3): IDs tell.
type CompletionKind uint8

// The kinds.
const (
	DidSend CompletionKind = iota
	DidWrite
	DidRead
	DidRecv
)

// CompletionFlags are those of a completion.
type CompletionFlags uint8

// Invalidated says that a receive's send was OpSendInvalidate.
const Invalidated CompletionFlags = 1

// Status is how a work request ended: the values of enum ibv_wc_status.
type Status uint32

// The statuses. ibv_poll_cq(3).
const (
	StatusOK Status = iota
	StatusLocalLength
	StatusLocalQPOperation
	StatusLocalEEC
	StatusLocalProtection
	StatusFlushed
	StatusBind
	StatusBadResponse
	StatusLocalAccess
	StatusRemoteInvalid
	StatusRemoteAccess
	StatusRemoteOperation
	StatusRetry
	StatusRNRRetry
	StatusLocalRDDViolation
	StatusRemoteInvalidRD
	StatusRemoteAborted
	StatusInvalidEECN
	StatusInvalidEECState
	StatusFatal
	StatusResponseTimeout
	StatusGeneral
)

// CM is the connection manager, for control goroutines. rdma_cm(7). What is asked of an ID that another goroutine has destroyed meanwhile is an error.
type CM interface {
	// Next waits for the next event. It ends with an error when the CM is closed.
	Next() (Event, error)

	Listen(at netip.AddrPort, backlog int) (ID, netip.AddrPort, error)
	// Resolve begins to look for the way to a listener; EventRoute or EventUnreachable follows. A zero from means any address.
	Resolve(from netip.Addr, to netip.AddrPort, l Link) (ID, error)
	// Connect begins a connection whose route is known and whose queue pair is made; EventEstablished, EventRejected or EventUnreachable follows.
	Connect(id ID, p ConnParams) error
	// Accept takes a connection that has come, whose queue pair is made and has receives; EventEstablished follows.
	Accept(id ID, p ConnParams) error
	Reject(id ID, private []byte) error
	// Disconnect ends a connection; EventDisconnected follows, at the peer as well.
	Disconnect(id ID) error
	// Destroy forgets a listener or a connection, whose queue pair is destroyed before. No event of it follows.
	Destroy(id ID) error
	// Close ends Next. Nothing may be left of what was made.
	Close() error
}

// ConnParams are those of a connection. rdma_accept(3), rdma_connect(3).
type ConnParams struct {
	Private  []byte
	ReadsIn  uint8 // responder_resources: RDMA READs that we answer at once
	ReadsOut uint8 // initiator_depth: those that we may have in flight
	Retries  uint8 // retry_count, of connecting
	RNR      uint8 // rnr_retry_count: 7 for ever

	AckTimeout uint8 // Link's, for Accept: Connect has it from Resolve
}

// EventKind is what has happened to an ID.
type EventKind uint8

// The events.
const (
	EventConnect      EventKind = iota // somebody wants a connection: ID is new, Listener is where it came
	EventRoute                         // the way is known
	EventEstablished                   // both may send
	EventRejected                      // by the peer, with Private
	EventUnreachable                   // no way, no answer, or no listener
	EventDisconnected                  // by either side
	EventRemoval                       // the card goes away: all of it is to be given up, and destroyed
	EventAddress                       // the address that a listener or a connection has is gone
	EventTimewait                      // the queue pair's number may be used again
)

// Event is one event.
type Event struct {
	Kind     EventKind
	ID       ID
	Listener ID
	Card     Verbs  // of the ID, nil as long as none is known
	Status   int    // an errno, or a reject reason
	Private  []byte // a copy; it may be padded with zeros
	Params   ConnParams
	Local    netip.AddrPort
	Remote   netip.AddrPort
}
