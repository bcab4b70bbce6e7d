package volume

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/pollux-storage/pollux/bdev"
	"github.com/pollux-storage/pollux/bdev/bdevsim"
	"github.com/pollux-storage/pollux/internal/sim"
	"github.com/pollux-storage/pollux/reactor"
	"github.com/pollux-storage/pollux/wal"
)

// This file is the simulation of pools under faults: several volumes, clients on two reactors, whatever simOps has, a disk of which
// simFaults says what is wrong, stages of the engine that are held, a pool that becomes full.
//
// It goes in episodes. In each, things are done while something is wrong, or nothing is; then the disk is whole again, all come to rest,
// what is there is compared with the model, and the pool goes on, is closed and opened, or loses its power. What is promised depends on
// what the disk does:
//
//	it is slow, stalls, fails and says so     nothing acknowledged is lost; a read is right, or says that it failed
//	it lies: loses or misdirects writes,      a read is right, or says that it failed; after a power cut it may be an older value of
//	flips bits                                the same block; never is it another block's or volume's
//
// In every case: all that was begun ends, the engine goes on, the pool can be closed, and a pool that was not lied to is whole by its own
// check. After an episode of lies the pool is made anew on the same disk, whose old bytes stay where they are.

// simVolume is a volume and what is known of it.
type simVolume struct {
	v       *Volume
	name    string
	origin  uint16
	blocks  uint64
	sizes   []simSize
	mayHave uint64 // or so many, after a growth of which the end is not known; 0: no
	cache   WriteCache
	verify  bool
	thick   bool
	content *simContent
	saves   [3][]*simSave // of each of reserveOwners
	saving  int
	clients []*simClient
	snaps   []*simSnapshot
	taken   map[string]*simSnapshot // all that ever were
	loses   bool                    // it reports the loss of a log device
	parent  *simSnapshot            // of a clone
}

// simulation is one run.
type simulation struct {
	*house
	r       *rand.Rand
	cfg     PoolConfig
	volumes []*simVolume

	apart   bool         // pools have their logs on a device of their own
	log     *bdev.Device // that device, nil if there is none
	logName string
	logs    int
	ghost   *sim.Image // a log device that was given up
	going   []*sim.Disk
	goesIn  int // steps, until these lose their power

	tick   int
	writes uint32
	origin uint16

	full    bool // the volumes do not fit into the pool
	fault   *simFault
	faulty  bool // the disk fails, or did since the pool was opened: requests may fail
	lied    bool // it lied since the pool was made
	after   bool // and the pool was opened after that
	gentle  bool // imports meet no faults, and the power stays
	loaded  bool // clients go on while control waits
	stalled bool // something makes requests late
	said    []string
	did     map[string]int
}

// simFault is something that is wrong with the disk.
type simFault struct {
	name  string
	lies  bool
	fails bool // requests to the pool may fail
	gone  bool // until the power comes back: what the cache held is lost, and nothing works
	make  func(s *simulation) sim.Fault
}

var simWrites = sim.KindsOf(sim.Write, sim.Zeroes, sim.Unmap)

// simFaults are the faults; half of the episodes have none. Which operations are met is drawn: so many of them, or a few in a row.
var simFaults = []simFault{
	{"writes fail", false, true, false, func(*simulation) sim.Fault { return sim.Fault{Effect: sim.Fail, Kinds: simWrites} }},
	{"reads fail", false, true, false, func(*simulation) sim.Fault { return sim.Fault{Effect: sim.Fail, Kinds: sim.KindsOf(sim.Read)} }},
	{"flushes fail", false, true, false, func(*simulation) sim.Fault { return sim.Fault{Effect: sim.Fail, Kinds: sim.KindsOf(sim.Flush)} }},
	{"writes are torn and reported", false, true, false, func(*simulation) sim.Fault { return sim.Fault{Effect: sim.Tear, Reported: true} }},
	{"the disk is slow", false, false, false, func(s *simulation) sim.Fault { return sim.Fault{Effect: sim.Slow, Factor: 10 + s.r.Int64N(2000)} }},
	{"the disk is stuck", false, false, false, func(*simulation) sim.Fault { return sim.Fault{Effect: sim.Stick} }},
	{"writes are lost", true, true, false, func(*simulation) sim.Fault { return sim.Fault{Effect: sim.Lose} }},
	{"writes are torn in silence", true, true, false, func(*simulation) sim.Fault { return sim.Fault{Effect: sim.Tear} }},
	{"writes go elsewhere", true, true, false, func(*simulation) sim.Fault { return sim.Fault{Effect: sim.Misdirect} }},
	{"bits are flipped when written", true, true, false, func(*simulation) sim.Fault {
		return sim.Fault{Effect: sim.FlipBits, Kinds: sim.KindsOf(sim.Write)}
	}},
	{"bits are flipped when read", true, true, false, func(*simulation) sim.Fault {
		return sim.Fault{Effect: sim.FlipBits, Kinds: sim.KindsOf(sim.Read)}
	}},
}

