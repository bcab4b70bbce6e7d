package nvmf

import "testing"

func TestReservationPages(t *testing.T) {
	b := ReservationReport{GEN: 0x01020304, RTYPE: WriteExclusiveAll, REGCTL: 0x0506, PTPLS: true}.AppendTo(nil)
	want := make([]byte, 64)
	copy(want, []byte{4, 3, 2, 1, 5, 6, 5, 0, 0, 1})
	wantBytes(t, "report", b, want)

	r := Registrant{CNTLID: 0xFFFF, Holder: true, RKEY: 0x0102030405060708, HOSTID: [16]byte{0: 1, 15: 2}}
	want = make([]byte, 64)
	copy(want, []byte{0xFF, 0xFF, 1, 0, 0, 0, 0, 0, 8, 7, 6, 5, 4, 3, 2, 1, 1})
	want[31] = 2
	wantBytes(t, "registrant", r.AppendTo(nil), want)

	b = ReservationNotification{LPC: 1, Type: ReservationReleased, NALP: 2, NSID: 0x01020304}.AppendTo(nil)
	want = make([]byte, 64)
	copy(want, []byte{1, 0, 0, 0, 0, 0, 0, 0, 2, 2, 0, 0, 4, 3, 2, 1})
	wantBytes(t, "page 80", b, want)

	if RegistrationPreempted.Mask() != 2 || ReservationReleased.Mask() != 4 || ReservationPreempted.Mask() != 8 || ReservationMaskAll != 0xE {
		t.Error("masks of feature 82")
	}
}
