package ctl

import (
	"context"
	"encoding/binary"
	"encoding/hex"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/uuid"

	"github.com/pollux-storage/pollux/bdev"
	"github.com/pollux-storage/pollux/iscsi"
	"github.com/pollux-storage/pollux/iscsi/iscsitest"
	"github.com/pollux-storage/pollux/nvmf"
	"github.com/pollux-storage/pollux/nvmf/nvmftest"
	"github.com/pollux-storage/pollux/volume"
)

// doors is an engine with both targets, and one device behind them: namespace 1 and LUN 0.
type doors struct {
	*testing.T
	nvme  *nvmftest.Engine
	iscsi *iscsitest.Engine
}

// newDoors makes one; device makes the device, and ends it.
func newDoors(t *testing.T, device func(e *iscsitest.Engine) string) *doors {
	t.Helper()
	e := iscsitest.Start(t, iscsitest.Options{Reactors: 2, MemoryBytes: 64 << 20, Empty: true})
	target, err := nvmf.NewTarget(e.Bdevs, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	d := &doors{t, &nvmftest.Engine{T: t, Group: e.Group, Bdevs: e.Bdevs, Target: target}, e}
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	must(target.CreateTransport(nvmf.DefaultTransport("TCP")))
	must(target.CreateSubsystem(nvmf.SubsystemOptions{NQN: nvmftest.NQN, AllowAnyHost: true, WZSL: 12, DMRSL: 1 << 20}))
	name := device(e)
	t.Cleanup(func() {
		ctx := context.Background()
		if err := target.Stop(ctx); err != nil {
			t.Error(err)
		}
		if err := e.Target.DeleteNode(ctx, iscsitest.Node); err != nil {
			t.Error(err)
		}
	})
	d.nvme.AddNamespace(nvmf.NamespaceOptions{BdevName: name})
	d.nvme.Addr = d.nvme.Listen(nvmftest.NQN)
	must(e.Target.CreateNode(t.Context(), iscsi.NodeOptions{
		Name: iscsitest.Node, Maps: []iscsi.Map{{PortalGroup: 1, InitiatorGroup: 1}}, LUNs: []iscsi.LUNOptions{{BdevName: name}},
	}))
	return d
}

// iscsiHost is an iSCSI initiator on LUN 0.
type iscsiHost struct {
	*iscsitest.Peer
	d *doors
}

func (d *doors) initiator(name string) iscsiHost {
	d.Helper()
	p := iscsitest.Login(d, d.iscsi.Addr, "InitiatorName=iqn.2026-01.test:"+name)
	p.Unit(0)
	return iscsiHost{p, d}
}

// want checks status and sense of a command.
func (i iscsiHost) want(why string, r iscsitest.Response, s iscsi.SCSIStatus, code int) {
	i.d.Helper()
	if r.Status != s || r.Code() != code {
		i.d.Errorf("%s: status %02Xh, sense %06X, want %02Xh, %06X", why, uint8(r.Status), r.Code(), uint8(s), code)
	}
}

func (i iscsiHost) prout(why string, s iscsi.SCSIStatus, action, typ byte, key, actionKey uint64, aptpl byte) {
	i.d.Helper()
	b := binary.BigEndian.AppendUint64(nil, key)
	b = append(binary.BigEndian.AppendUint64(b, actionKey), 0, 0, 0, 0, aptpl, 0, 0, 0)
	i.want(why, i.WithData(0, []byte{0x5F, action, typ, 0, 0, 0, 0, 0, 24, 0}, b), s, 0)
}

func (i iscsiHost) writes(why string, s iscsi.SCSIStatus) {
	i.d.Helper()
	i.want(why, i.WithData(0, iscsitest.Write10(0, 1), make([]byte, 4096)), s, 0)
}

// in reads the answer of a PERSISTENT RESERVE IN.
func (i iscsiHost) in(why string, action byte) string {
	i.d.Helper()
	r := i.Command(0, []byte{0x5E, action, 0, 0, 0, 0, 0, 4, 0, 0}, iscsitest.Reads, 1024, nil)
	i.want(why, r, iscsi.Good, 0)
	return hex.EncodeToString(r.Data)
}

// report is a Reservation Report: its head and the registrants.
func (h volumeHost) report(t *testing.T) (head nvmf.ReservationReport, all []nvmf.Registrant) {
	t.Helper()
	s := h.IO(nvmf.IOReservationReport)
	s.SetCDW(10, 255)
	s.SetCDW(11, 1)
	cqe, page := h.Read(s, 1024)
	h.WantStatus("report", cqe, nvmf.StatusSuccess)
	head, _ = nvmf.DecodeReservationReport(page)
	for n := range int(head.REGCTL) {
		g, _ := nvmf.DecodeRegistrant(page[nvmf.ReservationReportBytes+n*nvmf.RegistrantBytes:])
		all = append(all, g)
	}
	return head, all
}

func mallocDevice(t *testing.T) func(e *iscsitest.Engine) string {
	return func(e *iscsitest.Engine) string {
		if _, err := bdev.NewMem(e.Bdevs, "Malloc0", uuid.Nil, 4096, 1024); err != nil {
			t.Fatal(err)
		}
		return "Malloc0"
	}
}

// TestOneDeviceManyDoors (T-1): initiators and NVMe hosts of one device keep each other out, see each other, preempt each other and hear of it.
func TestOneDeviceManyDoors(t *testing.T) {
	d := newDoors(t, mallocDevice(t))
	a, h := d.initiator("a"), newVolumeHost(t, d.nvme, 1)
	a.prout("register", iscsi.Good, 0, 0, 0, 0xA, 0)
	a.prout("reserve", iscsi.Good, 1, 1, 0xA, 0, 0)
	a.writes("the holder", iscsi.Good)
	h.writes("a host", nvmf.StatusReservationConflict)
	h.reserve("register", nvmf.IOReservationRegister, nvmf.RREGARegister, 0, 0, 0, 0xB)
	h.writes("a host that is registered", nvmf.StatusReservationConflict)
	head, all := h.report(t)
	if head.GEN != 2 || head.RTYPE != nvmf.WriteExclusive || len(all) != 2 {
		t.Fatalf("the report: %+v, %+v", head, all)
	}
	if g := all[0]; g.CNTLID != nvmf.CNTLIDDynamic || !g.Holder || g.RKEY != 0xA || g.HOSTID == [16]byte{} || g.HOSTID == all[1].HOSTID {
		t.Errorf("the initiator is shown as %+v", g)
	}
	if g := all[1]; g.Holder || g.RKEY != 0xB || g.HOSTID != [16]byte{1} {
		t.Errorf("the host is shown as %+v", g)
	}
	h.reserve("preempt and abort", nvmf.IOReservationAcquire, nvmf.RACQAPreemptAbort, nvmf.ExclusiveAccess, 0, 0xB, 0xA)
	h.writes("the new holder", nvmf.StatusSuccess)
	a.want("the preempted is told", a.Command(0, make([]byte, 6), 0, 0, nil), iscsi.CheckCondition, 0x062A05)
	a.want("it reads", a.Command(0, iscsitest.Read10(0, 1), iscsitest.Reads, 4096, nil), iscsi.ReservationConflict, 0)
	if got := a.in("READ KEYS", 0); got != "0000000300000008"+"000000000000000b" {
		t.Errorf("keys: %s", got)
	}
	name := hex.EncodeToString([]byte("nqn.2014-08.org.nvmexpress:uuid:01000000-0000-0000-0000-000000000000"))
	if got := a.in("READ FULL STATUS", 3); got != "0000000300000064"+"000000000000000b"+"00000000"+"0103"+"00000000"+"0000"+"0000004c"+"05000048"+name+"00000000" {
		t.Errorf("full status: %s", got)
	}
	a.prout("register", iscsi.Good, 0, 0, 0, 0xA, 0)
	a.prout("preempt", iscsi.Good, 4, 6, 0xA, 0xB, 0)
	h.writes("the preempted host", nvmf.StatusReservationConflict)
	a.prout("clear", iscsi.Good, 3, 0, 0xA, 0, 0)
	h.writes("after the clear", nvmf.StatusSuccess)

	// RESERVE keeps hosts out as well, as long as its nexus is there.
	a.want("RESERVE", a.Command(0, []byte{0x16, 0, 0, 0, 0, 0}, 0, 0, nil), iscsi.Good, 0)
	h.writes("while the unit is reserved", nvmf.StatusReservationConflict)
	s := h.IO(nvmf.IOReservationRegister)
	s.SetReservation(nvmf.RREGARegister, false, 0, 0)
	h.WantStatus("register meanwhile", h.Do(s, nvmf.ReservationKeys{Other: 1}.AppendTo(nil)), nvmf.StatusReservationConflict)
	a.Logout("logout")
	nvmftest.Await(t, "the host writes", func() bool {
		return h.Do(h.RW(nvmf.IOWrite, 0, 1), make([]byte, 4096)).Status.OK()
	})
}

// TestPreemptAndAbortAcrossDoors: what the preempted has in flight is over when the command is answered, whichever doors the two came by.
func TestPreemptAndAbortAcrossDoors(t *testing.T) {
	d := newDoors(t, mallocDevice(t))
	a, h := d.initiator("a"), newVolumeHost(t, d.nvme, 1)
	a.prout("register", iscsi.Good, 0, 0, 0, 0xA, 0)
	h.reserve("register", nvmf.IOReservationRegister, nvmf.RREGARegister, 0, 0, 0, 0xB)
	w := h.RW(nvmf.IOWrite, 0, 16)
	h.Send(h.Capsule(nvmftest.Wants(w, 65536), nil))
	q := h.WantR2T("a host's write waits for its data")
	list := binary.BigEndian.AppendUint64(nil, 0xA)
	list = append(binary.BigEndian.AppendUint64(list, 0xB), make([]byte, 8)...)
	c := a.SCSI(0, []byte{0x5F, 5, 3, 0, 0, 0, 0, 0, 24, 0}, iscsitest.Writes, 24)
	c.DataBytes = 24
	a.Send(a.PDU(c, list))
	for { // until the preemption is known; its answer waits for the write
		if cqe, _ := h.Read(h.RW(nvmf.IORead, 0, 1), 4096); !cqe.Status.OK() {
			break
		}
	}
	h.Send(h.H2C(nvmf.DataPDU{CCCID: q.CCCID, TTAG: q.TTAG, Last: true}, make([]byte, 65536)))
	cqe, _ := h.Completion(w)
	h.WantStatus("the preempted write", cqe, nvmf.StatusPreempted)
	a.want("preempt and abort", a.Response(c, nil), iscsi.Good, 0)

	h.reserve("register", nvmf.IOReservationRegister, nvmf.RREGARegister, 0, 0, 0, 0xB)
	a.Send(a.PDU(a.SCSI(0, iscsitest.Write10(0, 1), iscsitest.Writes, 4096), nil))
	a.WantR2T("an initiator's write waits for its data")
	h.reserve("preempt and abort", nvmf.IOReservationAcquire, nvmf.RACQAPreemptAbort, nvmf.WriteExclusive, 0, 0xB, 0xA)
	a.Quiet("the preempted write has no answer")
	a.want("it is told", a.Command(0, make([]byte, 6), 0, 0, nil), iscsi.CheckCondition, 0x062A05)
}

// TestDoorsOfAVolumeOverARestart (T-16): who is registered by either door is there after a restart, and the holder holds.
func TestDoorsOfAVolumeOverARestart(t *testing.T) {
	server, disk := uuid.New(), filepath.Join(t.TempDir(), "disk")
	if err := os.WriteFile(disk, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(disk, 512<<20); err != nil {
		t.Fatal(err)
	}
	cfg := volume.PoolConfig{Name: "pool0", Server: server}
	for _, c := range []struct {
		what string
		open func(e *iscsitest.Engine) (*volume.Pool, error)
		use  func(d *doors)
	}{
		{"first", func(e *iscsitest.Engine) (*volume.Pool, error) {
			p, err := volume.CreatePool(e.Bdevs, "Disk0", cfg)
			if err == nil {
				_, err = p.CreateVolume(volume.VolumeConfig{Name: "v0", Bytes: 16 << 20})
			}
			return p, err
		}, func(d *doors) {
			h, a := newVolumeHost(d.T, d.nvme, 1), d.initiator("a")
			h.reserve("register", nvmf.IOReservationRegister, nvmf.RREGARegister, 0, nvmf.PTPLSet, 0, 0xB)
			a.prout("register", iscsi.Good, 0, 0, 0, 0xA, 1)
			a.prout("reserve", iscsi.Good, 1, 5, 0xA, 0, 0)
		}},
		{"second", func(e *iscsitest.Engine) (*volume.Pool, error) { return volume.ImportPool(e.Bdevs, "Disk0", cfg) }, func(d *doors) {
			h, a := newVolumeHost(d.T, d.nvme, 1), d.initiator("a")
			if got := a.in("READ KEYS", 0); got != "0000000200000010"+"000000000000000b"+"000000000000000a" {
				d.Errorf("keys: %s", got)
			}
			if got := a.in("READ RESERVATION", 1); !strings.HasPrefix(got, "0000000200000010"+"000000000000000a"+"000000000005") {
				d.Errorf("reservation: %s", got)
			}
			h.writes("a registered host", nvmf.StatusSuccess)
			a.writes("the holder", iscsi.Good)
			newVolumeHost(d.T, d.nvme, 2).writes("another host", nvmf.StatusReservationConflict)
			d.initiator("b").writes("another initiator", iscsi.ReservationConflict)
			a.prout("the holder lets the state not persist", iscsi.Good, 0, 0, 0xA, 0xA, 0)
			newVolumeHost(d.T, d.nvme, 2).writes("another host before the restart", nvmf.StatusReservationConflict)
		}},
		{"third", func(e *iscsitest.Engine) (*volume.Pool, error) { return volume.ImportPool(e.Bdevs, "Disk0", cfg) }, func(d *doors) {
			newVolumeHost(d.T, d.nvme, 2).writes("another host after a restart without persistence", nvmf.StatusSuccess)
			d.initiator("b").writes("another initiator", iscsi.Good)
		}},
	} {
		t.Run(c.what, func(t *testing.T) {
			c.use(newDoors(t, func(e *iscsitest.Engine) string {
				if _, err := bdev.NewUring(e.Bdevs, "Disk0", disk, bdev.UringOptions{BlockSize: 4096}); err != nil {
					t.Fatal(err)
				}
				p, err := c.open(e)
				if err != nil {
					t.Fatal(err)
				}
				t.Cleanup(func() {
					if err := p.Export(context.Background()); err != nil {
						t.Error(err)
					}
				})
				return "pool0/v0"
			}))
		})
	}
}
