package initiator

import (
	"fmt"

	"github.com/google/uuid"

	"github.com/pollux-storage/pollux/bdev"
	"github.com/pollux-storage/pollux/nvmf"
	"github.com/pollux-storage/pollux/reactor"
)

// This file is a namespace as a bdev device: what its geometry is made of, and the door for its requests.

// product is the kind of device as it is shown; SPDK calls it so.
const product = "NVMe disk"

// namespace is what requests need to know of a namespace. It does not change.
type namespace struct {
	id          nvmf.NSID
	shift       uint
	zeroesMax   uint64 // blocks of one Write Zeroes
	unmapMax    uint64 // blocks of one Dataset Management
	copyMax     uint64 // blocks of one Copy
	unmapZeroes bool   // unmapped blocks read as zeros, by Write Zeroes that may deallocate
	volatile    bool
}

// nlbMax is the number of blocks that a command's NLB can name.
const nlbMax = 1 << 16

// description is all that was found out about a namespace.
type description struct {
	namespace
	ids      nvmf.NamespaceIDs
	geometry bdev.Geometry
	shared   bool   // NMIC
	group    uint32 // ANA
}

// describe makes a geometry of what Identify says, or says why that cannot be a device.
func describe(a *association, id nvmf.NSID, n *nvmf.IdentifyNamespace, ids nvmf.NamespaceIDs, limits *nvmf.NVMController) (*description, error) {
	f := n.Format()
	switch {
	case ids.CSI != nvmf.CSINVM:
		return nil, fmt.Errorf("command set %d: only NVM (0) is known", ids.CSI)
	case f.MS != 0 || n.DPS&7 != 0:
		return nil, fmt.Errorf("%d bytes of metadata, protection type %d: blocks without either are needed", f.MS, n.DPS&7)
	case f.LBADS != 9 && f.LBADS != 12:
		return nil, fmt.Errorf("blocks of 2^%d bytes: 512 or 4096 are needed", f.LBADS)
	}
	c := &a.id
	page := a.cap.PageBytesMin()
	d := &description{ids: ids, shared: n.NMIC&nvmf.NMICShared != 0, group: n.ANAGRPID}
	ns, g := &d.namespace, &d.geometry
	ns.id, ns.shift, ns.volatile = id, uint(f.LBADS), c.VWC&nvmf.VWCPresent != 0

	*g = bdev.Geometry{
		BlockSize: 1 << f.LBADS, Blocks: n.NSZE, Native: bdev.SetOf(bdev.Read, bdev.Write), NativeFUA: ^bdev.KindSet(0), Volatile: ns.volatile,
		ReadOnly: n.NSATTR&nvmf.NSATTRProtected != 0, OptimalBlocks: uint32(n.NOIOB), AtomicBlocks: uint32(c.AWUPF) + 1,
	}
	most := min(c.TransferBytesMax(page)>>ns.shift, nlbMax)
	g.MaxBlocks = uint32(most)
	if n.NSFEAT&nvmf.NSFEATAtomic != 0 {
		g.AtomicBlocks = uint32(n.NAWUPF) + 1
	}
	if n.NABSPF != 0 || n.NABO != 0 {
		g.AtomicBlocks = 1 // boundaries, which a Geometry does not have
	}
	if per := uint32(n.NPWG) + 1; n.NSFEAT&nvmf.NSFEATOptimal != 0 && per&(per-1) == 0 && per<<ns.shift <= reactor.BufferMax {
		g.PhysicalBlockSize = per << ns.shift
	}

	// NVM Command Set Specification 1.0, "I/O Command Set Specific Identify Controller": WZSL 0 is no limit; but controllers
	// from before it have none to tell, so as in Linux MDTS counts.
	ns.zeroesMax = nlbMax
	if limits.WZSL > 0 && limits.WZSL < 32 { // more is more than a command can name, and than 64 bits have
		ns.zeroesMax = min(ns.zeroesMax, page<<limits.WZSL>>ns.shift)
	} else if limits.WZSL == 0 && most > 0 {
		ns.zeroesMax = most
	}
	ns.unmapMax = 1<<32 - 1
	if limits.DMRSL > 0 {
		ns.unmapMax = uint64(limits.DMRSL)
	}
	if limits.DMSL > 0 {
		ns.unmapMax = min(ns.unmapMax, limits.DMSL)
	}
	ns.copyMax = min(uint64(n.MSSRL), uint64(n.MCL), nlbMax)

	native := func(k bdev.Kind, has bool) {
		if has {
			g.Native |= bdev.SetOf(k)
		}
	}
	// Dataset Management is a hint wherever blocks that are deallocated would read as zeros: only Write Zeroes with DEAC, where
	// the namespace knows it, leaves zeros for sure.
	g.UnmapZeroes = n.DLFEAT&7 == nvmf.DLFEATZeros && n.DLFEAT&nvmf.DLFEATDEAC != 0 && c.ONCS&nvmf.ONCSWriteZeroes != 0
	ns.unmapZeroes = g.UnmapZeroes
	native(bdev.Flush, ns.volatile) // otherwise there is nothing to flush
	native(bdev.Compare, c.ONCS&nvmf.ONCSCompare != 0)
	native(bdev.WriteZeroes, c.ONCS&nvmf.ONCSWriteZeroes != 0)
	native(bdev.Unmap, g.UnmapZeroes || c.ONCS&nvmf.ONCSDSM != 0)
	native(bdev.Copy, c.ONCS&nvmf.ONCSCopy != 0 && c.OCFS&nvmf.OCFSFormat0 != 0 && ns.copyMax > 0)
	return d, nil
}

