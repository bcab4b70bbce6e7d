// Package wal is one log: the order in which a volume's changes happened, on a device, through power cuts.
//
// The model: a Log lives on one reactor and writes to a ring of pages on one device. A record is given its LSN by Append; what
// gathered while the last batch was being written is the next batch, one vectored write of a header page and the payloads, which
// are lent from wherever they are. A waiter names the LSN that must be durable; waiters join the device's next flush, one of
// which is in flight at a time for all logs on the device (Barrier). A batch that somebody waits for is written through instead, where the
// device can: then it needs none. What is no longer needed at the tail is reclaimed.
//
//	durable ≤ written ≤ appended
//
// Invariants
//   - Room is reserved before an LSN is given. Every LSN given becomes a whole record, in order, without holes, or the log has ended.
//   - Marks never go back. A waiter hears when its mark is reached, never before.
//   - What is written is found again by a Reader, and accepted only if it follows what was accepted before: same volume and
//     lineage, the next offset, the next LSN, the same life or one that names the life and LSN that it follows.
//   - A life is durable before its first record.
//   - A write or flush that fails ends the log. It is not retried, and every waiter hears of it.
//   - Nothing on the way of a record allocates.
//
// Units: pages of 4096 bytes, as places on the device; an Offset counts bytes since the log began and never goes back; docs/format.md
// draws the bytes.
//
// It does not know what a record means, nor where home is.
package wal

import "errors"

// Errors of reading and opening a log.
var (
	ErrEnd         = errors.New("the log ends here")
	ErrCorrupt     = errors.New("a record that was durable is damaged")
	ErrVersion     = errors.New("written by a newer version")
	ErrLogTooSmall = errors.New("the log is too small")
)
