package ctl

import (
	"testing"
	"time"

	"github.com/pollux-storage/pollux/bdev"
)

// TestHostsHearOfLittleSpace: the engine looks, and who has opened a thin volume hears it.
func TestHostsHearOfLittleSpace(t *testing.T) {
	e := startServer(t, testServer, newDisk(t, 256<<20))
	e.steps(t, []step{
		{"pool_create", `{"name": "p", "device": "disk"}`, `.*`},
		{"volume_create", `{"pool": "p", "name": "thin", "bytes": 16777216, "log_bytes": 33554432}`, `.*`},
	})
	heard := make(chan struct{}, 8)
	h, err := e.Bdevs.Open("p/thin", bdev.OpenOptions{Who: "test", Event: func(v bdev.Event) {
		if v.Kind == bdev.LowSpace {
			heard <- struct{}{}
		}
	}})
	if err != nil {
		t.Fatal(err)
	}
	defer h.Close()
	e.steps(t, []step{{"volume_create", `{"pool": "p", "name": "thick", "bytes": 155189248, "log_bytes": 33554432, "thick": true}`, `.*`}})
	select {
	case <-heard:
	case <-time.After(time.Minute):
		t.Fatal("a pool is high, and nobody was told")
	}
}
