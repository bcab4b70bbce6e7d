package main

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"strings"

	"github.com/pollux-storage/pollux/ctl/api"
)

// This file draws a trace: a table of stages for each group, bars of their distribution, and the slowest commands.

// groupText draws one group.
func groupText(b *strings.Builder, g *api.TraceGroup, histogram bool) {
	fmt.Fprintf(b, "%s: %d commands", groupTitle(g), g.Count)
	if g.Errors > 0 {
		fmt.Fprintf(b, ", %d failed", g.Errors)
	}
	b.WriteByte('\n')
	var t table
	t.columns("STAGE", "COUNT", "MEAN", "P50", "P99", "MAX", "SHARE %")
	for i := range g.Stages {
		stageRows(&t, &g.Stages[i])
	}
	timesRow(&t, "total", &g.Total, 1)
	b.WriteString(t.String())
	if histogram {
		for i := range g.Stages {
			bars(b, g.Stages[i].Stage, g.Stages[i].Buckets)
		}
		bars(b, "total", g.Total.Buckets)
	}
}

// groupTitle says what the commands of a group have in common.
func groupTitle(g *api.TraceGroup) string {
	var parts []string
	if g.Kind != "" {
		parts = append(parts, g.Kind)
	}
	if g.Device != "" {
		parts = append(parts, cmp.Or(g.Alias, g.Device))
	}
	if g.QID != nil {
		parts = append(parts, fmt.Sprintf("%s controller %d queue %d", g.Host, *g.CNTLID, *g.QID))
	}
	if len(parts) == 0 {
		return "all"
	}
	return strings.Join(parts, ", ")
}

// stageRows draws a stage, and below it what it is divided into.
func stageRows(t *table, s *api.TraceStage) {
	timesRow(t, s.Stage, &s.TraceTimes, s.Share)
	for i := range s.Layers {
		l := &s.Layers[i]
		timesRow(t, "  "+cmp.Or(l.Alias, l.Device), &l.TraceTimes, l.Share)
		for k := range l.Stages {
			timesRow(t, "    "+l.Stages[k].Stage, &l.Stages[k].TraceTimes, l.Stages[k].Share)
		}
	}
}

func timesRow(t *table, name string, s *api.TraceTimes, share float64) {
	t.row(name, s.Count, span10(s.MeanNS), span10(s.P50NS), span10(s.P99NS), span10(s.MaxNS), decimal(100*share))
}

// span10 is a time to three digits, as a number for the table's sake.
type span10 uint64

func (n span10) String() string {
	v, unit := float64(n), "ns"
	for _, next := range []string{"µs", "ms", "s"} {
		if v < 999.5 {
			break
		}
		v, unit = v/1000, next
	}
	switch {
	case unit == "ns" || v >= 99.95:
		return fmt.Sprintf("%.0f %s", v, unit)
	case v >= 9.995:
		return fmt.Sprintf("%.1f %s", v, unit)
	}
	return fmt.Sprintf("%.2f %s", v, unit)
}

// barWidth is the length of the longest bar.
const barWidth = 40

// bars draws a distribution, a line to each octave.
func bars(b *strings.Builder, title string, buckets []api.TraceBucket) {
	if len(buckets) == 0 {
		return
	}
	counts := map[int]uint64{}
	low, high, most := math.MaxInt, 0, uint64(0)
	for _, k := range buckets {
		octave := int(math.Ceil(math.Log2(k.UpToNS) - 1e-9))
		counts[octave] += k.Count
		low, high = min(low, octave), max(high, octave)
		most = max(most, counts[octave])
	}
	fmt.Fprintf(b, "\n%s\n", title)
	var t table
	t.columns("UP TO", "COUNT", "")
	for octave := low; octave <= high; octave++ {
		t.row(span10(math.Exp2(float64(octave))), counts[octave], bar(counts[octave], most))
	}
	b.WriteString(strings.ReplaceAll(t.String(), "  -\n", "\n"))
}

// bar is a line as long as its share of the most: an eighth of a character at least, if there is anything.
func bar(n, most uint64) string {
	eighths := int(math.Ceil(float64(n) / float64(most) * barWidth * 8))
	s := strings.Repeat("█", eighths/8)
	if rest := eighths % 8; rest > 0 {
		s += string([]rune(" ▏▎▍▌▋▊▉")[rest])
	}
	return s
}

// slowestText draws single commands, with the stages that took longest.
func slowestText(b *strings.Builder, list []api.TraceCommand) {
	b.WriteString("slowest\n")
	var t table
	t.columns("TOTAL", "KIND", "DEVICE", "LBA", "BYTES", "QUEUE", "BEGAN", "STATUS", "WHERE")
	for i := range list {
		c := &list[i]
		lba := "-"
		if c.LBA != nil {
			lba = fmt.Sprint(*c.LBA)
		}
		_, began, _ := strings.Cut(c.Began, "T")
		t.row(span10(c.TotalNS), c.Kind, cmp.Or(c.Alias, c.Device), lba, c.Bytes, fmt.Sprintf("%s %d/%d", c.Host, c.CNTLID, c.QID), began, c.Status, whereText(c))
	}
	b.WriteString(t.String())
}

// whereMax is how many stages of a slow command are named.
const whereMax = 3

// whereText names the stages of a command that took longest, of a divided one its parts.
func whereText(c *api.TraceCommand) string {
	spans := leaves(c)
	slices.SortStableFunc(spans, func(a, b api.TraceSpan) int { return cmp.Compare(b.NS, a.NS) })
	var words []string
	for _, s := range spans[:min(len(spans), whereMax)] {
		words = append(words, fmt.Sprintf("%s %v", s.Stage, span10(s.NS)))
	}
	return strings.Join(words, ", ")
}

// leaves are the undivided parts of a command's way, with the names of what they divide.
func leaves(c *api.TraceCommand) (all []api.TraceSpan) {
	for _, s := range c.Stages {
		if len(s.Layers) == 0 {
			all = append(all, s)
		}
		for _, l := range s.Layers {
			name := cmp.Or(l.Alias, l.Device)
			if len(l.Stages) == 0 {
				all = append(all, api.TraceSpan{Stage: s.Stage + " " + name, NS: l.NS})
			}
			for _, in := range l.Stages {
				all = append(all, api.TraceSpan{Stage: name + " " + in.Stage, NS: in.NS})
			}
		}
	}
	return all
}
