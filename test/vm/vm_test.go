package vm

import (
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
	"time"
)

// TestPollux runs the scenarios against Pollux.
func TestPollux(t *testing.T) {
	needTools(t)
	watchSources(t)
	t.Parallel()
	// Two guests, because a scenario often waits: for a timeout that has to pass, or for a host that tries again in a second.
	b := bench{t: t, target: "pollux", binary: build(t, false), hostBinary: build(t, race), verbsTest: buildVerbsTest(t), guests: 2}
	b.run(scenarios(t))
}

// TestNvmet runs the scenarios against the Linux kernel's own target: it tests the scenarios.
func TestNvmet(t *testing.T) {
	needTools(t)
	watchSources(t)
	t.Parallel()
	var list []scenario
	for _, s := range scenarios(t) {
		if s.nvmet {
			s.place = "guest"
			list = append(list, s)
		}
	}
	b := bench{t: t, target: "nvmet", guests: 1}
	b.run(list)
}

// TestMeasure runs the measure that GUEST_MEASURE names, on an engine that does not look for data races. Without a name it looks whether the
// measures can be read.
func TestMeasure(t *testing.T) {
	paths, err := filepath.Glob("testdata/measures/*.sh")
	if err != nil || len(paths) == 0 {
		t.Fatalf("no measure in testdata/measures (%v)", err)
	}
	for _, path := range paths {
		s, err := readScenario(path)
		if err != nil {
			t.Fatal(err)
		}
		if s.name == os.Getenv("GUEST_MEASURE") {
			needTools(t)
			binary := build(t, false)
			b := bench{t: t, target: "pollux", binary: binary, hostBinary: binary, guests: 1}
			b.run([]scenario{s})
		}
	}
}

// A bench runs scenarios as subtests, on some guests at a time.
type bench struct {
	t      *testing.T
	target string
	// Pollux, if that is the target: what runs in the guest, and what runs on this machine, where there is the
	// time to look for data races.
	binary, hostBinary string
	verbsTest          string // the test of rdma/ibverbs, for a guest with cards
	guests             int
	limit              time.Duration // of a guest's life: all scenarios, one after another
}

func (b *bench) run(list []scenario) {
	b.limit = bootLimit
	queue := make(chan scenario, len(list))
	for _, s := range list {
		b.limit += s.limit + time.Minute
		queue <- s
	}
	close(queue)
	var all sync.WaitGroup
	for range b.guests {
		all.Go(func() {
			p := place{bench: b}
			for s := range queue {
				p.run(s)
			}
		})
	}
	all.Wait()
}

// A place is where a bench runs scenarios one after another: in one guest, until one fails: what that left behind is not
// the next one's. It has an engine of its own.
type place struct {
	bench  *bench
	guest  *guest
	engine *engine
}

func (p *place) run(s scenario) {
	p.bench.t.Run(s.name, func(t *testing.T) {
		if p.guest == nil {
			if err := p.begin(s); err != nil {
				t.Fatal(err)
			}
		}
		if !p.guest.run(t, s, p.bench.target, s.place) {
			p.end()
			return
		}
		p.guest.keepResults(t)
	})
}

func (p *place) begin(s scenario) (err error) {
	if b := p.bench; b.binary != "" {
		if p.engine, err = newEngine(b.t, b.binary, b.hostBinary, b.verbsTest); err != nil {
			return err
		}
	}
	p.guest, err = boot(p.bench.t, p.engine, p.bench.limit, s)
	return err
}

func (p *place) end() {
	p.guest.stop()
	p.guest = nil
	if p.engine != nil {
		p.engine.kill()
	}
}

// build makes the binary that the scenarios run, and nothing else uses.
func build(t *testing.T, race bool) string {
	t.Helper()
	binary := filepath.Join(t.TempDir(), "pollux")
	args := []string{"build", "-buildvcs=auto", "-o", binary, "../../cmd/pollux"}
	if race {
		args = append([]string{"build", "-race"}, args[1:]...)
	}
	if out, err := exec.Command("go", args...).CombinedOutput(); err != nil {
		t.Fatalf("go %v: %v\n%s", args, err, out)
	}
	return binary
}

// buildVerbsTest makes the test of rdma/ibverbs, which runs in the guest: this machine may have no card.
func buildVerbsTest(t *testing.T) string {
	t.Helper()
	binary := filepath.Join(t.TempDir(), "ibverbs.test")
	if out, err := exec.Command("go", "test", "-tags", "cards", "-c", "-o", binary, "../../rdma/ibverbs").CombinedOutput(); err != nil {
		t.Fatalf("go test -tags cards -c ../../rdma/ibverbs: %v\n%s", err, out)
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
