package wal

import (
	"errors"
	"testing"

	"github.com/pollux-storage/pollux/reactor"
)

func TestAdmissionBands(t *testing.T) {
	const size = 1_000_000
	for _, c := range []struct {
		used  uint64
		band  Pressure
		delay reactor.Ticks
	}{
		{0, PressureNone, 0}, {699_999, PressureNone, 0},
		{700_000, PressureDelay, 0}, {750_000, PressureDelay, 1_250_000}, {799_999, PressureDelay, 2_499_975},
		{800_000, PressureUrgent, 2_500_000}, {880_000, PressureUrgent, 4_500_000}, {899_999, PressureUrgent, 4_999_975},
		{900_000, PressureWait, 5_000_000}, {size, PressureWait, 5_000_000}, {2 * size, PressureWait, 5_000_000},
	} {
		if band, delay := Admission(c.used, size); band != c.band || delay < c.delay-1 || delay > c.delay+1 {
			t.Errorf("%d used: band %d, %d ns; want %d, %d ns", c.used, band, delay, c.band, c.delay)
		}
	}
}

func TestCheckSize(t *testing.T) {
	const mib = 1 << 20
	for _, c := range []struct {
		name         string
		bytes        uint64
		use          Use
		slots, block uint64
		known, small bool
	}{
		{"the default", DefaultBytes, UseGeneral, 128, 128 << 10, true, false},
		{"general, at its floor", 32 * mib, UseGeneral, 1, 4096, true, false},
		{"general, below", 32*mib - 4096, UseGeneral, 1, 4096, true, true},
		{"database, at its floor", 128 * mib, UseDatabase, 1, 4096, true, false},
		{"database, below", 128*mib - 4096, UseDatabase, 1, 4096, true, true},
		{"throughput, at its floor", 128 * mib, UseThroughput, 1, 4096, true, false},
		{"throughput, below", 127 * mib, UseThroughput, 1, 4096, true, true},
		{"an unknown use counts as general", 32 * mib, "archive", 1, 4096, false, false},
		{"an unknown use, below", 31 * mib, "archive", 1, 4096, false, true},
		{"none said", 32 * mib, "", 1, 4096, false, false},
		{"four times what the slots hold", 64 * mib, UseGeneral, 128, 128 << 10, true, false},
		{"a slot more", 64 * mib, UseGeneral, 129, 128 << 10, true, true},
		{"more slots than can be multiplied", 64 * mib, UseGeneral, 1 << 42, 1 << 20, true, true},
		{"nothing", 0, UseGeneral, 0, 0, true, true},
	} {
		known, err := CheckSize(c.bytes, c.use, c.slots, c.block)
		if known != c.known || errors.Is(err, ErrLogTooSmall) != c.small || !c.small && err != nil {
			t.Errorf("%s: known %v, %v", c.name, known, err)
		}
	}
	if 64*RecordPagesMax*PageBytes > 32*mib {
		t.Error("the lowest floor holds less than 64 of the largest records: CheckSize needs a case of its own in this table")
	}
}

func TestSizeFor(t *testing.T) {
	for use, want := range map[Use]uint64{UseGeneral: 64 << 20, UseDatabase: 128 << 20, UseThroughput: 128 << 20, "": 64 << 20, "archive": 64 << 20} {
		if got := SizeFor(use); got != want {
			t.Errorf("use %q: %d bytes, want %d", use, got, want)
		}
		if _, err := CheckSize(SizeFor(use), use, 512, 4096); err != nil {
			t.Errorf("use %q is refused its own default: %v", use, err)
		}
	}
}
