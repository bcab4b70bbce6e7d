package bdev_test

import (
	"sync"
	"testing"
	"time"

	"github.com/pollux-storage/pollux/bdev"
	"github.com/pollux-storage/pollux/bdev/bdevtest"
	"github.com/pollux-storage/pollux/reactor"
)

// busy keeps depth requests of a kind in flight on a reactor until stop is closed.
func busy(e *bdevtest.Env, core, depth int, k bdev.Kind, blocks uint64, stop chan struct{}, all *sync.WaitGroup) []*bdevtest.Job {
	var jobs []*bdevtest.Job
	all.Add(depth)
	for range depth {
		j := e.NewJob(core)
		j.Then(func(j *bdevtest.Job) {
			select {
			case <-stop:
				all.Done()
			default:
				if j.Q.Status != bdev.StatusOK {
					e.Errorf("%v: %v", k, j.Q.Status)
				}
				j.Submit()
			}
		})
		jobs = append(jobs, j)
	}
	call(e.Group.Reactor(core), func() {
		for _, j := range jobs {
			j.Q.Kind, j.Q.Blocks = k, blocks
			j.Q.SetData(j.Memory(int(blocks) << e.Shift()))
			j.Submit()
		}
	})
	return jobs
}

// measure lets f run for a second and gives what the device did meanwhile, per second and reactor.
func measure(e *bdevtest.Env, k bdev.Kind) []float64 {
	ops := func() ([]uint64, reactor.Ticks) {
		out := make([]uint64, e.Group.Len())
		for i, s := range e.Device.ChannelStats() {
			out[i] = s.Kinds[k].Ops
		}
		return out, reactor.Clock()
	}
	before, began := ops()
	time.Sleep(time.Second)
	after, ended := ops()
	rate := make([]float64, len(before))
	for i := range rate {
		rate[i] = float64(after[i]-before[i]) / (float64(ended-began) / float64(reactor.Second))
	}
	return rate
}

func total(rate []float64) float64 {
	sum := 0.0
	for _, r := range rate {
		sum += r
	}
	return sum
}

// That the rate is reached, and shared equally, is tested apart from any clock (budget_test.go): how far reactors get here
// depends on who else wants the processors. Here is shown that it is in force, and never exceeded.
func TestLimitsAreKeptByAllReactorsTogether(t *testing.T) {
	// Beside what a second makes, it may use what has gathered before: a tenth of a second's worth in the chest, where reactors were
	// away, and less in accounts and with payers (the spans of budget.go).
	const most = 1.2
	e := rig(t, 2, 4096, on(null, qos(bdev.Limits{IOs: 20_000})))
	stop := make(chan struct{})
	var all sync.WaitGroup
	jobs := append(busy(e, 0, 8, bdev.Read, 1, stop, &all), busy(e, 1, 32, bdev.Read, 1, stop, &all)...)
	rate := measure(e, bdev.Read)
	if sum := total(rate); sum > most*20_000 || rate[0] == 0 || rate[1] == 0 {
		t.Errorf("%v requests a second, the limit is 20,000", rate)
	}

	// Live: another limit, of another thing, then none.
	if err := e.Device.SetLimits(bdev.Limits{ReadBytes: 40 << 20}); err != nil {
		t.Fatal(err)
	}
	if sum := total(measure(e, bdev.Read)); sum > most*10*1024 || sum == 0 {
		t.Errorf("%v reads of 4 KiB a second, the limit is 40 MiB", sum)
	}
	if err := e.Device.SetLimits(bdev.Limits{WriteBytes: 1}); err != nil {
		t.Fatal(err)
	}
	if sum := total(measure(e, bdev.Read)); sum == 0 {
		t.Errorf("no reads while only writes are limited")
	}
	if err := e.Device.SetLimits(bdev.Limits{}); err != nil {
		t.Fatal(err)
	}
	if e.Device.Limits() != (bdev.Limits{}) {
		t.Error("limits that were lifted are told")
	}
	close(stop)
	all.Wait()
	for _, j := range jobs {
		j.Finish()
	}
}

func TestRequestsThatWaitForALimitEndEarlyWhenTheyMust(t *testing.T) {
	e := rig(t, 2, 4096, null)
	if err := e.Device.SetLimits(bdev.Limits{WriteBytes: 1}); err != nil {
		t.Fatal(err)
	}
	for core := range 2 {
		write := bdevtest.Op{Kind: bdev.Write, Data: e.Block(1, 1)}
		var waiting []*bdevtest.Job
		begin := func() *bdevtest.Job {
			j := e.Begin(core, write)
			waiting = append(waiting, j)
			return j
		}
		begin() // may be the one that overdraws
		a, b := begin(), begin()
		e.Must(core, bdevtest.Op{Kind: bdev.Read, Data: e.Block(1, 1)}) // reads pass
		e.Must(core, bdevtest.Op{Kind: bdev.Flush})
		if !a.Q.InFlight() || !b.Q.InFlight() {
			t.Fatal("writes at a byte a second have ended")
		}
		call(e.Group.Reactor(core), func() {
			if !e.Channels[core].Abort(&b.Q) {
				t.Error("a request that waits for a limit cannot be aborted")
			}
		})
		b.Wait()
		if b.Q.Status != bdev.StatusAborted {
			t.Errorf("aborted: %v", b.Q.Status)
		}
		e.Must(core, bdevtest.Op{Kind: bdev.Reset})
		a.Wait()
		if a.Q.Status != bdev.StatusAborted {
			t.Errorf("reset: %v", a.Q.Status)
		}
		c := begin()
		if err := e.Device.SetLimits(bdev.Limits{}); err != nil {
			t.Fatal(err)
		}
		c.Wait()
		if c.Q.Status != bdev.StatusOK {
			t.Errorf("after the limit was lifted: %v", c.Q.Status)
		}
		if err := e.Device.SetLimits(bdev.Limits{WriteBytes: 1}); err != nil {
			t.Fatal(err)
		}
		waiting[0].Wait()
		for _, j := range waiting {
			j.Finish()
		}
	}
}
