package bdevtest

import (
	"sync/atomic"
	"testing"

	"github.com/google/uuid"

	"github.com/pollux-storage/pollux/bdev"
	"github.com/pollux-storage/pollux/internal/patient"
	"github.com/pollux-storage/pollux/reactor"
)

// Held is a device that ends no request until the test says so and how. It has no data.
type Held struct {
	t      testing.TB
	group  *reactor.Group
	Device *bdev.Device
	queues []*heldQueue // by reactor

	Pass  bool // requests end at once; set before the device is used
	keeps atomic.Bool
}

type heldQueue struct {
	d    *Held
	list bdev.RequestList
}

// AddHeld makes one, with blocks of 4096 bytes and a volatile cache.
func AddHeld(t testing.TB, reg *bdev.Registry, name string, blocks uint64) *Held {
	t.Helper()
	h := &Held{t: t, group: reg.Group(), queues: make([]*heldQueue, reg.Group().Len())}
	var err error
	h.Device, err = reg.Register(bdev.Config{
		Name: name, Product: "Held", UUID: uuid.New(), Driver: h,
		Geometry: bdev.Geometry{
			BlockSize: 4096, Blocks: blocks, Volatile: true, UnmapZeroes: true,
			Native: bdev.SetOf(bdev.Read, bdev.Write, bdev.Flush, bdev.Unmap, bdev.WriteZeroes, bdev.Compare, bdev.CompareAndWrite, bdev.Copy),
		},
	})
	h.must(err)
	return h
}

// Open gives the queue of one reactor.
func (h *Held) Open(r *reactor.Reactor) (bdev.Queue, error) {
	q := &heldQueue{d: h}
	h.queues[r.Index()] = q
	return q, nil
}

// Describe tells nothing more.
func (h *Held) Describe() any { return nil }

// Close has nothing to release.
func (h *Held) Close() error { return nil }

func (q *heldQueue) Submit(r *bdev.Request) {
	if q.d.Pass {
		r.CompleteLater(bdev.StatusOK)
		return
	}
	q.list.Push(r)
}

func (q *heldQueue) Close() {}

// Abort lets go of a request, unless the device keeps them.
func (q *heldQueue) Abort(r *bdev.Request) bool {
	if q.d.keeps.Load() || !q.list.Remove(r) {
		return false
	}
	r.CompleteLater(bdev.StatusAborted)
	return true
}

func (h *Held) must(err error) {
	h.t.Helper()
	if err != nil {
		h.t.Fatal(err)
	}
}

// Keep makes it a device that does not let go of what is aborted.
func (h *Held) Keep() { h.keeps.Store(true) }

// Count is the number of requests held now.
func (h *Held) Count() int {
	h.t.Helper()
	n := 0
	patient.Within(h.t, "the device counts its requests", func() {
		h.must(h.group.Each(func(r *reactor.Reactor) {
			if q := h.queues[r.Index()]; q != nil {
				n += q.list.Len()
			}
		}))
	})
	return n
}

// Want waits until n requests are held.
func (h *Held) Want(why string, n int) {
	h.t.Helper()
	patient.Await(h.t, why, func() bool { return h.Count() == n })
}

// End ends all requests that are held now.
func (h *Held) End(s bdev.Status) {
	h.t.Helper()
	patient.Within(h.t, "the device ends its requests", func() {
		h.must(h.group.Each(func(r *reactor.Reactor) {
			if q := h.queues[r.Index()]; q != nil {
				for n := q.list.Len(); n > 0; n-- {
					q.list.Pop().Complete(s)
				}
			}
		}))
	})
}
