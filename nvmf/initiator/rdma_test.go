package initiator

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/pollux-storage/pollux/bdev"
	"github.com/pollux-storage/pollux/nvmf"
	"github.com/pollux-storage/pollux/rdma"
	"github.com/pollux-storage/pollux/rdma/rdmatest"
	"github.com/pollux-storage/pollux/reactor"
)

// What is written over RDMA is read again, of every size, from the pool's memory and from elsewhere, whatever the card can do.
func TestRDMAMovesData(t *testing.T) {
	for _, c := range []struct {
		name string
		card rdmatest.Options
	}{
		{"shared receives", rdmatest.Options{SRQDepth: 4096}},
		{"no shared receives, nothing inline", rdmatest.Options{InlineMax: -1}},
	} {
		t.Run(c.name, func(t *testing.T) {
			f := newRDMAFake(t, c.card)
			h, n := newRDMAHost(t, f.near, 2)
			h.attach(rdmaOptions(n, f.addr))
			d := h.open("Nvme0n1")
			defer d.close()
			for i, size := range []int{4096, 8192, 12288, 64 << 10, 1 << 20} {
				want := pattern(size, uint64(i))
				for _, how := range []string{"pool", "pool in pieces that adjoin", "heap", "pieces"} {
					t.Run(fmt.Sprintf("%d bytes, %s", size, how), func(t *testing.T) {
						lend := func() [][]byte {
							switch how {
							case "pool":
								return [][]byte{h.pool(i%2, size)}
							case "pool in pieces that adjoin":
								return pieces(h.pool(i%2, size), 4096)
							case "heap":
								return [][]byte{make([]byte, size)}
							}
							b := make([]byte, 2*size)
							var v [][]byte
							for at := 0; at < size; at += 4096 {
								v = append(v, b[2*at:][:4096])
							}
							return v
						}
						out, in := lend(), lend()
						at := 0
						for _, b := range out {
							at += copy(b, want[at:])
						}
						d.want("write", i%2, &bdev.Request{Kind: bdev.Write, LBA: uint64(i), Blocks: uint64(size / 4096), Data: out}, bdev.StatusOK)
						f.set(func() {
							if !bytes.Equal(f.disk[i*4096:][:size], want) {
								t.Error("the target has other data")
							}
						})
						d.want("read", i%2, &bdev.Request{Kind: bdev.Read, LBA: uint64(i), Blocks: uint64(size / 4096), Data: in}, bdev.StatusOK)
						if got := bytes.Join(in, nil); !bytes.Equal(got, want) {
							t.Error("other data was read")
						}
					})
				}
			}
			f.set(func() {
				if f.carried != 8 {
					t.Errorf("%d writes had their data in the capsule, of 8 that fit", f.carried)
				}
			})
		})
	}
}

// The private data say what TARGETS and the standard want of them.
func TestRDMARequest(t *testing.T) {
	f := newRDMAFake(t, rdmatest.Options{})
	h, n := newRDMAHost(t, f.near, 1)
	o := rdmaOptions(n, f.addr)
	o.QueueDepth = 15
	h.attach(o)
	f.set(func() {
		want := []nvmf.RDMARequest{{QID: 0, HRQSIZE: 32, HSQSIZE: 31}, {QID: 1, HRQSIZE: 16, HSQSIZE: 15, CNTLID: 7}}
		if fmt.Sprint(f.asked) != fmt.Sprint(want) {
			t.Errorf("asked for %+v, want %+v", f.asked, want)
		}
	})
}

// A target that does not take the connection is heard.
func TestRDMARejections(t *testing.T) {
	for why, want := range map[nvmf.RDMAReason]string{
		nvmf.RDMALength: "invalid private data length (1)", nvmf.RDMAFormat: "invalid record format (2)", nvmf.RDMAQID: "invalid queue id (3)",
		nvmf.RDMAHSQSIZE: "invalid host submission queue size (4): ask for another queue depth",
		nvmf.RDMAHRQSIZE: "invalid host receive queue size (5): ask for another queue depth", nvmf.RDMANoResources: "no resources (6): it has no room for another queue",
		nvmf.RDMAIRD: "invalid IRD (7)", nvmf.RDMAORD: "invalid ORD (8)", nvmf.RDMACNTLID: "invalid controller id (9): it has no such controller any more",
	} {
		for _, qid := range []nvmf.QID{0, 1} {
			t.Run(fmt.Sprintf("%v of queue %d", why, qid), func(t *testing.T) {
				f := newRDMAFake(t, rdmatest.Options{})
				f.offered = func(_ *rdma.Offer, r nvmf.RDMARequest) []byte {
					if r.QID == qid {
						return why.AppendReject(nil)
					}
					return nil
				}
				h, n := newRDMAHost(t, f.near, 1)
				_, err := h.in.Attach(context.Background(), rdmaOptions(n, f.addr))
				if err == nil || !strings.Contains(err.Error(), "the target refuses the connection over RDMA: "+want) {
					t.Errorf("attached: %v", err)
				}
			})
		}
	}
}

