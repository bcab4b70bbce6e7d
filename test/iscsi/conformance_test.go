package iscsi

import (
	"os"
	"regexp"
	"strings"
	"testing"
)

// conformancePage lists what the suite skips, with the reasons.
const conformancePage = "../../docs/conformance.md"

// skipLine is a row of its table: test, on which LUNs, why.
var skipLine = regexp.MustCompile("^\\| `([A-Za-z0-9]+\\.[A-Za-z0-9_-]+)` \\| (both|mem|volume) \\| (\\S.*\\S) \\|$")

// listedSkips are those of a LUN.
func listedSkips(t *testing.T, lun string) map[string]bool {
	t.Helper()
	page, err := os.ReadFile(conformancePage)
	if err != nil {
		t.Fatal(err)
	}
	_, section, ok := strings.Cut(string(page), "\n## What the suite skips\n")
	if !ok {
		t.Fatalf("%s has no section \"What the suite skips\"", conformancePage)
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
