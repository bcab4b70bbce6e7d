package vm

import (
	"bufio"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// A scenario is a file in testdata/scenarios. It begins with a comment: what it shows, and then its header,
// lines of "key: value":
//
//	# target: host       where Pollux runs for it: on the machine (host), or in the guest beside its client
//	# nvmet: no, REASON  the kernel's own target cannot do this
//	# limit: SECONDS     more time than limitDefault, before it is ended
type scenario struct {
	name  string
	place string
	nvmet bool
	limit time.Duration
}

// limitDefault ends a scenario that hangs. It asserts nothing of speed: on an idle machine most scenarios take
// a tenth of it.
const limitDefault = 3 * time.Minute

func scenarios(t *testing.T) []scenario {
	t.Helper()
	paths, err := filepath.Glob("testdata/scenarios/*.sh")
	if err != nil || len(paths) == 0 {
		t.Fatalf("no scenario in testdata/scenarios (%v)", err)
	}
	var all []scenario
	for _, path := range paths {
		s, err := readScenario(path)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, s)
	}
	return all
}

func readScenario(path string) (scenario, error) {
	s := scenario{
		name:  strings.TrimSuffix(filepath.Base(path), ".sh"),
		nvmet: true,
		limit: limitDefault,
	}
	file, err := os.Open(path)
	if err != nil {
		return s, err
	}
	defer file.Close()
	for lines := bufio.NewScanner(file); lines.Scan() && strings.HasPrefix(lines.Text(), "# "); {
		key, value, found := strings.Cut(strings.TrimPrefix(lines.Text(), "# "), ": ")
		if !found || strings.Contains(key, " ") {
			continue // a sentence
		}
		switch key {
		case "target":
			s.place = value
		case "nvmet":
			if !strings.HasPrefix(value, "no, ") {
				return s, fmt.Errorf("%s: nvmet is %q, and should be \"no, REASON\"", path, value)
			}
			s.nvmet = false
		case "limit":
			s.limit, err = time.ParseDuration(value + "s")
			if err != nil {
				return s, fmt.Errorf("%s: limit: %w", path, err)
			}
		}
	}
	if s.place != "host" && s.place != "guest" {
		return s, fmt.Errorf("%s: target is %q, and should be host or guest", path, s.place)
	}
	return s, nil
}
