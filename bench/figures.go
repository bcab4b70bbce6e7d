package bench

import (
	"math"

	"github.com/pollux-storage/pollux/bdev"
	"github.com/pollux-storage/pollux/internal/hist"
	"github.com/pollux-storage/pollux/reactor"
)

// Run is the figures of one measurement.
type Run struct {
	Seconds float64                `json:"seconds"` // from the end of the ramp to the last completion
	Total   KindFigures            `json:"total"`   // reads, writes and trims together; flushes apart
	Kinds   map[string]KindFigures `json:"kinds"`   // read, write, unmap, flush

	Reactors []ReactorFigures `json:"reactors,omitempty"`
	Turns    *TurnFigures     `json:"engine_turns,omitempty"` // of the engine's reactors, where it was asked
	Others   []ProcessFigures `json:"processes,omitempty"`    // other processes that took part: the target, fio
	CPU      CPUFigures       `json:"cpu"`
	Machine  *MachineFigures  `json:"machine,omitempty"`
	Beside   []ProcessFigures `json:"beside,omitempty"` // targets that were not measured now, and used processor time

	OthersPercent float64 `json:"others_percent,omitempty"` // what strangers had of the cores that it used, in percent of one core; of floors

	EntersPerIO float64 `json:"ring_enters_per_io"`
	AllocsPerIO float64 `json:"go_allocs_per_io"` // of the whole process, progress display included
	GCCycles    uint64  `json:"go_gc_cycles"`

	Verify     *VerifyFigures `json:"verify,omitempty"`
	Errors     uint64         `json:"errors"`
	FirstError string         `json:"first_error,omitempty"`

	state *State
}

// KindFigures is what requests of one kind did.
type KindFigures struct {
	Ops            uint64  `json:"ops"`
	Bytes          uint64  `json:"bytes"`
	Errors         uint64  `json:"errors,omitempty"`
	IOPS           float64 `json:"iops"`
	BytesPerSecond float64 `json:"bytes_per_second"`
	Latency        Latency `json:"latency_ns"`
	Curve          []Point `json:"latency_curve,omitempty"`
}

// Latency is in nanoseconds.
type Latency struct {
	Min  float64 `json:"min"`
	Mean float64 `json:"mean"`
	P50  float64 `json:"p50"`
	P90  float64 `json:"p90"`
	P99  float64 `json:"p99"`
	P999 float64 `json:"p99.9"`
	Max  float64 `json:"max"`
}

// Point is one of a curve of percentiles: Share of all requests took at most NS.
type Point struct {
	Share float64 `json:"share"`
	NS    float64 `json:"ns"`
}

// ReactorFigures is how busy a reactor was. A polling one uses its core whole and is busy in part.
type ReactorFigures struct {
	Core        int     `json:"core"`
	BusyPercent float64 `json:"busy_percent"` // of the time, in turns that found work
	CPUPercent  float64 `json:"cpu_percent"`  // its thread, user and kernel
	Sleeps      uint64  `json:"sleeps"`
	Enters      uint64  `json:"ring_enters"`
	Operations  uint64  `json:"ring_operations"` // of the ring, that ended: receptions, sends, reads and writes
}

// TurnFigures counts turns that took long, the time included in which the reactor's thread did not run: as long as one goes on, all else on that
// reactor waits.
type TurnFigures struct {
	Slow      uint64  `json:"slow"`       // longer than 20 us
	LongestNS float64 `json:"longest_ns"` // to within 9 %; 0 if none was slow
}

// ProcessFigures is the processor time of another process.
type ProcessFigures struct {
	Name        string  `json:"name"`
	CPUPercent  float64 `json:"cpu_percent"`
	MicrosPerIO float64 `json:"cpu_us_per_io"`
}

// CPUFigures is this process's processor time.
type CPUFigures struct {
	UserPercent   float64 `json:"user_percent"`
	SystemPercent float64 `json:"system_percent"`
	MicrosPerIO   float64 `json:"us_per_io"`
}

// VerifyFigures counts blocks.
type VerifyFigures struct {
	Blocks     uint64     `json:"blocks_right"`
	Mismatches uint64     `json:"mismatches"`
	First      []Mismatch `json:"first,omitempty"`
}

// State is what the run wrote, if it verified; nil otherwise.
func (r *Run) State() *State { return r.state }

// kindNames are the names in reports, of the kinds that a workload has.
var kindNames = map[bdev.Kind]string{bdev.Read: "read", bdev.Write: "write", bdev.Unmap: "unmap", bdev.Flush: "flush"}

// curveShares are the percentiles of a curve, closer together towards the tail: 1 - 10^-x for x in steps of 1/8.
var curveShares = func() (s []float64) {
	for i := range 49 {
		s = append(s, math.Round(1e8*(1-math.Pow(10, -float64(i)/8)))/1e8)
	}
	return s
}()

func (c *kindCount) add(o *kindCount) {
	if o.latency.Count > 0 && (o.min < c.min || c.latency.Count == 0) {
		c.min = o.min
	}
	c.ops += o.ops
	c.bytes += o.bytes
	c.errors += o.errors
	c.max = max(c.max, o.max)
	c.latency.Add(&o.latency)
}

func (c *kindCount) figures(seconds float64) KindFigures {
	f := KindFigures{Ops: c.ops, Bytes: c.bytes, Errors: c.errors}
	if seconds > 0 {
		f.IOPS, f.BytesPerSecond = float64(c.ops)/seconds, float64(c.bytes)/seconds
	}
	h := &c.latency
	if h.Count == 0 {
		return f
	}
	// The middle of a bucket may lie outside of what was seen.
	at := func(share float64) float64 {
		return min(max(math.Round(h.Quantile(share)), float64(c.min)), float64(c.max))
	}
	f.Latency = Latency{
		Min: float64(c.min), Mean: math.Round(10*h.Mean()) / 10, P50: at(0.5), P90: at(0.9), P99: at(0.99), P999: at(0.999), Max: float64(c.max),
	}
	f.Curve = curveOf(h, at, float64(c.max))
	return f
}

// curveOf leaves out the percentiles that there were not enough requests for.
func curveOf(h *hist.Histogram, at func(float64) float64, most float64) []Point {
	var out []Point
	for _, s := range curveShares {
		if float64(h.Count)*(1-s) < 1 {
			break
		}
		out = append(out, Point{s, at(s)})
	}
	return append(out, Point{1 - 1/float64(h.Count+1), most}) // the slowest of all
}

func (u *usage) figures(end *usage, core int) ReactorFigures {
	wall := float64(end.at - u.at)
	busy := float64(end.stats.Busy - u.stats.Busy)
	f := ReactorFigures{Core: core, Sleeps: end.stats.Sleeps - u.stats.Sleeps, Enters: end.stats.Enters - u.stats.Enters}
	f.Operations = end.stats.Completions - u.stats.Completions
	if all := busy + float64(end.stats.Idle-u.stats.Idle); all > 0 {
		f.BusyPercent = 100 * busy / all
	}
	if wall > 0 {
		f.CPUPercent = 100 * float64(end.user+end.system-u.user-u.system) / wall
	}
	return f
}

func seconds(t reactor.Ticks) float64 { return float64(t) / float64(reactor.Second) }
