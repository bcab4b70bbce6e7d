package ctl

import (
	"fmt"
	"strings"
	"testing"

	"github.com/pollux-storage/pollux/ctl/api"
	"github.com/pollux-storage/pollux/reactor"
)

// TestPoolsWithALogDevice: made, refused without it, found whichever device comes first, opened with the loss that was accepted.
func TestPoolsWithALogDevice(t *testing.T) {
	disk, logs := newDisk(t, 256<<20), newDisk(t, 256<<20)
	uring := func(name, file string) step {
		return step{"bdev_uring_create", fmt.Sprintf(`{"name": %q, "filename": %q}`, name, file), fmt.Sprintf("%q", name)}
	}
	wait := step{"bdev_wait_for_examine", `{}`, `true`}
	e := startServer(t, testServer, disk)
	e.steps(t, []step{
		uring("logs", logs),
		{"pool_create", `{"name": "p", "device": "disk", "log_device": "disk"}`, `-22`},
		{"pool_create", `{"name": "p", "device": "disk", "log_device": "none"}`, `-19`},
		{"pool_create", `{"name": "p", "device": "disk", "log_device": "logs"}`, `.*"log_device":"logs","log_device_bytes":268435456,.*`},
		{"pool_create", `{"name": "p", "device": "disk", "log_device": "logs"}`, `.*`},
		{"pool_create", `{"name": "p", "device": "disk"}`, `-17`},
		{"pool_create", `{"name": "p", "device": "disk", "log_device": "logs", "cluster_bytes": 131072}`, `-17`},
		{"volume_create", `{"pool": "p", "name": "v", "bytes": 16777216}`, `.*`},
		{"pool_list", `{}`, `.*"log_device_free_bytes":20[0-9]{7},.*`},
		{"bdev_uring_delete", `{"name": "logs"}`, `true`}, // and with it goes the pool
		{"pool_list", `{}`, `\[\]`},
	})
	e.stop()

	for _, first := range []string{"disk", "logs"} {
		e := startServer(t, testServer, "")
		files := map[string]string{"disk": disk, "logs": logs}
		second := "logs"
		if first == second {
			second = "disk"
		}
		e.steps(t, []step{uring(first, files[first]), wait, {"pool_list", `{}`, `\[\]`}})
		if first == "disk" {
			e.steps(t, []step{
				{"engine_health", `{}`, `.*"state":"degraded".*the log device is missing.*`},
				{"pool_import", `{"device": "disk"}`, `job failed .*bring it back.*`},
				{"bdev_examine", `{"name": "disk"}`, `-19 ErrLogMissing`},
			})
		}
		e.steps(t, []step{
			uring(second, files[second]), wait,
			{"pool_list", `{}`, `\[\{"name":"p".*"log_device":"logs".*`},
			{"volume_list", `{}`, `\[\{"name":"v".*"state":"healthy".*`},
			{"engine_health", `{}`, `\{"state":"ok".*`},
		})
		if saved := savedConfig(t, e); strings.Count(saved, "bdev_wait_for_examine") == 0 {
			t.Errorf("nobody waits for the pool:\n%s", saved)
		}
		e.stop()
	}

	// Examined when asked: the saved calls make both devices before they ask.
	manual, err := NewEngine(EngineConfig{Reactors: reactor.Config{Cores: []int{-1}, MemoryBytes: 64 << 20}, Server: testServer}, NewLog(t.Output(), 0))
	if err != nil {
		t.Fatal(err)
	}
	one := testEngine{manual, nil}
	one.steps(t, []step{{"bdev_set_options", `{"bdev_auto_examine": false}`, `true`}})
	if err := one.Frame.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	one.steps(t, []step{uring("disk", disk), uring("logs", logs), {"bdev_examine", `{"name": "logs"}`, `true`}, {"pool_list", `{}`, `\[\{"name":"p".*`}})
	calls, err := api.FrameworkGetConfig.Call(t.Context(), one.Methods, api.FrameworkGetConfigParams{Name: "bdev"})
	if err != nil {
		t.Fatal(err)
	}
	order := ""
	for _, c := range *calls {
		if strings.HasPrefix(c.Method, "bdev_uring_create") || c.Method == "bdev_examine" {
			order += c.Method + " "
		}
	}
	if order != "bdev_uring_create bdev_uring_create bdev_examine " {
		t.Errorf("saved as %s", order)
	}
	if err := one.Close(t.Context()); err != nil {
		t.Error(err)
	}

	e = startServer(t, testServer, disk)
	e.steps(t, []step{
		{"pool_import", `{"device": "disk", "accept_log_loss": true}`, `job done`},
		{"pool_list", `{}`, `\[\{"name":"p"[^{]*\}\]`},
		{"volume_list", `{}`, `\[\{"name":"v".*`},
		{"bdev_uring_delete", `{"name": "disk"}`, `true`},
		uring("disk", disk), wait,
		{"pool_list", `{}`, `\[\{"name":"p".*`}, // it needs none any more
		uring("logs", logs), wait,
		{"pool_create", `{"name": "q", "device": "logs"}`, `-17`},
		{"bdev_malloc_create", `{"name": "m", "num_blocks": 32768, "block_size": 4096}`, `"m"`},
		{"pool_create", `{"name": "q", "device": "m", "log_device": "logs"}`, `-17`},
		{"pool_create", `{"name": "q", "device": "m", "log_device": "logs", "force": true}`, `.*"log_device":"logs".*`},
		{"pool_delete", `{"name": "q"}`, `job done`},
		{"pool_create", `{"name": "q", "device": "m", "log_device": "logs"}`, `.*"log_device":"logs".*`},
	})
}
