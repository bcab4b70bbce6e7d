package volume

import (
	"errors"
	"fmt"
	"slices"

	"github.com/pollux-storage/pollux/bdev"
	"github.com/pollux-storage/pollux/wal"
)

// This file is what the simulation does to a volume's history: snapshots, restoring, clones. Each keeps the content that it must have.

// simSnapshot is a snapshot and what it must hold.
type simSnapshot struct {
	name    string
	blocks  uint64
	content *simContent
	tick    int     // when it was taken
	lsn     wal.LSN // at most
}

// simSnapshotsMax bounds those of a volume.
const simSnapshotsMax = 4

func init() {
	simOps = append(simOps,
		simOp{"snapshot", 3, true, (*simulation).takeSnapshot},
		simOp{"deletion of a snapshot", 2, true, (*simulation).deleteSnapshot},
		simOp{"restore", 2, true, (*simulation).restoreSnapshot},
		simOp{"clone", 1, true, (*simulation).clone},
		simOp{"flatten", 1, true, (*simulation).flatten},
	)
}

// copy is the content as it is: of a snapshot, or of a clone.
func (c *simContent) copy() *simContent {
	n := newSimContent()
	for b, list := range c.blocks {
		n.blocks[b] = append([]*simWrite(nil), list...)
	}
	return n
}

func (s *simulation) takeSnapshot(x *simVolume) {
	s.t.Helper()
	if len(x.snaps) == simSnapshotsMax {
		return
	}
	s.origin++
	n := &simSnapshot{name: fmt.Sprint("s", s.origin), blocks: x.blocks}
	s.tick++
	_, err := x.v.CreateSnapshot(SnapshotConfig{Name: n.name})
	if x.thick && errors.Is(err, ErrNoSpace) {
		s.say("no full set for snapshot %s of volume %s", n.name, x.name)
		return
	}
	if err != nil {
		s.t.Fatalf("taking snapshot %s of volume %s: %v", n.name, x.name, err)
	}
	s.tick++
	x.content.flushed(s.tick, s.tick) // all before the event is as durable as it
	n.content, n.tick, n.lsn = x.content.copy(), s.tick, x.appended()
	x.snaps = append(x.snaps, n)
	x.taken[n.name] = n
	s.say("snapshot %s of volume %s", n.name, x.name)
}

func (s *simulation) deleteSnapshot(x *simVolume) {
	s.t.Helper()
	if len(x.snaps) == 0 {
		return
	}
	i := s.r.IntN(len(x.snaps))
	n := x.snaps[i]
	err := x.v.DeleteSnapshot(s.t.Context(), n.name)
	switch {
	case s.cloned(n):
		if !errors.Is(err, ErrSnapshotInUse) {
			s.t.Fatalf("deleting snapshot %s of volume %s, which has a clone: %v", n.name, x.name, err)
		}
		return
	case err != nil:
		s.t.Fatalf("deleting snapshot %s of volume %s: %v", n.name, x.name, err)
	}
	x.snaps = append(x.snaps[:i:i], x.snaps[i+1:]...)
	s.say("snapshot %s of volume %s is gone", n.name, x.name)
}

// cloned says that a snapshot has a clone.
func (s *simulation) cloned(n *simSnapshot) bool {
	for _, o := range s.volumes {
		if o.parent == n {
			return true
		}
	}
	return false
}

