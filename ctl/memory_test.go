package ctl

import (
	"bytes"
	"log/slog"
	"strings"
	"testing"

	"github.com/pollux-storage/pollux/ctl/api"
	"github.com/pollux-storage/pollux/volume"
)

func TestTheLogTellsOfMemory(t *testing.T) {
	good := api.EngineMemory{LimitBytes: 64 << 20, ReadyBytes: 8 << 20, HugeBytes: 8 << 20, Registered: true}
	plain, apart := good, good
	plain.HugeBytes, plain.WhyNotHuge = 0, "no space left"
	apart.Registered, apart.WhyUnregistered = false, "cannot allocate memory"
	for _, c := range []struct {
		name   string
		memory []api.EngineMemory
		want   []string
		not    string
	}{
		{"all is well", []api.EngineMemory{good, good}, []string{"level=INFO", "reactors=2", "limit_mib=128", "ready_mib=16", "huge_mib=16", "registered=true"}, "why"},
		{"one has no hugepages", []api.EngineMemory{good, plain}, []string{"level=INFO", "huge_mib=8", `why_not_huge="no space left"`, "nr_hugepages"}, "MEMLOCK"},
		{"one is not registered", []api.EngineMemory{apart, good}, []string{"level=WARN", "registered=false", `why_not_registered="cannot allocate memory"`, "ulimit -l"}, "nr_hugepages"},
	} {
		var out bytes.Buffer
		logMemory(c.memory, slog.New(slog.NewTextHandler(&out, nil)))
		for _, want := range c.want {
			if !strings.Contains(out.String(), want) {
				t.Errorf("%s: no %s in %s", c.name, want, out.String())
			}
		}
		if strings.Contains(out.String(), c.not) || strings.Count(out.String(), "\n") != 1 {
			t.Errorf("%s: %s", c.name, out.String())
		}
	}
}

func TestEngineInfoTellsOfMemory(t *testing.T) {
	e := startEngine(t)
	i := e.info()
	if len(i.Memory) != 1 {
		t.Fatalf("%+v", i.Memory)
	}
	m := i.Memory[0]
	if m.Reactor != "reactor_0" || m.LimitBytes != 16<<20 || m.ReadyBytes < 8<<20 || m.ReadyBytes > m.LimitBytes {
		t.Errorf("%+v", m)
	}
	if (m.HugeBytes == m.ReadyBytes) != (m.WhyNotHuge == "") || m.Registered != (m.WhyUnregistered == "") {
		t.Errorf("what is there and why it is not do not agree: %+v", m)
	}
	if len(i.MapCache) != 0 {
		t.Errorf("pages of maps without a volume: %+v", i.MapCache)
	}
	first := goHeap()
	if second := goHeap(); first.Bytes == 0 || second.AllocatedObjects < first.AllocatedObjects {
		t.Errorf("%+v, then %+v", first, second)
	}
}

func TestEngineInfoTellsOfTheMapCache(t *testing.T) {
	e := startServer(t, testServer, newDisk(t, 1<<30))
	if _, err := api.PoolCreate.Call(t.Context(), e.Methods, api.PoolCreateParams{Name: "p", Device: "disk"}); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"a", "b"} {
		if _, err := api.VolumeCreate.Call(t.Context(), e.Methods, api.VolumeCreateParams{Pool: "p", Name: name, Bytes: 1 << 30}); err != nil {
			t.Fatal(err)
		}
	}
	i := e.info().MapCache
	if len(i) != 1 || i[0].Reactor != "reactor_0" || i[0].LimitBytes != volume.DefaultCacheBytes || i[0].GuaranteedBytes == 0 || i[0].LentBytes < i[0].GuaranteedBytes {
		t.Errorf("%+v", i)
	}
}
