package volume

import (
	"fmt"
	"slices"
	"sync"

	"github.com/google/uuid"

	"github.com/pollux-storage/pollux/bdev"
	"github.com/pollux-storage/pollux/wal"
)

// This file is the check of a pool (V-28): a walk from the slot through everything that it leads to, compared with the bitmap.
//
//	slots ─▶ bitmap areas (the census has them)
//	      ─▶ directory: top ─▶ pages ─▶ volume pages ─▶ logs
//	                                               ─▶ maps: index pages ─▶ leaves ─▶ clusters
//	                                               ─▶ pages of snapshots and reservations
//
// It is control work and reads one page after the other. Meanwhile no commit is made: what the slot leads to stays as it is, and what
// hosts write gathers in the logs. So a check of a large pool that is in use belongs into a quiet hour. Contents of clusters are not read:
// that is what scrubbing does.

// CheckReport is what a check has found.
type CheckReport struct {
	Pool       uuid.UUID
	Name       string
	Generation Generation
	Pages      uint64 // of the device
	Used       uint64 // in the root
	Slots      [2]error
	Volumes    []CheckedVolume
	Problems   []string // the first problemsMax, in the order in which they were met
	More       uint64   // so many others
	Lost       uint64   // pages in use to which nothing leads
	Free       uint64   // pages to which something leads and which are free: the next write may take them
	Twice      uint64   // pages, or runs of them, to which two things lead
}

// CheckedVolume is one volume of a report.
type CheckedVolume struct {
	Number    VolumeNumber
	Name      string
	Clusters  uint64 // mapped
	MapPages  uint64
	LogPages  uint64
	Unread    uint64 // pages of its map that cannot be read or are damaged; what is below them counts as lost
	Snapshots uint16
}

// problemsMax is how many problems a report spells out.
const problemsMax = 100

// OK says that nothing is wrong. One slot that is not valid is not: the next commit makes it so.
func (r *CheckReport) OK() bool { return len(r.Problems) == 0 }

func (r *CheckReport) problem(format string, args ...any) {
	if len(r.Problems) == problemsMax {
		r.More++
		return
	}
	r.Problems = append(r.Problems, fmt.Sprintf(format, args...))
}

// checking lets one check run at a time.
type checking struct{ mu sync.Mutex }

// Check walks through the pool. An error says that it could not be done; what it has found stands in the report.
func (p *Pool) Check() (*CheckReport, error) {
	p.checking.mu.Lock()
	defer p.checking.mu.Unlock()
	if err := p.hold(); err != nil {
		return nil, fmt.Errorf("checking pool %s: %w", p.Name(), err)
	}
	defer p.letGo()
	k := &poolCheck{p: p}
	if err := k.run(); err != nil {
		return nil, fmt.Errorf("checking pool %s: %w", p.Name(), err)
	}
	return &k.report, nil
}

// hold waits until no commit is under way, and lets none begin.
func (p *Pool) hold() error {
	e := newEvent()
	var failed bdev.Status
	if err := p.r.Call(func() {
		c := &p.committer
		if failed = c.failed; failed != bdev.StatusOK {
			return
		}
		c.held = e
		if c.step == commitIdle {
			e.Run()
		}
	}); err != nil {
		return err
	}
	if failed == bdev.StatusOK {
		failed = p.disk.wait(e)
	}
	if failed != bdev.StatusOK {
		p.letGo()
		return fmt.Errorf("its last commit failed (%v), so what is in memory is not what is on the device; import it again", failed)
	}
	return nil
}

// letGo lets commits go on.
func (p *Pool) letGo() {
	_ = p.r.Call(func() {
		p.committer.held = nil
		p.committer.Run()
	})
}

// poolCheck is a check under way.
type poolCheck struct {
	p      *Pool
	slot   Slot
	census *Census
	report CheckReport
	buf    [mapLevels + 4][]byte // a page for each level of what is walked

	promised uint64   // clusters, to thick volumes
	other    []string // problems that were met on the walk
}

func (k *poolCheck) run() error {
	p, r := k.p, &k.report
	if err := p.r.Call(func() { k.slot, k.census = p.slot, p.alloc.Census() }); err != nil {
		return err
	}
	for i := range k.buf {
		k.buf[i] = pageMemory(1)
	}
	r.Pool, r.Name, r.Generation, r.Pages, r.Used = p.id, k.slot.Name.String(), k.slot.Generation, k.slot.Pages, k.slot.PagesUsed
	for i, at := range SlotPlace {
		var s Slot
		if r.Slots[i] = p.disk.read(at, k.buf[0]); r.Slots[i] == nil {
			r.Slots[i] = s.Decode(k.buf[0], uint32(i))
		}
	}
	if err := r.Slots[k.slot.Number]; err != nil {
		r.problem("slot %d, which has the newest generation, cannot be read: %v", k.slot.Number, err)
	}
	k.directory()
	k.other = slices.Clone(r.Problems)
	var differ []Discrepancy
	var whole uint64
	if err := p.r.Call(func() {
		differ, r.Lost, r.Free = k.census.Compare(p.alloc, nil, problemsMax)
		whole = p.alloc.unreferred()
	}); err != nil {
		return err
	}
	if k.promised > whole {
		r.problem("%d clusters are promised to thick volumes, and %d have nothing in them", k.promised, whole)
	}
	for _, d := range differ {
		if d.Lost {
			r.problem("pages %d to %d are in use, and nothing leads to them: they are lost", d.Place, d.End()-1)
		} else {
			r.problem("pages %d to %d are mapped, and the bitmap has them as free", d.Place, d.End()-1)
		}
	}
	return nil
}