// Sizes of the simulation.
const (
	simPoolBytes    = 72 << 20
	simFullBytes    = 40 << 20
	simLogBytes     = 6 << 20
	simVolumesMax   = 4
	simBlocksMin    = 300 // the map of so few has one leaf
	simBlocksMax    = 2000
	simClients      = 3 // of a volume
	simRequestPages = 256
)

func newSimulation(t *testing.T, seed uint64) *simulation {
	t.Helper()
	s := &simulation{house: &house{t: t, w: bdevsim.NewWorld(t, seed, 2)}, r: sim.Stream(seed, "script"), tick: 1, did: map[string]int{}}
	t.Cleanup(func() {
		if t.Failed() {
			for _, line := range s.said[max(0, len(s.said)-40):] {
				t.Log(line)
			}
		}
	})
	s.full = s.r.Uint32N(3) == 0
	s.apart = s.r.Uint32N(3) == 0
	bytes := uint64(simPoolBytes)
	switch {
	case s.full && s.apart:
		bytes = simFullBytes - 2*simLogBytes
	case s.full:
		bytes = simFullBytes
	}
	s.disk = s.w.Disk("Disk0", bytes)
	old := make([]byte, 1<<20) // bytes of whoever had the disk before
	for i := range old {
		old[i] = 0xa5
	}
	for at := uint64(0); at < bytes; at += 1 << 20 {
		s.medium().Spoil(at, old)
	}
	s.makePool()
	return s
}

func (s *simulation) medium() *sim.Disk { return bdevsim.DiskOf(s.disk).Medium() }

// media are all disks.
func (s *simulation) media() []*sim.Disk {
	all := []*sim.Disk{s.medium()}
	if s.log != nil {
		all = append(all, bdevsim.DiskOf(s.log).Medium())
	}
	return all
}

// choice is what a power cut keeps.
func (s *simulation) choice() sim.Choice { return sim.Random(s.r, s.r.Float64()) }

func (s *simulation) say(format string, args ...any) {
	s.said = append(s.said, fmt.Sprintf("at %d, tick %d: ", s.w.Now(), s.tick)+fmt.Sprintf(format, args...))
}

func (s *simulation) poolConfig() PoolConfig {
	cfg := s.cfg
	cfg.Await = s.await
	return cfg
}

// await is how control work waits.
func (s *simulation) await(until func() bool) {
	s.w.Run("control work", func() bool {
		if until() {
			return true
		}
		if s.loaded {
			s.load()
		}
		return false
	})
}

// makePool makes a pool with some volumes; what the disk had before is nobody's any more.
func (s *simulation) makePool() {
	s.t.Helper()
	s.cfg = PoolConfig{
		Name: "pool0", Server: houseServer, CacheBytes: 1 << 20 << s.r.Uint32N(3), ClusterBytes: 64 << 10 << s.r.Uint32N(3),
		Stages: new(wal.Stages), SmallLogs: true,
	}
	s.lied, s.after, s.faulty, s.volumes, s.log, s.ghost = false, false, false, nil, nil, nil
	if s.apart {
		s.cfg.LogDevice = s.newLogDevice()
	}
	var err error
	if s.pool, err = CreatePool(s.w.Registry, "Disk0", s.poolConfig()); err != nil {
		s.t.Fatal(err)
	}
	s.cfg.LogDevice = "" // it is found
	for range 2 {
		s.makeVolume()
	}
}

