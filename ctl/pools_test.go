package ctl

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/pollux-storage/pollux/ctl/api"
	"github.com/pollux-storage/pollux/reactor"
)

var testServer = uuid.MustParse("7c8f7f0b-58f0-4b07-9c0e-0d1d8f5d9a11")

// startServer is startEngine with the id of a server, in the runtime state and with a file as device "disk".
func startServer(t *testing.T, server uuid.UUID, file string) testEngine {
	t.Helper()
	e, err := NewEngine(EngineConfig{Reactors: reactor.Config{Cores: []int{-1}, MemoryBytes: 64 << 20}, Server: server}, NewLog(t.Output(), 0))
	if err != nil {
		t.Fatal(err)
	}
	stopped := false
	stop := func() {
		if stopped {
			return
		}
		stopped = true
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		if err := e.Close(ctx); err != nil {
			t.Error(err)
		}
	}
	t.Cleanup(stop)
	if err := e.Frame.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	if file != "" {
		if _, err := api.BdevUringCreate.Call(t.Context(), e.Methods, api.BdevUringCreateParams{Name: "disk", Filename: file}); err != nil {
			t.Fatal(err)
		}
		if _, err := api.BdevWaitForExamine.Call(t.Context(), e.Methods, api.None{}); err != nil {
			t.Fatal(err)
		}
	}
	return testEngine{e, stop}
}

func newDisk(t *testing.T, bytes int64) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "disk")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(file, bytes); err != nil {
		t.Fatal(err)
	}
	return file
}

// ask calls a method by name and gives its result as JSON, or the code of its error.
func (e testEngine) ask(t *testing.T, method string, params string) string {
	t.Helper()
	var out json.RawMessage
	if err := e.Methods.Call(t.Context(), method, json.RawMessage(params), &out); err != nil {
		a := api.AsError(err)
		t.Logf("%s: %v", method, a)
		if a.Data != nil {
			return fmt.Sprint(a.Code, " ", a.Data.Reason)
		}
		return fmt.Sprint(a.Code)
	}
	return strings.TrimSpace(string(out))
}

// finish waits for a job and gives what became of it.
func (e testEngine) finish(t *testing.T, answer string) string {
	t.Helper()
	name := regexp.MustCompile(`"job":"(\d+)"`).FindStringSubmatch(answer)
	if name == nil {
		t.Fatalf("%s names no job", answer)
	}
	jobs, err := api.EngineJobs.Call(t.Context(), e.Methods, api.EngineJobsParams{Job: name[1], WaitMS: 60_000})
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(jobs[0].State + " " + jobs[0].Error)
}

// step is a call and a regular expression for its answer.
type step struct{ method, params, want string }

func (e testEngine) steps(t *testing.T, list []step) {
	t.Helper()
	for _, s := range list {
		got := e.ask(t, s.method, s.params)
		if strings.HasPrefix(s.want, "job ") {
			got = "job " + e.finish(t, got)
		}
		if !regexp.MustCompile("^(?s:" + s.want + ")$").MatchString(got) {
			t.Errorf("%s %s: %s, want %s", s.method, s.params, got, s.want)
		}
	}
}

const anyUUID = `"[0-9a-f-]{36}"`

