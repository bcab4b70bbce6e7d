package bench

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"runtime/metrics"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/pollux-storage/pollux/bdev"
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m, goleak.Cleanup(func(code int) {
		if programDir != "" {
			_ = os.RemoveAll(programDir)
		}
		os.Exit(code)
	}))
}

func TestCountsAreExact(t *testing.T) {
	for _, c := range []struct {
		name string
		w    Workload
		want map[string][2]uint64 // ops, bytes
	}{
		{"reads by number, each job", Workload{RW: "randread", BlockBytes: 4096, Depth: 8, Jobs: 3, Number: 1000},
			map[string][2]uint64{"read": {3000, 3000 << 12}}},
		{"writes by bytes, rounded up", Workload{RW: "write", BlockBytes: 8192, Depth: 4, Jobs: 1, IOBytes: 99999},
			map[string][2]uint64{"write": {13, 13 * 8192}}},
		{"one pass when nothing is said", Workload{RW: "write", BlockBytes: 16384, Depth: 32, Jobs: 2},
			map[string][2]uint64{"write": {256, 4 << 20}}},
		{"a depth larger than the number", Workload{RW: "read", BlockBytes: 4096, Depth: 64, Jobs: 1, Number: 3},
			map[string][2]uint64{"read": {3, 3 << 12}}},
		{"a flush after every 10 writes", Workload{RW: "randwrite", BlockBytes: 4096, Depth: 4, Jobs: 1, Number: 100, FsyncEvery: 10},
			map[string][2]uint64{"write": {100, 100 << 12}, "flush": {10, 0}}},
		{"and one for the rest", Workload{RW: "randwrite", BlockBytes: 4096, Depth: 4, Jobs: 1, Number: 101, FsyncEvery: 10},
			map[string][2]uint64{"write": {101, 101 << 12}, "flush": {11, 0}}},
		{"trims", Workload{RW: "randtrim", BlockBytes: 65536, Depth: 2, Jobs: 1, Number: 50},
			map[string][2]uint64{"unmap": {50, 50 << 16}}},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := newTestRig(t, 2)
			f, err := r.mem(t, 1024).Run(t.Context(), c.w, Options{})
			if err != nil {
				t.Fatal(err)
			}
			if len(f.Kinds) != len(c.want) {
				t.Errorf("kinds %v, want %v", f.Kinds, c.want)
			}
			for k, want := range c.want {
				got := f.Kinds[k]
				if got.Ops != want[0] || got.Bytes != want[1] {
					t.Errorf("%s: %d requests of %d bytes, want %v", k, got.Ops, got.Bytes, want)
				}
				if got.Latency.Min <= 0 || got.Latency.P50 < got.Latency.Min || got.Latency.Max < got.Latency.P999 {
					t.Errorf("%s: latencies %+v are not in order", k, got.Latency)
				}
			}
		})
	}
}

func TestEveryNthWriteCarriesFUA(t *testing.T) {
	r, l := newTestRig(t, 1), &liar{}
	w := Workload{RW: "randwrite", BlockBytes: 4096, Depth: 4, Jobs: 1, Number: 100, FUAEvery: 3}
	if _, err := r.liar(t, 64, l).Run(t.Context(), w, Options{}); err != nil {
		t.Fatal(err)
	}
	if l.fua != 33 || l.seen[bdev.Write] != 100 || l.seen[bdev.Flush] != 0 {
		t.Errorf("%d writes, %d of them with FUA, %d flushes", l.seen[bdev.Write], l.fua, l.seen[bdev.Flush])
	}
}

func TestRunByTimeEndsAndLeavesTheRampOut(t *testing.T) {
	r := newTestRig(t, 1)
	w := Workload{RW: "randrw", ReadPercent: 50, BlockBytes: 4096, Depth: 2, Jobs: 2, RuntimeSeconds: 0.05, RampSeconds: 0.05}
	s := r.mem(t, 64)
	f, err := s.Run(t.Context(), w, Options{})
	if err != nil {
		t.Fatal(err)
	}
	if f.Seconds < 0.049 || f.Total.Ops == 0 {
		t.Errorf("%d requests in %.3f s", f.Total.Ops, f.Seconds)
	}
	all := s.handle.Device().Stats()
	if n := all.Kinds[bdev.Read].Ops + all.Kinds[bdev.Write].Ops; n <= f.Total.Ops {
		t.Errorf("%d requests were counted, and the device saw %d: the ramp was counted too", f.Total.Ops, n)
	}
}

