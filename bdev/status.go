package bdev

// Status says how a request ended. It is a number, because it travels on the I/O path; each protocol maps it to its own
// codes in one place (nvmf/status.go, iscsi/sense.go).
type Status uint8

// The statuses. Who is wrong decides the group: the request, the world, or the state that the device is in.
const (
	StatusOK Status = iota

	// The request is wrong: repeating it as it is cannot help.
	StatusMisaligned   // length or memory does not fit the geometry
	StatusOutOfRange   // a block past the end of the device
	StatusTooLarge     // more blocks than the device takes at once
	StatusNotSupported // the device has no such operation
	StatusMiscompare   // Compare found a difference; Request.Detail is its byte offset

	// The world is wrong.
	StatusIO       // the medium or the path to it failed
	StatusCorrupt  // what was read fails its checksum
	StatusNoSpace  // a thin device, a pool or a sparse file has no room left
	StatusReadOnly // the device takes no writes
	StatusGone     // the device was removed below its users

	// The state does not allow it now.
	StatusBusy         // transient: repeating it may help
	StatusNotReady     // not serving yet
	StatusNotPrimary   // another node serves this volume
	StatusEpochStale   // this node's epoch has been superseded
	StatusLeaseExpired // this node may no longer believe it is primary
	StatusNotDurable   // not durable where the mode requires it, in time
	StatusQuorumLost   // too few replicas answered, in time
	StatusClosed       // the device or the channel is closing
	StatusAborted      // ended early by Abort or Reset; a write may have taken effect, in part or as a whole

	statusEnd
)

var statusNames = [statusEnd]string{
	"ok", "misaligned", "out of range", "too large", "not supported", "miscompare",
	"i/o error", "corrupt", "no space", "read-only", "gone",
	"busy", "not ready", "not primary", "epoch stale", "lease expired", "not durable", "quorum lost", "closed", "aborted",
}

// String gives the status in words, for logs and tables.
func (s Status) String() string {
	if s < statusEnd {
		return statusNames[s]
	}
	return "unknown status"
}

// Statuses yields every status there is, so that a table test can prove a map complete.
func Statuses(yield func(Status) bool) {
	for s := StatusOK; s < statusEnd; s++ {
		if !yield(s) {
			return
		}
	}
}

// Kind is the operation that a request asks for.
type Kind uint8

// The kinds of requests. Their rules stand at Request.
const (
	Read Kind = iota
	Write
	Flush           // all writes completed before its submission become durable
	Unmap           // the blocks may be given back; they read as zeros where Info.UnmapZeroes says so
	WriteZeroes     // the blocks read as zeros afterwards
	Compare         // Data is compared with the blocks
	CompareAndWrite // Data is compared, and if equal Data2 is written, as one atomic step
	Copy            // blocks from LBA2 to LBA
	Extent          // which of the blocks are mapped: Alike and Mapped
	Reset           // requests in flight end, then the device is as if newly opened

	kindEnd
)

// Kinds is the number of request kinds, for tables indexed by Kind.
const Kinds = int(kindEnd)

var kindNames = [kindEnd]string{
	"read", "write", "flush", "unmap", "write zeroes", "compare", "compare and write", "copy", "extent", "reset",
}

// String gives the kind in words.
func (k Kind) String() string {
	if k < kindEnd {
		return kindNames[k]
	}
	return "unknown kind"
}

// Writes reports whether a request of this kind may change the medium.
func (k Kind) Writes() bool {
	switch k {
	case Write, Unmap, WriteZeroes, CompareAndWrite, Copy:
		return true
	}
	return false
}