// What a host cannot work with is refused when it attaches, and nothing is left of the attempt.
func TestRDMARefusals(t *testing.T) {
	for _, c := range []struct {
		name string
		far  func(f *rdmaFake)
		o    func(o *Options)
		want string
	}{
		{"private data of somebody else", func(f *rdmaFake) { f.accept = []byte{1, 0, 2, 0} }, nil, "private data are none of NVMe: 01 00 02 00"},
		{"no keyed SGLs", func(f *rdmaFake) { f.id.SGLS = nvmf.SGLSAnyAlign }, nil, "it takes no keyed SGLs"},
		{"nobody there", nil, func(o *Options) { o.TrSvcID = "1" }, "look at the address, and at the target's listeners over RDMA"},
		{"no RDMA", nil, func(o *Options) { o.RDMA = nil }, "RDMA is not available: nothing was set up for it"},
		{"digests", nil, func(o *Options) { o.DataDigest = true }, "hdgst and ddgst are of TCP"},
		{"the pool is too small", nil, func(o *Options) { o.QueuesPerReactor = 70 }, "no memory for I/O queue"},
	} {
		t.Run(c.name, func(t *testing.T) {
			f := newRDMAFake(t, rdmatest.Options{})
			if c.far != nil {
				c.far(f)
			}
			f.depth = 128
			h, n := newRDMAHost(t, f.near, 1)
			o := rdmaOptions(n, f.addr)
			if c.o != nil {
				c.o(&o)
			}
			if _, err := h.in.Attach(context.Background(), o); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("attached: %v; want %s", err, c.want)
			}
		})
	}
}

// A target that grants fewer receives than the queue has entries gets no more commands at once, of which requests for events leave room for others; and one
// that takes no data in capsules gets none there.
func TestRDMALimits(t *testing.T) {
	f := newRDMAFake(t, rdmatest.Options{})
	f.id.OAES = nvmf.OAESNamespaces
	f.id.SGLS &^= nvmf.SGLSOffset
	f.accept = nvmf.RDMAAccept{CRQSIZE: 3}.AppendTo(nil)
	most := 0
	var held []func()
	f.io = func(k *rdmaFakeQueue, s *nvmf.SQE, _ []byte) bool {
		held = append(held, func() { k.ioCommand(s, nil) })
		most = max(most, len(held))
		return true
	}
	h, n := newRDMAHost(t, f.near, 1)
	h.attach(rdmaOptions(n, f.addr))
	d := h.open("Nvme0n1")
	defer d.close()
	const all = 12
	ended := newDone(all)
	qs := h.submit(d, all, func(i int) *bdev.Request {
		return &bdev.Request{Kind: bdev.Write, LBA: uint64(i), Blocks: 1, Data: [][]byte{make([]byte, 4096)}}
	}, ended)
	for left := all; left > 0; left-- {
		h.await("as many are open as the target has receives for", func() (full bool) {
			f.set(func() { full = len(held) >= min(left, 3) })
			return full
		})
		_ = f.group.Reactor(0).Call(func() {
			f.set(func() {
				end := held[0]
				held = held[1:]
				end()
			})
		})
	}
	h.wait(qs, ended, bdev.StatusOK)
	f.set(func() {
		if most != 3 || f.carried != 0 {
			t.Errorf("%d commands at once, %d with data in the capsule", most, f.carried)
		}
	})
}

