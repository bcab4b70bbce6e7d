package iscsi

import (
	"os"
	"regexp"
	"strings"
	"testing"
)

// conformancePage lists what the suite skips, and what it has wrong, with the reasons.
const conformancePage = "../../docs/conformance.md"

// skipLine is a row of its table: test, on which LUNs, why.
var skipLine = regexp.MustCompile("^\\| `([A-Za-z0-9]+\\.[A-Za-z0-9_-]+)` \\| (both|mem|volume) \\| (\\S.*\\S) \\|$")

// The sections of its tables.
const (
	sectionSkips = "What the suite skips"
	sectionWrong = "What the suite has wrong"
)

// expectations are what is listed of a LUN.
type expectations struct{ skips, fails map[string]bool }

func listed(t *testing.T, lun string) expectations {
	t.Helper()
	return expectations{listedIn(t, sectionSkips, lun), listedIn(t, sectionWrong, lun)}
}

func listedIn(t *testing.T, name, lun string) map[string]bool {
	t.Helper()
	page, err := os.ReadFile(conformancePage)
	if err != nil {
		t.Fatal(err)
	}
	_, section, ok := strings.Cut(string(page), "\n## "+name+"\n")
	if !ok {
		t.Fatalf("%s has no section %q", conformancePage, name)
	}
	section, _, _ = strings.Cut(section, "\n## ")
	list := map[string]bool{}
	for line := range strings.Lines(section) {
		if !strings.HasPrefix(line, "| `") {
			continue
		}
		m := skipLine.FindStringSubmatch(strings.TrimSuffix(line, "\n"))
		if m == nil {
			t.Fatalf("%s: this row is not \"| `SUITE.TEST` | both, mem or volume | reason |\": %s", conformancePage, line)
		}
		if list[m[1]] {
			t.Fatalf("%s names %s twice", conformancePage, m[1])
		}
		if m[2] == "both" || m[2] == lun {
			list[m[1]] = true
		}
	}
	return list
}
