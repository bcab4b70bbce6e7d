package initiator

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/pollux-storage/pollux/bdev"
	"github.com/pollux-storage/pollux/nvmf/nvmftest"
	"github.com/pollux-storage/pollux/reactor"
)

func TestWhatIsWrittenIsRead(t *testing.T) {
	for _, c := range []struct {
		target, host, queues int
		digests              bool
		block                uint32
	}{
		{1, 1, 1, false, 4096}, {1, 1, 3, true, 4096}, {2, 2, 2, false, 512}, {3, 2, 1, true, 512}, {1, 3, 2, false, 4096},
	} {
		t.Run(fmt.Sprintf("%+v", c), func(t *testing.T) {
			e := nvmftest.Start(t, nvmftest.Options{Reactors: c.target, BlockSize: c.block})
			h := newHost(t, c.host)
			o := options(e.Addr)
			o.HeaderDigest, o.DataDigest = c.digests, c.digests
			o.NumIOQueues, o.QueuesPerReactor = c.queues, 4
			if got := h.attach(o); !slices.Equal(got, []string{"Nvme0n1"}) {
				t.Fatalf("devices %v", got)
			}
			d := h.open("Nvme0n1")
			defer d.close()
			for i := range c.host {
				for k, n := range []int{512, 4096, 8192, 12288, 16384, 65536, 128 << 10, 1<<20 - 4096, 1 << 20} {
					if n < int(c.block) {
						continue
					}
					for _, piece := range []int{n, 4096, 512} {
						if piece%int(c.block) != 0 {
							continue
						}
						why := fmt.Sprintf("reactor %d, %d bytes in pieces of %d", i, n, piece)
						data := pattern(n, uint64(i*100+k*10+piece))
						got := make([]byte, n)
						q := &bdev.Request{Kind: bdev.Write, LBA: uint64(k) * (1 << 20) / uint64(c.block), Blocks: uint64(n) / uint64(c.block), Data: pieces(data, piece)}
						d.want(why, i, q, bdev.StatusOK)
						q = &bdev.Request{Kind: bdev.Read, LBA: q.LBA, Blocks: q.Blocks, Data: pieces(got, piece)}
						d.want(why, i, q, bdev.StatusOK)
						if !bytes.Equal(got, data) {
							t.Fatalf("%s: read something else than was written", why)
						}
					}
				}
			}
		})
	}
}

// load keeps requests in flight on one reactor, each slot in its own part of the device: it writes there, reads it back and
// compares. Everything runs on the reactor.
type load struct {
	d     *disk
	r     *reactor.Reactor
	i     int
	bytes int
	left  int // rounds that are not begun
	open  int
	slots []loadSlot
	bad   []string
	ended chan struct{}
	ok    func(bdev.Status) bool // statuses that may come
}

type loadSlot struct {
	l       *load
	q       bdev.Request
	b, want []byte
	at      uint64
	seed    uint64
	reading bool
}

// startLoad begins depth slots of n bytes with rounds altogether.
func (d *disk) startLoad(i, depth, n, rounds int) *load {
	l := &load{d: d, r: d.h.group.Reactor(i), i: i, bytes: n, left: rounds, ended: make(chan struct{}), slots: make([]loadSlot, depth)}
	g := d.handle.Device().Geometry()
	reactors := d.h.group.Len()
	part := g.Bytes() / uint64(reactors*depth) &^ (1<<20 - 1)
	if part == 0 {
		part = g.Bytes() / uint64(reactors*depth) / uint64(g.BlockSize) * uint64(g.BlockSize)
	}
	for k := range l.slots {
		s := &l.slots[k]
		s.l, s.b, s.want = l, make([]byte, n), make([]byte, n)
		s.at = uint64(i*depth+k) * part / uint64(g.BlockSize)
		s.q.Done = s
		s.q.SetData(s.b)
		if uint64(n) > part {
			d.h.t.Fatalf("%d bytes do not fit into a slot of %d", n, part)
		}
	}
	if err := l.r.Go(func() {
		l.open = 1
		for k := range l.slots {
			l.slots[k].next()
		}
		l.end()
	}); err != nil {
		d.h.t.Fatal(err)
	}
	return l
}

func (l *load) end() {
	if l.open--; l.open > 0 {
		return
	}
	for k := range l.slots {
		l.slots[k].q.Release()
	}
	close(l.ended)
}

// next writes something new.
func (s *loadSlot) next() {
	if s.l.left == 0 {
		return
	}
	s.l.left--
	s.l.open++
	s.seed++
	for k := 0; k < len(s.want); k += 8 {
		binary.LittleEndian.PutUint64(s.want[k:], s.seed<<40|s.at<<20|uint64(k))
	}
	copy(s.b, s.want)
	s.reading = false
	s.submit(bdev.Write)
}

func (s *loadSlot) submit(k bdev.Kind) {
	ch := s.l.d.channels[s.l.i]
	s.q.Kind, s.q.LBA, s.q.Blocks = k, s.at, uint64(len(s.b))/uint64(ch.Geometry().BlockSize)
	ch.Submit(&s.q)
}

// RequestDone reads what was written, or compares what was read.
func (s *loadSlot) RequestDone(q *bdev.Request) {
	l := s.l
	switch {
	case q.Status != bdev.StatusOK:
		if l.ok == nil || !l.ok(q.Status) {
			l.bad = append(l.bad, fmt.Sprintf("%v at %d: %v", q.Kind, q.LBA, q.Status))
		}
	case !s.reading:
		s.reading = true
		clear(s.b)
		s.submit(bdev.Read)
		return
	case !bytes.Equal(s.b, s.want):
		l.bad = append(l.bad, fmt.Sprintf("read at %d: something else than was written", q.LBA))
	}
	s.next()
	l.end()
}

// wait waits for the end and reports what was wrong.
func (l *load) wait() {
	l.d.h.t.Helper()
	select {
	case <-l.ended:
	case <-time.After(patience):
		panic("a load does not end")
	}
	for _, b := range l.bad {
		l.d.h.t.Error(b)
	}
}

func TestManyAtOnce(t *testing.T) {
	for _, digests := range []bool{false, true} {
		for _, queues := range []int{1, 2, 4} {
			e := nvmftest.Start(t, nvmftest.Options{Reactors: 2, MemoryBytes: 128 << 20})
			h := newHost(t, 2)
			o := options(e.Addr)
			o.HeaderDigest, o.DataDigest = digests, digests
			o.NumIOQueues, o.QueuesPerReactor, o.QueueDepth = queues, 4, 32
			h.attach(o)
			d := h.open("Nvme0n1")
			for _, n := range []int{4096, 16384, 64 << 10} {
				for _, depth := range []int{1, 8, 32, 128} {
					t.Run(fmt.Sprintf("digests %v, %d queues, %d at once of %d bytes", digests, queues, depth, n), func(t *testing.T) {
						if n*depth*2 > 16<<20 {
							n = 16 << 20 / depth / 2
						}
						loads := []*load{d.startLoad(0, depth, n, 2*depth), d.startLoad(1, depth, n, 2*depth)}
						for _, l := range loads {
							l.wait()
						}
					})
				}
			}
			d.close()
		}
	}
}
