package nvmf_test

import (
	"encoding/binary"
	"testing"

	"github.com/pollux-storage/pollux/bdev"
	"github.com/pollux-storage/pollux/nvmf"
	"github.com/pollux-storage/pollux/nvmf/nvmftest"
)

// A delay is named in statuses that may go well later, and only to a host that said it understands.
func TestRetryDelay(t *testing.T) {
	nvmftest.Each(t, func(t *testing.T, start func(nvmftest.Options) *nvmftest.Portal) {
		e := start(nvmftest.Options{Empty: true})
		d := e.AddHeld("held", 4096)
		e.AddNamespace(nvmf.NamespaceOptions{BdevName: "held"})
		if err := e.Target.SetCRDT([3]uint16{7, 8, 9}); err != nil {
			t.Fatal(err)
		}
		a := e.Admin()
		s := a.Cmd(nvmf.AdminIdentify)
		s.SetIdentify(nvmf.CNSController, 0, 0)
		_, b := a.Read(s, nvmf.IdentifyBytes)
		if c, _ := nvmf.DecodeIdentifyController(b); c.CRDT != [3]uint16{7, 8, 9} {
			t.Errorf("CRDT %v", c.CRDT)
		}
		for qid, understands := range []bool{false, true} {
			if understands {
				s := a.Cmd(nvmf.AdminSetFeatures)
				s.SetFID(nvmf.FIDHostBehavior, 0)
				a.WantStatus("ACRE", a.Do(s, append([]byte{1}, make([]byte, 511)...)), nvmf.StatusSuccess)
			}
			p := e.Queue(a, nvmf.QID(qid+1), 32)
			for end, want := range map[bdev.Status]nvmf.Status{
				bdev.StatusBusy: nvmf.StatusInterrupted, bdev.StatusIO: nvmf.StatusReadError | nvmf.DNR, bdev.StatusNotPrimary: nvmf.StatusANAInaccessible,
			} {
				if understands && end == bdev.StatusBusy {
					want |= 1 << 11
				}
				s := p.RW(nvmf.IORead, 0, 1)
				p.BeginRead(s, 4096)
				d.Want("a read", 1)
				d.End(end)
				cqe, _ := p.Completion(s)
				p.WantStatus(end.String(), cqe, want)
			}
		}
	})
}

// What the host set goes on.
func TestTimestamp(t *testing.T) {
	nvmftest.Each(t, func(t *testing.T, start func(nvmftest.Options) *nvmftest.Portal) {
		e := start(nvmftest.Options{})
		a := e.Admin()
		get := func() (ms uint64, origin byte) {
			s := a.Cmd(nvmf.AdminGetFeatures)
			s.SetFID(nvmf.FIDTimestamp, 0)
			cqe, b := a.Read(s, 8)
			a.WantStatus("Get Features", cqe, nvmf.StatusSuccess)
			return binary.LittleEndian.Uint64(b) & (1<<48 - 1), b[6]
		}
		if ms, origin := get(); ms > 3600_000 || origin != 0 {
			t.Errorf("after the reset: %d ms, origin %d", ms, origin)
		}
		s := a.Cmd(nvmf.AdminSetFeatures)
		s.SetFID(nvmf.FIDTimestamp, 0)
		const now = 1_700_000_000_000
		a.WantStatus("Set Features", a.Do(s, binary.LittleEndian.AppendUint64(nil, now)), nvmf.StatusSuccess)
		last := uint64(now)
		for last < now+3 {
			ms, origin := get()
			if ms < last || ms > now+3600_000 || origin != 2 {
				t.Fatalf("%d ms after %d, origin %d", ms, last, origin)
			}
			last = ms
		}
		s = a.Cmd(nvmf.AdminSetFeatures)
		s.SetFID(nvmf.FIDTimestamp, 0)
		a.WantStatus("seven bytes", a.Do(s, make([]byte, 7)), nvmf.StatusSGLLength|nvmf.DNR)
	})
}

// The health page counts what went through every reactor.
func TestHealthPageSumsAllReactors(t *testing.T) {
	nvmftest.Each(t, func(t *testing.T, start func(nvmftest.Options) *nvmftest.Portal) {
		e := start(nvmftest.Options{Reactors: 3})
		a := e.Admin()
		for qid := range nvmf.QID(3) {
			p := e.Queue(a, qid+1, 32)
			for range 5 {
				p.WantStatus("write", p.Do(p.RW(nvmf.IOWrite, 0, 2), make([]byte, 8192)), nvmf.StatusSuccess)
				cqe, _ := p.Read(p.RW(nvmf.IORead, 0, 1), 4096)
				p.WantStatus("read", cqe, nvmf.StatusSuccess)
			}
		}
		s := a.Cmd(nvmf.AdminGetLogPage)
		s.SetLogPage(nvmf.LogPage{LID: nvmf.LIDHealth, Bytes: 512})
		cqe, b := a.Read(s, 512)
		a.WantStatus("health", cqe, nvmf.StatusSuccess)
		// Base Specification 2.0, "SMART / Health Information": host read and write commands at 64 and 80.
		if r, w := binary.LittleEndian.Uint64(b[64:]), binary.LittleEndian.Uint64(b[80:]); r != 15 || w != 15 {
			t.Errorf("%d reads, %d writes, want 15 of each", r, w)
		}
	})
}
