package ctl

import (
	"cmp"
	"slices"
	"strings"

	"github.com/pollux-storage/pollux/bdev"
	"github.com/pollux-storage/pollux/ctl/api"
	"github.com/pollux-storage/pollux/internal/hist"
	"github.com/pollux-storage/pollux/nvmf"
)

// This file adds up what a trace finds: by kind, device and queue, a histogram of each stage, and the slowest commands whole.

// traceCellsMax bounds the combinations of kind, device and queue that are told apart. What comes when all are taken is added up by its kind.
const traceCellsMax = 256

// traceKey is what commands of a cell have in common.
type traceKey struct {
	kind, device, host string
	cntlid, qid        uint16
}

// traceSum is all that a trace has found.
type traceSum struct {
	cells map[traceKey]*traceCell
	most  int // commands that a cell keeps whole
}

// traceCell is the commands with one key.
type traceCell struct {
	count, errors, bytes uint64
	total                stageSum
	stages               [nvmf.TraceStages]*stageSum
	slowest              []nvmf.TraceRecord // the slowest first
}

// stageSum is the times of one stage, and of the parts that it has.
type stageSum struct {
	name  string
	hist  hist.Histogram
	max   uint64
	parts []*stageSum // in the order of the stages
}

func (s *stageSum) record(ns uint64) {
	s.hist.Record(ns)
	s.max = max(s.max, ns)
}

func (s *stageSum) add(o *stageSum) {
	s.hist.Add(&o.hist)
	s.max = max(s.max, o.max)
	for i, p := range o.parts {
		s.part(p.name, i).add(p)
	}
}

// part gives the part with a name, which is after the first i of another one that has it.
func (s *stageSum) part(name string, i int) *stageSum {
	for _, p := range s.parts {
		if p.name == name {
			return p
		}
	}
	p := &stageSum{name: name}
	s.parts = slices.Insert(s.parts, min(i, len(s.parts)), p)
	return p
}

func newTraceSum(most int) *traceSum { return &traceSum{cells: map[traceKey]*traceCell{}, most: most} }

// add takes one command.
func (s *traceSum) add(r *nvmf.TraceRecord) {
	key := traceKey{kind: traceKind(r), device: r.Device, host: r.Host, cntlid: uint16(r.CNTLID), qid: uint16(r.QID)}
	c := s.cells[key]
	if c == nil {
		if len(s.cells) >= traceCellsMax {
			key = traceKey{kind: key.kind}
			c = s.cells[key]
		}
		if c == nil {
			c = &traceCell{}
			s.cells[key] = c
		}
	}
	c.record(r, s.most, key == traceKey{kind: key.kind})
}

// traceKinds are the kinds of commands by their opcode, with the names of the requests that they become where there are any.
var traceKinds = func() (kinds [256]string) {
	for op := range kinds {
		kinds[op] = strings.ReplaceAll(strings.ToLower(nvmf.IOOpcode(op).String()), " ", "_")
	}
	kinds[nvmf.IODatasetManagement] = bdev.Unmap.String()
	return kinds
}()

// traceKind is a command's. The two of a fused pair have one of their own.
func traceKind(r *nvmf.TraceRecord) string {
	if r.Fused {
		return bdev.CompareAndWrite.String()
	}
	return traceKinds[r.Opcode]
}

// record takes one command. The cell of the rest is for all devices, of which there may be any number, and so is not divided among them.
func (c *traceCell) record(r *nvmf.TraceRecord, most int, rest bool) {
	c.count++
	c.bytes += uint64(r.Bytes)
	if !r.Status.OK() {
		c.errors++
	}
	c.total.record(uint64(r.Total))
	for i := range nvmf.TraceStages {
		if r.Passed&(1<<i) == 0 {
			continue
		}
		st := c.stages[i]
		if st == nil {
			st = &stageSum{name: i.String()}
			c.stages[i] = st
		}
		st.record(uint64(r.Spent[i]))
		if i == nvmf.TraceDevice && !rest {
			st.divide(layerSpans(&r.Below))
		}
	}
	if at, _ := slices.BinarySearchFunc(c.slowest, r, slower); at < most {
		c.slowest = slices.Insert(c.slowest, at, *r)
		c.slowest = c.slowest[:min(len(c.slowest), most)]
	}
}

func slower(a nvmf.TraceRecord, b *nvmf.TraceRecord) int { return cmp.Compare(b.Total, a.Total) }

// divide records the layers of a device's stage, and the stages inside of them.
func (s *stageSum) divide(layers []api.TraceLayerSpan) {
	for i := range layers {
		l := s.part(layers[i].Device, i)
		l.record(layers[i].NS)
		for k, in := range layers[i].Stages {
			l.part(in.Stage, k).record(in.NS)
		}
	}
}

// layerSpans are the layers of a request's way through devices, each without those below, and in the lowest one its stages.
func layerSpans(t *bdev.Trace) (spans []api.TraceLayerSpan) {
	for i := range t.Depth {
		span := api.TraceLayerSpan{Device: t.Layers[i].Device, NS: uint64(t.Own(i))}
		if i == t.Depth-1 && t.Stages != nil {
			span.Stages = insideSpans(t)
		}
		spans = append(spans, span)
	}
	return spans
}

