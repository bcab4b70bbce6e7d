package ring

import "strings"

// SetupSet is a set of IORING_SETUP_* flags.
type SetupSet uint32

// Setup flags (linux/io_uring.h).
const (
	SubmitAll    SetupSet = 1 << 7  // an entry that is refused completes with its error, and the rest of the batch goes on (5.18)
	CoopTaskrun  SetupSet = 1 << 8  // completions are posted when we enter, not by an interrupt of the thread (5.19)
	TaskrunFlag  SetupSet = 1 << 9  // a flag in the ring says that an enter would post some (5.19)
	SingleIssuer SetupSet = 1 << 12 // one thread submits (6.0)
	DeferTaskrun SetupSet = 1 << 13 // completions are posted only when we ask for events (6.1)
)

// Setups are the sets that Open tries, best first: Linux 6.1, 5.19, 5.15.
var Setups = []SetupSet{SingleIssuer | DeferTaskrun | TaskrunFlag | SubmitAll, CoopTaskrun | TaskrunFlag | SubmitAll, 0}

// String names the flags as the kernel does.
func (s SetupSet) String() string {
	var names []string
	for _, f := range []struct {
		bit  SetupSet
		name string
	}{{SubmitAll, "SUBMIT_ALL"}, {CoopTaskrun, "COOP_TASKRUN"}, {TaskrunFlag, "TASKRUN_FLAG"}, {SingleIssuer, "SINGLE_ISSUER"}, {DeferTaskrun, "DEFER_TASKRUN"}} {
		if s&f.bit != 0 {
			names = append(names, f.name)
		}
	}
	if names == nil {
		return "none"
	}
	return strings.Join(names, "|")
}

// Numbers of the kernel's interface (linux/io_uring.h).
const (
	entriesMax = 1 << 15

	offRings = 0
	offSQEs  = 0x10000000

	featSingleMmap = 1 << 0
	featNoDrop     = 1 << 1
	featExtArg     = 1 << 8

	sqCQOverflow = 1 << 1
	sqTaskRun    = 1 << 2

	enterGetEvents      = 1 << 0
	enterExtArg         = 1 << 3
	enterRegisteredRing = 1 << 4
)
