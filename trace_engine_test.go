package pollux

import (
	"encoding/json"
	"os"
	"os/exec"
	"syscall"
	"testing"
)

// tracedTimes and the like are as much of `pollux trace -o json` as the test reads; what is on the command line is a promise.
type tracedTimes struct {
	Count uint64 `json:"count"`
	SumNS uint64 `json:"sum_ns"`
	P50NS uint64 `json:"p50_ns"`
	P99NS uint64 `json:"p99_ns"`
}

type tracedStage struct {
	Stage string `json:"stage"`
	tracedTimes
	Layers []struct {
		Device string `json:"device"`
		tracedTimes
	} `json:"layers"`
}

type tracedOp struct {
	Name      string       `json:"name"`
	Submitted uint64       `json:"submitted"`
	Times     tracedTimes  `json:"times"`
	Punted    *tracedTimes `json:"punted"`
}

type traced struct {
	Schema     string `json:"schema"`
	Version    int    `json:"version"`
	Seen       uint64 `json:"seen"`
	Finished   uint64 `json:"finished"`
	Lost       uint64 `json:"lost"`
	Unfinished uint64 `json:"unfinished"`
	Groups     []struct {
		Kind   string        `json:"kind"`
		Total  tracedTimes   `json:"total"`
		Stages []tracedStage `json:"stages"`
	} `json:"groups"`
	Slowest []struct {
		TotalNS uint64 `json:"total_ns"`
		Stages  []struct {
			NS uint64 `json:"ns"`
		} `json:"stages"`
	} `json:"slowest"`
	NoKernel string `json:"no_kernel"`
	Kernel   struct {
		Missing []struct{ What, Why string } `json:"missing"`
		Ring    []tracedOp                   `json:"io_uring"`
		Block   []tracedOp                   `json:"block"`
		Threads []struct {
			Taken tracedTimes `json:"taken"`
			Woken tracedTimes `json:"woken"`
		} `json:"threads"`
		Retransmits *uint64 `json:"tcp_retransmits"`
	} `json:"kernel"`
}

func (tr *traced) op(list []tracedOp, names ...string) (sum tracedOp) {
	for _, o := range list {
		for _, n := range names {
			if o.Name == n {
				sum.Submitted += o.Submitted
				sum.Times.Count += o.Times.Count
				sum.Times.SumNS += o.Times.SumNS
			}
		}
	}
	return sum
}

// TestTraceOfAnEngineUnderLoad traces an engine that serves a file while a host reads and writes it, and holds what the engine says against what
// the kernel saw: every command of a host is an operation of the ring and a request to the disk.
func TestTraceOfAnEngineUnderLoad(t *testing.T) {
	e := newEngine(t)
	e.start()
	const depth = 16
	load := exec.Command(e.bin, "bench", "--connect", "tcp://127.0.0.1:"+e.port+"/"+engineNQN, "--rw", "randrw", "--bs", "4k", "--iodepth", "16", "--fsync", "64",
		"--size", "32M", "--number-ios", "100000000", "--cores", "0", "--idle", "adaptive", "--quiet")
	if err := load.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = load.Process.Kill()
		_ = load.Wait()
	})
	for e.writes() < 200 { // the load runs
	}
	cmd := exec.Command(e.bin, "trace", "-s", e.sock, "--seconds", "2", "--sample", "1", "--slowest", "3", "-o", "json")
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("pollux trace: %v\n%s", err, out)
	}
	var tr traced
	if err := json.Unmarshal(out, &tr); err != nil {
		t.Fatalf("%v in\n%s", err, out)
	}
	if tr.Schema != "pollux.trace" || tr.Version != 1 || tr.Seen < tr.Finished || tr.Seen-tr.Finished-tr.Lost-tr.Unfinished > depth || tr.Finished < 100 || len(tr.Slowest) != 3 {
		t.Errorf("%+v", tr)
	}
	count := map[string]uint64{}
	mean := map[string]float64{}
	for _, g := range tr.Groups {
		count[g.Kind] = g.Total.Count
		var sum uint64
		for _, s := range g.Stages {
			if sum += s.SumNS; s.Stage == "device" {
				if len(s.Layers) != 1 || s.Layers[0].Device != "disk" || s.Layers[0].SumNS != s.SumNS {
					t.Errorf("%s: the device's layers: %+v", g.Kind, s.Layers)
				}
				mean[g.Kind] = float64(s.SumNS) / float64(s.Count)
			}
		}
		if sum != g.Total.SumNS {
			t.Errorf("%s: the stages took %d ns, the whole %d", g.Kind, sum, g.Total.SumNS)
		}
	}
	for _, c := range tr.Slowest {
		var sum uint64
		for _, s := range c.Stages {
			sum += s.NS
		}
		if sum != c.TotalNS {
			t.Errorf("a slow command: the stages took %d ns, the whole %d", sum, c.TotalNS)
		}
	}

	k := &tr.Kernel
	if tr.NoKernel != "" || len(k.Missing) > 0 {
		t.Fatalf("the kernel's part is not whole; this test is for root on a kernel with BTF: %s %+v", tr.NoKernel, k.Missing)
	}
	for kind, names := range map[string][]string{"read": {"read", "read_fixed"}, "write": {"write", "write_fixed"}, "flush": {"fsync"}} {
		op := tr.op(k.Ring, names...)
		// The kernel was watched before the commands were and after, so it has seen all of them.
		if count[kind] == 0 || op.Submitted < count[kind] {
			t.Errorf("%s: %d commands, %d operations of the ring", kind, count[kind], op.Submitted)
		}
		if open := int64(op.Submitted) - int64(op.Times.Count); open < 0 || open > depth {
			t.Errorf("%s: %d operations were submitted, %d completed: %d with %d in flight at most", kind, op.Submitted, op.Times.Count, open, depth)
		}
		// What the kernel takes is a part of what the engine sees. Buckets are sums here, so this is exact but for those in flight.
		if of := float64(op.Times.SumNS) / float64(max(op.Times.Count, 1)); of <= 0 || of > 2*mean[kind] {
			t.Errorf("%s: %.0f ns in the kernel, %.0f ns in the device for the engine", kind, of, mean[kind])
		}
		if kind == "flush" {
			continue
		}
		// Blocks that were never written are read without the disk, and two writes may be one request to it.
		if block := tr.op(k.Block, kind); block.Times.Count == 0 || block.Times.Count > block.Submitted || block.Submitted > 2*op.Submitted {
			t.Errorf("%s: %d operations of the ring, %d requests to the disk, %d of them completed", kind, op.Submitted, block.Submitted, block.Times.Count)
		}
	}
	if sends, recvs := tr.op(k.Ring, "sendmsg", "send"), tr.op(k.Ring, "recv", "recvmsg"); sends.Times.Count == 0 || recvs.Times.Count == 0 {
		t.Errorf("%d sends, %d receives", sends.Times.Count, recvs.Times.Count)
	}
	if len(k.Threads) != 1 || k.Threads[0].Taken.Count+k.Threads[0].Woken.Count == 0 || k.Retransmits == nil {
		t.Errorf("reactors: %+v, retransmissions %v", k.Threads, k.Retransmits)
	}
	if status := e.stop(syscall.SIGTERM); status != 0 {
		t.Errorf("the engine ended with status %d", status)
	}
}
