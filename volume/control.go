package volume

import (
	"errors"
	"fmt"
	"sync/atomic"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/pollux-storage/pollux/bdev"
	"github.com/pollux-storage/pollux/internal/invariant"
	"github.com/pollux-storage/pollux/reactor"
)

// This file is how control work waits for reactors: what makes, opens, checks and closes pools and volumes runs on a control goroutine,
// one step after the other, and reads and writes pages as if they were files.

// Await returns when until is true. A control goroutine waits on a channel; a simulation, which has one goroutine, lets its world
// go on.
type Await func(until func() bool)

// control is what such work needs.
type control struct {
	await Await
	given *atomic.Bool // once it is set, nothing more is sent (stuckopen.go); nil: it never is
}

// isGiven says that.
func (c *control) isGiven() bool { return c.given != nil && c.given.Load() }

// event is something that control work waits for, and a reactor says.
type event struct {
	done chan struct{}
	set  bool
	s    bdev.Status
}

func newEvent() *event { return &event{done: make(chan struct{}, 1)} }

// say ends the wait. It runs on a reactor.
func (e *event) say(s bdev.Status) {
	e.s, e.set = s, true
	e.done <- struct{}{}
}

// Run is say, for those who only tell that something is over.
func (e *event) Run() { e.say(bdev.StatusOK) }

// wait waits for an event.
func (c *control) wait(e *event) bdev.Status {
	if c.await != nil {
		c.await(func() bool { return e.set })
	}
	<-e.done
	return e.s
}

// disk is a device as control work uses it, on one reactor.
type disk struct {
	control
	r       *reactor.Reactor
	channel *bdev.Channel
}

type diskRequest struct {
	bdev.Request
	*event
}

func (q *diskRequest) RequestDone(b *bdev.Request) { q.say(b.Status) }

func (d *disk) do(what string, kind bdev.Kind, place Place, data []byte) error {
	if d.isGiven() {
		return errGivenUp
	}
	q := &diskRequest{event: newEvent()}
	q.Kind, q.Done = kind, q
	err := d.r.Call(func() {
		shift := d.channel.Geometry().Shift()
		if kind != bdev.Flush {
			q.LBA, q.Blocks = place.Byte()>>shift, uint64(len(data))>>shift
			q.SetData(data)
		}
		d.channel.Submit(&q.Request)
	})
	if err != nil {
		return err
	}
	s := d.wait(q.event)
	_ = d.r.Call(q.Release)
	if s != bdev.StatusOK {
		return fmt.Errorf("%s at place %d of %s: %v", what, place, d.channel.Device().Name(), s)
	}
	return nil
}

func (d *disk) read(place Place, data []byte) error  { return d.do("reading", bdev.Read, place, data) }
func (d *disk) write(place Place, data []byte) error { return d.do("writing", bdev.Write, place, data) }
func (d *disk) flush() error                         { return d.do("flushing", bdev.Flush, 0, nil) }

// readsBytes is how much control work reads at once.
const readsBytes = 4 << 20

// readEach reads so many pages at each of many places, several places at once, and hands over what was read, in order. The data is lent for
// the time of the call.
func (d *disk) readEach(places []Place, pages int, f func(i int, data []byte, err error)) error {
	n := min(len(places), max(1, readsBytes/PageBytes/pages))
	if n == 0 {
		return nil
	}
	reads := make([]diskRequest, n)
	for i := range reads {
		q := &reads[i]
		q.Kind, q.Done = bdev.Read, q
		q.SetData(pageMemory(pages))
	}
	defer func() {
		_ = d.r.Call(func() {
			for i := range reads {
				reads[i].Release()
			}
		})
	}()
	for at := 0; at < len(places); at += n {
		if d.isGiven() {
			return errGivenUp
		}
		now := reads[:min(n, len(places)-at)]
		if err := d.r.Call(func() {
			shift := d.channel.Geometry().Shift()
			for i := range now {
				q := &now[i]
				q.event = newEvent()
				q.LBA, q.Blocks = places[at+i].Byte()>>shift, uint64(pages)*PageBytes>>shift
				d.channel.Submit(&q.Request)
			}
		}); err != nil {
			return err
		}
		for i := range now { // all of them, before any memory is used again
			d.wait(now[i].event)
		}
		for i := range now {
			var err error
			if s := now[i].s; s != bdev.StatusOK {
				err = fmt.Errorf("reading at place %d of %s: %v", places[at+i], d.channel.Device().Name(), s)
			}
			f(at+i, now[i].Data[0], err)
		}
	}
	return nil
}

// readSlots reads the two pages where slots and heads stand. One that cannot be read is as one that is blank; the error tells of it.
func (d *disk) readSlots() (pages [2][]byte, err error) {
	for i, at := range SlotPlace {
		pages[i] = pageMemory(1)
		if e := d.read(at, pages[i]); e != nil {
			clear(pages[i])
			err = errors.Join(err, e)
		}
	}
	return pages, err
}

// blankSlots wipes them: once that is flushed, nothing is left that anybody would open.
func (d *disk) blankSlots() error {
	blank := pageMemory(1)
	for _, at := range SlotPlace {
		if err := d.write(at, blank); err != nil {
			return err
		}
	}
	return nil
}

// pageMemory gives memory for n pages, aligned to a page, that the collector frees.
func pageMemory(n int) []byte {
	b := make([]byte, (n+1)*PageBytes)
	off := -uintptr(unsafe.Pointer(&b[0])) % PageBytes
	return b[off:][: n*PageBytes : n*PageBytes]
}

// mapped is how many bytes all volumes of this process have mapped outside the Go heap.
var mapped atomic.Int64

// mapMemory maps n pages outside the Go heap.
func mapMemory(n int) ([]byte, error) {
	b, err := unix.Mmap(-1, 0, n*PageBytes, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS)
	if err != nil {
		return nil, fmt.Errorf("mapping %d pages for a volume: %w", n, err)
	}
	mapped.Add(int64(len(b)))
	return b, nil
}

func unmapMemory(b []byte) {
	mapped.Add(-int64(len(b)))
	err := unix.Munmap(b)
	invariant.Check(err == nil, "volume: memory that it mapped cannot be unmapped")
}
