package bench

import (
	"fmt"
	"io"
	"time"

	"github.com/schollz/progressbar/v3"

	"github.com/pollux-storage/pollux/reactor"
)

// NewReporter shows progress on w: as a bar where w is a terminal, as a line now and then otherwise.
func NewReporter(w io.Writer, terminal bool) Reporter {
	if terminal {
		return &barReporter{w: w}
	}
	return &lineReporter{w: w}
}

func (p *Progress) text() string {
	s := p.Phase
	if p.Label != "" {
		s = p.Label + " " + s
	}
	return s
}

func (p *Progress) rates() string {
	if p.IOPS == 0 {
		return ""
	}
	return fmt.Sprintf("%s IOPS, %s MiB/s", number(p.IOPS), number(p.BytesPerSecond/(1<<20)))
}

// barReporter draws a bar for each phase.
type barReporter struct {
	w   io.Writer
	bar *progressbar.ProgressBar
	of  string // whose bar it is
}

const barSteps = 1000

func (b *barReporter) Report(p Progress) {
	if of := p.text(); b.bar == nil || b.of != of {
		b.Done()
		b.of = of
		b.bar = progressbar.NewOptions(barSteps, progressbar.OptionSetWriter(b.w), progressbar.OptionSetWidth(20),
			progressbar.OptionSetPredictTime(false), progressbar.OptionThrottle(50*time.Millisecond), progressbar.OptionSetElapsedTime(false))
	}
	b.bar.Describe(fmt.Sprintf("%-24s %27s", b.of, p.rates()))
	_ = b.bar.Set(int(p.Share * barSteps))
}

func (b *barReporter) Done() {
	if b.bar == nil {
		return
	}
	_ = b.bar.Finish()
	_ = b.bar.Close()
	fmt.Fprintln(b.w)
	b.bar = nil
}

// lineReporter writes a line for each phase's beginning and end, and now and then between.
type lineReporter struct {
	w     io.Writer
	phase string
	at    reactor.Ticks
	ended bool
}

// lineEvery is how often a phase that goes on gets a line.
const lineEvery = 10 * reactor.Second

func (l *lineReporter) Report(p Progress) {
	now := reactor.Clock()
	switch of := p.text(); {
	case of != l.phase:
		l.phase, l.ended = of, false
	case l.ended || now-l.at < lineEvery && p.Share < 1:
		return
	}
	l.at, l.ended = now, p.Share >= 1
	line := fmt.Sprintf("%s: %.0f %%", l.phase, 100*p.Share)
	if r := p.rates(); r != "" {
		line += ", " + r
	}
	fmt.Fprintln(l.w, line)
}

func (l *lineReporter) Done() { l.phase = "" }
