// Package sim is what simulated worlds are made of: seeds, traces, and a disk that loses, reorders and spoils what real ones do.
//
// The model: a Disk is an array of sectors in two states, what is read and what a power failure leaves. Between them stands the
// volatile cache, a list of the writes that have completed and were not flushed. Whoever drives the disk submits operations, waits as
// long as it is told, and completes them; reactors, queues and time are theirs (package bdev/bdevsim has them).
//
// An Image is a disk at an instant: what is durable, and what is not decided yet. The images that a power failure at that instant could
// leave are enumerated from it, sector by sector, and each can be opened as a disk again.
//
// Invariants
//   - Nothing but the seed decides: no map is iterated, no clock read, no goroutine started.
//   - A write takes effect for readers when it completes, at once and whole, unless a fault was injected.
//   - After a power failure each sector of a write that was in flight, or completed and was not flushed, is old or new. A flush makes
//     durable exactly the writes that completed before it was submitted; FUA the sectors of its own write or read.
//   - A sector that is durable never becomes older.
//   - An image never changes; disks share its pages until they write to them.
//
// Units: sectors are 512 bytes, the unit that is written whole or not at all; LBA and Blocks count the disk's blocks; times are
// nanoseconds.
//
// It knows nothing of reactors and devices.
package sim
