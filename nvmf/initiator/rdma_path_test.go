package initiator

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/pollux-storage/pollux/bdev"
	"github.com/pollux-storage/pollux/nvmf"
	"github.com/pollux-storage/pollux/nvmf/nvmftest"
	"github.com/pollux-storage/pollux/rdma"
	"github.com/pollux-storage/pollux/rdma/rdmatest"
)

// newRDMAPath makes a target and a host on one fabric.
func newRDMAPath(t testing.TB, o nvmftest.Options, reactors int) (*nvmftest.Engine, *host, *rdma.Net) {
	t.Helper()
	o.RDMA = &rdmatest.Options{SRQDepth: 4096}
	e := nvmftest.Start(t, o)
	h, n := newRDMAHost(t, e.RDMA.Host, reactors)
	return e, h, n
}

// verifier writes its part of a device and reads it again, with a number of requests in flight. It runs on one reactor.
type verifier struct {
	d      *disk
	i      int // reactor
	lba    uint64
	blocks uint64 // of a request
	slots  []verifySlot
	left   int
	open   int
	bad    []string
	rnd    *rand.Rand
	ended  chan struct{}
}

type verifySlot struct {
	v     *verifier
	q     bdev.Request
	lba   uint64
	want  []byte
	reads bool
}

func newVerifier(d *disk, i, depth, size int, lba uint64, turns int) *verifier {
	v := &verifier{d: d, i: i, lba: lba, blocks: uint64(size / 4096), left: turns, rnd: rand.New(rand.NewPCG(uint64(i), uint64(size))), ended: make(chan struct{}, 1)}
	v.slots = make([]verifySlot, depth)
	for j := range v.slots {
		s := &v.slots[j]
		s.v, s.lba, s.want = v, lba+uint64(j)*v.blocks, make([]byte, size)
		s.q.Done = s
		// Every other one has its data in the pool; the rest in pieces of the heap.
		if s.q.Data = pieces(make([]byte, size), 4096); j%2 == 0 {
			s.q.Data = [][]byte{d.h.pool(i, size)}
		}
	}
	return v
}

func (v *verifier) start() {
	_ = v.d.h.group.Reactor(v.i).Go(func() {
		v.open = len(v.slots)
		for j := range v.slots {
			v.slots[j].next()
		}
	})
}

// next writes something new.
func (s *verifySlot) next() {
	v := s.v
	if v.left == 0 {
		if v.open--; v.open == 0 {
			v.ended <- struct{}{}
		}
		return
	}
	v.left--
	for at := 0; at < len(s.want); at += 512 {
		s.want[at] = byte(v.rnd.Uint32())
	}
	at := 0
	for _, b := range s.q.Data {
		at += copy(b, s.want[at:])
	}
	s.reads = false
	s.q.Kind, s.q.LBA, s.q.Blocks = bdev.Write, s.lba, v.blocks
	v.d.channels[v.i].Submit(&s.q)
}

func (s *verifySlot) RequestDone(q *bdev.Request) {
	v := s.v
	if q.Status != bdev.StatusOK {
		v.bad = append(v.bad, fmt.Sprintf("%v at %d: %v", q.Kind, q.LBA, q.Status))
	}
	if s.reads {
		at := 0
		for _, b := range q.Data {
			if !bytes.Equal(b, s.want[at:at+len(b)]) {
				v.bad = append(v.bad, fmt.Sprintf("other data at %d", q.LBA))
				break
			}
			at += len(b)
		}
		s.next()
		return
	}
	for _, b := range q.Data {
		clear(b)
	}
	s.reads = true
	q.Kind, q.LBA, q.Blocks = bdev.Read, s.lba, v.blocks
	v.d.channels[v.i].Submit(q)
}

// wait waits for the verifiers.
func waitVerified(t testing.TB, all []*verifier) {
	t.Helper()
	for _, v := range all {
		select {
		case <-v.ended:
		case <-time.After(patience):
			panic(fmt.Sprintf("a load does not end: %d open, %d left, %v; %+v", v.open, v.left, v.bad, v.d.h.in.Controllers()))
		}
		for _, b := range v.bad[:min(3, len(v.bad))] {
			t.Errorf("reactor %d: %s", v.i, b)
		}
	}
}

