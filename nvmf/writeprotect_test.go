package nvmf_test

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/google/uuid"

	"github.com/pollux-storage/pollux/bdev"
	"github.com/pollux-storage/pollux/nvmf"
	"github.com/pollux-storage/pollux/nvmf/nvmftest"
)

// protected starts an engine whose namespace 1 can be write protected.
func protected(t *testing.T, start func(nvmftest.Options) *nvmftest.Portal, file string, id uuid.UUID, o nvmftest.Options) *nvmftest.Portal {
	t.Helper()
	o.Empty = true
	e := start(o)
	if _, err := bdev.NewMem(e.Bdevs, "Malloc0", id, 4096, 1024); err != nil {
		t.Fatal(err)
	}
	e.AddNamespace(nvmf.NamespaceOptions{BdevName: "Malloc0", ProtectionFile: file})
	return e
}

// "Namespace Write Protection": 0/20 for all that writes and for nothing else, for every host, NSATTR bit 0, and the event; live.
func TestRow_WriteProtection(t *testing.T) {
	nvmftest.Each(t, func(t *testing.T, start func(nvmftest.Options) *nvmftest.Portal) {
		e := protected(t, start, filepath.Join(t.TempDir(), "wp"), uuid.New(), nvmftest.Options{Reactors: 3})
		a, b := newReserver(e, 1), newReserver(e, 2)
		if c, _ := nvmf.DecodeIdentifyController(identify(t, a.admin, nvmf.CNSController, 0)); c.NWPC != nvmf.NWPCProtect|nvmf.NWPCUntilPowerCycle {
			t.Errorf("NWPC %#x", c.NWPC)
		}
		aer := listen(b.admin, nvmf.OAESNamespaces)
		a.WantStatus("protect", setFeature(a.admin, nvmf.FIDWriteProtect, 1, 1), nvmf.StatusSuccess)
		wantEvent(t, b.admin, aer, nvmf.EventNamespaces)
		refused := nvmf.StatusWriteProtected | nvmf.DNR
		dsm := func(deallocate bool) nvmf.CQE {
			s := b.IO(nvmf.IODatasetManagement)
			s.SetDSM(1, deallocate)
			return b.Do(s, nvmf.DSMRange{NLB: 1}.AppendTo(nil))
		}
		cp := b.IO(nvmf.IOCopy)
		cp.SetCopy(8, 1, false)
		for _, c := range []struct {
			why  string
			cqe  nvmf.CQE
			want nvmf.Status
		}{
			{"write of the host that protected", a.write(), refused},
			{"write of another", b.write(), refused},
			{"write zeroes", b.Do(b.RW(nvmf.IOWriteZeroes, 0, 1), nil), refused},
			{"deallocate", dsm(true), refused},
			{"copy", b.Do(cp, nvmf.CopySource{NLB: 1}.AppendTo(nil)), refused},
			{"a hint", dsm(false), nvmf.StatusSuccess},
			{"read", b.read(), nvmf.StatusSuccess},
			{"flush", b.Do(b.IO(nvmf.IOFlush), nil), nvmf.StatusSuccess},
			{"verify", b.Do(b.RW(nvmf.IOVerify, 0, 1), nil), nvmf.StatusSuccess},
			{"register", b.reserve(nvmf.IOReservationRegister, nvmf.RREGARegister, 0, 0, 0, 20), nvmf.StatusSuccess},
		} {
			b.WantStatus(c.why, c.cqe, c.want)
		}
		w := b.RW(nvmf.IOWrite, 0, 16)
		b.BeginLate(w, make([]byte, 65536))
		cqe, _ := b.Completion(w)
		b.WantStatus("a write whose data would have to be asked for", cqe, refused)
		cmp := b.Do(b.RW(nvmf.IOCompare, 0, 1), make([]byte, 4096))
		b.WantStatus("compare", cmp, nvmf.StatusSuccess)
		in, _ := nvmf.DecodeIndependentNamespace(identify(t, b.admin, nvmf.CNSIndependentNamespace, 1))
		if n := identifyNS(t, b.admin, 1); n.NSATTR != nvmf.NSATTRProtected || in.NSATTR != nvmf.NSATTRProtected {
			t.Errorf("NSATTR %#x, %#x", n.NSATTR, in.NSATTR)
		}
		if cqe := getFeature(b.admin, nvmf.FIDWriteProtect, 0, 1, 0); cqe.DW0 != 1 {
			t.Errorf("feature 84h is %d", cqe.DW0)
		}
		b.WantStatus("another host takes it off", setFeature(b.admin, nvmf.FIDWriteProtect, 1, 0), nvmf.StatusSuccess)
		a.WantStatus("write after it", a.write(), nvmf.StatusSuccess)
		if n := identifyNS(t, a.admin, 1); n.NSATTR != 0 {
			t.Errorf("NSATTR %#x", n.NSATTR)
		}
	})
}

