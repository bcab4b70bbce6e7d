package volume

import (
	"os"
	"runtime"
	"testing"
	"time"

	"github.com/pollux-storage/pollux/bdev"
	"github.com/pollux-storage/pollux/bdev/bdevsim"
	"github.com/pollux-storage/pollux/internal/sim"
	"github.com/pollux-storage/pollux/reactor"
)

// This file is an import that fails: nothing of it stays.

func openFiles(t *testing.T) int {
	t.Helper()
	all, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(all)
}

// settlesAt waits until a count is back where it was; what ends it may still be on its way out.
func settlesAt(t *testing.T, what string, want int, count func() int) {
	t.Helper()
	for range 500 {
		if count() <= want {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Errorf("%d %s, and there were %d before", count(), what, want)
}

// abandonImage is a pool with two volumes that have something in their logs.
func abandonImage(t *testing.T) *sim.Image {
	k := newCrashHarness(t, 1, crashPoolBytes)
	clients := k.clients(4)
	k.work(clients, 60)
	k.rest(clients)
	return bdevsim.DiskOf(k.disk).Medium().Snapshot().Crash(sim.All)
}

// TestAFailedImportLeavesNothing fails each operation of an import in turn, from that one on or that one alone.
func TestAFailedImportLeavesNothing(t *testing.T) {
	image := abandonImage(t)
	k := newHouse(t, 2, 2, crashPoolBytes)
	k.w.Reboot()
	k.disk = k.w.Open("Disk0", image)
	medium := bdevsim.DiskOf(k.disk).Medium()
	cfg := k.config()
	cfg.CacheBytes = 0 // the usual: what stays of it is seen
	var before [2]int
	memory := func() (n [2]int) {
		for i := range n {
			k.w.On(i, func(r *reactor.Reactor) { n[i] = r.Memory().Stats().InUse })
		}
		return n
	}
	before = memory()
	goroutines := runtime.NumGoroutine()
	pages := mapped.Load()
	failed, opened := 0, 0
	for skip := uint64(0); opened < 3; skip++ {
		for _, count := range []uint64{0, 1} {
			in := medium.Inject(sim.Fault{Effect: sim.Fail, Kinds: sim.KindsOf(sim.Read, sim.Write, sim.Flush), Skip: skip, Count: count})
			pool, err := ImportPool(k.w.Registry, "Disk0", cfg)
			in.Remove()
			if err == nil {
				if count == 0 {
					opened++
				}
				if err := pool.Export(t.Context()); err != nil {
					t.Logf("operation %d: %v", skip, err) // the commit with which it closes may have been the one that failed
				}
			} else {
				failed++
			}
			if n := len(k.w.Registry.Devices()); n != 1 {
				t.Fatalf("operation %d (%v): %d devices", skip, err, n)
			}
			if c := k.disk.Claim(); c != "" {
				t.Fatalf("operation %d (%v): the disk is claimed by %s", skip, err, c)
			}
			if now := memory(); now != before {
				t.Fatalf("operation %d (%v): the reactors lend %v bytes, %v before", skip, err, now, before)
			}
			if now := mapped.Load(); now != pages {
				t.Fatalf("operation %d (%v): %d bytes are mapped, %d before", skip, err, now, pages)
			}
		}
	}
	settlesAt(t, "goroutines", goroutines, runtime.NumGoroutine)
	if failed < 30 {
		t.Fatalf("only %d imports failed", failed)
	}
	pool, err := ImportPool(k.w.Registry, "Disk0", cfg)
	if err != nil {
		t.Fatal(err)
	}
	if r, err := pool.Check(); err != nil || !r.OK() {
		t.Fatal(err, r)
	}
}

// TestAFailedImportLeavesNothingBehindOnCores is the same with reactors that run.
func TestAFailedImportLeavesNothingBehindOnCores(t *testing.T) {
	image := abandonImage(t)
	g, err := reactor.Start(reactor.Config{Cores: []int{-1, -1}, MemoryBytes: 64 << 20})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = g.Stop(t.Context()) }()
	registry := bdev.NewRegistry(g)
	d, err := bdevsim.Open(registry, image, sim.Config{Name: "Disk0", Latency: sim.Latency{Read: [2]int64{1, 2}, Write: [2]int64{1, 2}, Flush: [2]int64{1, 2}}})
	if err != nil {
		t.Fatal(err)
	}
	lent := func() (n int) {
		for i := range g.Len() {
			if err := g.Reactor(i).Call(func() { n += g.Reactor(i).Memory().Stats().InUse }); err != nil {
				t.Fatal(err)
			}
		}
		return n
	}
	goroutines, files, memory := runtime.NumGoroutine(), openFiles(t), lent()
	failed := 0
	for skip := uint64(0); skip < 60; skip += 3 {
		var in *sim.Injected
		bdevsim.DiskOf(d).Locked(func(m *sim.Disk) {
			in = m.Inject(sim.Fault{Effect: sim.Fail, Kinds: sim.KindsOf(sim.Read, sim.Write, sim.Flush), Skip: skip})
		})
		pool, err := ImportPool(registry, "Disk0", PoolConfig{Server: houseServer})
		bdevsim.DiskOf(d).Locked(func(*sim.Disk) { in.Remove() })
		if err == nil {
			_ = pool.Export(t.Context())
			continue
		}
		failed++
		if n := len(registry.Devices()); n != 1 || d.Claim() != "" {
			t.Fatalf("operation %d (%v): %d devices, the disk claimed by %q", skip, err, n, d.Claim())
		}
	}
	if failed < 8 {
		t.Fatalf("only %d imports failed", failed)
	}
	settlesAt(t, "goroutines", goroutines, runtime.NumGoroutine)
	settlesAt(t, "open files", files, func() int { return openFiles(t) })
	settlesAt(t, "bytes lent by reactors", memory, lent)
}
