package nvmf

import (
	"math/bits"

	"github.com/pollux-storage/pollux/bdev"
)

// This file is what Identify is answered by: what is advertised here is what the rest of the package does (REQUIREMENTS T-18).

// firmware is what FR reports.
const firmware = "1.0"

// identify answers Identify.
func (k *controller) identify(c *command) {
	cns, nsid := c.sqe.CNS(), c.sqe.NSID()
	if k.discovery() && cns != CNSController {
		k.aq.respond(c, StatusInvalidField|DNR)
		return
	}
	if s := identifyCSI(c); !s.OK() {
		k.aq.respond(c, s)
		return
	}
	var page []byte
	switch cns {
	case CNSController:
		ic := k.identifyController()
		page = ic.AppendTo(nil)
	case CNSActiveList, CNSIOActiveList, CNSAllocatedList:
		if nsid >= NSIDAll-1 {
			k.aq.respond(c, StatusInvalidNamespace|DNR)
			return
		}
		page = AppendNSIDList(nil, k.active(nsid))
	case CNSNamespace, CNSAllocatedNamespace, CNSIONamespace, CNSIndependentNamespace, CNSDescriptors:
		n := k.namespace(nsid)
		switch {
		case nsid == 0 || uint32(nsid) > k.share.sub.o.MaxNamespaces:
			// Base Specification 2.0, "Identify Namespace data structure": FFFFFFFFh asks for what all have in common, which needs
			// namespace management.
			k.aq.respond(c, StatusInvalidNamespace|DNR)
			return
		case n == nil && (cns == CNSDescriptors || cns == CNSIONamespace || cns == CNSIndependentNamespace):
			k.aq.respond(c, StatusInvalidNamespace|DNR)
			return
		case n == nil:
			page = AppendIdentifyZero(nil)
		default:
			page = k.identifyNamespace(cns, n)
		}
	case CNSIOController:
		nc := NVMController{WZSL: k.share.sub.o.WZSL, VSL: mdts(k.limitBytes()), DMRSL: uint32(k.share.sub.o.DMRSL), DMSL: k.share.sub.o.DMRSL * dsmRangesMax, DMRL: dsmRangesMax - 1}
		page = nc.AppendTo(nil)
	case CNSAttachedControllers, CNSControllers:
		var ids []CNTLID
		for _, o := range k.share.sortedControllers() {
			if o.id >= c.sqe.CNTID() && (cns == CNSControllers || nsid != 0 && o.namespace(nsid) != nil) {
				ids = append(ids, o.id)
			}
		}
		page = AppendCNTLIDList(nil, ids)
	case CNSIOCommandSets:
		page = AppendCommandSets(nil)
	default:
		k.aq.respond(c, StatusInvalidField|DNR)
		return
	}
	k.aq.give(c, page, IdentifyBytes)
}

// identifyCSI refuses a command set that we do not have, where the CNS asks about one.
func identifyCSI(c *command) Status {
	switch c.sqe.CNS() {
	case CNSIONamespace, CNSIOController, CNSIOActiveList:
		if c.sqe.IdentifyCSI() != CSINVM {
			return StatusInvalidField | DNR
		}
	}
	return StatusSuccess
}

// namespace gives a namespace as the host sees it, nil if it does not, or is gone.
func (k *controller) namespace(id NSID) *queueNamespace {
	if k.aq == nil || id == 0 || int(id) > len(k.aq.ns) || k.aq.ns[id-1].ns == nil {
		return nil
	}
	return &k.aq.ns[id-1]
}

// active lists the namespaces above one, as the host sees them.
func (k *controller) active(above NSID) []NSID {
	var ids []NSID
	for i := range k.aq.ns {
		if id := NSID(i + 1); id > above && k.aq.ns[i].ns != nil {
			ids = append(ids, id)
		}
	}
	return ids
}

func (k *controller) limitBytes() uint32 { return k.limits.MaxIOBytes }

// mdts is a size as a power of two of pages.
func mdts(n uint32) uint8 { return uint8(bits.Len32(n/4096) - 1) }

