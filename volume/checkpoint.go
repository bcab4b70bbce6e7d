package volume

import (
	"github.com/pollux-storage/pollux/bdev"
	"github.com/pollux-storage/pollux/internal/invariant"
	"github.com/pollux-storage/pollux/wal"
)

// This file is a volume's checkpoint. The order is what a power cut may interrupt anywhere:
//
//	1. records are durable, and home       (flusher.go)
//	2. the grace of those who read what this checkpoint gives up
//	3. changed pages of the map, then the volume page, to new places: nothing refers to them
//	4. the pool writes its directory and bitmap, flushes, writes its slot, flushes: that flush before the slot is also that of 1 and 3
//	5. the tail of the log moves to the older slot's checkpoint; what was given up rests in the allocator
//
// Before 4 the slots show the last checkpoint, and the log has everything since; after it they show this one. A page of 3 that cannot be written
// goes to another place (mapretry.go).

// mark is a checkpoint that a slot has.
type mark struct {
	lsn    wal.LSN
	offset wal.Offset
	passed dirtyRoom // as flusher.passed was then
}

// checkpoint is the one that is being made.
type checkpoint struct {
	v                *Volume
	step             checkpointStep
	at               wal.Follow
	passed           dirtyRoom
	page             VolumePage // as it will be
	buf              []byte
	places           []Place     // of the map's pages, then those of the list of snapshots and of the reservations, and the last of the volume page
	list             int         // pages of the list of snapshots
	kept             int         // pages of the reservations
	taken            int         // pages of a thick volume, as thick.taken will be
	frame            int32       // the next sealed page to be written
	more             bool        // there are more sealed pages
	bad              []Place     // of pages whose writes failed
	tries            int         // rounds of pages that went elsewhere
	cause            bdev.Status // why, in the last
	top              bool        // the map is written, and only what leads to it goes elsewhere
	parts            int
	refers, unrefers int // of the commit, before the map's pages
	status           bdev.Status
	heard            []*event // control work that waits for the end of the next one

	commit commitMessage
}

// tell tells them.
func (c *checkpoint) tell(s bdev.Status) {
	for _, e := range c.heard {
		e.say(s)
	}
	c.heard = c.heard[:0]
}

type checkpointStep uint8

const (
	checkpointNone checkpointStep = iota
	checkpointGrace
	checkpointPlaces
	checkpointPages
	checkpointVolumePage
	checkpointCommit
)

// pagesAtOnce is the most map pages that are written at the same time.
const pagesAtOnce = 16

// checkpoint makes what is home the volume's state on the device.
func (f *flusher) checkpoint() {
	f.state, f.began = flushCheckpoint, f.v.r.Now()
	c := &f.v.ckpt
	invariant.Check(c.step == checkpointNone, "volume: a checkpoint inside another")
	c.at, c.passed, c.status = f.home, f.passed, bdev.StatusOK
	c.bad, c.tries, c.cause, c.top = c.bad[:0], 0, bdev.StatusOK, false
	c.step = checkpointGrace
	if !f.v.grace.wait(c) {
		c.Run()
	}
}

// Run goes on after the grace, and after a test held the map's pages.
func (c *checkpoint) Run() {
	v := c.v
	switch c.step {
	case checkpointGrace:
		c.step = checkpointPlaces
		n := v.tree.freeze(c.at.LSN)
		c.list, c.kept = v.freezeSnapshots(), v.freezeReservations()
		c.places = c.places[:0]
		v.takePages(n + c.list + c.kept + 1)
	case checkpointPages:
		c.writePages()
	}
}

// seal gives the frozen pages their places, which the pool has granted.
func (c *checkpoint) seal() {
	v := c.v
	if c.top {
		c.writeLeading()
		return
	}
	n := len(c.places) - c.list - c.kept - 1
	invariant.Check(v.tree.seal(c.places[:n]) == n, "volume: more places granted than pages frozen")
	c.step, c.frame, c.parts, c.more = checkpointPages, noFrame, 0, true
	c.refers, c.unrefers = len(c.commit.refer), len(c.commit.unrefer)
	if !v.stages.Hold(wal.StageMap, c) {
		c.writePages()
	}
}

// writePages writes the next of them, and goes on when all are written.
func (c *checkpoint) writePages() {
	v := c.v
	for most := v.flusher.pace(pagesAtOnce); c.more && !v.given && c.parts < most; {
		f, place, data := v.tree.nextSealed(c.frame)
		if f == noFrame {
			c.more = false
			break
		}
		c.frame = f
		c.write(place, data)
		c.commit.refer = append(c.commit.refer, place)
		if was, free := v.tree.replaced(f); free {
			c.commit.unrefer = append(c.commit.unrefer, was)
		}
	}
	switch {
	case c.parts > 0:
	case c.status != bdev.StatusOK:
		c.elsewhere()
	case v.given: // with pages that were not written
		c.status = bdev.StatusClosed
		c.fail()
	default:
		c.writeTop()
	}
}

