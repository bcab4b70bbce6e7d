package nvmf

import (
	"strings"
	"testing"

	"github.com/pollux-storage/pollux/bdev"
)

// The map, written out: what a device says, and what a host hears for a read and for a write.
var statusMap = map[bdev.Status]struct{ read, write Status }{
	bdev.StatusOK:           {0x000, 0x000},
	bdev.StatusMisaligned:   {0x002 | DNR, 0x002 | DNR},
	bdev.StatusOutOfRange:   {0x080 | DNR, 0x080 | DNR},
	bdev.StatusTooLarge:     {0x002 | DNR, 0x002 | DNR},
	bdev.StatusNotSupported: {0x001 | DNR, 0x001 | DNR},
	bdev.StatusMiscompare:   {0x285 | DNR, 0x285 | DNR},
	bdev.StatusIO:           {0x281 | DNR, 0x280 | DNR},
	bdev.StatusCorrupt:      {0x281 | DNR, 0x281 | DNR},
	bdev.StatusNoSpace:      {0x081 | DNR, 0x081 | DNR},
	bdev.StatusReadOnly:     {0x020 | DNR, 0x020 | DNR},
	bdev.StatusGone:         {0x006, 0x006},
	bdev.StatusBusy:         {0x021, 0x021},
	bdev.StatusNotReady:     {0x082, 0x082},
	bdev.StatusNotPrimary:   {0x302, 0x302},
	bdev.StatusEpochStale:   {0x303, 0x303},
	bdev.StatusLeaseExpired: {0x303, 0x303},
	bdev.StatusNotDurable:   {0x082, 0x082},
	bdev.StatusQuorumLost:   {0x082, 0x082},
	bdev.StatusClosed:       {0x303, 0x303},
	bdev.StatusAborted:      {0x007, 0x007},
}

func TestEveryDeviceStatusHasItsAnswer(t *testing.T) {
	seen := 0
	for b := range bdev.Statuses {
		seen++
		want, ok := statusMap[b]
		if !ok {
			t.Errorf("%v stands in no row of the table", b)
			continue
		}
		for k := range bdev.Kind(bdev.Kinds) {
			w := want.read
			if k.Writes() || k == bdev.Flush {
				w = want.write
			}
			if got := StatusOf(b, k); got != w {
				t.Errorf("%v of a %v: %v, want %v", b, k, got, w)
			}
		}
	}
	if seen != len(statusMap) {
		t.Errorf("%d statuses, %d rows", seen, len(statusMap))
	}
	if got := StatusOf(bdev.Status(200), bdev.Read); got != StatusInternal {
		t.Errorf("unknown status: %v", got)
	}
}

// A status that crosses an initiator and a target again, as that of a bdev of kind nvme does, stays what it is.
func TestStatusThereAndBack(t *testing.T) {
	for b := range bdev.Statuses {
		for k := range bdev.Kind(bdev.Kinds) {
			once := StatusOf(b, k)
			twice := StatusOf(once.DeviceStatus(), k)
			switch {
			case b == bdev.StatusGone: // becomes an I/O error
				if want := StatusOf(bdev.StatusIO, k); twice != want {
					t.Errorf("%v of a %v: %v, want %v", b, k, twice, want)
				}
			case b == bdev.StatusCorrupt: // known by what it did to the command
				if want := StatusOf(bdev.StatusIO, k); twice != want {
					t.Errorf("%v of a %v: %v, want %v", b, k, twice, want)
				}
			case twice != once:
				t.Errorf("%v of a %v: %v became %v", b, k, once, twice)
			}
			if once.OK() != (b == bdev.StatusOK) || once.DeviceStatus() == bdev.StatusOK && b != bdev.StatusOK {
				t.Errorf("%v and success are confused", b)
			}
		}
	}
}

// No status, of the 32,768 there are, is success but success, and none is a status that a bdev does not know.
func TestEveryStatusHasADeviceStatus(t *testing.T) {
	for s := range Status(1 << 15) {
		b := s.DeviceStatus()
		if (b == bdev.StatusOK) != (s.Code() == 0) {
			t.Errorf("%v: %v", s, b)
		}
		if b.String() == "unknown status" {
			t.Errorf("%v: %v", s, b)
		}
		if s.DeviceStatus() != (s ^ DNR).DeviceStatus() {
			t.Errorf("%v: DNR changes the status of the device", s)
		}
	}
}

func TestRemoteStatuses(t *testing.T) {
	for s, want := range map[Status]bdev.Status{
		StatusInvalidNamespace | DNR: bdev.StatusGone,
		StatusSQDeleted:              bdev.StatusClosed,
		StatusCommandSize | DNR:      bdev.StatusTooLarge,
		StatusReadOnlyRange | DNR:    bdev.StatusReadOnly,
		StatusGuardCheck | DNR:       bdev.StatusCorrupt,
		StatusTransientTransport:     bdev.StatusBusy,
		StatusPathController:         bdev.StatusBusy,
		StatusReservationConflict:    bdev.StatusIO,
		StatusANAPersistentLoss:      bdev.StatusGone,
		StatusAccessDenied | DNR:     bdev.StatusIO,
		0x7FF:                        bdev.StatusIO,
	} {
		if got := s.DeviceStatus(); got != want {
			t.Errorf("%v: %v, want %v", s, got, want)
		}
	}
}

func TestStatusString(t *testing.T) {
	for s, want := range map[Status]string{
		StatusSuccess:                    "0/00 Successful Completion",
		StatusInvalidField | DNR:         "0/02 Invalid Field in Command, do not retry",
		StatusANAInaccessible:            "3/02 Asymmetric Access Inaccessible",
		StatusReadError | More | 2<<11:   "2/81 Unrecovered Read Error",
		StatusConnectParameters:          "1/82 Connect Invalid Parameters, or Attempted Write to Read Only Range",
		0x7C0:                            "7/C0 status unknown",
		StatusKeepAliveExpired:           "0/19 Keep Alive Timer Expired",
		StatusAuthenticationNeeded | DNR: "1/91 Authentication Required, do not retry",
	} {
		if got := s.String(); got != want {
			t.Errorf("%04X: %q, want %q", uint16(s), got, want)
		}
	}
	s := StatusInterrupted | 2<<11 | More
	if s.CRD() != 2 || s.DNR() || s.SCT() != 0 || s.SC() != 0x21 || s.Code() != StatusInterrupted || s.OK() {
		t.Errorf("fields of %04X", uint16(s))
	}
	for s, name := range statusNames {
		if s != s.Code() || strings.TrimSpace(name) == "" {
			t.Errorf("%04X %q", uint16(s), name)
		}
	}
}

func TestStatusAllocatesNothing(t *testing.T) {
	var kept bdev.Status
	if n := testing.AllocsPerRun(100, func() {
		for b := bdev.StatusOK; b <= bdev.StatusAborted; b++ {
			kept = max(kept, StatusOf(b, bdev.Write).DeviceStatus())
		}
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}
