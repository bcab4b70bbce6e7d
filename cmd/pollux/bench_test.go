package main

import (
	"bytes"
	"strings"
	"testing"
	"time"

	"github.com/alecthomas/kong"
	"github.com/google/go-cmp/cmp"

	"github.com/pollux-storage/pollux/bench"
)

func parseBench(t *testing.T, args ...string) (*cli, error) {
	t.Helper()
	c := new(cli)
	k, err := kong.New(c, append(options, kong.Exit(func(int) {}))...)
	if err != nil {
		t.Fatal(err)
	}
	_, err = k.Parse(append([]string{"bench"}, args...))
	return c, err
}

func TestBenchFlagsAreTheWorkload(t *testing.T) {
	for _, c := range []struct {
		args string
		want bench.Workload
	}{
		{"", bench.Workload{RW: "randread", ReadPercent: 50, BlockBytes: 4096, Depth: 32, Jobs: 1, Seed: 1, RuntimeSeconds: 10}},
		{"run --rw randrw --rwmixread 70 --bs 128k --iodepth 8 --numjobs 2 --runtime 1.5 --ramp-time 500ms --size 1G --offset 4k --zipf 0.99 --seed 3 --fsync 4 --fua 2 --rate-iops 100 --trim-percentage 5 --gtod-reduce --continue-on-error",
			bench.Workload{RW: "randrw", ReadPercent: 70, TrimPercent: 5, BlockBytes: 128 << 10, Depth: 8, Jobs: 2, Offset: 4096, Size: 1 << 30, Zipf: 0.99, Seed: 3,
				FsyncEvery: 4, FUAEvery: 2, RateIOPS: 100, RuntimeSeconds: 1.5, RampSeconds: 0.5, NoLatency: true, ContinueOnError: true}},
		{"--number-ios 7", bench.Workload{RW: "randread", ReadPercent: 50, BlockBytes: 4096, Depth: 32, Jobs: 1, Seed: 1, Number: 7}},
		{"--io-size 7M", bench.Workload{RW: "randread", ReadPercent: 50, BlockBytes: 4096, Depth: 32, Jobs: 1, Seed: 1, IOBytes: 7 << 20}},
		{"--rw write --verify", bench.Workload{RW: "write", ReadPercent: 50, BlockBytes: 4096, Depth: 32, Jobs: 1, Seed: 1, Verify: true}},
	} {
		got, err := parseBench(t, strings.Fields(c.args)...)
		if err != nil {
			t.Errorf("%s: %v", c.args, err)
			continue
		}
		if d := cmp.Diff(c.want, got.Bench.Run.workload()); d != "" {
			t.Errorf("%s:\n%s", c.args, d)
		}
	}
}

func TestBenchRefusesWhatDoesNotGoTogether(t *testing.T) {
	for args, want := range map[string]string{
		"--compare a.json":                       "takes two reports",
		"b.json":                                 "takes two reports",
		"--compare none.json none2.json":         "no such file",
		"--verify-only":                          "need --verify-state",
		"--verify --runs 3":                      "goes with one run",
		"--runs 0":                               "at least 1",
		"--bdev disk:1G --quiet":                 "no kind disk",
		"--bdev mem:1M --iodepth 0 --quiet":      "iodepth 0",
		"--bdev mem:1M --bs 3k --quiet":          "multiples of 4096",
		"--connect tcp://127.0.0.1 --quiet":      "a subsystem",
		"--bdev mem:1M --cores 7777 --quiet":     "core 7777",
		"--verify-only --verify-state none.none": "no such file",
	} {
		c, err := parseBench(t, strings.Fields(args)...)
		if err == nil {
			err = c.Bench.Run.Run()
		}
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want something with %q", args, err, want)
		}
	}
	for _, args := range []string{"--bs 4x", "--runtime soon", "check", "check --bdev mem:1M --connect tcp://h/n"} {
		if _, err := parseBench(t, strings.Fields(args)...); err == nil {
			t.Errorf("%s was taken", args)
		}
	}
}

func TestCompareReportsEndsWithAnErrorPastTheLimits(t *testing.T) {
	const same = "../../bench/testdata/report.json"
	var out bytes.Buffer
	if err := compareReports(&out, same, same, true); err != nil || !strings.Contains(out.String(), "no claim") {
		t.Errorf("%v\n%s", err, out.String())
	}
}

func TestSpan(t *testing.T) {
	for s, want := range map[string]time.Duration{"2": 2 * time.Second, "0.25": 250 * time.Millisecond, "1m": time.Minute} {
		var x span
		if err := x.UnmarshalText([]byte(s)); err != nil || time.Duration(x) != want {
			t.Errorf("%s: %v, %v", s, time.Duration(x), err)
		}
	}
}
