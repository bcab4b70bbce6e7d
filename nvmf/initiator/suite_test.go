package initiator

import (
	"context"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/uuid"

	"github.com/pollux-storage/pollux/bdev"
	"github.com/pollux-storage/pollux/bdev/bdevtest"
	"github.com/pollux-storage/pollux/nvmf"
	"github.com/pollux-storage/pollux/nvmf/nvmftest"
)

// far is the far end of a device under test: a target with reactors of its own, which serves one device.
type far struct {
	bdevs  *bdev.Registry
	target *nvmf.Target
	addr   netip.AddrPort
	disk   *bdev.Device
}

// resize changes the size of the file that the far device is.
func (f *far) resize(blocks uint64) error {
	u, g := f.disk.Driver().(*bdev.Uring), f.disk.Geometry()
	if err := os.Truncate(u.Path(), int64(blocks<<g.Shift())); err != nil {
		return err
	}
	return u.Rescan(f.disk)
}

func newFar(t bdevtest.T, file bool, blockSize uint32, transport func(o *nvmf.TransportOptions)) *far {
	g := bdevtest.Start(t, 1)
	f := &far{bdevs: bdev.NewRegistry(g)}
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatalf("%v", err)
		}
	}
	var err error
	if file {
		path := filepath.Join(t.TempDir(), "disk")
		must(os.WriteFile(path, nil, 0o600))
		must(os.Truncate(path, bdevtest.Bytes))
		f.disk, err = bdev.NewUring(f.bdevs, "Far0", path, bdev.UringOptions{BlockSize: blockSize})
	} else {
		f.disk, err = bdev.NewMem(f.bdevs, "Far0", uuid.Nil, blockSize, uint64(bdevtest.Bytes/blockSize))
	}
	must(err)
	f.target, err = nvmf.NewTarget(f.bdevs, slog.New(slog.DiscardHandler))
	must(err)
	o := nvmf.DefaultTransport("TCP")
	transport(&o)
	must(f.target.CreateTransport(o))
	must(f.target.CreateSubsystem(nvmf.SubsystemOptions{NQN: nvmftest.NQN, AllowAnyHost: true}))
	_, err = f.target.AddNamespace(nvmftest.NQN, nvmf.NamespaceOptions{BdevName: "Far0"})
	must(err)
	for range 20 {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		must(err)
		f.addr = netip.MustParseAddrPort(l.Addr().String())
		_ = l.Close()
		if err = f.target.AddListener(nvmftest.NQN, nvmftest.Address(f.addr), nvmf.ANAOptimized); err == nil {
			break
		}
	}
	t.Cleanup(func() {
		if err := f.target.Stop(context.Background()); err != nil {
			t.Errorf("%v", err)
		}
		if err := f.bdevs.Unregister(context.Background(), "Far0"); err != nil {
			t.Errorf("%v", err)
		}
	})
	return f
}

// The contract of package bdev holds for a remote namespace as for any other device.
func TestContract(t *testing.T) {
	for _, c := range []struct {
		name      string
		file      bool
		options   func(o *Options)
		transport func(o *nvmf.TransportOptions)
	}{
		{"a file, a queue on each reactor", true, func(*Options) {}, func(*nvmf.TransportOptions) {}},
		{"memory, one queue of four commands for all, digests", false, func(o *Options) {
			o.NumIOQueues, o.QueueDepth, o.HeaderDigest, o.DataDigest = 1, 4, true, true
		}, func(o *nvmf.TransportOptions) { o.InCapsuleDataBytes = 4096 }},
	} {
		fars := map[*bdev.Device]*far{}
		s := bdevtest.Subject{
			Name: c.name,
			Make: func(t bdevtest.T, g *bdev.Registry, blockSize uint32) *bdev.Device {
				t.Helper()
				f := newFar(t, c.file, blockSize, c.transport)
				in := New(g, slog.New(slog.DiscardHandler))
				o := options(f.addr)
				c.options(&o)
				names, err := in.Attach(context.Background(), o)
				if err != nil || len(names) != 1 {
					t.Fatalf("attached %v: %v", names, err)
				}
				d, err := g.Lookup(names[0])
				if err != nil {
					t.Fatalf("%v", err)
				}
				fars[d] = f
				g.Watch(func(e bdev.Event) { // with the device the controller goes, and what it has of the reactors' memory
					if e.Kind == bdev.Unregistered && e.Device == d {
						if err := in.Detach(context.Background(), o.Name); err != nil {
							t.Errorf("%v", err)
						}
					}
				})
				return d
			},
		}
		if s.BlockSizes = []uint32{4096}; c.file {
			s.BlockSizes = nil // all
			s.Resize = func(d *bdev.Device, blocks uint64) error { return fars[d].resize(blocks) }
		}
		t.Run(c.name, func(t *testing.T) { bdevtest.Run(t, s) })
	}
}
