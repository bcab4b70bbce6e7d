package bench

import (
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/pollux-storage/pollux/bdev"
)

// Workload says what is done to a device. Its JSON names, and the flags, are fio's where fio has the same thing.
type Workload struct {
	RW          string  `json:"rw"`                   // read, write, trim, rw; with "rand" before it at random places
	ReadPercent int     `json:"rwmixread"`            // of rw and randrw
	TrimPercent int     `json:"trim_percentage"`      // of all requests, taken from the writes
	BlockBytes  uint64  `json:"bs"`                   // of each request
	Depth       int     `json:"iodepth"`              // requests in flight, each job
	Jobs        int     `json:"numjobs"`              //
	Offset      uint64  `json:"offset"`               // where the region begins
	Size        uint64  `json:"size"`                 // of the region; 0 is up to the device's end
	Zipf        float64 `json:"zipf_theta,omitempty"` // skew of random places; 0 is uniform
	Seed        uint64  `json:"randseed"`

	FsyncEvery int `json:"fsync,omitempty"`     // a flush after so many completed writes, each job
	FUAEvery   int `json:"fua,omitempty"`       // each so-many-th write is durable when it completes
	RateIOPS   int `json:"rate_iops,omitempty"` // each job's limit

	RuntimeSeconds float64 `json:"runtime,omitempty"`    // ends by time,
	Number         uint64  `json:"number_ios,omitempty"` // by requests of each job,
	IOBytes        uint64  `json:"io_size,omitempty"`    // or by bytes of each job; without any of them after one pass
	RampSeconds    float64 `json:"ramp_time,omitempty"`  // at first, not counted

	Verify          bool `json:"verify,omitempty"` // headers in blocks, checked at each read and by a pass at the end
	Zeros           bool `json:"zeros,omitempty"`  // write zeros instead of what differs from block to block
	ContinueOnError bool `json:"continue_on_error,omitempty"`
	NoLatency       bool `json:"gtod_reduce,omitempty"` // read no clock at each request: throughput alone
}

// access is what RW means.
type access struct {
	random       bool
	reads, trims int // percent; the rest is writes
}

func (w *Workload) access() (access, error) {
	var a access
	name, random := strings.CutPrefix(w.RW, "rand")
	a.random = random
	switch name {
	case "read":
		a.reads = 100
	case "write":
	case "trim":
		a.trims = 100
	case "rw":
		a.reads = w.ReadPercent
	default:
		return a, fmt.Errorf("rw %q: choose read, write, trim, rw, randread, randwrite, randtrim or randrw", w.RW)
	}
	if w.TrimPercent > 0 {
		a.trims = w.TrimPercent
	}
	if a.reads < 0 || a.trims < 0 || a.reads+a.trims > 100 {
		return a, fmt.Errorf("%d %% reads and %d %% trims: together they are from 0 to 100", a.reads, a.trims)
	}
	return a, nil
}

// Writes reports whether the workload changes the device.
func (w *Workload) Writes() bool {
	a, err := w.access()
	return err != nil || a.reads < 100
}

// Synced reports whether writes are made durable, each before the next of its place in the queue counts as done.
func (w *Workload) Synced() bool { return w.FsyncEvery == 1 || w.FUAEvery == 1 }

// Name is a short name by which rows of two reports are matched, such as "randrw70 4k qd32 x2 fua".
func (w *Workload) Name() string {
	var b strings.Builder
	b.WriteString(w.RW)
	if a, err := w.access(); err == nil && a.reads > 0 && a.reads < 100 {
		fmt.Fprint(&b, a.reads)
	}
	fmt.Fprintf(&b, " %s qd%d", FormatBytes(w.BlockBytes), w.Depth)
	if w.Jobs > 1 {
		fmt.Fprintf(&b, " x%d", w.Jobs)
	}
	for _, part := range []struct {
		on   bool
		text string
	}{
		{w.TrimPercent > 0, fmt.Sprintf("trim%d", w.TrimPercent)},
		{w.Zipf > 0, "zipf" + strconv.FormatFloat(w.Zipf, 'g', -1, 64)},
		{w.FsyncEvery > 0, every("fsync", w.FsyncEvery)},
		{w.FUAEvery > 0, every("fua", w.FUAEvery)},
		{w.RateIOPS > 0, fmt.Sprintf("rate%d", w.RateIOPS)},
		{w.Verify, "verify"},
	} {
		if part.on {
			b.WriteString(" " + part.text)
		}
	}
	return b.String()
}

func every(what string, n int) string {
	if n == 1 {
		return what
	}
	return fmt.Sprintf("%s/%d", what, n)
}

// Limits of a workload, which keep a slip of the pen from taking all memory.
const (
	DepthMax = 4096
	JobsMax  = 256
)

// plan is a workload fitted to a device.
type plan struct {
	Workload
	access
	shift  uint   // of the device's block size
	first  uint64 // LBA of the region
	blocks uint32 // of a request
	places uint64 // requests that the region holds
	limit  uint64 // requests of each job, 0 for no limit

	blockSeed uint64 // of the headers of blocks: another in each run, so that no block of an earlier one passes
}

