package ctl

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/uuid"

	"github.com/pollux-storage/pollux/reactor"
)

// TestALossIsToldAndReleased: an engine that finds a pool as the power left it, on a machine that started anew.
func TestALossIsToldAndReleased(t *testing.T) {
	file := newDisk(t, 256<<20)
	e := startServer(t, testServer, file)
	e.steps(t, []step{
		{"pool_create", `{"name": "p", "device": "disk"}`, `.*`},
		{"volume_create", `{"pool": "p", "name": "f", "bytes": 16777216, "log_bytes": 33554432, "write_cache": "volatile", "on_cache_loss": "fence"}`, `.*"on_cache_loss":"fence".*`},
		{"volume_create", `{"pool": "p", "name": "f", "bytes": 16777216, "write_cache": "volatile"}`, `-17`},
		{"volume_create", `{"pool": "p", "name": "r", "bytes": 16777216, "log_bytes": 33554432, "write_cache": "volatile"}`, `.*"on_cache_loss":"report".*`},
		{"volume_create", `{"pool": "p", "name": "x", "bytes": 16777216, "on_cache_loss": "forget"}`, `-32602.*`},
		{"volume_set_cache_loss", `{"name": "p/r", "on_cache_loss": "fence"}`, `true`},
		{"volume_set_cache_loss", `{"name": "p/r", "on_cache_loss": "report"}`, `true`},
		{"volume_status", `{"name": "p/f"}`, `.*"state":"healthy".*"reasons":\[\].*\}`},
	})
	image, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	e.stop()
	other := filepath.Join(t.TempDir(), "disk")
	if err := os.WriteFile(other, image, 0o600); err != nil {
		t.Fatal(err)
	}
	again, err := NewEngine(EngineConfig{Reactors: reactor.Config{Cores: []int{-1}, MemoryBytes: 64 << 20}, Server: testServer, Boot: uuid.New()}, NewLog(t.Output(), 0))
	if err != nil {
		t.Fatal(err)
	}
	two := testEngine{again, nil}
	if err := two.Frame.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	two.steps(t, []step{
		{"bdev_uring_create", fmt.Sprintf(`{"name": "disk", "filename": %q}`, other), `"disk"`},
		{"bdev_wait_for_examine", `{}`, `true`},
		{"volume_status", `{"name": "p/f"}`, `.*"state":"unsafe".*"reasons":\[".*release it when.*\],"loss":\{"of":"cache","known_lsn":0,"found_lsn":0,"fenced":true\}.*\}`},
		{"volume_status", `{"name": "p/r"}`, `.*"state":"degraded",.*"fenced":false\}.*\}`},
		{"volume_release", `{"name": "p/f"}`, `true`},
		{"volume_release", `{"name": "p/none"}`, `-19`},
		{"volume_status", `{"name": "p/f"}`, `.*"state":"healthy".*"reasons":\[\].*\}`},
	})
	if err := two.Close(t.Context()); err != nil {
		t.Error(err)
	}
}

func TestBootID(t *testing.T) {
	kernel := bootID(bootFile)
	if kernel == uuid.Nil || kernel != bootID(bootFile) {
		t.Errorf("%v, then %v", kernel, bootID(bootFile))
	}
	for _, text := range []string{"", "x", uuid.Nil.String()} {
		file := filepath.Join(t.TempDir(), "boot_id")
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if a, b := bootID(file), bootID(file); a == uuid.Nil || a == b {
			t.Errorf("%q: %v and %v, though nobody knows whether the machine started anew", text, a, b)
		}
	}
}
