package bdev_test

import (
	"bytes"
	"errors"
	"testing"

	"github.com/pollux-storage/pollux/bdev"
	"github.com/pollux-storage/pollux/bdev/bdevtest"
)

func faulty(t *testing.T, n int) (*bdevtest.Env, *bdev.Fault) {
	e := rig(t, n, 4096, on(mem, fault))
	return e, e.Device.Driver().(*bdev.Fault)
}

func inject(t *testing.T, f *bdev.Fault, r bdev.Rule) {
	t.Helper()
	if err := f.Inject(r); err != nil {
		t.Fatal(err)
	}
}

var readsAndWrites = bdev.SetOf(bdev.Read, bdev.Write)

func TestEveryStatusCanBeInjectedAtExactBlocks(t *testing.T) {
	e, f := faulty(t, 1)
	for s := range bdev.Statuses {
		if s == bdev.StatusOK {
			continue
		}
		inject(t, f, bdev.Rule{Kinds: readsAndWrites, First: 10, Blocks: 3, Status: s, Detail: 0x281})
		for lba := uint64(8); lba < 15; lba++ {
			want := bdev.StatusOK
			if lba+1 >= 10 && lba < 13 {
				want = s
			}
			r := e.Want("two blocks around those that fail", 0, want, bdevtest.Op{Kind: bdev.Write, LBA: lba, Data: e.Block(1, 2)})
			if want != bdev.StatusOK && r.Detail != 0x281 {
				t.Errorf("%v: detail %#x", s, r.Detail)
			}
		}
		e.Want("another kind", 0, bdev.StatusOK, bdevtest.Op{Kind: bdev.WriteZeroes, LBA: 10, Blocks: 3})
		f.Clear(readsAndWrites)
		e.Want("cleared", 0, bdev.StatusOK, bdevtest.Op{Kind: bdev.Read, LBA: 10, Data: e.Block(1, 1)})
	}
}

func TestRulesCountOverAllReactors(t *testing.T) {
	e, f := faulty(t, 2)
	inject(t, f, bdev.Rule{Kinds: bdev.SetOf(bdev.Read), Count: 3})
	failed := 0
	for i := range 20 {
		if e.Do(i%2, bdevtest.Op{Kind: bdev.Read, Data: e.Block(1, 1)}).Status == bdev.StatusIO {
			failed++
		}
	}
	if failed != 3 {
		t.Errorf("%d reads failed, want 3", failed)
	}
	inject(t, f, bdev.Rule{Kinds: bdev.SetOf(bdev.Write), Every: 4})
	failed = 0
	for i := range 40 {
		if e.Do(i%2, bdevtest.Op{Kind: bdev.Write, Data: e.Block(1, 1)}).Status == bdev.StatusIO {
			failed++
		}
	}
	if failed != 10 {
		t.Errorf("%d of 40 writes failed, want one of 4", failed)
	}
	// Taking back the reads leaves the writes.
	f.Clear(bdev.SetOf(bdev.Read))
	failed = 0
	for range 8 {
		if e.Do(0, bdevtest.Op{Kind: bdev.Write, Data: e.Block(1, 1)}).Status == bdev.StatusIO {
			failed++
		}
	}
	if failed != 2 {
		t.Errorf("%d of 8 writes failed after reads were cleared, want 2", failed)
	}
}

func TestOnlyADeepQueueFails(t *testing.T) {
	e := rig(t, 1, 4096, on(mem, delay(bdev.Latencies{ReadAverage: 1e6, ReadP99: 1e6}), fault))
	f := e.Device.Driver().(*bdev.Fault)
	inject(t, f, bdev.Rule{Kinds: bdev.SetOf(bdev.Read), Depth: 4})
	var jobs []*bdevtest.Job
	for range 6 {
		jobs = append(jobs, e.NewJob(0))
	}
	call(e.Group.Reactor(0), func() {
		for _, j := range jobs {
			j.Q.Kind, j.Q.Blocks = bdev.Read, 1
			j.Q.SetData(j.Memory(4096))
			j.Submit()
		}
	})
	failed := 0
	for _, j := range jobs {
		j.Wait()
		if j.Finish().Status == bdev.StatusIO {
			failed++
		}
	}
	if failed != 2 {
		t.Errorf("%d of 6 reads failed, want those above a depth of 4", failed)
	}
}