// fit checks w against the device and fills in what was left open. All that is wrong is told at once.
func (w Workload) fit(g *bdev.Geometry, supports func(bdev.Kind) bool) (*plan, error) {
	p := &plan{Workload: w, shift: g.Shift()}
	var errs []error
	bad := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	var err error
	if p.access, err = w.access(); err != nil {
		errs = append(errs, err)
	}
	if p.Depth < 1 || p.Depth > DepthMax {
		bad("iodepth %d: from 1 to %d", p.Depth, DepthMax)
	}
	if p.Jobs < 1 || p.Jobs > JobsMax {
		bad("numjobs %d: from 1 to %d", p.Jobs, JobsMax)
	}
	if p.Zipf < 0 || p.Zipf > 10 {
		bad("zipf %g: from 0 to 10", p.Zipf)
	}
	if p.Zipf > 0 && !p.random {
		bad("zipf %g: only random places have a distribution, and rw is %s", p.Zipf, p.RW)
	}
	if p.FsyncEvery < 0 || p.FUAEvery < 0 || p.RateIOPS < 0 || p.RuntimeSeconds < 0 || p.RampSeconds < 0 {
		bad("fsync, fua, rate-iops, runtime and ramp-time: not below 0")
	}
	block := uint64(g.BlockSize)
	maxBytes := uint64(g.MaxBlocks) * block
	switch {
	case p.BlockBytes == 0 || p.BlockBytes%block != 0:
		bad("bs %d: the device's requests are multiples of %d bytes", p.BlockBytes, block)
	case p.BlockBytes > maxBytes:
		bad("bs %s: the device takes at most %s at once", FormatBytes(p.BlockBytes), FormatBytes(maxBytes))
	}
	if p.Offset%block != 0 || p.Offset >= g.Bytes() {
		bad("offset %d: a multiple of %d below the device's size of %d bytes", p.Offset, block, g.Bytes())
	} else {
		if p.Size == 0 {
			p.Size = g.Bytes() - p.Offset
		}
		if p.Size > g.Bytes()-p.Offset {
			bad("offset %d and size %d: the device ends at %d", p.Offset, p.Size, g.Bytes())
		}
	}
	if p.Writes() && g.ReadOnly {
		bad("rw %s: the device is read-only", p.RW)
	}
	if p.trims > 0 && !supports(bdev.Unmap) {
		bad("%d %% trims: the device has no unmap", p.trims)
	}
	if p.Verify && p.trims > 0 && !g.UnmapZeroes {
		bad("verify with trims: unmapped blocks of this device have no defined content")
	}
	if p.FsyncEvery > 0 && !supports(bdev.Flush) {
		bad("fsync %d: the device has no flush", p.FsyncEvery)
	}
	if len(errs) > 0 {
		return nil, errors.Join(errs...)
	}
	p.first = p.Offset >> p.shift
	p.blocks = uint32(p.BlockBytes >> p.shift)
	p.places = p.Size / p.BlockBytes
	parts := uint64(1)
	if p.divided() {
		parts = uint64(p.Jobs)
	}
	if p.places < parts {
		return nil, fmt.Errorf("size %s: too small for %d jobs of %s requests", FormatBytes(p.Size), parts, FormatBytes(p.BlockBytes))
	}
	p.limit = p.Number
	if p.IOBytes > 0 {
		n := (p.IOBytes + p.BlockBytes - 1) / p.BlockBytes
		if p.limit == 0 || n < p.limit {
			p.limit = n
		}
	}
	if p.limit == 0 && p.RuntimeSeconds == 0 {
		p.limit = p.places / parts
	}
	return p, nil
}

// divided reports whether each job has a part of the region to itself: sequential jobs would otherwise follow on each other's
// heels, and verifying ones would not know each other's generations.
func (p *plan) divided() bool { return p.Verify || !p.random }

// share is the part of the region that belongs to job i, in places.
func (p *plan) share(i int) (first, n uint64) {
	if !p.divided() {
		return 0, p.places
	}
	n = p.places / uint64(p.Jobs)
	return uint64(i) * n, n
}

// ParseBytes reads a size such as 4096, 4k, 128KiB, 1G. The units are powers of 1024, as fio's are.
func ParseBytes(s string) (uint64, error) {
	t := strings.ToLower(strings.TrimSpace(s))
	t = strings.TrimSuffix(strings.TrimSuffix(t, "b"), "i")
	shift := uint(0)
	if i := strings.IndexByte("kmgtp", last(t)); i >= 0 {
		shift = 10 * uint(i+1)
		t = t[:len(t)-1]
	}
	n, err := strconv.ParseUint(t, 10, 64)
	if err != nil || n<<shift>>shift != n {
		return 0, fmt.Errorf("size %q: a number, and k, M, G, T or P for powers of 1024", s)
	}
	return n << shift, nil
}

func last(s string) byte {
	if s == "" {
		return ' '
	}
	return s[len(s)-1]
}

// FormatBytes writes a size as ParseBytes reads it, in the largest unit that divides it.
func FormatBytes(n uint64) string {
	if n == 0 {
		return "0"
	}
	i := 0
	for i < 5 && n%1024 == 0 {
		n /= 1024
		i++
	}
	return strconv.FormatUint(n, 10) + strings.TrimSpace(" kMGTP"[i:i+1])
}
