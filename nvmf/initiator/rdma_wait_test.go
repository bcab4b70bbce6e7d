package initiator

import (
	"bytes"
	"fmt"
	"testing"
	"time"

	"github.com/pollux-storage/pollux/bdev"
	"github.com/pollux-storage/pollux/nvmf"
	"github.com/pollux-storage/pollux/rdma/rdmatest"
	"github.com/pollux-storage/pollux/reactor"
)

// rdmaKept are the I/O commands that came to a fake and that it has not carried out: it does so when it is told to, in the order in which they came.
type rdmaKept struct {
	h     *host
	f     *rdmaFake
	queue []func()
}

// keep lets f keep what comes, from now on.
func (h *host) keep(f *rdmaFake) *rdmaKept {
	w := &rdmaKept{h: h, f: f}
	f.set(func() {
		f.io = func(k *rdmaFakeQueue, s *nvmf.SQE, in []byte) bool {
			w.queue = append(w.queue, func() { k.ioCommand(s, in) })
			return true
		}
	})
	return w
}

// await waits until n are there.
func (w *rdmaKept) await(why string, n int) {
	w.h.t.Helper()
	w.h.await(why, func() (is bool) {
		w.f.set(func() { is = len(w.queue) == n })
		return is
	})
}

// carryOut carries out the n-th.
func (w *rdmaKept) carryOut(n int) {
	_ = w.f.group.Reactor(0).Call(func() {
		w.f.set(func() {
			do := w.queue[n]
			w.queue = append(w.queue[:n:n], w.queue[n+1:]...)
			do()
		})
	})
}

// starve takes all that a reactor's pool has, until feed is called.
func (h *host) starve(i int) (feed func()) {
	h.t.Helper()
	var taken [][]byte
	r := h.group.Reactor(i)
	m := r.Memory()
	_ = r.Call(func() {
		for size := reactor.BufferMax; size >= reactor.PageBytes; size /= 2 {
			for b := m.Get(size); b != nil; b = m.Get(size) {
				taken = append(taken, b)
			}
		}
	})
	feed = func() {
		_ = r.Call(func() {
			for _, b := range taken {
				m.Put(b)
			}
			taken = nil
		})
	}
	h.before = append([]func(){feed}, h.before...)
	return feed
}

// submitted is a request that was submitted on reactor 0.
type submitted struct {
	h     *host
	qs    []*bdev.Request
	ended done
}

// newStarved gives a host that has attached f, a device of it, and what starve gives: its pool has nothing left. A timeout that is not 0 is that of I/O.
func newStarved(t *testing.T, f *rdmaFake, timeout time.Duration) (h *host, d *disk, feed func()) {
	t.Helper()
	h, n := newRDMAHost(t, f.near, 1)
	o := rdmaOptions(n, f.addr)
	if timeout > 0 {
		o.IOTimeout = timeout
	}
	h.attach(o)
	return h, h.open("Nvme0n1"), h.starve(0)
}

func (h *host) begin(d *disk, q *bdev.Request) submitted {
	h.t.Helper()
	s := submitted{h: h, ended: newDone(1)}
	s.qs = h.submit(d, 1, func(int) *bdev.Request { return q }, s.ended)
	return s
}

func (s submitted) wait() {
	s.h.t.Helper()
	s.h.wait(s.qs, s.ended, bdev.StatusOK)
}

// scattered is a write whose data the card does not reach where they are.
func scattered(lba uint64, data []byte) *bdev.Request {
	return &bdev.Request{Kind: bdev.Write, LBA: lba, Blocks: uint64(len(data) / 4096), Data: pieces(bytes.Clone(data), 4096)}
}

// wire is I/O queue 1's, whose fields are the reactor's.
func (h *host) wire() *rdmaWire {
	return h.in.controllers["Nvme0"].shares[0].queues[0].wire.(*rdmaWire)
}

