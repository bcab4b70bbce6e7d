package ctl

import (
	"bytes"
	"encoding/json"
	"log/slog"
	"os"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/pollux-storage/pollux/bdev"
	"github.com/pollux-storage/pollux/ctl/api"
)

// volumeWrite writes to a device and waits.
type volumeWrite struct {
	bdev.Request
	done chan struct{}
}

func (w *volumeWrite) RequestDone(*bdev.Request) { close(w.done) }

// write puts n bytes of one value to the beginning of a volume.
func (e testEngine) write(t *testing.T, name string, value byte, n int) {
	t.Helper()
	h, err := e.Bdevs.Open(name, bdev.OpenOptions{Who: "test"})
	if err != nil {
		t.Fatal(err)
	}
	defer h.Close()
	w := &volumeWrite{done: make(chan struct{})}
	w.Done = w
	var c *bdev.Channel
	var buf []byte
	r := e.Reactors.Reactor(0)
	if err := r.Call(func() {
		if c, err = h.Channel(r); err != nil {
			return
		}
		buf = r.Memory().Get(n)
		for i := range buf {
			buf[i] = value
		}
		w.Kind, w.Blocks = bdev.Write, uint64(n)/4096
		w.SetData(buf)
		c.Submit(&w.Request)
	}); err != nil {
		t.Fatal(err)
	}
	<-w.done
	_ = r.Call(func() {
		r.Memory().Put(buf)
		w.Release()
		c.Close()
	})
	if w.Status != bdev.StatusOK {
		t.Fatal(w.Status)
	}
}

// TestScrubByCalls: a whole pass; a bit that is flipped in the file is found, told by every way, and gone when the block is written again.
func TestScrubByCalls(t *testing.T) {
	file := newDisk(t, 256<<20)
	e := startServer(t, testServer, file)
	e.steps(t, []step{
		{"pool_create", `{"name": "p", "device": "disk"}`, `.*"state":"healthy","score":1.*`},
		{"volume_create", `{"pool": "p", "name": "v", "bytes": 16777216}`, `.*`},
	})
	e.write(t, "p/v", 0x77, 1<<20)
	e.steps(t, []step{
		{"pool_scrub", `{"name": "none"}`, `-19`},
		{"pool_scrub", `{"name": "p"}`, `job done`},
		{"volume_stats", `{"name": "p/v"}`, `.*"home_bytes":\d+.*"admissions":\[\{"door":"open",.*"stages":\[\{"stage":"admit","count":1,.*"scrub":\{"state":"idle","at_bytes":0,"bytes":16777216,"errors":0,"last":"20.*","last_errors":0,"passes":1,"all_errors":0,.*`},
		{"volume_scrub_start", `{"name": "p/v", "limit_bytes_per_second": 1000}`, `true`},
		{"volume_stats", `{"name": "p/v"}`, `.*"scrub":\{"state":"running".*`},
		{"volume_scrub_pause", `{"name": "p/v"}`, `true`},
		{"volume_scrub_stop", `{"name": "p/v"}`, `true`},
		{"volume_scrub_start", `{"name": "disk"}`, `-22`},
		{"volume_scrub_pause", `{"name": "none"}`, `-19`},
		{"volume_scrub_stop", `{"name": "none"}`, `-19`},
		{"volume_scrub_set_options", `{"every_hours": 12}`, `true`},
		{"framework_get_config", `{"name": "bdev"}`, `.*"volume_scrub_set_options".*"every_hours":12.*`},
		{"pool_export", `{"name": "p"}`, `job done`},
	})
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	at := homeOf(data, bytes.Repeat([]byte{0x77}, 64<<10))
	spoil := func() {
		t.Helper()
		f, err := os.OpenFile(file, os.O_RDWR, 0)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		if _, err := f.WriteAt([]byte{0x76}, at); err != nil {
			t.Fatal(err)
		}
	}
	spoil()
	e.steps(t, []step{
		{"pool_import", `{"device": "disk"}`, `job done`},
	})
	for { // what the log has is not at home, and not looked at
		i, err := e.pools.list()[0].Volumes()[0].Stats()
		if err != nil {
			t.Fatal(err)
		}
		if i.Dirty == 0 {
			break
		}
	}
	e.steps(t, []step{
		{"pool_scrub", `{"name": "p"}`, `job failed .*1 blocks are not what was written.*`},
		{"volume_stats", `{"name": "p/v"}`, `.*"first":\{"lba":\d+,"place":\d+,"map":false,"status":"[^"]+"\}.*"last_errors":1,.*`},
		{"volume_status", `{"name": "p/v"}`, `.*"state":"healthy","score":0\.9,"reasons":\["a scrub found 1 blocks.*`},
		{"pool_list", `{}`, `.*"state":"healthy","score":0\.9.*`},
	})
	told := 0
	for told == 0 { // a goroutine of its own writes the log
		var events []api.EngineEvent
		if err := json.Unmarshal([]byte(e.ask(t, "engine_events", `{}`)), &events); err != nil {
			t.Fatal(err)
		}
		for _, ev := range events {
			if strings.Contains(ev.Message, "a block is not what was written") {
				told++
			}
		}
	}
	if told != 1 {
		t.Errorf("the log tells it %d times", told)
	}
	e.write(t, "p/v", 0x78, 1<<20)
	e.steps(t, []step{
		{"pool_scrub", `{"name": "p"}`, `job done`},
		{"volume_status", `{"name": "p/v"}`, `.*"state":"healthy","score":1,"reasons":\[\].*`},
	})
}

