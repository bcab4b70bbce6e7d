// Package patient is how tests wait for what happens elsewhere: as long as only a defect makes it last, and with the reason in what they say then.
package patient

import (
	"testing"
	"time"
)

// Limit bounds waits that only a defect makes long.
const Limit = 20 * time.Second

// Await waits until a fact has come to pass, and fails the test with why if it does not.
func Await(t testing.TB, why string, fact func() bool) {
	t.Helper()
	for end := time.Now().Add(Limit); ; time.Sleep(time.Millisecond) {
		var yes bool
		if Within(t, why, func() { yes = fact() }); yes {
			return
		}
		if time.Now().After(end) {
			t.Fatalf("waited in vain for %v: %s", Limit, why)
		}
	}
}

// Within runs f, which may ask reactors, and fails the test with why if it does not return: a reactor that goes round in a defect
// answers nobody.
func Within(t testing.TB, why string, f func()) {
	t.Helper()
	returned, ended := false, make(chan struct{})
	go func() {
		defer close(ended)
		f()
		returned = true
	}()
	select {
	case <-ended:
		if !returned { // it ended the test
			t.FailNow()
		}
	case <-time.After(Limit + Limit/4): // f may have patience of its own
		t.Fatalf("waited in vain for %v: %s: a reactor does not answer", Limit, why)
	}
}

// Take waits for what comes on a channel, and fails the test with why if nothing does.
func Take[V any](t testing.TB, why string, c <-chan V) (v V) {
	t.Helper()
	select {
	case v = <-c:
	case <-time.After(Limit):
		t.Fatalf("waited in vain for %v: %s", Limit, why)
	}
	return v
}