func TestPendingRequestsWaitForResumeAbortOrReset(t *testing.T) {
	e, f := faulty(t, 1)
	write := func() *bdevtest.Job {
		inject(t, f, bdev.Rule{Kinds: bdev.SetOf(bdev.Write), Effect: bdev.EffectPending, Count: 1})
		j := e.Begin(0, bdevtest.Op{Kind: bdev.Write, LBA: 5, Data: e.Block(3, 1), FUA: true})
		e.Must(0, bdevtest.Op{Kind: bdev.Flush}) // others pass
		if !j.Q.InFlight() {
			t.Fatal("a request that is kept has ended")
		}
		return j
	}
	j := write()
	if err := f.Resume(); err != nil {
		t.Fatal(err)
	}
	j.Wait()
	if s := j.Finish().Status; s != bdev.StatusOK {
		t.Errorf("resumed: %v", s)
	}
	e.WantData("resumed", 0, 5, e.Block(3, 1))

	j = write()
	call(e.Group.Reactor(0), func() {
		if !e.Channels[0].Abort(&j.Q) {
			t.Error("a request that is kept cannot be aborted")
		}
	})
	j.Wait()
	if s := j.Finish().Status; s != bdev.StatusAborted {
		t.Errorf("aborted: %v", s)
	}

	j = write()
	e.Must(0, bdevtest.Op{Kind: bdev.Reset})
	j.Wait()
	if s := j.Finish().Status; s != bdev.StatusAborted {
		t.Errorf("reset: %v", s)
	}
}

func TestDataIsCorruptedByOneByte(t *testing.T) {
	e, f := faulty(t, 1)
	data := e.Block(1, 3)
	pieces := []int{4096, 8192}
	bad := bytes.Clone(data)
	bad[5000] ^= 0x40

	inject(t, f, bdev.Rule{Kinds: bdev.SetOf(bdev.Write), Effect: bdev.EffectCorruptData, Offset: 5000, Xor: 0x40, Count: 1})
	e.Must(0, bdevtest.Op{Kind: bdev.Write, LBA: 2, Data: data, Pieces: pieces})
	e.WantData("after a corrupted write", 0, 2, bad)
	e.Must(0, bdevtest.Op{Kind: bdev.Write, LBA: 2, Data: data})

	inject(t, f, bdev.Rule{Kinds: bdev.SetOf(bdev.Read), Effect: bdev.EffectCorruptData, Offset: 5000, Xor: 0x40, Count: 1})
	if r := e.Must(0, bdevtest.Op{Kind: bdev.Read, LBA: 2, Data: data, Pieces: pieces}); !bytes.Equal(r.Data, bad) {
		t.Error("a corrupted read gives something else than that")
	}
	e.WantData("after a corrupted read", 0, 2, data)

	inject(t, f, bdev.Rule{Kinds: readsAndWrites, Effect: bdev.EffectCorruptData, Offset: 1 << 20, Xor: 1})
	e.Must(0, bdevtest.Op{Kind: bdev.Write, LBA: 2, Data: data})
	e.WantData("corrupted past its end", 0, 2, data)

	if err := f.Inject(bdev.Rule{Kinds: readsAndWrites, Effect: bdev.EffectCorruptData}); !errors.Is(err, bdev.ErrInvalid) {
		t.Errorf("corrupting by a value of 0: %v", err)
	}
}

// The zeros of an emulated WriteZeroes lie in memory that nobody may write to.
func TestCorruptingZeroesLeavesTheirMemoryAlone(t *testing.T) {
	e := rig(t, 1, 4096, on(cache(0, 0), fault, passthru))
	_, below := e.Device.Driver().(*bdev.Passthru), e.Device.Driver().(*bdev.Passthru).Base().Driver().(*bdev.Fault)
	inject(t, below, bdev.Rule{Kinds: bdev.SetOf(bdev.Write), Effect: bdev.EffectCorruptData, Offset: 7, Xor: 1})
	e.Must(0, bdevtest.Op{Kind: bdev.WriteZeroes, LBA: 3, Blocks: 2})
	e.WantData("zeroes", 0, 3, make([]byte, 8192))
}

func TestWithoutMemoryARequestIsTriedAgain(t *testing.T) {
	e, f := faulty(t, 1)
	inject(t, f, bdev.Rule{Kinds: bdev.SetOf(bdev.Write), Effect: bdev.EffectNoMemory, Count: 3})
	e.Write(0, 1, e.Block(9, 1))
	e.WantData("written in the end", 0, 1, e.Block(9, 1))

	inject(t, f, bdev.Rule{Kinds: bdev.SetOf(bdev.Write), Effect: bdev.EffectNoMemory})
	j := e.Begin(0, bdevtest.Op{Kind: bdev.Write, LBA: 1, Data: e.Block(8, 1)})
	e.Must(0, bdevtest.Op{Kind: bdev.Reset})
	j.Wait()
	if s := j.Finish().Status; s != bdev.StatusAborted {
		t.Errorf("reset while it had no memory: %v", s)
	}
	f.Clear(^bdev.KindSet(0))
}