func TestRateIsKept(t *testing.T) {
	r := newTestRig(t, 1)
	// 100 requests at 2,000/s: the last is due after 49.5 ms, whatever the machine does.
	w := Workload{RW: "randread", BlockBytes: 4096, Depth: 4, Jobs: 1, Number: 100, RateIOPS: 2000}
	f, err := r.null(t, 64).Run(t.Context(), w, Options{})
	if err != nil {
		t.Fatal(err)
	}
	if f.Total.Ops != 100 || f.Seconds < 0.0494 {
		t.Errorf("%d requests in %.4f s", f.Total.Ops, f.Seconds)
	}
}

// The ramp ends while the job waits for its pace, with nothing in flight.
func TestRateIsKeptAfterTheRamp(t *testing.T) {
	r := newTestRig(t, 1)
	w := Workload{RW: "randread", BlockBytes: 4096, Depth: 1, Jobs: 1, RateIOPS: 20, RampSeconds: 0.02, RuntimeSeconds: 0.2}
	f, err := r.null(t, 64).Run(t.Context(), w, Options{})
	if err != nil {
		t.Fatal(err)
	}
	if f.Total.Ops == 0 {
		t.Error("no requests after the ramp")
	}
}

func TestVerifyPassesOnAnHonestDevice(t *testing.T) {
	for _, c := range []struct {
		name string
		w    Workload
	}{
		{"one hot place, deep queue", Workload{RW: "randwrite", BlockBytes: 4096, Depth: 128, Jobs: 1, Size: 4096, Number: 2000}},
		{"overlapping writes of several blocks", Workload{RW: "randwrite", BlockBytes: 16384, Depth: 64, Jobs: 2, Size: 256 << 10, Number: 2000}},
		{"mixed with trims, skewed", Workload{RW: "randrw", ReadPercent: 40, TrimPercent: 20, BlockBytes: 8192, Depth: 32, Jobs: 2, Zipf: 1.2, Number: 3000}},
		{"sequential", Workload{RW: "write", BlockBytes: 65536, Depth: 8, Jobs: 2}},
		{"reads and writes by time", Workload{RW: "randrw", ReadPercent: 50, BlockBytes: 4096, Depth: 16, Jobs: 1, RuntimeSeconds: 0.03, RampSeconds: 0.01}},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := newTestRig(t, 2)
			c.w.Verify = true
			f, err := r.mem(t, 1024).Run(t.Context(), c.w, Options{})
			if err != nil {
				t.Fatal(err)
			}
			if f.Verify.Blocks == 0 || f.Verify.Mismatches != 0 {
				t.Errorf("%+v", f.Verify)
			}
		})
	}
}

func TestVerifyCatchesEachLie(t *testing.T) {
	const victim = 9 // LBA
	once := func(k bdev.Kind, f func(l *liar, q *bdev.Request)) func(*liar, *bdev.Request) bool {
		n := 0
		return func(l *liar, q *bdev.Request) bool {
			if q.Kind != k || q.LBA != victim {
				return false
			}
			if n++; n != 2 {
				return false
			}
			f(l, q)
			q.CompleteLater(bdev.StatusOK)
			return true
		}
	}
	for _, c := range []struct {
		name string
		lie  func(*liar, *bdev.Request) bool
		want string
	}{
		{"an acknowledged write is lost, the older block stays", once(bdev.Write, func(*liar, *bdev.Request) {}), "stale: generation 1; expected generation 2"},
		{"a write goes to the block beside it", once(bdev.Write, func(l *liar, q *bdev.Request) {
			copy(l.mem[(victim-1)<<12:], q.Data[0])
		}), "misplaced: generation 2 of LBA 9"},
		{"half of a block is written", once(bdev.Write, func(l *liar, q *bdev.Request) {
			copy(l.mem[victim<<12:][:2048], q.Data[0])
		}), "torn: bytes 0–2047 generation 2, bytes 2048–4095 generation 1"},
		{"a bit is flipped", once(bdev.Write, func(l *liar, q *bdev.Request) {
			copy(l.mem[victim<<12:], q.Data[0])
			l.mem[victim<<12+1234] ^= 0x10
		}), "1 wrong bits of generation 2, the first in byte 1234"},
		{"zeros are written", once(bdev.Write, func(l *liar, _ *bdev.Request) {
			clear(l.mem[victim<<12:][:4096])
		}), "zeros: a write was lost"},
		{"a trim does nothing", func(l *liar, q *bdev.Request) bool {
			if q.Kind == bdev.Unmap {
				q.CompleteLater(bdev.StatusOK)
			}
			return q.Kind == bdev.Unmap
		}, "stale"},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := newTestRig(t, 1)
			w := Workload{RW: "write", BlockBytes: 4096, Depth: 4, Jobs: 1, Size: 64 << 12, Number: 128, Verify: true}
			if strings.Contains(c.name, "trim") {
				w.RW, w.TrimPercent = "randwrite", 30
			}
			f, err := r.liar(t, 64, &liar{lie: c.lie}).Run(t.Context(), w, Options{})
			if !errors.Is(err, ErrFailed) {
				t.Fatalf("the lie passed: %v", err)
			}
			if f == nil || f.Verify.Mismatches == 0 || !strings.Contains(err.Error(), c.want) {
				t.Errorf("%v does not say %q", err, c.want)
			}
		})
	}
}

