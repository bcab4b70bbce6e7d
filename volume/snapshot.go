package volume

import (
	"fmt"
	"slices"

	"github.com/google/uuid"

	"github.com/pollux-storage/pollux/bdev"
	"github.com/pollux-storage/pollux/internal/invariant"
	"github.com/pollux-storage/pollux/wal"
)

// This file is the snapshots of a volume: how one is taken, and how the volume page leads to them.
//
//	create ─▶ event at LSN s ─▶ all before it is home ─▶ checkpoint at s: its root is the snapshot's ─▶ a device
//
// A write pays nothing for them. What they cost is the flusher's: a cluster that was born before the newest snapshot is not written in
// place any more, its next version goes to a new place. Birth alone decides that (S-4): the head has alone what was born after the newest
// snapshot, or after it branched off, if it is a clone.

// Errors of snapshots.
var (
	ErrSnapshotExists   = fmt.Errorf("%w: a snapshot of the volume has it", ErrExists)
	ErrSnapshotNotFound = fmt.Errorf("%w: no such snapshot", bdev.ErrNotFound)
	ErrSnapshotInUse    = fmt.Errorf("%w: the snapshot", ErrBusy)
	ErrNotPrimary       = fmt.Errorf("%w: the volume is not primary", ErrInvalid)
)

// snapshots is what a volume knows of its own. It belongs to its reactor.
type snapshots struct {
	list    []Snapshot // as the last checkpoint has them, ascending in LSN
	refs    []Ref      // of their pages
	changed bool       // the list, since the last checkpoint
	next    SnapshotNumber
	taking  *Snapshot // by the next checkpoint, which is exactly at its LSN
	pages   []byte    // that the checkpoint writes: those of the list, and the last refers to them
}

// index finds a snapshot by its number.
func (s *snapshots) index(n SnapshotNumber) (int, bool) {
	return slices.BinarySearchFunc(s.list, n, func(x Snapshot, n SnapshotNumber) int { return int(x.Number) - int(n) })
}

// bornBefore is the LSN up to which what the i-th snapshot has belongs to those before it, or to the parent.
func (v *Volume) bornBefore(i int) wal.LSN {
	if i > 0 {
		return v.snapshots.list[i-1].LSN
	}
	return v.page.BranchedAt
}

// owned says that a cluster of the head has a place, and has it alone: it may be written in place, and is freed when it is given up.
func (v *Volume) owned(cluster uint64, e Entry) bool {
	s, b := &v.tree.sharing, StampLSN(e.Birth())
	return e.Place() != 0 && (b > s.newest || cluster < s.cursor && b > s.older)
}

// takeSnapshot lets the checkpoint that comes now keep its root.
func (v *Volume) takeSnapshot(r *wal.Record, payload []byte) {
	s := decodeSnapshot(payload[:snapshotBytes])
	s.Number, s.LSN = SnapshotNumber(r.Block), r.LSN
	invariant.Check(s.Number >= v.snapshots.next, "volume: a snapshot's number used twice")
	v.snapshots.taking, v.snapshots.next = &s, s.Number+1
	v.flusher.checkpoint()
}

// freezeSnapshots follows the freeze of a map: what is written from now on is shared with the snapshot that is being taken. It gives the
// number of pages that the list of snapshots will be written to.
func (v *Volume) freezeSnapshots() int {
	s := &v.snapshots
	if t := s.taking; t != nil {
		s.changed = true
		v.tree.sharing = mapSharing{newest: StampLSN(t.LSN)}
	}
	n := len(s.list)
	if s.taking != nil {
		n++
	}
	if !s.changed || n == 0 {
		return 0
	}
	return (n+SnapshotsPerPage-1)/SnapshotsPerPage + 1
}

