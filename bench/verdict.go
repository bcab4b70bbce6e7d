package bench

import (
	"fmt"
	"io"
	"strings"
)

// This file is how figures are judged that may not be lost. It measures nothing: it is given rows, ratios and counts. docs/BENCH.md has
// the rules in words, and why they are so.

// Result is what a verdict comes to.
type Result string

// The results. What is not judged says why.
const (
	Passed    Result = "ok"
	Failed    Result = "FAIL"
	NotJudged Result = "not judged"
	Reference Result = "reference" // others are judged by it
)

// Verdict is one figure beside its limit.
type Verdict struct {
	Group    string  `json:"group"` // gates, ratios, costs, state
	Row      string  `json:"row"`
	Figure   string  `json:"figure"`
	Found    Stat    `json:"found"`
	Limit    float64 `json:"limit,omitempty"`
	By       string  `json:"by,omitempty"` // where the limit is from
	Result   Result  `json:"result"`
	Attempts int     `json:"attempts,omitempty"` // how often it was measured, if more than once
	Why      string  `json:"why,omitempty"`

	excused bool // past its limit, and not judged for the noise
}

// Names of the figures.
const (
	figureIOPS = "IOPS"
	figureP99  = "p99"
	figureP99w = "write p99, ms"
)

// judge compares a figure with its limit. A figure of which more is better may not be below it, another not above it.
func (v *Verdict) judge(found float64, more bool) {
	v.Result = Passed
	if more && !(found >= v.Limit) || !more && !(found <= v.Limit) { // what is no number fails
		v.Result = Failed
	}
}

// Limits of B-4. On a disk that does not have twice as much itself, an engine has to give half of what fio found there in the same run:
// the limit is the lower of the two, so that it has no step.
const (
	p99MaxMS     = 100.0
	rawShareMin  = 0.5
	rawP99Factor = 2.0
)

// judgeFloor judges a row by its worst run. raw is the same load, or the durable one for a device whose writes are durable anyway, by fio
// on such a file; nil where there is no disk.
func judgeFloor(floor float64, row, raw *Row) []Verdict {
	v := Verdict{Group: "gates", Row: row.Name, Figure: figureIOPS, Found: row.Summary.IOPS, Limit: floor, By: "floor"}
	if raw != nil {
		if half := rawShareMin * raw.Summary.IOPS.Worst; half < floor {
			v.Limit, v.By = half, fmt.Sprintf("half of raw's worst, %s: the disk is slow", number(raw.Summary.IOPS.Worst))
		}
	}
	v.judge(row.Summary.IOPS.Worst, true)
	if !row.Workload.Writes() {
		return []Verdict{v}
	}
	p := Verdict{Group: "gates", Row: row.Name, Figure: figureP99w, Found: millis(row.Summary.P99), Limit: p99MaxMS, By: "floor"}
	if raw != nil {
		if worst := raw.Summary.P99.Worst / 1e6; rawP99Factor*worst > p99MaxMS {
			p.Limit, p.By = rawP99Factor*worst, fmt.Sprintf("twice raw's worst, %s ms: the disk is slow", number(worst))
		}
	}
	p.judge(p.Found.Worst, false)
	return []Verdict{v, p}
}

func millis(s Stat) Stat { return Stat{Median: s.Median / 1e6, Worst: s.Worst / 1e6, Spread: s.Spread} }

// judgeRatio judges a ratio by its best pair: it fails if even that is worse than the worst pair of the baseline by more than the limit.
// Then the two do not touch, and a limit lies between them.
func judgeRatio(row, figure string, found Span, base *Baseline) Verdict {
	more := figure == figureIOPS
	v := Verdict{Group: "ratios", Row: row, Figure: figure, Found: Stat{Median: found.Median, Worst: found.Low}}
	best := found.High
	if !more {
		v.Found.Worst, best = found.High, found.Low
	}
	if found.Median > 0 {
		v.Found.Spread = (found.High - found.Low) / found.Median
	}
	switch {
	case found.Pairs < RunsMin:
		v.Result, v.Why = NotJudged, fmt.Sprintf("%d pairs without others on their cores, and %d are needed", found.Pairs, RunsMin)
		return v
	case base == nil:
		v.Result, v.Why = NotJudged, "no baseline of this machine: --append makes one"
		return v
	case more:
		v.Limit = base.Low * (1 - iopsFallMax)
		v.By = fmt.Sprintf("best pair %s; baseline %d: at least %s, less %.0f %%", ratio(best), base.Version, ratio(base.Low), 100*iopsFallMax)
	default:
		v.Limit = base.High * (1 + p99RiseMax)
		v.By = fmt.Sprintf("best pair %s; baseline %d: at most %s, and %.0f %%", ratio(best), base.Version, ratio(base.High), 100*p99RiseMax)
	}
	v.judge(best, more)
	return v
}

// judgeCost judges what a request costs by the run in which it cost least: what else the machine does can only add to it.
func judgeCost(row, figure string, found []float64, limit float64) Verdict {
	s := newStat(found, false)
	v := Verdict{Group: "costs", Row: row, Figure: figure, Found: s, Limit: limit}
	if len(found) == 0 {
		v.Result, v.Why = Failed, "it was not counted"
		return v
	}
	least := found[0]
	for _, x := range found {
		least = min(least, x)
	}
	v.By = "least " + number(least)
	v.judge(least, false)
	return v
}

