package iscsi

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// This file reads what iscsi-test-cu says. Its exit status is 0 whatever happens. It prints, by way of the CUnit library,
//
//	Suite: CompareAndWrite
//	  Test: Simple ...    [SKIPPED] COMPAREANDWRITE is not implemented.
//	passed
//	  Test: Miscompare ...passed    [FAILED] a word of what comes after it
//	  Test: Unwritten ...
//	FAILED
//	    1. test_compareandwrite_unwritten.c:65  - CU_ASSERT_EQUAL(ret,0)
//
//	Run Summary:    Type  Total    Ran Passed Failed Inactive
//	              suites     46     46    n/a      0        0
//	               tests    215    215    207      8        0
//
// where a test ends its lines, so that the verdict begins one, or stands right behind the dots.

// A verdict is what the suite says of one of its tests.
type verdict struct {
	name    string // as in docs/conformance.md: SUITE.TEST
	failed  bool
	skipped bool   // it left out something, or all
	said    string // by it
}

var (
	suiteLine   = regexp.MustCompile(`^Suite: (\S+)`)
	testLine    = regexp.MustCompile(`^  Test: (\S+) \.\.\.(.*)$`)
	verdictLine = regexp.MustCompile(`^(passed|FAILED)(.*)$`)
	suitesLine  = regexp.MustCompile(`^ +suites +(\d+) +(\d+) +n/a +(\d+) +(\d+)`)
	testsLine   = regexp.MustCompile(`^ +tests +(\d+) +(\d+) +(\d+) +(\d+) +(\d+)`)
)

// suiteReader reads the lines, in this order: tests, then the summary.
type suiteReader struct {
	list    []verdict
	suite   string
	decided bool // the last of the list
	ended   bool // the summary has begun

	suitesFailed, ran, failed int // by the summary; -1 if it does not say
}

// readSuite reads the verdicts, and compares their number with that of the summary: an output that is cut off, or has a form that is not
// known here, is an error.
func readSuite(output string) ([]verdict, error) {
	r := suiteReader{suitesFailed: -1, ran: -1, failed: -1}
	for line := range strings.Lines(output) {
		if err := r.line(strings.TrimRight(line, "\n")); err != nil {
			return r.list, err
		}
	}
	return r.list, r.check()
}

func (r *suiteReader) line(line string) error {
	if m := suiteLine.FindStringSubmatch(line); m != nil {
		r.suite = m[1]
		return r.testEnds()
	}
	if m := testLine.FindStringSubmatch(line); m != nil {
		if err := r.testEnds(); err != nil {
			return err
		}
		r.list, r.decided = append(r.list, verdict{name: r.suite + "." + m[1]}), false
		line = m[2]
	}
	if strings.HasPrefix(line, "Run Summary:") {
		r.ended = true
		return r.testEnds()
	}
	if r.ended {
		if m := suitesLine.FindStringSubmatch(line); m != nil {
			r.suitesFailed, _ = strconv.Atoi(m[3])
		}
		if m := testsLine.FindStringSubmatch(line); m != nil {
			r.ran, _ = strconv.Atoi(m[2])
			r.failed, _ = strconv.Atoi(m[4])
		}
		return nil
	}
	if len(r.list) == 0 || line == "" {
		return nil
	}
	now := &r.list[len(r.list)-1]
	if m := verdictLine.FindStringSubmatch(line); m != nil && !r.decided {
		r.decided, now.failed, line = true, m[1] == "FAILED", m[2]
	}
	if line != "" {
		now.said += line + "\n"
	}
	now.skipped = now.skipped || strings.Contains(line, "[SKIPPED]")
	return nil
}

func (r *suiteReader) testEnds() error {
	if len(r.list) > 0 && !r.decided {
		return fmt.Errorf("%s has no verdict", lastName(r.list))
	}
	return nil
}

func (r *suiteReader) check() error {
	if !r.ended {
		return fmt.Errorf("it ended without a summary, in %s", lastName(r.list))
	}
	failed := 0
	for i := range r.list {
		if r.list[i].failed {
			failed++
		}
	}
	if len(r.list) == 0 || r.ran != len(r.list) || r.failed != failed || r.suitesFailed != 0 {
		return fmt.Errorf("its summary speaks of %d tests, %d of them and %d suites failed; its lines of %d and %d",
			r.ran, r.failed, r.suitesFailed, len(r.list), failed)
	}
	return nil
}

func lastName(list []verdict) string {
	if len(list) == 0 {
		return "no test"
	}
	return list[len(list)-1].name
}

func TestReadSuite(t *testing.T) {
	const head = "\n\n     CUnit - A unit testing framework for C - Version 2.1-3\n\n"
	const summary = "\nRun Summary:    Type  Total    Ran Passed Failed Inactive\n              suites      2      2    n/a      0        0\n"
	const tests = "\nSuite: Read6\n  Test: Simple ...\n    Test READ6\n    a line that passed on\npassed\n  Test: Beyond-2 ...passed    [FAILED] a login behind it\n" +
		"Suite: Unmap\n  Test: VPD ...    [SKIPPED] This device is not it.\npassed\n  Test: Zero ...    word\nFAILED\n    1. test_unmap.c:65  - CU_ASSERT(ret)\n"
	list, err := readSuite(head + tests + summary + "               tests      4      4      3      1        0\n")
	if err != nil {
		t.Fatal(err)
	}
	want := []verdict{
		{name: "Read6.Simple", said: "    Test READ6\n    a line that passed on\n"},
		{name: "Read6.Beyond-2", said: "    [FAILED] a login behind it\n"},
		{name: "Unmap.VPD", skipped: true, said: "    [SKIPPED] This device is not it.\n"},
		{name: "Unmap.Zero", failed: true, said: "    word\n    1. test_unmap.c:65  - CU_ASSERT(ret)\n"},
	}
	if d := cmp.Diff(want, list, cmp.AllowUnexported(verdict{})); d != "" {
		t.Error(d)
	}
	for what, output := range map[string]string{
		"cut off":                     head + tests,
		"nothing":                     "",
		"no test":                     head + summary + "               tests      0      0      0      0        0\n",
		"a test without a verdict":    head + "Suite: A\n  Test: B ...\n  Test: C ...passed\n" + summary + "   tests      2      2      2      0        0\n",
		"more tests than lines":       head + tests + summary + "               tests      5      5      4      1        0\n",
		"more failures than lines":    head + tests + summary + "               tests      4      4      2      2        0\n",
		"a suite that did not begin":  head + tests + strings.Replace(summary, "n/a      0", "n/a      1", 1) + "               tests      4      4      3      1        0\n",
		"a summary of something else": head + tests + "Run Summary: fine\n",
	} {
		if _, err := readSuite(output); err == nil {
			t.Errorf("%s: no error", what)
		}
	}
}
