//go:build amd64

package initiator

import (
	"cmp"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/pollux-storage/pollux/internal/insn"
)

// BenchmarkRDMAInstructions counts the instructions of each command of BenchmarkRDMA, in user mode, by whose they are: the initiator, from the request
// to its end; the target, from the card's completion to its device and back to the card; each with what package rdma and the runtime do for it; the
// reactor that carries them. What the fabric does, which no card asks of a processor, is left out. With -v it lists functions.
func BenchmarkRDMAInstructions(b *testing.B) {
	for _, kind := range []string{"read", "write"} {
		for _, batch := range []int{1, 8, 32} {
			b.Run(fmt.Sprintf("%s,batch=%d", kind, batch), func(b *testing.B) { countRDMA(b, kind, batch) })
		}
	}
}

const (
	module = "github.com/pollux-storage/pollux/"
	unsure = "?"
)

// rdmaOwner says whose a call is, in a process that is both ends: what calls of the reactor's begin is known by the object.
type rdmaOwner map[uint64]string

func (o rdmaOwner) enter(function string, argument uint64, parent string) (owner string, leave bool) {
	name, ours := strings.CutPrefix(function, module)
	learn := func(who string) string {
		if of, ok := strings.CutPrefix(parent, unsure); ok {
			var object uint64
			if _, err := fmt.Sscan(of, &object); err == nil {
				o[object] = who
			}
		}
		return who
	}
	switch {
	case !ours:
		return parent, false
	case strings.HasPrefix(name, "rdma/rdmatest."):
		return "fabric", true
	case strings.HasPrefix(name, "reactor"):
		return cmp.Or(parent, "reactor"), false
	case strings.HasPrefix(name, "nvmf/initiator."):
		return learn("initiator"), false
	case strings.HasPrefix(name, "nvmf."):
		if parent == "initiator" {
			return parent, false
		}
		return learn("target"), false
	case strings.HasPrefix(name, "rdma.(*lane).Poll"), strings.HasPrefix(name, "rdma.(*poster)."):
		if strings.HasPrefix(parent, "initiator") || strings.HasPrefix(parent, "target") {
			o[argument] = parent
			return parent, false
		}
		if who := o[argument]; who != "" {
			return who, false
		}
		return fmt.Sprint(unsure, argument), false
	case strings.HasPrefix(name, "bdev.") && (parent == "" || parent == "reactor"):
		return "target", false // its device, which completes in a moment
	}
	return parent, false
}

func countRDMA(b *testing.B, kind string, batch int) {
	counted := map[int]int{1: 27, 8: 9, 32: 3}[batch] // about as often as answers and capsules that are told come round
	o := rdmaOwner{}
	spans, err := insn.Run{
		Command: []string{os.Args[0], "-test.run=^$", fmt.Sprintf("-test.bench=^BenchmarkRDMA$/^%s,batch=%d$", kind, batch), "-test.benchtime=1x"},
		At:      module + "nvmf/initiator.(*turnOf).Run", Skip: warmUp / 2, Spans: counted, Enter: o.enter,
	}.Count()
	if err != nil {
		b.Fatal(err)
	}
	places, owners := map[insn.Where]float64{}, map[string]float64{}
	for _, span := range spans {
		for w, n := range span {
			each := float64(n) / float64(batch*len(spans))
			places[w] += each
			owners[cmp.Or(w.Owner, "reactor")] += each
		}
	}
	b.ReportMetric(0, "ns/op")
	for who, n := range owners {
		b.ReportMetric(n, who+"-insn/command")
	}
	if testing.Verbose() {
		for _, w := range slices.SortedFunc(maps.Keys(places), func(x, y insn.Where) int { return cmp.Compare(places[y], places[x]) }) {
			if places[w] >= 1 {
				b.Logf("%8.1f  %-10s %s", places[w], w.Owner, strings.TrimPrefix(w.Function, module))
			}
		}
	}
}