func TestPoolsAndVolumes(t *testing.T) {
	e := startServer(t, testServer, newDisk(t, 256<<20))
	e.steps(t, []step{
		{"pool_create", `{"name": "p", "device": "none"}`, `-19`},
		{"pool_create", `{"name": "p", "device": "disk", "cluster_bytes": 5000}`, `-22`},
		{"pool_create", `{"name": "p", "device": "disk"}`, `\{"name":"p","uuid":` + anyUUID + `,"device":"disk","bytes":268435456.*"fill":"normal","volumes":0.*`},
		{"pool_create", `{"name": "p", "device": "disk"}`, `\{"name":"p".*`},
		{"pool_create", `{"name": "q", "device": "disk", "force": true}`, `-16 ErrPoolInUse`},
		{"pool_list", `{}`, `\[\{"name":"p".*`},
		{"pool_list", `{"name": "q"}`, `-19`},
		{"volume_create", `{"pool": "p", "name": "v", "bytes": 16777216}`, `\{"name":"v","pool":"p","uuid":` + anyUUID + `,"bytes":16777216,"block_size":4096,"allocated_bytes":0,"snapshots":0,"snapshot_bytes":0,"write_cache":"none","read_only":false,.*"state":"healthy".*`},
		{"volume_create", `{"pool": "p", "name": "v", "bytes": 16777216}`, `\{"name":"v".*`},
		{"volume_create", `{"pool": "p", "name": "v", "bytes": 33554432}`, `-17`},
		{"volume_create", `{"pool": "q", "name": "v", "bytes": 33554432}`, `-19`},
		{"volume_create", `{"pool": "p", "name": "w", "bytes": 100}`, `-22`},
		{"volume_create", `{"pool": "p", "name": "w", "bytes": 1048576, "log_bytes": 1099511627776}`, `-28`},
		{"volume_create", `{"pool": "p", "name": "w", "bytes": 1048576, "log_bytes": 16777216}`, `-22 ErrLogTooSmall`},
		{"volume_create", `{"pool": "p", "name": "w", "bytes": 1048576, "log_bytes": 67108864, "use": "database"}`, `-22 ErrLogTooSmall`},
		{"volume_create", `{"pool": "p", "name": "v", "bytes": 16777216, "use": "database"}`, `-17`},
		{"volume_create", `{"pool": "p", "name": "v", "bytes": 16777216, "verify": true}`, `-17`},
		{"volume_create", `{"pool": "p", "name": "v", "bytes": 16777216, "log_bytes": 33554432}`, `-17`},
		{"volume_create", `{"pool": "p", "name": "v", "bytes": 16777216, "log_bytes": 67108864}`, `\{"name":"v".*`},
		{"volume_create", `{"pool": "p", "name": "w", "bytes": 1048576, "log_bytes": 33554432, "use": "archive"}`, `.*"use":"general",.*"warnings":\["use \\"archive\\" is none that is known and counts as general.*`},
		{"volume_delete", `{"name": "p/w"}`, `job done`},
		{"volume_list", `{"pool": "p"}`, `\[\{"name":"v"[^{]*\}\]`},
		{"volume_set_write_cache", `{"name": "p/v", "write_cache": "volatile"}`, `true`},
		{"volume_set_read_only", `{"name": "p/v"}`, `true`},
		{"volume_list", `{"name": "p/v"}`, `.*"write_cache":"volatile","read_only":true.*`},
		{"volume_set_read_only", `{"name": "p/v", "read_only": false}`, `true`},
		{"volume_set_read_only", `{"name": "disk"}`, `-22`},
		{"volume_set_read_only", `{"name": "none"}`, `-19`},
		{"volume_status", `{"name": "p/v"}`, `\{"name":"v","uuid":` + anyUUID + `,"state":"healthy","score":1,"reasons":\[\],"allocated_bytes":0,"snapshots":0,.*`},
		{"volume_stats", `{"name": "p/v"}`, `.*"epoch":1,.*"log_bytes":[1-9].*`},
		{"replica_assign", `{"name": "p/v", "role": "replica"}`, `-22 ErrTransition`},
		{"replica_assign", `{"name": "p/v", "role": "stale", "epoch": 3}`, `true`},
		{"volume_status", `{"name": "p/v"}`, `.*"state":"unsafe".*its role here is stale.*`},
		{"volume_promote", `{"name": "p/v"}`, `-22 ErrTransition`},
		{"replica_assign", `{"name": "p/v", "role": "replica"}`, `true`},
		{"volume_promote", `{"name": "p/v", "epoch": 3}`, `-22 ErrEpochRegression`},
		{"volume_promote", `{"name": "p/v"}`, `true`},
		{"volume_stats", `{"name": "p/v"}`, `.*"epoch":4,.*`},
		{"pool_rename", `{"name": "p", "new_name": "r"}`, `true`},
		{"bdev_get_bdevs", `{"name": "r/v"}`, `.*"aliases":\[` + anyUUID + `,"r/v"\].*"driver_specific":\{"lvol":\{"base_bdev":"disk".*`},
		{"pool_grow", `{"name": "r"}`, `\{"name":"r".*"growable_bytes":0.*`},
		{"volume_delete", `{"name": "r/v"}`, `job done`},
		{"volume_list", `{}`, `\[\]`},
		{"pool_export", `{"name": "r"}`, `job done`},
		{"pool_list", `{}`, `\[\]`},
		{"pool_create", `{"name": "p", "device": "disk"}`, `-17`},
		{"pool_import", `{"device": "disk"}`, `job done`},
		{"pool_list", `{}`, `\[\{"name":"r".*`},
		{"pool_delete", `{"name": "r"}`, `job done`},
		{"pool_import", `{"device": "disk"}`, `job failed .*no pool was made here.*`},
	})
}

