package ctl

import (
	"fmt"
	"testing"

	"github.com/pollux-storage/pollux/bdev"
	"github.com/pollux-storage/pollux/ctl/api"
	"github.com/pollux-storage/pollux/nvmf"
	"github.com/pollux-storage/pollux/reactor"
)

// record is a read that spent n nanoseconds in its device and as many in being sent.
func record(n reactor.Ticks, device, host string, qid nvmf.QID) *nvmf.TraceRecord {
	r := &nvmf.TraceRecord{Opcode: nvmf.IORead, Device: device, Host: host, CNTLID: 1, QID: qid, Bytes: 4096, Total: 2 * n, Passed: 1<<nvmf.TraceDevice | 1<<nvmf.TraceSend}
	r.Spent[nvmf.TraceDevice], r.Spent[nvmf.TraceSend] = n, n
	r.Below.Depth = 2
	r.Below.Layers[0], r.Below.Layers[1] = bdev.TraceLayer{Device: "over " + device, Spent: n}, bdev.TraceLayer{Device: device, Spent: n / 2}
	return r
}

func allOf(by ...string) *api.TraceReadParams {
	return &api.TraceReadParams{By: by, Slowest: new(uint32(64))}
}

// TestTraceSumTellsApartWhatItIsAskedFor adds up commands of two devices, two hosts and two kinds.
func TestTraceSumTellsApartWhatItIsAskedFor(t *testing.T) {
	s := newTraceSum(2)
	for i := range reactor.Ticks(10) {
		s.add(record(100+i, "a", "x", 1))
		s.add(record(200+i, "b", "x", 2))
		w := record(300+i, "a", "y", 1)
		w.Opcode, w.Status = nvmf.IOWrite, nvmf.StatusLBAOutOfRange
		s.add(w)
	}
	for _, c := range []struct {
		by   []string
		want int
	}{{nil, 1}, {[]string{"kind"}, 2}, {[]string{"device"}, 2}, {[]string{"queue"}, 3}, {[]string{"kind", "device"}, 3}} {
		groups, slowest := s.fold(allOf(c.by...), "")
		if len(groups) != c.want || len(slowest) != 6 || slowest[0].Total != 618 || slowest[5].Total != 216 {
			t.Errorf("by %v: %d groups, %d slowest", c.by, len(groups), len(slowest))
		}
		var count, ns, errors uint64
		for i, g := range groups {
			count, ns, errors = count+g.Count, ns+g.Total.SumNS, errors+g.Errors
			var sum, layers uint64
			for _, st := range g.Stages {
				sum += st.SumNS
				for _, l := range st.Layers {
					layers += l.SumNS
				}
			}
			if sum != g.Total.SumNS || layers != sum/2 || i > 0 && g.Total.SumNS > groups[i-1].Total.SumNS {
				t.Errorf("by %v: %+v", c.by, g)
			}
		}
		if count != 30 || ns != 2*(10*600+3*45) || errors != 10 {
			t.Errorf("by %v: %d commands, %d ns, %d errors", c.by, count, ns, errors)
		}
	}
}

// TestTraceSumIsBounded: beyond so many combinations commands are added up by their kind alone, and none is forgotten.
func TestTraceSumIsBounded(t *testing.T) {
	s := newTraceSum(1)
	const n = 2 * traceCellsMax
	for i := range n {
		s.add(record(100, fmt.Sprint("device", i), "x", 1))
	}
	if len(s.cells) != traceCellsMax+1 {
		t.Errorf("%d are told apart", len(s.cells))
	}
	if groups, _ := s.fold(allOf(), ""); len(groups) != 1 || groups[0].Count != n {
		t.Errorf("%+v", groups)
	}
	if c := s.cells[traceKey{kind: "read"}]; c == nil || c.count != n-traceCellsMax {
		t.Errorf("the others: %+v", c)
	}
}

// TestTraceSumDoesNotDivideTheRest: when all cells are taken, what comes goes to one for all devices, and does not grow with their number.
func TestTraceSumDoesNotDivideTheRest(t *testing.T) {
	s := newTraceSum(1)
	for i := range traceCellsMax {
		s.add(record(100, "a", "x", nvmf.QID(i+1)))
	}
	for i := range 1000 {
		s.add(record(100, fmt.Sprintf("disk%d", i), "y", 1))
	}
	c := s.cells[traceKey{kind: bdev.Read.String()}]
	if len(s.cells) != traceCellsMax+1 || c == nil || c.count != 1000 {
		t.Fatalf("%d cells, %+v", len(s.cells), c)
	}
	if n := len(c.stages[nvmf.TraceDevice].parts); n != 0 {
		t.Errorf("the rest is divided among %d devices", n)
	}
}