// uuid identifies the namespace wherever it is reached.
func (d *description) uuid(subnqn string) uuid.UUID {
	switch {
	case d.ids.UUID != [16]byte{}:
		return d.ids.UUID
	case d.ids.NGUID != [16]byte{}:
		return d.ids.NGUID
	}
	return uuid.NewSHA1(uuid.NameSpaceOID, fmt.Appendf(nil, "%s namespace %d EUI64 %x", subnqn, d.id, d.ids.EUI64))
}

// replaces reports whether the namespace that is there now is another one than was, or one that cannot do what the device of that
// one promised: a device changes nothing but its size. Volatile is no such promise: see share.writeThrough.
func (d *description) replaces(was *description) bool {
	g, w := d.geometry, was.geometry
	lost := w.Native&^g.Native&^bdev.SetOf(bdev.Flush) != 0 || was.unmapZeroes && !d.unmapZeroes || g.MaxBlocks < w.MaxBlocks ||
		d.zeroesMax < was.zeroesMax || d.unmapMax < was.unmapMax || d.copyMax < was.copyMax
	return d.ids != was.ids || lost || g.BlockSize != w.BlockSize || g.ReadOnly != w.ReadOnly
}

// device is a namespace's bdev.Driver.
type device struct {
	c    *Controller
	name string
	made *description // of which the device was made
	bdev *bdev.Device

	// Under the controller's lock.
	now      *description // as the namespace is
	ana      nvmf.ANAState
	removing bool
	retired  bool // its namespace is gone
}

// Open gives the door on one reactor.
func (d *device) Open(r *reactor.Reactor) (bdev.Queue, error) {
	return &deviceQueue{share: d.c.shares[r.Index()], ns: &d.made.namespace}, nil
}

// Describe tells what bdev_get_bdevs shows, as SPDK's module does.
func (d *device) Describe() any {
	c := d.c
	c.mu.Lock()
	defer c.mu.Unlock()
	path := map[string]any{
		"trid": c.trid(),
		"ns_data": map[string]any{
			"id": d.made.id, "can_share": d.now.shared,
		},
	}
	if d.ana != 0 {
		path["ns_data"].(map[string]any)["ana_state"] = d.ana.String()
	}
	if a := c.a; a != nil {
		path["ctrlr_data"] = map[string]any{
			"cntlid": a.cntlid, "vendor_id": fmt.Sprintf("0x%04x", a.id.VID), "model_number": a.id.MN, "serial_number": a.id.SN,
			"firmware_revision": a.id.FR, "subnqn": a.id.SUBNQN, "multi_ctrlr": a.id.CMIC&nvmf.CMICControllers != 0,
			"ana_reporting": a.id.CMIC&nvmf.CMICANA != 0,
		}
		path["vs"] = map[string]any{"nvme_version": fmt.Sprintf("%d.%d", a.version>>16, a.version>>8&0xFF)}
	}
	return map[string]any{"nvme": []any{path}, "mp_policy": "active_passive"}
}

// Close has nothing to release: the queues are the controller's.
func (d *device) Close() error { return nil }

// deviceQueue is a device on one reactor.
type deviceQueue struct {
	share *share
	ns    *namespace
}

// Submit takes a request.
func (q *deviceQueue) Submit(r *bdev.Request) { q.share.submit(r, q.ns) }

// Close is called when nothing is in flight.
func (q *deviceQueue) Close() {}

// Abort lets a request complete as aborted, if nothing of it can have been done. Where a target has it that is asked to hurry.
func (q *deviceQueue) Abort(r *bdev.Request) bool {
	promised, open := q.share.abort(r)
	if open != nil {
		q.share.assoc.abort(open.queue.id, open.command.cid)
	}
	return promised
}
