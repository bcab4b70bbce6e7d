//go:build cgo

package ibverbs

import (
	"bytes"
	"os"
	"os/exec"
	"testing"
)

// TestWithoutCgo runs the test of the build that has no cgo.
func TestWithoutCgo(t *testing.T) {
	cmd := exec.Command("go", "test", "-v", "-run", "TestOpenWithoutCgo", ".")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil || !bytes.Contains(out, []byte("--- PASS: TestOpenWithoutCgo")) {
		t.Errorf("CGO_ENABLED=0 go test: %v\n%s", err, out)
	}
}
