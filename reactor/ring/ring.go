// Package ring is one io_uring: its cursors, its operations and the one system call.
//
// go-uring sets the ring up and owns the descriptor; this package maps the same descriptor a second time and keeps the
// cursors itself, because go-uring has neither the fixed nor the multishot operations, and because its submit costs more
// than a batch needs. Nothing here allocates after Open.
//
// Invariants
//   - All methods but Open are called by the thread that opened the ring (the kernel enforces it: SINGLE_ISSUER).
//   - An entry from Next is filled before the next call of Next, Submit or Wait.
//   - What an operation points to (buffers, vectors, message headers) outlives its completion: whoever starts one keeps a
//     reference, since the collector does not see those in an entry.
//   - A ring with IOPoll carries only operations that complete exactly once; their number in flight is counted by that.
//
// It does not know who asked for an operation: UserData is the caller's.
package ring

import (
	"errors"
	"fmt"
	"reflect"
	"sync/atomic"
	"syscall"
	"unsafe"

	"github.com/godzie44/go-uring/uring"
	"golang.org/x/sys/unix"

	"github.com/pollux-storage/pollux/internal/hold"
)

// SQE is a submission queue entry as the kernel lays it out; its fields have go-uring's names.
type SQE = uring.SQEntry

// CQE is a completion queue entry.
type CQE = uring.CQEvent

// Config says how a ring is set up.
type Config struct {
	Entries   uint32     // submission entries, a power of two
	CQEntries uint32     // completion entries; 0 is twice Entries
	IOPoll    bool       // completions are polled from the device; takes neither sockets nor fsync
	Setup     []SetupSet // tried in order, the first that the kernel takes wins; nil is Setups

	// Requests of the Go scheduler that calls into the ring have found are noted here, for the owner to answer. Nil: the calls do not hold its
	// processor, and the scheduler has its way at once.
	Requests *hold.Requests
}

// Ring is one io_uring.
type Ring struct {
	setup  *uring.Ring
	fd     int
	mapped [2][]byte // the rings, the entries

	flags    SetupSet
	features uint32
	iopoll   bool

	requests *hold.Requests // the owner's, or nil

	enterFD    uintptr // the descriptor, or its registered index
	enterFlags uintptr // RegisteredRing when enterFD is an index

	sqHead, sqTail, sqFlags *uint32
	sqMask, sqEntries       uint32
	sqes                    []SQE
	tail                    uint32 // our end of the queue; *sqTail follows at enter

	cqHead, cqTail *uint32
	cqMask         uint32
	cqes           []CQE

	// What the kernel is pointed to from inside an argument lives here, on the heap: a stack may move.
	arg getEventsArg
	ts  unix.Timespec
	reg struct {
		iov unix.Iovec
		fd  int32
	}

	enters uint64
}

// params is struct io_uring_params (linux/io_uring.h); go-uring exports its own copy of it as a pointer to an unexported
// type, through which the kernel's answer is read.
type params struct {
	sqEntries, cqEntries, flags, sqThreadCPU, sqThreadIdle, features, wqFD uint32
	_                                                                      [3]uint32
	sq                                                                     struct {
		head, tail, mask, entries, flags, dropped, array, _ uint32
		_                                                   uint64
	}
	cq struct {
		head, tail, mask, entries, overflow, cqes, flags, _ uint32
		_                                                   uint64
	}
}

// getEventsArg is struct io_uring_getevents_arg.
type getEventsArg struct {
	sigmask   uint64
	sigmaskSz uint32
	_         uint32
	ts        uint64
}

// ErrUnsupported is returned by Open when the kernel takes none of the asked setups.
var ErrUnsupported = errors.New("io_uring is not usable")

// Open makes a ring. The calling thread becomes its only issuer and must be locked to its goroutine.
func Open(cfg Config) (*Ring, error) {
	sets := cfg.Setup
	if sets == nil {
		sets = Setups
	}
	cq := cfg.CQEntries
	if cq == 0 {
		cq = 2 * cfg.Entries
	}
	if cfg.Entries == 0 || cfg.Entries > entriesMax || cq > 2*entriesMax {
		return nil, fmt.Errorf("%w: a ring of %d entries and %d completions: the kernel allows 1 to %d and twice that", ErrUnsupported, cfg.Entries, cq, entriesMax)
	}
	var refused error
	for _, set := range sets {
		opts := []uring.SetupOption{uring.WithCQSize(cq), withFlags(uring.WithCQSize(cq), set)}
		if cfg.IOPoll {
			opts = append(opts, uring.WithIOPoll())
		}
		u, err := uring.New(cfg.Entries, opts...)
		if err == nil {
			return open(u, set, &cfg)
		}
		if u != nil {
			_ = u.Close() // set up, but not mapped
		}
		if !errors.Is(err, syscall.EINVAL) {
			return nil, fmt.Errorf("%w: setting up a ring of %d entries: %w (%s)", ErrUnsupported, cfg.Entries, err, advice(err))
		}
		refused = err
	}
	return nil, fmt.Errorf("%w: the kernel takes none of the setups %v: %w (Linux 5.15 or later is needed)", ErrUnsupported, sets, refused)
}

