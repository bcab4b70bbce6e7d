package nvmf

import (
	"cmp"
	"slices"

	"github.com/pollux-storage/pollux/bdev"
	"github.com/pollux-storage/pollux/reactor"
)

// This file is the log pages of a controller.

func (k *controller) logPage(c *command) {
	p := c.sqe.LogPage()
	if p.Bytes > uint64(k.limitBytes()) {
		k.aq.respond(c, StatusInvalidField|DNR)
		return
	}
	if p.LID == LIDHealth && !k.discovery() {
		k.healthPage(c, p)
		return
	}
	page, s := k.page(p)
	k.givePage(c, p, page, s)
}

// givePage answers with the part of a page that was asked for.
func (k *controller) givePage(c *command, p LogPage, page []byte, s Status) {
	if s.OK() {
		page, s = p.Window(page)
	}
	if !s.OK() {
		k.aq.respond(c, s)
		return
	}
	if len(page) == 0 {
		page = []byte{0}
	}
	// What a read clears is cleared when it has been given, and only then: it may have to wait for memory and be built again.
	if !k.aq.give(c, page, uint32(p.Bytes)) {
		return
	}
	if !p.RAE {
		k.pageRead(p.LID)
	}
	if p.LID == LIDDiscovery {
		k.discoveryGiven(p)
	}
}

// pageRead clears what reading a page clears, and unmasks its event.
func (k *controller) pageRead(l LID) {
	switch l {
	case LIDChanged:
		k.events.changed, k.events.over = k.events.changed[:0], false
		k.events.read(k, eventNamespaces)
	case LIDANA:
		k.events.read(k, eventANA)
	case LIDDiscovery:
		k.events.read(k, eventDiscovery)
	case LIDReservation:
		k.notices.list = k.notices.list[min(1, len(k.notices.list)):]
		k.events.read(k, eventReservation)
	}
}

// pagesIO and pagesDiscovery are the pages that a controller has, by its type.
var (
	pagesIO        = []LID{LIDSupported, LIDError, LIDHealth, LIDFirmware, LIDChanged, LIDEffects, LIDANA, LIDFeatures, LIDReservation}
	pagesDiscovery = []LID{LIDSupported, LIDError, LIDEffects, LIDFeatures, LIDDiscovery}
)

// page builds a log page whole.
func (k *controller) page(p LogPage) ([]byte, Status) {
	has := pagesIO
	if k.discovery() {
		has = pagesDiscovery
	}
	if !k.share.sub.o.ANA {
		has = slices.DeleteFunc(slices.Clone(has), func(l LID) bool { return l == LIDANA })
	}
	if !slices.Contains(has, p.LID) {
		return nil, StatusInvalidLogPage | DNR
	}
	switch p.LID {
	case LIDSupported:
		return AppendSupportedPages(nil, has), StatusSuccess
	case LIDError:
		return k.errors.page(), StatusSuccess
	case LIDFirmware:
		return AppendFirmware(nil, firmware), StatusSuccess
	case LIDChanged:
		ids := k.events.changed
		if k.events.over {
			ids = make([]NSID, ChangedMax+1)
		}
		return AppendChanged(nil, ids), StatusSuccess
	case LIDEffects:
		if k.discovery() {
			return AppendEffects(nil, slices.DeleteFunc(slices.Clone(adminEffects), func(e AdminEffects) bool { return !discoveryCommand(e.Opcode) }), nil), StatusSuccess
		}
		return AppendEffects(nil, adminEffects, ioEffects), StatusSuccess
	case LIDANA:
		return k.anaPage(p.LSP&LSPANAGroupsOnly != 0), StatusSuccess
	case LIDFeatures:
		return AppendFeatures(nil, k.featureEffects()), StatusSuccess
	case LIDReservation:
		return k.reservationPage(), StatusSuccess
	case LIDDiscovery:
		return k.readDiscovery(p)
	}
	return nil, StatusInvalidLogPage | DNR
}

