package volume

import "github.com/pollux-storage/pollux/bdev"

// This file is the scrub of what only snapshots hold. When a pass is through the volume's own map it goes through those of the snapshots, the newest
// first, each beside the one that came after it, and reads the blocks that that one does not have at the same place:
//
//	oldest ◀── s1 ◀── s2 ◀── the volume
//	           │      └ beside the volume's map: what s2 has and the volume has not
//	           └ beside s2's: what s1 has and s2 has not
//
// A place that was given up does not come back to a newer map (restoring drops those in between), so each block is read once, and an error is
// named after the newest that has it. A snapshot that is being deleted is passed over: what others have of it they are asked for. One that is
// taken while a pass runs begins as the volume's map, which the pass knows; what changes hands behind the cursor is the next pass's.
//
// No false alarm: a step of this holds a grace from the look at the list of snapshots to the comparison. What a deletion gives up
// leaves the root with a checkpoint, and is written to by a homing, and both wait for that.

// scrubFrozen is how a scrub goes through the map of a snapshot.
type scrubFrozen struct {
	diff    *mapDiff // nil until the first pass comes to a snapshot
	name    Name     // the snapshot's, which may be gone from the list when an error is found
	head    bool     // it is beside the volume's own map, as this many checkpoints left it
	commits uint64
	alone   uint64 // clusters before it are beside nothing: there the other map cannot be read
	blind   bool   // it is beside nothing now
}

// enter lets it begin with a map: a snapshot's, or the volume's own.
func (s *scrubber) enter(n SnapshotNumber) {
	s.in, s.at, s.narrow, s.frozen.alone = n, 0, 0, 0
}

// older finds the newest snapshot that is older than the map it is in, and not being deleted.
func (s *scrubber) older() (n SnapshotNumber, ok bool) {
	list := s.v.snapshots.list
	for i := len(list) - 1; i >= 0; i-- {
		if (s.in == 0 || list[i].Number < s.in) && list[i].Flags&SnapshotDeleting == 0 {
			return list[i].Number, true
		}
	}
	return 0, false
}

// enterOlder lets it begin with the next older snapshot, or ends the pass if there is none.
func (s *scrubber) enterOlder() bool {
	n, ok := s.older()
	if !ok {
		s.passed()
		return false
	}
	s.enter(n)
	s.before = s.errors
	return true
}

// walkSnapshots goes on in the snapshot's map, or behind the end of the volume's own.
func (s *scrubber) walkSnapshots() {
	v, x := s.v, &s.frozen
	i, ok := v.snapshots.index(s.in)
	if !ok || v.snapshots.list[i].Flags&SnapshotDeleting != 0 { // it is gone, or the volume's own map is done
		if !s.enterOlder() {
			return
		}
		i, _ = v.snapshots.index(s.in)
	}
	if x.diff == nil {
		x.diff = newMapDiff(v.tree.c, s)
	}
	x.name = v.snapshots.list[i].Name
	beside := v.tree.side()
	x.head, x.commits = true, v.counters.Checkpoints
	for k := i + 1; k < len(v.snapshots.list); k++ {
		if v.snapshots.list[k].Flags&SnapshotDeleting == 0 {
			beside, x.head = v.sideOf(k), false
			break
		}
	}
	first := s.at >> v.shape.shift
	if x.blind = first < x.alone; x.blind {
		beside, x.head = diffSide{mapOwner: mapOwner{shape: v.shape}}, false
	}
	s.phase = v.grace.enter()
	x.diff.start(v.sideOf(i), beside, true, 0, first)
	s.follow()
}

// diffReady goes on when a page is there.
func (s *scrubber) diffReady(*mapDiff) {
	if s.asked == scrubGoOn {
		s.follow()
		return
	}
	s.v.grace.leave(s.phase)
	s.goOn()
}

