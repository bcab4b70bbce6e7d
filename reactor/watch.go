package reactor

import (
	"slices"
	"sync"
)

// This file is who hears of the chunks of a pool: cards of a network, which reach only memory that was registered with them before.
//
// Registering takes milliseconds, so none of it is the reactor's. A chunk is announced by the thread that backs it, ahead of need; those that
// were there before are announced by Watch, on the goroutine that calls it.

// ChunkWatcher hears of a pool's chunks.
type ChunkWatcher interface {
	// Chunk hears of the i-th chunk before any buffer of it is lent, once. It is not on the reactor, unless the pool was exhausted faster
	// than a chunk could be prepared. An error lets the pool end before this chunk, for all who use it.
	Chunk(i int, b []byte) error
	// Holds reports whether b is lent to somebody beside who gives it back. It is asked on the reactor, where expensive checks are compiled in.
	Holds(b []byte) bool
}

// chunkWatch is a pool's watchers.
type chunkWatch struct {
	calling   sync.Mutex // held while watchers hear of a chunk
	mu        sync.Mutex
	list      []ChunkWatcher // never altered, but replaced
	announced int            // chunks that those in the list have heard of, or hear of now
}

// announce lets the watchers hear of the i-th chunk.
func (w *chunkWatch) announce(i int, chunk []byte) error {
	w.calling.Lock()
	defer w.calling.Unlock()
	w.mu.Lock()
	w.announced++
	list := w.list
	w.mu.Unlock()
	for _, o := range list {
		if err := o.Chunk(i, chunk); err != nil {
			w.mu.Lock()
			w.announced--
			w.mu.Unlock()
			return err
		}
	}
	return nil
}

func (w *chunkWatch) holds(b []byte) bool {
	w.mu.Lock()
	list := w.list
	w.mu.Unlock()
	return slices.ContainsFunc(list, func(o ChunkWatcher) bool { return o.Holds(b) })
}

// Watch lets o hear of all chunks that there are, and from then on of each that comes. Any goroutine but a reactor may call it. After an error o
// hears of no more.
func (m *Memory) Watch(o ChunkWatcher) error {
	w := &m.watch
	for told := 0; ; {
		w.mu.Lock()
		n := w.announced
		if n == told {
			w.list = append(slices.Clone(w.list), o)
			w.mu.Unlock()
			return nil
		}
		w.mu.Unlock()
		for ; told < n; told++ {
			at := told * chunkBytes
			if err := o.Chunk(told, m.pool[at:at+chunkBytes:at+chunkBytes]); err != nil {
				return err
			}
		}
	}
}

// Unwatch ends that: o hears of nothing once it has returned. Any goroutine but a reactor may call it.
func (m *Memory) Unwatch(o ChunkWatcher) {
	w := &m.watch
	w.calling.Lock()
	w.mu.Lock()
	w.list = slices.DeleteFunc(slices.Clone(w.list), func(x ChunkWatcher) bool { return x == o })
	w.mu.Unlock()
	w.calling.Unlock()
}

// Range is all the addresses that the pool may ever lend of. Any goroutine may ask; most of it is no memory yet.
func (m *Memory) Range() []byte { return m.pool }
