package ktrace

import (
	"math"
	"math/bits"
	"math/rand/v2"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/btf"
	"golang.org/x/sys/unix"
)

// These tests are for root on a kernel with BTF and eBPF.

// TestEveryProgramIsTaken: this kernel has all tracepoints, and takes all programs.
func TestEveryProgramIsTaken(t *testing.T) {
	x, err := Start(Target{PID: os.Getpid(), Threads: []int{os.Getpid()}, Ports: []uint16{4420}})
	if err != nil {
		t.Fatal(err)
	}
	defer x.Close()
	for _, m := range x.Missing {
		t.Errorf("%s: %s", m.What, m.Why)
	}
	r, err := x.Read()
	if err != nil || len(r.Threads) != 1 || r.Retransmits == nil || r.Lost != 0 {
		t.Errorf("%+v, %v", r, err)
	}
	x.Close() // twice is harmless
}

// TestTimeOfAThreadIsSeen: a thread that is asked for sleeps and is woken, and that is seen; but for a sleep that was over before it began, on a busy
// machine.
func TestTimeOfAThreadIsSeen(t *testing.T) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	x, err := Start(Target{PID: os.Getpid(), Threads: []int{unix.Gettid()}})
	if err != nil {
		t.Fatal(err)
	}
	defer x.Close()
	const n = 20
	for range n {
		ts := unix.NsecToTimespec(int64(time.Millisecond))
		_ = unix.Nanosleep(&ts, nil)
	}
	r, err := x.Read()
	if err != nil || len(x.Missing) > 0 {
		t.Fatal(err, x.Missing)
	}
	if w := r.Threads[0].Woken; w.Count < n/2 || w.SumNS == 0 || w.P50NS > w.P99NS || w.P99NS > w.MaxNS {
		t.Errorf("after %d sleeps: %+v", n, w)
	}
	if r.Retransmits != nil {
		t.Error("nobody asked for ports")
	}
}

// bucketOf is the bucket of a value, as code.go describes it.
func bucketOf(v uint64) uint32 {
	e := bits.Len64(v|1) - 1
	return uint32(e)<<3 | uint32(v<<(63-e)<<1>>61)
}

func TestBordersAreThoseOfBuckets(t *testing.T) {
	for v := uint64(0); v < 1<<50; v += 1 + v/100 {
		if b := bucketOf(v); float64(v) > border(b) || b > 0 && v > 1 && float64(v) <= border(b-1) {
			t.Errorf("%d is in bucket %d, up to %f", v, b, border(b))
		}
	}
}

// TestRecordAgreesWithItsTwin counts values by the program's own arithmetic, in the kernel, and compares with what they should have come to.
func TestRecordAgreesWithItsTwin(t *testing.T) {
	var x Trace
	defer x.Close()
	if err := x.makeMaps(Target{}); err != nil {
		t.Fatal(err)
	}
	values := []uint64{0, 1, 2, 3, 7, 8, 9, 15, 16, 17, 1023, 1024, 1<<32 - 1, 1 << 32, 1<<63 - 1, 1 << 63, math.MaxUint64}
	r := rand.New(rand.NewPCG(1, 2))
	for range 40 {
		values = append(values, r.Uint64()>>r.IntN(64))
	}
	want, sum := map[uint32]uint64{}, uint64(0)
	const series = 7
	for _, v := range values {
		sum += v
		b := bucketOf(v)
		want[b]++
		p := program{code: func(c *coder) {
			c.add(asm.LoadImm(asm.R1, int64(v), asm.DWord), asm.StoreMem(asm.R10, slotTime, asm.R1, asm.DWord), asm.Mov.Imm(asm.R7, 0))
			c.series(asm.R7, series)
			c.record()
		}}
		prog, err := ebpf.NewProgram(&ebpf.ProgramSpec{Type: ebpf.SocketFilter, Instructions: p.assemble(&x.maps), License: license})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := prog.Run(&ebpf.RunOptions{Data: make([]byte, 14)}); err != nil {
			t.Fatal(err)
		}
		prog.Close()
	}
	got := map[uint32]uint64{}
	var key uint32
	var n uint64
	for entries := x.maps.counts.Iterate(); entries.Next(&key, &n); {
		if key>>seriesShift != series {
			t.Errorf("a counter of series %d", key>>seriesShift)
		}
		got[key&(1<<seriesShift-1)] = n
	}
	if got[bucketSum] != sum {
		t.Errorf("the sum is %d, want %d", got[bucketSum], sum)
	}
	delete(got, bucketSum)
	for b := range uint32(512) {
		if got[b] != want[b] {
			t.Errorf("bucket %d, up to %.0f: %d, want %d", b, border(b), got[b], want[b])
		}
	}
}

