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

// This file is how a volume comes to life: made, or opened from its page.
//
//	make: log and number from the pool ─▶ volume page ─▶ commit ─▶ open
//	open: 1. the logs of all volumes are read (logread.go), and the places that placed records name are taken out of the allocator (placed.go)
//	      2. what they said goes into the dirty maps, which are made large enough for it, and what it needs is reserved (recover.go)
//	      3. lives begin: durable before their first records
//	      4. devices are registered: requests are taken

// VolumeConfig says how a volume is made.
type VolumeConfig struct {
	Name       string
	Bytes      uint64
	BlockBytes uint32  // 512 or 4096; 0: 4096
	LogBytes   uint64  // 0: wal.SizeFor its use
	Use        wal.Use // one that is not known counts as general
	Cache      WriteCache
	CacheLoss  CacheLoss
	Verify     bool // checksums are verified on read
	Thick      bool // its space is reserved (thick.go)
	UUID       uuid.UUID
}

// CreateVolume makes a volume, thin or thick, and registers its device. Where the device below does not answer it ends with ErrStuck, and goes on
// alone (stuckopen.go).
func (p *Pool) CreateVolume(cfg VolumeConfig) (*Volume, error) {
	err := p.lockActs(p.cfg.vigil(p.registry.Group(), p.devices))
	var v *Volume
	if err == nil {
		v, err = p.begins(p.acts.Unlock, func() (*Volume, error) { return p.createVolume(cfg) })
	}
	if err != nil {
		return nil, fmt.Errorf("creating volume %s in pool %s: %w", cfg.Name, p.Name(), err)
	}
	return v, nil
}

func (p *Pool) createVolume(cfg VolumeConfig) (*Volume, error) {
	v, err := p.newVolume(&cfg)
	if err != nil {
		return nil, err
	}
	return v, p.begin(v, cfg.LogBytes)
}

// newVolume checks a config, completes it, and gives a volume that is nowhere yet. acts is held.
func (p *Pool) newVolume(cfg *VolumeConfig) (*Volume, error) {
	name, err := p.freeName(cfg.Name)
	if err != nil {
		return nil, err
	}
	if cfg.BlockBytes == 0 {
		cfg.BlockBytes = PageBytes
	}
	use, err := p.sizeLog(cfg)
	if err != nil {
		return nil, err
	}
	if cfg.UUID == uuid.Nil {
		cfg.UUID = uuid.New()
	}
	if slices.ContainsFunc(p.Damaged(), func(d *DamagedVolume) bool { return d.UUID == cfg.UUID }) {
		return nil, fmt.Errorf("%w: the UUID is that of a volume that is damaged", ErrExists)
	}
	switch {
	case cfg.BlockBytes != PageBytes && cfg.BlockBytes != 512:
		return nil, fmt.Errorf("%w: blocks of %d bytes: choose 512 or %d", ErrInvalid, cfg.BlockBytes, PageBytes)
	case cfg.Bytes == 0 || cfg.Bytes%uint64(cfg.BlockBytes) != 0:
		return nil, fmt.Errorf("%w: %d bytes: a volume has a whole number of blocks of %d bytes", ErrInvalid, cfg.Bytes, cfg.BlockBytes)
	}
	v := &Volume{pool: p, name: name, shape: p.shape}
	pg := &v.page
	*pg = VolumePage{
		UUID: cfg.UUID, Name: name, Bytes: cfg.Bytes, BlockBytes: cfg.BlockBytes, Role: RolePrimary,
		Levels: p.shape.Levels(p.shape.Clusters(cfg.Bytes)), Epoch: 1, Lineage: wal.Lineage(rand.Uint64()), Created: created(),
		NextSnapshot: 1, Boot: p.cfg.Boot, Use: use, CacheLoss: cfg.CacheLoss, Epochs: []EpochStart{{1, 1}},
	}
	if cfg.Cache == CacheVolatile {
		pg.Flags |= VolumeCacheVolatile
	}
	if cfg.Verify {
		pg.Flags |= VolumeVerify
	}
	if cfg.Thick {
		need := p.shape.thickNeed(cfg.Bytes)
		pg.Flags |= VolumeThick
		pg.ClustersReserved, pg.PagesReserved = uint64(need.clusters), uint64(need.pages)
		v.thick.on = true
	}
	return v, nil
}

