// Package reservation is who may use a device, whatever door they come by: an NVMe namespace and a SCSI logical unit on one device have the
// same registrants and the same reservation (T-1).
//
// The model: a State is who is registered with which key, who holds the device and how. The rules that the NVMe Base Specification ("Reservations")
// and SPC-4 ("Persistent reservations") share are in change.go, once; where they differ, there are two entry points. A Book is the state of one
// device in an engine. Doors open it: a namespace of a subsystem, a logical unit of a target. One change of a book follows the other, and each goes
//
//	copied ─▶ changed ─▶ kept, durably ─▶ published by every door to its reactors ─▶ told to who is to hear of it ─▶ answered
//
// Invariants
//   - A State is never altered once it is published.
//   - What was answered is kept, and known to every reactor of every door.
//   - Nobody holds without being registered, and nobody is registered twice.
//   - A reactor never waits: changes run on control goroutines, reactors see copies that their doors give them.
//
// Units: keys and generations are as on the wire.
//
// It knows neither status codes nor sense data: a Verdict says what is wrong, an Event what has happened, and each door has its own words for them.
package reservation