// makeVolume makes one more, if there is room for its log.
func (s *simulation) makeVolume() {
	s.t.Helper()
	s.makeVolumeOf(WriteCache(s.r.Uint32N(2)))
}

func (s *simulation) makeVolumeOf(cache WriteCache) {
	s.t.Helper()
	s.origin++
	x := &simVolume{
		name: fmt.Sprint("v", s.origin), origin: s.origin, blocks: simBlocksMin + s.r.Uint64N(simBlocksMax-simBlocksMin), content: newSimContent(),
		cache: cache, verify: s.r.Uint32N(4) > 0, thick: s.r.Uint32N(4) == 0, taken: map[string]*simSnapshot{},
	}
	x.sizes = []simSize{{x.blocks, 0}}
	v, err := s.pool.CreateVolume(VolumeConfig{Name: x.name, Bytes: x.blocks * PageBytes, LogBytes: simLogBytes, Cache: x.cache, Verify: x.verify, Thick: x.thick})
	if errors.Is(err, ErrNoSpace) && len(s.volumes) > 0 {
		s.say("no room for volume %s", x.name)
		return
	}
	if err != nil {
		s.t.Fatalf("making volume %s: %v", x.name, err)
	}
	s.say("volume %s made: %d blocks, cache %v, verified %v, thick %v", x.name, x.blocks, x.cache, x.verify, x.thick)
	x.v = v
	s.volumes = append(s.volumes, x)
	s.attach(x)
}

// attach gives a volume its clients.
func (s *simulation) attach(x *simVolume) {
	x.clients, x.saving = nil, 0
	for i := range simClients {
		x.clients = append(x.clients, newSimClient(s, x, i%2))
	}
}

// detach takes them away; they are at rest.
func (s *simulation) detach(x *simVolume) {
	for _, c := range x.clients {
		c.close()
	}
	x.clients = nil
}

// free gives a client of a volume that is not busy, nil if all are.
func (x *simVolume) free() *simClient {
	for _, c := range x.clients {
		if !c.busy {
			return c
		}
	}
	return nil
}

func (s *simulation) busy() (n int) {
	for _, x := range s.volumes {
		for _, c := range x.clients {
			if c.busy {
				n++
			}
		}
		n += x.saving
	}
	return n
}

// rest waits until all clients are.
func (s *simulation) rest() {
	s.t.Helper()
	s.w.Run("all clients are done", func() bool { return s.busy() == 0 })
}

// heal makes the disk whole, and lets go what is held.
func (s *simulation) heal() {
	s.fault = nil
	for _, m := range s.media() {
		m.Heal()
	}
	for at := range wal.Stage(wal.StageCount) {
		s.w.On(0, func(*reactor.Reactor) { s.cfg.Stages.Open(at) })
	}
}

// quiet says that nothing is wrong, nothing held, and nothing was since the pool was opened that made a volume end.
func (s *simulation) quiet() bool { return s.fault == nil && !s.stalled && !s.faulty }

// inject lets something be wrong with the disk.
func (s *simulation) inject() {
	s.fault = &simFaults[s.r.IntN(len(simFaults))]
	f := s.fault.make(s)
	switch s.r.Uint32N(3) {
	case 0:
		f.Rate = 0.002 + 0.1*s.r.Float64()
	case 1:
		f.Skip, f.Count = s.r.Uint64N(200), 1+s.r.Uint64N(4)
	case 2:
		f.Skip, f.Count = s.r.Uint64N(50), 20
	}
	if f.Effect == sim.Slow {
		f.Rate, f.Skip, f.Count = 0, 0, 0
	}
	on, where := s.media(), "all disks" // together or apart
	if n := s.r.IntN(len(on) + 1); n < len(on) {
		on, where = on[n:n+1], on[n].Config().Name
	}
	if s.fault.gone {
		s.going, s.goesIn = on, 1+s.r.IntN(100)
	} else {
		for _, m := range on {
			m.Inject(f)
		}
	}
	s.faulty = s.faulty || s.fault.fails
	s.lied = s.lied || s.fault.lies
	s.stalled = s.stalled || f.Effect == sim.Slow || f.Effect == sim.Stick
	s.say("%s, on %s: rate %v, skip %d, count %d", s.fault.name, where, f.Rate, f.Skip, f.Count)
	s.did[s.fault.name]++
}