func TestLvolsAsSPDKHasThem(t *testing.T) {
	e := startServer(t, testServer, newDisk(t, 256<<20))
	e.steps(t, []step{
		{"bdev_lvol_create_lvstore", `{"bdev_name": "none", "lvs_name": "lvs"}`, `-19`},
		{"bdev_lvol_create_lvstore", `{"bdev_name": "disk", "lvs_name": "lvs", "cluster_sz": 4194304, "clear_method": "none"}`, anyUUID},
		{"bdev_lvol_create_lvstore", `{"bdev_name": "disk", "lvs_name": "lvs"}`, `-17`},
		{"bdev_lvol_get_lvstores", `{}`, `\[\{"uuid":` + anyUUID + `,"name":"lvs","base_bdev":"disk","total_data_clusters":256,"free_clusters":2\d\d,"block_size":(512|4096),"cluster_size":1048576,.*`},
		{"bdev_lvol_get_lvstores", `{"lvs_name": "none"}`, `-19`},
		{"bdev_lvol_create", `{"lvol_name": "l", "size_in_mib": 16}`, `-22`},
		{"bdev_lvol_create", `{"lvol_name": "l", "size_in_mib": 16, "lvs_name": "lvs", "uuid": "` + testServer.String() + `"}`, `-22`},
		{"bdev_lvol_create", `{"lvol_name": "l", "size_in_mib": 16, "lvs_name": "none"}`, `-19`},
		{"bdev_lvol_create", `{"lvol_name": "l", "size_in_mib": 1000, "lvs_name": "lvs"}`, `-28`},
		{"bdev_lvol_create", `{"lvol_name": "l", "size_in_mib": 16, "lvs_name": "lvs"}`, anyUUID},
		{"bdev_lvol_create", `{"lvol_name": "l", "size_in_mib": 16, "lvs_name": "lvs"}`, `-17`},
		{"bdev_lvol_get_lvols", `{}`, `\[\{"alias":"lvs/l","uuid":` + anyUUID + `,"name":"l","is_thin_provisioned":false,"is_snapshot":false,.*"num_allocated_clusters":16,"lvs":\{"name":"lvs","uuid":` + anyUUID + `\}\}\]`},
		{"bdev_get_bdevs", `{"name": "lvs/l"}`, `.*"num_allocated_clusters":16,"snapshot":false,"thin_provision":false.*`},
		{"volume_list", `{"name": "lvs/l"}`, `.*"allocated_bytes":0,.*"thick":true,"reserved_bytes":16777216,.*`},
		{"pool_list", `{"name": "lvs"}`, `.*"reserved_bytes":(1[7-9]|2\d)\d{6},.*`},
		{"volume_create", `{"pool": "lvs", "name": "l", "bytes": 16777216}`, `-17`},
		{"volume_create", `{"pool": "lvs", "name": "l", "bytes": 16777216, "thick": true}`, `.*"thick":true.*`},
		{"volume_create", `{"pool": "lvs", "name": "k", "bytes": 1073741824, "thick": true}`, `-28`},
		{"bdev_lvol_resize", `{"name": "lvs/l", "size_in_mib": 4000}`, `-28`},
		{"bdev_lvol_resize", `{"name": "lvs/l", "size_in_mib": 24}`, `true`},
		{"bdev_lvol_get_lvols", `{}`, `.*"num_allocated_clusters":24,.*`},
		{"bdev_lvol_delete", `{"name": "lvs/l"}`, `true`},
		{"bdev_lvol_create", `{"lvol_name": "l", "size_in_mib": 16, "lvs_name": "lvs", "thin_provision": true}`, anyUUID},
		{"bdev_lvol_resize", `{"name": "lvs/l", "size_in_mib": 4000}`, `true`},
		{"bdev_lvol_resize", `{"name": "lvs/l", "size_in_mib": 3999}`, `-22 ErrShrink`},
		{"bdev_lvol_resize", `{"name": "lvs/nobody", "size_in_mib": 4000}`, `-19`},
		{"volume_resize", `{"name": "lvs/l", "bytes": 4194304512}`, `-22`},
		{"volume_resize", `{"name": "lvs/l", "bytes": 4194304000}`, `true`},
		{"bdev_lvol_rename", `{"old_name": "lvs/l", "new_name": "m"}`, `true`},
		{"bdev_lvol_rename", `{"old_name": "lvs/l", "new_name": "m"}`, `-19`},
		{"bdev_lvol_rename_lvstore", `{"old_name": "lvs", "new_name": "store"}`, `true`},
		{"bdev_lvol_set_read_only", `{"name": "store/m"}`, `true`},
		{"bdev_get_bdevs", `{"name": "store/m"}`, `.*"write":false.*`},
		{"bdev_lvol_grow_lvstore", `{"lvs_name": "store"}`, `true`},
		{"bdev_lvol_delete", `{"name": "store/m"}`, `true`},
		{"bdev_lvol_delete", `{"name": "store/m"}`, `-19`},
		{"bdev_lvol_delete_lvstore", `{"lvs_name": "store"}`, `true`},
		{"bdev_lvol_get_lvstores", `{}`, `\[\]`},
	})
}

