package volume

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"

	"github.com/google/uuid"

	"github.com/pollux-storage/pollux/bdev"
	"github.com/pollux-storage/pollux/wal"
)

// This file opens a pool whose log device is gone, for who accepts the loss: every volume is as its checkpoint has it, but for blocks that
// were changed behind it and have come home since, in place. Such a block has the newer bytes; or, since the map has the checksum of the
// older ones, it is an error to a scrub, and to reads where checksums are verified, until it is written again. Snapshots are whole.
//
//	1. each volume gets a log anew, in the pool or on another log device, of a lineage of its own: what the old log ever held does not
//	   follow, should it turn up
//	2. one commit switches all volumes to theirs, and the slot to where they are; a second one does the same for the older slot
//
// LSNs above the checkpoint are given again, in a higher epoch (V-5). The volume page says what is lost until somebody releases it. Before
// the first commit nothing has changed, and an import with the log device finds all of it.

// replaceLogs does so.
func (p *Pool) replaceLogs(r *root) error {
	all := make([]uint64, 0, len(r.volumes))
	for at := range r.volumes {
		all = append(all, at)
	}
	slices.Sort(all)
	if p.cfg.LogDevice != "" {
		l, err := p.openLogDevice(p.cfg.LogDevice)
		if err != nil {
			return err
		}
		p.logs = l
		x, err := Examine(p.registry, p.cfg.LogDevice, p.cfg)
		if err == nil && (x.Pool || x.Logs) {
			err = fmt.Errorf("%w: device %s holds a pool or the logs of one, and cannot take the place of the log device; name one that is empty", ErrInvalid, p.cfg.LogDevice)
		}
		if err == nil {
			err = l.format(p)
		}
		if err != nil {
			return err
		}
	}
	promised, err := p.keepPromised(r)
	if err != nil {
		return err
	}
	at := logRoot{}
	if p.logs != nil {
		at = logRoot{p.logs.head.UUID, p.logs.head.Generation}
	}
	messages := []*commitMessage{{logs: &at, tell: newEvent()}}
	pages := map[uint64]foundVolume{}
	for _, position := range all {
		f := r.volumes[position]
		m, n, err := p.replaceLog(f, r.slot.Clean)
		if err != nil {
			return fmt.Errorf("giving volume %s another log: %w", f.page.Name, err)
		}
		messages = append(messages, m)
		pages[position] = n
	}
	if err := p.disk.flush(); err != nil {
		return err
	}
	if err := p.r.Call(func() {
		p.alloc.Unreserve(promised.need()) // until the volumes are opened
		for _, m := range messages {       // in one tick, so in one commit
			p.enlist(m)
		}
	}); err != nil {
		return err
	}
	for _, m := range messages {
		if s := p.disk.wait(m.tell); s != bdev.StatusOK {
			return fmt.Errorf("committing it: %v", s)
		}
	}
	if err := p.twice(); err != nil {
		return err
	}
	r.volumes, r.marks = pages, map[uint64]mark{} // both slots have the new pages
	for _, position := range all {
		pg := pages[position].page
		if pg.Loss == LossDevice {
			p.problem("volume %s lost what its log device held: LSNs above %d, of which those up to %d at least were durable", pg.Name, pg.LossFound, pg.LossKnown)
		}
	}
	return nil
}

// keepPromised reserves what is promised to thick volumes, so that logs which come into the pool do not take it.
func (p *Pool) keepPromised(r *root) (n credits, err error) {
	if p.logs != nil {
		return n, nil
	}
	for _, f := range r.volumes {
		if f.page.Flags.Has(VolumeThick) && !f.page.Flags.Has(VolumeDeleting) {
			n = n.plus(credits{int(f.page.ClustersReserved), int(f.page.PagesReserved)})
		}
	}
	ok, err := p.reserveFor(n, Ordinary)
	if err == nil && !ok {
		err = fmt.Errorf("%w: %d clusters and %d pages are promised to thick volumes, and the pool has not so much, without logs in it; name an empty device in the place of the log device",
			ErrNoSpace, n.clusters, n.pages)
	}
	return n, err
}

// replaceLog writes the page of a volume whose log begins anew.
func (p *Pool) replaceLog(f foundVolume, closed bool) (*commitMessage, foundVolume, error) {
	bytes := uint64(0)
	if !f.page.Flags.Has(VolumeDeleting) { // that needs none
		for _, e := range f.page.Log {
			bytes += e.Pages * PageBytes
		}
	}
	var runs [LogExtentsMax]Extent
	var place [1]Place
	n, ok := 0, false
	var id uuid.UUID
	if err := p.r.Call(func() {
		if ok = bytes == 0; !ok {
			n, ok = p.takeLog(runs[:], bytes)
		}
		if ok {
			if ok = p.alloc.GrantPages(place[:], Freeing) == 1; !ok {
				p.returnLog(runs[:n])
			}
		}
		id = p.id
	}); err != nil {
		return nil, f, err
	}
	if !ok {
		return nil, f, fmt.Errorf("%w: it needs %d bytes; name an empty device in the place of the log device", ErrNoSpace, bytes)
	}
	pg := f.page
	pg.Log = slices.Clone(runs[:n])
	pg.LogOffset, pg.Lineage, pg.Boot = 0, wal.Lineage(rand.Uint64()), p.cfg.Boot
	epoch := pg.epochNow() + 1
	pg.beginEpoch(epoch, pg.Checkpoint+1)
	if !closed || !pg.Flags.Has(VolumeClean) {
		pg.Loss, pg.LossKnown, pg.LossFound = LossDevice, max(pg.Durable, pg.Checkpoint), pg.Checkpoint
	}
	pg.Durable = pg.Checkpoint
	buf := pageMemory(1)
	ref := Ref{place[0], pg.EncodeTo(buf, id)}
	if err := p.disk.write(ref.Place, buf); err != nil {
		return nil, f, err
	}
	m := &commitMessage{
		v: &Volume{pool: p, page: pg}, ref: ref, refer: []Place{ref.Place}, unrefer: []Place{f.ref.Place}, extents: pg.Log, tell: newEvent(),
	}
	return m, foundVolume{page: pg, ref: ref}, nil
}

// acceptable says whether the loss of a log device was accepted, for this reason.
func (p *Pool) acceptable(err error) bool {
	return p.cfg.AcceptLogLoss && errors.Is(err, ErrLogMissing)
}