// What a host writes over RDMA to our own target it reads again, from 4 KiB to 1 MiB, with 1 to 128 requests at once, over several queues on several
// reactors.
func TestRDMAPathKeepsData(t *testing.T) {
	e, h, n := newRDMAPath(t, nvmftest.Options{Reactors: 2, MemoryBytes: 128 << 20, Transport: func(o *nvmf.TransportOptions) { o.MaxIOBytes, o.AckTimeout = 1<<20, 1000 }}, 2)
	o := rdmaOptions(n, e.RDMA.Addr)
	o.QueuesPerReactor = 2
	o.Link = rdma.Link{AckTimeout: 14, TOS: 0xb8}
	h.attach(o)
	e.AwaitQueues("two for each reactor", 4)
	d := h.open("Nvme0n1")
	defer d.close()
	for _, c := range []struct{ size, depth, turns int }{
		{4096, 1, 100}, {4096, 128, 1000}, {8192, 32, 400}, {64 << 10, 1, 50}, {64 << 10, 128, 256}, {128 << 10, 16, 64}, {1 << 20, 1, 8}, {1 << 20, 4, 24},
	} {
		t.Run(fmt.Sprintf("%d KiB, %d at once", c.size>>10, c.depth), func(t *testing.T) {
			var all []*verifier
			for i := range 2 {
				all = append(all, newVerifier(d, i, c.depth, c.size, uint64(i)*2048, c.turns))
			}
			for _, v := range all {
				v.start()
			}
			waitVerified(t, all)
		})
	}
	if i := h.in.Controllers()[0]; i.Losses != 0 || i.IOQueues != 4 || i.TrType != "RDMA" {
		t.Errorf("%+v", i)
	}
	for p, want := range map[*rdmatest.Provider]rdma.Link{e.RDMA.Host: o.Link, e.RDMA.Target: {AckTimeout: rdma.AckTimeout(time.Second), TOS: o.Link.TOS}} {
		links := p.Links()
		if len(links) != 5 || slices.ContainsFunc(links, func(l rdma.Link) bool { return l != want }) {
			t.Errorf("%s sends as %+v, want %+v on five connections", p.Name(), links, want)
		}
	}
}

// Connections that are broken under load, by either side and by the fabric, are made again, and nothing is lost or mixed up.
func TestRDMAPathBreaksUnderLoad(t *testing.T) {
	e, h, n := newRDMAPath(t, nvmftest.Options{Reactors: 2, MemoryBytes: 64 << 20}, 2)
	o := rdmaOptions(n, e.RDMA.Addr)
	o.Retries, o.QueueDepth, o.IOTimeout = -1, 16, time.Second
	o.FastIOFail, o.LossTimeout = 0, Forever
	h.attach(o)
	d := h.open("Nvme0n1")
	var all []*verifier
	for i := range 2 {
		all = append(all, newVerifier(d, i, 32, 16<<10, uint64(i)*2048, 1<<30))
	}
	for _, v := range all {
		v.start()
	}
	for i, hurt := range []func(){
		func() {
			e.RDMA.Target.Cut()
			h.await("the cut is noticed", func() bool { return h.in.Controllers()[0].Losses > 0 })
			e.RDMA.Target.Mend()
		},
		func() { e.RDMA.Host.Wound(rdma.DidSend, 7, rdma.StatusRetry) },
		func() { e.RDMA.Target.Wound(rdma.DidWrite, 3, rdma.StatusRemoteAccess) },
		func() { e.RDMA.Target.Wound(rdma.DidRead, 3, rdma.StatusRemoteOperation) },
		func() { e.RDMA.Host.Wound(rdma.DidRecv, 5, rdma.StatusLocalLength) },
		func() {
			if err := h.in.Reset(context.Background(), "Nvme0"); err != nil {
				t.Error(err)
			}
		},
	} {
		before := h.in.Controllers()[0]
		hurt()
		again := func() bool {
			c := h.in.Controllers()[0]
			return c.State == StateConnected && (c.Losses > before.Losses || i == 5)
		}
		for end := time.Now().Add(patience); !again(); time.Sleep(time.Millisecond) {
			if time.Now().After(end) { // a load is under way: nothing can be cleaned up
				panic(fmt.Sprintf("the connection is not made again after wound %d: %+v", i, h.in.Controllers()[0]))
			}
		}
	}
	for i, v := range all { // a last turn for each
		_ = h.group.Reactor(i).Call(func() { v.left = 1 })
	}
	waitVerified(t, all)
	d.close()
	e.AwaitQueues("one for each reactor", 2)
}

