package ctl

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/pollux-storage/pollux/bdev"
	"github.com/pollux-storage/pollux/ctl/api"
	"github.com/pollux-storage/pollux/volume"
)

// TestTheEngineEndsThoughADeviceDoesNotAnswer (V-50): what stands on it is left and named, and everything else ends in order.
func TestTheEngineEndsThoughADeviceDoesNotAnswer(t *testing.T) {
	e := startServer(t, testServer, newDisk(t, 64<<20))
	e.pools.limit = 200 * time.Millisecond
	e.Bdevs.SetGrace(20 * time.Millisecond)
	c := e.Methods
	must(t, c, api.BdevErrorCreate, api.BdevErrorCreateParams{BaseName: "disk"})
	must(t, c, api.BdevUringCreate, api.BdevUringCreateParams{Name: "whole", Filename: newDisk(t, 64<<20)})
	for pool, device := range map[string]string{"stuck": "EE_disk", "good": "whole"} {
		must(t, c, api.PoolCreate, api.PoolCreateParams{Name: pool, Device: device})
		must(t, c, api.VolumeCreate, api.VolumeCreateParams{Pool: pool, Name: "v", Bytes: 1 << 20, LogBytes: 32 << 20, Use: "general", BlockSize: 4096, WriteCache: "none", CacheLoss: "report"})
	}
	num := uint32(1 << 30)
	for _, io := range []string{"read", "write", "flush"} {
		must(t, c, api.BdevErrorInjectError, api.BdevErrorInjectErrorParams{Name: "EE_disk", IOType: io, ErrorType: "pending", Num: &num})
	}

	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	err := e.Close(ctx)
	if !errors.Is(err, volume.ErrStuck) || !strings.Contains(err.Error(), "stuck") || !strings.Contains(err.Error(), "EE_disk") {
		t.Fatalf("ending the engine: %v", err)
	}
	var left []string
	for _, d := range e.Bdevs.Devices() {
		left = append(left, d.Name())
		if d.Name() == "whole" {
			t.Error("a device that answers is left")
		}
	}
	if len(left) != 3 {
		t.Errorf("left are %v", left)
	}
	d, err := e.Bdevs.Lookup("EE_disk")
	if err != nil {
		t.Fatal(err)
	}
	d.Driver().(*bdev.Fault).Clear(^bdev.KindSet(0))
	if err := d.Driver().(*bdev.Fault).Resume(); err != nil {
		t.Fatal(err)
	}
	e.stop() // and now it ends
}