// judgeSynced fails where a row of writes has no row beside it whose writes are durable when they count. Those of a device without a write
// cache are durable anyway.
func judgeSynced(rows []Row) Verdict {
	v := Verdict{Group: "gates", Row: "each row of writes", Figure: "has its durable one", Result: Passed}
	synced := map[string]bool{}
	for i := range rows {
		synced[rows[i].Name] = rows[i].Synced
	}
	var lack []string
	for i := range rows {
		r := &rows[i]
		if w := r.Workload; w.Writes() && !r.Synced && r.Device.WriteCache != "none" {
			w.FUAEvery = 1
			if !synced[r.Device.Target+" "+w.Name()] {
				lack = append(lack, r.Name)
			}
		}
	}
	if len(lack) > 0 {
		v.Result, v.Why = Failed, "no durable row stands beside "+strings.Join(lack, ", ")
	}
	return v
}

// Limits of what an engine may have done under load.
const (
	lagMax          = 1000 // records, at rest
	failedShareMax  = 0.05 // of commits
	pressureNothing = "none"
	healthOK        = "ok"
	volumeHealthy   = "healthy"
)

// EngineState is how an engine and its volume are after a load, at rest.
type EngineState struct {
	Died         string   `json:"died,omitempty"` // how it ended, if it did
	Blocks       uint64   `json:"blocks_right"`   // that were verified
	Mismatches   uint64   `json:"mismatches"`
	Changes      uint64   `json:"changes"`        // that passed the volume's door
	Refused      uint64   `json:"refused"`        // that did not, or failed
	HomeErrors   uint64   `json:"home_errors"`    // writes that failed behind the log
	Lag          uint64   `json:"lag_records"`    // that are not home
	Pressure     string   `json:"log_pressure"`   //
	LogUsed      uint64   `json:"log_used_bytes"` //
	LogBytes     uint64   `json:"log_bytes"`      //
	Scrubbed     uint64   `json:"scrubbed_bytes"` // compared by a whole pass
	ScrubErrors  uint64   `json:"scrub_errors"`
	Health       string   `json:"health"`
	Volume       string   `json:"volume"`
	WhyNotHealth []string `json:"reasons,omitempty"`
}

// judgeState judges an engine that had no fault.
func judgeState(row string, s *EngineState) []Verdict {
	of := func(figure string, found, limit float64, why string) Verdict {
		v := Verdict{Group: "state", Row: row, Figure: figure, Found: Stat{Median: found, Worst: found}, Limit: limit, By: "at most", Why: why}
		v.judge(found, false)
		return v
	}
	is := func(figure string, ok bool, why string) Verdict {
		v := Verdict{Group: "state", Row: row, Figure: figure, Result: Passed, Why: why}
		if !ok {
			v.Result = Failed
		}
		return v
	}
	out := []Verdict{is("the engine lives", s.Died == "", s.Died)}
	if s.Died != "" {
		return out // nobody could be asked for anything else
	}
	failed := 1.0
	if all := s.Changes + s.Refused; all > 0 {
		failed = float64(s.Refused) / float64(all)
	}
	return append(out,
		is("verified", s.Blocks > 0, fmt.Sprintf("%s blocks were right", number(float64(s.Blocks)))),
		of("blocks that came back wrong", float64(s.Mismatches), 0, ""),
		of("commits that failed, share", failed, failedShareMax, ""),
		of("failed writes behind the log", float64(s.HomeErrors), 0, ""),
		of("records not home, at rest", float64(s.Lag), lagMax, ""),
		is("log is not full, at rest", s.Pressure == pressureNothing,
			fmt.Sprintf("pressure %s, %s of %s", s.Pressure, FormatBytes(s.LogUsed), FormatBytes(s.LogBytes))),
		is("scrubbed", s.Scrubbed > 0, fmt.Sprintf("%s were compared", FormatBytes(s.Scrubbed))),
		of("errors of the scrub", float64(s.ScrubErrors), 0, ""),
		is("health", s.Health == healthOK && s.Volume == volumeHealthy,
			strings.Join(append([]string{"engine " + s.Health + ", volume " + s.Volume}, s.WhyNotHealth...), "; ")),
	)
}

// writeVerdicts shows verdicts to a person: a table, and below it what there is to say of those that did not pass, or passed by the disk's own
// figure.
func writeVerdicts(w io.Writer, verdicts []Verdict) error {
	t := &table{head: []string{"row", "figure", "worst", "median", "±", "limit", "verdict"}}
	group := ""
	var notes []string
	of := map[string][]string{} // rows, by note
	for i := range verdicts {
		v := &verdicts[i]
		if v.Group != group {
			group = v.Group
			t.add(group)
		}
		worst, middle, spread, limit := "", "", "", ""
		if v.Found != (Stat{}) || v.By != "" {
			worst, middle, spread = number(v.Found.Worst), number(v.Found.Median), percent(v.Found.Spread/2)
		}
		if v.By != "" {
			limit = number(v.Limit)
		}
		result := string(v.Result)
		if v.Attempts > 1 && v.Result != Reference {
			result += fmt.Sprintf(" (measured %d times)", v.Attempts)
		}
		t.add("  "+v.Row, v.Figure, worst, middle, spread, limit, result)
		if v.Result != Failed && v.Result != NotJudged && !strings.Contains(v.By, "raw") {
			continue
		}
		note := string(v.Result)
		for _, s := range []string{v.By, v.Why} {
			if s != "" {
				note += ": " + s
			}
		}
		if of[note] == nil {
			notes = append(notes, note)
		}
		of[note] = append(of[note], v.Row+", "+v.Figure)
	}
	if err := t.text(w); err != nil {
		return err
	}
	for _, n := range notes {
		fmt.Fprintf(w, "%s\n    %s\n", n, strings.Join(of[n], "\n    "))
	}
	return nil
}
