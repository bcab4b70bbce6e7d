package initiator

import (
	"strings"
	"testing"

	"github.com/pollux-storage/pollux/bdev"
	"github.com/pollux-storage/pollux/bdev/bdevtest"
)

// spinner keeps requests of one kind in flight on one reactor, without looking at the data.
type spinner struct {
	d     *disk
	i     int // reactor
	qs    []bdev.Request
	left  int
	open  int
	bad   bdev.Status
	ended chan struct{}
}

// spin prepares so many requests of a kind for a reactor, one every apart blocks, with data in pieces of a page.
func (d *disk) spin(i, requests int, k bdev.Kind, bytes, apart int) *spinner {
	s := &spinner{d: d, i: i, qs: make([]bdev.Request, requests), ended: make(chan struct{}, 1)}
	for j := range s.qs {
		q := &s.qs[j]
		q.Kind, q.LBA, q.Blocks, q.Done = k, uint64(j*apart), uint64(bytes/4096), s
		q.Data = pieces(make([]byte, bytes), 4096)
	}
	return s
}

// pooled gives them data in the reactor's pool instead.
func (s *spinner) pooled() {
	for j := range s.qs {
		b := s.d.h.pool(s.i, int(s.qs[j].Blocks)*4096)
		clear(b)
		s.qs[j].Data = [][]byte{b}
	}
}

// run sends all of them, and again as they end, more times altogether, and waits for the last.
func (s *spinner) run(more int) {
	if err := s.d.h.group.Reactor(s.i).Go(func() {
		s.left, s.open = more, len(s.qs)
		for j := range s.qs {
			s.d.channels[s.i].Submit(&s.qs[j])
		}
	}); err != nil {
		s.d.h.t.Error(err)
		return
	}
	<-s.ended
}

func (s *spinner) RequestDone(q *bdev.Request) {
	if q.Status != bdev.StatusOK {
		s.bad = q.Status
	}
	if s.left > 0 {
		s.left--
		s.d.channels[s.i].Submit(q)
		return
	}
	if s.open--; s.open == 0 {
		s.ended <- struct{}{}
	}
}

// wantQuiet fails if a reactor allocates, or waits for a lock, each time that run runs. What is in a stack with not is somebody else's.
func (s *spinner) wantQuiet(t *testing.T, not string, run func()) {
	t.Helper()
	run() // what grows to a high-water mark grows here
	for where, times := range bdevtest.AlwaysOnReactors(run) {
		if not == "" || !strings.Contains(where, not) {
			t.Errorf("reactor %d: %d allocations in a run:\n%s", s.i, times, where)
		}
	}
	for where, times := range bdevtest.WaitsOnReactors(run) {
		if not == "" || !strings.Contains(where, not) {
			t.Errorf("reactor %d: a reactor waited %d times in a run:\n%s", s.i, times, where)
		}
	}
	if s.bad != bdev.StatusOK {
		t.Errorf("reactor %d: %v", s.i, s.bad)
	}
}

// fabricsOwn is what the fabric in memory does on reactors: its cards share a lock, and the race detector allocates there.
const fabricsOwn = "rdmatest."
