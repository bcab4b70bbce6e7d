package nvmf

import (
	"encoding/binary"

	"github.com/pollux-storage/pollux/reactor"
)

// This file is the features of a controller. Base Specification 2.0, "Set Features command, Feature Identifiers". None can be
// saved, and none of a controller outlives its reset ("Current Setting Persists Across Power Cycle and Reset": no, for each of
// them); what belongs to a namespace is in namespacefeatures.go.

// features are the values that a host may set, and that a reset of the controller takes back.
type features struct {
	queues       uint32    // 07h as granted; 0 before it was asked for
	over, under  uint16    // 04h, thresholds of the composite temperature in kelvins
	errorRetry   []nsValue // 05h
	clock        hostClock
	hostBehavior [512]byte
}

// temperatureOver is the threshold before a host set one: what Identify says in WCTEMP. "Temperature Threshold".
const temperatureOver = 0x157

func newFeatures(now reactor.Ticks) features {
	return features{over: temperatureOver, clock: hostClock{at: now}}
}

// featureRule says what a feature is.
type featureRule struct {
	known      bool
	changeable bool
	namespace  bool // it belongs to a namespace, which NSID names
	discovery  bool // a discovery controller has it too
}

var featureRules = [256]featureRule{
	FIDArbitration:     {known: true},
	FIDPower:           {known: true, changeable: true},
	FIDTemperature:     {known: true, changeable: true},
	FIDErrorRecovery:   {known: true, changeable: true, namespace: true},
	FIDVolatileCache:   {known: true},
	FIDQueues:          {known: true, changeable: true},
	FIDAtomicity:       {known: true, changeable: true},
	FIDEvents:          {known: true, changeable: true, discovery: true},
	FIDTimestamp:       {known: true, changeable: true},
	FIDKeepAlive:       {known: true, changeable: true, discovery: true},
	FIDHostBehavior:    {known: true, changeable: true},
	FIDHostID:          {known: true},
	FIDReservationMask: {known: true, changeable: true, namespace: true},
	FIDReservationPTPL: {known: true, changeable: true, namespace: true},
	FIDWriteProtect:    {known: true, changeable: true, namespace: true},
}

// feature gives the rule of a feature; one that this controller does not have is not known.
func (k *controller) feature(fid FID) featureRule {
	r := featureRules[fid]
	if k.discovery() && !r.discovery || fid == FIDVolatileCache && k.identifyController().VWC&VWCPresent == 0 {
		return featureRule{}
	}
	return r
}

// featureEffects is log page 12h.
func (k *controller) featureEffects() []FeatureEffects {
	var out []FeatureEffects
	for i := range featureRules {
		fid := FID(i)
		r := k.feature(fid)
		if !r.known {
			continue
		}
		e := EffectsSupported | ScopeController
		if r.namespace {
			e = EffectsSupported | ScopeNamespace
		}
		if fid == FIDWriteProtect {
			e |= EffectsNamespace // NSATTR
		}
		out = append(out, FeatureEffects{fid, e})
	}
	return out
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
	fid, sel := c.sqe.FID(), c.sqe.SEL()
	rule := k.feature(fid)
	switch {
	case !rule.known, sel > SELSupported:
		k.aq.respond(c, StatusInvalidField|DNR)
	case rule.namespace:
		k.getNamespaceFeature(c, fid, sel)
	case sel == SELSupported:
		if rule.changeable {
			c.dw0 = FeatureChangeable
		}
		k.aq.respond(c, StatusSuccess)
	default:
		// "Get Features command", Select: what cannot be saved has its default as its saved value.
		k.giveFeature(c, fid, sel != SELCurrent)
	}
}

// giveFeature answers with the value of a feature of the controller, the current one or the default.
func (k *controller) giveFeature(c *command, fid FID, original bool) {
	f := &k.f
	if original {
		n := newFeatures(k.share.pg.r.Now())
		f = &n
	}
	switch fid {
	case FIDArbitration:
		c.dw0 = 6
	case FIDTemperature:
		v, ok := f.threshold(c.sqe.CDW(11), false)
		if !ok {
			k.aq.respond(c, StatusInvalidField|DNR)
			return
		}
		c.dw0 = uint32(*v)
	case FIDVolatileCache:
		c.dw0 = 1
	case FIDQueues:
		if c.dw0 = f.queues; c.dw0 == 0 {
			n := k.queuesMax()
			c.dw0 = Queues{n, n}.Encode()
		}
	case FIDEvents:
		if !original {
			c.dw0 = k.events.config
		}
	case FIDKeepAlive:
		c.dw0 = uint32(k.kato / reactor.Millisecond)
		if original {
			c.dw0 = uint32(k.connected / reactor.Millisecond)
		}
	case FIDTimestamp:
		page := f.clock.page(k.share.pg.r.Now())
		k.aq.give(c, page[:], uint32(len(page)))
		return
	case FIDHostBehavior:
		k.aq.give(c, f.hostBehavior[:], uint32(len(f.hostBehavior)))
		return
	case FIDHostID:
		// "Host Identifier": over fabrics it is 128 bits and EXHID says so.
		if c.sqe.CDW(11)&1 == 0 {
			k.aq.respond(c, StatusInvalidField|DNR)
			return
		}
		k.aq.give(c, k.host.id[:], uint32(len(k.host.id)))
		return
	}
	k.aq.respond(c, StatusSuccess)
}

// threshold finds what CDW11 of feature 04h names: TMPSEL 19:16, of which there is the composite temperature, 0, and THSEL
// 21:20, over or under. TMPSEL Fh, all of them, is for Set Features alone.
func (f *features) threshold(v uint32, set bool) (*uint16, bool) {
	if sensor := v >> 16 & 0xF; sensor != 0 && (sensor != 0xF || !set) {
		return nil, false
	}
	switch v >> 20 & 3 {
	case 0:
		return &f.over, true
	case 1:
		return &f.under, true
	}
	return nil, false
}

func (k *controller) setFeature(c *command) {
	fid, id := c.sqe.FID(), c.sqe.NSID()
	rule := k.feature(fid)
	s := StatusSuccess
	switch {
	case !rule.known:
		s = StatusInvalidField | DNR
	case c.sqe.SV():
		s = StatusFeatureNotSaveable | DNR
	case rule.namespace:
		k.setNamespaceFeature(c, fid, c.sqe.CDW(11))
		return
	case id != 0 && id != NSIDAll && uint32(id) > k.share.sub.o.MaxNamespaces:
		s = StatusInvalidNamespace | DNR
	case id != 0 && id != NSIDAll:
		s = StatusFeatureNotNamespace | DNR
	default:
		s = k.change(c, fid, c.sqe.CDW(11))
	}
	k.aq.respond(c, s)
}

func (k *controller) change(c *command, fid FID, v uint32) Status {
	switch fid {
	case FIDPower:
		if v&0x1F != 0 { // there is power state 0 alone
			return StatusInvalidField | DNR
		}
	case FIDTemperature:
		at, ok := k.f.threshold(v, true)
		if !ok {
			return StatusInvalidField | DNR
		}
		*at = uint16(v)
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
		if v&1 == 0 {
			return StatusFeatureNotChangeable | DNR
		}
	default:
		return StatusFeatureNotChangeable | DNR
	}
	return StatusSuccess
}
