package ctl

import "sync"

// history keeps the newest of a row of things, each under a number that only grows. A reader who comes too late for a number
// gets the oldest that is left.
type history[T any] struct {
	mu    sync.Mutex
	kept  []T // the number n stands at n % cap
	next  uint64
	limit int
}

// add numbers a thing and keeps it; made gets its number.
func (h *history[T]) add(made func(id uint64) T) {
	h.mu.Lock()
	defer h.mu.Unlock()
	item := made(h.next)
	if len(h.kept) < h.limit {
		h.kept = append(h.kept, item)
	} else {
		h.kept[h.next%uint64(h.limit)] = item
	}
	h.next++
}

// from lists what is kept from a number on that fits, at most limit of it (nil is no limit).
func (h *history[T]) from(id uint64, limit *uint64, fits func(*T) bool) []T {
	h.mu.Lock()
	defer h.mu.Unlock()
	var list []T
	for n := max(id, h.next-uint64(len(h.kept))); n < h.next; n++ {
		if limit != nil && uint64(len(list)) >= *limit {
			break
		}
		if item := &h.kept[n%uint64(h.limit)]; fits(item) {
			list = append(list, *item)
		}
	}
	return list
}
