package bench

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"slices"
)

// SchemaName and SchemaVersion head every report. The version rises when a field changes its meaning or goes; one that is
// added does not raise it. docs/BENCH.md lists the fields.
const (
	SchemaName    = "pollux-bench"
	SchemaVersion = 1
)

// Report is rows under the conditions of their making.
type Report struct {
	Schema     string     `json:"schema"`
	Version    int        `json:"version"`
	Conditions Conditions `json:"conditions"`
	Rows       []Row      `json:"rows"`
	Ratios     []Ratio    `json:"ratios,omitempty"`
	Idle       []IdleRow  `json:"idle,omitempty"`
	Allocs     []AllocRow `json:"allocations,omitempty"`

	Excesses []Excess `json:"excesses,omitempty"`

	Amplification []AmplifyRow  `json:"write_amplification,omitempty"`
	Recovery      []RecoveryRow `json:"recovery,omitempty"`
	RecoveryFit   *RecoveryFit  `json:"recovery_fit,omitempty"`
	Memory        []MemoryRow   `json:"memory,omitempty"`

	Verdicts []Verdict    `json:"verdicts,omitempty"`
	State    *EngineState `json:"state,omitempty"`
}

// Row is one workload on one target, measured several times.
type Row struct {
	Name     string           `json:"name"` // target and workload: rows of two reports are matched by it
	Device   DeviceConditions `json:"device"`
	Workload Workload         `json:"workload"`
	Synced   bool             `json:"synced"` // every write was durable when it counted
	Runs     []Run            `json:"runs"`
	Summary  Summary          `json:"summary"`
}

// IdleRow is what a target costs that has nothing to do.
type IdleRow struct {
	What       string  `json:"what"`
	Idle       string  `json:"idle_policy"`
	Seconds    float64 `json:"seconds"`
	CPUPercent float64 `json:"cpu_percent"` // of one core, all threads of the process

	WakesPerSecond  float64 `json:"wakes_per_second"`           // how often a thread of the process that slept ran again
	SleepsPerSecond float64 `json:"reactor_sleeps_per_second"`  // of its reactors
	HostCPUPercent  float64 `json:"host_cpu_percent,omitempty"` // of the process with the hosts, if it is another one
}

// AllocRow is what both ends of a connection allocate for a request.
type AllocRow struct {
	What   string  `json:"what"`
	IOs    uint64  `json:"ios"`
	Client float64 `json:"client_per_io"`
	Engine float64 `json:"engine_per_io"`
}

// Summary is the figures of all runs together.
type Summary struct {
	IOPS           Stat `json:"iops"`
	BytesPerSecond Stat `json:"bytes_per_second"`
	Mean           Stat `json:"latency_mean_ns"`
	P50            Stat `json:"latency_p50_ns"`
	P99            Stat `json:"latency_p99_ns"`
	P999           Stat `json:"latency_p99.9_ns"`
	Max            Stat `json:"latency_max_ns"`
	CPUPerIO       Stat `json:"cpu_us_per_io"` // all processes that took part
	AllocsPerIO    Stat `json:"go_allocs_per_io"`
}

// Stat is one figure over several runs.
type Stat struct {
	Median float64 `json:"median"`
	Worst  float64 `json:"worst"`
	Spread float64 `json:"spread"` // from the least to the most, as a share of the median
}

// NewReport makes an empty report of here and now.
func NewReport() *Report {
	return &Report{Schema: SchemaName, Version: SchemaVersion, Conditions: ConditionsNow()}
}

// NewRow makes a row of a target's runs.
func NewRow(t Target, w Workload, runs []Run) Row {
	r := Row{Name: t.Name() + " " + w.Name(), Device: t.Describe(), Workload: w, Synced: w.Synced(), Runs: runs}
	r.summarise()
	return r
}

// stat is one figure over the runs.
func (r *Row) stat(more bool, of func(*Run) float64) Stat {
	x := make([]float64, len(r.Runs))
	for i := range r.Runs {
		x[i] = of(&r.Runs[i])
	}
	return newStat(x, more)
}

func (r *Row) summarise() {
	stat := r.stat
	r.Summary = Summary{
		IOPS:           stat(true, func(r *Run) float64 { return r.Total.IOPS }),
		BytesPerSecond: stat(true, func(r *Run) float64 { return r.Total.BytesPerSecond }),
		Mean:           stat(false, func(r *Run) float64 { return r.Total.Latency.Mean }),
		P50:            stat(false, func(r *Run) float64 { return r.Total.Latency.P50 }),
		P99:            stat(false, func(r *Run) float64 { return r.Total.Latency.P99 }),
		P999:           stat(false, func(r *Run) float64 { return r.Total.Latency.P999 }),
		Max:            stat(false, func(r *Run) float64 { return r.Total.Latency.Max }),
		CPUPerIO:       stat(false, (*Run).cpuPerIO),
		AllocsPerIO:    stat(false, func(r *Run) float64 { return r.AllocsPerIO }),
	}
}