func (s *simulation) restoreSnapshot(x *simVolume) {
	s.t.Helper()
	if len(x.snaps) == 0 {
		return
	}
	i := s.r.IntN(len(x.snaps))
	for _, n := range x.snaps[i+1:] {
		if s.cloned(n) {
			return
		}
	}
	n := x.snaps[i]
	err := x.v.RestoreSnapshot(s.t.Context(), n.name, RestoreOptions{DropNewer: true, Force: true})
	x.snaps = x.snaps[:i+1]
	if errors.Is(err, ErrNoSpace) {
		s.say("no room to restore snapshot %s of volume %s", n.name, x.name)
		return
	}
	if err != nil {
		s.t.Fatalf("restoring snapshot %s of volume %s: %v", n.name, x.name, err)
	}
	s.say("volume %s is snapshot %s again", x.name, n.name)
	// Each block is what is read now, which the snapshot must be able to be; what it was before can only be seen where the disk lies.
	s.tick++
	begun := s.tick
	buf := pageMemory(simRequestPages)
	was := x.content
	x.content = newSimContent()
	for b, list := range was.blocks {
		x.content.blocks[b] = append(list, n.content.blocks[b]...)
	}
	for b, list := range n.content.blocks {
		if was.blocks[b] == nil {
			x.content.blocks[b] = append([]*simWrite(nil), list...)
		}
	}
	s.tick++
	for at := uint64(0); at < x.blocks; at += simRequestPages {
		count := min(simRequestPages, x.blocks-at)
		x.clients[0].must(bdev.Read, at, count, buf[:count*PageBytes])
		s.compare("restored", x, n.content, at, buf[:count*PageBytes], simSight{at: n.tick, until: n.tick})
		for b := at; b < at+count; b++ {
			if x.content.blocks[b] == nil {
				continue
			}
			word, _ := simRead(buf[(b-at)*PageBytes:][:PageBytes])
			x.content.blocks[b] = append(x.content.blocks[b],
				&simWrite{block: b, words: []simWord{word}, begun: begun, done: s.tick, durable: s.tick, ok: true, lsn: x.appended()})
		}
	}
}

func (s *simulation) clone(x *simVolume) {
	s.t.Helper()
	if len(x.snaps) == 0 || len(s.volumes) >= simVolumesMax {
		return
	}
	n := x.snaps[s.r.IntN(len(x.snaps))]
	s.origin++
	c := &simVolume{
		name: fmt.Sprint("v", s.origin), origin: s.origin, blocks: n.blocks, content: n.content.copy(), parent: n,
		cache: WriteCache(s.r.Uint32N(2)), verify: x.verify, taken: map[string]*simSnapshot{}, sizes: []simSize{{n.blocks, 0}},
	}
	v, err := x.v.CloneSnapshot(n.name, VolumeConfig{Name: c.name, LogBytes: simLogBytes, Cache: c.cache, Verify: c.verify})
	if errors.Is(err, ErrNoSpace) {
		s.say("no room for clone %s", c.name)
		return
	}
	if err != nil {
		s.t.Fatalf("cloning snapshot %s of volume %s: %v", n.name, x.name, err)
	}
	c.v = v
	s.volumes = append(s.volumes, c)
	s.attach(c)
	s.say("volume %s is a clone of snapshot %s of volume %s", c.name, n.name, x.name)
}

func (s *simulation) flatten(x *simVolume) {
	s.t.Helper()
	err := x.v.Flatten(s.t.Context(), nil)
	switch {
	case x.parent == nil:
		if !errors.Is(err, ErrInvalid) {
			s.t.Fatalf("flattening volume %s, which is no clone: %v", x.name, err)
		}
	case slices.ContainsFunc(x.snaps, s.cloned):
		if !errors.Is(err, ErrSnapshotInUse) {
			s.t.Fatalf("flattening volume %s, of which there are clones: %v", x.name, err)
		}
	case errors.Is(err, ErrNoSpace):
		s.say("no room to flatten volume %s", x.name)
	case err != nil:
		s.t.Fatalf("flattening volume %s: %v", x.name, err)
	default:
		x.parent = nil
		s.say("volume %s is flat", x.name)
	}
}

// compareSnapshots reads all snapshots of a volume.
func (s *simulation) compareSnapshots(what string, x *simVolume, sight simSight) {
	s.t.Helper()
	buf := pageMemory(simRequestPages)
	for _, n := range x.snaps {
		d, err := x.v.findSnapshot(n.name)
		if err != nil {
			if s.lied {
				continue // the older root may not have it
			}
			s.t.Fatalf("%s: %v", what, err)
		}
		c := s.clientOf(d.device, s.r.IntN(2))
		for at := uint64(0); at < n.blocks; at += simRequestPages {
			count := min(simRequestPages, n.blocks-at)
			if st := c.do(bdev.Read, at, count, buf[:count*PageBytes]); st != bdev.StatusOK {
				s.mayFail(what, bdev.Read, x, st)
				continue
			}
			s.compare(fmt.Sprint(what, ", snapshot ", n.name), x, n.content, at, buf[:count*PageBytes],
				simSight{at: n.tick, until: n.tick, ever: sight.ever})
		}
		s.outOfRange(what, "snapshot "+n.name, d.device, c, n.blocks)
		c.close()
	}
}
