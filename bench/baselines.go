package bench

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"time"
)

// This file is the ratios that may not fall: a file of lines, one a JSON object, to which lines are only ever added. What counts of a row, a
// figure and a machine are its lines from the last one on that says why it is worse: a disk differs more from one hour to another than within
// the minutes of one line. docs/BENCH.md says how it is judged.

// Baseline is one ratio as it was found once.
type Baseline struct {
	Row     string  `json:"row"`     // a Ratio's name: "uring / raw randread 4k qd32"
	Figure  string  `json:"figure"`  // IOPS or p99
	Version int     `json:"version"` // of this row, figure and machine: 1, 2, …
	Date    string  `json:"date"`    // 2006-01-02
	Commit  string  `json:"commit"`
	Machine string  `json:"machine"` // what it holds for
	Median  float64 `json:"median"`
	Low     float64 `json:"low"`
	High    float64 `json:"high"`
	Pairs   int     `json:"pairs"`
	Why     string  `json:"why,omitempty"` // of one that is worse than the one before
}

// baselineKey is what versions are counted for.
type baselineKey struct{ row, figure, machine string }

func (b *Baseline) key() baselineKey { return baselineKey{b.Row, b.Figure, b.Machine} }

// Baselines are all lines, in order.
type Baselines struct {
	all []Baseline
}

// Standing is the newest line, with the range of all lines that count; nil if there is none.
func (b *Baselines) Standing(row, figure, machine string) *Baseline {
	var out *Baseline
	for i := range b.all {
		x := b.all[i]
		switch {
		case x.key() != (baselineKey{row, figure, machine}):
			continue
		case out != nil && x.Why == "":
			x.Low, x.High = min(x.Low, out.Low), max(x.High, out.High)
		}
		out = &x
	}
	return out
}

// ErrBaselines is wrapped by what is wrong with a file of baselines.
var ErrBaselines = errors.New("no file to which lines were only added")

// DecodeBaselines reads the lines, and refuses what cannot have come about by adding lines: each is whole, no date is before the one above
// it, and the versions of a row run on from 1.
func DecodeBaselines(b []byte) (*Baselines, error) {
	out := new(Baselines)
	versions := map[baselineKey]int{}
	last := ""
	for n := 1; len(b) > 0; n++ {
		line, rest, whole := bytes.Cut(b, []byte("\n"))
		b = rest
		bad := func(format string, args ...any) (*Baselines, error) {
			return nil, fmt.Errorf("line %d: %w: "+format, append([]any{n, ErrBaselines}, args...)...)
		}
		if !whole {
			return bad("it has no end")
		}
		d := json.NewDecoder(bytes.NewReader(line))
		d.DisallowUnknownFields()
		var x Baseline
		if err := d.Decode(&x); err != nil {
			return bad("%w", err)
		}
		if d.More() {
			return bad("something follows the entry")
		}
		if why := x.wrong(); why != "" {
			return bad("%s", why)
		}
		if x.Date < last {
			return bad("its date is %s, and %s stands above it", x.Date, last)
		}
		last = x.Date
		if versions[x.key()]++; x.Version != versions[x.key()] {
			return bad("its version is %d, and %d comes next for %s, %s, on %s", x.Version, versions[x.key()], x.Row, x.Figure, x.Machine)
		}
		out.all = append(out.all, x)
	}
	return out, nil
}

// wrong says what is wrong with a line by itself.
func (b *Baseline) wrong() string {
	day, err := time.Parse(time.DateOnly, b.Date)
	switch {
	case b.Row == "" || b.Machine == "" || b.Commit == "":
		return "row, machine and commit are needed"
	case b.Commit[len(b.Commit)-1] == '+':
		return "it was made by a program with changes that no commit has"
	case b.Figure != figureIOPS && b.Figure != figureP99:
		return fmt.Sprintf("no figure is called %q", b.Figure)
	case err != nil || day.Year() < 2026:
		return fmt.Sprintf("its date is %q", b.Date)
	case !(0 < b.Low && b.Low <= b.Median && b.Median <= b.High): // NaN is none of it
		return fmt.Sprintf("low %g, median %g and high %g are in no order", b.Low, b.Median, b.High)
	case b.Pairs < RunsMin:
		return fmt.Sprintf("%d pairs, and %d are needed", b.Pairs, RunsMin)
	}
	return ""
}

// LoadBaselines reads a file of baselines.
func LoadBaselines(path string) (*Baselines, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("reading the baselines, which lie in the repository: %w", err)
	}
	out, err := DecodeBaselines(b)
	if err != nil {
		return nil, fmt.Errorf("reading the baselines %s: %w", path, err)
	}
	return out, nil
}

// AppendBaselines adds lines to the file. It is read again as it will be before anything is written.
func AppendBaselines(path string, add []Baseline) error {
	old, err := os.ReadFile(path)
	if err != nil {
		return fmt.Errorf("adding to the baselines: %w", err)
	}
	now, err := DecodeBaselines(old)
	if err != nil {
		return fmt.Errorf("adding to the baselines %s: %w", path, err)
	}
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	for _, x := range add {
		x.Version = 1
		if n := now.Standing(x.Row, x.Figure, x.Machine); n != nil {
			x.Version = n.Version + 1
		}
		if err := e.Encode(&x); err != nil {
			return err
		}
		now.all = append(now.all, x)
	}
	if _, err := DecodeBaselines(append(old, b.Bytes()...)); err != nil {
		return fmt.Errorf("adding to the baselines %s: %w", path, err)
	}
	f, err := os.OpenFile(path, os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		return fmt.Errorf("adding to the baselines: %w", err)
	}
	_, err = f.Write(b.Bytes())
	return errors.Join(err, f.Close())
}