// episode is some time in which one thing is wrong at most.
func (s *simulation) episode(steps int) {
	s.t.Helper()
	s.stalled = false
	switch s.r.Uint32N(8) {
	case 0, 1, 2, 3:
		s.inject()
	case 4:
		s.stalled = true // stages are shut and opened
		s.say("stages stall")
		s.did["stages stall"]++
	default:
		s.say("nothing is wrong")
	}
	for n := 0; n < steps; n++ {
		if s.stalled && s.fault == nil && s.r.Uint32N(12) == 0 {
			s.turnStage()
		}
		s.step()
		if s.t.Failed() {
			return
		}
	}
	gone := s.fault != nil && s.fault.gone
	if !gone {
		s.heal()
	}
	s.rest()
	s.w.RunFor(300 * reactor.Millisecond)
	s.compareAll("at the end of an episode", simSight{at: s.tick, until: s.tick})
	s.stalled = false
	switch {
	case gone:
		s.crash(s.choice())
	case s.lied:
		s.afterLies()
	case s.faulty && s.r.Uint32N(2) == 0, s.r.Uint32N(3) == 0:
		s.crash(s.choice())
	case s.faulty, s.r.Uint32N(3) == 0:
		s.reopen()
	default:
		s.checked()
	}
	for _, x := range s.volumes {
		x.content.prune(s.older(x))
	}
}

// turnStage shuts or opens one.
func (s *simulation) turnStage() {
	at := wal.Stage(s.r.IntN(wal.StageCount))
	s.w.On(0, func(*reactor.Reactor) {
		if s.cfg.Stages.IsShut(at) {
			s.cfg.Stages.Open(at)
		} else {
			s.cfg.Stages.Shut(at)
		}
	})
}

// step does one thing, and lets some time pass.
func (s *simulation) step() {
	s.t.Helper()
	s.goAway()
	total := uint32(0)
	for i := range simOps {
		total += simOps[i].weight
	}
	for at := s.r.Uint32N(total); ; {
		for i := range simOps {
			o := &simOps[i]
			if at >= o.weight {
				at -= o.weight
				continue
			}
			if o.alone {
				if !s.quiet() {
					break
				}
				s.rest()
				s.say("%s", o.name)
			}
			s.did[o.name]++
			o.do(s, s.volumes[s.r.IntN(len(s.volumes))])
			break
		}
		break
	}
	switch n := s.r.Uint32N(64); {
	case n == 0:
		s.w.RunFor(reactor.Ticks(s.r.Int64N(int64(2 * reactor.Second))))
	case n < 4 || s.stalled && n < 8:
		s.w.RunFor(reactor.Ticks(s.r.Int64N(int64(100 * reactor.Millisecond))))
	default:
		s.w.RunFor(reactor.Ticks(s.r.Int64N(int64(300 * reactor.Microsecond))))
	}
}

// compareAll reads all volumes and holds them against the model.
func (s *simulation) compareAll(what string, sight simSight) {
	s.t.Helper()
	s.stalled = false
	buf := pageMemory(simRequestPages)
	for _, x := range s.volumes {
		s.compareSnapshots(what, x, sight)
		s.compareReservations(what, x, sight)
		c := x.clients[0]
		for at := uint64(0); at < x.blocks; {
			n := min(simRequestPages, x.blocks-at)
			st := c.do(bdev.Read, at, n, buf[:n*PageBytes])
			for i := uint64(0); st != bdev.StatusOK && i < n; i++ { // which of them?
				s.mayFail(what, bdev.Read, x, st)
				if c.do(bdev.Read, at+i, 1, buf[:PageBytes]) == bdev.StatusOK {
					s.compare(what, x, x.content, at+i, buf[:PageBytes], sight)
				}
			}
			if st == bdev.StatusOK {
				s.compare(what, x, x.content, at, buf[:n*PageBytes], sight)
			}
			at += n
		}
		s.outOfRange(what, "volume "+x.name, x.v.Device(), c, x.blocks)
	}
}