// follow goes through the snapshot's map up to something that is to be read, and lets go of the grace where there is nothing in this step.
func (s *scrubber) follow() {
	v, d := s.v, s.frozen.diff
	for {
		switch d.next() {
		case diffWait:
			s.state = scrubFinding
			return
		case diffPage:
			continue
		case diffCluster:
			if s.takeFrozen(d) {
				s.state = scrubReading
				return
			}
			continue
		case diffMore:
			s.reach(d.cursor)
			if s.looks--; s.looks > 0 && !(s.frozen.blind && d.cursor >= s.frozen.alone) {
				continue
			}
		case diffEnd:
			v.grace.leave(s.phase)
			if s.enterOlder() {
				s.goOn()
			}
			return
		case diffFailed:
			s.looks--
			s.unreadFrozen(d)
		}
		v.grace.leave(s.phase)
		s.goOn()
		return
	}
}

// reach notes that all before a cluster was looked at.
func (s *scrubber) reach(cluster uint64) {
	if at := cluster << s.v.shape.shift; at >= s.at {
		s.at, s.before = at, s.errors
	}
}

// takeFrozen reads what it can of the cluster at which the walk stands, if there is something that only the snapshot's side has.
func (s *scrubber) takeFrozen(d *mapDiff) bool {
	v := s.v
	base, blocks := d.cluster<<v.shape.shift, v.shape.Blocks()
	if base+uint64(blocks) <= s.at {
		return false
	}
	s.reach(d.cluster)
	most := min(scrubBlocks, s.left)
	if s.at < s.narrow {
		most = 1
	}
	shared := d.a.Place() == d.b.Place()
	b := int(s.at - base)
	alone := func(b int) bool { return d.a.Written(b) && !(shared && d.b.Written(b)) }
	for b < blocks && !alone(b) {
		b++
	}
	s.at = base + uint64(b)
	if d.a.Place() == 0 || b == blocks {
		s.at = base + uint64(blocks)
		return false
	}
	p := v.newPart()
	for p.n < most && b+p.n < blocks && alone(b+p.n) {
		p.crcs[p.n] = d.a.CRC(b + p.n)
		p.n++
	}
	p.vec = append(p.vec, s.memory[:p.n*PageBytes])
	p.done = s
	s.place = d.a.Place() + Place(b)
	v.transfer(p, v.data, bdev.Read, s.place.Byte())
	return true
}

// unreadFrozen goes over the clusters that a page would tell about, of the snapshot's map; or goes through them beside nothing, if it is a page of
// the other map, whose it is to count it.
func (s *scrubber) unreadFrozen(d *mapDiff) {
	v, x := s.v, &s.frozen
	if x.head && x.commits != v.counters.Checkpoints {
		return // the page may have been given up and written to since; it begins again with the map as it is now
	}
	w := &d.wait
	end := d.side[sideA].endOf(w.level, w.index)
	if d.loads == sideB {
		x.alone = end
		return
	}
	s.reach(end - span(int(w.level))*uint64(v.shape.entries))
	s.found(ScrubFinding{LBA: s.at, Place: w.ref.Place, Map: true, Status: d.status})
	s.reach(end)
}

// progress says in which snapshot a place of a pass is, how many blocks are before it, and how many a pass goes through.
func (s *scrubber) progress(in SnapshotNumber, at uint64) (name string, before, all uint64) {
	v := s.v
	all = v.blocks()
	if in == 0 {
		before = min(at, all)
	}
	for i := len(v.snapshots.list) - 1; i >= 0; i-- {
		x := &v.snapshots.list[i]
		if x.Flags&SnapshotDeleting != 0 {
			continue
		}
		blocks := (x.Bytes + PageBytes - 1) / PageBytes
		if x.Number == in {
			name, before = x.Name.String(), all+min(at, blocks)
		}
		all += blocks
	}
	if in != 0 && name == "" { // it is gone; the next older one comes
		before = v.blocks()
		for i := range v.snapshots.list {
			if x := &v.snapshots.list[i]; x.Number > in && x.Flags&SnapshotDeleting == 0 {
				before += (x.Bytes + PageBytes - 1) / PageBytes
			}
		}
	}
	return name, before, all
}
