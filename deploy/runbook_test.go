package deploy

import (
	"fmt"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// TestRunbook: it has a part for each alert, and none for others.
func TestRunbook(t *testing.T) {
	text, err := os.ReadFile("../docs/runbook.md")
	if err != nil {
		t.Fatal(err)
	}
	var want, got []string
	for _, r := range alerts(t) {
		if !slices.Contains(want, r.Alert) {
			want = append(want, r.Alert)
		}
	}
	for _, m := range regexp.MustCompile(`(?m)^### (\w+)\n\n(\w+)`).FindAllStringSubmatch(string(text), -1) {
		got = append(got, m[1])
		for _, r := range alerts(t) {
			if r.Alert != m[1] || r.Alert == "PoolSpace" { // which has three
				continue
			}
			if severity := string(m[2][0]|0x20) + m[2][1:]; severity != r.Labels["severity"] {
				t.Errorf("%s is %s, and the runbook calls it %s", r.Alert, r.Labels["severity"], severity)
			}
		}
	}
	slices.Sort(want)
	slices.Sort(got)
	if !slices.Equal(want, got) {
		t.Errorf("the alerts are %v, those of the runbook %v", want, got)
	}
}

// TestPagesNameMetricsThatExist reads all pages for those who run an engine.
func TestPagesNameMetricsThatExist(t *testing.T) {
	scrape := scrapeEngine(t)
	for _, page := range []string{"../docs/runbook.md", "../docs/limits.md"} {
		text, err := os.ReadFile(page)
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range regexp.MustCompile(`\bpollux_[a-z_]+`).FindAllString(string(text), -1) {
			if _, ok := scrape[name]; !ok {
				t.Errorf("%s names %s, which is no metric", page, name)
			}
		}
	}
}

// TestReadmeNamesEveryPage: and none that is not there.
func TestReadmeNamesEveryPage(t *testing.T) {
	text, err := os.ReadFile("../README.md")
	if err != nil {
		t.Fatal(err)
	}
	named := map[string]bool{}
	for _, m := range regexp.MustCompile(`\]\(([^)]+)\)`).FindAllStringSubmatch(string(text), -1) {
		named[m[1]] = true
		if _, err := os.Stat("../" + m[1]); err != nil {
			t.Error(err)
		}
	}
	pages, err := os.ReadDir("../docs")
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range pages {
		if !named["docs/"+p.Name()] {
			t.Errorf("README.md does not name docs/%s", p.Name())
		}
	}
}

// TestLedgerOfLimits: entries are numbered, and each has its parts. One that is open names its issue.
func TestLedgerOfLimits(t *testing.T) {
	text, err := os.ReadFile("../docs/limits.md")
	if err != nil {
		t.Fatal(err)
	}
	entries := regexp.MustCompile(`(?m)^## `).Split(string(text), -1)[1:]
	if len(entries) == 0 {
		t.Fatal("there is no entry")
	}
	for i, entry := range entries {
		if want := fmt.Sprintf("L-%d ", i+1); !strings.HasPrefix(entry, want) {
			t.Errorf("entry %d begins %.20q, want %q", i+1, entry, want)
		}
		parts := regexp.MustCompile(`(?m)^(Status|Cause|Shows|Do): `).FindAllStringSubmatch(entry, -1)
		if len(parts) != 4 || parts[0][1] != "Status" || parts[1][1] != "Cause" || parts[2][1] != "Shows" || parts[3][1] != "Do" {
			t.Errorf("entry %d has the parts %v", i+1, parts)
		}
		if !regexp.MustCompile(`(?m)^Status: (diagnosed|open, issue \d+)\.$`).MatchString(entry) {
			t.Errorf("entry %d is neither diagnosed nor open with an issue", i+1)
		}
	}
}
