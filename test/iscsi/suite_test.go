package iscsi

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os/exec"
	"slices"
	"strings"

	"sync"
	"testing"
	"time"
)

// suiteLimit ends a run of the suite that hangs. It asserts nothing of speed: a run takes less than a tenth of it.
const suiteLimit = 10 * time.Minute

// TestSuite runs libiscsi's suite, iscsi-test-cu, on each LUN, with and without CHAP and digests, with what loses data. Each of its tests that
// fails is a failed sub-test, unless the page says that the test is wrong, and so is one that skipped something which docs/conformance.md does not name, or that skipped nothing though the
// page says so. The suite waits most of its time, so all targets are tested at a time, however few processors there are; the LUNs of one are not,
// since the suite resets targets.
func TestSuite(t *testing.T) {
	need(t, "iscsi-test-cu")
	t.Parallel()
	e := startEngine(t)
	kinds := []string{memLUN: "mem", volumeLUN: "volume"}
	tested := []target{plainTarget, mutualTarget, digestTarget, bothTarget}
	outputs, errs := make([][2]string, len(tested)), make([][2]error, len(tested))
	var all sync.WaitGroup
	for i, g := range tested {
		all.Go(func() {
			for lun := range kinds {
				outputs[i][lun], errs[i][lun] = runSuite(t.Context(), g, "ALL", e.url(0, g, lun), e.url(1, g, lun))
			}
		})
	}
	all.Wait()
	for i, g := range tested {
		for lun, kind := range kinds {
			t.Run(g.name+" "+kind, func(t *testing.T) { judge(t, outputs[i][lun], errs[i][lun], listed(t, kind)) })
		}
	}
}

// TestSuiteOnWhatIsReadOnly has what the suite knows of a LUN that is write-protected, which TestSuite skips, and its reads.
func TestSuiteOnWhatIsReadOnly(t *testing.T) {
	need(t, "iscsi-test-cu")
	t.Parallel()
	e := startEngine(t)
	url := e.url(0, plainTarget, frozenLUN)
	output, err := runSuite(t.Context(), plainTarget, "ALL.ReadOnly,ALL.Read10,ALL.Read16,ALL.ReadCapacity10,ALL.Inquiry", url, e.url(1, plainTarget, frozenLUN))
	judge(t, output, err, expectations{})
}

// runSuite runs tests of it, by two initiators.
func runSuite(ctx context.Context, g target, tests, url, secondPath string) (string, error) {
	initiator := "iqn.2026-01.io.pollux:" + g.name + "-initiator"
	ctx, cancel := context.WithTimeout(ctx, suiteLimit)
	defer cancel()
	c := exec.CommandContext(ctx, "iscsi-test-cu", "--dataloss", "--allow-sanitize", "--verbose",
		"--initiator-name", initiator+"1", "--initiator-name-2", initiator+"2", "--test", tests, url, secondPath)
	out, err := c.CombinedOutput()
	var exit *exec.ExitError
	switch {
	case ctx.Err() != nil:
		return string(out), fmt.Errorf("iscsi-test-cu did not end within %v: %w", suiteLimit, ctx.Err())
	case err != nil && !errors.As(err, &exit): // its status says nothing
		return string(out), err
	}
	return string(out), nil
}

// judge makes sub-tests of the verdicts that are not as they should be, and says how many there were.
func judge(t *testing.T, output string, err error, want expectations) {
	t.Helper()
	list, unread := readSuite(output)
	if err := errors.Join(err, unread); err != nil {
		t.Errorf("iscsi-test-cu: %v\n%s", err, tail(output, 4000))
	}
	skipped := 0
	for _, v := range list {
		if v.skipped {
			skipped++
		}
		if why := v.fault(want.skips[v.name], want.fails[v.name]); why != "" {
			t.Run(v.name, func(t *testing.T) { t.Errorf("%s:\n%s", why, v.said) })
		}
	}
	for _, name := range slices.Concat(slices.Collect(maps.Keys(want.skips)), slices.Collect(maps.Keys(want.fails))) {
		if !slices.ContainsFunc(list, func(v verdict) bool { return v.name == name }) {
			t.Errorf("%s names %s, which is not a test of the suite, or was not reached", conformancePage, name)
		}
	}
	t.Logf("%d tests, of which %d skipped something", len(list), skipped)
}

// fault is what is wrong with a verdict, "" if nothing is.
func (v *verdict) fault(skips, fails bool) string {
	switch {
	case v.failed && !fails:
		return "it failed"
	case !v.failed && fails:
		return conformancePage + " says that it fails, and it did not"
	case v.skipped && !skips:
		return "it skipped something that " + conformancePage + " does not name"
	case !v.skipped && skips:
		return conformancePage + " says that it skips something, and it did not"
	}
	return ""
}

func TestVerdictsAreHeldAgainstThePage(t *testing.T) {
	for _, c := range []struct {
		verdict
		skips, fails bool
		want         string
	}{
		{verdict{}, false, false, ""},
		{verdict{skipped: true}, true, false, ""},
		{verdict{failed: true}, false, false, "failed"},
		{verdict{failed: true, skipped: true}, true, false, "failed"},
		{verdict{failed: true}, false, true, ""},
		{verdict{}, false, true, "did not"},
		{verdict{skipped: true}, false, false, "does not name"},
		{verdict{}, true, false, "did not"},
	} {
		if why := c.fault(c.skips, c.fails); !strings.Contains(why, c.want) || (why == "") != (c.want == "") {
			t.Errorf("%+v, skips %v, fails %v: %q, want %q", c.verdict, c.skips, c.fails, why, c.want)
		}
	}
	for _, kind := range []string{"mem", "volume"} {
		if len(listed(t, kind).skips) == 0 {
			t.Errorf("%s lists nothing for %s", conformancePage, kind)
		}
	}
}

func tail(s string, n int) string { return s[max(0, len(s)-n):] }