func TestAReadDuringTheLoadIsCheckedToo(t *testing.T) {
	r := newTestRig(t, 1)
	lie := func(l *liar, q *bdev.Request) bool {
		if q.Kind == bdev.Read && l.seen[bdev.Read] == 400 {
			l.serve(q)
			q.Data[0][100] ^= 1
			return true
		}
		return false
	}
	w := Workload{RW: "randrw", ReadPercent: 50, BlockBytes: 4096, Depth: 4, Jobs: 1, Size: 16 << 12, Number: 1000, Verify: true}
	f, err := r.liar(t, 64, &liar{lie: lie}).Run(t.Context(), w, Options{})
	if !errors.Is(err, ErrFailed) || !strings.Contains(err.Error(), "byte 100") {
		t.Errorf("%v", err)
	}
	if f.Total.Ops >= 1000 {
		t.Error("the run went on after the mismatch")
	}
}

func TestStateCarriesVerificationOver(t *testing.T) {
	r, l := newTestRig(t, 1), &liar{}
	s := r.liar(t, 64, l)
	w := Workload{RW: "randwrite", BlockBytes: 4096, Depth: 8, Jobs: 2, Size: 32 << 12, Number: 200, Verify: true}
	f, err := s.Run(t.Context(), w, Options{})
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "state")
	if err := f.State().Save(path); err != nil {
		t.Fatal(err)
	}
	load := func() *State {
		st, err := LoadState(path)
		if err != nil {
			t.Fatal(err)
		}
		return st
	}
	if _, err := s.Run(t.Context(), w, Options{State: load(), VerifyOnly: true}); err != nil {
		t.Errorf("reading back what was written: %v", err)
	}
	if f, err = s.Run(t.Context(), w, Options{State: load()}); err != nil {
		t.Errorf("going on writing: %v", err)
	}
	if _, err = s.Run(t.Context(), w, Options{State: load(), VerifyOnly: true}); !errors.Is(err, ErrFailed) {
		t.Errorf("the old state fits the newer blocks: %v", err)
	}
	if _, err := s.Run(t.Context(), w, Options{State: f.State(), VerifyOnly: true}); err != nil {
		t.Errorf("the new state: %v", err)
	}
	w.Size = 16 << 12
	if _, err := s.Run(t.Context(), w, Options{State: load()}); !errors.Is(err, ErrState) {
		t.Errorf("going on in another region: %v", err)
	}
	w.BlockBytes, w.Jobs = 64<<10, 1
	if _, err = s.Run(t.Context(), w, Options{State: f.State(), VerifyOnly: true}); err != nil {
		t.Errorf("reading back with another load and region: %v", err)
	}
	w.BlockBytes, w.Jobs = 4096, 2
	w.Size = 32 << 12
	if _, err := s.Run(t.Context(), w, Options{VerifyOnly: true}); err == nil || !strings.Contains(err.Error(), "give the state") {
		t.Errorf("verifying without a state: %v", err)
	}
	if _, err = s.Run(t.Context(), w, Options{}); err != nil {
		t.Errorf("a new run over the blocks of another: %v", err)
	}
}

func TestErrorsEndARunOrAreCounted(t *testing.T) {
	for _, goOn := range []bool{false, true} {
		r := newTestRig(t, 1)
		lie := func(l *liar, q *bdev.Request) bool {
			if q.LBA != 5 {
				return false
			}
			q.CompleteLater(bdev.StatusIO)
			return true
		}
		w := Workload{RW: "write", BlockBytes: 4096, Depth: 4, Jobs: 1, Size: 64 << 12, Number: 640, ContinueOnError: goOn, Verify: true}
		f, err := r.liar(t, 64, &liar{lie: lie}).Run(t.Context(), w, Options{})
		if !errors.Is(err, ErrFailed) || !strings.Contains(err.Error(), "write of LBA 5: i/o error") {
			t.Fatalf("%v", err)
		}
		if goOn && (f.Errors < 10 || f.Total.Ops != 630) || !goOn && (f.Errors != 1 || f.Total.Ops > 12) {
			t.Errorf("going on %v: %d errors, %d requests", goOn, f.Errors, f.Total.Ops)
		}
	}
}

