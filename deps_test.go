package pollux

import (
	"os/exec"
	"strings"
	"testing"
)

// rows is the order of packages, from the bottom: a package imports rows below its own, on its own side or in a row without
// sides. ARCHITECTURE.md draws it. A package that is in no row fails the test: it belongs somewhere.
var rows = []struct {
	wire, both, storage []string // package folders, with everything below them
}{
	{both: []string{"internal/invariant", "internal/hist", "internal/version", "internal/ktrace", "internal/hold", "internal/crc32c", "internal/durable", "internal/patient", "internal/insn"}},
	{both: []string{"internal/sim"}},
	{both: []string{"reactor/ring"}},
	{both: []string{"reactor"}},
	{wire: []string{"rdma"}, both: []string{"bdev"}},
	{wire: []string{"rdma/ibverbs", "rdma/rdmatest"}, both: []string{"bdev/bdevtest", "bdev/bdevsim", "bdev/reservation"}},
	{storage: []string{"wal"}},
	{storage: []string{"volume"}},
	{wire: []string{"nvmf", "iscsi"}, storage: []string{"replica"}},
	{wire: []string{"nvmf/initiator", "nvmf/nvmftest", "iscsi/iscsitest"}},
	{both: []string{"ctl/api"}},
	{both: []string{"ctl", "bench", "csi", "cluster"}},
	{both: []string{"cmd/pollux"}},
	{both: []string{"test/vm", "test/iscsi", "deploy", "."}},
}

const module = "github.com/pollux-storage/pollux"

type room struct {
	row  int
	side string
}

// roomOf finds the row of a package: the longest folder that it lies in.
func roomOf(pkg string) (room, bool) {
	rel := strings.TrimPrefix(strings.TrimPrefix(pkg, module), "/")
	if rel == "" {
		rel = "."
	}
	best, found := room{}, -1
	for i, r := range rows {
		for side, list := range map[string][]string{"wire": r.wire, "both": r.both, "storage": r.storage} {
			for _, f := range list {
				if (rel == f || strings.HasPrefix(rel, f+"/")) && len(f) > found {
					best, found = room{i, side}, len(f)
				}
			}
		}
	}
	return best, found >= 0
}

// allowed says whether a package in room a may import one in room b.
func allowed(a, b room) bool {
	return b.row < a.row && (a.side == b.side || a.side == "both" || b.side == "both")
}

func TestPackagesImportDownwardOnly(t *testing.T) {
	out, err := exec.Command("go", "list", "-f", `{{.ImportPath}}{{range .Imports}} {{.}}{{end}}`, "./...").CombinedOutput()
	if err != nil {
		t.Fatalf("go list: %v\n%s", err, out)
	}
	seen := 0
	for _, line := range strings.Split(strings.TrimSpace(string(out)), "\n") {
		f := strings.Fields(line)
		a, ok := roomOf(f[0])
		if !ok {
			t.Errorf("%s is in no row: give it one in deps_test.go and in ARCHITECTURE.md", f[0])
			continue
		}
		seen++
		for _, imp := range f[1:] {
			if !strings.HasPrefix(imp, module) {
				continue
			}
			if b, ok := roomOf(imp); ok && imp != f[0] && !allowed(a, b) {
				t.Errorf("%s imports %s, which is not below it", f[0], imp)
			}
		}
	}
	if seen < 5 {
		t.Errorf("only %d packages were looked at", seen)
	}
}

func TestTheRuleRefusesWhatItShould(t *testing.T) {
	for _, c := range []struct {
		from, to string
		want     bool
	}{
		{"nvmf", "bdev", true}, {"nvmf", "wal", false}, {"bdev", "nvmf", false}, {"replica", "volume", true}, {"volume", "rdma", false},
		{"ctl", "nvmf/initiator", true}, {"ctl", "bench", false}, {"cmd/pollux", "ctl", true}, {"bench", "ctl/api", true}, {"reactor", "bdev", false},
	} {
		a, _ := roomOf(module + "/" + c.from)
		b, _ := roomOf(module + "/" + c.to)
		if got := allowed(a, b); got != c.want {
			t.Errorf("%s imports %s: %v, want %v", c.from, c.to, got, c.want)
		}
	}
}
