package nvmf

import (
	"context"
	"encoding/binary"

	"github.com/pollux-storage/pollux/reactor"
)

// This file is the features of a controller. Base Specification 2.0, "Set Features command, Feature Identifiers".

// features are the values that a host may set.
type features struct {
	queues       uint32 // 07h as granted; 0 before it was asked for
	temperature  uint32
	errorRetry   uint32
	clock        hostClock
	hostBehavior [512]byte
}

// hostClock is feature 0Eh, a clock that goes on from what the host set it to, or from 0 at the reset. Base Specification 2.0,
// "Timestamp": milliseconds 47:00, origin 51:49.
type hostClock struct {
	at     reactor.Ticks // when it was set
	millis uint64        // to what
	origin byte          // 0: by the reset, 1: by Set Features
}

const timestampBytes = 8

func (h *hostClock) set(b []byte, now reactor.Ticks) {
	*h = hostClock{at: now, millis: binary.LittleEndian.Uint64(b) & (1<<48 - 1), origin: 1}
}

func (h *hostClock) page(now reactor.Ticks) (b [timestampBytes]byte) {
	ms := h.millis + uint64((now-h.at)/reactor.Millisecond)
	binary.LittleEndian.PutUint64(b[:], ms&(1<<48-1))
	b[6] = h.origin << 1
	return b
}

func (k *controller) getFeature(c *command) {
	fid := c.sqe.FID()
	if k.discovery() && fid != FIDEvents && fid != FIDKeepAlive {
		k.aq.respond(c, StatusInvalidField|DNR)
		return
	}
	if fid == FIDReservationMask || fid == FIDReservationPTPL {
		k.getReservationFeature(c, fid)
		return
	}
	v, changeable, ok := k.feature(fid)
	if !ok {
		k.aq.respond(c, StatusInvalidField|DNR)
		return
	}
	switch c.sqe.SEL() {
	case SELCurrent, SELDefault, SELSaved:
		c.dw0 = v
	case SELSupported:
		if changeable {
			c.dw0 = FeatureChangeable
		}
		k.aq.respond(c, StatusSuccess)
		return
	default:
		k.aq.respond(c, StatusInvalidField|DNR)
		return
	}
	switch fid {
	case FIDTimestamp:
		page := k.f.clock.page(k.share.pg.r.Now())
		k.aq.give(c, page[:], uint32(len(page)))
	case FIDHostBehavior:
		k.aq.give(c, k.f.hostBehavior[:], uint32(len(k.f.hostBehavior)))
	case FIDHostID:
		// "Host Identifier": over fabrics it is 128 bits and EXHID says so.
		if c.sqe.CDW(11)&1 == 0 {
			k.aq.respond(c, StatusInvalidField|DNR)
			return
		}
		k.aq.give(c, k.host.id[:], uint32(len(k.host.id)))
	default:
		k.aq.respond(c, StatusSuccess)
	}
}

// feature gives a feature's value in DW0, and whether Set Features may change it.
func (k *controller) feature(fid FID) (v uint32, changeable, ok bool) {
	switch fid {
	case FIDArbitration:
		return 6, false, true
	case FIDPower:
		return 0, true, true
	case FIDTemperature:
		return k.f.temperature, true, true
	case FIDErrorRecovery:
		return k.f.errorRetry, true, true
	case FIDVolatileCache:
		if k.identifyController().VWC&VWCPresent == 0 {
			return 0, false, false
		}
		return 1, false, true
	case FIDQueues:
		return k.f.queues, true, true
	case FIDAtomicity:
		return 0, true, true
	case FIDEvents:
		return k.events.config, true, true
	case FIDTimestamp, FIDHostBehavior:
		return 0, true, true
	case FIDKeepAlive:
		return uint32(k.kato / 1e6), true, true
	case FIDHostID:
		return 0, false, true
	}
	return 0, false, false
}

func (k *controller) setFeature(c *command) {
	fid, v := c.sqe.FID(), c.sqe.CDW(11)
	if !k.discovery() && !c.sqe.SV() && (fid == FIDReservationMask || fid == FIDReservationPTPL) {
		k.setReservationFeature(c, fid, v)
		return
	}
	s := StatusSuccess
	switch {
	case c.sqe.SV():
		s = StatusFeatureNotSaveable | DNR
	case k.discovery() && fid != FIDEvents && fid != FIDKeepAlive:
		s = StatusInvalidField | DNR
	default:
		s = k.change(c, fid, v)
	}
	k.aq.respond(c, s)
}