// advice says what an operator may do about an error of io_uring_setup(2).
func advice(err error) string {
	switch {
	case errors.Is(err, syscall.ENOMEM):
		return "is the limit of locked memory too low? See ulimit -l, or LimitMEMLOCK= of the service"
	case errors.Is(err, syscall.ENFILE), errors.Is(err, syscall.EMFILE):
		return "too many open files: see ulimit -n"
	}
	return "is io_uring switched off by kernel.io_uring_disabled or a seccomp filter?"
}

// withFlags makes a setup option of go-uring's that ors our flags into the kernel's parameters. go-uring exports neither
// the parameter type nor these flags; the type parameter P is inferred from one of its own options.
func withFlags[P any, O ~func(*P)](_ O, set SetupSet) O {
	return func(p *P) { (*params)(unsafe.Pointer(p)).flags |= uint32(set) }
}

func open(u *uring.Ring, set SetupSet, cfg *Config) (*Ring, error) {
	p := (*params)(unsafe.Pointer(u.Params))
	r := &Ring{setup: u, fd: u.Fd(), flags: set, features: p.features, iopoll: cfg.IOPoll, requests: cfg.Requests}
	r.enterFD = uintptr(r.fd)
	if p.features&featSingleMmap == 0 || p.features&featNoDrop == 0 || p.features&featExtArg == 0 {
		_ = r.Close()
		return nil, fmt.Errorf("%w: the kernel's io_uring features %#x lack SINGLE_MMAP, NODROP or EXT_ARG (Linux 5.15 or later is needed)", ErrUnsupported, p.features)
	}
	size := max(p.sq.array+p.sqEntries*4, p.cq.cqes+p.cqEntries*uint32(unsafe.Sizeof(CQE{})))
	var err error
	for i, m := range []struct {
		off  int64
		size int
	}{{offRings, int(size)}, {offSQEs, int(p.sqEntries) * int(unsafe.Sizeof(SQE{}))}} {
		r.mapped[i], err = unix.Mmap(r.fd, m.off, m.size, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED|unix.MAP_POPULATE)
		if err != nil {
			_ = r.Close()
			return nil, fmt.Errorf("mapping the io_uring at offset %#x: %w", m.off, err)
		}
	}
	word := func(off uint32) *uint32 { return (*uint32)(unsafe.Pointer(&r.mapped[0][off])) }
	r.sqHead, r.sqTail, r.sqFlags = word(p.sq.head), word(p.sq.tail), word(p.sq.flags)
	r.sqMask, r.sqEntries = *word(p.sq.mask), p.sqEntries
	r.cqHead, r.cqTail = word(p.cq.head), word(p.cq.tail)
	r.cqMask = *word(p.cq.mask)
	r.sqes = unsafe.Slice((*SQE)(unsafe.Pointer(&r.mapped[1][0])), p.sqEntries)
	r.cqes = unsafe.Slice((*CQE)(unsafe.Pointer(&r.mapped[0][p.cq.cqes])), p.cqEntries)
	// The index array stays the identity for ever: entries are handed over in the order in which they were taken.
	for i := range p.sqEntries {
		*word(p.sq.array + 4*i) = i
	}
	return r, nil
}

// Close unmaps the ring and closes its descriptor; the kernel cancels what is in flight, so that its buffers must stay
// until the process knows that nothing was. It is called by the thread that opened the ring.
func (r *Ring) Close() error {
	r.unregister() // the registered index would hold the ring open until the thread ends
	for i := range r.mapped {
		if r.mapped[i] != nil {
			_ = unix.Munmap(r.mapped[i])
			r.mapped[i] = nil
		}
	}
	// go-uring's own Close forgets its mapping of the entries, which would keep the ring alive.
	sqes := reflect.ValueOf(r.setup).Elem().FieldByName("sqRing").Elem().FieldByName("sqeBuff").Bytes()
	_ = syscall.Munmap(sqes)
	return r.setup.Close()
}

// Fd is the ring's descriptor, by which other rings send it messages.
func (r *Ring) Fd() int { return r.fd }

// Setup is the set of setup flags that the kernel took.
func (r *Ring) Setup() SetupSet { return r.flags }

// Enters counts the system calls made to submit or wait.
func (r *Ring) Enters() uint64 { return r.enters }