// TestPoolsAreFoundAgain: by the next engine with the same id, not by another one, and in no saved configuration but as a wait.
func TestPoolsAreFoundAgain(t *testing.T) {
	file := newDisk(t, 256<<20)
	e := startServer(t, testServer, file)
	e.steps(t, []step{
		{"pool_create", `{"name": "p", "device": "disk"}`, `.*`},
		{"volume_create", `{"pool": "p", "name": "v", "bytes": 16777216, "uuid": "11111111-2222-4333-8444-555555555555"}`, `.*`},
		{"bdev_passthru_create", `{"name": "on", "base_bdev_name": "11111111-2222-4333-8444-555555555555"}`, `"on"`},
		{"bdev_set_qos_limit", `{"name": "11111111-2222-4333-8444-555555555555", "rw_ios_per_sec": 2000}`, `true`},
	})
	saved := savedConfig(t, e)
	if strings.Contains(saved, "pool_create") || strings.Contains(saved, "volume_create") {
		t.Errorf("a pool or volume stands in what is saved:\n%s", saved)
	}
	e.stop()

	again, err := NewEngine(EngineConfig{Reactors: reactor.Config{Cores: []int{-1}, MemoryBytes: 64 << 20}, Server: testServer}, NewLog(t.Output(), 0))
	if err != nil {
		t.Fatal(err)
	}
	two := testEngine{again, nil}
	if err := configureEngine(t, two, "saved.json", saved, false); err != nil {
		t.Error(err)
	}
	two.steps(t, []step{{"bdev_get_bdevs", `{"name": "on"}`, `.*"name":"on".*`}, {"bdev_get_bdevs", `{"name": "p/v"}`, `.*"rw_ios_per_sec":2000.*`}})
	if err := two.Close(t.Context()); err != nil {
		t.Error(err)
	}

	other := startServer(t, uuid.New(), file)
	other.steps(t, []step{
		{"pool_list", `{}`, `\[\]`},
		{"engine_health", `{}`, `.*another server.*`},
		{"bdev_examine", `{"name": "disk"}`, `-13 ErrPoolForeign`},
		{"pool_import", `{"device": "disk"}`, `job failed .*another server.*take it over.*`},
		{"pool_import", `{"device": "disk", "take_over": true}`, `job done`},
		{"volume_list", `{}`, `\[\{"name":"v".*`},
		{"engine_health", `{}`, `\{"state":"ok".*`},
	})
	other.stop()

	none := startServer(t, uuid.Nil, file)
	none.steps(t, []step{{"pool_import", `{"device": "disk"}`, `job failed .*--state.*`}})
}