// sealSnapshots fixes the list that a checkpoint has, and lets the commit know of the pages that it gives up. root is the checkpoint's.
func (v *Volume) sealSnapshots(c *checkpoint, root mapRoot) {
	s, p := &v.snapshots, &c.page
	if t := s.taking; t != nil {
		t.Map, t.Levels, t.Clusters = root.ref, uint32(root.levels), v.alone
		s.list = append(s.list, *t)
		v.alone, s.taking = 0, nil
		v.eventApplied()
	}
	p.NextSnapshot, p.Snapshots = s.next, uint16(len(s.list))
	if !s.changed {
		return
	}
	s.changed = false
	for _, r := range s.refs {
		c.commit.unrefer = append(c.commit.unrefer, r.Place)
	}
	if !p.SnapshotTop.IsZero() {
		c.commit.unrefer = append(c.commit.unrefer, p.SnapshotTop.Place)
	}
	s.refs, p.SnapshotTop = s.refs[:0], Ref{}
}

// writeSnapshots writes the pages of the list to their places, if there are any.
func (v *Volume) writeSnapshots(c *checkpoint, places []Place) {
	s, p := &v.snapshots, &c.page
	if len(places) == 0 {
		return
	}
	s.refs = s.refs[:0]
	if len(s.pages) < len(places)*PageBytes {
		s.pages = pageMemory(len(places))
	}
	h := Header{Pool: v.pool.id, Volume: p.Number, Stamp: StampLSN(p.Checkpoint)}
	top := s.pages[(len(places)-1)*PageBytes:][:PageBytes]
	clear(top)
	for i, place := range places[:len(places)-1] {
		page := s.pages[i*PageBytes:][:PageBytes]
		h.Index = uint64(i)
		r := Ref{place, EncodeSnapshots(page, s.list[i*SnapshotsPerPage:min((i+1)*SnapshotsPerPage, len(s.list))], h)}
		SetRef(top, i, r)
		s.refs = append(s.refs, r)
		c.write(place, page)
	}
	h.Kind, h.Level, h.Index = KindSnapshots, 1, 0
	place := places[len(places)-1]
	p.SnapshotTop = Ref{place, SealRefs(top, h)}
	c.write(place, top)
}

// readSnapshots reads the list that a volume page leads to.
func (v *Volume) readSnapshots() error {
	s, pg := &v.snapshots, &v.page
	s.next = pg.NextSnapshot
	if pg.Snapshots > 0 {
		p := v.pool
		list, refs, err := p.readSnapshots(pg, p.pages)
		if err != nil {
			return err
		}
		s.list, s.refs = list, refs
	}
	v.setSharing()
	return nil
}

// readSnapshots reads the snapshots of a volume page. It is control work.
func (p *Pool) readSnapshots(pg *VolumePage, pages uint64) (list []Snapshot, refs []Ref, err error) {
	if pg.SnapshotTop.IsZero() {
		return nil, nil, nil
	}
	top, page := pageMemory(1), pageMemory(1)
	w := Want{Kind: KindSnapshots, Level: 1, Pool: p.id, Volume: pg.Number, CRC: pg.SnapshotTop.CRC, Pages: pages}
	if err = p.disk.read(pg.SnapshotTop.Place, top); err == nil {
		_, err = OpenRefs(top, &w)
	}
	for i := 0; err == nil && i < RefsMax; i++ {
		r := RefAt(top, i)
		if r.IsZero() {
			break
		}
		refs = append(refs, r)
		if err = p.disk.read(r.Place, page); err == nil {
			list, err = DecodeSnapshots(list, page, Want{Pool: p.id, Volume: pg.Number, Index: uint64(i), CRC: r.CRC, Pages: pages})
		}
	}
	switch {
	case err != nil:
		return nil, nil, fmt.Errorf("its list of snapshots: %w", err)
	case len(list) != int(pg.Snapshots):
		return nil, nil, fmt.Errorf("its list of snapshots: %w: %d of them, and its page says %d", ErrCorrupt, len(list), pg.Snapshots)
	}
	return list, refs, nil
}

// setSharing lets the map know what the head has alone.
func (v *Volume) setSharing() {
	s := &v.tree.sharing
	last := len(v.snapshots.list)
	*s = mapSharing{newest: StampLSN(v.bornBefore(last))}
	if last > 0 && v.page.Deleting == v.snapshots.list[last-1].Number {
		s.older, s.cursor = StampLSN(v.bornBefore(last-1)), v.page.DeletingCluster
	}
}

