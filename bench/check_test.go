package bench

import (
	"bytes"
	"errors"
	"strings"
	"testing"

	"github.com/pollux-storage/pollux/bdev"
)

// sessionTarget is a session as a target.
type sessionTarget struct{ *Session }

func (s sessionTarget) Name() string { return "liar" }
func (s sessionTarget) Close() error { return nil }
func (s sessionTarget) Describe() DeviceConditions {
	g := s.handle.Device().Geometry()
	return DeviceConditions{SizeBytes: g.Bytes()}
}

func TestCheckTellsWhatItFound(t *testing.T) {
	var out bytes.Buffer
	err := Check(t.Context(), sessionTarget{newTestRig(t, 1).mem(t, 2048)}, CheckOptions{Size: 1 << 30, Seconds: 0.02}, &out)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"verified  8M written", "every one right", "read      4 KiB at random, 1 in flight", "write     4 KiB", "IOPS"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("no %q in:\n%s", want, out.String())
		}
	}
}

func TestCheckFailsOnADeviceThatForgets(t *testing.T) {
	lie := func(l *liar, q *bdev.Request) bool {
		if q.Kind != bdev.Write || q.LBA != 64 {
			return false
		}
		q.CompleteLater(bdev.StatusOK)
		return true
	}
	var out bytes.Buffer
	err := Check(t.Context(), sessionTarget{newTestRig(t, 1).liar(t, 256, &liar{lie: lie})}, CheckOptions{Seconds: 0.02}, &out)
	if !errors.Is(err, ErrFailed) || strings.Contains(out.String(), "every one right") {
		t.Errorf("%v\n%s", err, out.String())
	}
}
