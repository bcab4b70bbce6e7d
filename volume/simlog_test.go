package volume

import (
	"errors"
	"fmt"
	"maps"
	"math"

	"github.com/pollux-storage/pollux/bdev"
	"github.com/pollux-storage/pollux/bdev/bdevsim"
	"github.com/pollux-storage/pollux/internal/sim"
	"github.com/pollux-storage/pollux/wal"
)

// This file is pools of the simulation whose logs are on a device of their own (V-34). It fails and loses its power together with the pool's
// disk or apart from it. When it is gone for good the pool is opened only by who accepts that. Then each volume is as a checkpoint has it:
//
//	everything up to the checkpoint's LSN     is there: a block that nobody changed later has these bytes, and no error
//	a block that was changed later            may have come home since: it is of any of these changes, and where it is verified an error,
//	                                          since the map does not have its checksum; where it is not a scrub finds it, and it may be torn
//	snapshots, sizes, reservations            of the checkpoint, or newer
//
// and says what it lost. The device that is gone turns up again, and nobody takes it for the pool's.

func init() {
	simOps = append(simOps,
		simOp{"loss of the log device", 1, true, (*simulation).loseLogsNow},
		simOp{"release of a loss", 2, true, (*simulation).releaseLoss},
	)
	simFaults = append(simFaults, simFault{name: "a device loses its power", fails: true, gone: true,
		make: func(*simulation) sim.Fault { return sim.Fault{Effect: sim.Fail} }})
}

// newLogDevice makes one, and gives its name.
func (s *simulation) newLogDevice() string {
	s.t.Helper()
	s.logs++
	s.logName = fmt.Sprint("Log", s.logs)
	s.log = s.w.Disk(s.logName, (20+s.r.Uint64N(20))<<20)
	old := make([]byte, 1<<20)
	for i := range old {
		old[i] = 0xa5
	}
	bdevsim.DiskOf(s.log).Medium().Spoil(0, old)
	return s.logName
}

// bootDisks starts with what a power cut leaves of all disks.
func (s *simulation) bootDisks(cut *simCut, c sim.Choice) {
	s.t.Helper()
	disk, log := s.left(cut, c)
	s.bootWith(disk)
	if log == nil {
		return
	}
	if !s.lied && s.r.Uint32N(6) == 0 {
		s.refusedWithoutLogs()
	}
	s.log = s.w.Open(s.logName, log)
}

// left decides what a power cut leaves: the two disks keep what they like.
func (s *simulation) left(cut *simCut, c sim.Choice) (disk, log *sim.Image) {
	other := s.choice()
	switch s.r.Uint32N(4) {
	case 0:
		c, other = sim.None, sim.All
	case 1:
		other = sim.None
	}
	if cut.log != nil {
		log = cut.log.Crash(other)
	}
	return cut.disk.Crash(c), log
}

// bootWith starts without a log device; one that was given up may be there.
func (s *simulation) bootWith(disk *sim.Image) {
	s.w.Reboot()
	s.disk, s.log = s.w.Open("Disk0", disk), nil
	if s.ghost != nil && s.r.Uint32N(2) == 0 {
		s.w.Open("Ghost0", s.ghost)
	}
}

func (s *simulation) refusedWithoutLogs() {
	s.t.Helper()
	if _, err := ImportPool(s.w.Registry, "Disk0", s.poolConfig()); !errors.Is(err, ErrLogMissing) {
		s.t.Fatalf("opened without its log device: %v", err)
	}
}

// older is what may be seen of a volume should the power fail now, or should it lose its logs.
func (s *simulation) older(x *simVolume) *simSight {
	return &simSight{at: s.tick, until: s.tick, durable: true, lost: s.apart, lsn: x.v.page.Checkpoint}
}

// goAway lets devices lose their power when it is time.
func (s *simulation) goAway() {
	if s.fault == nil || !s.fault.gone {
		return
	}
	if s.goesIn--; s.goesIn == 0 {
		for _, m := range s.going {
			m.Crash(s.choice())
			m.Inject(s.fault.make(s))
		}
	}
}

// ghostAlone says that a log device that was given up is left alone.
func (s *simulation) ghostAlone() {
	s.t.Helper()
	if d, err := s.w.Registry.Lookup("Ghost0"); err == nil && d.Claim() != "" {
		s.t.Fatalf("a log device that was given up is in use: %s", d.Claim())
	}
}

// loseLogsNow takes the log device away with the power, whatever the pool does.
func (s *simulation) loseLogsNow(*simVolume) {
	s.t.Helper()
	if s.log == nil {
		return
	}
	closed := s.r.Uint32N(4) == 0
	if closed {
		s.closePool()
	}
	s.loseLogs(s.cutNow(), closed)
}