// insideSpans are the stages of which a device tells, and the way to them and back.
func insideSpans(t *bdev.Trace) []api.TraceInsideSpan {
	last := len(t.Inside) - 1
	spans := []api.TraceInsideSpan{{Stage: "reach", NS: uint64(t.Inside[0])}}
	for i, name := range t.Stages {
		if name != "" {
			spans = append(spans, api.TraceInsideSpan{Stage: name, NS: uint64(t.Inside[i+1])})
		}
	}
	return append(spans, api.TraceInsideSpan{Stage: "return", NS: uint64(t.Inside[last])})
}

// fold adds up the cells that match by what groups are to have in common.
func (s *traceSum) fold(p *api.TraceReadParams, device string) (groups []api.TraceGroup, slowest []nvmf.TraceRecord) {
	byKind, byDevice, byQueue := slices.Contains(p.By, "kind"), slices.Contains(p.By, "device"), slices.Contains(p.By, "queue")
	folded := map[traceKey]*traceCell{}
	for key, c := range s.cells {
		if p.Kind != "" && key.kind != p.Kind || device != "" && key.device != device || p.Host != "" && key.host != p.Host {
			continue
		}
		slowest = append(slowest, c.slowest...)
		var to traceKey
		if byKind {
			to.kind = key.kind
		}
		if byDevice {
			to.device = key.device
		}
		if byQueue {
			to.host, to.cntlid, to.qid = key.host, key.cntlid, key.qid
		}
		if folded[to] == nil {
			folded[to] = &traceCell{}
		}
		folded[to].add(c)
	}
	for key, c := range folded {
		g := c.group(p.Histogram)
		g.Kind, g.Device, g.Host = key.kind, key.device, key.host
		if byQueue {
			g.CNTLID, g.QID = &key.cntlid, &key.qid
		}
		groups = append(groups, g)
	}
	slices.SortFunc(groups, func(a, b api.TraceGroup) int { // what takes most of the time first
		return cmp.Or(cmp.Compare(b.Total.SumNS, a.Total.SumNS), strings.Compare(a.Kind, b.Kind), strings.Compare(a.Device, b.Device))
	})
	slices.SortFunc(slowest, func(a, b nvmf.TraceRecord) int { return cmp.Or(slower(a, &b), cmp.Compare(a.Began, b.Began)) })
	return groups, slowest[:min(len(slowest), int(*p.Slowest))]
}

func (c *traceCell) add(o *traceCell) {
	c.count += o.count
	c.errors += o.errors
	c.bytes += o.bytes
	c.total.add(&o.total)
	for i, st := range o.stages {
		if st == nil {
			continue
		}
		if c.stages[i] == nil {
			c.stages[i] = &stageSum{name: st.name}
		}
		c.stages[i].add(st)
	}
}

func (c *traceCell) group(buckets bool) api.TraceGroup {
	g := api.TraceGroup{Count: c.count, Errors: c.errors, Bytes: c.bytes, Total: c.total.times(buckets)}
	for _, st := range c.stages {
		if st != nil {
			g.Stages = append(g.Stages, st.stage(buckets, g.Total.SumNS))
		}
	}
	return g
}

func (s *stageSum) stage(buckets bool, all uint64) api.TraceStage {
	st := api.TraceStage{Stage: s.name, TraceTimes: s.times(buckets), Share: s.share(all)}
	for _, l := range s.parts {
		layer := api.TraceLayer{Device: l.name, TraceTimes: l.times(buckets), Share: l.share(all)}
		for _, in := range l.parts {
			layer.Stages = append(layer.Stages, api.TraceInside{Stage: in.name, TraceTimes: in.times(buckets), Share: in.share(all)})
		}
		st.Layers = append(st.Layers, layer)
	}
	return st
}

// share is the stage's part of all the time.
func (s *stageSum) share(all uint64) float64 { return float64(s.hist.Sum) / float64(max(all, 1)) }

func (s *stageSum) times(buckets bool) api.TraceTimes {
	h := &s.hist
	t := api.TraceTimes{Count: h.Count, SumNS: h.Sum, MeanNS: uint64(h.Mean()), P50NS: s.quantile(0.5), P99NS: s.quantile(0.99), MaxNS: s.max}
	if buckets {
		for i, n := range h.Counts {
			if n > 0 {
				t.Buckets = append(t.Buckets, api.TraceBucket{UpToNS: hist.Border(i), Count: n})
			}
		}
	}
	return t
}

// quantile is that of the histogram; the middle of the last bucket may be more than there was.
func (s *stageSum) quantile(q float64) uint64 { return min(uint64(s.hist.Quantile(q)), s.max) }

// commandSpans are the stages of one command.
func commandSpans(r *nvmf.TraceRecord) (spans []api.TraceSpan) {
	for i := range nvmf.TraceStages {
		if r.Passed&(1<<i) == 0 {
			continue
		}
		span := api.TraceSpan{Stage: i.String(), NS: uint64(r.Spent[i])}
		if i == nvmf.TraceDevice {
			span.Layers = layerSpans(&r.Below)
		}
		spans = append(spans, span)
	}
	return spans
}
