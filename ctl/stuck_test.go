package ctl

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/pollux-storage/pollux/bdev"
	"github.com/pollux-storage/pollux/ctl/api"
	"github.com/pollux-storage/pollux/nvmf/nvmftest"
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

// stuckDisk is an engine with a pool on a disk that keeps what it is asked, and nobody looks at new devices.
func stuckDisk(t *testing.T) testEngine {
	e := startServer(t, testServer, newDisk(t, 64<<20))
	e.pools.limit, e.pools.openly = 200*time.Millisecond, 200*time.Millisecond
	e.Bdevs.SetGrace(20 * time.Millisecond)
	e.steps(t, []step{
		{"bdev_error_create", `{"base_name": "disk"}`, `.*`},
		{"pool_create", `{"name": "p", "device": "EE_disk"}`, `.*`},
		{"pool_export", `{"name": "p"}`, `job done`},
		{"bdev_error_inject_error", `{"name": "EE_disk", "io_type": "read", "error_type": "pending", "num": 1000}`, `true`},
	})
	return e
}

func (e testEngine) answers(t *testing.T) {
	t.Helper()
	d, err := e.Bdevs.Lookup("EE_disk")
	if err != nil {
		t.Fatal(err)
	}
	d.Driver().(*bdev.Fault).Clear(^bdev.KindSet(0))
	if err := d.Driver().(*bdev.Fault).Resume(); err != nil {
		t.Fatal(err)
	}
	nvmftest.Await(t, "the device is let go", func() bool { return len(d.Users()) == 0 })
}

// TestAPoolOnADeviceThatDoesNotAnswerIsNotOpened, and the engine goes on.
func TestAPoolOnADeviceThatDoesNotAnswerIsNotOpened(t *testing.T) {
	e := stuckDisk(t)
	e.steps(t, []step{
		{"bdev_examine", `{"name": "EE_disk"}`, `-110 ErrStuck`},
		{"pool_create", `{"name": "q", "device": "EE_disk"}`, `-110 ErrStuck`},
		{"pool_import", `{"device": "EE_disk"}`, `job failed .*does not answer.*EE_disk.*`},
		{"pool_list", `{}`, `\[\]`},
		{"bdev_malloc_create", `{"name": "m", "num_blocks": 32768, "block_size": 4096}`, `.*`},
		{"pool_create", `{"name": "other", "device": "m"}`, `.*`},
	})
	e.answers(t)
	e.steps(t, []step{{"pool_import", `{"device": "EE_disk"}`, `job done`}})
}

// TestTheEngineEndsWhileItsConfigurationWaitsForADevice that does not answer.
func TestTheEngineEndsWhileItsConfigurationWaitsForADevice(t *testing.T) {
	e := stuckDisk(t)
	e.pools.openly = time.Hour
	c, err := ParseConfig("config.yaml", []byte("subsystems:\n  - subsystem: bdev\n    config:\n      - {method: bdev_examine, params: {name: EE_disk}}\n"))
	if err != nil {
		t.Fatal(err)
	}
	ctx, done, err := e.load(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	over := make(chan error, 1)
	go func() {
		defer done()
		_, err := c.Round(ctx, e.Methods, methodNames(e.Methods.Specs(true)))
		over <- err
	}()
	d, err := e.Bdevs.Lookup("EE_disk")
	if err != nil {
		t.Fatal(err)
	}
	nvmftest.Await(t, "the device is looked at", func() bool { return d.InFlight() > 0 })
	e.stop()
	select {
	case err := <-over:
		if err == nil {
			t.Error("the configuration is loaded")
		}
	default:
		t.Error("the configuration is still being loaded")
	}
	if _, _, err := e.load(t.Context()); err == nil {
		t.Error("another is loaded after that")
	}
}
