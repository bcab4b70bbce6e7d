package volume

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/google/uuid"

	"github.com/pollux-storage/pollux/bdev"
	"github.com/pollux-storage/pollux/wal"
)

// This file is volumes that cannot be opened, in a pool whose others can:
//
//	the page of the volume is damaged under both slots   its place in the directory is all that is known
//	its list of snapshots is damaged                     what it may write over is not known
//	a page of its log cannot be read                     the log is neither cut nor written to: what it has may be there at the next import
//
// Such a volume is listed and not served, and nothing that is its own is changed or given to others:
//
//	what the root has                  is in the bitmap, and nobody knows it as his own
//	places that its log names          are claimed, and room for what comes home from it is reserved, if all of that is known
//	                                   (wal.Fragments). Else every cluster that is free could be one: none is handed out as long as the volume
//	                                   is there. Then others have only what they give up themselves, and single pages of clusters that are in
//	                                   use in part
//	snapshots that it may come from    are not deleted
//	its name                           is not given to another; if it is not known, no name is
//
// Nothing of this is written. The next import looks again.

// DamagedVolume is one.
type DamagedVolume struct {
	Position uint64 // in the directory
	Why      error

	// What its page says: all 0 if that is what is damaged.
	Number     VolumeNumber
	Name       string
	UUID       uuid.UUID
	Bytes      uint64
	BlockBytes uint32

	pool   *Pool
	page   VolumePage
	ref    Ref
	places []Place // that are claimed for its log
	owed   credits // that are reserved for what it has
	all    error   // why neither may be all; nil if both are
}

// Problem says what is to be known of it, and done.
func (d *DamagedVolume) Problem() string {
	what, do := fmt.Sprintf("the volume at position %d of the directory", d.Position), ", or delete the volume by force, since what it has is not known"
	switch {
	case d.Number != 0 && d.page.Snapshots > 0:
		what, do = "volume "+d.Name, ", or delete the volume with its snapshots by force"
	case d.Number != 0:
		what, do = "volume "+d.Name, ", or delete the volume"
	}
	text := fmt.Sprintf("%s is damaged and not served: %v; nothing of it was changed: make the device readable and import the pool again%s", what, d.Why, do)
	if d.all != nil {
		text += fmt.Sprintf("; as long as it is there no free cluster of the pool is given to others, since its log may need it (%v)", d.all)
	}
	return text
}

// Health is the volume's: it serves nobody.
func (d *DamagedVolume) Health() Health {
	return Health{State: Unsafe, Score: 1, Reasons: []string{d.Problem()}}
}

// Pool is the pool that it lives in.
func (d *DamagedVolume) Pool() *Pool { return d.pool }

// Damaged lists the volumes that cannot be opened.
func (p *Pool) Damaged() []*DamagedVolume {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Clone(p.damaged)
}

