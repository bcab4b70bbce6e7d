package volume

import (
	"slices"

	"github.com/pollux-storage/pollux/bdev"
)

// This file is what follows a write of a checkpoint that failed (V-31): the page goes to another place, as it goes to a new one with each
// checkpoint anyway.
//
//	a page of the map fails             all are written to the end ─▶ other places for those that failed ─▶ the map is sealed again, since the
//	                                    pages above name their places ─▶ all are written again
//	what leads to the map fails         other places ─▶ these pages are written again
//	the pool's directory fails          the same, in its commit (commit.go); the bitmap and the slots have places of their own, and their failure
//	                                    ends the pool's commits
//	checkpointTries rounds, or no place the volume takes no changes any more, and says why: its log has everything
//
// Nobody gets a bad place before the pool is opened again: it stays handed out, and is in no root. The other places come out of what is promised to
// nothing, half of the pool's cushion included: each round keeps those that failed, and the directory needs the rest.

// checkpointTries is how many times a checkpoint, or a commit, looks for other places.
const checkpointTries = 8

// erred notes a page that could not be written.
func (c *checkpoint) erred(p *part, s bdev.Status) {
	v := c.v
	if c.status = s; v.given {
		return
	}
	v.counters.HomeErrors++
	c.bad = append(c.bad, Place(p.req.LBA<<v.data.Geometry().Shift()/PageBytes))
}

// elsewhere asks for other places for what could not be written.
func (c *checkpoint) elsewhere() {
	v, n := c.v, len(c.bad)
	slices.Sort(c.bad)
	c.places = slices.DeleteFunc(c.places, func(p Place) bool {
		_, bad := slices.BinarySearch(c.bad, p)
		return bad
	})
	c.bad = c.bad[:0]
	if v.given || c.tries == checkpointTries {
		c.fail()
		return
	}
	c.tries++
	c.cause, c.status = c.status, bdev.StatusOK
	if c.top = c.step == checkpointVolumePage; !c.top { // else the volume page is fixed already
		v.tree.unseal()
		c.commit.refer, c.commit.unrefer = c.commit.refer[:c.refers], c.commit.unrefer[:c.unrefers]
		c.step = checkpointPlaces
	}
	v.ckptWaits, v.ckptExtra = 0, n
	if !v.asking {
		v.sendAsk()
	}
}

// lacks is the end where there are no places. What failed before says more than that.
func (c *checkpoint) lacks() {
	if c.status = c.cause; c.status == bdev.StatusOK {
		c.status = bdev.StatusNoSpace
	}
	c.fail()
}
