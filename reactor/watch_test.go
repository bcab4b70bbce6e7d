package reactor_test

import (
	"errors"
	"slices"
	"sync"
	"testing"
	"unsafe"

	"github.com/pollux-storage/pollux/reactor"
)

// watcher keeps what it heard of.
type watcher struct {
	mu     sync.Mutex
	chunks map[int][]byte
	fail   error
	twice  bool
}

func (w *watcher) Chunk(i int, b []byte) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.fail != nil {
		return w.fail
	}
	if w.chunks == nil {
		w.chunks = map[int][]byte{}
	}
	w.twice = w.twice || w.chunks[i] != nil
	w.chunks[i] = b
	b[0] = 1 // it is memory
	return nil
}

func (w *watcher) Holds([]byte) bool { return false }

// knows reports whether b lies in a chunk that it heard of.
func (w *watcher) knows(b []byte) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	at := uintptr(unsafe.Pointer(&b[0]))
	for _, c := range w.chunks {
		if at-uintptr(unsafe.Pointer(&c[0])) < uintptr(len(c)) {
			return true
		}
	}
	return false
}

func TestAWatcherHearsOfEachChunkBeforeItIsLent(t *testing.T) {
	const chunks = 4
	r := start(t, reactor.Config{MemoryBytes: chunks * reactor.ChunkBytes}).Reactor(0)
	var first, second watcher
	if err := r.Memory().Watch(&first); err != nil {
		t.Fatal(err)
	}
	if len(first.chunks) == 0 {
		t.Error("it did not hear of what there was")
	}
	var all [][]byte
	take := func(n int) {
		for range n {
			b := r.Memory().Get(reactor.BufferMax)
			if b == nil {
				t.Error("no memory")
				return
			}
			if !first.knows(b) {
				t.Error("a buffer of a chunk that it did not hear of")
			}
			all = append(all, b)
		}
	}
	half := chunks / 2 * reactor.ChunkBytes / reactor.BufferMax
	on(t, r, func() { take(half) })
	if err := r.Memory().Watch(&second); err != nil {
		t.Fatal(err)
	}
	on(t, r, func() { take(half) })
	for _, w := range []*watcher{&first, &second} {
		if len(w.chunks) != chunks || w.twice {
			t.Errorf("it heard of %d chunks, twice: %v", len(w.chunks), w.twice)
		}
	}
	for _, b := range all {
		if !second.knows(b) {
			t.Error("the second did not hear of a chunk")
		}
	}
	if base := r.Memory().Range(); len(base) != chunks*reactor.ChunkBytes || !slices.ContainsFunc(all, func(b []byte) bool { return &b[0] == &base[0] }) {
		t.Error("the range is not where buffers are")
	}
	r.Memory().Unwatch(&first)
	r.Memory().Unwatch(&second)
	on(t, r, func() {
		for _, b := range all {
			r.Memory().Put(b)
		}
	})
}

func TestAChunkThatAWatcherRefusesIsNeverLent(t *testing.T) {
	r := start(t, reactor.Config{MemoryBytes: 4 * reactor.ChunkBytes}).Reactor(0)
	refused := errors.New("no more")
	w := &watcher{}
	if err := r.Memory().Watch(w); err != nil {
		t.Fatal(err)
	}
	w.mu.Lock()
	w.fail = refused
	w.mu.Unlock()
	on(t, r, func() {
		var all [][]byte
		for b := r.Memory().Get(reactor.BufferMax); b != nil; b = r.Memory().Get(reactor.BufferMax) {
			if !w.knows(b) {
				t.Error("a buffer of a chunk that it refused")
			}
			all = append(all, b)
		}
		for _, b := range all {
			r.Memory().Put(b)
		}
	})
	if err := r.Memory().Watch(&watcher{fail: refused}); !errors.Is(err, refused) {
		t.Errorf("watching gave %v", err)
	}
	r.Memory().Unwatch(w)
}