// compare compares blocks with a content.
func (s *simulation) compare(what string, x *simVolume, content *simContent, block uint64, data []byte, sight simSight) {
	s.t.Helper()
	for ; len(data) > 0; data, block = data[PageBytes:], block+1 {
		word, ok := simRead(data[:PageBytes])
		if ok && content.allowed(block, word, sight) {
			continue
		}
		if !x.verify && s.lied {
			continue // nothing is promised
		}
		if !ok {
			s.t.Fatalf("%s: block %d of volume %s has bytes that nobody wrote so: % x", what, block, x.name, data[:16])
		}
		s.t.Fatalf("%s: block %d of volume %s (%d) has %v; what must be seen ended by %d (durable: %v); it may be of:%s",
			what, block, x.name, x.origin, word, sight.at, sight.durable, content.history(block))
	}
}

// mayFail fails the test where a request may not fail with a status.
func (s *simulation) mayFail(what string, kind bdev.Kind, x *simVolume, st bdev.Status) {
	s.t.Helper()
	switch {
	case s.faulty, s.lied:
	case st == bdev.StatusBusy && s.late() && kind.Writes():
	case st == bdev.StatusNoSpace && !x.thick && kind.Writes() && kind != bdev.Unmap && kind != bdev.WriteZeroes:
	default:
		s.t.Fatalf("%s: %v of volume %s: %v, and nothing is wrong", what, kind, x.name, st)
	}
}

// late says that a request may find the door shut for too long.
func (s *simulation) late() bool { return s.stalled || s.full }

// closeVolume closes one whose clients are gone: here, where waiting lets the world go on, before its device is removed.
func (s *simulation) closeVolume(x *simVolume) {
	s.t.Helper()
	if err := x.v.Close(); err != nil {
		s.t.Fatal(err)
	}
	if err := s.w.Registry.Unregister(s.t.Context(), x.v.Device().Name()); err != nil {
		s.t.Fatal(err)
	}
}

// closePool closes everything in order.
func (s *simulation) closePool() {
	s.t.Helper()
	for _, x := range s.volumes {
		s.detach(x)
		s.closeVolume(x)
	}
	if err := s.pool.Export(s.t.Context()); err != nil && !s.faulty && !s.lied {
		s.t.Fatal(err)
	}
	for i := range s.w.Group.Len() {
		s.w.On(i, func(r *reactor.Reactor) {
			if n := r.Memory().Stats().InUse; n != 0 {
				s.t.Fatalf("reactor %d lends %d bytes, and all is closed", i, n)
			}
		})
	}
}

// reopen closes the pool in order, and opens it again, in the same process.
func (s *simulation) reopen() {
	s.t.Helper()
	s.say("closed and opened")
	s.did["closed and opened"]++
	clean := !s.faulty
	s.closePool()
	tick := s.tick
	s.importPool()
	s.found("closed and opened", simSight{at: tick, until: tick, durable: !clean})
}

// crash takes the power.
func (s *simulation) crash(c sim.Choice) {
	s.t.Helper()
	s.crashAt(s.cutNow(), c)
}

// importPool opens the pool; sometimes the first attempt meets faults that come and go.
func (s *simulation) importPool() {
	s.t.Helper()
	s.faulty = false
	for !s.gentle && s.r.Uint32N(4) == 0 {
		f := sim.Fault{Effect: sim.Fail, Kinds: sim.KindsOf(sim.Kind(s.r.IntN(2)), sim.Flush), Skip: s.r.Uint64N(60), Count: 1 + s.r.Uint64N(3)}
		on := s.media()
		on[s.r.IntN(len(on))].Inject(f)
		pool, err := ImportPool(s.w.Registry, "Disk0", s.poolConfig())
		if err == nil {
			err = pool.Export(s.t.Context())
		}
		for _, m := range on {
			m.Heal()
		}
		s.say("an import that meets faults (%v): %v", f.Kinds, err)
	}
	var err error
	if s.pool, err = ImportPool(s.w.Registry, "Disk0", s.poolConfig()); err != nil {
		s.t.Fatal(err)
	}
	s.ghostAlone()
	if got := len(s.pool.volumes); got != len(s.volumes) {
		s.t.Fatalf("the pool has %d volumes, and %d were made", got, len(s.volumes))
	}
	for _, x := range s.volumes {
		x.v = s.find(x.name)
		if x.v.failed != bdev.StatusOK {
			s.t.Fatalf("volume %s is %v: %q", x.name, x.v.failed, s.pool.problems)
		}
		s.foundSize(x)
		s.foundLoss(x)
		s.attach(x)
	}
}

