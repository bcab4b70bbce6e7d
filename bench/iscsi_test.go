package bench

import (
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// fakeISCSI puts programs in front of those of the machine that say what libiscsi 1.19's and qemu 7.2's do, and note how they were called.
func fakeISCSI(t *testing.T) (calls func() []string) {
	t.Helper()
	dir := t.TempDir()
	for name, script := range map[string]string{
		"taskset":              `shift 2; exec "$@"`,
		"iscsi-readcapacity16": `printf 'RETURNED LOGICAL BLOCK ADDRESS:32767\nLOGICAL BLOCK LENGTH IN BYTES:4096\nP_TYPE:0 PROT_EN:0\nTotal size:134217728\n'`,
		"iscsi-perf":           `printf 'connected\n\r00:01 - lba 1, iops current 5 (0 MB/s), iops average 500 (1 MB/s)  \riops average 2000 (7 MB/s)   \n\nfinished.\n'`,
		"qemu-img": `while [ "$1" != -c ]; do shift; done
			printf 'Sending %d write requests\nRun completed in %s seconds.\n' "$2" "$(awk "BEGIN { printf \"%.3f\", $2 / 1000 }")"`,
	} {
		text := "#!/bin/sh\necho \"${0##*/} $*\" >>" + dir + "/calls\n" + script + "\n"
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	t.Setenv("PATH", dir+":"+os.Getenv("PATH"))
	return func() (list []string) {
		b, err := os.ReadFile(dir + "/calls")
		if err != nil {
			t.Fatal(err)
		}
		for _, line := range strings.Split(strings.TrimSpace(string(b)), "\n") {
			if !strings.HasPrefix(line, "taskset") {
				list = append(list, line)
			}
		}
		_ = os.Remove(dir + "/calls")
		return list
	}
}

func TestISCSITargetsAreMeasuredByLibiscsi(t *testing.T) {
	calls := fakeISCSI(t)
	const url = "iscsi://127.0.0.1:3260/iqn.x:y/1"
	spec, err := ParseTarget(url)
	if err != nil {
		t.Fatal(err)
	}
	i, err := OpenISCSI(t.Context(), spec, 0)
	if err != nil {
		t.Fatal(err)
	}
	if d := i.Describe(); d.SizeBytes != 128<<20 || d.BlockSize != 4096 || d.Remote != url {
		t.Errorf("%+v", d)
	}
	calls()
	for _, c := range []struct {
		what    string
		load    Workload
		iops    float64
		seconds float64
		calls   []string
	}{
		{"random reads", Workload{RW: "randread", BlockBytes: 4096, Depth: 32, Jobs: 1, RuntimeSeconds: 1.5}, 2000, 2,
			[]string{"iscsi-perf -t 2 -m 32 -b 1 -r " + url}},
		{"reads in sequence", Workload{RW: "read", BlockBytes: 128 << 10, Depth: 1, Jobs: 1, RuntimeSeconds: 1}, 2000, 1,
			[]string{"iscsi-perf -t 1 -m 1 -b 32 " + url}},
		{"one pass of writes", Workload{RW: "write", BlockBytes: 128 << 10, Depth: 8, Jobs: 1}, 1000, 1.024,
			[]string{"qemu-img bench -w -t none -f raw -d 8 -s 131072 -S 131072 -c 1024 " + url}},
		{"random writes, whose rate is found first", Workload{RW: "randwrite", BlockBytes: 4096, Depth: 32, Jobs: 1, RuntimeSeconds: 2}, 1000, 2,
			[]string{"qemu-img bench -w -t none -f raw -d 32 -s 4096 -S 51269632 -c 128 " + url,
				"qemu-img bench -w -t none -f raw -d 32 -s 4096 -S 51269632 -c 512 " + url,
				"qemu-img bench -w -t none -f raw -d 32 -s 4096 -S 51269632 -c 2000 " + url}},
		{"again, when it is known", Workload{RW: "randwrite", BlockBytes: 4096, Depth: 32, Jobs: 1, RuntimeSeconds: 2}, 1000, 2,
			[]string{"qemu-img bench -w -t none -f raw -d 32 -s 4096 -S 51269632 -c 2000 " + url}},
	} {
		r, err := i.Run(t.Context(), c.load, Options{PIDs: []int{os.Getpid()}})
		if err != nil {
			t.Errorf("%s: %v", c.what, err)
			continue
		}
		if math.Abs(r.Total.IOPS-c.iops) > 1 || math.Abs(r.Seconds-c.seconds) > 0.01 || float64(r.Total.Ops) != math.Round(c.iops*c.seconds) {
			t.Errorf("%s: %d requests in %g s, %g a second", c.what, r.Total.Ops, r.Seconds, r.Total.IOPS)
		}
		if want := 1e9 * float64(c.load.Depth) / c.iops; math.Abs(r.Total.Latency.Mean-want) > 1e-3*want {
			t.Errorf("%s: mean latency %g ns, want %g", c.what, r.Total.Latency.Mean, want)
		}
		if len(r.Others) != 2 || r.Others[1].Name != iscsiClient {
			t.Errorf("%s: processes %+v", c.what, r.Others)
		}
		if got := calls(); strings.Join(got, "\n") != strings.Join(c.calls, "\n") {
			t.Errorf("%s: it called\n%s\nand should have called\n%s", c.what, strings.Join(got, "\n"), strings.Join(c.calls, "\n"))
		}
	}
	for what, w := range map[string]Workload{
		"mixed":      {RW: "randrw", ReadPercent: 70, BlockBytes: 4096, Depth: 1, Jobs: 1, RuntimeSeconds: 1},
		"synced":     {RW: "randwrite", BlockBytes: 4096, Depth: 1, Jobs: 1, FUAEvery: 1, RuntimeSeconds: 1},
		"two jobs":   {RW: "randread", BlockBytes: 4096, Depth: 1, Jobs: 2, RuntimeSeconds: 1},
		"part block": {RW: "randread", BlockBytes: 512, Depth: 1, Jobs: 1, RuntimeSeconds: 1},
	} {
		if _, err := i.Run(t.Context(), w, Options{}); err == nil || !strings.Contains(err.Error(), url) {
			t.Errorf("%s: %v, and no program does that", what, err)
		}
	}
}

func TestWithoutLibiscsiItIsSaidWhatToInstall(t *testing.T) {
	t.Setenv("PATH", t.TempDir())
	_, err := OpenISCSI(t.Context(), TargetSpec{Kind: "iscsi", Path: "iscsi://127.0.0.1:3260/iqn.x:y/1"}, 0)
	if err == nil || !strings.Contains(err.Error(), "libiscsi-bin") {
		t.Error(err)
	}
}