// Next gives the next submission entry, zeroed. When the queue is full it first hands what is there to the kernel.
func (r *Ring) Next() *SQE {
	if r.Pending() == r.sqEntries {
		r.makeRoom()
	}
	e := &r.sqes[r.tail&r.sqMask]
	r.tail++
	*e = SQE{}
	return e
}

// makeRoom hands entries over until one is free. A kernel short of memory takes none for a while; then it is given the chance
// to finish what it has.
func (r *Ring) makeRoom() {
	for flags := uintptr(0); r.Pending() == r.sqEntries; flags = enterGetEvents {
		r.enter(r.sqEntries, 0, flags, nil, false)
	}
}

// Pending is the number of entries taken and not yet handed to the kernel, which moves the head when it takes some.
func (r *Ring) Pending() uint32 { return r.tail - atomic.LoadUint32(r.sqHead) }

// Outstanding is the number of entries taken whose completion was not, on a ring with IOPoll.
func (r *Ring) Outstanding() uint32 { return r.tail - *r.cqHead }

// Submit hands the pending entries to the kernel and lets it post completions that wait for us, with one system call,
// or none when there is neither.
func (r *Ring) Submit() {
	n := r.Pending()
	var flags uintptr
	switch {
	case r.iopoll:
		if r.Outstanding() == 0 {
			return
		}
		flags = enterGetEvents // nothing completes there unless it is asked for
	case n > 0 && r.flags&DeferTaskrun != 0, atomic.LoadUint32(r.sqFlags)&(sqTaskRun|sqCQOverflow) != 0:
		flags = enterGetEvents
	case n == 0:
		return
	}
	r.enter(n, 0, flags, nil, false)
}

// Wait hands the pending entries to the kernel and sleeps until there is a completion or nsec has passed (nsec < 0: no
// limit). A signal ends it early too.
func (r *Ring) Wait(nsec int64) {
	r.arg.ts = 0
	if nsec >= 0 {
		r.ts = unix.NsecToTimespec(nsec)
		r.arg.ts = uint64(uintptr(unsafe.Pointer(&r.ts)))
	}
	r.enter(r.Pending(), 1, enterGetEvents, &r.arg, true)
}

// enter is io_uring_enter(2). Blocking calls tell the Go scheduler; the others do not, since they return at once.
func (r *Ring) enter(submit uint32, wait uint32, flags uintptr, arg *getEventsArg, blocks bool) {
	atomic.StoreUint32(r.sqTail, r.tail)
	flags |= r.enterFlags
	var size uintptr
	if arg != nil {
		flags |= enterExtArg
		size = unsafe.Sizeof(*arg)
	}
	var errno syscall.Errno
	switch {
	case blocks:
		_, _, errno = syscall.Syscall6(unix.SYS_IO_URING_ENTER, r.enterFD, uintptr(submit), uintptr(wait), flags, uintptr(unsafe.Pointer(arg)), size)
	case r.requests == nil:
		_, _, errno = syscall.RawSyscall6(unix.SYS_IO_URING_ENTER, r.enterFD, uintptr(submit), uintptr(wait), flags, uintptr(unsafe.Pointer(arg)), size)
	default:
		hold.Begin()
		_, _, errno = syscall.RawSyscall6(unix.SYS_IO_URING_ENTER, r.enterFD, uintptr(submit), uintptr(wait), flags, uintptr(unsafe.Pointer(arg)), size)
		if hold.Asked() {
			r.requests.Note()
		}
		hold.End()
	}
	r.enters++
	switch errno {
	case 0, syscall.EINTR, syscall.ETIME, syscall.EAGAIN, syscall.EBUSY:
		// Done, interrupted, nothing came in time, or no memory or room just now. Entries that were not taken stay and go with
		// the next call.
	case syscall.EBADR:
		panic("invariant broken: ring: the kernel had no memory to keep a completion, and lost it")
	default:
		panic(fmt.Sprintf("invariant broken: ring: io_uring_enter: %v", errno))
	}
}

// Ready is the number of completions that can be taken.
func (r *Ring) Ready() uint32 { return atomic.LoadUint32(r.cqTail) - *r.cqHead }

// Waiting reports that Submit or Ready would find something.
func (r *Ring) Waiting() bool {
	return r.Ready() > 0 || atomic.LoadUint32(r.sqFlags)&(sqTaskRun|sqCQOverflow) != 0 || r.Pending() > 0
}

// At gives the i-th completion of those that are ready. It is lent until Advance passes it.
func (r *Ring) At(i uint32) *CQE { return &r.cqes[(*r.cqHead+i)&r.cqMask] }

// Advance gives n completions back to the kernel.
func (r *Ring) Advance(n uint32) { atomic.StoreUint32(r.cqHead, *r.cqHead+n) }
