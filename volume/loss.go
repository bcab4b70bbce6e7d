package volume

import "fmt"

// Loss is what may have been lost of a volume.
type Loss uint8

// The losses; the values stand on the device.
const (
	LossNone   Loss = iota
	LossCache       // what was acknowledged by a volatile cache and not flushed
	LossDevice      // what the log held above the checkpoint: its device is gone
	lossEnd
)

var lossNames = [lossEnd]string{"none", "cache", "log device"}

func (l Loss) String() string {
	if l < lossEnd {
		return lossNames[l]
	}
	return fmt.Sprintf("loss %d", uint8(l))
}
