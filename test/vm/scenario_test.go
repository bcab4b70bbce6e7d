package vm

import (
	"bufio"
	"cmp"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
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
//	# rounds: COUNT      it goes round so many times, or as many times as GUEST_ROUNDS says
//	# disk: MIB          its guest has a disk of that size, a file beside the engine's
//	# icount: SHIFT      an instruction takes 2^SHIFT ns in its guest, or as GUEST_ICOUNT says; none is as long as it takes
//	# cpus: COUNT        its guest has so many processors, of which one is online, or as many as GUEST_CPUS says
//
// A measure is one in testdata/measures: it asserts nothing of what it measures, and prints it.
type scenario struct {
	name   string
	place  string
	nvmet  bool
	limit  time.Duration
	rounds int
	disk   int64 // MiB
	cpus   int   // 0: as many as a guest has
	icount string
}

// limitDefault ends a scenario that hangs. It asserts nothing of speed: on an idle machine most scenarios take
// a tenth of it, and on a busy one some take a quarter.
const limitDefault = 6 * time.Minute

// roundLimit comes on top for each round.
const roundLimit = time.Minute

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
	// The longest first, so that none of them is what all wait for at the end.
	slices.SortStableFunc(all, func(a, b scenario) int { return cmp.Compare(b.limit, a.limit) })
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
		case "disk":
			s.disk, err = strconv.ParseInt(value, 10, 64)
			if err != nil {
				return s, fmt.Errorf("%s: disk: %w", path, err)
			}
		case "cpus":
			if cpus := os.Getenv("GUEST_CPUS"); cpus != "" {
				value = cpus
			}
			s.cpus, err = strconv.Atoi(value)
			if err != nil || s.cpus < 1 {
				return s, fmt.Errorf("%s: cpus is %q, and should be a number from 1", path, value)
			}
		case "icount":
			if s.icount = value; os.Getenv("GUEST_ICOUNT") != "" {
				s.icount = os.Getenv("GUEST_ICOUNT")
			}
		case "rounds":
			if rounds := os.Getenv("GUEST_ROUNDS"); rounds != "" {
				value = rounds
			}
			s.rounds, err = strconv.Atoi(value)
			if err != nil || s.rounds < 1 {
				return s, fmt.Errorf("%s: rounds is %q, and should be a number from 1", path, value)
			}
		}
	}
	s.limit += time.Duration(s.rounds) * roundLimit
	if s.place != "host" && s.place != "guest" {
		return s, fmt.Errorf("%s: target is %q, and should be host or guest", path, s.place)
	}
	return s, nil
}
