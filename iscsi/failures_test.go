package iscsi

import (
	"fmt"
	"net/netip"
	"testing"
)

// A host that says another name with each login takes no place of those that are known, and what it does is counted all the same.
func TestFailuresOfStrangersAreBounded(t *testing.T) {
	var x hosts
	from := netip.MustParseAddr("192.0.2.77")
	report := func(name string, known bool) {
		h := &hostReport{name: name, known: known, from: from, why: "why"}
		h.counts[FailureDenied]++
		x.add(h, 1)
	}
	const n = 1000
	for i := range n {
		report(fmt.Sprint("stranger", i), false)
		report(fmt.Sprint("known", i), true)
	}
	report("stranger0", true) // it logged in meanwhile, and there is no room: it stays where it is
	if len(x.by) > hostsMax+strangersMax+1 || x.strangers != strangersMax {
		t.Errorf("%d hosts, %d strangers", len(x.by), x.strangers)
	}
	total := uint64(0)
	for name, e := range x.by {
		if e.Initiator != name {
			t.Errorf("%s is %s", name, e.Initiator)
		}
		total += e.Counts[FailureDenied]
	}
	if total != 2*n+1 {
		t.Errorf("%d failures were counted, want %d", total, 2*n+1)
	}
	if e := x.by["known7"]; e == nil || e.Counts[FailureDenied] != 1 || x.by[OtherHosts] == nil {
		t.Errorf("%+v", e)
	}

	x = hosts{}
	report("host", false)
	report("host", true)
	for i := range n {
		report(fmt.Sprint("stranger", i), false)
	}
	if e := x.by["host"]; !e.known || e.Counts[FailureDenied] != 2 || len(x.by) != 1+strangersMax+1 {
		t.Errorf("%+v among %d", e, len(x.by))
	}
}
