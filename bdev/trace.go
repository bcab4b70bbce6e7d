package bdev

import "github.com/pollux-storage/pollux/reactor"

// This file is what a request carries that somebody looks at closely: how long it was in each layer of its stack, and at what times it
// passed the stages inside of the lowest one, if that tells. All other requests carry nil, and pay a branch when they come to a layer and
// one when they leave it.
//
// A request's owner sets Request.Trace before Submit, zeroed, and may submit several times: the times add up. The sum over all layers of what each
// took without those below is the time between Came and Left, exactly, and so is the sum of Inside that of the lowest layer.

// TraceStages is the most stages that a device tells of.
const TraceStages = 6

// Trace is what is seen of one request. It belongs to whoever has the request.
type Trace struct {
	Came, Left reactor.Ticks // the last time, at the uppermost layer
	Depth      int           // layers that it came to
	Layers     [layersMax]TraceLayer

	// Stages are the names of what the lowest layer tells of, nil if nothing. Inside begins with the time before the first
	// of them and ends with that after the last.
	Stages *[TraceStages]string
	Inside [TraceStages + 2]reactor.Ticks
	told   [TraceStages + 1]reactor.Ticks // when the first stage began, and when each ended; 0: it was not passed
	fresh  bool                           // told is of the present time
}

// TraceLayer is a request in one layer.
type TraceLayer struct {
	Device string
	Spent  reactor.Ticks // in it and below
	came   reactor.Ticks
}

// Own is the time that the request spent in layer i, without those below.
func (t *Trace) Own(i int) reactor.Ticks {
	if i+1 < t.Depth {
		return t.Layers[i].Spent - t.Layers[i+1].Spent
	}
	return t.Layers[i].Spent
}

// enter notes that the request has come to a layer.
func (t *Trace) enter(level int, c *Channel) {
	l := &t.Layers[level]
	l.Device, l.came = c.d.name, reactor.Clock()
	t.Depth = max(t.Depth, level+1)
	if level == 0 {
		t.Came = l.came
	}
}

// leave notes that it leaves it.
func (t *Trace) leave(level int) {
	l := &t.Layers[level]
	now := reactor.Clock()
	l.Spent += now - l.came
	if t.fresh && level == t.Depth-1 {
		t.fresh = false
		t.divide(l.came, now)
	}
	if level == 0 {
		t.Left = now
	}
}

// Tell says when the first of the stages of a device began and when each of them ended, with 0 for one that was not passed. It is called
// by the device that has the request, on any reactor; times are those of reactors' ticks, which may be a little behind.
func (t *Trace) Tell(stages *[TraceStages]string, at *[TraceStages + 1]reactor.Ticks) {
	t.Stages, t.told, t.fresh = stages, *at, true
}

// divide adds up the parts of the time from came to left, such that nothing is missing and nothing counted twice, whatever was told.
func (t *Trace) divide(came, left reactor.Ticks) {
	from := came
	for i, at := range t.told {
		at = max(from, min(at, left))
		t.Inside[i] += at - from
		from = at
	}
	t.Inside[len(t.told)] += left - from
}