// SnapshotConfig says how a snapshot is made.
type SnapshotConfig struct {
	Name string
	UUID uuid.UUID // zero: a new one
}

// eventWait is control work that waits for an event to be durable.
type eventWait struct {
	logEvent
	*event
}

func (w *eventWait) eventLogged(_ *logEvent, s bdev.Status) { w.say(s) }

// logNow lets an event into the log and returns when it is durable. It is control work.
func (v *Volume) logNow(k wal.Kind, block uint64, payload []byte) error {
	return v.logWith(k, block, [24]byte{}, payload)
}

// logWith is logNow for an event with something particular to its kind.
func (v *Volume) logWith(k wal.Kind, block uint64, extra [24]byte, payload []byte) error {
	w := &eventWait{event: newEvent()}
	w.entry.Extra = extra
	if err := v.r.Call(func() { v.logEvent(&w.logEvent, k, block, payload, w) }); err != nil {
		return err
	}
	if s := v.pool.disk.wait(w.event); s != bdev.StatusOK {
		return fmt.Errorf("writing it to the log: %v", s)
	}
	return nil
}

// settleNow returns when everything written by now is home, all events are applied, and the tail of the log has moved behind them (settle.go).
func (v *Volume) settleNow() error {
	e := newEvent()
	ended := false
	if err := v.r.Call(func() {
		if ended = v.rests(); !ended {
			v.awaitHome(e)
		}
	}); err != nil {
		return err
	}
	if ended {
		return errEnded
	}
	v.pool.disk.wait(e)
	if err := v.r.Call(func() { ended = v.failed != bdev.StatusOK || v.isStranded() }); err != nil {
		return err
	}
	if ended {
		return errEnded
	}
	return nil
}

// CreateSnapshot takes a snapshot: it holds exactly what was acknowledged before, and perhaps what is under way. When it returns, the
// snapshot is durable and a device.
func (v *Volume) CreateSnapshot(cfg SnapshotConfig) (SnapshotInfo, error) {
	v.acts.Lock()
	defer v.acts.Unlock()
	i, err := v.createSnapshot(cfg)
	if err != nil {
		err = fmt.Errorf("creating snapshot %s of volume %s: %w", cfg.Name, v.Name(), err)
	}
	return i, err
}

func (v *Volume) createSnapshot(cfg SnapshotConfig) (SnapshotInfo, error) {
	name, err := MakeName(cfg.Name)
	if err != nil {
		return SnapshotInfo{}, err
	}
	if err := v.mayChange(); err != nil {
		return SnapshotInfo{}, err
	}
	s := Snapshot{Name: name, UUID: cfg.UUID, Created: created()}
	if s.UUID == uuid.Nil {
		s.UUID = uuid.New()
	}
	if e := v.r.Call(func() {
		s.Number, s.Bytes = v.snapshots.next, v.page.Bytes
		err = v.mayTake(name)
	}); e != nil {
		return SnapshotInfo{}, e
	}
	if err == nil {
		err = v.mayBeDevice(&s)
	}
	if err != nil {
		return SnapshotInfo{}, err
	}
	if err := v.reserveSet("a snapshot of a thick volume"); err != nil {
		return SnapshotInfo{}, err
	}
	defer v.giveSet()
	payload := pageMemory(1)
	s.encode(payload)
	if err := v.logNow(wal.KindSnapshot, uint64(s.Number), payload); err != nil {
		return SnapshotInfo{}, err
	}
	if err := v.settleNow(); err != nil {
		return SnapshotInfo{}, fmt.Errorf("it is in the log, and there after the next import: %w", err)
	}
	d, err := v.openSnapshot(s.Number)
	if err != nil {
		return SnapshotInfo{}, err
	}
	return d.info(), nil
}

// mayTake says why no snapshot of this name can be taken.
func (v *Volume) mayTake(name Name) error {
	if len(v.snapshots.list) == SnapshotsMax {
		return fmt.Errorf("%w: a volume has %d snapshots at most; delete one", ErrLimit, SnapshotsMax)
	}
	for _, s := range v.snapshots.list {
		if s.Name == name && s.Flags&SnapshotDeleting == 0 {
			return ErrSnapshotExists
		}
	}
	return nil
}
