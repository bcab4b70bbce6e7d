package volume

import (
	"github.com/pollux-storage/pollux/bdev"
	"github.com/pollux-storage/pollux/reactor"
)

// This file tells a request that is looked at closely how it fared in the volume: a change passes the stages that stats.go counts, a read
// and a flush one each. What comes before them is the way to the volume's reactor, what comes after them the way back.

var (
	changeTrace = [bdev.TraceStages]string{"admit", "place", "append", "write", "flush"}
	readTrace   = [bdev.TraceStages]string{"read"}
	flushTrace  = [bdev.TraceStages]string{"flush"}
)

// traced takes the end of an op whose request is looked at. One that failed may have passed anything.
func (v *Volume) traced(o *op) {
	if o.status != bdev.StatusOK {
		return
	}
	now, t := v.r.Now(), o.q.Trace
	switch o.q.Kind {
	case bdev.Read, bdev.Extent:
		t.Tell(&readTrace, &[bdev.TraceStages + 1]reactor.Ticks{o.came, now})
	case bdev.Flush:
		t.Tell(&flushTrace, &[bdev.TraceStages + 1]reactor.Ticks{o.came, now})
	default:
		at := [bdev.TraceStages + 1]reactor.Ticks{o.came, o.admitted, o.placed, o.given, o.written}
		if v.cache != CacheVolatile || o.q.FUA {
			at[5] = now
		}
		t.Tell(&changeTrace, &at)
	}
}
