package vm

import (
	"io/fs"
	"os/exec"
	"path/filepath"
	"testing"
)

// TestPollux runs the scenarios against Pollux.
func TestPollux(t *testing.T) {
	needTools(t)
	watchSources(t)
	t.Parallel()
	b := bench{t: t, target: "pollux", binary: build(t, false), hostBinary: build(t, race)}
	for _, s := range scenarios(t) {
		b.run(s, s.place)
	}
}

// TestNvmet runs the scenarios against the Linux kernel's own target: it tests the scenarios.
func TestNvmet(t *testing.T) {
	needTools(t)
	watchSources(t)
	t.Parallel()
	b := bench{t: t, target: "nvmet"}
	for _, s := range scenarios(t) {
		if s.nvmet {
			b.run(s, "guest")
		}
	}
}

// A bench runs scenarios as subtests, one after another in one guest, until one fails: what that left behind is
// not the next one's.
type bench struct {
	t      *testing.T
	target string
	// Pollux, if that is the target: what runs in the guest, and what runs on this machine, where there is the
	// time to look for data races.
	binary, hostBinary string
	guest              *guest
	engine             *engine
}

func (b *bench) run(s scenario, place string) {
	b.t.Run(s.name, func(t *testing.T) {
		if b.guest == nil {
			if err := b.begin(); err != nil {
				t.Fatal(err)
			}
		}
		if !b.guest.run(t, s, b.target, place) {
			b.end()
		}
	})
}

func (b *bench) begin() (err error) {
	if b.binary != "" {
		if b.engine, err = newEngine(b.t, b.binary, b.hostBinary); err != nil {
			return err
		}
	}
	b.guest, err = boot(b.t, b.engine)
	return err
}

func (b *bench) end() {
	b.guest.stop()
	b.guest = nil
	if b.engine != nil {
		b.engine.kill()
	}
}

// build makes the binary that the scenarios run, and nothing else uses.
func build(t *testing.T, race bool) string {
	t.Helper()
	binary := filepath.Join(t.TempDir(), "pollux")
	args := []string{"build", "-o", binary, "../../cmd/pollux"}
	if race {
		args = append([]string{"build", "-race"}, args[1:]...)
	}
	if out, err := exec.Command("go", args...).CombinedOutput(); err != nil {
		t.Fatalf("go %v: %v\n%s", args, err, out)
	}
	return binary
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