func (c *checkpoint) write(place Place, data []byte) {
	p := c.v.newPart()
	p.done, p.n = c, 1
	p.vec = append(p.vec, data)
	c.parts++
	c.v.counters.MapBytes += PageBytes
	c.v.transfer(p, c.v.data, bdev.Write, place.Byte())
}

// partEnd takes the end of a page's write.
func (c *checkpoint) partEnd(p *part, s bdev.Status) {
	if s != bdev.StatusOK {
		c.erred(p, s)
	}
	c.v.givePart(p)
	c.parts--
	switch {
	case c.step == checkpointPages:
		c.writePages()
	case c.parts > 0:
	case c.status != bdev.StatusOK:
		c.elsewhere()
	default:
		c.send()
	}
}

// writeTop writes what leads to the map: the list of snapshots and the reservations, if they have changed, and the volume page, to which the
// pool will refer.
func (c *checkpoint) writeTop() {
	v := c.v
	c.step = checkpointVolumePage
	root := v.tree.frozenRoot()
	_, _, durable := v.log.Marks()
	c.page = v.page
	p := &c.page
	p.Map, p.Levels = root.ref, uint32(root.levels)
	p.Checkpoint, p.LogOffset, p.Life, p.Epoch, p.Durable = c.at.LSN, c.at.Offset, c.at.Life, c.at.Epoch, max(durable, c.at.LSN)
	snapshot := v.snapshots.taking != nil
	v.sealSnapshots(c, root)
	v.sealReservations(c)
	p.ClustersAlone = v.alone
	v.sealThick(c, snapshot)
	v.markClean(p)
	c.writeLeading()
}

// writeLeading writes these pages to their places, which may be others than before.
func (c *checkpoint) writeLeading() {
	v := c.v
	c.step = checkpointVolumePage
	top := c.places[len(c.places)-c.list-c.kept-1:]
	v.writeSnapshots(c, top[:c.list])
	v.writeReservations(c, top[c.list:c.list+c.kept])
	place := top[c.list+c.kept]
	crc := c.page.EncodeTo(c.buf, v.pool.id)
	c.commit.ref = Ref{place, crc}
	c.write(place, c.buf)
}

// send asks the pool to switch to the new pages.
func (c *checkpoint) send() {
	v := c.v
	c.step = checkpointCommit
	c.commit.refer = append(c.commit.refer, c.places[len(c.places)-c.list-c.kept-1:]...)
	if !v.ref.IsZero() {
		c.commit.unrefer = append(c.commit.unrefer, v.ref.Place)
	}
	c.commit.clusters = append(c.commit.clusters, v.referred...)
	c.commit.unclusters = append(c.commit.unclusters, v.unreferred...)
	c.commit.released = append(c.commit.released, v.released...)
	c.commit.forsaken = append(c.commit.forsaken, v.forsaken...)
	c.commit.returns = v.thick.on
	v.referred, v.unreferred, v.released, v.forsaken = v.referred[:0], v.unreferred[:0], v.released[:0], v.forsaken[:0]
	v.pool.commit(v.r, &c.commit)
}

// checkpointed takes over what a checkpoint has changed. The rest is as it was, and may be read by control work meanwhile.
func (p *VolumePage) checkpointed(n *VolumePage) {
	p.Map, p.Levels, p.ClustersAlone = n.Map, n.Levels, n.ClustersAlone
	p.ClustersReserved, p.PagesReserved = n.ClustersReserved, n.PagesReserved
	p.Checkpoint, p.LogOffset, p.Life, p.Epoch, p.Durable = n.Checkpoint, n.LogOffset, n.Life, n.Epoch, n.Durable
	p.Snapshots, p.SnapshotTop, p.NextSnapshot, p.Reservations = n.Snapshots, n.SnapshotTop, n.NextSnapshot, n.Reservations
	p.Flags = p.Flags&^VolumeClean | n.Flags&VolumeClean
}

// committed hears that the pool's slot shows the checkpoint.
func (c *checkpoint) committed(s bdev.Status) {
	v := c.v
	if s != bdev.StatusOK {
		c.status = s
		c.fail()
		return
	}
	v.thickCommitted(c)
	c.commit.reset()
	v.tree.commitDone()
	v.page.checkpointed(&c.page)
	v.ref = c.commit.ref
	v.older, v.newer = v.newer, mark{c.at.LSN, c.at.Offset, c.passed}
	v.log.Reclaim(v.older.offset)
	v.counters.Checkpoints++
	c.tell(bdev.StatusOK)
	v.settlePages()
	c.step = checkpointNone
	v.stalled = false
	v.roomFreed()
	v.flusher.checkpointed()
}

// fail takes a checkpoint back. What it has written is not referred to; the log keeps everything, and takes no more (V-31).
func (c *checkpoint) fail() {
	v := c.v
	if c.step != checkpointCommit { // the pool has taken them over, and makes no commit any more
		v.givePages(c.places)
	}
	c.step = checkpointNone
	v.tree.commitFailed()
	c.commit.reset()
	v.unsafe(c.status)
	v.flusher.over()
}