func (l *errorLog) page() []byte {
	var b []byte
	for i := uint64(0); i < errorLogMax; i++ {
		var e ErrorEntry
		if i < l.count {
			e = l.entries[(l.count-i)%errorLogMax]
		}
		b = e.AppendTo(b)
	}
	return b
}

// healthPage sums what the devices of the namespaces that the host sees did, on all reactors. Each has counters of its own, so
// a control goroutine goes round.
func (k *controller) healthPage(c *command, p LogPage) {
	t, sub, q := k.share.pg.target, k.share.sub, k.aq
	ids := k.active(0)
	h := Health{Kelvins: 300, SparePercent: 100, SpareThreshold: 10, ErrorEntries: k.errors.count}
	go func() {
		var read, written uint64
		_ = t.group.Each(func(r *reactor.Reactor) {
			share := t.groups[r.Index()].shares[sub]
			for _, id := range ids {
				if share != nil && int(id) <= len(share.ns) && share.ns[id-1] != nil {
					h.count(share.ns[id-1].ch, &read, &written)
				}
			}
		})
		h.UnitsRead, h.UnitsWritten = HealthUnits(read), HealthUnits(written)
		_ = q.r.Go(func() {
			if q.state >= queueClosing {
				q.release(c)
				return
			}
			k.givePage(c, p, h.AppendTo(nil), StatusSuccess)
		})
	}()
}

// count adds what a device did on one reactor.
func (h *Health) count(c *bdev.Channel, read, written *uint64) {
	s := c.Stats()
	*read += s.Kinds[bdev.Read].Bytes
	*written += s.Kinds[bdev.Write].Bytes
	h.ReadCommands += s.Kinds[bdev.Read].Ops
	h.WriteCommands += s.Kinds[bdev.Write].Ops
	h.MediaErrors += s.Errors[bdev.StatusIO] + s.Errors[bdev.StatusCorrupt]
	if c.Geometry().ReadOnly {
		h.Warning |= WarningReadOnly
	}
}

// anaPage lists the groups that have namespaces the host sees, with their states on the listener by which it came.
func (k *controller) anaPage(groupsOnly bool) []byte {
	v := k.share.view
	l := v.listenerOn(k.aq.port)
	// Namespaces lie in the order of their NSIDs, and have to in each group; groups in that of theirs.
	at := map[uint32]int{}
	var groups []ANAGroup
	for i := range v.namespaces {
		n := &v.namespaces[i]
		if !n.visible(k.host.nqn) {
			continue
		}
		g, ok := at[n.group]
		if !ok {
			g = len(groups)
			at[n.group] = g
			groups = append(groups, ANAGroup{ID: n.group, CHGCNT: v.changes, State: l.state(n.group)})
		}
		groups[g].NSIDs = append(groups[g].NSIDs, n.ns.NSID)
	}
	slices.SortFunc(groups, func(a, b ANAGroup) int { return cmp.Compare(a.ID, b.ID) })
	return AppendANALog(nil, v.changes, groups, groupsOnly)
}

var adminEffects = []AdminEffects{
	{AdminGetLogPage, EffectsSupported}, {AdminIdentify, EffectsSupported}, {AdminAbort, EffectsSupported},
	{AdminSetFeatures, EffectsSupported | EffectsNamespace}, {AdminGetFeatures, EffectsSupported}, {AdminAER, EffectsSupported},
	{AdminKeepAlive, EffectsSupported},
}

var ioEffects = []IOEffects{
	{IOFlush, EffectsSupported | EffectsContent}, {IOWrite, EffectsSupported | EffectsContent}, {IORead, EffectsSupported},
	{IOCompare, EffectsSupported}, {IOWriteZeroes, EffectsSupported | EffectsContent},
	{IODatasetManagement, EffectsSupported | EffectsContent}, {IOVerify, EffectsSupported},
	{IOCopy, EffectsSupported | EffectsContent},
	{IOReservationRegister, EffectsSupported}, {IOReservationReport, EffectsSupported}, {IOReservationAcquire, EffectsSupported},
	{IOReservationRelease, EffectsSupported},
}
