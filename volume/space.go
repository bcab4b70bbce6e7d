package volume

import "fmt"

// This file is what is told about the space of a pool.

// Space counts pages. Total = Used + Free; Used = Root + Granted + Resting.
type Space struct {
	Total    uint64
	Root     uint64 // the root refers to them: data, maps, logs, slots, bitmap
	Granted  uint64 // handed out
	Resting  uint64 // left the root; free after the next commits
	Free     uint64
	Reserved uint64 // of those free: promised
	Cushion  uint64 // of those free: kept for trim and deletion
	Clusters uint64 // of which every page is free
}

// Space counts.
func (a *Allocator) Space() Space {
	b := a.bits
	s := Space{
		Total: b.pages, Root: b.committedPages, Resting: a.resting, Free: b.freePages(),
		Reserved: a.reserved.Clusters<<b.shift + a.reserved.Pages, Cushion: a.cushion, Clusters: b.wholeClusters,
	}
	s.Granted = s.Total - s.Free - s.Root - s.Resting
	return s
}

// Fill is how full a pool is.
type Fill uint8

// The degrees.
const (
	FillNormal   Fill = iota
	FillHigh          // above the first watermark
	FillCritical      // above the second
	FillFull          // ordinary reservations of a cluster are refused
)

func (f Fill) String() string {
	switch f {
	case FillNormal:
		return "normal"
	case FillHigh:
		return "high"
	case FillCritical:
		return "critical"
	case FillFull:
		return "full"
	}
	return fmt.Sprintf("fill %d", uint8(f))
}

// Watermarks are parts of a pool in thousandths, used or reserved, from which on it is called high or critical.
type Watermarks struct{ High, Critical uint64 }

// DefaultWatermarks are 80 % and 95 %.
var DefaultWatermarks = Watermarks{High: 800, Critical: 950}

// Fill says how full the pool is.
func (a *Allocator) Fill(w Watermarks) Fill {
	s := a.Space()
	taken := s.Total - s.Free + s.Reserved
	switch {
	case !a.fits(a.reserved.Clusters+1, a.reserved.Pages, Ordinary):
		return FillFull
	case taken >= share(s.Total, w.Critical):
		return FillCritical
	case taken >= share(s.Total, w.High):
		return FillHigh
	}
	return FillNormal
}

// share is so many thousandths of the whole; what numbers of pages there are leaves room for the product.
func share(whole, thousandths uint64) uint64 { return whole * thousandths / 1000 }

const _ = uint(1<<63/pagesMax - 1000) // does not compile if part could wrap around

// MemoryBytes is what the allocator keeps, without the lists of what rests.
func (a *Allocator) MemoryBytes() uint64 { return a.bits.memoryBytes() }