func (k *controller) change(c *command, fid FID, v uint32) Status {
	if id := c.sqe.NSID(); id != 0 && id != NSIDAll {
		return StatusFeatureNotNamespace | DNR
	}
	switch fid {
	case FIDPower:
		if v&0x1F != 0 { // there is power state 0 alone
			return StatusInvalidField | DNR
		}
	case FIDTemperature:
		k.f.temperature = v
	case FIDErrorRecovery:
		if v&(1<<16) != 0 { // DULBE: deallocated blocks read as zeros here, never as an error
			return StatusInvalidField | DNR
		}
		k.f.errorRetry = v
	case FIDQueues:
		// "Number of Queues": 0-based halves, and never after a queue was made.
		if v&0xFFFF == 0xFFFF || v>>16 == 0xFFFF {
			return StatusInvalidField | DNR
		}
		if len(k.queues) > 0 {
			return StatusSequence | DNR
		}
		n := min(k.queuesMax()-1, v&0xFFFF, v>>16)
		k.f.queues = n<<16 | n
		c.dw0 = k.f.queues
	case FIDAtomicity:
		if v&1 != 0 {
			return StatusInvalidField | DNR
		}
	case FIDEvents:
		if v&^(0xFF|k.identifyController().OAES) != 0 {
			return StatusInvalidField | DNR
		}
		k.events.config = v
		k.events.tell(k)
	case FIDTimestamp:
		if len(c.data) < timestampBytes {
			return StatusSGLLength | DNR
		}
		k.f.clock.set(c.data, k.share.pg.r.Now())
	case FIDKeepAlive:
		if v == 0 {
			return StatusKeepAliveInvalid | DNR
		}
		k.setKATO(v)
	case FIDHostBehavior:
		if len(c.data) < len(k.f.hostBehavior) {
			return StatusSGLLength | DNR
		}
		copy(k.f.hostBehavior[:], c.data)
	case FIDHostID:
		return StatusSequence | DNR // over fabrics it is set by Connect
	case FIDVolatileCache:
		if _, _, ok := k.feature(fid); ok {
			if v&1 == 0 {
				return StatusFeatureNotChangeable | DNR
			}
			return StatusSuccess
		}
		return StatusInvalidField | DNR
	case FIDArbitration:
		return StatusFeatureNotChangeable | DNR
	default:
		return StatusInvalidField | DNR
	}
	return StatusSuccess
}

// getReservationFeature answers features 82h and 83h, which belong to a namespace.
func (k *controller) getReservationFeature(c *command, fid FID) {
	id := c.sqe.NSID()
	n := k.namespace(id)
	switch {
	case n == nil:
		k.aq.respond(c, StatusInvalidNamespace|DNR)
		return
	case c.sqe.SEL() == SELSupported:
		c.dw0 = FeatureChangeable | FeatureNamespace
	case !n.ana.Status().OK():
		k.aq.respond(c, n.ana.Status())
		return
	case fid == FIDReservationMask:
		c.dw0 = k.notices.mask[id]
	case k.share.view.namespaces[id-1].reservations.PTPL:
		c.dw0 = 1
	}
	k.aq.respond(c, StatusSuccess)
}

func (k *controller) setReservationFeature(c *command, fid FID, v uint32) {
	id := c.sqe.NSID()
	if fid == FIDReservationMask {
		if k.notices.mask == nil {
			k.notices.mask = map[NSID]uint32{}
		}
		// "Reservation Notification Mask": FFFFFFFFh is every namespace that the controller has.
		for i := range k.aq.ns {
			if k.aq.ns[i].ns != nil && (id == NSIDAll || id == NSID(i+1)) {
				k.notices.mask[NSID(i+1)] = v & ReservationMaskAll
			}
		}
		if id != NSIDAll && k.namespace(id) == nil {
			k.aq.respond(c, StatusInvalidNamespace|DNR)
			return
		}
		k.aq.respond(c, StatusSuccess)
		return
	}
	n := k.namespace(id)
	switch {
	case n == nil:
		k.aq.respond(c, StatusInvalidNamespace|DNR)
		return
	case !n.ana.Status().OK():
		k.aq.respond(c, n.ana.Status())
		return
	}
	q, t, s := k.aq, k.share.pg.target, k.share.sub
	go func() {
		status := t.setPTPL(context.Background(), s, id, v&1 != 0)
		_ = q.r.Go(func() {
			if q.state >= queueClosing {
				q.release(c)
				return
			}
			q.respond(c, status)
		})
	}()
}
