package ctl

import (
	"encoding/base64"
	"encoding/binary"
	"strings"
	"testing"

	"github.com/pollux-storage/pollux/bdev"
	"github.com/pollux-storage/pollux/ctl/api"
)

// pythonHistogram reads a histogram as SPDK's scripts/histogram.py does, and gives the counts that it prints, by the lower and
// upper bound of their bucket in nanoseconds. (It reads all ranges but the last.)
func pythonHistogram(t *testing.T, result map[string]any) map[[2]uint64]uint64 {
	t.Helper()
	counts, err := base64.StdEncoding.DecodeString(result["histogram"].(string))
	if err != nil {
		t.Fatal(err)
	}
	number := func(name string) uint64 {
		v, ok := result[name].(float64)
		if !ok {
			t.Fatalf("KeyError: %s", name)
		}
		return uint64(v)
	}
	g, low, high := number("granularity"), number("min_range"), number("max_range")
	if number("tsc_rate") != 1e9 {
		t.Fatal("a tick is not a nanosecond")
	}
	out := map[[2]uint64]uint64{}
	bucket := uint64(0)
	for i := range high - low {
		for j := range uint64(1) << g {
			last := bucket
			if i > 0 {
				bucket = 1<<(i+g+low-1) + (j+1)<<(i+low-1)
			} else {
				bucket = (j + 1) << low
			}
			if n := binary.LittleEndian.Uint64(counts[(i<<g+j)*8:]); n > 0 {
				out[[2]uint64{last, bucket}] = n
			}
		}
	}
	return out
}

func TestHistogram(t *testing.T) {
	e, c := dialEngine(t)
	must(t, c, api.BdevNullCreate, api.BdevNullCreateParams{Name: "n0", NumBlocks: 64, BlockSize: 512})
	refused(t, c, api.BdevGetHistogram, api.BdevNameParams{Name: "n0"}, api.CodeInternal, "turn it on with bdev_enable_histogram")
	refused(t, c, api.BdevGetHistogram, api.BdevNameParams{Name: "none"}, -19, "none")
	refused(t, c, api.BdevEnableHistogram, api.BdevEnableHistogramParams{Name: "none", Enable: true}, -19, "none")
	refused(t, c, api.BdevEnableHistogram, api.BdevEnableHistogramParams{Name: "n0", Enable: true, Opc: "zcopy"}, api.CodeInvalidParams, "compare_and_write")
	refused(t, c, api.BdevEnableHistogram, api.BdevEnableHistogramParams{Name: "n0", Enable: true, MinNsec: new(uint64(10)), MaxNsec: 10}, -22, "must be above")
	refused(t, c, api.BdevEnableHistogram, api.BdevEnableHistogramParams{Name: "n0", Enable: true, Granularity: new(uint8(30))}, -22, "lower granularity")

	must(t, c, api.BdevEnableHistogram, api.BdevEnableHistogramParams{Name: "n0", Enable: true})
	u := openDevice(t, e, "n0")
	defer u.close()
	for range 3 {
		u.do(e, bdev.Write, make([]byte, 512))
	}
	h := must(t, c, api.BdevGetHistogram, api.BdevNameParams{Name: "n0"})
	if h.Granularity != 7 || h.MinRange != 3 || h.MaxRange != 30 || h.TSCRate != 1e9 { // the ranges of 1 us and of 120 s in ns
		t.Errorf("%+v", h)
	}
	python := &pythonClient{sock: (&rig{path: serveEngine(t, e)}).dial(t)}
	result, err := python.call("bdev_get_histogram", map[string]any{"name": "n0"})
	if err != nil {
		t.Fatal(err)
	}
	sum := uint64(0)
	for _, n := range pythonHistogram(t, result.(map[string]any)) {
		sum += n
	}
	if sum != 3 {
		t.Errorf("a script reads %d operations, want 3", sum)
	}

	borders := must(t, c, api.BdevGetHistogramBorders, api.BdevGetHistogramBordersParams{Name: "n0", Borders: []uint64{0, 60_000_000, 1 << 63}})
	if n := borders.BordersCount; len(n) != 4 || n[1] != 3 || n[2] != 3 || n[3] != 3 {
		t.Error(n)
	}
	if n := must(t, c, api.BdevGetHistogramBorders, api.BdevGetHistogramBordersParams{Name: "n0", Borders: []uint64{}}).BordersCount; len(n) != 1 || n[0] != 3 {
		t.Error(n)
	}
	refused(t, c, api.BdevGetHistogramBorders, api.BdevGetHistogramBordersParams{Name: "n0", Borders: []uint64{2, 1}}, -22, "rise")

	must(t, c, api.BdevEnableHistogram, api.BdevEnableHistogramParams{Name: "n0", Enable: true, Opc: "READ"})
	u.do(e, bdev.Write, make([]byte, 512))
	u.do(e, bdev.Read, make([]byte, 512))
	if n := must(t, c, api.BdevGetHistogramBorders, api.BdevGetHistogramBordersParams{Name: "n0", Borders: []uint64{}}).BordersCount; n[0] != 1 {
		t.Errorf("%d reads", n[0])
	}
	must(t, c, api.BdevEnableHistogram, api.BdevEnableHistogramParams{Name: "n0"})
	refused(t, c, api.BdevGetHistogram, api.BdevNameParams{Name: "n0"}, api.CodeInternal, "turn it on")
	if text := reload(t, c, "bdev"); strings.Contains(text, "histogram") {
		t.Error("it is saved; SPDK does not")
	}
}
