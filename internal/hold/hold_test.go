package hold

import (
	"runtime"
	"testing"
	"time"
)

var began = time.Now()

// spin holds the processor, again and again, until over. It is what a reactor does that waits.
func spin(r *Requests, over func() bool) {
	for !over() {
		Begin()
		for range 1000 {
			if Asked() {
				r.Note()
				break
			}
		}
		End()
		if r.Noted() && r.Answer(time.Since(began)) {
			runtime.Gosched()
		}
	}
}

// The monitor asks who runs for long, and is let pass. That a request is found at all holds this package against the runtime: a Go that
// marks it in another way fails here.
func TestTheMonitorsRequestsAreFound(t *testing.T) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	r := Requests{Patient: true}
	spin(&r, func() bool { return r.Passed >= 5 })
}

// The collector and whoever stops the world get their room.
func TestTheWorldStops(t *testing.T) {
	r := Requests{Patient: true}
	stopped := make(chan struct{})
	go func() {
		for range 20 {
			runtime.GC()
			var m runtime.MemStats
			runtime.ReadMemStats(&m)
		}
		close(stopped)
	}()
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	spin(&r, func() bool {
		select {
		case <-stopped:
			return true
		default:
			return false
		}
	})
}

func TestWhichRequestsAreServed(t *testing.T) {
	for _, c := range []struct {
		why   string
		r     Requests
		after time.Duration // the last request
		serve bool
	}{
		{"one of the monitor's", Requests{Patient: true, last: time.Hour, made: time.Hour}, 10 * time.Millisecond, false},
		{"one that is repeated", Requests{Patient: true, last: time.Hour, made: time.Hour}, repeated - 1, true},
		{"the first for long", Requests{Patient: true, last: time.Hour, made: time.Hour}, patience, true},
		{"the eleventh of the monitor's", Requests{Patient: true, last: time.Hour, made: time.Hour - 90*time.Millisecond}, 10 * time.Millisecond, true},
		{"where there is no processor for others", Requests{last: time.Hour, made: time.Hour}, 10 * time.Millisecond, true},
	} {
		r := c.r
		now := r.last + c.after
		r.Note()
		if got := r.Answer(now); got != c.serve {
			t.Errorf("%s: served %t", c.why, got)
		}
		if r.Noted() || r.Owes() == c.serve || r.last != now || (r.Served == 1) != c.serve || (r.Passed == 1) == c.serve || (r.made == now) != c.serve {
			t.Errorf("%s: afterwards %+v", c.why, r)
		}
	}
}

// What was let pass is served once, when it is settled, and counts as room that was made.
func TestARequestThatWasLetPassIsOwed(t *testing.T) {
	r := Requests{Patient: true, last: time.Hour, made: time.Hour}
	r.Settle(time.Hour) // nothing
	r.Note()
	if r.Answer(time.Hour+10*time.Millisecond) || !r.Owes() || r.Served != 0 {
		t.Errorf("one of the monitor's: %+v", r)
	}
	r.Settle(time.Hour + 20*time.Millisecond)
	r.Settle(time.Hour + 30*time.Millisecond)
	if r.Owes() || r.Served != 1 || r.made != time.Hour+20*time.Millisecond {
		t.Errorf("settled: %+v", r)
	}
}

func BenchmarkHold(b *testing.B) {
	for range b.N {
		Begin()
		_ = Asked()
		End()
	}
}
