package main

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/pollux-storage/pollux/ctl/api"
	"github.com/pollux-storage/pollux/internal/ktrace"
)

// fixedReport is a trace with a little of everything.
func fixedReport() *traceReport {
	times := func(n, mean, p50, p99, most uint64) api.TraceTimes {
		return api.TraceTimes{Count: n, SumNS: n * mean, MeanNS: mean, P50NS: p50, P99NS: p99, MaxNS: most, Buckets: []api.TraceBucket{
			{UpToNS: float64(p50), Count: n - 3}, {UpToNS: float64(p99), Count: 2}, {UpToNS: float64(most), Count: 1},
		}}
	}
	lba := uint64(81920)
	qid, cntlid := uint16(1), uint16(7)
	return &traceReport{Trace: api.Trace{
		Seconds: 5, Sample: 64, Seen: 640_000, Finished: 10_000, Lost: 12,
		Groups: []api.TraceGroup{
			{
				Kind: "write", Device: "11111111-2222-4333-8444-555555555555", Alias: "pool/v", Count: 9000, Errors: 1, Bytes: 9000 << 12, Total: times(9000, 100_000, 90_000, 2_000_000, 35_000_000),
				Stages: []api.TraceStage{
					{Stage: "receive", TraceTimes: times(9000, 900, 500, 3000, 9999), Share: 0.009},
					{Stage: "device", TraceTimes: times(9000, 98_000, 88_000, 1_999_000, 34_900_000), Share: 0.98, Layers: []api.TraceLayer{
						{Device: "crypt0", TraceTimes: times(9000, 8000, 8000, 9000, 10_000), Share: 0.08},
						{Device: "1111", Alias: "pool/v", TraceTimes: times(9000, 90_000, 80_000, 1_990_000, 34_800_000), Share: 0.9, Stages: []api.TraceInside{
							{Stage: "admit", TraceTimes: times(9000, 30_000, 1, 2, 3), Share: 0.3}, {Stage: "flush", TraceTimes: times(9000, 60_000, 4, 5, 6), Share: 0.6},
						}},
					}},
				},
			},
			{Kind: "read", Host: "nqn.2024-01.com.example:host", CNTLID: &cntlid, QID: &qid, Count: 1000, Total: times(1000, 50, 40, 999, 1_000_000_000)},
		},
		Slowest: []api.TraceCommand{
			{Kind: "write", Device: "1111", Alias: "pool/v", LBA: &lba, Blocks: 1, Bytes: 4096, Status: "Successful Completion", Host: "nqn.2024-01.com.example:host", CNTLID: 7, QID: 1,
				Began: "2026-01-02T03:04:05.000000678Z", TotalNS: 35_000_000, Stages: []api.TraceSpan{
					{Stage: "receive", NS: 1000}, {Stage: "device", NS: 34_900_000, Layers: []api.TraceLayerSpan{{Device: "crypt0", NS: 10_000}, {Device: "1111", Alias: "pool/v", NS: 34_890_000, Stages: []api.TraceInsideSpan{
						{Stage: "flush", NS: 34_000_000}, {Stage: "admit", NS: 890_000}}}}}, {Stage: "send", NS: 99_000}}},
			{Kind: "flush", Bytes: 0, Status: "Namespace Not Ready", Host: "h", TotalNS: 9},
		},
	}}
}

// fixedKernel is what a kernel saw.
func fixedKernel() *ktrace.Report {
	times := func(n, mean uint64) ktrace.Times {
		return ktrace.Times{Count: n, SumNS: n * mean, MeanNS: mean, P50NS: mean, P99NS: 2 * mean, MaxNS: 3 * mean}
	}
	punted, ready := times(7, 200_000), times(1000, 9000)
	again := uint64(3)
	return &ktrace.Report{
		Missing: []ktrace.Missing{{What: "issue of block requests", Why: "this kernel has no tracepoint block_rq_issue"}}, Lost: 4, Retransmits: &again,
		Ring: []ktrace.Operation{{Name: "write_fixed", Submitted: 9000, Times: times(8999, 80_000), Punted: &punted}, {Name: "recv", Submitted: 1000, Times: times(1000, 30_000), Ready: &ready}},
		Block: []ktrace.Operation{{Name: "write", Submitted: 3, Times: ktrace.Times{Count: 3, SumNS: 210_000, MeanNS: 70_000, P50NS: 69_631, P99NS: 73_727, MaxNS: 73_727, Buckets: []ktrace.Bucket{
			{UpToNS: 65_535, Count: 1}, {UpToNS: 69_631, Count: 1}, {UpToNS: 73_727, Count: 1},
		}}}},
		Threads: []ktrace.ThreadReport{{Index: 0, Taken: times(12, 4_000_000), Soft: []ktrace.Operation{{Name: "net_rx", Submitted: 99, Times: times(99, 5000)}}}, {Index: 1, Woken: times(5, 50_000)}},
	}
}

func TestTraceText(t *testing.T) {
	r := fixedReport()
	r.Kernel = fixedKernel()
	plain, bars := r.text(false), r.text(true)
	r.Kernel, r.NoKernel = nil, "watch the kernel: it tells nothing of its types"
	golden(t, "testdata/trace.txt", plain+"\n--- with --histogram\n"+bars+"\n--- without the kernel\n"+r.text(false)+"\n--- an idle engine\n"+(&traceReport{Trace: api.Trace{Seconds: 1, Sample: 1}}).text(true))
}

func TestTimesToThreeDigits(t *testing.T) {
	for ns, want := range map[uint64]string{
		0: "0 ns", 999: "999 ns", 1000: "1.00 µs", 9994: "9.99 µs", 9996: "10.0 µs", 99_940: "99.9 µs", 99_960: "100 µs", 999_499: "999 µs", 999_600: "1.00 ms",
		1_234_567: "1.23 ms", 59_999_999_999: "60.0 s", 3_600_000_000_000: "3600 s",
	} {
		if got := span10(ns).String(); got != want {
			t.Errorf("%d ns is %s, want %s", ns, got, want)
		}
	}
}

func TestTraceCommand(t *testing.T) {
	sh := newShell(t)
	sh.must("bdev create mem m0 8M")
	sh.must("nvmf export m0 --port 0")
	var r traceReport
	if err := json.Unmarshal([]byte(sh.must("trace --seconds 1 --sample 1 -o json")), &r); err != nil {
		t.Fatal(err)
	}
	if r.Schema != api.TraceSchema || r.Version != api.TraceVersion || r.State != "ended" || r.Sample != 1 || r.Seconds < 1 || r.Seen != 0 {
		t.Errorf("%+v", r)
	}
	if out := sh.must("trace --seconds 1"); !strings.Contains(out, "no command was looked at") {
		t.Errorf("printed %s", out)
	}
	sh.must("rpc trace_start {}")
	sh.fails("trace", "trace3 runs until")
	sh.must("rpc trace_stop")
	r = traceReport{}
	if err := json.Unmarshal([]byte(sh.must("trace --seconds 1 --no-kernel -o json")), &r); err != nil || r.Kernel != nil || r.NoKernel != "" {
		t.Errorf("%+v, %v", r, err)
	}
	sh.fails("trace --seconds 0", "0 seconds are no time")
	sh.fails("trace --seconds 3601", "3601 seconds are too long")
	sh.fails("trace --sample 0", "one of 0 is none")
	sh.fails("trace --by colour", "colour")
}
