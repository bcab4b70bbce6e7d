package volume

import (
	"github.com/pollux-storage/pollux/bdev"
	"github.com/pollux-storage/pollux/internal/invariant"
	"github.com/pollux-storage/pollux/wal"
)

// This file is a change: a write, zeroes or a trim. It is cut into segments, each of which becomes one record:
//
//	a write of part of a cluster  → its blocks go into the log with the record
//	a write of whole clusters     → 1. the blocks go to new places  2. the record names them, when they are there
//	zeroes, trim                  → a record without payload
//
// For each segment: everything that it will need is reserved (room.go), or the op waits at the door → Append gives the LSN → the log
// has written it (EntryWritten) → it enters the dirty map, and is read from then on → with the last one the op waits for the flush.

// segment is one record of an op.
type segment struct {
	e      wal.Entry
	v      *Volume
	op     *op
	next   *segment
	need   need
	parts  int         // of a placed write: transfers under way, and one while they are issued
	status bdev.Status // of them
	places []Place     // for each of its clusters
	crcs   []uint32    // of its blocks; of a logged write those of the payload are in e.CRCs
	page   []byte      // payload of a placed write
	bounce *bounce     // with part of the payload of an odd one
}

// Limits of a segment.
const (
	placedClustersMax = 16 // 1 MiB of the smallest clusters
	trimClustersMax   = 64
)

// change issues what it can of an op.
func (v *Volume) change(o *op) {
	for o.at < o.end && o.status == bdev.StatusOK {
		if !v.changeNext(o) {
			return
		}
	}
	v.passedDoor(o)
	o.issued()
}

// changeNext issues the next segment of an op. It reports false if the op has to wait.
func (v *Volume) changeNext(o *op) bool {
	blocks, kind := v.nextRecord(o)
	s := v.segments
	if s == nil {
		v.segmentWaiters.push(o)
		return false
	}
	if o.odd && v.lacks(o, blocks, kind) {
		return false
	}
	s.need = v.needs(kind, o.at, blocks)
	short := o.short
	if kind == wal.KindWrite && (v.thick.on && !v.fromFloor(o, blocks, &s.need) || short && !v.thick.on && !v.ownPlaces(o, blocks, &s.need)) {
		return false
	}
	if !v.reserve(o, &s.need) {
		return o.status != bdev.StatusOK || o.short != short
	}
	v.segments = s.next
	s.next, s.op, s.status = nil, o, bdev.StatusOK
	s.e.Kind, s.e.Flags, s.e.Place, s.e.Block, s.e.Blocks = kind, 0, 0, o.at, blocks
	s.e.Payload, s.e.Awaited = s.e.Payload[:0], v.awaits(o.q)
	o.out++
	switch kind {
	case wal.KindPlaced:
		v.place(o, s)
	case wal.KindWrite:
		if o.odd {
			v.gather(o, s, blocks)
			v.log.Append(&s.e)
			break
		}
		s.e.Payload = slice(s.e.Payload, o.q.Data, o.memory(), int(blocks)*PageBytes)
		fallthrough
	default:
		s.clears(1)
		v.log.Append(&s.e)
	}
	o.at += blocks
	return true
}

// nextRecord says how many blocks the next record of an op has, and what it is.
func (v *Volume) nextRecord(o *op) (blocks uint64, kind wal.Kind) {
	if o.odd {
		return v.cutOdd(o)
	}
	blocks, placed := v.cut(o)
	return blocks, recordKind(o.q.Kind, placed)
}

// recordKind is what a change becomes in the log.
func recordKind(k bdev.Kind, placed bool) wal.Kind {
	switch {
	case placed:
		return wal.KindPlaced
	case k == bdev.Write:
		return wal.KindWrite
	case k == bdev.Unmap:
		return wal.KindTrim
	}
	return wal.KindZeroes
}

// cut says how many blocks the next segment has, and whether they are whole clusters that are placed.
func (v *Volume) cut(o *op) (blocks uint64, placed bool) {
	per := uint64(v.shape.Blocks())
	left := o.end - o.at
	toBoundary := -o.at & (per - 1)
	if o.q.Kind != bdev.Write {
		return min(left, toBoundary+trimClustersMax*per), false
	}
	if o.short || v.thick.full && len(v.places) == 0 {
		return min(left, wal.RecordPagesMax), false
	}
	if left >= toBoundary+per && (left-toBoundary)&^(per-1) >= v.placedFrom {
		if toBoundary == 0 {
			return min(left/per, placedClustersMax) * per, true
		}
		left = toBoundary // and whole clusters behind it
	}
	return min(left, wal.RecordPagesMax), false
}