// loseLogs opens a pool after a power cut, without its log device. If it was closed before nothing is lost but the log.
func (s *simulation) loseLogs(cut *simCut, closed bool) {
	s.t.Helper()
	s.say("the log device is lost; closed before: %v", closed)
	s.did["the log device is lost"]++
	s.heal()
	disk, log := s.left(cut, s.choice())
	s.bootWith(disk)
	s.faulty = false
	if !s.openWithoutLogs() {
		return
	}
	s.ghostAlone()
	s.ghost = log
	if got := len(s.pool.volumes); got != len(s.volumes) {
		s.t.Fatalf("without its logs the pool has %d volumes, and %d were made", got, len(s.volumes))
	}
	for _, x := range s.volumes {
		x.v = s.find(x.name)
		s.attach(x)
	}
	whole := true
	for _, x := range s.volumes {
		pg := &x.v.page
		sight := simSight{at: cut.tick, until: cut.tick, lost: true, lsn: math.MaxUint64}
		switch m := cut.marks[x]; {
		case closed:
			s.foundLoss(x)
		case pg.Loss != LossDevice || pg.LossFound < m.home || pg.LossFound > m.durable || pg.LossKnown < pg.LossFound || pg.LossKnown > m.durable:
			s.t.Fatalf("volume %s reports loss %v, found up to %d, known to be durable up to %d; a checkpoint had %d, and %d was durable",
				x.name, pg.Loss, pg.LossFound, pg.LossKnown, m.home, m.durable)
		default:
			sight.lsn, x.loses = pg.LossFound, true
		}
		s.adopt(x, sight)
		s.compareSnapshots("without its logs", x, sight)
		s.compareReservations("without its logs", x, sight)
		s.tick++
		x.saves = [3][]*simSave{}
		s.settleSaves(x, s.tick, 0)
		whole = s.repair(x, sight) && whole
	}
	if !whole {
		s.say("no room for what would make volumes whole that lost their logs")
		s.closePool()
		s.makePool()
		return
	}
	s.found("without its logs, made whole", simSight{at: s.tick, until: s.tick})
}

// openWithoutLogs imports a pool whose log device is gone, at the second attempt if the power fails at the first. It reports false where
// that cannot be, and makes a new pool.
func (s *simulation) openWithoutLogs() bool {
	s.t.Helper()
	for try := 0; ; try++ {
		cfg := s.poolConfig()
		if try == 0 && s.r.Uint32N(2) == 0 {
			s.refusedWithoutLogs()
		}
		cfg.AcceptLogLoss, s.log = true, nil
		if try > 1 || s.r.Uint32N(2) == 0 {
			cfg.LogDevice = s.newLogDevice()
		}
		var cut *simCut
		if left := s.r.IntN(60); try == 0 && s.r.Uint32N(2) == 0 {
			s.watch(func(p sim.Point) {
				if left--; left == 0 {
					cut = &simCut{disk: s.medium().Snapshot(), where: p.String()}
					if s.log != nil {
						cut.log = bdevsim.DiskOf(s.log).Medium().Snapshot()
					}
				}
			})
		}
		pool, err := ImportPool(s.w.Registry, "Disk0", cfg)
		s.watch(nil)
		s.say("opened without the log device, on %q: %v", cfg.LogDevice, err)
		switch {
		case cut != nil:
			s.say("power cut at %s", cut.where)
			disk, log := s.left(cut, s.choice())
			s.bootWith(disk)
			if log != nil {
				s.log = s.w.Open(s.logName, log)
			}
			// Whether the loss was accepted is not known now.
			if s.pool, err = ImportPool(s.w.Registry, "Disk0", s.poolConfig()); err == nil {
				return true
			}
			if !errors.Is(err, ErrLogMissing) {
				s.t.Fatal(err)
			}
		case err == nil:
			s.pool = pool
			return true
		case errors.Is(err, ErrNoSpace) && cfg.LogDevice == "":
		case errors.Is(err, ErrNoSpace):
			s.makePool()
			return false
		default:
			s.t.Fatal(err)
		}
	}
}