func TestCancelEndsWhatIsInFlight(t *testing.T) {
	r, l := newTestRig(t, 1), &liar{hold: true}
	s := r.liar(t, 64, l)
	s.Drain = time.Millisecond
	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		<-l.notify
		cancel()
	}()
	w := Workload{RW: "randwrite", BlockBytes: 4096, Depth: 16, Jobs: 2, RuntimeSeconds: 3600}
	if _, err := s.Run(ctx, w, Options{}); !errors.Is(err, context.Canceled) {
		t.Fatalf("%v", err)
	}
	_ = s.reactors[0].Call(func() {
		if n := s.reactors[0].Memory().Stats().InUse; n != 0 || len(l.held) != 0 {
			t.Errorf("%d bytes of buffers are out, %d requests held", n, len(l.held))
		}
	})
}

func TestRequestsThatNeverEndAreReported(t *testing.T) {
	r, l := newTestRig(t, 1), &liar{hold: true, stuck: true}
	s := r.liar(t, 64, l)
	s.Drain = time.Millisecond
	w := Workload{RW: "randwrite", BlockBytes: 4096, Depth: 16, Jobs: 1, RuntimeSeconds: 0.001}
	_, err := s.Run(t.Context(), w, Options{})
	if !errors.Is(err, ErrStuck) || !strings.Contains(err.Error(), "16 are in flight") {
		t.Fatalf("%v", err)
	}
	ended := make(chan struct{}) // now let them go, so that the test can clean up
	_ = s.reactors[0].Call(func() {
		for _, q := range l.held {
			q.Complete(bdev.StatusAborted)
		}
		close(ended)
	})
	<-ended
}

func TestTooLittleMemoryIsSaid(t *testing.T) {
	r := newTestRig(t, 1)
	w := Workload{RW: "read", BlockBytes: 1 << 20, Depth: 64, Jobs: 1}
	_, err := r.mem(t, 1024).Run(t.Context(), w, Options{})
	if err == nil || !strings.Contains(err.Error(), "smaller iodepth") {
		t.Fatalf("%v", err)
	}
	_ = r.group.Reactor(0).Call(func() {
		if n := r.group.Reactor(0).Memory().Stats().InUse; n != 0 {
			t.Errorf("%d bytes of buffers are out", n)
		}
	})
}

func TestRunAllocatesNothing(t *testing.T) {
	for name, w := range map[string]Workload{
		"plain":  {RW: "randrw", ReadPercent: 50, BlockBytes: 4096, Depth: 16, Jobs: 1, FsyncEvery: 7, TrimPercent: 5},
		"verify": {RW: "randrw", ReadPercent: 50, BlockBytes: 8192, Depth: 16, Jobs: 1, Verify: true, Zipf: 1.1},
		"rate":   {RW: "randread", BlockBytes: 4096, Depth: 16, Jobs: 1, RateIOPS: 1000000},
	} {
		t.Run(name, func(t *testing.T) {
			s := newTestRig(t, 1).mem(t, 1024)
			allocs := func(n uint64) uint64 {
				w.Number = n
				samples := []metrics.Sample{{Name: "/gc/heap/allocs:objects"}}
				metrics.Read(samples)
				before := samples[0].Value.Uint64()
				if _, err := s.Run(t.Context(), w, Options{}); err != nil {
					t.Fatal(err)
				}
				metrics.Read(samples)
				return samples[0].Value.Uint64() - before
			}
			// What the runtime allocates for itself comes and goes; what the requests do would come with each of them.
			few, many := allocs(1000), uint64(0)
			for range 5 {
				if many = allocs(51000); many < few+500 {
					return
				}
			}
			t.Errorf("1,000 requests allocate %d objects, 51,000 %d", few, many)
		})
	}
}

func TestProgressGoesForwardToTheEnd(t *testing.T) {
	r := newTestRig(t, 1)
	rec := &recorder{}
	w := Workload{RW: "randrw", ReadPercent: 50, BlockBytes: 4096, Depth: 4, Jobs: 1, RateIOPS: 400, RuntimeSeconds: 0.6, RampSeconds: 0.3, Verify: true}
	if _, err := r.mem(t, 64).Run(t.Context(), w, Options{Reporter: rec, Label: "a"}); err != nil {
		t.Fatal(err)
	}
	if !rec.done || len(rec.got) < 4 {
		t.Fatalf("done %v, %d reports", rec.done, len(rec.got))
	}
	share := map[string]float64{}
	for _, p := range rec.got {
		if p.Share < share[p.Phase] || p.Share > 1 || p.Label != "a" {
			t.Errorf("report %+v after %v", p, share)
		}
		share[p.Phase] = p.Share
	}
	if share["load"] != 1 || share["verify"] != 1 {
		t.Errorf("the phases ended at %v", share)
	}
}

type recorder struct {
	got  []Progress
	done bool
}

func (r *recorder) Report(p Progress) { r.got = append(r.got, p) }
func (r *recorder) Done()             { r.done = true }
