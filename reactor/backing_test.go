package reactor_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/pollux-storage/pollux/reactor"
)

const hugepages = "/sys/kernel/mm/hugepages/hugepages-2048kB/"

func hugeFree(t *testing.T) int {
	t.Helper()
	b, err := os.ReadFile(hugepages + "free_hugepages")
	if err != nil {
		t.Fatalf("counting the free hugepages: %v (a kernel with CONFIG_HUGETLBFS is needed)", err)
	}
	n, err := strconv.Atoi(strings.TrimSpace(string(b)))
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// reserveHugepages asks the system for n more until the test ends, and says how many are free then: without root, or with its
// memory in pieces, fewer.
func reserveHugepages(t *testing.T, n int) (free int) {
	t.Helper()
	before, err := os.ReadFile(hugepages + "nr_hugepages")
	if err != nil {
		t.Fatal(err)
	}
	old, err := strconv.Atoi(strings.TrimSpace(string(before)))
	if err != nil {
		t.Fatal(err)
	}
	if os.WriteFile(hugepages+"nr_hugepages", []byte(strconv.Itoa(old+n)), 0) == nil {
		t.Cleanup(func() {
			if err := os.WriteFile(hugepages+"nr_hugepages", before, 0); err != nil {
				t.Error(err)
			}
		})
	}
	return hugeFree(t)
}

// A pool takes hugepages as far as there are, works on without, and gives all back.
func TestPoolWithAndWithoutHugepages(t *testing.T) {
	free := reserveHugepages(t, 5) // a chunk is four: the second one cannot be had whole
	if free > 8 {
		t.Logf("%d hugepages are free: the test shows only that they are used", free)
	}
	t.Run("pool", func(t *testing.T) {
		g := start(t, reactor.Config{MemoryBytes: 24 << 20})
		r := g.Reactor(0)
		b := writeAndReadAllMemory(t, r)
		on(t, r, func() {
			s := r.Memory().Stats()
			if want := min(free/4, 3); s.HugeBytes != want*8<<20 || (s.WhyPlain == nil) != (want == 3) || s.WhyUnregistered != nil || !s.Registered || s.Ready != s.Limit {
				t.Errorf("of %d free hugepages: %+v", free, s)
			}
			for i := range b {
				r.Memory().Put(b[i])
			}
		})
		if got := hugeFree(t); got != free-min(free/4, 3)*4 {
			t.Errorf("%d of %d hugepages are free beside the pool", got, free)
		}
	})
	if got := hugeFree(t); got != free {
		t.Errorf("%d hugepages were free before, %d after", free, got)
	}
}

// writeAndReadAllMemory takes the whole pool in buffers of 1 MiB, writes one of each chunk to a file and reads it into the next.
func writeAndReadAllMemory(t *testing.T, r *reactor.Reactor) (all [][]byte) {
	t.Helper()
	f, err := os.Create(filepath.Join(t.TempDir(), "file"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var file *reactor.File
	var op reactor.Op
	results := make(chan int32)
	on(t, r, func() {
		m := r.Memory()
		for b := m.Get(reactor.BufferMax); b != nil; b = m.Get(reactor.BufferMax) {
			all = append(all, b)
		}
		file = r.NewFile(int(f.Fd()))
		r.Bind(&op, opFunc(func(res int32) { go func() { results <- res }() }))
	})
	for i := 0; i < len(all); i += 8 {
		from, to := all[i], all[(i+8)%len(all)]
		on(t, r, func() {
			for k := range from {
				from[k] = byte(k>>12 + i)
			}
			file.Write(&op, from, 0, 0)
		})
		wrote := <-results
		on(t, r, func() { clear(to); file.Read(&op, to, 0) })
		if read := <-results; wrote != reactor.BufferMax || read != wrote {
			t.Fatalf("wrote %d, read %d", wrote, read)
		}
		on(t, r, func() {
			for k := range to {
				if to[k] != byte(k>>12+i) {
					t.Errorf("chunk %d, byte %d: %d", i/8, k, to[k])
					break
				}
			}
		})
	}
	on(t, r, func() { r.Unbind(&op); file.Close() })
	return all
}

func TestPoolRegisteredInPart(t *testing.T) {
	g := start(t, reactor.Config{MemoryBytes: 24 << 20})
	r := g.Reactor(0)
	on(t, r, func() { r.RegisterNoMore() })
	b := writeAndReadAllMemory(t, r)
	on(t, r, func() {
		n := 0
		for i := range b {
			if index, ok := r.Memory().Registered(b[i]); ok {
				n++
				if index != 0 {
					t.Errorf("slab %d lies in registered buffer %d", i, index)
				}
			}
			r.Memory().Put(b[i])
		}
		if s := r.Memory().Stats(); n != 8 || s.Registered || s.Ready != s.Limit {
			t.Errorf("%d slabs are registered, %+v", n, s)
		}
	})
}

// A process has fewer addresses than this.
func TestAddressesThatCannotBeReserved(t *testing.T) {
	_, err := reactor.Start(reactor.Config{Cores: []int{-1}, MemoryBytes: 1 << 48})
	if !errors.Is(err, unix.ENOMEM) {
		t.Fatalf("%v", err)
	}
	for _, want := range []string{"starting reactor 0", "268435456 MiB of addresses", "less memory", "ulimit -v"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("no %q in: %v", want, err)
		}
	}
}

// Registered memory counts against RLIMIT_MEMLOCK of those without CAP_IPC_LOCK: past it the pool works on, unregistered. It
// takes a process of its own to be one.
func TestPoolBeyondTheLimitOfLockedMemory(t *testing.T) {
	if limit := os.Getenv("POLLUX_TEST_MEMLOCK"); limit != "" {
		n, err := strconv.ParseUint(limit, 10, 64)
		if err != nil {
			t.Fatal(err)
		}
		var hard unix.Rlimit
		if err := unix.Getrlimit(unix.RLIMIT_MEMLOCK, &hard); err != nil {
			t.Fatal(err)
		}
		n = min(n, hard.Max)
		if err := unix.Setrlimit(unix.RLIMIT_MEMLOCK, &unix.Rlimit{Cur: n, Max: n}); err != nil {
			t.Fatal(err)
		}
		g := start(t, reactor.Config{MemoryBytes: 24 << 20})
		r := g.Reactor(0)
		b := writeAndReadAllMemory(t, r)
		var s reactor.MemoryStats
		registered := 0
		on(t, r, func() {
			for i := range b {
				if _, ok := r.Memory().Registered(b[i]); ok {
					registered++
				}
				r.Memory().Put(b[i])
			}
			s = r.Memory().Stats()
		})
		out, _ := json.Marshal(map[string]any{"all": s.Registered, "why": fmt.Sprint(s.WhyUnregistered), "slabs": registered, "ready": s.Ready, "setup": r.Setup().String()})
		if err := os.WriteFile(os.Getenv("POLLUX_TEST_OUT"), out, 0o600); err != nil {
			t.Fatal(err)
		}
		return
	}
	runtime.LockOSThread() // not unlocked: this thread loses a capability
	const ipcLock = 14     // CAP_IPC_LOCK (linux/capability.h)
	if err := unix.Prctl(unix.PR_CAPBSET_DROP, ipcLock, 0, 0, 0); err != nil && os.Geteuid() == 0 {
		t.Fatal(err)
	}
	for limit, slabsMax := range map[string]int{"1048576": 0, "9437184": 8} { // one chunk fits into the second one
		out := filepath.Join(t.TempDir(), "out")
		cmd := exec.Command(os.Args[0], "-test.run=^TestPoolBeyondTheLimitOfLockedMemory$", "-test.timeout=60s")
		cmd.Env = append(os.Environ(), "POLLUX_TEST_MEMLOCK="+limit, "POLLUX_TEST_OUT="+out)
		if b, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("limit %s: %v\n%s", limit, err, b)
		}
		b, err := os.ReadFile(out)
		if err != nil {
			t.Fatal(err)
		}
		var got struct {
			All          bool
			Why          string
			Slabs, Ready int
		}
		if err := json.NewDecoder(bytes.NewReader(b)).Decode(&got); err != nil {
			t.Fatal(err)
		}
		if got.All || got.Slabs > slabsMax || got.Ready != 24<<20 || !strings.Contains(got.Why, "cannot allocate memory") {
			t.Errorf("limit %s: %s", limit, b)
		}
	}
}
