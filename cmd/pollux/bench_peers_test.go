package main

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/pollux-storage/pollux/bench"
	"github.com/pollux-storage/pollux/reactor"
)

func TestPeersFlagsAreTheComparison(t *testing.T) {
	const two = "peers --target pollux=engine:mem --target spdk=tcp://127.0.0.1:4421/nqn.2016-06.io.spdk:cnode1 "
	c, err := parseBench(t, strings.Fields(two+"--pid spdk=77 --pause --rw randread,write --iodepth 1,32 --large-iodepth 1,8 --runtime 500ms --runs 3 --cores 0 --engine-cores 1 "+
		"--engine-idle poll --idle adaptive --target-cpus 1,2 --note N")...)
	if err != nil {
		t.Fatal(err)
	}
	cfg, err := c.Bench.Peers.config()
	if err != nil {
		t.Fatal(err)
	}
	loads, err := bench.PeerLoads([]string{"randread", "write"}, []int{1, 32}, []int{1, 8}, 0.5, 0.3)
	if err != nil {
		t.Fatal(err)
	}
	want := bench.PeersConfig{
		Loads: loads, Runs: 3, Client: []int{0}, ClientIdle: reactor.Adaptive, EngineCores: "1", EngineIdle: reactor.Poll,
		Pause: true, Machine: &bench.MachineTime{Target: []int{1, 2}}, Note: "N", Targets: cfg.Targets,
	}
	if d := cmp.Diff(want, cfg, cmp.Comparer(func(a, b bench.PeerSpec) bool { return a.Name == b.Name })); d != "" {
		t.Error(d)
	}
	if len(cfg.Loads) != 4 || cfg.Targets[0].PID != 0 || !cfg.Targets[0].Engine || cfg.Targets[1].PID != 77 || cfg.Targets[1].Spec.Remote.TrSvcID != "4421" {
		t.Errorf("%d loads, %+v", len(cfg.Loads), cfg.Targets)
	}

	for args, want := range map[string]string{
		two + "--pid other=77":     "pid other=77: no target is called so",
		two + "--rw randtrim":      `rw "randtrim"`,
		two + "--cores x":          "no core",
		two + "--target-cpus x":    "no core",
		"peers --target nobody":    "it has no name",
		"peers --target a=disk:1G": "no kind disk",
	} {
		c, err := parseBench(t, strings.Fields(args)...)
		if err == nil {
			err = c.Bench.Peers.Run()
		}
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want something with %q", args, err, want)
		}
	}
	for _, args := range []string{"peers", two + "--pid spdk", two + "--idle sleep"} {
		if _, err := parseBench(t, strings.Fields(args)...); err == nil {
			t.Errorf("%s was taken", args)
		}
	}
}