// begin commits a new volume and opens it.
func (p *Pool) begin(v *Volume, logBytes uint64) error {
	err := p.makeRoom(v, logBytes)
	if err == nil {
		p.branched(&v.page)
		err = p.twice()
	}
	if err != nil {
		return errors.Join(err, p.r.Call(func() { p.unpromise(v) }))
	}
	return p.openAll([]*Volume{v}, nil)
}

// freeName checks the name of a new volume, or a volume's new name. acts is held.
func (p *Pool) freeName(s string) (Name, error) {
	name, err := MakeName(s)
	if err != nil {
		return name, err
	}
	if p.gone {
		return name, ErrPoolGone
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, v := range p.volumes {
		if v.name == name {
			return name, fmt.Errorf("%w", ErrExists)
		}
	}
	return name, p.freeOfDamaged(name)
}

// makeRoom gives a new volume its number, position and log, and commits its page.
func (p *Pool) makeRoom(v *Volume, logBytes uint64) error {
	m := &commitMessage{v: v, tell: newEvent()}
	var err error
	var place [1]Place
	var pool uuid.UUID
	if e := p.r.Call(func() {
		at, ok := p.directory.free()
		var runs [LogExtentsMax]Extent
		n, ok2 := 0, false
		if ok {
			n, ok2 = p.takeLog(runs[:], logBytes)
		}
		switch {
		case !ok:
			err = fmt.Errorf("%w: it has %d volumes", ErrNoSpace, VolumesMax)
			return
		case !ok2:
			err = fmt.Errorf("%w: its log needs %d bytes, and in few pieces", ErrNoSpace, logBytes)
			return
		}
		if p.alloc.GrantPages(place[:], Ordinary) == 0 {
			err = fmt.Errorf("%w: its volume page needs one", ErrNoSpace)
			p.returnLog(runs[:n])
			return
		}
		if need := v.thickNeed(); v.thick.on && !p.promiseNew(v, need) {
			err = p.noFloor("a thick volume", need)
			p.returnLog(runs[:n])
			p.alloc.GiveBack(place[0], 1)
			return
		}
		v.page.Position, v.page.Number = at, p.nextVolume
		p.nextVolume++
		p.taken[at] = true
		v.page.Log = slices.Clone(runs[:n])
		m.extents = v.page.Log
		m.refer = []Place{place[0]}
		pool = p.id
	}); e != nil {
		return e
	}
	if err != nil {
		return err
	}
	buf := pageMemory(1)
	v.ref = Ref{place[0], v.page.EncodeTo(buf, pool)}
	m.ref = v.ref
	if err := p.disk.write(place[0], buf); err != nil {
		return err
	}
	if err := p.r.Call(func() { p.enlist(m) }); err != nil {
		return err
	}
	if s := p.disk.wait(m.tell); s != bdev.StatusOK {
		return fmt.Errorf("committing it: %v", s)
	}
	return p.r.Call(func() { delete(p.taken, v.page.Position) })
}

// openVolumes opens those of the directory.
func (p *Pool) openVolumes(r *root) error {
	var all, deleting []*Volume
	for at, f := range r.volumes {
		if f.err != nil {
			p.setAside(&DamagedVolume{Position: at, Why: fmt.Errorf("reading its page, %d of device %s: %w", f.ref.Place, p.DeviceName(), f.err), ref: f.ref})
			continue
		}
		v := &Volume{pool: p, page: f.page, ref: f.ref, name: f.page.Name}
		p.branched(&v.page)
		if f.page.Flags.Has(VolumeDeleting) {
			deleting = append(deleting, v)
			continue
		}
		all = append(all, v)
	}
	slices.SortFunc(all, func(a, b *Volume) int { return int(a.page.Position) - int(b.page.Position) })
	if err := p.openAll(all, r); err != nil {
		return err
	}
	if p.deletes {
		if err := p.freeLost(); err != nil {
			p.problem("of a volume that was deleted by force: %v: %v", errLeftTaken, err)
		}
	}
	for _, v := range deleting {
		if err := p.erase(v); err != nil {
			p.problem("volume %s is being deleted, and cannot be: %v", v.name, err)
		}
	}
	return nil
}

// openAll opens volumes, whose pages are committed: all of them or none; but where the pool is imported by a root, without those whose logs
// cannot be read (damaged.go).
func (p *Pool) openAll(all []*Volume, r *root) error {
	err := p.openEach(&all, r)
	if err == nil {
		return nil
	}
	for _, v := range all {
		err = errors.Join(err, v.abandon())
	}
	return err
}

func (p *Pool) openEach(some *[]*Volume, r *root) error {
	var marks map[uint64]mark
	if r != nil {
		marks = r.marks
	}
	for _, v := range *some {
		v.recovery = &recovery{}
		err := v.prepare(marks)
		if err == nil {
			err = p.opens(v)
		}
		if err != nil {
			return fmt.Errorf("opening volume %s: %w", v.page.Name, err)
		}
	}
	if err := p.readLogs(some, r != nil); err != nil {
		return err
	}
	all := *some
	if err := p.promise(all); err != nil {
		return fmt.Errorf("reserving what is in the logs: %w", err)
	}
	for _, v := range all {
		if err := v.revive(); err != nil {
			return fmt.Errorf("opening volume %s: recovering it: %w", v.page.Name, err)
		}
	}
	for _, v := range all {
		if err := v.applyRecovered(); err != nil {
			return fmt.Errorf("opening volume %s: applying the events of its log: %w", v.page.Name, err)
		}
	}
	for _, v := range all { // no host takes the space that another's log needs
		if p.disk.isGiven() {
			return errGivenUp
		}
		if err := v.register(); err != nil {
			return fmt.Errorf("opening volume %s: %w", v.page.Name, err)
		}
		v.recovery = nil
		p.mu.Lock()
		p.volumes[v.page.Number] = v
		p.mu.Unlock()
		if err := v.openSnapshots(); err != nil {
			return fmt.Errorf("opening volume %s: %w", v.page.Name, err)
		}
	}
	return nil
}

// prepare makes what a volume has in memory, on its reactor.
func (v *Volume) prepare(marks map[uint64]mark) error {
	p := v.pool
	group := p.registry.Group()
	v.position = v.page.Position
	v.r = group.Reactor(int(v.position) % group.Len())
	v.data = p.channels[v.r.Index()]
	v.logData = p.logChannel(v.r.Index())
	v.shape, v.stages, v.placedFrom = p.shape, p.cfg.Stages, uint64(p.shape.Blocks())
	v.role = v.page.Role
	if v.page.Flags.Has(VolumeCacheVolatile) {
		v.cache = CacheVolatile
	}
	v.verify, v.thick.on = v.page.Flags.Has(VolumeVerify), v.page.Flags.Has(VolumeThick)
	v.alone = v.page.ClustersAlone
	v.newer = mark{lsn: v.page.Checkpoint, offset: v.page.LogOffset}
	v.older = v.newer
	if m, ok := marks[v.page.Position]; ok && m.offset < v.older.offset {
		v.older = m
	}
	if err := v.make(); err != nil {
		return err
	}
	v.readReservations()
	v.recovery.damaged = v.readSnapshots()
	return nil
}

// make makes the structures of a size.
func (v *Volume) make() error {
	p := v.pool
	cache, err := p.mapCache(v.r)
	if err != nil {
		return err
	}
	v.tree = newMapTree(cache.c, mapOwner{source: cache.source, volume: v.page.Number, sharedTo: StampLSN(v.page.BranchedAt), shape: v.shape}, mapRoot{v.page.Map, uint8(v.page.Levels)}, false)
	if err := p.cfg.Cache.admit(v.tree, v.r); err != nil {
		return err
	}
	logPages := 0
	for _, e := range v.page.Log {
		logPages += int(e.Pages)
	}
	room := dirtyRoom{clusters: max(logPages, 1024), blocks: max(logPages+logPages/4, 4096), placed: max(logPages/4, 256)}
	v.dirty = newDirtyMap(uint(v.shape.shift), room)
	v.retained = dirtyRoom{4 * room.clusters, 4 * room.blocks, 4 * room.placed}

	ops := make([]op, opsMax)
	for i := range ops {
		o := &ops[i]
		o.v, o.next = v, v.ops
		o.waiter.Done = o
		o.node.init(o)
		v.ops = o
	}
	parts := make([]part, partsMax)
	for i := range parts {
		q := &parts[i]
		q.v, q.next = v, v.parts
		q.req.Done = q
		v.parts = q
	}
	segments, pages := make([]segment, segmentsMax), pageMemory(segmentsMax)
	for i := range segments {
		s := &segments[i]
		s.v, s.next = v, v.segments
		s.e.Done, s.e.CRCs, s.page = s, make([]uint32, wal.RecordPagesMax), pages[i*PageBytes:][:PageBytes:PageBytes]
		v.segments = s
	}
	v.sync.Done = v
	v.ask.v = v
	v.ckpt.v, v.ckpt.commit.v, v.ckpt.buf = v, v, pageMemory(1)
	v.flusher.make(v)
	v.scrub.v = v
	v.scrub.node.init(&v.scrub)
	return v.makePartial()
}

// logConfig is what the log is opened with.
func (v *Volume) logConfig() wal.Config {
	extents := make([]wal.Extent, len(v.page.Log))
	for i, e := range v.page.Log {
		extents[i] = wal.Extent{Place: uint64(e.Place), Pages: e.Pages}
	}
	log, data := v.pool.logBarriers()
	return wal.Config{
		Reactor: v.r, Channel: v.logData, Barrier: log, Data: data, Extents: extents, Volume: v.page.UUID, Lineage: v.page.Lineage,
		Boot: v.pool.cfg.Boot, Stages: v.stages, Rested: (*rested)(v),
	}
}

// state is where recovery begins.
func (v *Volume) state() wal.State {
	return wal.State{
		Tail: v.older.offset, Offset: v.page.LogOffset, Life: v.page.Life, Epoch: v.page.Epoch, LSN: v.page.Checkpoint,
		Durable: v.page.Durable,
	}
}

// geometry is what hosts see of so many bytes.
func (v *Volume) geometry(bytes uint64) bdev.Geometry {
	atomic := min(uint32(v.shape.Blocks()), wal.RecordPagesMax)
	if v.sub > 0 {
		atomic = bounceBlocks << v.sub
	}
	return bdev.Geometry{
		BlockSize: v.page.BlockBytes, Blocks: bytes / uint64(v.page.BlockBytes), PhysicalBlockSize: PageBytes,
		OptimalBlocks: uint32(v.shape.ClusterBytes()) / v.page.BlockBytes, AtomicBlocks: atomic, MemoryAlign: PageBytes,
		Native:    bdev.SetOf(bdev.Read, bdev.Write, bdev.Flush, bdev.Unmap, bdev.WriteZeroes, bdev.Extent),
		NativeFUA: bdev.SetOf(bdev.Write, bdev.Unmap, bdev.WriteZeroes),
		Volatile:  v.cache == CacheVolatile, UnmapZeroes: true, ReadOnly: v.page.Flags.Has(VolumeReadOnly),
		LowSpace: v.lowSpace(),
	}
}

// register makes the volume a device.
func (v *Volume) register() error {
	p := v.pool
	g := v.geometry(v.page.Bytes)
	d, err := p.registry.Register(bdev.Config{
		Name: v.page.UUID.String(), Product: "Logical Volume", UUID: v.page.UUID, Aliases: []string{v.alias(p.Name())},
		Layers: p.layers() + 1, Geometry: g, Driver: v,
	})
	if err != nil {
		return err
	}
	v.device = d
	if err := v.reserves.damaged; err != nil {
		p.problem("volume %s cannot be served with reservations: %v", v.name, err)
	}
	return nil
}

// alias is the device's name for people.
func (v *Volume) alias(pool string) string { return pool + "/" + v.name.String() }

// Device is the volume's.
func (v *Volume) Device() *bdev.Device { return v.device }