// homeOf finds where a run of bytes begins that fills a cluster: in the log, records stand between.
func homeOf(disk, run []byte) int64 {
	for at := 0; at+len(run) <= len(disk); at += len(run) {
		if bytes.Equal(disk[at:at+len(run)], run) {
			return int64(at)
		}
	}
	return -1
}

// TestVolumeMetrics scrapes before and after things happen to a volume.
func TestVolumeMetrics(t *testing.T) {
	e := startServer(t, testServer, newDisk(t, 256<<20))
	e.steps(t, []step{
		{"pool_create", `{"name": "p", "device": "disk"}`, `.*`},
		{"volume_create", `{"pool": "p", "name": "v", "bytes": 16777216}`, `.*`},
	})
	m := e.Metrics()
	s, err := ListenMetrics("127.0.0.1:0", m, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = s.Close() }()
	look := func(what string, patterns ...string) {
		t.Helper()
		resp, body := get(t, s, "/metrics", "")
		if resp.StatusCode != 200 {
			t.Fatalf("%s: %s: %s", what, resp.Status, body)
		}
		for _, p := range patterns {
			if !regexp.MustCompile(`(?m)^` + p + `$`).Match(body) {
				t.Errorf("%s: there is no %s", what, p)
			}
		}
		if t.Failed() {
			t.Logf("%s", bytes.Join(regexp.MustCompile(`(?m)^pollux_(volume|pool).*$`).FindAll(body, -1), []byte("\n")))
			t.FailNow()
		}
	}
	v := func(name, labels string) string { return name + `\{` + labels + `\}` }
	look("at first",
		v("pollux_volume_info", `pool="p",uuid="[0-9a-f-]+",volume="v",write_cache="none"`)+" 1", v("pollux_volume_health", `pool="p",state="healthy",volume="v"`)+" 1",
		v("pollux_volume_health", `pool="p",state="unsafe",volume="v"`)+" 0", v("pollux_volume_health_score", `pool="p",volume="v"`)+" 1",
		v("pollux_volume_role", `pool="p",role="primary",volume="v"`)+" 1", v("pollux_volume_lsn", `mark="durable",pool="p",volume="v"`)+" 0",
		v("pollux_volume_epoch", `pool="p",volume="v"`)+" 1", v("pollux_volume_admissions_total", `door="timeout",pool="p",volume="v"`)+" 0",
		v("pollux_pool_volumes", `pool="p"`)+" 1", v("pollux_pool_health", `pool="p",state="healthy"`)+" 1", v("pollux_pool_size_bytes", `pool="p"`)+` 2.68435456e\+08`,
	)
	e.write(t, "p/v", 1, 4096)
	e.write(t, "p/v", 1, 1<<20)
	both := `pool="p",volume="v"`
	look("after two writes",
		v("pollux_volume_requests_total", `op="write",`+both)+" 2", v("pollux_volume_bytes_total", `op="write",`+both)+` 1.052672e\+06`,
		v("pollux_volume_request_seconds_count", `op="write",`+both)+" 2", v("pollux_volume_stage_seconds_count", `pool="p",stage="total",volume="v"`)+" 2",
		v("pollux_volume_stage_seconds_count", `pool="p",stage="place",volume="v"`)+" 1", v("pollux_volume_stage_seconds_count", `pool="p",stage="flush",volume="v"`)+" 2",
		v("pollux_volume_log_records_total", both)+" 2", v("pollux_volume_log_flushes_total", both)+" [2-9]", v("pollux_volume_lsn", `mark="committed",pool="p",volume="v"`)+" 2",
	)
	e.steps(t, []step{{"pool_scrub", `{"name": "p"}`, `job done`}, {"volume_set_write_cache", `{"name": "p/v", "write_cache": "volatile"}`, `true`}})
	look("scrubbed, and opened anew with another write cache",
		v("pollux_volume_info", `pool="p",uuid="[0-9a-f-]+",volume="v",write_cache="volatile"`)+" 1",
		v("pollux_volume_requests_total", `op="write",`+both)+" 2", v("pollux_volume_stage_seconds_count", `pool="p",stage="total",volume="v"`)+" 2",
		v("pollux_volume_scrub_passes_total", both)+" 1", v("pollux_volume_scrub_errors_total", both)+" 0", v("pollux_volume_scrub_last_timestamp_seconds", both)+` 1\.\d+e\+09`,
		v("pollux_volume_log_records_total", both)+" 2", v("pollux_volume_checkpoints_total", both)+` [1-9]\d*`,
	)
	e.steps(t, []step{{"volume_delete", `{"name": "p/v"}`, `job done`}})
	look("deleted", v("pollux_pool_volumes", `pool="p"`)+" 0")
	if _, body := get(t, s, "/metrics", ""); strings.Contains(string(body), `volume="v"`) {
		t.Error("a volume that is gone has metrics")
	}
}