// Cards that could not be given back stay the initiator's: what they still do is counted, nobody opens them once more beside that, and Close may be tried
// again.
func TestRDMACloseIsTriedAgain(t *testing.T) {
	f := newRDMAFake(t, rdmatest.Options{SRQDepth: 4096})
	h := newHost(t, 1)
	opened := 0
	h.in.UseRDMA(func() (rdma.Provider, error) { opened++; return f.near, nil })
	h.attach(rdmaOptions(nil, f.addr))
	f.near.Withhold(rdmatest.Flushes)
	late, cancel := context.WithCancel(context.Background())
	cancel()
	if err := h.in.Close(late); err == nil || !strings.Contains(err.Error(), "connections have not ended") {
		t.Errorf("closed: %v", err)
	}
	if s := h.in.RDMAStats(); len(s) == 0 || s[0].QueuePairs == 0 {
		t.Errorf("what is left is not counted: %+v", s)
	}
	o := rdmaOptions(nil, f.addr)
	o.Name = "Nvme1"
	if _, err := h.in.Attach(context.Background(), o); !errors.Is(err, rdma.ErrClosed) || opened != 1 {
		t.Errorf("attached meanwhile: %v; the cards were opened %d times", err, opened)
	}
	f.near.Release()
	if err := h.in.Detach(context.Background(), "Nvme0"); err != nil {
		t.Error(err)
	}
	for range 2 { // the second has nothing to do
		if err := h.in.Close(context.Background()); err != nil {
			t.Error(err)
		}
	}
	if s := h.in.RDMAStats(); len(s) > 0 {
		t.Errorf("left: %+v", s)
	}
}

// many submits n requests on reactor 0, all at once, and waits for the end of all.
func (h *host) many(d *disk, n int, make func(i int) *bdev.Request, want bdev.Status) {
	h.t.Helper()
	ended := newDone(n)
	qs := h.submit(d, n, make, ended)
	h.wait(qs, ended, want)
}

func newDone(n int) done { return make(done, n) }

func (h *host) submit(d *disk, n int, make func(i int) *bdev.Request, ended done) (qs []*bdev.Request) {
	h.t.Helper()
	for i := range n {
		q := make(i)
		q.Done = ended
		qs = append(qs, q)
	}
	if err := h.group.Reactor(0).Call(func() {
		for _, q := range qs {
			d.channels[0].Submit(q)
		}
	}); err != nil {
		h.t.Fatal(err)
	}
	return qs
}

func (h *host) wait(qs []*bdev.Request, ended done, want bdev.Status) {
	h.t.Helper()
	for range qs {
		select {
		case s := <-ended:
			if s != want {
				h.t.Errorf("it ended with %v, want %v", s, want)
			}
		case <-time.After(patience):
			panic("a request does not end")
		}
	}
	_ = h.group.Reactor(0).Call(func() {
		for _, q := range qs {
			q.Release()
		}
	})
}

// A connection that ends in the middle of a transfer is made again, and what was open is done.
func TestRDMAReconnects(t *testing.T) {
	for _, kind := range []bdev.Kind{bdev.Read, bdev.Write} {
		for _, c := range []struct {
			name   string
			vanish func(f *rdmaFake)
		}{
			{"the target closes", func(f *rdmaFake) { f.drop() }},
			{"the target vanishes without a word", func(f *rdmaFake) { f.provider.Cut(); f.provider.Mend() }},
			{"the host's send fails", func(f *rdmaFake) { f.near.Wound(rdma.DidSend, 1, rdma.StatusRetry) }},
			{"the target's write fails", func(f *rdmaFake) { f.provider.Wound(rdma.DidWrite, 1, rdma.StatusRemoteAccess) }},
		} {
			t.Run(fmt.Sprintf("%v, %s", kind, c.name), func(t *testing.T) {
				f := newRDMAFake(t, rdmatest.Options{SRQDepth: 4096})
				came := make(chan struct{}, 64)
				half := true
				f.io = func(k *rdmaFakeQueue, s *nvmf.SQE, in []byte) bool {
					if !half {
						return false
					}
					if s.Opcode() == uint8(nvmf.IORead) {
						k.write(s, pattern(4096, 9)) // and no more of it
					} else {
						k.fetch(s, func([]byte) {})
					}
					came <- struct{}{}
					return true
				}
				h, n := newRDMAHost(t, f.near, 1)
				o := rdmaOptions(n, f.addr)
				o.IOTimeout = 200 * time.Millisecond // after which a target that says nothing is given up
				h.attach(o)
				d := h.open("Nvme0n1")
				defer d.close()
				want := pattern(64<<10, 5)
				f.set(func() {
					if kind == bdev.Read {
						copy(f.disk, want)
					}
				})
				data := pieces(bytes.Clone(want), 4096)
				if kind == bdev.Read {
					data = pieces(make([]byte, len(want)), 4096)
				}
				ended := newDone(1)
				qs := h.submit(d, 1, func(int) *bdev.Request { return &bdev.Request{Kind: kind, Blocks: 16, Data: data} }, ended)
				<-came
				f.set(func() { half = false })
				c.vanish(f)
				h.wait(qs, ended, bdev.StatusOK)
				f.set(func() {
					if got := bytes.Join(data, nil); !bytes.Equal(got, want) || !bytes.Equal(f.disk[:len(want)], want) {
						t.Error("other data")
					}
				})
				if info := h.in.Controllers()[0]; info.Losses != 1 {
					t.Errorf("%d losses, the last: %s", info.Losses, info.LastLoss)
				}
			})
		}
	}
}

