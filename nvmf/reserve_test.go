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

// reserver is a host with a controller and one I/O queue.
type reserver struct {
	*nvmftest.Peer
	admin *nvmftest.Peer
	id    [16]byte
}

func newReserver(t *testing.T, e *nvmftest.Engine, n byte) *reserver {
	t.Helper()
	d := nvmf.ConnectData{CNTLID: nvmf.CNTLIDDynamic, SUBNQN: nvmftest.NQN, HOSTNQN: nvmftest.Host + string('0'+n), HOSTID: [16]byte{n}}
	a := nvmftest.AdminAs(t, e.Addr, 0, d)
	p := nvmftest.Open(t, e.Addr, 0)
	d.CNTLID = a.CNTLID
	p.WantStatus("Connect", p.ConnectAs(1, 32, 0, 0, d), nvmf.StatusSuccess)
	return &reserver{p, a, d.HOSTID}
}

func (r *reserver) reserve(o nvmf.IOOpcode, a nvmf.ReservationAction, typ nvmf.ReservationType, p nvmf.CPTPL, cur, other uint64) nvmf.CQE {
	s := r.IO(o)
	s.SetReservation(a, false, typ, p)
	return r.Do(s, nvmf.ReservationKeys{CRKEY: cur, Other: other}.AppendTo(nil))
}

func (r *reserver) write() nvmf.CQE { return r.Do(r.RW(nvmf.IOWrite, 0, 1), make([]byte, 4096)) }

func (r *reserver) read() nvmf.CQE {
	cqe, _ := r.Read(r.RW(nvmf.IORead, 0, 1), 4096)
	return cqe
}

func TestReservationsKeepOthersOut(t *testing.T) {
	e := nvmftest.Start(t, nvmftest.Options{Reactors: 3})
	a, b := newReserver(t, e, 1), newReserver(t, e, 2)
	a.WantStatus("register", a.reserve(nvmf.IOReservationRegister, nvmf.RREGARegister, 0, 0, 0, 10), nvmf.StatusSuccess)
	a.WantStatus("acquire", a.reserve(nvmf.IOReservationAcquire, nvmf.RACQAAcquire, nvmf.WriteExclusive, 0, 10, 0), nvmf.StatusSuccess)
	b.WantStatus("another host writes", b.write(), nvmf.StatusReservationConflict)
	b.WantStatus("another host flushes", b.Do(b.IO(nvmf.IOFlush), nil), nvmf.StatusReservationConflict)
	b.WantStatus("another host reads", b.read(), nvmf.StatusSuccess)
	a.WantStatus("the holder writes", a.write(), nvmf.StatusSuccess)

	s := b.IO(nvmf.IOReservationReport)
	s.SetCDW(10, 31)
	s.SetCDW(11, 1)
	cqe, page := b.Read(s, 128)
	b.WantStatus("report", cqe, nvmf.StatusSuccess)
	head, _ := nvmf.DecodeReservationReport(page)
	g, ok := nvmf.DecodeRegistrant(page[nvmf.ReservationReportBytes:])
	if head.GEN != 1 || head.REGCTL != 1 || head.RTYPE != nvmf.WriteExclusive || !ok || !g.Holder || g.RKEY != 10 || g.HOSTID != a.id || g.CNTLID != a.admin.CNTLID {
		t.Errorf("report %+v, registrant %+v", head, g)
	}

	// B is told when A lets go of a reservation that registrants share; A when it is preempted.
	aer := a.admin.Cmd(nvmf.AdminAER)
	a.admin.Send(a.admin.Capsule(aer, nil))
	b.WantStatus("register", b.reserve(nvmf.IOReservationRegister, nvmf.RREGARegister, 0, 0, 0, 20), nvmf.StatusSuccess)
	b.WantStatus("preempt and abort", b.reserve(nvmf.IOReservationAcquire, nvmf.RACQAPreemptAbort, nvmf.ExclusiveAccess, 0, 20, 10), nvmf.StatusSuccess)
	a.WantStatus("the preempted host reads", a.read(), nvmf.StatusReservationConflict)
	cqe, _ = a.admin.Completion(aer)
	if nvmf.DecodeEvent(cqe.DW0) != nvmf.EventReservation {
		t.Errorf("event %#x", cqe.DW0)
	}
	l := a.admin.Cmd(nvmf.AdminGetLogPage)
	l.SetLogPage(nvmf.LogPage{LID: nvmf.LIDReservation, Bytes: 64})
	cqe, page = a.admin.Read(l, 64)
	a.WantStatus("log page 80h", cqe, nvmf.StatusSuccess)
	if n, _ := nvmf.DecodeReservationNotification(page); n.Type != nvmf.RegistrationPreempted || n.NSID != 1 || n.LPC != 1 {
		t.Errorf("notification %+v", n)
	}
	b.WantStatus("release", b.reserve(nvmf.IOReservationRelease, nvmf.RRELARelease, nvmf.ExclusiveAccess, 0, 20, 0), nvmf.StatusSuccess)
	a.WantStatus("after the release", a.write(), nvmf.StatusSuccess)
}

