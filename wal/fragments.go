package wal

import "fmt"

// This file is what can be known of a log of which pages cannot be read. Nothing is accepted or cut by it: it gives all records that the log may
// have, and maybe some that it has not, since a batch is looked at wherever its header stands in its own place. Whoever keeps the places from
// others that they name loses nothing.
//
// They are all if no page that cannot be read may be a header that counts. It is none
//
//	within a batch, if it is the only such page there and no other header stands within: had the batch been torn, and the log been cut
//	there, the life that began then would have left headers. One page hides the first, which has no records, or the second, but not both
//	behind the last batch, if the page right behind that can be read: batches follow each other without a gap

// Finding takes the records of fragments.
type Finding interface {
	// LogFound takes a record. payload is that of a placed one, nil if it cannot be read: false says that the record is not enough.
	LogFound(r *Record, payload []byte) (known bool)
}

// Fragments gathers them, page by page.
type Fragments struct {
	cfg     Config
	area    area
	from    Offset
	next    Offset
	to      Finding
	waiting []Record // placed ones of the last batch, whose payload is to come
	batches []stretch
	unread  []Offset
	unknown error
}

// stretch is the pages of a batch.
type stretch struct{ first, end Offset }

// NewFragments looks at the log that begins at a state.
func NewFragments(cfg Config, from State, to Finding) (*Fragments, error) {
	a, err := newArea(cfg.Extents)
	return &Fragments{cfg: cfg, area: a, from: from.Offset, next: from.Offset, to: to}, err
}

// Next gives the page of the device from which on the next pages are to be read, and how many at once; 0 at the end.
func (f *Fragments) Next() (place, pages uint64) {
	left := uint64(f.from+Offset(f.area.bytes)) - uint64(f.next)
	if left == 0 {
		return 0, 0
	}
	position, run := f.area.find(f.next)
	return position / PageBytes, min(run, left, windowBytes) / PageBytes
}

// Page takes the next page; nil is one that cannot be read.
func (f *Fragments) Page(page []byte) {
	at := f.next
	f.next += PageBytes
	if page == nil {
		f.unread = append(f.unread, at)
	}
	if n := len(f.waiting); n > 0 && f.waiting[0].Offset == at {
		f.placed(page)
	}
	var h header
	if page == nil || h.get(page) != nil || h.volume != f.cfg.Volume || h.lineage != f.cfg.Lineage || h.offset != at {
		return
	}
	f.batches = append(f.batches, stretch{at, at + Offset(h.pages)*PageBytes})
	if err := f.batch(page, &h); err != nil && f.unknown == nil {
		f.unknown = err
	}
}

// placed hands over the record whose payload this page is. If it is not that, the record does not count.
func (f *Fragments) placed(page []byte) {
	r := &f.waiting[0]
	f.waiting = f.waiting[1:]
	if page != nil && crcOfCRCs([]uint32{PageCRC(page)}) != r.CRC {
		return
	}
	if !f.to.LogFound(r, page) && f.unknown == nil {
		f.unknown = fmt.Errorf("the places of LSN %d cannot be read", r.LSN)
	}
}

// batch takes the records of a header. What is left of the batch before was written over.
func (f *Fragments) batch(page []byte, h *header) error {
	f.waiting = f.waiting[:0]
	if err := h.check(); err != nil {
		return err
	}
	payload := h.offset + PageBytes
	for i := range h.records {
		r := Record{LSN: h.first + LSN(i), Epoch: h.epoch, Offset: payload}
		if err := r.get(recordAt(page, i)); err != nil {
			return err
		}
		payload += Offset(r.Pages) * PageBytes
		if r.Kind != KindPlaced {
			f.to.LogFound(&r, nil)
			continue
		}
		if r.Pages != 1 {
			return fmt.Errorf("%w: LSN %d names places on %d pages", ErrVersion, r.LSN, r.Pages)
		}
		f.waiting = append(f.waiting, r)
	}
	return nil
}

// Unread gives the pages of the device that could not be read.
func (f *Fragments) Unread() []uint64 {
	var all []uint64
	for _, at := range f.unread {
		position, _ := f.area.find(at)
		all = append(all, position/PageBytes)
	}
	return all
}

// Unknown says why there may be records that were not found, nil if there are none. All pages were taken.
func (f *Fragments) Unknown() error {
	if f.unknown != nil || len(f.unread) == 0 {
		return f.unknown
	}
	last := f.from
	for _, b := range f.batches {
		last = max(last, b.end)
	}
	for i, at := range f.unread {
		if at > last || f.within(i) { // the one at last, if that cannot be read, is among them
			continue
		}
		position, _ := f.area.find(at)
		return fmt.Errorf("page %d, which cannot be read, may name places of its data", position/PageBytes)
	}
	return nil
}

// within says that a page that cannot be read is of a batch, and no header.
func (f *Fragments) within(i int) bool {
	at := f.unread[i]
	for k, b := range f.batches {
		if at <= b.first || at >= b.end {
			continue
		}
		return (k+1 == len(f.batches) || f.batches[k+1].first >= b.end) && (i == 0 || f.unread[i-1] <= b.first) &&
			(i+1 == len(f.unread) || f.unread[i+1] >= b.end)
	}
	return false
}
