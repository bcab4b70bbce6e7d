package volume

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/google/uuid"

	"github.com/pollux-storage/pollux/bdev"
	"github.com/pollux-storage/pollux/reactor"
	"github.com/pollux-storage/pollux/wal"
)

// Errors of pools and volumes, with which callers decide.
var (
	ErrPoolGone    = errors.New("the pool is not open any more")
	ErrPoolForeign = errors.New("the pool belongs to another server")
	ErrPoolInUse   = errors.New("the pool is in use")
	ErrExists      = errors.New("the name is taken")
	ErrInvalid     = errors.New("invalid")
	ErrNoSpace     = errors.New("not enough space in the pool")
	ErrBusy        = errors.New("in use")
)

// DefaultClusterBytes is the size of a cluster where none is asked for: the smallest, since writes of at least a cluster are written once, and no
// other figure gets better by more than a few percent with larger ones (BenchmarkClusters; bench/results/2026-11-22-model-clusters).
const DefaultClusterBytes = 64 << 10

// PoolConfig says how a pool is made or opened.
type PoolConfig struct {
	Name         string    // of a new pool
	Server       uuid.UUID // whose pool it is
	ClusterBytes uint64    // of a new pool; 0: DefaultClusterBytes
	LogDevice    string    // where the logs are to be, of a new pool; or are; or, with AcceptLogLoss, are to be instead
	// AcceptLogLoss opens a pool whose log device is missing. What it held above the checkpoints is lost, and stands in the volumes' state.
	AcceptLogLoss bool
	DeleteDamaged bool            // delete volumes by force that keep others from having free clusters (deleteforced.go), before the others are opened
	TakeOver      bool            // open another server's pool and make it one's own
	Boot          uuid.UUID       // of this machine since it started
	Cache         *MapCache       // of map pages, shared with other pools; nil: one of its own
	CacheBytes    uint64          // of its own, on each reactor; 0: DefaultCacheBytes
	SmallLogs     bool            // logs below the least size are made: only for tests, which fill them
	Await         Await           // nil but in simulations
	CloseLimit    time.Duration   // how long the device may keep a request while the pool is being closed; 0: 5 s
	OpenLimit     time.Duration   // and while it, or a volume in it, is made or opened; 0: 30 s
	Ending        <-chan struct{} // closed when the process ends: from then on nobody waits longer than CloseLimit
	Stages        *wal.Stages
	// Found hears, on a goroutine of its own, of the first error of a scrub's run; nil: nobody does.
	Found func(v *Volume, f ScrubFinding)
	// HomeFailed hears, on a goroutine of its own, of the first of a run of writes behind the log that failed; nil: nobody does.
	HomeFailed func(v *Volume, f HomeFailure)
}

// Pool is a device on which volumes live.
type Pool struct {
	cfg      PoolConfig
	registry *bdev.Registry
	handle   *bdev.Handle
	logs     *logDevice // nil where the logs are in the pool
	disk     disk
	id       uuid.UUID
	shape    Shape

	// What follows belongs to the pool's reactor.
	r          *reactor.Reactor
	data       *bdev.Channel
	barrier    *wal.Barrier
	alloc      *Allocator
	slot       Slot // the last one that was written
	directory  rootDirectory
	taken      map[uint64]bool // positions that are being filled
	nextVolume VolumeNumber
	committer  committer
	commits    uint64
	closing    bool
	lacked     atomic.Int64 // when somebody last asked for space in vain, for the flushers of all volumes
	unclean    bool         // a volume was set aside, with what its log has
	high       bool         // its users were told that little is left
	thicks     []*Volume    // thick volumes that are open

	// And this to control work.
	channels []*bdev.Channel
	caches   []cachePool // by reactor, those where there was a volume
	acts     sync.Mutex  // held by one act of control at a time: creating, renaming, growing, deleting, exporting
	gone     bool        // exported or destroyed; under acts
	failure  error       // of exporting; under acts
	mu       sync.Mutex  // held for what follows; whoever changes it holds acts too
	volumes  map[VolumeNumber]*Volume
	origins  map[VolumeNumber]origin // of clones
	name     Name
	pages    uint64
	problems []string // that whoever operates it should know of
	damaged  []*DamagedVolume
	kept     []Extent           // free clusters that nobody gets because of them; under acts
	deletes  bool               // some were deleted by the import, and what they had is to be freed
	watched  [2][]*bdev.Channel // of the pool's device and of that of its logs, nil without one
	arrival  arrival
	checking checking
}