func TestDevicesAreExaminedWhenAsked(t *testing.T) {
	file := newDisk(t, 256<<20)
	e := startServer(t, testServer, file)
	e.steps(t, []step{{"pool_create", `{"name": "p", "device": "disk"}`, `.*`}})
	e.stop()

	again, err := NewEngine(EngineConfig{Reactors: reactor.Config{Cores: []int{-1}, MemoryBytes: 64 << 20}, Server: testServer}, NewLog(t.Output(), 0))
	if err != nil {
		t.Fatal(err)
	}
	two := testEngine{again, nil}
	two.steps(t, []step{{"bdev_set_options", `{"bdev_auto_examine": false}`, `true`}})
	if err := two.Frame.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	two.steps(t, []step{
		{"bdev_uring_create", fmt.Sprintf(`{"name": "disk", "filename": %q}`, file), `"disk"`},
		{"bdev_wait_for_examine", `{}`, `true`},
		{"pool_list", `{}`, `\[\]`},
		{"bdev_examine", `{"name": "disk"}`, `true`},
		{"bdev_examine", `{"name": "disk"}`, `true`},
		{"pool_list", `{}`, `\[\{"name":"p".*`},
		{"framework_get_config", `{"name": "bdev"}`, `.*"bdev_examine".*`},
		{"bdev_uring_delete", `{"name": "disk"}`, `true`}, // and with it goes what is on it
		{"pool_list", `{}`, `\[\]`},
	})
	if err := two.Close(t.Context()); err != nil {
		t.Error(err)
	}
}

func TestServerID(t *testing.T) {
	dir := t.TempDir()
	machine := filepath.Join(dir, "machine-id")
	for _, bad := range []string{"", "uninitialized\n", strings.Repeat("0", 32)} {
		if err := os.WriteFile(machine, []byte(bad), 0o600); err != nil {
			t.Fatal(err)
		}
		if id, err := serverFromMachine(machine); err == nil {
			t.Errorf("a machine id %q gives %v", bad, id)
		}
	}
	const raw = "4b1f2a3c4d5e6f708192a3b4c5d6e7f8"
	if err := os.WriteFile(machine, []byte(raw+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	a, err := serverFromMachine(machine)
	b, err2 := serverFromMachine(machine)
	if err != nil || err2 != nil || a != b || a.Version() != 4 || a.Variant() != uuid.RFC4122 || a == uuid.MustParse(raw) {
		t.Error(a, b, err, err2)
	}
	state := filepath.Join(dir, "state")
	c, err := ServerID(state)
	d, err2 := ServerID(state)
	if err != nil || err2 != nil || c != d || c == a {
		t.Error(c, d, err, err2)
	}
	if err := os.WriteFile(filepath.Join(state, serverFile), []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	if id, err := ServerID(state); err == nil {
		t.Errorf("a damaged file gives %v", id)
	}
}