// place writes whole clusters to new places.
func (v *Volume) place(o *op, s *segment) {
	per := v.shape.Blocks()
	n := int(s.e.Blocks) / per
	s.places = v.takePlaces(s.places[:0], n)
	s.crcs = s.crcs[:0]
	s.parts = 1
	at := o.memory()
	for i := 0; i < n; {
		k := 1 // clusters whose places follow each other
		for i+k < n && s.places[i+k] == s.places[i]+Place(k*per) {
			k++
		}
		p := v.newPart()
		p.vec = slice(p.vec, o.q.Data, at, k*per*PageBytes)
		for _, b := range p.vec {
			for ; len(b) > 0; b = b[PageBytes:] {
				s.crcs = append(s.crcs, wal.PageCRC(b[:PageBytes]))
			}
		}
		p.n, p.done = k*per, s
		s.parts++
		v.transfer(p, v.data, bdev.Write, s.places[i].Byte())
		at += k * per * PageBytes
		i += k
	}
	s.partDone(bdev.StatusOK)
}

// partEnd takes the end of a transfer of a placed write.
func (s *segment) partEnd(p *part, st bdev.Status) {
	s.v.givePart(p)
	s.partDone(st)
}

func (s *segment) partDone(st bdev.Status) {
	if s.status == bdev.StatusOK {
		s.status = st
	}
	if s.parts--; s.parts > 0 {
		return
	}
	v := s.v
	if s.status != bdev.StatusOK {
		v.givePlaces(s.places)
		v.unreserve(&s.need)
		v.endSegment(s, s.status)
		return
	}
	s.e.Payload = append(s.e.Payload[:0], placedPayload(s.page, s.places, s.crcs, v.shape.Blocks()))
	s.op.placed = v.r.Now()
	if len(s.places) == 1 {
		s.e.Place = uint64(s.places[0])
	}
	v.log.Append(&s.e)
}

// placedPayload puts the list of a placed record into a page: for each cluster its place and the CRCs of its blocks.
func placedPayload(page []byte, places []Place, crcs []uint32, per int) []byte {
	at := 0
	for i, p := range places {
		le.PutUint64(page[at:], uint64(p))
		at += 8
		for _, c := range crcs[i*per : (i+1)*per] {
			le.PutUint32(page[at:], c)
			at += 4
		}
	}
	clear(page[at:])
	return page
}

// placedBytes is what such a list has of each cluster.
func placedBytes(per int) int { return 8 + 4*per }

// placedPlaceAt reads the place of the i-th cluster of such a list.
func placedPlaceAt(payload []byte, i, per int) Place {
	return Place(le.Uint64(payload[i*placedBytes(per):]))
}

// placedAt reads the i-th cluster of such a list.
func placedAt(payload []byte, i, per int, crcs []uint32) Place {
	at := i * placedBytes(per)
	for k := range per {
		crcs[k] = le.Uint32(payload[at+8+4*k:])
	}
	return placedPlaceAt(payload, i, per)
}

// EntryWritten takes a record that is in the log: from now on it is what is read.
func (s *segment) EntryWritten(e *wal.Entry, st bdev.Status) {
	v := s.v
	s.clears(-1)
	if st == bdev.StatusOK {
		v.dirty.unreserve(s.need.dirty)
		v.insert(&e.Record, e.CRCs, s.page, s.crcs)
		v.credit(&e.Record, &s.need)
		v.due()
		invariant.Check(e.LSN > s.op.last, "volume: an op's records out of order")
		s.op.last = e.LSN
		s.op.given, s.op.written = v.log.Sent(), v.r.Now()
		if uint64(v.log.Head()-v.flusher.home.Offset) > v.log.Size()/passParts {
			v.hurry()
		}
	} else {
		// The places of a placed record are not given back: it may stand in the log, and whoever gets them would make it a lie. They
		// are free when the pool is opened again.
		if v.failed == bdev.StatusOK {
			v.failed = bdev.StatusReadOnly
		}
		v.dirty.unreserve(s.need.dirty)
		v.have = v.have.plus(s.need.credits)
	}
	v.endSegment(s, st)
}

// insert puts a record into the dirty map. payload and crcs are a placed record's; scratch is memory for the CRCs of a cluster.
func (v *Volume) insert(r *wal.Record, crcs []uint32, payload []byte, scratch []uint32) {
	per := uint64(v.shape.Blocks())
	switch r.Kind {
	case wal.KindWrite:
		for i := range r.Blocks {
			v.dirty.write(r.Block+i, r.LSN, r.Offset+wal.Offset(i)*PageBytes, crcs[i])
		}
	case wal.KindPlaced:
		for i := range r.Blocks / per {
			place := placedAt(payload, int(i), int(per), scratch[:per])
			v.dirty.place(r.Block>>v.shape.shift+i, r.LSN, place, scratch[:per])
		}
	case wal.KindTrim, wal.KindZeroes:
		end := r.Block + r.Blocks
		for b := r.Block; b < end; {
			n := v.shape.step(b, end)
			if n == per {
				v.dirty.clear(b>>v.shape.shift, r.LSN)
			} else {
				v.dirty.zero(b, r.LSN)
			}
			b += n
		}
	}
}

// endSegment gives a segment back.
func (v *Volume) endSegment(s *segment, st bdev.Status) {
	o := s.op
	s.op = nil
	clear(s.e.Payload)
	s.next = v.segments
	v.segments = s
	b := s.bounce
	s.bounce = nil
	o.ended(st)
	if b != nil {
		v.giveBounce(b)
	}
	if w := v.segmentWaiters.pop(); w != nil {
		v.change(w)
	}
}