// openDevice gets hold of the device. acts is held when it returns: should the device go, the pool is closed after it was opened.
func openDevice(g *bdev.Registry, device string, cfg PoolConfig) (*Pool, error) {
	if cfg.Cache == nil {
		cfg.Cache = NewMapCache(cfg.CacheBytes)
	}
	p := &Pool{cfg: cfg, registry: g, volumes: map[VolumeNumber]*Volume{}, origins: map[VolumeNumber]origin{}, taken: map[uint64]bool{}}
	p.caches = make([]cachePool, g.Group().Len())
	p.acts.Lock()
	h, err := p.claimDevice(device)
	if err != nil {
		return nil, err
	}
	p.handle = h
	if p.channels, err = h.Channels(); err != nil {
		h.Close()
		return nil, err
	}
	p.watched[0] = p.channels
	p.r = g.Group().Reactor(0)
	p.data = p.channels[0]
	p.disk = disk{control{cfg.Await, &p.arrival.given}, p.r, p.data}
	p.directory.p, p.committer.p = p, p
	p.committer.join.Done = &p.committer
	return p, p.r.Call(func() { p.barrier = wal.NewBarrier(p.r, p.data) })
}

// claimDevice opens a device for the pool alone. Should it be removed, the pool is closed.
func (p *Pool) claimDevice(name string) (*bdev.Handle, error) {
	h, err := p.registry.Open(name, bdev.OpenOptions{Who: "pool", Claim: true, Event: func(e bdev.Event) {
		if e.Kind == bdev.Removing {
			go func() { _ = p.Export(context.Background()) }()
		}
	}})
	if errors.Is(err, bdev.ErrClaimed) {
		err = fmt.Errorf("%w: %w", ErrPoolInUse, err)
	}
	return h, err
}

// signDevices lets messages about the pool's devices say which pool has them. acts is held.
func (p *Pool) signDevices() {
	who := "pool " + p.Name()
	p.handle.SetWho(who)
	if p.logs != nil {
		p.logs.handle.SetWho(who)
	}
}

// release gives the device back.
func (p *Pool) release() {
	_ = p.r.Call(func() {
		p.barrier.Close()
		for d := p.committer.spare; d != nil; d = d.next {
			d.req.Release()
		}
	})
	if p.logs != nil {
		p.logs.release(p)
	}
	for i, in := range p.caches {
		if in.c != nil {
			p.cfg.Cache.leave(in, p.registry.Group().Reactor(i))
		}
	}
	clear(p.caches)
	bdev.CloseChannels(p.channels)
	p.handle.Close()
}

// mapCache is the pool's part in the cache of a reactor.
func (p *Pool) mapCache(r *reactor.Reactor) (*cachePool, error) {
	in := &p.caches[r.Index()]
	var err error
	if in.c == nil {
		*in, err = p.cfg.Cache.enter(p, r)
	}
	return in, err
}

// MapCache is the cache that it shares with others, or has alone.
func (p *Pool) MapCache() *MapCache { return p.cfg.Cache }

// Export closes the pool and all its volumes, whose devices go first. Where the device below does not answer it ends with ErrStuck, and the
// pool is closed as far as it can be (stuck.go). Doing it twice is harmless.
func (p *Pool) Export(ctx context.Context) error {
	g := p.vigil()
	if err := p.lockActs(g); err != nil {
		return fmt.Errorf("exporting pool %s: %w", p.Name(), err)
	}
	defer p.acts.Unlock()
	if p.gone {
		return p.failure
	}
	err := p.closeVolumes(ctx, g)
	if err == nil {
		err = g.during(p.lastCommit)
		p.gone = true
	}
	if err != nil {
		err = fmt.Errorf("exporting pool %s: %w", p.Name(), err)
	}
	switch {
	case errors.Is(err, ErrStuck):
		p.gone = true
		p.giveUp()
	case p.gone:
		p.release()
	default:
		return err
	}
	p.failure = err
	return err
}

// closeVolumes takes the devices away, and waits until everything is home.
func (p *Pool) closeVolumes(ctx context.Context, g *vigil) error {
	var stuck error
	for _, v := range p.Volumes() {
		err := p.closeVolume(ctx, g, v)
		if err != nil && !errors.Is(err, ErrStuck) {
			return errors.Join(stuck, err)
		}
		stuck = errors.Join(stuck, err)
	}
	return stuck
}

// lastCommit writes it.
func (p *Pool) lastCommit() error {
	m := &commitMessage{tell: newEvent()}
	if err := p.r.Call(func() {
		p.closing = true
		p.enlist(m)
	}); err != nil {
		return err
	}
	if s := p.disk.wait(m.tell); s != bdev.StatusOK {
		return fmt.Errorf("its last commit: %v; it is opened by the one before", s)
	}
	return nil
}

// Name is the pool's.
func (p *Pool) Name() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.name.String()
}

// Volumes lists them by position.
func (p *Pool) Volumes() []*Volume {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.SortedFunc(maps.Values(p.volumes), func(a, b *Volume) int { return cmp.Compare(a.position, b.position) })
}