// Requirement T-19: the memory of a command that is given up is its owner's again when the queue pair is flushed, and not before: until then the target
// may still write to it.
func TestRDMAMemoryIsTheCardsUntilTheFlush(t *testing.T) {
	for _, how := range []string{"pool", "heap"} {
		t.Run(how, func(t *testing.T) {
			f := newRDMAFake(t, rdmatest.Options{SRQDepth: 4096})
			var late *nvmf.SQE
			var by *rdmaFakeQueue
			f.io = func(k *rdmaFakeQueue, s *nvmf.SQE, _ []byte) bool {
				by, late = k, s
				return true
			}
			h, n := newRDMAHost(t, f.near, 1)
			o := rdmaOptions(n, f.addr)
			o.Retries, o.IOTimeout = 0, 50*time.Millisecond
			h.attach(o)
			d := h.open("Nvme0n1")
			defer d.close()
			data := make([]byte, 64<<10)
			if how == "pool" {
				data = h.pool(0, len(data))
			}
			f.near.Withhold(rdmatest.Flushes)
			ended := newDone(1)
			qs := h.submit(d, 1, func(int) *bdev.Request { return &bdev.Request{Kind: bdev.Read, Blocks: 16, Data: [][]byte{data}} }, ended)
			h.await("the queue pair is in the error state", func() bool { return f.near.Withheld() > 0 })
			// Turns go by in which a careless queue would end.
			for range 100 {
				_ = h.group.Reactor(0).Call(func() {})
			}
			select {
			case s := <-ended:
				t.Errorf("the request has ended, with %v, while the card has its memory", s)
				ended <- s
			default:
			}
			f.set(func() {
				if late == nil || by == nil {
					t.Error("the command never came")
				}
			})
			f.near.Release()
			h.wait(qs, ended, bdev.StatusIO)
		})
	}
}

// A command whose answer is there before its capsule is known to have left keeps its memory until then.
func TestRDMAAnswerBeforeTheSendIsDone(t *testing.T) {
	f := newRDMAFake(t, rdmatest.Options{SRQDepth: 4096})
	answer := make(chan func(), 1)
	f.io = func(k *rdmaFakeQueue, s *nvmf.SQE, _ []byte) bool {
		answer <- func() { k.respond(s, nvmf.StatusSuccess, 0) }
		return true
	}
	h, n := newRDMAHost(t, f.near, 1)
	h.attach(rdmaOptions(n, f.addr))
	d := h.open("Nvme0n1")
	defer d.close()
	f.near.HoldSends(true)
	ended := newDone(1)
	qs := h.submit(d, 1, func(int) *bdev.Request {
		return &bdev.Request{Kind: bdev.Write, Blocks: 1, Data: [][]byte{make([]byte, 4096)}}
	}, ended)
	_ = f.group.Reactor(0).Call(<-answer)
	h.await("it is answered", func() (is bool) {
		_ = h.group.Reactor(0).Call(func() {
			w := h.wire()
			for i := range w.loans {
				is = is || w.q.commands[i].state == commandAnswered && w.loans[i].buf != nil
			}
		})
		return is
	})
	if len(ended) > 0 {
		t.Error("the request has ended while the card has its data")
	}
	f.near.HoldSends(false)
	h.wait(qs, ended, bdev.StatusOK)
}