// adopt takes what the pool says of a volume that lost its logs, as far as that can be.
func (s *simulation) adopt(x *simVolume, sight simSight) {
	s.t.Helper()
	n := x.v.device.Geometry().Blocks
	least := x.least(sight.lsn)
	if n < least || n > max(x.blocks, x.mayHave) {
		s.t.Fatalf("volume %s has %d blocks without its logs; it should have %d to %d", x.name, n, least, max(x.blocks, x.mayHave))
	}
	x.blocks, x.mayHave, x.sizes = n, 0, []simSize{{n, 0}}
	maps.DeleteFunc(x.content.blocks, func(b uint64, _ []*simWrite) bool { return b >= n }) // with the growth that made them
	for _, o := range x.snaps {
		if _, err := x.v.findSnapshot(o.name); err != nil && o.lsn <= sight.lsn {
			s.t.Fatalf("snapshot %s of volume %s was at LSN %d at most, and a checkpoint at %d does not have it", o.name, x.name, o.lsn, sight.lsn)
		}
	}
	x.snaps = nil
	for _, d := range x.v.openedSnapshots() {
		o := x.taken[d.of.Name.String()]
		if o == nil {
			s.t.Fatalf("volume %s has a snapshot %v that nobody took", x.name, d.of.Name)
		}
		x.snaps = append(x.snaps, o)
	}
	x.parent = nil
	for _, o := range s.volumes {
		if o.v.page.Number != x.v.page.Parent {
			continue
		}
		for _, d := range o.v.openedSnapshots() {
			if d.number == x.v.page.ParentSnapshot {
				x.parent = o.taken[d.of.Name.String()]
			}
		}
	}
	if x.v.page.Parent != 0 && x.parent == nil {
		s.t.Fatalf("volume %s is a clone of snapshot %d of volume %d, which is not there", x.name, x.v.page.ParentSnapshot, x.v.page.Parent)
	}
}

// least is the size that a volume has at least, if a checkpoint with this LSN counts.
func (x *simVolume) least(lsn wal.LSN) uint64 {
	n := uint64(0)
	for _, g := range x.sizes {
		if g.lsn <= lsn {
			n = max(n, g.blocks)
		}
	}
	return n
}

// simSize is a size that a volume has for certain.
type simSize struct {
	blocks uint64
	lsn    wal.LSN // its event has this one or an older one
}

// repair reads a volume that lost its logs block by block, and writes those that it does not find whole. It reports false if there is no
// room for that.
func (s *simulation) repair(x *simVolume, sight simSight) bool {
	s.t.Helper()
	c := x.clients[0]
	buf := pageMemory(1)
	for b := range x.blocks {
		st := c.do(bdev.Read, b, 1, buf)
		word, even := simRead(buf)
		found := []*simWrite{{block: b, words: []simWord{word}, begun: s.tick, done: s.tick, durable: s.tick, ok: true}}
		switch {
		case st == bdev.StatusOK && even && x.content.allowed(b, word, sight) && !x.verify && x.content.changedSince(b, sight.lsn):
			// A scrub would find it.
		case st == bdev.StatusOK && even && x.content.allowed(b, word, sight):
			if x.content.blocks[b] != nil {
				x.content.blocks[b] = found
			}
			continue
		case st == bdev.StatusOK && even || !x.content.changedSince(b, sight.lsn):
			s.t.Fatalf("block %d of volume %s, without its logs: %v, %v; the checkpoint's LSN is %d; it may be of:%s",
				b, x.name, st, word, sight.lsn, x.content.history(b))
		case st != bdev.StatusOK && (st != bdev.StatusCorrupt || !x.verify):
			s.t.Fatalf("block %d of volume %s, without its logs: %v", b, x.name, st)
		}
		if st != bdev.StatusOK || !even {
			found = nil
		}
		s.did["a block spoilt by the loss"]++
		c.put(b, 1, true)
		w := c.write
		s.rest()
		if !w.ok {
			return false
		}
		x.content.blocks[b] = append(found, w) // the next loss may come before it is home
	}
	x.content.open = nil
	return true
}

// changedSince says whether a block may have been changed behind an LSN.
func (c *simContent) changedSince(block uint64, lsn wal.LSN) bool {
	for _, w := range c.blocks[block] {
		if !w.without && (!w.ok || w.lsn > lsn) {
			return true
		}
	}
	return false
}

// releaseLoss says that it is known.
func (s *simulation) releaseLoss(x *simVolume) {
	s.t.Helper()
	if err := x.v.ReleaseLoss(); err != nil {
		s.t.Fatal(err)
	}
	x.loses = false
}

// foundLoss holds against the model what a volume reports after it was opened.
func (s *simulation) foundLoss(x *simVolume) {
	s.t.Helper()
	want := LossNone
	if x.loses {
		want = LossDevice
	}
	if got := x.v.page.Loss; got != want {
		s.t.Fatalf("volume %s reports loss %v, it should be %v", x.name, got, want)
	}
}
