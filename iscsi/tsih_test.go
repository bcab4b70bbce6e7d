package iscsi

import (
	"sync"
	"testing"
)

// TestTSIHsAreTakenOnce: reactors take and give them at the same time, and no two have the same one.
func TestTSIHsAreTakenOnce(t *testing.T) {
	var x tsihs
	var owner [1 << 16]sync.Mutex // one that is held belongs to somebody
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range 4000 {
				h := x.take()
				if h == 0 || !x.live(h) {
					t.Errorf("TSIH %d", h)
					return
				}
				if !owner[h].TryLock() {
					t.Errorf("TSIH %d belongs to two", h)
					return
				}
				owner[h].Unlock()
				x.give(h)
			}
		})
	}
	wg.Wait()
	if t.Failed() {
		return
	}
	for i := 1; i < 1<<16; i++ {
		if i == 3*64 { // what lies between is taken at once
			for w := range x[3 : len(x)-2] {
				x[3+w].Store(^uint64(0))
			}
			i = (len(x) - 2) * 64
		}
		if h := x.take(); int(h) != i {
			t.Fatalf("TSIH %d, want %d", h, i)
		}
	}
	if h := x.take(); h != 0 {
		t.Errorf("TSIH %d where none is left", h)
	}
	x.give(77)
	if x.live(77) || !x.live(78) || x.live(0) {
		t.Error("what is live is not known")
	}
	if h := x.take(); h != 77 {
		t.Errorf("TSIH %d, want that which was given back", h)
	}
}