// deviceProblem says why a device cannot hold a pool, nil if it can.
func deviceProblem(g bdev.Geometry) error {
	switch {
	case g.ReadOnly:
		return fmt.Errorf("%w: the device is read only", ErrInvalid)
	case !g.Supports(bdev.Flush):
		return fmt.Errorf("%w: the device cannot be flushed", ErrInvalid)
	case g.Bytes() < PoolBytesMin:
		return fmt.Errorf("%w: %d bytes are too few for a pool, the least is %d", ErrInvalid, g.Bytes(), uint64(PoolBytesMin))
	}
	return nil
}

// PoolBytesMin is the smallest pool.
const PoolBytesMin = 16 << 20

// PoolBytesMax is the largest that the format has numbers for.
const PoolBytesMax = pagesMax * PageBytes

// CreatePool makes a pool on a device. Whatever was there is lost. A device that does not answer ends it with ErrStuck (stuckopen.go), and there
// may be a pool then or none.
func CreatePool(g *bdev.Registry, device string, cfg PoolConfig) (*Pool, error) {
	p, err := openDevice(g, device, cfg)
	if err != nil {
		return nil, fmt.Errorf("creating pool %s on %s: %w", cfg.Name, device, err)
	}
	if err := p.arrive(p.format); err != nil {
		return nil, fmt.Errorf("creating pool %s on %s: %w", cfg.Name, device, err)
	}
	return p, nil
}

// format writes an empty pool: the first commit makes it one.
func (p *Pool) format() error {
	cfg := &p.cfg
	if cfg.ClusterBytes == 0 {
		cfg.ClusterBytes = DefaultClusterBytes
	}
	shift, err := clusterShift(cfg.ClusterBytes)
	if err != nil {
		return err
	}
	name, err := MakeName(cfg.Name)
	if err != nil {
		return err
	}
	geometry := p.handle.Device().Geometry()
	if err := deviceProblem(geometry); err != nil {
		return err
	}
	pages := geometry.Bytes() / PageBytes
	p.id, p.shape, p.name, p.pages = uuid.New(), ShapeOf(shift), name, pages
	areas, err := FirstArea(pages, shift)
	if err != nil {
		return err
	}
	if cfg.LogDevice != "" {
		if p.logs, err = p.openLogDevice(cfg.LogDevice); err != nil {
			return err
		}
	}
	if err := p.disk.blankSlots(); err != nil { // an older pool's are gone before anything of this one is there
		return err
	}
	if err := p.blankSides(areas[0]); err != nil {
		return err
	}
	if err := p.disk.flush(); err != nil {
		return err
	}
	var logs *logRoot
	if p.logs != nil { // before the first commit, which names it
		if err := p.logs.format(p); err != nil {
			return err
		}
		logs = &logRoot{p.logs.head.UUID, p.logs.head.Generation}
	}
	e := newEvent()
	if err := p.r.Call(func() {
		p.alloc = NewAllocator(p.id, shift, pages, areas)
		p.nextVolume = 1
		p.slot = Slot{Number: 1, Server: cfg.Server, Name: name, Boot: cfg.Boot}
		p.directory.changed = true
		p.enlist(&commitMessage{logs: logs, tell: e})
	}); err != nil {
		return err
	}
	if s := p.disk.wait(e); s != bdev.StatusOK {
		return fmt.Errorf("writing the first commit: %v", s)
	}
	return nil
}

// blankSides wipes a bitmap area: what an older pool left there must not look like a side of this one.
func (p *Pool) blankSides(a Area) error {
	zero := pageMemory(64)
	for at, left := a.First, a.Pages(); left > 0; {
		n := min(left, 64)
		if err := p.disk.write(at, zero[:n*PageBytes]); err != nil {
			return err
		}
		at, left = at+Place(n), left-n
	}
	return nil
}

func clusterShift(bytes uint64) (uint32, error) {
	for s := uint32(ClusterShiftMin); s <= ClusterShiftMax; s++ {
		if bytes == PageBytes<<s {
			return s, nil
		}
	}
	return 0, fmt.Errorf("%w: clusters of %d bytes: choose a power of two from 65536 to 1048576", ErrInvalid, bytes)
}

// ImportPool opens the pool on a device, with all its volumes. A device that does not answer ends it with ErrStuck (stuckopen.go).
func ImportPool(g *bdev.Registry, device string, cfg PoolConfig) (*Pool, error) {
	p, err := openDevice(g, device, cfg)
	if err != nil {
		return nil, fmt.Errorf("importing the pool on %s: %w", device, err)
	}
	if err := p.arrive(p.load); err != nil {
		return nil, fmt.Errorf("importing the pool on %s: %w", device, err)
	}
	return p, nil
}

