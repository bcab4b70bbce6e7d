package bdev

import (
	"math/rand/v2"
	"testing"

	"github.com/pollux-storage/pollux/reactor"
)

// TestTraceDividesWhatItIsTold: whatever a device tells, its stages add up to the time that the request was there, and none is negative.
func TestTraceDividesWhatItIsTold(t *testing.T) {
	names := &[TraceStages]string{"a", "b", "c"}
	for _, c := range []struct {
		why        string
		told       [TraceStages + 1]reactor.Ticks
		came, left reactor.Ticks
		want       [TraceStages + 2]reactor.Ticks
	}{
		{"all in order", [TraceStages + 1]reactor.Ticks{110, 120, 140, 170}, 100, 200, [TraceStages + 2]reactor.Ticks{10, 10, 20, 30, 0, 0, 0, 30}},
		{"one was not passed", [TraceStages + 1]reactor.Ticks{110, 120, 0, 170}, 100, 200, [TraceStages + 2]reactor.Ticks{10, 10, 0, 50, 0, 0, 0, 30}},
		{"the tick began before the request came", [TraceStages + 1]reactor.Ticks{90, 95, 120, 170}, 100, 200, [TraceStages + 2]reactor.Ticks{0, 0, 20, 50, 0, 0, 0, 30}},
		{"a stage ends after the request", [TraceStages + 1]reactor.Ticks{110, 120, 140, 250}, 100, 200, [TraceStages + 2]reactor.Ticks{10, 10, 20, 60, 0, 0, 0, 0}},
		{"out of order", [TraceStages + 1]reactor.Ticks{150, 120, 140, 170}, 100, 200, [TraceStages + 2]reactor.Ticks{50, 0, 0, 20, 0, 0, 0, 30}},
		{"nothing", [TraceStages + 1]reactor.Ticks{}, 100, 200, [TraceStages + 2]reactor.Ticks{7: 100}},
	} {
		var tr Trace
		tr.Tell(names, &c.told)
		tr.divide(c.came, c.left)
		if tr.Inside != c.want {
			t.Errorf("%s: %v, want %v", c.why, tr.Inside, c.want)
		}
	}
	r := rand.New(rand.NewPCG(1, 2))
	var tr Trace
	var all reactor.Ticks
	for range 1000 { // several requests of one owner
		came := reactor.Ticks(r.Int64N(1000))
		left := came + reactor.Ticks(r.Int64N(1000))
		var told [TraceStages + 1]reactor.Ticks
		for i := range told {
			told[i] = reactor.Ticks(r.Int64N(3000))
		}
		tr.Tell(names, &told)
		tr.divide(came, left)
		all += left - came
	}
	var sum reactor.Ticks
	for _, d := range tr.Inside {
		sum += d
	}
	if sum != all {
		t.Errorf("the stages took %d, the whole %d", sum, all)
	}
}