// Where the pool has nothing left one command has the spare buffer, and keeps it until it is answered. Those behind it go one after the other,
// also those that need no memory: nobody who does is overtaken for ever.
func TestRDMAOneHasTheSpareBufferAndNobodyOvertakes(t *testing.T) {
	f := newRDMAFake(t, rdmatest.Options{SRQDepth: 4096})
	h, d, _ := newStarved(t, f, 0)
	defer d.close()
	kept := h.keep(f)
	first := h.begin(d, &bdev.Request{Kind: bdev.Flush})
	var all []submitted
	var want []byte
	for i := range 3 {
		data := pattern(64<<10, uint64(i))
		want = append(want, data...)
		all = append(all, h.begin(d, scattered(uint64(i*16), data)))
	}
	last := h.begin(d, &bdev.Request{Kind: bdev.Flush})
	kept.await("the first flush and the first write", 2)
	kept.carryOut(0)
	first.wait()
	_ = h.group.Reactor(0).Call(func() {}) // those who wait were looked at
	for i, s := range all {
		if i < len(all)-1 {
			kept.await(fmt.Sprintf("write %d alone", i), 1)
		} else {
			kept.await("the last write, behind which nobody needs memory", 2)
		}
		kept.carryOut(0)
		s.wait()
	}
	kept.carryOut(0)
	last.wait()
	f.set(func() {
		if !bytes.Equal(f.disk[:len(want)], want) {
			t.Error("the target has other data")
		}
		if got, want := fmt.Sprint(f.log), fmt.Sprint([]nvmf.IOOpcode{nvmf.IOFlush, nvmf.IOWrite, nvmf.IOWrite, nvmf.IOWrite, nvmf.IOFlush}); got != want {
			t.Errorf("the commands came as %s, not as they were submitted: %s", got, want)
		}
	})
}

// Who waits for memory gets what comes back, whatever becomes of the command that has the spare buffer.
func TestRDMAMemoryThatComesBackIsUsed(t *testing.T) {
	f := newRDMAFake(t, rdmatest.Options{SRQDepth: 4096})
	h, d, feed := newStarved(t, f, 0)
	defer d.close()
	kept := h.keep(f)
	one := h.begin(d, scattered(0, pattern(64<<10, 1)))
	two := h.begin(d, scattered(16, pattern(64<<10, 2)))
	kept.await("the one with the spare buffer", 1)
	feed()
	kept.await("the other, while the first is open", 2)
	kept.carryOut(1)
	two.wait()
	kept.carryOut(0)
	one.wait()
}

// grows lets a controller say that it moves 64 KiB at once, and from then on 1 MiB: no spare buffer is so large.
func (f *rdmaFake) grows() {
	first := true
	f.admin = func(k *rdmaFakeQueue, s *nvmf.SQE) bool {
		if nvmf.AdminOpcode(s.Opcode()) != nvmf.AdminIdentify || s.CNS() != nvmf.CNSController || !first {
			return false
		}
		first = false
		id := f.id
		id.MDTS = 4
		k.give(s, id.AppendTo(nil))
		return true
	}
}

// awaitWaiting waits until somebody waits for memory of reactor 0.
func (h *host) awaitWaiting() {
	r := h.group.Reactor(0)
	h.await("somebody waits for memory", func() (is bool) {
		_ = r.Call(func() { is = r.Memory().Stats().Waiting == 1 })
		return is
	})
}

// A controller that says later that it moves more at once than it said when its queues were made is believed. Such data wait for the pool alone.
func TestRDMADataThatTheSpareBufferDoesNotHold(t *testing.T) {
	f := newRDMAFake(t, rdmatest.Options{SRQDepth: 4096})
	f.grows()
	h, d, feed := newStarved(t, f, 0)
	defer d.close()
	kept := h.keep(f)
	want := pattern(1<<20, 1)
	large := h.begin(d, scattered(0, want))
	small := h.begin(d, &bdev.Request{Kind: bdev.Flush})
	h.awaitWaiting()
	feed()
	kept.await("both", 2)
	kept.carryOut(0)
	large.wait()
	kept.carryOut(0)
	small.wait()
	f.set(func() {
		if !bytes.Equal(f.disk[:len(want)], want) || f.log[0] != nvmf.IOWrite {
			t.Error("other data, or in another order", f.log)
		}
	})
}