// Nothing on a request's whole way allocates: the host's device, the initiator, the target, its device, and back.
func TestRDMAPathAllocatesNothing(t *testing.T) {
	e, h, n := newRDMAPath(t, nvmftest.Options{Reactors: 2, MemoryBytes: 64 << 20}, 2)
	o := rdmaOptions(n, e.RDMA.Addr)
	o.QueueDepth = 8
	h.attach(o)
	d := h.open("Nvme0n1")
	defer d.close()
	for _, c := range []struct {
		kind  bdev.Kind
		bytes int
	}{{bdev.Read, 4096}, {bdev.Read, 128 << 10}, {bdev.Write, 4096}, {bdev.Write, 64 << 10}, {bdev.WriteZeroes, 64 << 10}, {bdev.Unmap, 64 << 10}, {bdev.Compare, 4096}} {
		for _, pool := range []bool{true, false} {
			t.Run(fmt.Sprintf("%v of %d bytes, pool %v", c.kind, c.bytes, pool), func(t *testing.T) {
				for i := range 2 {
					s := d.spin(i, 16, c.kind, c.bytes, 32) // more than the queue holds: the others wait
					if pool {
						s.pooled()
					}
					if c.kind == bdev.Compare {
						for j := range s.qs {
							d.want("zeros", i, &bdev.Request{Kind: bdev.WriteZeroes, LBA: uint64(j * 32), Blocks: 1}, bdev.StatusOK)
						}
					}
					s.wantQuiet(t, fabricsOwn, func() { s.run(400) })
				}
			})
		}
	}
}

// A discovery service is asked over RDMA, and tells of addresses over RDMA and over TCP.
func TestRDMAPathDiscovery(t *testing.T) {
	e, h, n := newRDMAPath(t, nvmftest.Options{}, 1)
	o := rdmaOptions(n, e.RDMA.Addr)
	o.SubNQN = ""
	entries, err := Discover(context.Background(), h.group, o, h.in.log)
	if err != nil {
		t.Fatal(err)
	}
	found := map[string]int{}
	for _, x := range entries {
		if x.SUBTYPE == nvmf.SubsystemNVMe && x.SUBNQN == nvmftest.NQN {
			found[fmt.Sprintf("%v %s:%s", x.TRTYPE, x.TRADDR, x.TRSVCID)]++
		}
	}
	for _, want := range []string{"RDMA " + e.RDMA.Addr.String(), "TCP " + e.Addr.String()} {
		if found[want] != 1 {
			t.Errorf("no entry %s in %v", want, found)
		}
	}
	e.WantNothingLeft("after a discovery")
}

// A host is refused, and authenticates, over RDMA as over TCP: both ways, on its Admin queue and on each I/O queue.
func TestRDMAPathRefusesHosts(t *testing.T) {
	e, h, n := newRDMAPath(t, nvmftest.Options{Subsystem: func(o *nvmf.SubsystemOptions) { o.AllowAnyHost = false }}, 2)
	host, ctrl := testKey(t, 1), testKey(t, 2)
	add := func() error {
		return e.Target.AddHost(nvmftest.NQN, nvmftest.Host, nvmf.HostKeys{Host: host, Ctrl: ctrl})
	}
	for _, c := range []struct {
		why        string
		before     func() error
		host, ctrl *nvmf.AuthKey
		fails      string
	}{
		{why: "not added", fails: "nvmf_subsystem_add_host"},
		{why: "no key", before: add, fails: "dhchap_key"},
		{why: "the wrong key", host: ctrl, fails: "authentication failed"},
		{why: "another key of the controller's", host: host, ctrl: host, fails: "controller's response"},
		{why: "the right ones", host: host, ctrl: ctrl},
	} {
		if c.before != nil {
			if err := c.before(); err != nil {
				t.Fatal(err)
			}
		}
		o := rdmaOptions(n, e.RDMA.Addr)
		o.HostKey, o.CtrlKey, o.Groups = c.host, c.ctrl, []nvmf.DHGroup{nvmf.DHNull}
		_, err := h.in.Attach(context.Background(), o)
		if c.fails != "" {
			if err == nil || !strings.Contains(err.Error(), c.fails) {
				t.Errorf("%s: attached: %v; want an error with %q", c.why, err, c.fails)
			}
			e.WantNothingLeft(c.why)
			continue
		}
		if err != nil {
			t.Fatal(c.why, err)
		}
		e.AwaitQueues("one for each reactor", 2)
		d := h.open("Nvme0n1")
		for i := range 2 {
			d.want("read", i, &bdev.Request{Kind: bdev.Read, Blocks: 1, Data: [][]byte{make([]byte, 4096)}}, bdev.StatusOK)
		}
		d.close()
	}
}