// TestKernelsThatDiffer: a program whose tracepoint is not there, or has other arguments than it expects, says so and is left out.
func TestKernelsThatDiffer(t *testing.T) {
	types, err := btf.LoadKernelSpec()
	if err != nil {
		t.Fatal(err)
	}
	tp, err := findTracepoint(types, "io_uring_is_gone", "io_uring_complete")
	if err != nil || tp.name != "io_uring_complete" {
		t.Fatal(tp, err)
	}
	for want, err := range map[string]error{
		"no tracepoint io_uring_is_gone": ended(types, "x", 1, "", "io_uring_is_gone").err,
		"not a pointer to request":       ended(types, "x", 0, "request", "io_uring_complete").err,
		"no argument 9":                  ended(types, "x", 9, "", "io_uring_complete").err,
		"not a number":                   second(tp.number(0)),
		"no member colour":               second(member(types, "io_kiocb", "colour", 1)),
		"not 8":                          second(member(types, "io_kiocb", "opcode", 8)),
		"nothing of struct colour":       second(member(types, "colour", "opcode", 8)),
	} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want something with %q", err, want)
		}
	}
	x := Trace{attached: map[string]bool{}}
	x.attach(ended(types, "what is seen", 1, "", "io_uring_is_gone"))
	if len(x.links) != 0 || len(x.Missing) != 1 || x.Missing[0].What != "what is seen" {
		t.Errorf("%+v", x)
	}
}

func second(_ int16, err error) error { return err }

// TestStartSaysWhyNot: without rights, and for a process that is not there.
func TestStartSaysWhyNot(t *testing.T) {
	if os.Getenv("KTRACE_WITHOUT_RIGHTS") != "" {
		runtime.LockOSThread() // never unlocked: the thread ends with the test
		header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
		var none [2]unix.CapUserData
		if err := unix.Capset(&header, &none[0]); err != nil {
			t.Fatal(err)
		}
		_, err := Start(Target{PID: os.Getpid()})
		if err == nil || !strings.Contains(err.Error(), "CAP_BPF") {
			t.Errorf("without rights: %v", err)
		}
		return
	}
	if _, err := Start(Target{PID: 1 << 30}); err == nil || !strings.Contains(err.Error(), "not to be seen from here") {
		t.Errorf("a process that is not there: %v", err)
	}
	child := exec.Command(os.Args[0], "-test.run=^TestStartSaysWhyNot$")
	child.Env = append(os.Environ(), "KTRACE_WITHOUT_RIGHTS=1")
	if out, err := child.CombinedOutput(); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
}

func TestTimesOf(t *testing.T) {
	if got := timesOf(map[uint32]uint64{bucketCount: 4}); got.Count != 0 {
		t.Errorf("of nothing: %+v", got)
	}
	got := timesOf(map[uint32]uint64{80: 98, 88: 1, 160: 1, bucketSum: 200_000, bucketCount: 100})
	if got.Count != 100 || got.MeanNS != 2000 || got.P50NS != uint64(border(80)) || got.P99NS != uint64(border(88)) || got.MaxNS != uint64(border(160)) || len(got.Buckets) != 3 {
		t.Errorf("%+v", got)
	}
}
