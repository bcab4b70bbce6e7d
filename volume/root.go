package volume

import (
	"errors"
	"fmt"
)

// This file is how the root of a pool is read when it is opened, and by which of two it is opened (V-12).
//
//	slot ─▶ sides of the bitmap
//	     ─▶ top of the directory ─▶ pages of the directory ─▶ volume pages
//
// A root is whole or it is none. Where the newest slot's is not, the pool is opened by the older slot: reclaim follows that (V-13), so
// whatever it leads to is as it was when it was committed. Pages that left the root rest until the slot is written over, and of blocks that
// were written in place since then, as of all that is newer, the logs have every record. What an act of control has promised is in both
// slots when it returns (Pool.twice).
//
// A slot whose root is not whole is wiped before anything else is written. Its damage may be one that goes away, a device that did not
// read; what it leads to is used again from now on as if the slot were not there.
//
// Where the page of a volume is damaged under both, the pool is opened by the newest without that volume (damaged.go).
//
// Maps are not part of it: a page of a map that is damaged is met when it is needed, and is damaged in both roots in most cases. Reads
// below it are answered with StatusCorrupt, and a volume that cannot bring a change home takes no more of them.

// problem notes what whoever operates the pool should know.
func (p *Pool) problem(format string, args ...any) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.problems = append(p.problems, fmt.Sprintf(format, args...))
}

// root is what a slot leads to, in memory.
type root struct {
	slot      *Slot
	older     *Slot // nil if that root is not whole
	alloc     *Allocator
	directory rootDirectory
	volumes   map[uint64]foundVolume // by position
	marks     map[uint64]mark        // checkpoints that the older root has
	unread    error                  // why volumes are not there, of whose pages nothing can be had; nil if all are
}

// openRoot reads the newest root that is whole, or else the newest without the volumes whose pages are damaged.
func (p *Pool) openRoot(newest, older *Slot) (*root, error) {
	r, err := p.readRoot(newest, older)
	if err == nil {
		err = r.unread
	}
	if err == nil || errors.Is(err, ErrVersion) {
		return r, err
	}
	if older != nil {
		o, olderErr := p.readRoot(older, nil)
		if olderErr == nil {
			olderErr = o.unread
		}
		if olderErr == nil {
			p.problem("opened by the older slot, of generation %d: what generation %d leads to is damaged: %v; "+
				"nothing durable is missing, but check the device", older.Generation, newest.Generation, err)
			return o, nil
		}
		err = fmt.Errorf("by slot %d, of generation %d: %w; and by slot %d, of generation %d: %w",
			newest.Number, newest.Generation, err, older.Number, older.Generation, olderErr)
	}
	if r == nil {
		return nil, err
	}
	r.older, r.marks = nil, nil
	return r, nil
}

// readRoot reads what a slot leads to; older is the other slot, if that is valid.
func (p *Pool) readRoot(s, older *Slot) (*root, error) {
	r := &root{slot: s, older: older, alloc: OpenAllocator(s, older), marks: map[uint64]mark{}}
	if err := p.readBitmap(r.alloc); err != nil {
		return nil, err
	}
	r.directory.p = p
	if err := p.readDirectory(s, &r.directory); err != nil {
		return nil, err
	}
	r.volumes = p.readVolumes(&r.directory, s.Pages)
	if r.unread = wholeVolumes(r.volumes); older == nil {
		return r, nil
	}
	var directory rootDirectory
	var volumes map[uint64]foundVolume
	err := p.readDirectory(older, &directory)
	if err == nil {
		volumes = p.readVolumes(&directory, older.Pages)
		err = wholeVolumes(volumes)
	}
	if err != nil || !r.alloc.OlderWhole() {
		r.older = nil
		return r, nil
	}
	for at, v := range volumes {
		r.marks[at] = mark{lsn: v.page.Checkpoint, offset: v.page.LogOffset}
	}
	return r, nil
}

func wholeVolumes(all map[uint64]foundVolume) error {
	first, why := uint64(0), error(nil)
	for at, f := range all {
		if f.err != nil && (why == nil || at < first) {
			first, why = at, f.err
		}
	}
	if why != nil {
		return fmt.Errorf("reading the page of the volume at position %d: %w", first, why)
	}
	return nil
}

// readBitmap reads all sides into the allocator. Of a page whose sides cannot be read together each is read alone: one is enough.
func (p *Pool) readBitmap(a *Allocator) error {
	mem := pageMemory(sides)
	side := [sides][]byte{mem[:PageBytes], mem[PageBytes : 2*PageBytes], mem[2*PageBytes:]}
	for i := range a.BitmapPages() {
		if err := p.disk.read(a.SidesPlace(i), mem); err != nil {
			var failed error
			for n := range side {
				if e := p.disk.read(a.SidesPlace(i)+Place(n), side[n]); e != nil {
					clear(side[n])
					failed = errors.Join(failed, e)
				}
			}
			if err := a.Load(i, side); err != nil {
				return errors.Join(err, failed)
			}
			continue
		}
		if err := a.Load(i, side); err != nil {
			return err
		}
	}
	return a.Loaded()
}

// twice commits once more what was committed, so that the older slot has it as well.
func (p *Pool) twice() error { return p.change(&commitMessage{}) }
