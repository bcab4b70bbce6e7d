// Package volume is the pool and what lives in it: volumes, thin and thick, their snapshots and clones.
//
// The model: a pool is a device cut into pages of 4096 bytes. Two slots at its beginning take turns to hold its root, under a
// generation that rises by one with each commit: which pages are in use (a bitmap), and where each volume's page is (a directory). A
// volume's page leads to its log, to its snapshots and to a map from cluster to place. Nothing that a slot refers to is written over:
// changed pages go to new places, and a commit switches all of them at once by writing the slot whose turn it is.
//
// Invariants
//   - Of the two slots at least one is valid at every moment, and all that it refers to is on the device, as it was.
//   - A page that the root of either slot refers to is not handed out. What a commit no longer refers to rests until the commit after it.
//   - Handed out, referred to, resting, free: a page is exactly one of these, and the allocator's counters are the bits'.
//   - Space is reserved before it is needed; taking what was reserved cannot fail.
//   - A page that is read is known by its kind, pool, volume, level and index, and by the CRC that the one who refers to it kept.
//   - Each cluster of a thick volume has a place that the head has alone, or one is reserved for it.
//   - A dirty block leaves the dirty map by the LSN that went home; one that was written again meanwhile stays.
//   - What was born up to a volume's newest snapshot, or up to where a clone branched off, is never written in place nor freed by the head.
//   - What is done to a volume's history is a record of its log, applied when all before it is home and before anything behind it is.
//   - A page of a map that a commit has frozen does not change any more; what is changed meanwhile is a copy.
//
// Units: a page is 4096 bytes. A Place is the number of a page on the pool's device, and Place 0 is no place. A cluster is 16 to 256
// pages, the same in the whole pool, and begins at a multiple of its size. Sizes of volumes are bytes. docs/format.md draws every byte.
//
// Memory: the allocator keeps two bits for each page and, for each cluster, two more with their summaries. That is 64 MiB for each TiB
// of the pool, and 4.1 MiB (clusters of 64 KiB) to 0.3 MiB (1 MiB) on top; so 6.7 GiB for 100 TiB.
//
// It does not know targets, hosts or other nodes; it sees the device below through bdev, and a log through wal.
package volume