// load reads a pool: newest slot, bitmap, directory, volumes.
func (p *Pool) load() error {
	newest, older, err := p.readSlots()
	if err != nil {
		return err
	}
	if newest.Server != p.cfg.Server && !p.cfg.TakeOver {
		return fmt.Errorf("%w: %v; take it over if that server is gone", ErrPoolForeign, newest.Server)
	}
	p.id, p.shape = newest.Pool, ShapeOf(newest.ClusterShift)
	geometry := p.handle.Device().Geometry()
	if have := geometry.Bytes() / PageBytes; have < newest.Pages {
		return fmt.Errorf("%w: it has %d pages, and the device %d", ErrPoolCorrupt, newest.Pages, have)
	}
	root, err := p.openRoot(newest, older)
	if err != nil {
		return err
	}
	newest, older = root.slot, root.older
	p.alloc, p.directory = root.alloc, root.directory
	p.slot, p.nextVolume = *newest, newest.NextVolume
	p.name, p.pages = newest.Name, newest.Pages
	p.slot.Server, p.slot.Boot = p.cfg.Server, p.cfg.Boot
	if older == nil {
		if err := p.blankSlot(SlotPlace[1-newest.Number]); err != nil {
			return err
		}
	}
	if err := p.openLogs(newest); p.acceptable(err) {
		if root.unread != nil {
			return fmt.Errorf("%w; and their logs cannot be replaced by others, since a volume cannot be given one: %w", err, root.unread)
		}
		if err := p.replaceLogs(root); err != nil {
			return err
		}
		return p.openVolumes(root)
	} else if err != nil {
		return err
	}
	if err := p.claimLogs(root); err != nil {
		return err
	}
	return p.openVolumes(root)
}

// blankSlot wipes a slot that is not valid. If its damage is a part of it, and the next commit's slot got no further than that part when the
// power fails, it would be whole again: a slot of the generation that it had, over bitmap sides that have been written anew.
func (p *Pool) blankSlot(at Place) error {
	if err := p.disk.write(at, pageMemory(1)); err != nil {
		return err
	}
	return p.disk.flush()
}

// readSlots reads both slots and gives the newest, and the older one if the pool can be opened by that too. One that cannot be read
// is as one that is not valid.
func (p *Pool) readSlots() (newest, older *Slot, err error) {
	pages, unread := p.disk.readSlots()
	if newest, older, err = ReadSlots(pages, new([2]Slot)); err != nil && unread != nil {
		err = fmt.Errorf("%w (%w)", err, unread)
	}
	return newest, older, err
}

// readDirectory reads the directory of a slot.
func (p *Pool) readDirectory(s *Slot, d *rootDirectory) error {
	d.ref = s.Directory
	if s.Directory.IsZero() {
		return nil
	}
	buf := pageMemory(1)
	if err := p.disk.read(s.Directory.Place, buf); err != nil {
		return err
	}
	if _, err := OpenDirectoryTop(buf, s.Pool, s.Directory.CRC, s.Pages); err != nil {
		return err
	}
	for i := range d.top {
		d.top[i] = RefAt(buf, i)
	}
	for i, ref := range d.top {
		if ref.IsZero() {
			continue
		}
		if err := p.disk.read(ref.Place, buf); err != nil {
			return err
		}
		if _, err := OpenDirectory(buf, s.Pool, uint64(i), ref.CRC, s.Pages); err != nil {
			return err
		}
		d.pages[i] = new([RefsMax]Ref)
		for k := range d.pages[i] {
			if d.pages[i][k] = RefAt(buf, k); !d.pages[i][k].IsZero() {
				d.volumes++
			}
		}
	}
	return nil
}

// found is a volume as a directory leads to it.
type foundVolume struct {
	page VolumePage
	ref  Ref
	err  error
}

// readVolumes reads the volume pages of a directory, by position.
func (p *Pool) readVolumes(d *rootDirectory, pages uint64) map[uint64]foundVolume {
	all := map[uint64]foundVolume{}
	buf := pageMemory(1)
	for i, refs := range d.pages {
		if refs == nil {
			continue
		}
		for k, ref := range refs {
			if ref.IsZero() {
				continue
			}
			at := uint64(i*RefsMax + k)
			f := foundVolume{ref: ref}
			if f.err = p.disk.read(ref.Place, buf); f.err == nil {
				f.err = f.page.Decode(buf, p.id, at, ref.CRC, pages)
			}
			if f.err != nil {
				f.page = VolumePage{}
			}
			all[at] = f
		}
	}
	return all
}

// ID is the pool's UUID.
func (p *Pool) ID() uuid.UUID { return p.id }

// created is when something is made, in Unix seconds.
func created() int64 { return time.Now().Unix() }