// A queue that ends while it waits for memory waits no more: a pool that still knew it would keep memory for nobody.
func TestRDMAQueueThatEndsWaitsForNoMemory(t *testing.T) {
	f := newRDMAFake(t, rdmatest.Options{SRQDepth: 4096})
	f.grows()
	h, d, feed := newStarved(t, f, 0)
	defer d.close()
	large := h.begin(d, scattered(0, pattern(1<<20, 1)))
	h.awaitWaiting()
	var q *queue
	r := h.group.Reactor(0)
	_ = r.Call(func() { q = h.wire().q })
	f.drop()
	<-q.closed
	_ = r.Call(func() {
		if n := r.Memory().Stats().Waiting; n > 0 {
			t.Errorf("%d wait for memory", n)
		}
	})
	feed()
	large.wait()
}

// A command is answered, and its slot free, before its capsule is known to have left. So a card may have more of a queue's capsules than the queue has
// commands: as many as it has room for, and the commands beyond that wait.
func TestRDMARoomOnTheCard(t *testing.T) {
	f := newRDMAFake(t, rdmatest.Options{SRQDepth: 4096})
	h, n := newRDMAHost(t, f.near, 1)
	o := rdmaOptions(n, f.addr)
	o.QueueDepth = 4
	h.attach(o)
	d := h.open("Nvme0n1")
	defer d.close()
	f.near.HoldSends(true)
	const all = 100
	ended := newDone(all)
	qs := h.submit(d, all, func(int) *bdev.Request { return &bdev.Request{Kind: bdev.Flush} }, ended)
	h.await("no room", func() (full bool) {
		_ = h.group.Reactor(0).Call(func() {
			w := h.wire()
			full = w.first != nil && w.rq.Posted() == o.QueueDepth+signalRoom
		})
		return full
	})
	f.near.HoldSends(false)
	h.wait(qs, ended, bdev.StatusOK)
}

// The time that a command waits for memory is not the target's, as long as that answers: its connection is not given up for it. There might be no other,
// since a new queue needs memory too.
func TestRDMATimeWithoutMemoryIsNotTheTargets(t *testing.T) {
	f := newRDMAFake(t, rdmatest.Options{SRQDepth: 4096})
	h, d, feed := newStarved(t, f, patience)
	defer d.close()
	kept := h.keep(f)
	other := h.begin(d, &bdev.Request{Kind: bdev.Flush})
	var all []submitted
	for i := range 3 {
		all = append(all, h.begin(d, scattered(uint64(i*16), pattern(64<<10, uint64(i)))))
	}
	kept.await("the flush, and the one with the spare buffer", 2)
	_ = h.group.Reactor(0).Call(func() { // it has not answered for long, until now
		q := h.wire().q
		q.heard -= q.timeout
	})
	kept.carryOut(0)
	other.wait()
	// later is long after: as if those that wait, and the target's last answer, were as old as a command may become.
	later := func(why string, answers bool, want queueState) {
		t.Helper()
		_ = h.group.Reactor(0).Call(func() {
			w := h.wire()
			for i := range w.q.commands {
				if c := &w.q.commands[i]; c.state == commandQueued {
					c.at -= w.q.timeout
				}
			}
			if !answers {
				w.q.heard -= w.q.timeout
			}
			if w.q.Run(); w.q.state != want {
				t.Errorf("%s: the queue is %v", why, w.q.state)
			}
		})
	}
	later("two wait", true, queueOpen)
	kept.carryOut(0)
	all[0].wait()
	kept.await("the second", 1)
	later("one was sent, one waits", true, queueOpen)
	f.set(func() { f.io = nil })
	later("the target does not answer", false, queueClosing)
	feed()
	all[1].wait()
	all[2].wait()
}
