package volume

import (
	"fmt"
	"math"
	"slices"

	"github.com/pollux-storage/pollux/wal"
)

// This file is the judgement on placed records at recovery (V-23). The record says what must stand in its place; a power cut may have
// taken the data and left the record, and then the log ends before it. But a block may also differ because a later record has come home
// there, in place, before the checkpoint that would have let go of both: then it is of no importance, since that later record is durable,
// follows, and will be replayed. So a block that differs
//
//	of a record that a header knew as durable         is damaged: reading it says so (V-32); the log goes on
//	that a later record has, one before the end too   counts for nothing
//	else                                              ends the log before its record
//
// So only records above the highest mark that is known are looked at.
//
// A block that cannot be read decides nothing: where it could be the end, the log stays as it is, the volume is read only, and the next
// opening decides.
//
// The end takes later records away, which may let another block count again: it is looked for until it stays.

const maxLSN = wal.LSN(math.MaxUint64)

// placedPlace is a cluster's place as a record names it.
type placedPlace struct {
	lsn   wal.LSN
	place Place
}

// missingBlock is a block whose place does not hold what its record says.
type missingBlock struct {
	lsn   wal.LSN
	after wal.LSN // the first later record that has it, 0 if there is none
	err   error   // it could not be read
}

// placedCheck looks at the placed records that could be the end.
type placedCheck struct {
	changes []wal.Record // all that changes blocks, above the highest mark that is known
	crcs    []uint32     // of the clusters that the placed ones of them name
	places  []Place      // and where those are
	missing []missingBlock
	cut     wal.LSN // the log ends before it
}

// note takes the next record of a log.
func (k *placedCheck) note(r *wal.Record, payload []byte, per int) {
	if r.Kind.Event() || r.Blocks == 0 {
		return
	}
	k.changes = append(k.changes, *r)
	if r.Kind != wal.KindPlaced {
		return
	}
	for i := range int(r.Blocks) / per {
		n := len(k.crcs)
		k.crcs = slices.Grow(k.crcs, per)[:n+per]
		k.places = append(k.places, placedAt(payload, i, per, k.crcs[n:]))
	}
}

// settle forgets what is known to be durable.
func (k *placedCheck) settle(durable wal.LSN, per int) {
	i, places := 0, 0
	for ; i < len(k.changes) && k.changes[i].LSN <= durable; i++ {
		if r := &k.changes[i]; r.Kind == wal.KindPlaced {
			places += int(r.Blocks) / per
		}
	}
	k.changes, k.places, k.crcs = slices.Delete(k.changes, 0, i), slices.Delete(k.places, 0, places), slices.Delete(k.crcs, 0, places*per)
}

// look reads what the placed records say, and finds the end.
func (k *placedCheck) look(d *disk, per int) error {
	var of []int // by place: the record that names it
	var block []uint64
	for i := range k.changes {
		if r := &k.changes[i]; r.Kind == wal.KindPlaced {
			for b := r.Block; b < r.Block+r.Blocks; b += uint64(per) {
				of, block = append(of, i), append(block, b)
			}
		}
	}
	k.cut = maxLSN
	err := d.readEach(k.places, per, func(n int, data []byte, err error) {
		for b := range per {
			if err != nil || wal.PageCRC(data[b*PageBytes:][:PageBytes]) != k.crcs[n*per+b] {
				k.missing = append(k.missing, missingBlock{k.changes[of[n]].LSN, k.after(of[n], block[n]+uint64(b)), err})
			}
		}
	})
	k.decide()
	return err
}

// after gives the LSN of the first change of a block after the i-th, 0 if there is none.
func (k *placedCheck) after(i int, block uint64) wal.LSN {
	for _, r := range k.changes[i+1:] {
		if block >= r.Block && block-r.Block < r.Blocks {
			return r.LSN
		}
	}
	return 0
}

// counts says that a block which is missing makes its record one that did not happen.
func (k *placedCheck) counts(m *missingBlock) bool {
	return m.lsn < k.cut && (m.after == 0 || m.after >= k.cut)
}

// decide finds the end.
func (k *placedCheck) decide() {
	for again := true; again; {
		again = false
		for i := range k.missing {
			if m := &k.missing[i]; m.err == nil && k.counts(m) {
				k.cut, again = m.lsn, true
			}
		}
	}
}

// undecided says why the end could be an earlier one.
func (k *placedCheck) undecided() error {
	for i := range k.missing {
		if m := &k.missing[i]; m.err != nil && k.counts(m) {
			return fmt.Errorf("the data of LSN %d: %w", m.lsn, m.err)
		}
	}
	return nil
}