func TestNextScrub(t *testing.T) {
	now := time.Unix(1_800_000_000, 0)
	ago := func(h int) time.Time { return now.Add(-time.Duration(h) * time.Hour) }
	for _, c := range []struct {
		name string
		list []scrubbed
		want int
	}{
		{"no volume", nil, -1},
		{"all fresh", []scrubbed{{"idle", false, ago(1)}, {"idle", false, ago(23)}}, -1},
		{"one is due", []scrubbed{{"idle", false, ago(1)}, {"idle", false, ago(24)}}, 1},
		{"the oldest", []scrubbed{{"idle", false, ago(30)}, {"idle", false, ago(50)}, {"idle", false, ago(40)}}, 1},
		{"one was cut short", []scrubbed{{"idle", false, ago(90)}, {"idle", true, ago(2)}, {"idle", false, ago(99)}}, 1},
		{"one is under way", []scrubbed{{"idle", false, ago(90)}, {"running", true, ago(2)}}, -1},
		{"one was paused by hand", []scrubbed{{"paused", true, ago(90)}, {"idle", false, ago(25)}}, 1},
		{"one is closed", []scrubbed{{"closed", false, time.Time{}}}, -1},
	} {
		if got := nextScrub(c.list, now, 24*time.Hour); got != c.want {
			t.Errorf("%s: %d, want %d", c.name, got, c.want)
		}
	}
}

// TestTheEngineScrubsByItself: what is due begins at the next look, and nothing where that is switched off.
func TestTheEngineScrubsByItself(t *testing.T) {
	e := startServer(t, testServer, newDisk(t, 256<<20))
	e.steps(t, []step{
		{"pool_create", `{"name": "p", "device": "disk"}`, `.*`},
		{"volume_create", `{"pool": "p", "name": "v", "bytes": 16777216}`, `.*`},
		{"volume_scrub_set_options", `{"every_hours": 0}`, `true`},
	})
	v := e.pools.list()[0].Volumes()[0]
	starts := func(ahead time.Duration) bool {
		e.scrubWhatIsDue(time.Now().Add(ahead))
		i, err := v.Scrub()
		if err != nil {
			t.Fatal(err)
		}
		return i.State == "running" || i.Passes > 0
	}
	if starts(1000 * time.Hour) {
		t.Error("a scrub begins though that is switched off")
	}
	e.steps(t, []step{{"volume_scrub_set_options", `{}`, `true`}})
	if starts(23 * time.Hour) {
		t.Error("a scrub begins that is not due")
	}
	if !starts(25 * time.Hour) {
		t.Error("none begins that is due")
	}
}