func (k *controller) identifyController() IdentifyController {
	o, sub := k.limits, k.share.sub
	c := IdentifyController{
		SN: sub.o.Serial, MN: sub.o.Model, FR: firmware,
		RAB: 6, MDTS: mdts(o.MaxIOBytes), CNTLID: k.id, VER: Version, RTD3R: 1e6, RTD3E: 5e6,
		CTRATT: CTRATTHOSTID128 | CTRATTTBKAS, CNTRLTYPE: ControllerIO,
		ACL: abortsMax - 1, AERL: asyncEventsMax - 1, FRMW: 3, LPA: LPAEffects | LPAExtended | LPAPages, ONCS: ONCSSave, ELPE: errorLogMax - 1,
		KAS: o.KAS, SQES: 0x66, CQES: 0x44, MAXCMD: uint16(min(o.MaxQueueDepth, 65535)),
		SUBNQN: sub.o.NQN, WCTEMP: temperatureOver, CCTEMP: 0x175,
	}
	o.identify(&c)
	if k.discovery() {
		c.CNTRLTYPE, c.OAES = ControllerDiscovery, OAESDiscovery
		c.SQES, c.CQES, c.IOCCSZ, c.IORCSZ = 0, 0, 0, 0
		// Base Specification 2.0, "Discovery Subsystem": hosts connect by the well-known name, and learn the unique one here.
		c.SUBNQN = k.share.pg.target.discoveryNQN
		return c
	}
	c.CRDT = k.share.pg.discovery.crdt
	c.CMIC = CMICPorts | CMICControllers
	c.OAES = OAESNamespaces
	c.NN, c.MNAN = sub.o.MaxNamespaces, sub.o.MaxNamespaces
	c.ONCS = ONCSCompare | ONCSDSM | ONCSWriteZeroes | ONCSVerify | ONCSReservations | ONCSCopy | ONCSTimestamp | ONCSSave
	c.OCFS = OCFSFormat0
	c.FUSES, c.ACWU = FUSESCompareAndWrite, uint16(k.acwu()-1)
	c.VWC = VWCFlushNotAll
	for i := range k.aq.ns {
		n := k.aq.ns[i].ns
		if n != nil && n.ch.Geometry().Volatile {
			c.VWC |= VWCPresent
		}
		if n != nil && n.ns.ProtectionFile != "" {
			c.NWPC = NWPCProtect | NWPCUntilPowerCycle
		}
	}
	if sub.o.ANA {
		c.CMIC |= CMICANA
		c.OAES |= OAESANA
		c.ANACAP = ANACAPOptimized | ANACAPNonOptimized | ANACAPInaccessible | ANACAPLoss | ANACAPChange
		c.ANATT, c.ANAGRPMAX, c.NANAGRPID = 10, sub.o.MaxNamespaces, sub.o.MaxNamespaces
	}
	return c
}

func (k *controller) identifyNamespace(cns CNS, n *queueNamespace) []byte {
	v := &k.share.view.namespaces[n.ns.ns.NSID-1]
	g := n.ns.ch.Geometry()
	switch cns {
	case CNSDescriptors:
		ids := NamespaceIDs{EUI64: n.ns.ns.EUI64, NGUID: n.ns.ns.NGUID, UUID: n.ns.ns.UUID, CSI: CSINVM}
		return ids.AppendTo(nil)
	case CNSIONamespace:
		return AppendIdentifyZero(nil) // no protection information, so nothing beside CNS 00h
	case CNSIndependentNamespace:
		in := IndependentNamespace{NSFEAT: nsfeat(n.ns.ch), NMIC: NMICShared, RESCAP: rescap(n.ns.ns), ANAGRPID: v.group, NSTAT: NSTATReady, NSATTR: nsattr(n)}
		return in.AppendTo(nil)
	}
	id := IdentifyNamespace{
		NSZE: g.Blocks, NCAP: g.Blocks, NUSE: g.Blocks, NSFEAT: nsfeat(n.ns.ch), NMIC: NMICShared, ANAGRPID: v.group, NSATTR: nsattr(n),
		RESCAP: rescap(n.ns.ns), NGUID: n.ns.ns.NGUID, EUI64: n.ns.ns.EUI64,
	}
	if g.UnmapZeroes {
		id.DLFEAT = DLFEATZeros | DLFEATDEAC
	}
	if s := n.ana.Status(); !s.OK() {
		id.NUSE = 0
	}
	id.NAWUN, id.NAWUPF = uint16(g.AtomicBlocks-1), uint16(g.AtomicBlocks-1)
	id.NACWU = uint16(k.limits.fusedBlocks(g) - 1)
	if o := g.OptimalBlocks; o&(o-1) == 0 && o <= 0xFFFF {
		id.NOIOB = uint16(o)
	}
	if n.ns.ch.Supports(bdev.Copy) {
		id.MSSRL, id.MCL, id.MSRC = uint16(copySource(g)), uint32(uint64(copyBytesMax)>>g.Shift()), copySources-1
	}
	per := uint16(max(1, g.PhysicalBlockSize/g.BlockSize) - 1)
	id.NPWG, id.NPWA, id.NPDG, id.NPDA, id.NOWS = per, per, per, per, per
	id.LBAF[0].LBADS = uint8(g.Shift())
	return id.AppendTo(nil)
}

func rescap(n *Namespace) uint8 {
	if n.book.Keeps() {
		return RESCAPTypes | RESCAPIgnoreKeys | RESCAPPTPL
	}
	return RESCAPTypes | RESCAPIgnoreKeys
}

func nsfeat(c *bdev.Channel) uint8 {
	f := NSFEATAtomic | NSFEATOptimal
	if c.Supports(bdev.Unmap) {
		f |= NSFEATThin
	}
	return f
}

func nsattr(n *queueNamespace) uint8 {
	if n.protected || n.ns.ch.Geometry().ReadOnly {
		return NSATTRProtected
	}
	return 0
}