// mark notes pages that something leads to.
func (k *poolCheck) mark(at Place, n uint64, what string, args ...any) {
	if !k.census.Mark(at, n) {
		k.report.Twice++
		k.report.problem("pages %d to %d, %s, are something else as well, or outside the pool", at, at+Place(n)-1, fmt.Sprintf(what, args...))
	}
}

func (k *poolCheck) directory() {
	p, top := k.p, k.buf[0]
	ref := k.slot.Directory
	if ref.IsZero() {
		return
	}
	k.mark(ref.Place, 1, "the top of the directory")
	if err := p.disk.read(ref.Place, top); err != nil {
		k.report.problem("the top of the directory: %v", err)
		return
	}
	if _, err := OpenDirectoryTop(top, p.id, ref.CRC, k.slot.Pages); err != nil {
		k.report.problem("the top of the directory: %v", err)
		return
	}
	volumes := uint32(0)
	for i := range RefsMax {
		ref := RefAt(top, i)
		if ref.IsZero() {
			continue
		}
		k.mark(ref.Place, 1, "directory page %d", i)
		page := k.buf[1]
		err := p.disk.read(ref.Place, page)
		if err == nil {
			_, err = OpenDirectory(page, p.id, uint64(i), ref.CRC, k.slot.Pages)
		}
		if err != nil {
			k.report.problem("directory page %d: %v", i, err)
			continue
		}
		for n := range RefsMax {
			if ref := RefAt(page, n); !ref.IsZero() {
				volumes++
				k.volume(uint64(i*RefsMax+n), ref)
			}
		}
	}
	if volumes != k.slot.Volumes {
		k.report.problem("the slot says that there are %d volumes, and the directory has %d", k.slot.Volumes, volumes)
	}
	slices.SortFunc(k.report.Volumes, func(a, b CheckedVolume) int { return int(a.Number) - int(b.Number) })
}

func (k *poolCheck) volume(position uint64, ref Ref) {
	p, r := k.p, &k.report
	k.mark(ref.Place, 1, "the page of the volume at position %d", position)
	var v VolumePage
	err := p.disk.read(ref.Place, k.buf[2])
	if err == nil {
		err = v.Decode(k.buf[2], p.id, position, ref.CRC, k.slot.Pages)
	}
	if err != nil {
		r.problem("the page of the volume at position %d: %v", position, err)
		return
	}
	c := CheckedVolume{Number: v.Number, Name: v.Name.String(), Snapshots: v.Snapshots}
	if v.Number >= k.slot.NextVolume {
		r.problem("volume %s has the number %d, and the next to be given is %d", c.Name, v.Number, k.slot.NextVolume)
	}
	if k.slot.LogDevice == uuid.Nil {
		for _, e := range v.Log {
			k.mark(e.Place, e.Pages, "of the log of volume %s", c.Name)
			c.LogPages += e.Pages
		}
	}
	for _, x := range []struct {
		ref  Ref
		what string
	}{{v.SnapshotTop, "the list of snapshots"}, {v.Reservations, "the reservations"}} {
		if !x.ref.IsZero() {
			k.mark(x.ref.Place, 1, "%s of volume %s", x.what, c.Name)
		}
	}
	if need := uint64(p.shape.thickNeed(v.Bytes).clusters); v.Flags.Has(VolumeThick) && !v.Flags.Has(VolumeDeleting) {
		k.promised += v.ClustersReserved
		if v.ClustersAlone+v.ClustersReserved != need {
			r.problem("volume %s is thick, of %d clusters; it has %d, and %d are reserved", c.Name, need, v.ClustersAlone, v.ClustersReserved)
		}
	}
	if _, err := p.readReservations(&v, k.slot.Pages); err != nil {
		r.problem("volume %s: %v", c.Name, err)
	}
	for _, d := range p.Damaged() {
		if d.Number == v.Number {
			r.problem("%s", d.Problem())
		}
	}
	k.maps(&v, &c)
	r.Volumes = append(r.Volumes, c)
}

