package nvmf

import "testing"

// All that is sent for a command has room in its slot, whatever alignment and digests the host asked for.
func TestWhatIsSentForACommandHasRoomInItsSlot(t *testing.T) {
	for hpda := range uint8(32) {
		for d := range Digests(4) {
			h := DataPDU{DATAL: 4}.AppendC2HData(nil, d, DataAlign(hpda))
			if d&DataDigests != 0 {
				h = AppendDigest(h, 0)
			}
			h = AppendCapsuleResp(h, CQE{}, d)
			if len(h) > wireHeaderBytes {
				t.Errorf("HPDA %d, digests %d: %d bytes, the slot has %d", hpda, d, len(h), wireHeaderBytes)
			}
		}
	}
}