// "Namespace Write Protection Config": what Set Features takes, and how it refuses the rest.
func TestRow_WriteProtectionStates(t *testing.T) {
	nvmftest.Each(t, func(t *testing.T, start func(nvmftest.Options) *nvmftest.Portal) {
		e := protected(t, start, filepath.Join(t.TempDir(), "wp"), uuid.New(), nvmftest.Options{})
		if _, err := bdev.NewMem(e.Bdevs, "Malloc1", uuid.Nil, 4096, 1024); err != nil {
			t.Fatal(err)
		}
		e.AddNamespace(nvmf.NamespaceOptions{BdevName: "Malloc1"})
		a := e.Admin()
		for _, c := range []struct {
			why  string
			id   nvmf.NSID
			v    uint32
			want nvmf.Status
		}{
			{"no namespace", 3, 1, nvmf.StatusInvalidNamespace},
			{"NSID 0", 0, 1, nvmf.StatusInvalidNamespace},
			{"all namespaces", nvmf.NSIDAll, 1, nvmf.StatusInvalidNamespace},
			{"a reserved state", 1, 4, nvmf.StatusInvalidField},
			{"permanent", 1, 3, nvmf.StatusFeatureNotChangeable},
			{"nowhere to keep it", 2, 1, nvmf.StatusFeatureNotChangeable},
			{"to be saved", 1, 1, nvmf.StatusFeatureNotSaveable},
			{"none, as it is", 2, 0, nvmf.StatusSuccess},
			{"until power cycle", 1, 2, nvmf.StatusSuccess},
			{"the same again", 1, 2, nvmf.StatusSuccess},
			{"back before that", 1, 0, nvmf.StatusFeatureNotChangeable},
			{"to write protect before that", 1, 1, nvmf.StatusFeatureNotChangeable},
		} {
			s := a.Cmd(nvmf.AdminSetFeatures)
			name(s, c.id)
			s.SetFID(nvmf.FIDWriteProtect, c.v)
			if c.why == "to be saved" {
				s[43] = 0x80
			}
			if c.want != 0 {
				c.want |= nvmf.DNR
			}
			a.WantStatus(c.why, a.Do(s, nil), c.want)
		}
		for id, want := range map[nvmf.NSID]uint32{1: nvmf.FeatureNamespace | nvmf.FeatureChangeable, 2: nvmf.FeatureNamespace} {
			if cqe := getFeature(a, nvmf.FIDWriteProtect, nvmf.SELSupported, id, 0); cqe.DW0 != want {
				t.Errorf("namespace %d: capabilities %#x, want %#x", id, cqe.DW0, want)
			}
		}
	})
}

