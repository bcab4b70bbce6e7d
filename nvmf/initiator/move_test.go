package initiator

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/pollux-storage/pollux/bdev"
	"github.com/pollux-storage/pollux/nvmf"
	"github.com/pollux-storage/pollux/nvmf/nvmftest"
)

const (
	loadWriters = 8   // with a region each
	loadRegion  = 128 // blocks
	loadBlock   = 4096
)

// verifiedLoad writes and reads back what it wrote until stop is called, on both reactors of the host: small writes, which travel with their
// commands, and large ones, for which the target asks; many at once on each queue. No request may fail, no byte be another.
func verifiedLoad(t testing.TB, d *disk) (stop func()) {
	over := make(chan struct{})
	var wait sync.WaitGroup
	for w := range loadWriters {
		wait.Go(func() {
			rnd := rand.New(rand.NewPCG(uint64(w), 1))
			want := make([]byte, loadRegion*loadBlock)
			do := func(kind bdev.Kind, at int, b []byte) bool {
				q := &bdev.Request{Kind: kind, LBA: uint64(w*loadRegion + at), Blocks: uint64(len(b) / loadBlock)}
				q.SetData(b)
				s := d.do(w%2, q)
				if s != bdev.StatusOK {
					t.Errorf("%v ended as %v", kind, s)
				}
				return s == bdev.StatusOK
			}
			for n := 0; ; n++ {
				select {
				case <-over:
					return
				default:
				}
				blocks := 1 + rnd.IntN(2)
				if n%4 == 0 {
					blocks = 1 + rnd.IntN(64)
				}
				at := rnd.IntN(loadRegion - blocks + 1)
				part := want[at*loadBlock : (at+blocks)*loadBlock]
				for i := 0; i < len(part); i += 8 {
					part[i], part[i+1], part[i+2], part[i+3] = byte(n), byte(n>>8), byte(w), byte(i>>12)
				}
				from, got := rnd.IntN(loadRegion-16), make([]byte, 16*loadBlock)
				if !do(bdev.Write, at, part) || !do(bdev.Read, from, got) {
					return
				}
				if !bytes.Equal(got, want[from*loadBlock:(from+16)*loadBlock]) {
					t.Errorf("a read of 16 blocks at %d gives other bytes than were written", w*loadRegion+from)
					return
				}
			}
		})
	}
	return func() {
		close(over)
		wait.Wait()
	}
}

// hammer is one of many requests that are submitted again as soon as they end.
type hammer struct {
	bdev.Request
	ch   *bdev.Channel
	over *bool // the reactor's
	wait *sync.WaitGroup
}

// RequestDone submits it again.
func (h *hammer) RequestDone(*bdev.Request) {
	if *h.over {
		h.Release()
		h.wait.Done()
		return
	}
	h.ch.Submit(&h.Request)
}

// keepBusy reads on both reactors of the host as much as it can until stop is called.
func keepBusy(t testing.TB, d *disk, depth, blocks int) (stop func()) {
	var wait sync.WaitGroup
	var over [2]bool
	for i := range over {
		wait.Add(depth)
		if err := d.h.group.Reactor(i).Call(func() {
			for range depth {
				q := &hammer{ch: d.channels[i], over: &over[i], wait: &wait}
				q.Kind, q.LBA, q.Blocks, q.Done = bdev.Read, 2048, uint64(blocks), q
				q.SetData(make([]byte, blocks*loadBlock))
				q.ch.Submit(&q.Request)
			}
		}); err != nil {
			t.Fatal(err)
		}
	}
	return func() {
		for i := range over {
			_ = d.h.group.Reactor(i).Call(func() { over[i] = true })
		}
		wait.Wait()
	}
}

// Queues go to and fro between the target's reactors under load, and the hosts notice nothing.
func TestQueuesMoveUnderLoad(t *testing.T) {
	for _, digests := range []bool{false, true} {
		t.Run(fmt.Sprintf("digests %v", digests), func(t *testing.T) {
			e := nvmftest.Start(t, nvmftest.Options{Reactors: 2, MemoryBytes: 64 << 20})
			h := newHost(t, 2)
			o := options(e.Addr)
			o.Retries, o.HeaderDigest, o.DataDigest = 0, digests, digests // what is lost shows
			d := h.open(h.attach(o)[0])
			defer d.close()
			stop := verifiedLoad(t, d)
			id := h.in.Controllers()[0].CNTLID
			const moves = 300
			late := 0
			for i := range moves {
				err := e.Target.MoveQueue(context.Background(), nvmftest.NQN, id, nvmf.QID(1+i%2), (i/2)%2, 10*time.Second)
				if errors.Is(err, nvmf.ErrMoveTime) { // a machine that is very busy
					late++
				} else if err != nil {
					t.Error(err)
					break
				}
			}
			stop()
			s, err := e.Target.Stats()
			if err != nil {
				t.Fatal(err)
			}
			if n := s[0].MovedIn + s[1].MovedIn; n < moves/2 {
				t.Errorf("%d moves, and %d came too late", n, late)
			}
			if c := h.in.Controllers()[0]; c.Losses != 0 {
				t.Errorf("%d connections were lost: %s", c.Losses, c.LastLoss)
			}
		})
	}
}

// Of two busy queues on one reactor one goes to the other reactor, which has nothing to do, and there it stays.
func TestUnevenReactorsAreRelieved(t *testing.T) {
	e := nvmftest.Start(t, nvmftest.Options{Reactors: 2, MemoryBytes: 64 << 20})
	h := newHost(t, 2)
	o := options(e.Addr)
	o.Retries = 0
	d := h.open(h.attach(o)[0])
	defer d.close()
	id := h.in.Controllers()[0].CNTLID
	for qid := nvmf.QID(1); qid <= 2; qid++ {
		if err := e.Target.MoveQueue(context.Background(), nvmftest.NQN, id, qid, 0, patience); err != nil {
			t.Fatal(err)
		}
	}
	spread := func() bool {
		queues, err := e.Target.Queues(nvmftest.NQN)
		if err != nil || len(queues) != 3 {
			t.Fatalf("%+v, %v", queues, err)
		}
		return queues[1].Reactor != queues[2].Reactor
	}
	if spread() {
		t.Fatal("the queues are not where they were moved to")
	}
	stop := verifiedLoad(t, d)
	defer stop()
	defer keepBusy(t, d, 32, 16)()
	e.Target.Balance(nvmf.BalanceOptions{Move: true, Period: 20 * time.Millisecond, Hot: 20})
	h.await("one queue goes to the other reactor", spread)
}

// How long a queue takes to move that has reads of 4 KiB under way, 32 deep: this is the pause that its host sees.
func BenchmarkMove(b *testing.B) {
	e := nvmftest.Start(b, nvmftest.Options{Reactors: 2, MemoryBytes: 64 << 20})
	h := newHost(b, 2)
	d := h.open(h.attach(options(e.Addr))[0])
	defer d.close()
	id := h.in.Controllers()[0].CNTLID
	defer keepBusy(b, d, 32, 1)()
	at := 0
	for b.Loop() {
		at = 1 - at
		if err := e.Target.MoveQueue(context.Background(), nvmftest.NQN, id, 1, at, patience); err != nil {
			b.Fatal(err)
		}
	}
}
