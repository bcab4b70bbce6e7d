// Package nvmf is the NVMe over Fabrics target: one protocol core, and transports that carry it.
//
// The model: a host's connection becomes a queue (queue.go) by its Connect (fabrics.go). A queue lives on one reactor, and so
// does everything that a command needs. An Admin queue is a controller's (controller.go), and lives on the reactor that owns the
// subsystem; the I/O queues of the controller live anywhere. What is configured (target.go, subsystem.go) belongs to control
// goroutines and reaches the reactors as views that are never altered.
//
// The transports are TCP (tcp.go) and RDMA (rdma.go); what they take is in limits.go, where connections come in in portal.go and rdmadoor.go.
//
// The way of a command over TCP: tcp.go receives → conn.go cuts → queue.go acquire, start → io.go admit, execute → bdev → queue.go respond →
// tcp.go sends → queue.go release.
//
// Invariants
//   - A command has one slot from its arrival until its answer has left; its memory is lent for as long.
//   - A host with a key proves itself on each queue before anything else is taken there (authenticate.go).
//   - What a host may not do is answered before its data is asked for.
//   - A queue is closed when its transport is gone and every command has ended, and only then told of.
//   - A view is complete on a reactor before the change that made it is reported as done.
//
// Units: data in bytes, LBAs in logical blocks of the namespace; counts are 1-based, whatever they are on the wire.
package nvmf
