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
	data  nvmf.ConnectData
}

func newReserver(e *nvmftest.Portal, n byte) *reserver { return newReserverOf(e, nvmftest.NQN, n) }

func newReserverOf(e *nvmftest.Portal, nqn string, n byte) *reserver {
	e.T.Helper()
	d := nvmf.ConnectData{SUBNQN: nqn, HOSTNQN: nvmftest.Host + string('0'+n), HOSTID: [16]byte{n}}
	a, p := e.HostAs(1, d)
	d.CNTLID = a.CNTLID
	return &reserver{p, a, d}
}

// queue is the host with one more queue.
func (r *reserver) queue(e *nvmftest.Portal, qid nvmf.QID) *reserver {
	e.T.Helper()
	p, cqe := e.Try(qid, r.data)
	p.WantStatus("Connect", cqe, nvmf.StatusSuccess)
	return &reserver{p, r.admin, r.data}
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
	nvmftest.Each(t, func(t *testing.T, start func(nvmftest.Options) *nvmftest.Portal) {
		e := start(nvmftest.Options{Reactors: 3})
		a, b := newReserver(e, 1), newReserver(e, 2)
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
		if head.GEN != 1 || head.REGCTL != 1 || head.RTYPE != nvmf.WriteExclusive || !ok || !g.Holder || g.RKEY != 10 || g.HOSTID != a.data.HOSTID || g.CNTLID != a.admin.CNTLID {
			t.Errorf("report %+v, registrant %+v", head, g)
		}

		// B is told when A lets go of a reservation that registrants share; A when it is preempted.
		aer := a.admin.Cmd(nvmf.AdminAER)
		a.admin.Begin(aer, nil)
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
	})
}

func TestPreemptAndAbortEndsWhatIsInFlight(t *testing.T) {
	nvmftest.Each(t, func(t *testing.T, start func(nvmftest.Options) *nvmftest.Portal) {
		e := start(nvmftest.Options{Reactors: 2, Empty: true})
		d := e.AddHeld("held", 4096)
		e.AddNamespace(nvmf.NamespaceOptions{BdevName: "held"})
		a, b := newReserver(e, 1), newReserver(e, 2)
		a.WantStatus("register", a.reserve(nvmf.IOReservationRegister, nvmf.RREGARegister, 0, 0, 0, 10), nvmf.StatusSuccess)
		b.WantStatus("register", b.reserve(nvmf.IOReservationRegister, nvmf.RREGARegister, 0, 0, 0, 20), nvmf.StatusSuccess)
		beside, qid := a.queue(e, 2), nvmf.QID(2) // on the reactor of the first
		for ; reactorOf(e.Engine, a.CNTLID, qid) != reactorOf(e.Engine, a.CNTLID, 1); beside = a.queue(e, qid) {
			qid++
		}
		r, w := beside.RW(nvmf.IORead, 0, 1), a.RW(nvmf.IOWrite, 0, 16)
		beside.BeginRead(r, 4096)
		d.Want("a read", 1)
		a.BeginLate(w, make([]byte, 65536))
		a.Asked(1)
		s := b.IO(nvmf.IOReservationAcquire)
		s.SetReservation(nvmf.RACQAPreemptAbort, false, nvmf.WriteExclusive, 0)
		b.Begin(s, nvmf.ReservationKeys{CRKEY: 20, Other: 10}.AppendTo(nil))
		cqe, _ := beside.Completion(r)
		a.WantStatus("the preempted read", cqe, nvmf.StatusPreempted) // B still waits for A's write
		a.Give()
		cqe, _ = a.Completion(w)
		a.WantStatus("the preempted write", cqe, nvmf.StatusPreempted)
		cqe, _ = b.Completion(s)
		b.WantStatus("preempt and abort", cqe, nvmf.StatusSuccess)
		d.Want("nothing of the write", 0)
	})
}