func TestPreemptAndAbortEndsWhatIsInFlight(t *testing.T) {
	e := nvmftest.Start(t, nvmftest.Options{Reactors: 2})
	a, b := newReserver(t, e, 1), newReserver(t, e, 2)
	a.WantStatus("register", a.reserve(nvmf.IOReservationRegister, nvmf.RREGARegister, 0, 0, 0, 10), nvmf.StatusSuccess)
	b.WantStatus("register", b.reserve(nvmf.IOReservationRegister, nvmf.RREGARegister, 0, 0, 0, 20), nvmf.StatusSuccess)
	w := a.RW(nvmf.IOWrite, 0, 16)
	a.Send(a.Capsule(nvmftest.Wants(w, 65536), nil))
	r := a.WantR2T("write")
	s := b.IO(nvmf.IOReservationAcquire)
	s.SetReservation(nvmf.RACQAPreemptAbort, false, nvmf.WriteExclusive, 0)
	b.Send(b.Capsule(s, nvmf.ReservationKeys{CRKEY: 20, Other: 10}.AppendTo(nil)))
	for a.read().Status.OK() { // until the preemption is known; B still waits for A's write
	}
	a.Send(a.H2C(nvmf.DataPDU{CCCID: r.CCCID, TTAG: r.TTAG, Last: true}, make([]byte, 65536)))
	cqe, _ := a.Completion(w)
	a.WantStatus("the preempted write", cqe, nvmf.StatusPreempted)
	cqe, _ = b.Completion(s)
	b.WantStatus("preempt and abort", cqe, nvmf.StatusSuccess)
}

// TestNamespacesOnOneDeviceShareReservations: those of two subsystems, and of one; with the last of them they are forgotten.
func TestNamespacesOnOneDeviceShareReservations(t *testing.T) {
	e := nvmftest.Start(t, nvmftest.Options{Reactors: 2})
	const second = nvmftest.NQN + "-2"
	if err := e.Target.CreateSubsystem(nvmf.SubsystemOptions{NQN: second, AllowAnyHost: true}); err != nil {
		t.Fatal(err)
	}
	ids := map[string]nvmf.NSID{}
	for _, nqn := range []string{nvmftest.NQN, second} {
		id, err := e.Target.AddNamespace(nqn, nvmf.NamespaceOptions{BdevName: "Malloc0", UUID: uuid.New()})
		if err != nil {
			t.Fatal(err)
		}
		ids[nqn] = id
	}
	a := newReserver(t, e, 1)
	a.WantStatus("register", a.reserve(nvmf.IOReservationRegister, nvmf.RREGARegister, 0, 0, 0, 10), nvmf.StatusSuccess)
	a.WantStatus("acquire", a.reserve(nvmf.IOReservationAcquire, nvmf.RACQAAcquire, nvmf.WriteExclusive, 0, 10, 0), nvmf.StatusSuccess)
	b := newReserver(t, e, 2)
	w := b.RW(nvmf.IOWrite, 0, 1)
	w.SetCDW(1, uint32(ids[nvmftest.NQN]))
	b.WantStatus("another host by the second namespace", b.Do(w, make([]byte, 4096)), nvmf.StatusReservationConflict)

	addr := e.Listen(second)
	d := nvmf.ConnectData{CNTLID: nvmf.CNTLIDDynamic, SUBNQN: second, HOSTNQN: nvmftest.Host + "2", HOSTID: [16]byte{2}}
	d.CNTLID = nvmftest.AdminAs(t, addr, 0, d).CNTLID
	p := nvmftest.Open(t, addr, 0)
	p.WantStatus("Connect", p.ConnectAs(1, 32, 0, 0, d), nvmf.StatusSuccess)
	p.WantStatus("another host by the second subsystem", p.Do(p.RW(nvmf.IOWrite, 0, 1), make([]byte, 4096)), nvmf.StatusReservationConflict)

	for nqn, list := range map[string][]nvmf.NSID{nvmftest.NQN: {1, ids[nvmftest.NQN]}, second: {ids[second]}} {
		for _, id := range list {
			if err := e.Target.RemoveNamespace(t.Context(), nqn, id); err != nil {
				t.Fatal(err)
			}
		}
	}
	e.AddNamespace(nvmf.NamespaceOptions{BdevName: "Malloc0"})
	b.WantStatus("another host, added anew", b.write(), nvmf.StatusSuccess)
}

func TestReservationsSurviveARestartByTheirFile(t *testing.T) {
	file := filepath.Join(t.TempDir(), "ptpl")
	id := uuid.New()
	start := func() (*nvmftest.Engine, error) {
		e := nvmftest.Start(t, nvmftest.Options{Empty: true})
		if _, err := bdev.NewMem(e.Bdevs, "Malloc0", id, 4096, 1024); err != nil {
			t.Fatal(err)
		}
		_, err := e.Target.AddNamespace(nvmftest.NQN, nvmf.NamespaceOptions{BdevName: "Malloc0", PTPLFile: file})
		return e, err
	}
	e, err := start()
	if err != nil {
		t.Fatal(err)
	}
	a := newReserver(t, e, 1)
	a.WantStatus("register", a.reserve(nvmf.IOReservationRegister, nvmf.RREGARegister, 0, nvmf.PTPLSet, 0, 10), nvmf.StatusSuccess)
	a.WantStatus("acquire", a.reserve(nvmf.IOReservationAcquire, nvmf.RACQAAcquire, nvmf.ExclusiveAccess, 0, 10, 0), nvmf.StatusSuccess)
	again, err := start()
	if err != nil {
		t.Fatal(err)
	}
	b := newReserver(t, again, 2)
	b.WantStatus("another host after the restart", b.read(), nvmf.StatusReservationConflict)
	a = newReserver(t, again, 1)
	a.WantStatus("the holder after the restart", a.write(), nvmf.StatusSuccess)
	a.WantStatus("no longer to persist", a.reserve(nvmf.IOReservationRegister, nvmf.RREGARegister, 0, nvmf.PTPLClear, 0, 10), nvmf.StatusSuccess)
	third, err := start()
	if err != nil {
		t.Fatal(err)
	}
	b = newReserver(t, third, 2)
	b.WantStatus("after a restart without persistence", b.write(), nvmf.StatusSuccess)

	if err := os.WriteFile(file, []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := start(); err == nil {
		t.Error("a namespace was added with a broken reservation file")
	}
}