// cpuPerIO is the processor time of a request in microseconds, at both ends.
func (r *Run) cpuPerIO() float64 {
	us := r.CPU.MicrosPerIO
	for _, o := range r.Others {
		us += o.MicrosPerIO
	}
	return us
}

// newStat gives the median, the worst and the spread of x; more says whether more is better.
func newStat(x []float64, more bool) Stat {
	if len(x) == 0 {
		return Stat{}
	}
	s := slices.Sorted(slices.Values(x))
	low, high := s[0], s[len(s)-1]
	st := Stat{Median: median(s), Worst: high}
	if more {
		st.Worst = low
	}
	if st.Median != 0 {
		st.Spread = (high - low) / st.Median
	}
	return st
}

// median of sorted numbers.
func median(s []float64) float64 {
	n := len(s)
	if n%2 == 1 {
		return s[n/2]
	}
	return (s[n/2-1] + s[n/2]) / 2
}

// MedianRun is the run whose throughput is nearest to the median.
func (r *Row) MedianRun() *Run {
	best := 0
	dist := func(i int) float64 {
		d := r.Runs[i].Total.IOPS - r.Summary.IOPS.Median
		return max(d, -d)
	}
	for i := range r.Runs {
		if dist(i) < dist(best) {
			best = i
		}
	}
	if len(r.Runs) == 0 {
		return &Run{}
	}
	return &r.Runs[best]
}

// Encode writes the report as JSON, a row on each line, so that two reports can be read beside each other.
func (r *Report) Encode() ([]byte, error) {
	var b bytes.Buffer
	put := func(before string, v any) error {
		b.WriteString(before)
		e := json.NewEncoder(&b)
		e.SetEscapeHTML(false)
		if err := e.Encode(v); err != nil {
			return fmt.Errorf("writing the report: %w", err)
		}
		b.Truncate(b.Len() - 1) // the line's end
		return nil
	}
	var errs []error
	errs = append(errs, put(`{"schema": `, r.Schema), put(`, "version": `, r.Version), put(",\n\"conditions\": ", r.Conditions))
	list := func(name string, n int, at func(i int) any) {
		if n == 0 && name != "rows" {
			return
		}
		b.WriteString(",\n\"" + name + "\": [")
		for i := range n {
			sep := ",\n"
			if i == 0 {
				sep = "\n"
			}
			errs = append(errs, put(sep, at(i)))
		}
		b.WriteString("\n]")
	}
	list("rows", len(r.Rows), func(i int) any { return &r.Rows[i] })
	list("ratios", len(r.Ratios), func(i int) any { return &r.Ratios[i] })
	list("idle", len(r.Idle), func(i int) any { return &r.Idle[i] })
	list("excesses", len(r.Excesses), func(i int) any { return &r.Excesses[i] })
	list("allocations", len(r.Allocs), func(i int) any { return &r.Allocs[i] })
	list("write_amplification", len(r.Amplification), func(i int) any { return &r.Amplification[i] })
	list("recovery", len(r.Recovery), func(i int) any { return &r.Recovery[i] })
	if r.RecoveryFit != nil {
		errs = append(errs, put(",\n\"recovery_fit\": ", r.RecoveryFit))
	}
	list("memory", len(r.Memory), func(i int) any { return &r.Memory[i] })
	list("verdicts", len(r.Verdicts), func(i int) any { return &r.Verdicts[i] })
	if r.State != nil {
		errs = append(errs, put(",\n\"state\": ", r.State))
	}
	b.WriteString("\n}\n")
	return b.Bytes(), errors.Join(errs...)
}

// DecodeReport reads a report, and refuses one of another schema or version.
func DecodeReport(b []byte) (*Report, error) {
	r := new(Report)
	if err := json.Unmarshal(b, r); err != nil {
		return nil, err
	}
	if r.Schema != SchemaName || r.Version != SchemaVersion {
		return nil, fmt.Errorf("its schema is %q version %d, this program reads %s version %d", r.Schema, r.Version, SchemaName, SchemaVersion)
	}
	return r, nil
}

// LoadReport reads a report from a file.
func LoadReport(path string) (*Report, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("reading a report: %w", err)
	}
	r, err := DecodeReport(b)
	if err != nil {
		return nil, fmt.Errorf("reading the report %s: %w", path, err)
	}
	return r, nil
}
