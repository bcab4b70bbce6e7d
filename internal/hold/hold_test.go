package hold

import (
	"runtime"
	"testing"
)

// spin holds the processor, again and again, until over. It is what a reactor does that waits.
func spin(r *Requests, over func() bool) {
	for !over() {
		Begin()
		makeRoom := false
		for range 1000 {
			if Asked() {
				if makeRoom = r.Answer(); makeRoom {
					break
				}
			}
		}
		End()
		if makeRoom {
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

func TestARequestThatIsRepeatedIsServed(t *testing.T) {
	r := Requests{Patient: true}
	if r.Answer() {
		t.Error("the first request was served")
	}
	for !r.Answer() { // a machine can be held up for longer than a millisecond
	}
	if r.Served != 1 || r.Passed == 0 {
		t.Errorf("%+v", r)
	}
	r.last -= repeated
	if r.Answer() {
		t.Error("a request after a while was served at once")
	}
	r.last, r.Patient = r.last-repeated, false
	if !r.Answer() {
		t.Error("a request was let pass where there is no processor for others")
	}
}

func BenchmarkHold(b *testing.B) {
	for range b.N {
		Begin()
		_ = Asked()
		End()
	}
}
