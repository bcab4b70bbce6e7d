package volume

import "github.com/pollux-storage/pollux/wal"

// This file is the table of epochs in a volume page. The last one is the volume's; the page's own field is that of the checkpoint, from
// where the log is read.

// epochNow is the volume's epoch.
func (v *VolumePage) epochNow() wal.Epoch {
	if n := len(v.Epochs); n > 0 {
		return max(v.Epoch, v.Epochs[n-1].Epoch)
	}
	return v.Epoch
}

// beginEpoch notes an epoch from an LSN on. The table keeps the last ones. It is a new one: who reads the page meanwhile sees the old.
func (v *VolumePage) beginEpoch(e wal.Epoch, first wal.LSN) {
	old := v.Epochs
	for len(old) > 0 && old[len(old)-1].First > first { // none of its records is left
		old = old[:len(old)-1]
	}
	if len(old) == EpochsMax {
		old = old[1:]
	}
	v.Epochs = append(append(make([]EpochStart, 0, len(old)+1), old...), EpochStart{e, first})
}
