package nvmf

// This file is the features that belong to a namespace: 05h, 82h, 83h and 84h. Base Specification 2.0, "Feature Values": NSID
// names the namespace; with FFFFFFFFh Set Features means all that the controller has, where the feature allows it.
//
// "Asymmetric Namespace Access States Command Processing Effects": where a namespace cannot be reached, 82h, 83h and the features
// of a command set, of which 05h is one, answer with the status of the path; so does any Set Features after a persistent loss.

// nsValue is the value of a feature for a namespace.
type nsValue struct {
	id NSID
	v  uint32
}

// valueOf finds a namespace's value; 0 before one was set.
func valueOf(list []nsValue, id NSID) uint32 {
	for _, x := range list {
		if x.id == id {
			return x.v
		}
	}
	return 0
}

func setValue(list []nsValue, id NSID, v uint32) []nsValue {
	for i := range list {
		if list[i].id == id {
			list[i].v = v
			return list
		}
	}
	return append(list, nsValue{id, v})
}

// getNamespaceFeature answers Get Features.
func (k *controller) getNamespaceFeature(c *command, fid FID, sel SEL) {
	id := c.sqe.NSID()
	n := k.namespace(id)
	if n == nil {
		k.aq.respond(c, StatusInvalidNamespace|DNR)
		return
	}
	if sel == SELSupported {
		c.dw0 = FeatureNamespace
		if fid != FIDWriteProtect || n.ns.ns.ProtectionFile != "" && !n.ns.ch.Geometry().ReadOnly {
			c.dw0 |= FeatureChangeable
		}
		k.aq.respond(c, StatusSuccess)
		return
	}
	if s := n.ana.Status(); !s.OK() && fid != FIDWriteProtect {
		k.aq.respond(c, s)
		return
	}
	v := &k.share.view.namespaces[id-1]
	if sel == SELCurrent {
		switch {
		case fid == FIDErrorRecovery:
			c.dw0 = valueOf(k.f.errorRetry, id)
		case fid == FIDReservationMask:
			c.dw0 = valueOf(k.notices.mask, id)
		case fid == FIDReservationPTPL && v.reservations.PTPL:
			c.dw0 = 1
		case fid == FIDWriteProtect:
			c.dw0 = uint32(v.protection)
			if n.ns.ch.Geometry().ReadOnly {
				c.dw0 = uint32(WriteProtect)
			}
		}
	}
	k.aq.respond(c, StatusSuccess)
}

// setNamespaceFeature serves Set Features.
func (k *controller) setNamespaceFeature(c *command, fid FID, v uint32) {
	id := c.sqe.NSID()
	var to []NSID
	switch {
	case id == NSIDAll && (fid == FIDErrorRecovery || fid == FIDReservationMask):
		to = k.active(0)
	case k.namespace(id) == nil:
		k.aq.respond(c, StatusInvalidNamespace|DNR)
		return
	default:
		to = []NSID{id}
	}
	for _, id := range to {
		s := k.namespace(id).ana.Status()
		if !s.OK() && (fid != FIDWriteProtect || s == StatusANAPersistentLoss) {
			k.aq.respond(c, s)
			return
		}
	}
	t, s := k.share.pg.target, k.share.sub
	switch fid {
	case FIDErrorRecovery:
		if v&(1<<16) != 0 { // DULBE: deallocated blocks read as zeros here, never as an error
			k.aq.respond(c, StatusInvalidField|DNR)
			return
		}
		for _, id := range to {
			k.f.errorRetry = setValue(k.f.errorRetry, id, v&0xFFFF)
		}
		k.aq.respond(c, StatusSuccess)
	case FIDReservationMask:
		for _, id := range to {
			k.notices.mask = setValue(k.notices.mask, id, v&ReservationMaskAll)
		}
		k.aq.respond(c, StatusSuccess)
	case FIDReservationPTPL:
		k.control(c, func() Status { return t.setPTPL(s, id, v&1 != 0) })
	case FIDWriteProtect:
		if v&7 > uint32(WriteProtectPermanent) {
			k.aq.respond(c, StatusInvalidField|DNR)
			return
		}
		k.control(c, func() Status { return t.protect(s, id, WriteProtection(v&7)) })
	}
}

// control does control work for a command on a goroutine of its own, and answers the command with what came of it.
func (k *controller) control(c *command, f func() Status) {
	q := k.aq
	go func() {
		status := f()
		_ = q.r.Go(func() {
			if q.state >= queueClosing {
				q.release(c)
				return
			}
			q.respond(c, status)
		})
	}()
}
