package bench

import (
	"github.com/pollux-storage/pollux/bdev"
	"github.com/pollux-storage/pollux/reactor"
)

// Mismatch is a block that a read returned wrong.
type Mismatch struct {
	LBA   uint64 `json:"lba"`
	Fault string `json:"fault"`
	Text  string `json:"text"`
}

// mismatchesMax is how many a job describes; the others it counts.
const mismatchesMax = 8

// verifyRead marks a read of the verify phase, in the slot's place for a time: it is not counted among the workload's.
const verifyRead reactor.Ticks = -1

// check judges the blocks of a read that the slot's views belong to.
func (j *job) check(s *slot) {
	size := 1 << j.plan.shift
	lines := j.ledger.lines(s.LBA, uint32(s.Blocks))
	wrong := false
	for i := range lines {
		b, lba := s.buf[i*size:][:size], s.LBA+uint64(i)
		f := checkBlock(b, j.plan.blockSeed, lba, &s.views[i], &lines[i])
		if f == faultNone {
			j.verified++
			continue
		}
		wrong = true
		j.mismatches++
		if len(j.firstWrongs) < mismatchesMax {
			text := describe(b, f, j.plan.blockSeed, lba, &s.views[i], &lines[i])
			j.firstWrongs = append(j.firstWrongs, Mismatch{lba, f.String(), text})
		}
	}
	if wrong {
		j.giveUp()
	}
}

// verify begins the phase in which everything that was written is read back.
func (j *job) verify() {
	j.state = jobVerify
	j.next = j.ledger.first
	j.fill(reactor.Clock())
}

// verifyNext reads the next written blocks, as many as lie together and fit; it reports whether there were any.
func (j *job) verifyNext() bool {
	end := j.ledger.first + uint64(len(j.ledger.entries))
	line := func(lba uint64) *entry { return &j.ledger.entries[lba-j.ledger.first] }
	for j.next < end && !line(j.next).written() {
		j.next++
	}
	if j.next == end {
		return false
	}
	n, most := uint64(1), uint64(len(j.free[len(j.free)-1].views))
	for n < most && j.next+n < end && line(j.next+n).written() {
		n++
	}
	s := j.take(bdev.Read, j.next, n)
	s.at = verifyRead
	j.ledger.look(j.next, s.views[:n])
	j.next += n
	j.ch.Submit(&s.Request)
	return true
}

// verifyLeft is the share of the region that is still to be read back.
func (j *job) verifyLeft() float64 {
	n := uint64(len(j.ledger.entries))
	return float64(j.ledger.first+n-j.next) / float64(n)
}
