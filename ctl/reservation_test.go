package ctl

import (
	"context"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/uuid"

	"github.com/pollux-storage/pollux/bdev"
	"github.com/pollux-storage/pollux/nvmf"
	"github.com/pollux-storage/pollux/nvmf/nvmftest"
	"github.com/pollux-storage/pollux/volume"
)

// volumeHost is a host with an I/O queue.
type volumeHost struct{ *nvmftest.TCPPeer }

func newVolumeHost(t *testing.T, e *nvmftest.Engine, n byte) volumeHost {
	t.Helper()
	d := nvmf.ConnectData{CNTLID: nvmf.CNTLIDDynamic, SUBNQN: nvmftest.NQN, HOSTNQN: nvmftest.Host + string('0'+n), HOSTID: [16]byte{n}}
	d.CNTLID = nvmftest.AdminAs(t, e.Addr, 0, d).CNTLID
	p := nvmftest.Open(t, e.Addr, 0)
	p.WantStatus("Connect", p.ConnectAs(1, 32, 0, 0, d), nvmf.StatusSuccess)
	return volumeHost{p}
}

func (h volumeHost) reserve(what string, o nvmf.IOOpcode, a nvmf.ReservationAction, typ nvmf.ReservationType, p nvmf.CPTPL, cur, other uint64) {
	s := h.IO(o)
	s.SetReservation(a, false, typ, p)
	h.WantStatus(what, h.Do(s, nvmf.ReservationKeys{CRKEY: cur, Other: other}.AppendTo(nil)), nvmf.StatusSuccess)
}

func (h volumeHost) writes(what string, want nvmf.Status) {
	h.WantStatus(what, h.Do(h.RW(nvmf.IOWrite, 0, 1), make([]byte, 4096)), want)
}

// TestReservationsOfAVolumeSurviveARestart: a host registers and acquires over NVMe/TCP, and the next engine that opens the pool keeps the
// other host out (T-16). Without PTPL it lets it in.
func TestReservationsOfAVolumeSurviveARestart(t *testing.T) {
	server, disk := uuid.New(), filepath.Join(t.TempDir(), "disk")
	if err := os.WriteFile(disk, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(disk, 512<<20); err != nil {
		t.Fatal(err)
	}
	cfg := volume.PoolConfig{Name: "pool0", Server: server}
	engine := func(what string, open func(e *nvmftest.Engine) (*volume.Pool, error), use func(e *nvmftest.Engine)) {
		t.Run(what, func(t *testing.T) {
			e := nvmftest.Start(t, nvmftest.Options{Empty: true, Reactors: 2, MemoryBytes: 64 << 20})
			if _, err := bdev.NewUring(e.Bdevs, "Disk0", disk, bdev.UringOptions{BlockSize: 4096}); err != nil {
				t.Fatal(err)
			}
			p, err := open(e)
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() {
				if err := p.Export(context.Background()); err != nil {
					t.Error(err)
				}
			})
			id := e.AddNamespace(nvmf.NamespaceOptions{BdevName: "pool0/v0"})
			t.Cleanup(func() {
				if err := e.Target.RemoveNamespace(context.Background(), nvmftest.NQN, id); err != nil {
					t.Error(err)
				}
			})
			use(e)
		})
	}
	again := func(e *nvmftest.Engine) (*volume.Pool, error) { return volume.ImportPool(e.Bdevs, "Disk0", cfg) }
	engine("first", func(e *nvmftest.Engine) (*volume.Pool, error) {
		p, err := volume.CreatePool(e.Bdevs, "Disk0", cfg)
		if err == nil {
			_, err = p.CreateVolume(volume.VolumeConfig{Name: "v0", Bytes: 16 << 20})
		}
		return p, err
	}, func(e *nvmftest.Engine) {
		a := newVolumeHost(t, e, 1)
		a.reserve("register", nvmf.IOReservationRegister, nvmf.RREGARegister, 0, nvmf.PTPLSet, 0, 10)
		a.reserve("acquire", nvmf.IOReservationAcquire, nvmf.RACQAAcquire, nvmf.WriteExclusive, 0, 10, 0)
		newVolumeHost(t, e, 2).writes("another host", nvmf.StatusReservationConflict)
	})
	engine("second", again, func(e *nvmftest.Engine) {
		newVolumeHost(t, e, 2).writes("another host after a restart", nvmf.StatusReservationConflict)
		a := newVolumeHost(t, e, 1)
		a.writes("the holder after a restart", nvmf.StatusSuccess)
		a.reserve("no longer to persist", nvmf.IOReservationRegister, nvmf.RREGARegister, 0, nvmf.PTPLClear, 0, 10)
		newVolumeHost(t, e, 2).writes("another host before the restart", nvmf.StatusReservationConflict)
	})
	engine("third", again, func(e *nvmftest.Engine) {
		newVolumeHost(t, e, 2).writes("another host after a restart without persistence", nvmf.StatusSuccess)
	})
}
