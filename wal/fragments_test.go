package wal

import (
	"testing"

	"github.com/pollux-storage/pollux/bdev/bdevsim"
	"github.com/pollux-storage/pollux/internal/sim"
)

// finding notes the records of fragments. Of a placed one with an odd tag the record alone is not enough.
type finding map[LSN]bool

func (f finding) LogFound(r *Record, payload []byte) bool {
	f[r.LSN] = r.Kind != KindPlaced || payload != nil || r.Block%2 == 0
	return f[r.LSN]
}

// TestFragmentsMissNothing: logs of several lives, torn by power cuts and written on, of which pages cannot be read. Wherever nothing is
// said to be unknown, every record that a reader of the whole log accepts was found. One page within a batch hides nothing.
func TestFragmentsMissNothing(t *testing.T) {
	sim.Each(t, 20, nil, func(t *testing.T, seed uint64) {
		r := sim.Stream(seed, "script")
		w := bdevsim.NewWorld(t, seed, 1)
		from := State{Offset: Offset(r.Uint64N(ringPages)) * PageBytes, LSN: 5, Life: 1}
		from.Tail = from.Offset
		d := w.Disk("Disk0", diskBytes)
		tag, lives := uint64(0), 10+r.IntN(5)
		var image *sim.Image
		for range lives {
			m := newMachine(w, d, 0)
			o := m.open(from)
			for range 1 + r.IntN(4) {
				var all []*add
				m.on(func() {
					for range 1 + r.IntN(9) {
						a := newAdd(o)
						tag++
						kind, pages := KindPlaced, 1
						if r.IntN(2) == 0 {
							kind, pages = KindWrite, r.IntN(10)
						}
						if !a.put(tag, kind, pages) {
							t.Fatal("the log is full")
						}
						all = append(all, a)
					}
				})
				m.w.Run("all is written", func() bool { return all[len(all)-1].written })
				if r.IntN(4) == 0 {
					o.sync()
				}
			}
			image = m.disk.Snapshot().Crash(sim.Random(r, r.Float64()))
			w.Reboot()
			d = w.Open("Disk0", image)
		}
		m := newMachine(w, d, 0)
		o := m.recover(from, 0)
		if o.wound != nil {
			t.Fatal(o.wound)
		}
		used := int(o.log.Used()/PageBytes) + 8
		if len(o.lsns) == 0 {
			return
		}
		look := func(unread ...int) error {
			t.Helper()
			found := finding{}
			f, err := NewFragments(m.cfg, from, found)
			if err != nil {
				t.Fatal(err)
			}
			page, pages := make([]byte, PageBytes), 0
			for at, n := f.Next(); n > 0; at, n = f.Next() {
				for i := range n {
					image.ReadAt(page, (at+i)*PageBytes)
					one := page
					for _, u := range unread {
						if u == pages {
							one = nil
						}
					}
					f.Page(one)
					pages++
				}
			}
			if pages != ringPages || len(f.Unread()) != len(unread) {
				t.Fatalf("%d pages were read, of which %d cannot be", pages, len(f.Unread()))
			}
			if f.Unknown() == nil {
				for _, n := range o.lsns {
					if !found[n] {
						t.Fatalf("without pages %v nothing is said to be unknown, and LSN %d is", unread, n)
					}
				}
			}
			return f.Unknown()
		}
		if err := look(); err != nil {
			t.Errorf("of a log that is whole: %v", err)
		}
		known := 0
		for i := range used {
			if look(i) == nil {
				known++
			}
			n := i + 1 + r.IntN(3)
			look(i, n)
			look(i, n, n+1+r.IntN(5))
		}
		if known < used/4 {
			t.Errorf("of %d pages only %d hide nothing", used, known)
		}
		if look(used+100, used+101) != nil {
			t.Error("pages behind the end hide something")
		}
	})
}
