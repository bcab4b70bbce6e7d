// Package bench puts load on a block device and says how the device bore it.
//
// The model: a Session is a device opened on reactors. A Workload says what to do to it; Session.Run carries it out as jobs,
// each on one reactor with its own queue, generator and counters, and gives a Run: the figures of one measurement. A Row is
// several Runs of one workload on one target with their median and spread, a Report is rows with the conditions under which
// they were made. Raw targets are measured by fio instead, into the same Run.
//
// With Verify every block that is written carries a header (see block.go) and a Ledger knows which generations of it a read
// may return, so that a lost, stale, misplaced or torn write is found whatever the order of overlapping requests.
//
// Invariants
//   - The same workload and seed put the same requests in the same order on one job, whatever the device does.
//   - Nothing is counted that began to be served before the ramp ended; what was counted has completed.
//   - No I/O allocates.
//   - A figure never stands without its conditions, and a ratio never without its spread.
//
// Units: offsets and sizes are bytes, latencies nanoseconds; rates are per second. Latencies come from the buckets of
// internal/hist: percentiles are exact to within 4.5 %, minimum, maximum and average are exact.
//
// It knows no protocol: a remote device is a bdev.Device of the initiator.
package bench
