// Package iscsi is the iSCSI target: the protocol without a socket, one file for the socket, and the SCSI device that it serves.
//
// The model: an initiator's connection logs in (login.go) and becomes a session (session.go): an I_T nexus (nexus.go). There is one
// connection to a session, and a session lives on one reactor with everything that its tasks need. What is configured (target.go)
// belongs to control goroutines and reaches the reactors as views that are never altered (view.go).
//
// The way of a command: tcp.go receives → conn.go cuts → session.go takes, by its CmdSN → task.go gets a slot → scsi.go admits →
// data.go brings the data → scsi.go executes → bdev → data.go answers → tcp.go sends → task.go releases.
//
// Invariants
//   - A task has one slot from its arrival until its answer has left; its memory is lent for as long.
//   - What an initiator may not do, and what cannot be served, is answered before its data is asked for.
//   - A task management function is answered when the tasks that it ends are over.
//   - A session is closed when its connection is gone and every task has ended, and only then told of.
//   - A view is complete on a reactor before the change that made it is reported as done.
//
// Units: data in bytes, LBAs in logical blocks of the unit; lengths and counts are as on the wire.
//
// Standards: RFC 7143 (iSCSI), RFC 7144 and RFC 7145 where they add to it; SAM-5, SPC-4 and SBC-3 for SCSI.
package iscsi
