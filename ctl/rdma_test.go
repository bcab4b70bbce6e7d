package ctl

import (
	"log/slog"
	"regexp"
	"testing"

	"github.com/google/uuid"

	"github.com/pollux-storage/pollux/rdma"
	"github.com/pollux-storage/pollux/rdma/rdmatest"
)

// A transport over RDMA beside TCP's, its listeners, and what is saved of both: transports before what listens.
func TestRDMATransport(t *testing.T) {
	s := startServer(t, uuid.MustParse(optionUUID), "")
	f := rdmatest.NewFabric()
	s.Target.UseRDMA(func() (rdma.Provider, error) { return f.Provider("card", rdmatest.Options{SRQDepth: 4096}), nil })
	const nqn = "nqn.2026-01.io.pollux:rdma"
	s.steps(t, []step{
		{"nvmf_subsystem_add_listener", `{"nqn": "discovery", "listen_address": {"trtype": "RDMA", "adrfam": "IPv4", "traddr": "127.0.0.1", "trsvcid": "4420"}}`, `-19|-32602`},
		{"nvmf_create_transport", `{"trtype": "RDMA", "max_srq_depth": 64}`, `-32602`},
		{"nvmf_create_transport", `{"trtype": "FC"}`, `-32602`},
		{"nvmf_create_transport", `{"trtype": "rdma", "max_srq_depth": 2048, "ack_timeout": 1000, "num_cqe": 8192, "acceptor_backlog": 10, "no_wr_batching": true, "data_wr_pool_size": 12}`, `true`},
		{"nvmf_create_transport", `{"trtype": "RDMA"}`, `-32602`},
		{"nvmf_create_transport", `{"trtype": "TCP"}`, `true`},
		{"nvmf_get_transports", `{"trtype": "RDMA"}`, `\[{"trtype":"RDMA",.*"in_capsule_data_size":4096,.*"ack_timeout":1000,.*"max_srq_depth":2048.*`},
		{"nvmf_get_transports", `{"trtype": "TCP"}`, `\[{"trtype":"TCP",.*"in_capsule_data_size":8192,.*"c2h_success":true.*`},
		{"nvmf_create_subsystem", `{"nqn": "` + nqn + `", "allow_any_host": true}`, `true`},
		{"nvmf_subsystem_add_listener", `{"nqn": "` + nqn + `", "listen_address": {"trtype": "RDMA", "adrfam": "IPv4", "traddr": "127.0.0.1", "trsvcid": "4420"}}`, `true`},
		{"nvmf_subsystem_add_listener", `{"nqn": "` + nqn + `", "listen_address": {"trtype": "RDMA", "adrfam": "IPv4", "traddr": "127.0.0.1", "trsvcid": "4420"}}`, `-32602`},
		{"nvmf_subsystem_add_listener", `{"nqn": "` + nqn + `", "listen_address": {"trtype": "RDMA", "adrfam": "IPv6", "traddr": "::1", "trsvcid": "4421"}}`, `true`},
		{"nvmf_subsystem_get_listeners", `{"nqn": "` + nqn + `"}`, `\[{"address":{"trtype":"RDMA","adrfam":"IPv4","traddr":"127.0.0.1","trsvcid":"4420"}},{"address":{"trtype":"RDMA","adrfam":"IPv6","traddr":"::1","trsvcid":"4421"}}\]`},
		{"framework_get_config", `{"name": "nvmf"}`, `.*nvmf_create_transport.*"trtype":"TCP".*nvmf_create_transport.*"trtype":"RDMA".*"max_srq_depth":2048.*nvmf_create_subsystem.*nvmf_subsystem_add_listener.*"trtype":"RDMA".*`},
		{"nvmf_get_stats", `{}`, `.*"transports":\[{"trtype":"TCP"},{"trtype":"RDMA","devices":\[{"name":"card.*","polls":[0-9]+,"idle_polls":[0-9]+,"completions":0,"total_send_wrs":0,.*"recv_doorbell_updates":0}\]}\].*`},
		{"nvmf_subsystem_remove_listener", `{"nqn": "` + nqn + `", "listen_address": {"trtype": "RDMA", "adrfam": "IPv4", "traddr": "127.0.0.1", "trsvcid": "4420"}}`, `true`},
	})
	m, err := ListenMetrics("127.0.0.1:0", s.Metrics(), slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	_, text := get(t, m, "/metrics", "")
	if err := m.Close(); err != nil {
		t.Error(err)
	}
	for _, want := range []string{
		`\npollux_rdma_queue_pairs{card="card[^"]*",reactor="0",side="target"} 0\n`, `\npollux_rdma_receives{at="engine",card="card[^"]*",reactor="0",side="target"} 0\n`,
		`\npollux_rdma_work_requests_total{card="card[^"]*",queue="send",reactor="0",side="target"} 0\n`,
	} {
		if !regexp.MustCompile(want).Match(text) {
			t.Errorf("there is no %s in the metrics", want)
		}
	}
	s.stop()
	if a := f.Alive(); a != (rdmatest.Alive{}) {
		t.Errorf("left behind on the fabric: %v", a)
	}
}