// "Namespace Write Protection State Definitions": Write Protect persists across power cycles, Until Power Cycle does not, and a
// reset of the controller changes neither.
func TestRow_WriteProtectionOverARestart(t *testing.T) {
	nvmftest.Each(t, func(t *testing.T, start func(nvmftest.Options) *nvmftest.Portal) {
		file, id := filepath.Join(t.TempDir(), "wp"), uuid.New()
		for _, c := range []struct {
			set, after uint32
		}{{1, 1}, {0, 0}, {2, 0}} {
			e := protected(t, start, file, id, nvmftest.Options{})
			a := e.Admin()
			a.WantStatus("Set Features", setFeature(a, nvmf.FIDWriteProtect, 1, c.set), nvmf.StatusSuccess)
			reset(a)
			if cqe := getFeature(a, nvmf.FIDWriteProtect, 0, 1, 0); cqe.DW0 != c.set {
				t.Errorf("%d: %d after a reset of the controller", c.set, cqe.DW0)
			}
			again := protected(t, start, file, id, nvmftest.Options{})
			b := newReserver(again, 2)
			if cqe := getFeature(b.admin, nvmf.FIDWriteProtect, 0, 1, 0); cqe.DW0 != c.after {
				t.Errorf("%d: %d after a restart, want %d", c.set, cqe.DW0, c.after)
			}
			if got := b.write().Status.OK(); got != (c.after == 0) {
				t.Errorf("%d: after a restart a write went well: %t", c.set, got)
			}
		}
		e := start(nvmftest.Options{Empty: true})
		if _, err := bdev.NewMem(e.Bdevs, "Malloc0", uuid.New(), 4096, 1024); err != nil {
			t.Fatal(err)
		}
		for _, bad := range []string{"", "{", `{"version": 2}`} {
			if bad != "" {
				if err := os.WriteFile(file, []byte(bad), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			if _, err := e.Target.AddNamespace(nvmftest.NQN, nvmf.NamespaceOptions{BdevName: "Malloc0", ProtectionFile: file}); err == nil {
				t.Errorf("a namespace was added with a file of another's, or a broken one: %q", bad)
			}
		}
	})
}

// A write that waits for its data when the namespace is protected comes too late.
func TestRow_WriteProtectionAndDataOnItsWay(t *testing.T) {
	nvmftest.Each(t, func(t *testing.T, start func(nvmftest.Options) *nvmftest.Portal) {
		e := protected(t, start, filepath.Join(t.TempDir(), "wp"), uuid.New(), nvmftest.Options{Reactors: 2})
		a, b := newReserver(e, 1), newReserver(e, 2)
		w := a.RW(nvmf.IOWrite, 0, 16)
		a.BeginLate(w, pattern(65536, 1))
		a.Asked(1)
		b.WantStatus("protect", setFeature(b.admin, nvmf.FIDWriteProtect, 1, 1), nvmf.StatusSuccess)
		a.Give()
		cqe, _ := a.Completion(w)
		a.WantStatus("the write", cqe, nvmf.StatusWriteProtected|nvmf.DNR)
		b.WantStatus("no protection", setFeature(b.admin, nvmf.FIDWriteProtect, 1, 0), nvmf.StatusSuccess)
		x := newPair(a.Peer, 0, 4096, make([]byte, 16<<10), pattern(16<<10, 2))
		x.beginLate()
		a.Asked(2)
		b.WantStatus("protect", setFeature(b.admin, nvmf.FIDWriteProtect, 1, 1), nvmf.StatusSuccess)
		a.Give()
		x.want(t, "a pair", fusedFailed, nvmf.StatusWriteProtected|nvmf.DNR)
		if _, got := b.Read(b.RW(nvmf.IORead, 0, 1), 4096); got[0] != 0 || got[1] != 0 {
			t.Error("data of after the protection was written")
		}
	})
}

// A write that the device has is waited for, so that nothing changes after the answer.
func TestRow_WriteProtectionWaitsForWrites(t *testing.T) {
	nvmftest.Each(t, func(t *testing.T, start func(nvmftest.Options) *nvmftest.Portal) {
		e := start(nvmftest.Options{Empty: true, Reactors: 2})
		d := e.AddHeld("held", 4096)
		e.AddNamespace(nvmf.NamespaceOptions{BdevName: "held", ProtectionFile: filepath.Join(t.TempDir(), "wp")})
		a, b := newReserver(e, 1), newReserver(e, 2)
		w := a.RW(nvmf.IOWrite, 0, 1)
		a.Begin(w, make([]byte, 4096))
		d.Want("a write", 1)
		s := b.admin.Cmd(nvmf.AdminSetFeatures)
		name(s, 1)
		s.SetFID(nvmf.FIDWriteProtect, 1)
		b.admin.Begin(s, nil)
		third := e.Admin()
		for getFeature(third, nvmf.FIDWriteProtect, 0, 1, 0).DW0 != 1 {
		}
		// It holds, and is not answered: whatever comes next on that queue is another command's.
		k := b.admin.Cmd(nvmf.AdminKeepAlive)
		b.admin.WantStatus("keep alive meanwhile", b.admin.Do(k, nil), nvmf.StatusSuccess)
		d.End(bdev.StatusOK)
		cqe, _ := a.Completion(w)
		a.WantStatus("the write", cqe, nvmf.StatusSuccess)
		d.Want("the flush after it", 1)
		d.End(bdev.StatusOK)
		cqe, _ = b.admin.Completion(s)
		b.WantStatus("protect", cqe, nvmf.StatusSuccess)
	})
}
