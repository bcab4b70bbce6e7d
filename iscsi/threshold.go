package iscsi

import "github.com/pollux-storage/pollux/bdev"

// This file is the threshold of thin provisioning: initiators hear THIN PROVISIONING SOFT THRESHOLD REACHED when little is left of the space that a unit
// shares with others, which its device tells (bdev.LowSpace). SBC-4 section 4.7.3.7, "Logical block provisioning thresholds".
//
// Of the two forms of thresholds it is a percentage, of what is available, that falls: SBC-3 has none but sets of LBAs, and a pool is no number of LBAs
// of a unit. Where it is stands in the Logical Block Provisioning mode page, and cannot be changed; LBPERE of the page Read-Write Error Recovery switches
// it off. The page, section 6.5.9:
//
//	0  PS, SPF 1, PAGE CODE 1Ch     4      SITUA 0: every nexus is told
//	1  SUBPAGE CODE 02h             16..23 descriptor: ENABLED 7, THRESHOLD TYPE 5:3, THRESHOLD ARMING 2:0; THRESHOLD RESOURCE;
//	2,3 PAGE LENGTH                        reserved 2, 3; THRESHOLD COUNT 4..7

const (
	thresholdAt = 16 // the descriptor in the page

	thresholdEnabled    = 0x80
	thresholdPercentage = 1 << 3 // THRESHOLD TYPE 001b; THRESHOLD ARMING 000b: decreasing
	thresholdAvailable  = 0x03   // THRESHOLD RESOURCE: what is available, in percent

	thresholdRange = 20 // tenths of a percent: it may be told one percent from where it is, and is armed again one percent from there

	recoveryLBPERE = 0x80 // in byte 7. Section 6.5.10, "Read-Write Error Recovery mode page"
)

// tellsLowSpace reports whether the device tells when there is little space.
func tellsLowSpace(g *bdev.Geometry) bool { return g.LowSpace > 0 }

func fillThresholds(p []byte, g *bdev.Geometry, _ uint32) {
	p[thresholdAt], p[thresholdAt+1], p[thresholdAt+7] = thresholdEnabled|thresholdPercentage, thresholdAvailable, g.LowSpace
}

func fillRecovery(p []byte, g *bdev.Geometry, bits uint32) {
	if tellsLowSpace(g) && bits&modeUntold == 0 {
		p[7] = recoveryLBPERE
	}
}

func maskRecovery(p []byte, g *bdev.Geometry) {
	if tellsLowSpace(g) {
		p[7] = recoveryLBPERE
	}
}

func bitsRecovery(p []byte) (mask, bits uint32) {
	if p[7]&recoveryLBPERE == 0 {
		bits = modeUntold
	}
	return modeUntold, bits
}

// lowSpace tells every nexus of the unit that little is left.
func (u *Unit) lowSpace() {
	if !u.modes.has(modeUntold) {
		u.tell(attentionThreshold)
	}
}
