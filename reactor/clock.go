package reactor

import "time"

// Ticks is a time or a span in nanoseconds. Times count from the start of the process, on a clock that never steps.
type Ticks int64

// Spans.
const (
	Microsecond Ticks = 1e3
	Millisecond Ticks = 1e6
	Second      Ticks = 1e9
)

// TickRate is the number of ticks in a second.
const TickRate = uint64(Second)

var began = time.Now()

// now reads the clock. A reactor reads it once a tick and passes it down.
func now() Ticks { return Ticks(time.Since(began)) }

// Clock reads the same clock as the reactors do, for goroutines that are not one.
func Clock() Ticks { return now() }