// maps goes through the maps of a volume's snapshots, in the order of their LSNs, and then through its own. Each is looked at as far as it is
// not shared with the one before.
func (k *poolCheck) maps(v *VolumePage, c *CheckedVolume) {
	list, refs, err := k.p.readSnapshots(v, k.slot.Pages)
	if err != nil {
		c.Unread++
		k.report.problem("volume %s: %v", c.Name, err)
	}
	for _, r := range refs {
		k.mark(r.Place, 1, "of the list of snapshots of volume %s", c.Name)
	}
	m := checkedMap{v: v, c: c, newest: v.BranchedAt, older: v.BranchedAt}
	for i := range list {
		s := &list[i]
		before := m
		m.name, m.bytes, m.clusters, m.from = fmt.Sprintf("snapshot %v of volume %s", s.Name, c.Name), s.Bytes, 0, 0
		if s.Number == v.Deleting {
			m.from = v.DeletingCluster
		}
		k.walk(&m, s.Map, int(s.Levels), 0)
		if c.Unread == 0 && s.Number != v.Deleting && before.cursor == 0 && m.clusters != s.Clusters {
			k.report.problem("%s says that it has %d clusters, and its map has %d", m.name, s.Clusters, m.clusters)
		}
		if m.older, m.newest, m.cursor = s.LSN, s.LSN, m.from; m.from > 0 {
			m.older = before.newest
		}
	}
	m.name, m.bytes, m.clusters, m.from = "volume "+c.Name, v.Bytes, 0, 0
	if v.Flags.Has(VolumeDeleting) {
		m.from = v.DeletingCluster
	}
	k.walk(&m, v.Map, int(v.Levels), 0)
	if c.Unread == 0 && m.cursor == 0 && m.clusters != v.ClustersAlone {
		k.report.problem("volume %s says that it has %d clusters, and its map has %d", c.Name, v.ClustersAlone, m.clusters)
	}
}

// checkedMap is one map of a volume, beside the one before it.
type checkedMap struct {
	v        *VolumePage
	c        *CheckedVolume
	name     string
	bytes    uint64
	clusters uint64  // that it has and those before do not
	from     uint64  // of a snapshot that is being deleted: what lies below is not its any more
	newest   wal.LSN // what is not younger belongs to the one before
	older    wal.LSN // but below the cursor, where that one is being deleted, to the one before that
	cursor   uint64
}

// walk goes through the part of a map below a ref. Its depth is the map's height.
func (k *poolCheck) walk(m *checkedMap, ref Ref, level int, index uint64) {
	v, c := m.v, m.c
	each := span(level) * uint64(k.p.shape.entries)
	if ref.IsZero() || (index+1)*each <= m.from {
		return
	}
	page := k.buf[3+level]
	want := Want{Kind: KindIndex, Level: uint8(level), Pool: k.p.id, Volume: v.Number, Index: index, CRC: ref.CRC, SharedTo: v.BranchedAt, Pages: k.slot.Pages}
	err := k.p.disk.read(ref.Place, page)
	var h Header
	switch {
	case err != nil:
	case level > 0:
		h, err = OpenRefs(page, &want)
	default:
		want.Kind = KindLeaf
		h, err = k.p.shape.OpenLeaf(page, &want)
	}
	if err != nil {
		k.mark(ref.Place, 1, "page %d of level %d of the map of %s", index, level, m.name)
		c.Unread++
		k.report.problem("%s: %v", m.name, err)
		return
	}
	floor := m.newest
	if (index+1)*each <= m.cursor {
		floor = m.older
	}
	if own := h.Stamp.LSN() > floor; own {
		k.mark(ref.Place, 1, "page %d of level %d of the map of %s", index, level, m.name)
		c.MapPages++
	} else if h.Stamp.LSN() <= m.older || index*each >= m.cursor {
		return // all of it is the one's before
	}
	if level > 0 {
		for i := range RefsMax {
			k.walk(m, RefAt(page, i), level-1, index*RefsMax+uint64(i))
		}
		return
	}
	per := uint64(k.p.shape.Blocks())
	for i := range k.p.shape.Entries() {
		e := k.p.shape.Entry(page, i)
		cluster := index*uint64(k.p.shape.Entries()) + uint64(i)
		if !e.IsEmpty() && cluster >= k.p.shape.Clusters(m.bytes) {
			k.report.problem("%s has an entry for cluster %d, behind its end", m.name, cluster)
		}
		if e.Change() > v.Checkpoint+1 { // a restore in its midst, or flattening, stamps with the next LSN
			k.report.problem("%s: cluster %d was changed at LSN %d, and the checkpoint is of %d", m.name, cluster, e.Change(), v.Checkpoint)
		}
		if floor := m.floor(cluster); e.Birth() > floor {
			m.clusters++
			c.Clusters++
			k.mark(e.Place(), per, "cluster %d of %s", cluster, m.name)
		} else if e.Birth() > v.BranchedAt && !k.census.Marked(e.Place()) {
			k.report.problem("%s has for cluster %d the place %d of LSN %d, which no older snapshot has", m.name, cluster, e.Place(), e.Birth())
		}
	}
}

// floor is the LSN up to which a cluster's birth is that of the map before.
func (m *checkedMap) floor(cluster uint64) wal.LSN {
	if cluster < m.cursor {
		return m.older
	}
	return m.newest
}
