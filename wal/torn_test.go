package wal

import (
	"bytes"
	"testing"

	"github.com/pollux-storage/pollux/bdev/bdevsim"
	"github.com/pollux-storage/pollux/internal/sim"
)

// Of a torn batch the longest valid prefix counts, whatever sectors of it there are, and the log goes on at the byte after (V-7, V-9,
// G-4): what is written then is there after the next opening, and the rest of the torn batch never is.
func TestOfATornBatchTheLongestPrefixCounts(t *testing.T) {
	shapes := [][]int{{0, 0, 0}, {1}, {2, 0, 1, 3}, {0, 1, 0, 0, 2}, {5, 5}, {128, 1, 126}}
	images := 0
	w := bdevsim.NewWorld(t, 1, 1)
	after := bdevsim.NewWorld(t, 2, 1)
	for n, shape := range shapes {
		for _, offset := range []Offset{0, (ringPages - 300) * PageBytes} {
			w.Reboot()
			m := newMachine(w, w.Disk("Disk0", diskBytes), 0)
			from := State{Tail: offset, Offset: offset, Life: 3, Epoch: 2, LSN: 10}
			o := m.open(from)
			header := o.log.Head()
			o.write(100, shape...)
			image := m.disk.Snapshot()
			whole := image.Crash(sim.All)
			for torn := range image.Images(120, uint64(n)) {
				images++
				prefix := validPrefix(&m.cfg, header, shape, torn, whole)
				after.Reboot()
				d := after.Open("Disk0", torn)
				var again []fact
				again = append(again, writes(2, 100, shape...)[:prefix]...)
				am := newMachine(after, d, 0)
				o := am.open(from)
				o.mustHold(11, again)
				o.write(200, 1, 0, 3)
				o.sync()
				o.close()
				again = append(again, writes(2, 200, 1, 0, 3)...)
				for range 2 {
					o = am.open(from)
					o.mustHold(11, again)
					o.close()
				}
			}
		}
	}
	if images < 1000 {
		t.Errorf("only %d images", images)
	}
}

// validPrefix is the number of records of a batch that an image holds whole, seen with other eyes than the reader's.
func validPrefix(cfg *Config, header Offset, shape []int, torn, whole *sim.Image) int {
	a, _ := newArea(cfg.Extents)
	x, y := make([]byte, PageBytes), make([]byte, PageBytes)
	same := func(o Offset) bool {
		p, _ := a.find(o)
		torn.ReadAt(x, p)
		whole.ReadAt(y, p)
		return bytes.Equal(x, y)
	}
	if !same(header) {
		return 0
	}
	at := header + PageBytes
	for i, pages := range shape {
		for range pages {
			if !same(at) {
				return i
			}
			at += PageBytes
		}
	}
	return len(shape)
}