// A target that answers what it was not asked loses the connection, and is told apart.
func TestRDMAWrongAnswers(t *testing.T) {
	for _, c := range []struct {
		name string
		do   func(k *rdmaFakeQueue, s *nvmf.SQE)
		want string
	}{
		{"a response that is too short", func(k *rdmaFakeQueue, s *nvmf.SQE) { k.send(make([]byte, 15)) }, "a response of 15 bytes"},
		{"an empty response", func(k *rdmaFakeQueue, s *nvmf.SQE) { k.send(nil) }, "a response of 0 bytes"},
		{"a response that is too long", func(k *rdmaFakeQueue, s *nvmf.SQE) { k.send(make([]byte, 17)) }, ""},
		{"a command that is not open", func(k *rdmaFakeQueue, s *nvmf.SQE) { k.answer(nvmf.CQE{CID: s.CID() ^ 0x1000}) }, "is not open"},
		{"a slot that there is not", func(k *rdmaFakeQueue, s *nvmf.SQE) { k.answer(nvmf.CQE{CID: 0xFFF}) }, "answer to command 0xfff, which is not open"},
		{"two answers", func(k *rdmaFakeQueue, s *nvmf.SQE) {
			k.respond(s, nvmf.StatusInternal|nvmf.DNR, 0)
			k.respond(s, nvmf.StatusSuccess, 0)
		}, "is not open"},
		{"a key that is not ours", func(k *rdmaFakeQueue, s *nvmf.SQE) {
			d := s.SGL()
			d.Key ^= 1
			s.SetSGL(d)
			k.write(s, make([]byte, 4096))
		}, ""},
		{"a place that is not ours", func(k *rdmaFakeQueue, s *nvmf.SQE) {
			d := s.SGL()
			d.Address += 1 << 40
			s.SetSGL(d)
			k.write(s, make([]byte, 4096))
		}, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			f := newRDMAFake(t, rdmatest.Options{SRQDepth: 4096})
			first := true
			f.io = func(k *rdmaFakeQueue, s *nvmf.SQE, _ []byte) bool {
				if !first {
					return false
				}
				first = false
				c.do(k, s)
				return true
			}
			h, n := newRDMAHost(t, f.near, 1)
			h.attach(rdmaOptions(n, f.addr))
			d := h.open("Nvme0n1")
			defer d.close()
			ended := newDone(1)
			qs := h.submit(d, 1, func(int) *bdev.Request {
				return &bdev.Request{Kind: bdev.Read, Blocks: 1, Data: [][]byte{make([]byte, 4096)}}
			}, ended)
			h.await("the connection is lost and made again", func() bool {
				i := h.in.Controllers()[0]
				return i.Losses == 1 && i.State == StateConnected
			})
			if why := h.in.Controllers()[0].LastLoss; !strings.Contains(why, c.want) {
				t.Errorf("lost because of: %s", why)
			}
			select {
			case <-ended:
				ended <- bdev.StatusOK
			case <-time.After(patience):
				panic("no end")
			}
			h.wait(qs, ended, bdev.StatusOK)
		})
	}
}

// A target that takes a key away, without being asked to, has broken the protocol: the answer that came with it is none.
func TestRDMAKeyThatIsTakenAway(t *testing.T) {
	f := newRDMAFake(t, rdmatest.Options{})
	f.io = func(k *rdmaFakeQueue, s *nvmf.SQE, _ []byte) bool {
		k.invalidate(s.SGL().Key, nvmf.CQE{CID: s.CID()})
		return true
	}
	h, n := newRDMAHost(t, f.near, 1)
	o := rdmaOptions(n, f.addr)
	o.FastIOFail = 100 * time.Millisecond
	h.attach(o)
	d := h.open("Nvme0n1")
	defer d.close()
	// The card took the key, and has no other for that memory: there is no connection again.
	d.want("read", 0, &bdev.Request{Kind: bdev.Read, Blocks: 1, Data: [][]byte{make([]byte, 4096)}}, bdev.StatusNotReady)
	if i := h.in.Controllers()[0]; i.Losses != 1 || !strings.Contains(i.LastLoss, "without being asked to") {
		t.Errorf("%d losses, the last because of: %s", i.Losses, i.LastLoss)
	}
}

