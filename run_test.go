package pollux

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// TestMakeRunOnce does what a newcomer does first: it serves a volume on a file over NVMe/TCP and iSCSI, writes and verifies it, and ends.
func TestMakeRunOnce(t *testing.T) {
	dir := t.TempDir()
	c := exec.Command("make", "run", "ONCE=1")
	c.Env = append(os.Environ(), "RUN_DIR="+dir, "RUN_SIZE=8M")
	out, err := c.CombinedOutput()
	if err != nil {
		t.Fatalf("make run ONCE=1: %v\n%s", err, out)
	}
	for _, want := range []string{"pollux: ready", "serving volume pool0/volume0", "IOPS", " 0 wrong", "nvme connect -t tcp -a 127.0.0.1 -s ", "iscsiadm -m node -T iqn.2026-01.io.pollux:volume0 -p 127.0.0.1:", "iscsi-ls -s iscsi://127.0.0.1:"} {
		if !strings.Contains(string(out), want) {
			t.Errorf("its output lacks %q:\n%s", want, out)
		}
	}
	for _, name := range []string{"disk0", "pollux.sock", "pollux.sock.lock"} {
		if _, err := os.Lstat(filepath.Join(dir, name)); err == nil {
			t.Errorf("it left %s behind", name)
		}
	}
}
