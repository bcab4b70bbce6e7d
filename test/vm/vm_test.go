package vm

import (
	"io/fs"
	"os/exec"
	"path/filepath"
	"testing"
)

// TestNvmet runs the scenarios against the Linux kernel's own target: it tests the scenarios.
func TestNvmet(t *testing.T) {
	needTools(t)
	watchSources(t)
	t.Parallel()
	var g *guest
	for _, s := range scenarios(t) {
		if s.nvmet {
			g = runIn(t, g, s, "nvmet", "guest")
		}
	}
}

// runIn runs a scenario as a subtest of t, in the guest g or, if that is nil, in a new one. It returns the guest
// for the next scenario.
func runIn(t *testing.T, g *guest, s scenario, target, place string, env ...string) *guest {
	t.Run(s.name, func(sub *testing.T) {
		if g == nil {
			var err error
			if g, err = boot(t, env...); err != nil {
				sub.Fatal(err)
			}
		}
		if !g.run(sub, s, target, place) {
			g.stop()
			g = nil
		}
	})
	return g
}

// needTools fails the test at once, and in a few words, where no guest can run.
func needTools(t *testing.T) {
	t.Helper()
	if out, err := exec.Command("./guest", "-C").CombinedOutput(); err != nil {
		t.Fatalf("%s", out)
	}
}

// watchSources looks at every folder of the project. What a test looks at, go test notes; so its result is
// taken from the cache only while nothing that could change it has: scripts, and the sources of the engine, which
// are built by a command of their own.
func watchSources(t *testing.T) {
	t.Helper()
	err := filepath.WalkDir("../..", func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if entry.IsDir() && (entry.Name() == ".git" || entry.Name() == "bin" || entry.Name() == "build") {
			return filepath.SkipDir
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}
