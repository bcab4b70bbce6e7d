package iscsi

import (
	"bytes"
	"testing"

	"github.com/pollux-storage/pollux/bdev"
)

func TestEveryStatusHasAnAnswer(t *testing.T) {
	want := map[bdev.Status]string{
		bdev.StatusOK:           "good",
		bdev.StatusMisaligned:   "05/24/00",
		bdev.StatusOutOfRange:   "05/21/00",
		bdev.StatusTooLarge:     "05/24/00",
		bdev.StatusNotSupported: "05/20/00",
		bdev.StatusMiscompare:   "0E/1D/00",
		bdev.StatusIO:           "03/11/00",
		bdev.StatusCorrupt:      "03/11/00",
		bdev.StatusNoSpace:      "07/27/07",
		bdev.StatusReadOnly:     "07/27/00",
		bdev.StatusGone:         "05/25/00",
		bdev.StatusBusy:         "busy",
		bdev.StatusNotReady:     "02/04/01",
		bdev.StatusNotPrimary:   "02/04/0B",
		bdev.StatusEpochStale:   "02/04/0A",
		bdev.StatusLeaseExpired: "02/04/0A",
		bdev.StatusNotDurable:   "02/04/01",
		bdev.StatusQuorumLost:   "02/04/01",
		bdev.StatusClosed:       "02/04/0A",
		bdev.StatusAborted:      "status 40",
	}
	for s := range bdev.Statuses {
		var x exchange
		var code senseCode
		x.status, code = statusOf(s, bdev.Read)
		x.sense.code = code
		if got := x.answered(); got != want[s] {
			t.Errorf("%v of a read is answered %s, not %s", s, got, want[s])
		}
		if x.status == CheckCondition == (code == senseNone) {
			t.Errorf("%v: sense and status do not fit", s)
		}
	}
	for _, k := range []bdev.Kind{bdev.Write, bdev.Flush, bdev.Unmap, bdev.WriteZeroes, bdev.CompareAndWrite, bdev.Copy} {
		if _, code := statusOf(bdev.StatusIO, k); code != senseWriteError {
			t.Errorf("an I/O error of %v is %06x", k, code)
		}
	}
	if _, code := statusOf(255, bdev.Read); code != senseInternalError {
		t.Errorf("an unknown status is %06x", code)
	}
}

func TestSenseData(t *testing.T) {
	for name, c := range map[string]struct {
		s           sense
		fixed, desc []byte
	}{
		"no more than a code": {
			sense{code: senseOutOfRange},
			[]byte{0: 0x70, 2: 5, 7: 10, 12: 0x21, 17: 0},
			[]byte{0x72, 5, 0x21, 0, 0, 0, 0, 0},
		},
		"an LBA": {
			sense{code: senseReadError, informs: true, info: 0x01020304},
			[]byte{0xF0, 0, 3, 1, 2, 3, 4, 10, 12: 0x11, 17: 0},
			[]byte{0x72, 3, 0x11, 0, 0, 0, 0, 12, 0, 10, 0x80, 0, 0, 0, 0, 0, 1, 2, 3, 4},
		},
		"an LBA that does not fit": {
			sense{code: senseReadError, informs: true, info: 0x0102030405},
			[]byte{0: 0x70, 2: 3, 7: 10, 12: 0x11, 17: 0},
			[]byte{0x72, 3, 0x11, 0, 0, 0, 0, 12, 0, 10, 0x80, 0, 0, 0, 0, 1, 2, 3, 4, 5},
		},
		"a bit of the CDB": {
			sense{code: senseInvalidField, pointing: pointsCDB, field: 1, bit: 7},
			[]byte{0: 0x70, 2: 5, 7: 10, 12: 0x24, 15: 0xCF, 17: 1},
			[]byte{0x72, 5, 0x24, 0, 0, 0, 0, 8, 2, 6, 0, 0, 0xCF, 0, 1, 0},
		},
		"a byte of the list": {
			sense{code: senseInvalidList, pointing: pointsList, field: 0x0102, bit: -1},
			[]byte{0: 0x70, 2: 5, 7: 10, 12: 0x26, 15: 0x80, 16: 1, 17: 2},
			[]byte{0x72, 5, 0x26, 0, 0, 0, 0, 8, 2, 6, 0, 0, 0x80, 1, 2, 0},
		},
	} {
		if got := c.s.AppendTo(nil, false); !bytes.Equal(got, c.fixed) {
			t.Errorf("%s, fixed:\n%x not\n%x", name, got, c.fixed)
		}
		if got := c.s.AppendTo(nil, true); !bytes.Equal(got, c.desc) {
			t.Errorf("%s, with descriptors:\n%x not\n%x", name, got, c.desc)
		}
	}
}

func TestEachAttentionHasACode(t *testing.T) {
	for what, code := range attentionCodes {
		if code.key() != 6 {
			t.Errorf("attention %d is %06x", what, code)
		}
	}
}
