package volume

import (
	"github.com/pollux-storage/pollux/bdev"
	"github.com/pollux-storage/pollux/internal/invariant"
	"github.com/pollux-storage/pollux/reactor"
)

// This file is a volume as a device: requests come in on any reactor and are served on the volume's own, to which those of
// others travel in a message.
//
//	Submit on the volume's reactor ────────────────────────────▶ Volume.submit … op.end ─▶ Complete
//	Submit on another ─ crossing ─▶ Receive ─▶ Volume.submit … op.end ─ crossing ─▶ Receive ─▶ Complete

// door is the queue of a volume on one reactor.
type door struct {
	v     *Volume
	tree  *mapTree // the volume's, or a snapshot's
	r     *reactor.Reactor
	spare *crossing // made as often as were ever under way at once
	away  int
}

// crossing carries a request to the volume's reactor and back.
type crossing struct {
	q      *bdev.Request
	d      *door
	next   *crossing
	status bdev.Status
	detail uint32
	back   bool
}

// Open gives the volume's queue on a reactor.
func (v *Volume) Open(r *reactor.Reactor) (bdev.Queue, error) {
	return &door{v: v, r: r, tree: v.tree}, nil
}

// Submit takes a request that was checked.
func (d *door) Submit(q *bdev.Request) {
	if d.r == d.v.r {
		d.v.submit(q, nil, d.tree)
		return
	}
	x := d.spare
	if x == nil {
		x = &crossing{d: d}
	} else {
		d.spare = x.next
	}
	x.q, x.back = q, false
	d.away++
	d.r.Send(d.v.r, x)
}

// Receive is the crossing's arrival, there and back.
func (x *crossing) Receive(*reactor.Reactor) {
	if !x.back {
		x.d.v.submit(x.q, x, x.d.tree)
		return
	}
	q, d := x.q, x.d
	x.q, x.next = nil, d.spare
	d.spare = x
	d.away--
	q.Detail = x.detail
	q.Complete(x.status)
}

// Close is called when nothing is in flight.
func (d *door) Close() {
	invariant.Check(d.away == 0, "volume: a queue closed with requests under way")
}

// Describe gives what is particular to a volume.
func (v *Volume) Describe() any { return nil }