func (p *Pool) setAside(d *DamagedVolume) {
	d.pool = p
	if pg := &d.page; pg.Number != 0 {
		d.Position, d.Number, d.Name, d.UUID, d.Bytes, d.BlockBytes = pg.Position, pg.Number, pg.Name.String(), pg.UUID, pg.Bytes, pg.BlockBytes
	} else {
		d.all = errors.New("where its log is is not known")
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.damaged = append(p.damaged, d)
}

// freeOfDamaged says that no damaged volume has a name. mu is held.
func (p *Pool) freeOfDamaged(name Name) error {
	for _, d := range p.damaged {
		switch {
		case d.Number == 0:
			return fmt.Errorf("%w: the volume at position %d is damaged, and the name may be its", ErrBusy, d.Position)
		case d.page.Name == name:
			return fmt.Errorf("%w by a volume that is damaged", ErrExists)
		}
	}
	return nil
}

// readLogs reads the logs of volumes, takes the places that they name out of the allocator, and lets what they say be dirty again: at once, since
// it is in memory once only, and not for all of them. One whose log the device does not give is set
// aside, where the pool is imported.
func (p *Pool) readLogs(all *[]*Volume, imported bool) error {
	var read []*Volume
	var aside []*Volume
	for _, v := range *all {
		x := v.recovery
		if x.damaged == nil {
			if err := v.readLog(); errors.Is(err, errUnread) {
				x.damaged = fmt.Errorf("reading its log: %w", err)
			} else if err != nil {
				return fmt.Errorf("opening volume %s: reading its log: %w", v.page.Name, err)
			}
		}
		switch {
		case x.damaged == nil:
			if err := v.replay(); err != nil {
				return fmt.Errorf("opening volume %s: recovering it: %w", v.page.Name, err)
			}
			read = append(read, v)
		case imported:
			aside = append(aside, v)
		default:
			return fmt.Errorf("opening volume %s: %w", v.page.Name, x.damaged)
		}
	}
	if !imported {
		return nil
	}
	for i, v := range aside { // what others' logs name is theirs by now
		d, err := v.salvage()
		if err == nil {
			err = v.abandon()
		}
		if err != nil {
			*all = append(read, aside[i:]...)
			return fmt.Errorf("setting volume %s aside: %w", v.page.Name, err)
		}
		p.setAside(d)
	}
	*all = read
	if p.cfg.DeleteDamaged {
		var err error
		if p.deletes, err = p.deleteQuarantining(*all); err != nil {
			return err
		}
	}
	if err := p.r.Call(func() { p.unclean = p.unclean || len(p.damaged) > 0 }); err != nil {
		return err
	}
	return p.quarantine()
}

// salvage claims what the log names, as far as it can be read.
func (v *Volume) salvage() (*DamagedVolume, error) {
	p := v.pool
	d := &DamagedVolume{page: v.page, ref: v.ref, Why: v.recovery.damaged}
	found := &salvaged{v: v, touched: map[uint64]bool{}}
	f, err := wal.NewFragments(v.logConfig(), v.state(), found)
	if err != nil {
		return nil, err
	}
	from := &p.disk
	if p.logs != nil {
		from = &p.logs.disk
	}
	buf := pageMemory(1)
	for at, n := f.Next(); n > 0; at, n = f.Next() {
		data := pageMemory(int(n))
		if from.read(Place(at), data) == nil {
			for i := range n {
				f.Page(data[i*PageBytes:][:PageBytes])
			}
			continue
		}
		for i := range n {
			if from.read(Place(at+i), buf) != nil {
				f.Page(nil)
			} else {
				f.Page(buf)
			}
		}
	}
	d.all = f.Unknown()
	if unread := f.Unread(); len(unread) > 0 {
		d.Why = fmt.Errorf("reading its log: of device %s %d pages cannot be read, the first is page %d", from.channel.Device().Name(), len(unread), unread[0])
	}
	for some := range slices.Chunk(found.places, partClusters) {
		if err := p.r.Call(func() {
			for _, place := range some { // what is in use is not named by what counts
				if p.alloc.Claim(place, uint64(v.shape.Blocks())) {
					d.places = append(d.places, place)
				}
			}
		}); err != nil {
			return nil, err
		}
	}
	if d.all == nil {
		v.countFloor()
		d.owed = found.owed().plus(v.recovery.floor)
		ok, err := p.reserveFor(d.owed, Freeing)
		if err != nil {
			return nil, err
		}
		if !ok {
			d.owed, d.all = credits{}, errors.New("there is not enough room to keep some for what it has")
		}
	}
	return d, nil
}

// salvaged gathers what the records of a log name and need.
type salvaged struct {
	v          *Volume
	places     []Place
	touched    map[uint64]bool // clusters: true if they may need a place
	boundaries int
}

// LogFound takes a record.
func (s *salvaged) LogFound(r *wal.Record, payload []byte) bool {
	per := uint64(s.v.shape.Blocks())
	if r.Kind == wal.KindSnapshot || r.Kind == wal.KindRestore {
		s.boundaries++
	}
	if !r.Kind.Event() && r.Blocks > 0 {
		for c := r.Block / per; c <= (r.Block+r.Blocks-1)/per; c++ {
			s.touched[c] = s.touched[c] || r.Kind == wal.KindWrite
		}
	}
	if r.Kind != wal.KindPlaced {
		return true
	}
	n := int(r.Blocks / per)
	switch {
	case payload != nil && n*placedBytes(int(per)) <= len(payload):
		for i := range n {
			s.places = append(s.places, placedPlaceAt(payload, i, int(per)))
		}
	case n == 1:
		s.places = append(s.places, Place(r.Place))
	default:
		return false
	}
	return true
}

// owed is what it all needs on its way home, at most.
func (s *salvaged) owed() credits {
	n := s.v.creditsFor(len(s.touched), false)
	for _, place := range s.touched {
		if place {
			n.clusters++
		}
	}
	n.clusters *= 1 + s.boundaries
	n.pages = n.pages*(1+s.boundaries) + checkpointReserve
	return n
}

// quarantinePages is how many pages there must be beside the quarantine: for the directory and the maps of those that are served.
const quarantinePages = 256

// quarantine hands out all free clusters to nobody, if a damaged volume's log may name any of them.
func (p *Pool) quarantine() error {
	i := slices.IndexFunc(p.damaged, func(d *DamagedVolume) bool { return d.all != nil })
	if i < 0 {
		return nil
	}
	d := p.damaged[i]
	some := make([]Place, partClusters)
	for n := len(some); n == len(some); {
		if err := p.r.Call(func() { n = p.alloc.Quarantine(some) }); err != nil {
			return err
		}
		for _, place := range some[:n] {
			if k := len(p.kept); k > 0 && p.kept[k-1].End() == place {
				p.kept[k-1].Pages += uint64(p.shape.Blocks())
				continue
			}
			p.kept = append(p.kept, Extent{place, uint64(p.shape.Blocks())})
		}
	}
	var free uint64
	if err := p.r.Call(func() { free = p.alloc.Space().Free }); err != nil {
		return err
	}
	if free < quarantinePages {
		return fmt.Errorf("%s; the others need %d pages, and only %d are free that are of no free cluster: an import with delete_damaged deletes the volume for good", d.Problem(), quarantinePages, free)
	}
	return nil
}

// DeleteDamaged deletes a damaged volume for good; by force also one of which it is not known what it has (deleteforced.go).
func (p *Pool) DeleteDamaged(ctx context.Context, d *DamagedVolume, force bool, progress func(done, total uint64)) error {
	p.acts.Lock()
	defer p.acts.Unlock()
	if err := p.deleteDamaged(ctx, d, force, progress); err != nil {
		return fmt.Errorf("deleting the damaged volume at position %d (%s) of pool %s: %w", d.Position, d.Name, p.Name(), err)
	}
	return nil
}

func (p *Pool) deleteDamaged(ctx context.Context, d *DamagedVolume, force bool, progress func(done, total uint64)) error {
	switch {
	case p.gone:
		return ErrPoolGone
	case !slices.Contains(p.Damaged(), d):
		return bdev.ErrNotFound
	case force && (d.Number == 0 || d.page.Snapshots > 0):
		return p.deleteForced(d)
	case d.Number == 0:
		return fmt.Errorf("%w: its page is damaged, so what it has is not known; what nothing else in the pool leads to is freed if it is forced", ErrInvalid)
	case d.page.Snapshots > 0:
		return fmt.Errorf("%w: it has %d snapshots, and they cannot be deleted one by one as long as it is not served; if it is forced they go with it", ErrBusy, d.page.Snapshots)
	}
	v := &Volume{pool: p, page: d.page, ref: d.ref, name: d.page.Name}
	x := &eraser{p: p, v: v, page: d.page, progress: progress, step: eraseStep, ctx: ctx, released: d.places}
	err := x.run()
	if v.page.Flags.Has(VolumeDeleting) { // whatever is left, it is never opened again
		p.mu.Lock()
		p.damaged = slices.DeleteFunc(p.damaged, func(x *DamagedVolume) bool { return x == d })
		p.mu.Unlock()
		err = errors.Join(err, p.endQuarantine(d))
	}
	return err
}

// endQuarantine gives up what was reserved for a volume, and lets the clusters rest that were kept, if nobody needs that any more.
func (p *Pool) endQuarantine(d *DamagedVolume) error {
	var kept []Extent
	if !slices.ContainsFunc(p.damaged, func(d *DamagedVolume) bool { return d.all != nil }) {
		kept, p.kept = p.kept, nil
	}
	return p.r.Call(func() {
		p.alloc.Unreserve(d.owed.need())
		for _, e := range kept {
			p.alloc.Release(e.Place, e.Pages)
		}
	})
}