// TestNamespacesOnOneDeviceShareReservations: those of two subsystems, and of one; with the last of them they are forgotten.
func TestNamespacesOnOneDeviceShareReservations(t *testing.T) {
	nvmftest.Each(t, func(t *testing.T, start func(nvmftest.Options) *nvmftest.Portal) {
		e := start(nvmftest.Options{Reactors: 2})
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
		a := newReserver(e, 1)
		a.WantStatus("register", a.reserve(nvmf.IOReservationRegister, nvmf.RREGARegister, 0, 0, 0, 10), nvmf.StatusSuccess)
		a.WantStatus("acquire", a.reserve(nvmf.IOReservationAcquire, nvmf.RACQAAcquire, nvmf.WriteExclusive, 0, 10, 0), nvmf.StatusSuccess)
		b := newReserver(e, 2)
		w := b.RW(nvmf.IOWrite, 0, 1)
		w.SetCDW(1, uint32(ids[nvmftest.NQN]))
		b.WantStatus("another host by the second namespace", b.Do(w, make([]byte, 4096)), nvmf.StatusReservationConflict)

		p := newReserverOf(e.Another(second), second, 2)
		p.WantStatus("another host by the second subsystem", p.write(), nvmf.StatusReservationConflict)

		for nqn, list := range map[string][]nvmf.NSID{nvmftest.NQN: {1, ids[nvmftest.NQN]}, second: {ids[second]}} {
			for _, id := range list {
				if err := e.Target.RemoveNamespace(t.Context(), nqn, id); err != nil {
					t.Fatal(err)
				}
			}
		}
		e.AddNamespace(nvmf.NamespaceOptions{BdevName: "Malloc0"})
		b.WantStatus("another host, added anew", b.write(), nvmf.StatusSuccess)
	})
}

func TestReservationsSurviveARestartByTheirFile(t *testing.T) {
	nvmftest.Each(t, func(t *testing.T, start func(nvmftest.Options) *nvmftest.Portal) {
		file := filepath.Join(t.TempDir(), "ptpl")
		id := uuid.New()
		open := func() (*nvmftest.Portal, error) {
			e := start(nvmftest.Options{Empty: true})
			if _, err := bdev.NewMem(e.Bdevs, "Malloc0", id, 4096, 1024); err != nil {
				t.Fatal(err)
			}
			_, err := e.Target.AddNamespace(nvmftest.NQN, nvmf.NamespaceOptions{BdevName: "Malloc0", PTPLFile: file})
			return e, err
		}
		e, err := open()
		if err != nil {
			t.Fatal(err)
		}
		a := newReserver(e, 1)
		a.WantStatus("register", a.reserve(nvmf.IOReservationRegister, nvmf.RREGARegister, 0, nvmf.PTPLSet, 0, 10), nvmf.StatusSuccess)
		a.WantStatus("acquire", a.reserve(nvmf.IOReservationAcquire, nvmf.RACQAAcquire, nvmf.ExclusiveAccess, 0, 10, 0), nvmf.StatusSuccess)
		again, err := open()
		if err != nil {
			t.Fatal(err)
		}
		b := newReserver(again, 2)
		b.WantStatus("another host after the restart", b.read(), nvmf.StatusReservationConflict)
		a = newReserver(again, 1)
		a.WantStatus("the holder after the restart", a.write(), nvmf.StatusSuccess)
		a.WantStatus("no longer to persist", a.reserve(nvmf.IOReservationRegister, nvmf.RREGARegister, 0, nvmf.PTPLClear, 0, 10), nvmf.StatusSuccess)
		third, err := open()
		if err != nil {
			t.Fatal(err)
		}
		b = newReserver(third, 2)
		b.WantStatus("after a restart without persistence", b.write(), nvmf.StatusSuccess)

		if err := os.WriteFile(file, []byte("{"), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := open(); err == nil {
			t.Error("a namespace was added with a broken reservation file")
		}
	})
}
