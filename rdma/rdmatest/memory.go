package rdmatest

import (
	"fmt"
	"hash/crc32"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/pollux-storage/pollux/rdma"
)

// region is registered memory. Its keys are its slot in the table and a variant, which differs from one registration to the next, and between
// the local and the remote key: so a key that is stale, or the wrong one, is found out.
type region struct {
	card    *card
	b       []byte
	address uint64
	access  rdma.Access
	handle  uintptr
	variant uint32
	invalid bool // by a peer's send
}

const (
	variantMask = 0x7f
	remoteBit   = 0x80
)

func (c *card) Register(b []byte, a rdma.Access) (rdma.MR, error) {
	c.f.mu.Lock()
	defer c.f.mu.Unlock()
	if err := c.usable("registering memory"); err != nil {
		return rdma.MR{}, err
	}
	if len(b) == 0 {
		return rdma.MR{}, fmt.Errorf("rdmatest: registering no memory: %w", unix.EINVAL)
	}
	m := &region{card: c, b: b, address: uint64(uintptr(unsafe.Pointer(unsafe.SliceData(b)))), access: a}
	m.handle = c.f.regions.add(m)
	m.variant = uint32(m.handle>>28)*37 + 1
	k := uint32(m.handle&(1<<24-1))<<8 | m.variant&variantMask
	return rdma.MR{Handle: m.handle, Local: k, Remote: k | remoteBit, Address: m.address, Bytes: uint64(len(b))}, nil
}

func (c *card) Deregister(m rdma.MR) error {
	c.f.mu.Lock()
	defer c.f.mu.Unlock()
	c.f.regions.get(m.Handle)
	c.f.regions.remove(m.Handle)
	return nil
}

// reach gives the n bytes at an address that a key opens on card c, or nil if it does not.
func (c *card) reach(address uint64, n uint32, key uint32, remote bool) *region {
	t := &c.f.regions
	i := int(key >> 8)
	if i >= len(t.slots) || t.slots[i].v == nil {
		return nil
	}
	m := t.slots[i].v
	if m.card != c || m.invalid || key&variantMask != m.variant&variantMask || key&remoteBit != 0 != remote {
		return nil
	}
	if uint64(n) > uint64(len(m.b)) || address-m.address > uint64(len(m.b))-uint64(n) { // what is before it is far behind it
		return nil
	}
	return m
}

func (m *region) at(address uint64, n uint32) []byte {
	o := address - m.address
	return m.b[o : o+uint64(n)]
}

// local finds a piece of memory by its local key.
func (c *card) local(s *rdma.SGE) ([]byte, bool) {
	if s.Bytes == 0 {
		return nil, true
	}
	m := c.reach(s.Address, s.Bytes, s.Key, false)
	if m == nil {
		return nil, false
	}
	return m.at(s.Address, s.Bytes), true
}

// localAll says whether all pieces can be found, and how long they are together.
func (c *card) localAll(s []rdma.SGE) (bytes uint64, ok bool) {
	for i := range s {
		if _, ok := c.local(&s[i]); !ok {
			return 0, false
		}
		bytes += uint64(s[i].Bytes)
	}
	return bytes, true
}

// scatter copies b to the pieces, from their byte at on. All of it has its place there.
func (c *card) scatter(s []rdma.SGE, at int, b []byte) {
	for i := range s {
		d, _ := c.local(&s[i])
		if at >= len(d) {
			at -= len(d)
			continue
		}
		n := copy(d[at:], b)
		b, at = b[n:], 0
		if len(b) == 0 {
			return
		}
	}
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// sum is a checksum of all pieces that can be found.
func (c *card) sum(s []rdma.SGE) uint32 {
	n := uint32(0)
	for i := range s {
		p, _ := c.local(&s[i])
		n = crc32.Update(n, castagnoli, p)
	}
	return n
}

// invalidate takes a remote key away.
func (c *card) invalidate(key uint32) bool {
	if c.p.o.NoInvalidate {
		return false
	}
	t := &c.f.regions
	i := int(key >> 8)
	if i >= len(t.slots) || t.slots[i].v == nil {
		return false
	}
	m := t.slots[i].v
	if m.card != c || m.invalid || key&variantMask != m.variant&variantMask || key&remoteBit == 0 || m.access == 0 {
		return false
	}
	m.invalid = true
	return true
}
