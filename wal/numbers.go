// Package wal keeps the log of one volume.
package wal

// This file is the numbers of a log. Each has its own type, so that the compiler refuses one in the place of another (V-2); what
// turns one into a plain number or back is the codec of the structure that it stands in.

// LSN is the number of a record in its volume's history. The first record has 1 (in a clone of a snapshot at s: s+1), each the
// next one, and none is ever given twice: not after reopening, restore, import or rebuild. 0 is before the first.
type LSN uint64

// Epoch is one term of a primary. A record of a lower epoch is not accepted after one of a higher.
type Epoch uint64

// Life is one unbroken stretch of a log on one server. Each opening for writing begins another, and so do a cut and a rebuild.
// Lives are told apart only within one log.
type Life uint64

// Lineage is one history of a volume, shared by its replicas. Create, clone, restore to an earlier history and import begin another.
type Lineage uint64

// Offset counts the bytes of a log since it began, over all laps of its ring; it never goes back. It is not an LSN, and not an
// address: its position on the device is its remainder by the length of the log, laid over the log's extents.
type Offset uint64
