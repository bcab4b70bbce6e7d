package rdma

import (
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"unsafe"

	"github.com/pollux-storage/pollux/internal/invariant"
	"github.com/pollux-storage/pollux/reactor"
)

// This file is the memory that a card reaches: each chunk of each reactor's pool is registered with it once, before a buffer of it is lent
// (reactor/watch.go), and deregistered when the card is given up.
//
// There are two sets of keys. What we send from and receive into needs none that a peer could use; such keys, which let whoever guesses one
// read or write all of our pools, are made only when somebody dials out. They do for both where nobody has come before.

// cardMemory is one set of keys of a card.
type cardMemory struct {
	pools []*poolKeys // by reactor
}

// poolKeys is a reactor's pool as a card knows it. local and remote are written before a buffer of the chunk is lent, and read by who has one.
type poolKeys struct {
	v      Verbs
	access Access
	mem    *reactor.Memory
	base   uintptr
	bytes  uintptr
	local  []uint32 // by chunk
	remote []uint32

	mu   sync.Mutex
	mrs  []MR
	held []atomic.Int32 // by page: how often the card has it. Only where expensive checks are compiled in.
}

// openMemory registers what the reactors have, and from then on what comes.
func openMemory(v Verbs, g *reactor.Group, a Access) (*cardMemory, error) {
	m := &cardMemory{}
	for _, r := range g.Reactors() {
		var all []byte
		if err := r.Call(func() { all = r.Memory().Range() }); err != nil {
			_ = m.close()
			return nil, err
		}
		chunks := len(all) / reactor.ChunkBytes
		k := &poolKeys{v: v, access: a, mem: r.Memory(), base: uintptr(unsafe.Pointer(unsafe.SliceData(all))), bytes: uintptr(len(all)),
			local: make([]uint32, chunks), remote: make([]uint32, chunks)}
		if invariant.Expensive {
			k.held = make([]atomic.Int32, len(all)/reactor.PageBytes)
		}
		m.pools = append(m.pools, k)
		if err := k.mem.Watch(k); err != nil {
			_ = m.close()
			return nil, err
		}
	}
	return m, nil
}

// Chunk registers a chunk.
func (k *poolKeys) Chunk(i int, b []byte) error {
	mr, err := k.v.Register(b, k.access)
	if err != nil {
		return fmt.Errorf("registering %d MiB of buffers with %s: %w (registered memory counts against the limit of locked memory: ulimit -l, or LimitMEMLOCK= of the service)",
			len(b)>>20, k.v.Info().Name, err)
	}
	k.local[i], k.remote[i] = mr.Local, mr.Remote
	k.mu.Lock()
	k.mrs = append(k.mrs, mr)
	k.mu.Unlock()
	return nil
}

// close deregisters all. Nothing of it is on the card any more.
func (m *cardMemory) close() error {
	var errs []error
	for _, k := range m.pools {
		k.mem.Unwatch(k)
		k.mu.Lock()
		for _, mr := range k.mrs {
			errs = append(errs, k.v.Deregister(mr))
		}
		k.mrs = nil
		k.mu.Unlock()
	}
	return errors.Join(errs...)
}

// poolRegions is how many chunks of a reactor's pool are registered.
func (m *cardMemory) poolRegions(at int) int {
	if m == nil {
		return 0
	}
	k := m.pools[at]
	k.mu.Lock()
	defer k.mu.Unlock()
	return len(k.mrs)
}

// find gives the pool in which b lies, and its chunk there. The pool of the reactor at is looked at first.
func (m *cardMemory) find(at int, b []byte) (*poolKeys, uintptr) {
	p := uintptr(unsafe.Pointer(unsafe.SliceData(b)))
	if k := m.pools[at]; p-k.base < k.bytes {
		return k, (p - k.base) / reactor.ChunkBytes
	}
	for _, k := range m.pools {
		if p-k.base < k.bytes {
			return k, (p - k.base) / reactor.ChunkBytes
		}
	}
	return nil, 0
}

// sge describes b, which lies in a pool.
func (m *cardMemory) sge(at int, b []byte) SGE {
	k, chunk := m.find(at, b)
	invariant.Check(k != nil && k.local[chunk] != 0, "rdma: memory that is of no reactor's pool, or not registered")
	return SGE{Address: uint64(uintptr(unsafe.Pointer(unsafe.SliceData(b)))), Bytes: uint32(len(b)), Key: k.local[chunk]}
}

// Holds reports whether the card has something of b.
func (k *poolKeys) Holds(b []byte) bool {
	at := uintptr(unsafe.Pointer(unsafe.SliceData(b))) - k.base
	for off := uintptr(0); off < uintptr(len(b)); off += reactor.PageBytes {
		if k.held[(at+off)/reactor.PageBytes].Load() != 0 {
			return true
		}
	}
	return false
}

// hold notes that the card gets, or has given back, what s describes. Only where expensive checks are compiled in.
func (m *cardMemory) hold(s []SGE, by int32) {
	for _, e := range s {
		for _, k := range m.pools {
			at := uintptr(e.Address) - k.base
			if e.Bytes == 0 || at >= k.bytes {
				continue
			}
			for page := at / reactor.PageBytes; page <= (at+uintptr(e.Bytes)-1)/reactor.PageBytes; page++ {
				invariant.Check(k.held[page].Add(by) >= 0, "rdma: memory came back from the card that it did not have")
			}
		}
	}
}