// found compares a pool that was opened; what is in it is what it has from now on.
func (s *simulation) found(what string, sight simSight) {
	s.t.Helper()
	s.compareAll(what, sight)
	buf := pageMemory(simBlocksMax)
	s.tick++
	for _, x := range s.volumes {
		for at := uint64(0); at < x.blocks; at += simRequestPages {
			n := min(simRequestPages, x.blocks-at)
			x.clients[0].must(bdev.Read, at, n, buf[at*PageBytes:][:n*PageBytes])
		}
		s.foundPrefix(what, x, buf[:x.blocks*PageBytes], s.tick)
		s.settleSaves(x, sight.until, x.appended())
		x.content.settle(s.tick, sight.until, x.appended(), s.older(x), func(block uint64) simWord {
			w, _ := simRead(buf[block*PageBytes:][:PageBytes])
			return w
		})
	}
	s.tick++
	s.checked()
}

// checked lets the pool be checked by itself.
func (s *simulation) checked() {
	s.t.Helper()
	r, err := s.pool.Check()
	if err != nil {
		s.t.Fatal(err)
	}
	if !r.OK() {
		s.t.Fatalf("the pool's check finds %d lost, %d free, %d twice: %q", r.Lost, r.Free, r.Twice, r.Problems)
	}
}

// afterLies opens the pool after a disk that lied, as far as that goes: it may be refused, and volumes may be read only, but what is read
// was once written to that block. Then there is a new one.
func (s *simulation) afterLies() {
	s.t.Helper()
	sight := simSight{at: s.tick, until: s.tick, ever: true}
	if _, err := s.pool.Check(); err != nil {
		s.say("the check after lies: %v", err)
	}
	if s.r.Uint32N(2) == 0 {
		s.say("closed after lies")
		s.closePool()
	}
	s.bootDisks(s.cutNow(), s.choice())
	var err error
	if s.pool, err = ImportPool(s.w.Registry, "Disk0", s.poolConfig()); err != nil {
		s.say("the import after lies: %v", err)
		s.did["refused after lies"]++
		s.makePool()
		return
	}
	s.did["opened after lies"]++
	s.after = true
	var open []*simVolume
	for _, x := range s.volumes {
		for _, v := range s.pool.volumes {
			if v.page.Name.String() == x.name {
				x.v = v
				open = append(open, x)
			}
		}
	}
	s.volumes = open
	for _, x := range s.volumes {
		x.blocks, x.mayHave = x.v.device.Geometry().Blocks, 0
		s.attach(x)
	}
	s.compareAll("after lies", sight)
	for range 30 {
		if len(s.volumes) > 0 {
			s.step()
		}
	}
	s.heal()
	s.rest()
	sight.until = s.tick
	s.compareAll("after lies, written to", sight)
	s.closePool()
	s.makePool()
}

// TestSimulationUnderFaults is the long run.
func TestSimulationUnderFaults(t *testing.T) {
	sim.Each(t, 4, []uint64{757245128871701052, 4373826980589360973, 4108875029460396129, 13912853122812878448, 15886628335437763931}, func(t *testing.T, seed uint64) {
		s := newSimulation(t, seed)
		for range max(sim.Rounds(10), 3) { // three come to a comparison, to a closing and to a power cut
			s.episode(120)
		}
		s.say("%v", s.did)
		if testing.Verbose() {
			t.Log(s.did)
		}
	})
}
