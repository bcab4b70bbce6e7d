package volume

import (
	"fmt"
	"math"

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
	block uint64
	after wal.LSN // the first later record that has it, 0 if there is none
	err   error   // it could not be read
}

// placedCheck is what one reading of a log gathers.
type placedCheck struct {
	per     uint64
	places  []placedPlace
	missing []missingBlock
	durable wal.LSN   // the highest mark that is known
	cut     wal.LSN   // the log ends before it
	room    dirtyRoom // that all records take in the dirty map, if none of them is of the same cluster
}

// supersede notes that a record has blocks of those before it.
func (k *placedCheck) supersede(r *wal.Record) {
	switch r.Kind {
	case wal.KindWrite, wal.KindPlaced, wal.KindTrim, wal.KindZeroes:
	default:
		return
	}
	for i := range k.missing {
		if m := &k.missing[i]; m.after == 0 && m.block >= r.Block && m.block-r.Block < r.Blocks {
			m.after = r.LSN
		}
	}
}

// decide finds the end.
func (k *placedCheck) decide() {
	for again := true; again; {
		again = false
		for _, m := range k.missing {
			if m.err == nil && m.lsn > k.durable && m.lsn < k.cut && (m.after == 0 || m.after >= k.cut) {
				k.cut, again = m.lsn, true
			}
		}
	}
}

// undecided says why the end could be an earlier one.
func (k *placedCheck) undecided() error {
	for _, m := range k.missing {
		if m.err != nil && m.lsn > k.durable && m.lsn < k.cut && (m.after == 0 || m.after >= k.cut) {
			return fmt.Errorf("the data of LSN %d: %w", m.lsn, m.err)
		}
	}
	return nil
}
