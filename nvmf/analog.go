package nvmf

import (
	"encoding/binary"
	"fmt"
)

// This file is log page 0Ch, "Asymmetric Namespace Access". Base Specification 2.0, "Asymmetric Namespace Access":
//
//	page    0..7  CHGCNT   8..9  number of groups   10..15 reserved   then the groups
//	group   0..3  ANAGRPID  4..7 number of NSIDs    8..15  CHGCNT     16 state 3:0   17..31 reserved   then the NSIDs
//
// The NSIDs of a group ascend; 4 bytes each.

// Sizes on the wire, in bytes.
const (
	ANAHeaderBytes = 16
	ANAGroupBytes  = 32
)

// ANALogBytes is the size of the page.
func ANALogBytes(groups, namespaces int) int {
	return ANAHeaderBytes + groups*ANAGroupBytes + namespaces*4
}

// ANAState says how a controller reaches the namespaces of a group.
type ANAState uint8

// The states.
const (
	ANAOptimized      ANAState = 0x1
	ANANonOptimized   ANAState = 0x2
	ANAInaccessible   ANAState = 0x3
	ANAPersistentLoss ANAState = 0x4 // final
	ANAChange         ANAState = 0xF
)

// String gives the state in the words of SPDK's RPC, which are also the user's.
func (s ANAState) String() string {
	switch s {
	case ANAOptimized:
		return "optimized"
	case ANANonOptimized:
		return "non_optimized"
	case ANAInaccessible:
		return "inaccessible"
	case ANAPersistentLoss:
		return "persistent_loss"
	case ANAChange:
		return "change"
	}
	return fmt.Sprintf("ANA state %Xh", uint8(s))
}

// Valid reports that the state is one of the standard's.
func (s ANAState) Valid() bool {
	return s >= ANAOptimized && s <= ANAPersistentLoss || s == ANAChange
}

// Status is the answer to a command that needs a namespace in this state; StatusSuccess where it is served. It is never
// with DNR: another path may serve it.
func (s ANAState) Status() Status {
	switch s {
	case ANAOptimized, ANANonOptimized:
		return StatusSuccess
	case ANAPersistentLoss:
		return StatusANAPersistentLoss
	case ANAChange:
		return StatusANATransition
	}
	return StatusANAInaccessible
}

// ANAGroup is a group of namespaces that change their state together.
type ANAGroup struct {
	ID     uint32
	CHGCNT uint64
	State  ANAState
	NSIDs  []NSID // ascending
}

// AppendANALog appends the page. groupsOnly, RGO, leaves the NSIDs out.
func AppendANALog(b []byte, chgcnt uint64, groups []ANAGroup, groupsOnly bool) []byte {
	b = binary.LittleEndian.AppendUint64(b, chgcnt)
	b = binary.LittleEndian.AppendUint16(b, uint16(len(groups)))
	b = append(b, zeros[:6]...)
	for i := range groups {
		g := &groups[i]
		ids := g.NSIDs
		if groupsOnly {
			ids = nil
		}
		b = binary.LittleEndian.AppendUint32(b, g.ID)
		b = binary.LittleEndian.AppendUint32(b, uint32(len(ids)))
		b = binary.LittleEndian.AppendUint64(b, g.CHGCNT)
		b = append(b, byte(g.State))
		b = append(b, zeros[:15]...)
		for _, id := range ids {
			b = binary.LittleEndian.AppendUint32(b, uint32(id))
		}
	}
	return b
}

// DecodeANALog reads the page in b, which may be longer than the page.
func DecodeANALog(b []byte) (chgcnt uint64, groups []ANAGroup, err error) {
	if len(b) < ANAHeaderBytes {
		return 0, nil, fmt.Errorf("ANA log page: %d bytes are less than its header", len(b))
	}
	chgcnt = binary.LittleEndian.Uint64(b)
	n := int(binary.LittleEndian.Uint16(b[8:]))
	at := ANAHeaderBytes
	for i := range n {
		if len(b)-at < ANAGroupBytes {
			return 0, nil, fmt.Errorf("ANA log page: group %d of %d at byte %d runs out of %d bytes", i+1, n, at, len(b))
		}
		d := b[at:]
		at += ANAGroupBytes
		g := ANAGroup{
			ID:     binary.LittleEndian.Uint32(d),
			CHGCNT: binary.LittleEndian.Uint64(d[8:]),
			State:  ANAState(d[16] & 0xF),
		}
		if g.ID == 0 || !g.State.Valid() {
			return 0, nil, fmt.Errorf("ANA log page: group %d has identifier %d and state %Xh", i+1, g.ID, uint8(g.State))
		}
		ids := binary.LittleEndian.Uint32(d[4:])
		if uint64(ids)*4 > uint64(len(b)-at) {
			return 0, nil, fmt.Errorf("ANA log page: the %d NSIDs of group %d run out of %d bytes", ids, g.ID, len(b))
		}
		for range ids {
			id := NSID(binary.LittleEndian.Uint32(b[at:]))
			if id == 0 || len(g.NSIDs) > 0 && id <= g.NSIDs[len(g.NSIDs)-1] {
				return 0, nil, fmt.Errorf("ANA log page: NSID %d of group %d is 0 or out of order", id, g.ID)
			}
			g.NSIDs = append(g.NSIDs, id)
			at += 4
		}
		groups = append(groups, g)
	}
	return chgcnt, groups, nil
}
