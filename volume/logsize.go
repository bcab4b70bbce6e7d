package volume

import (
	"fmt"
	"strings"

	"github.com/pollux-storage/pollux/wal"
)

// This file is how large the log of a new volume is (V-44).

// LogUse is what a volume is for, as its page has it. The values stand on the device.
type LogUse uint8

// The uses.
const (
	LogUseGeneral LogUse = iota
	LogUseDatabase
	LogUseThroughput
	logUseEnd
)

var logUses = [logUseEnd]wal.Use{wal.UseGeneral, wal.UseDatabase, wal.UseThroughput}

func (u LogUse) String() string {
	if u < logUseEnd {
		return string(logUses[u])
	}
	return fmt.Sprintf("use %d", uint8(u))
}

// logUseOf gives the use that a word means; known is false for one that means none and counts as general.
func logUseOf(u wal.Use) (use LogUse, known bool) {
	for i, word := range logUses {
		if strings.EqualFold(string(word), string(u)) {
			return LogUse(i), true
		}
	}
	return LogUseGeneral, u == ""
}

// LogUseOf gives the use that a word means; one that means none counts as general.
func LogUseOf(u wal.Use) LogUse {
	use, _ := logUseOf(u)
	return use
}

// sizeLog gives a new volume's log its size and checks it.
func (p *Pool) sizeLog(cfg *VolumeConfig) (LogUse, error) {
	use, _ := logUseOf(cfg.Use)
	if cfg.LogBytes == 0 {
		cfg.LogBytes = wal.SizeFor(logUses[use])
	}
	if p.cfg.SmallLogs {
		return use, nil
	}
	if _, err := wal.CheckSize(cfg.LogBytes, logUses[use], opsMax, PageBytes); err != nil {
		return use, fmt.Errorf("%w; give more, or nothing for the engine's choice", err)
	}
	return use, nil
}

// UseProblem says what is to be told to who asks for a use, "" if nothing is.
func UseProblem(u wal.Use) string {
	if _, known := logUseOf(u); known {
		return ""
	}
	return fmt.Sprintf("use %q is none that is known and counts as general; there are general, database and throughput", u)
}
