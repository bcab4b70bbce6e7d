package rdmatest

import "fmt"

// table gives objects handles. A handle is never given twice, so that one of a destroyed object is recognised.
//
//	bits 63..28 generation of the slot · 27..24 kind · 23..0 slot
type table[T any] struct {
	kind  uintptr
	what  string
	slots []slot[T]
	free  []int
	alive int
}

type slot[T any] struct {
	v          *T
	generation uintptr
}

func (t *table[T]) add(v *T) uintptr {
	var i int
	if n := len(t.free); n > 0 {
		i, t.free = t.free[n-1], t.free[:n-1]
	} else {
		i = len(t.slots)
		t.slots = append(t.slots, slot[T]{})
	}
	t.slots[i].v = v
	t.slots[i].generation++
	t.alive++
	return t.slots[i].generation<<28 | t.kind<<24 | uintptr(i)
}

// get finds what h is the handle of, and panics if it is none: who uses such a handle would make the real libraries read freed memory.
func (t *table[T]) get(h uintptr) *T {
	i := h & (1<<24 - 1)
	if h>>24&15 != t.kind || i >= uintptr(len(t.slots)) || t.slots[i].generation != h>>28 || t.slots[i].v == nil {
		t.unknown(h)
	}
	return t.slots[i].v
}

// find is get for handles that another goroutine may have destroyed: nil then.
func (t *table[T]) find(h uintptr) *T {
	i := h & (1<<24 - 1)
	if h>>24&15 != t.kind || i >= uintptr(len(t.slots)) || t.slots[i].generation != h>>28 {
		return nil
	}
	return t.slots[i].v
}

func (t *table[T]) unknown(h uintptr) {
	panic(fmt.Sprintf("rdmatest: %#x is no %s, or one that is destroyed", h, t.what))
}

func (t *table[T]) remove(h uintptr) {
	t.get(h)
	i := int(h & (1<<24 - 1))
	t.slots[i].v = nil
	t.free = append(t.free, i)
	t.alive--
}

func (t *table[T]) each(do func(*T)) {
	for i := range t.slots {
		if v := t.slots[i].v; v != nil {
			do(v)
		}
	}
}
