package iscsi_test

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/pollux-storage/pollux/bdev"
	"github.com/pollux-storage/pollux/internal/patient"
	"github.com/pollux-storage/pollux/iscsi/iscsitest"
)

// A removal that is waited for no longer goes on: the device is given back when it has answered.
func TestADeviceThatAnswersAfterItsRemovalIsGivenBack(t *testing.T) {
	e := iscsitest.Start(t, iscsitest.Options{Reactors: 2})
	h := e.AddHeld(1)
	p := ready(t, e)
	p.Unit(1)
	c := p.SCSI(1, iscsitest.Read10(0, 1), iscsitest.Reads, 4096)
	p.Send(p.PDU(c, nil))
	h.Want("a read", 1)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := e.Target.RemoveLUN(ctx, iscsitest.Node, 1); !errors.Is(err, context.Canceled) || !strings.Contains(err.Error(), "Held0") {
		t.Errorf("a removal that nobody waits for: %v", err)
	}
	h.End(bdev.StatusOK)
	wantGood(t, "the read", p.Response(c, nil))
	patient.Within(t, "the device is given back", func() {
		if err := e.Bdevs.Unregister(t.Context(), "Held0"); err != nil {
			t.Error(err)
		}
	})
}