// Where the pool has nothing left requests wait, one after the other has the spare buffer, and all end.
func TestRDMAWithoutMemory(t *testing.T) {
	f := newRDMAFake(t, rdmatest.Options{SRQDepth: 4096})
	h, n := newRDMAHost(t, f.near, 1)
	o := rdmaOptions(n, f.addr)
	o.QueueDepth = 8
	h.attach(o)
	d := h.open("Nvme0n1")
	defer d.close()
	feed := h.starve(0)
	want := pattern(1<<20, 3)
	write := func(i int) *bdev.Request {
		return &bdev.Request{Kind: bdev.Write, LBA: uint64(i%4) * 256, Blocks: 256, Data: pieces(bytes.Clone(want), 4096)}
	}
	h.many(d, 20, write, bdev.StatusOK)
	f.set(func() {
		if !bytes.Equal(f.disk, bytes.Repeat(want, 4)) {
			t.Error("other data")
		}
	})
	// And when it comes back while they wait.
	ended := newDone(20)
	qs := h.submit(d, 20, write, ended)
	feed()
	h.wait(qs, ended, bdev.StatusOK)
}

// Nothing on the way of a request over RDMA allocates.
func TestRDMARequestsAllocateNothing(t *testing.T) {
	for _, inline := range []int{256, -1} {
		f := newRDMAFake(t, rdmatest.Options{SRQDepth: 4096, InlineMax: inline})
		h, n := newRDMAHost(t, f.near, 1)
		o := rdmaOptions(n, f.addr)
		o.QueueDepth = 8
		h.attach(o)
		d := h.open("Nvme0n1")
		loud := f.hush()
		for _, c := range []struct {
			kind  bdev.Kind
			bytes int
			pool  bool
		}{{bdev.Read, 4096, true}, {bdev.Write, 4096, true}, {bdev.Write, 64 << 10, true}, {bdev.Read, 4096, false}, {bdev.Write, 4096, false}, {bdev.Write, 64 << 10, false}} {
			t.Run(fmt.Sprintf("inline %d, %v of %d bytes, pool %v", inline, c.kind, c.bytes, c.pool), func(t *testing.T) {
				s := d.spin(0, 16, c.kind, c.bytes, 16) // more than the queue holds: the others wait
				if c.pool {
					s.pooled()
				}
				s.wantQuiet(t, fabricsOwn, func() { s.run(400) })
			})
		}
		d.close()
		loud()
	}
}

// Pieces that adjoin, but lie in two chunks of the pool, have two keys, so they are not one piece.
func TestRDMADataInTwoChunks(t *testing.T) {
	f := newRDMAFake(t, rdmatest.Options{SRQDepth: 4096})
	h, n := newRDMAHost(t, f.near, 1)
	h.attach(rdmaOptions(n, f.addr))
	d := h.open("Nvme0n1")
	defer d.close()
	at := map[uint64][]byte{}
	for range 2 * reactor.ChunkBytes / reactor.BufferMax {
		b := h.pool(0, reactor.BufferMax)
		at[address(b)] = b
	}
	base := address(h.group.Reactor(0).Memory().Range())
	found := false
	for begin, b := range at {
		before := at[begin-reactor.BufferMax]
		if (begin-base)%reactor.ChunkBytes != 0 || before == nil {
			continue
		}
		found = true
		want := pattern(64<<10, 1)
		out := [][]byte{before[reactor.BufferMax-32<<10:], b[:32<<10]}
		copy(out[0], want)
		copy(out[1], want[32<<10:])
		d.want("write", 0, &bdev.Request{Kind: bdev.Write, Blocks: 16, Data: out}, bdev.StatusOK)
		clear(out[0])
		clear(out[1])
		d.want("read", 0, &bdev.Request{Kind: bdev.Read, Blocks: 16, Data: out}, bdev.StatusOK)
		if !bytes.Equal(bytes.Join(out, nil), want) {
			t.Error("other data was read")
		}
	}
	if !found {
		t.Error("no two buffers adjoin over the end of a chunk")
	}
	if i := h.in.Controllers()[0]; i.Losses > 0 {
		t.Error("the connection was lost:", i.LastLoss)
	}
}
