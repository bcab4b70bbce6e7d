// Package iscsitest stages an iSCSI target for tests, and plays the initiator against it: rightly, wrongly, or not at all.
//
// An Engine is reactors, a registry and a target in this process, listening on loopback. A Peer is one connection to it, made by
// hand from PDUs, so that a test can send any byte. When an Engine ends it checks that nothing of any session was left behind: sessions,
// buffers, operations in flight.
package iscsitest

import (
	"context"
	"log/slog"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/pollux-storage/pollux/bdev"
	"github.com/pollux-storage/pollux/bdev/bdevtest"
	"github.com/pollux-storage/pollux/internal/patient"
	"github.com/pollux-storage/pollux/iscsi"
	"github.com/pollux-storage/pollux/reactor"
)

// Node is the name of the target node that an Engine begins with.
const Node = "iqn.2026-01.io.pollux:test"

// Initiator is the name that a Peer gives itself.
const Initiator = "iqn.2026-01.io.pollux:initiator"

// Tag is the portal group of an Engine.
const Tag = 1

// Options say what an Engine begins with. The zero value is one reactor, and a node that any initiator may use, with a device of memory,
// "Malloc0", 16 MiB in blocks of 512 bytes, as LUN 0.
type Options struct {
	Reactors    int
	BlockSize   uint32
	MemoryBytes int
	Target      func(o *iscsi.Options)
	Node        func(o *iscsi.NodeOptions)
	Empty       bool // no device, no node
}

// Engine is a target under test.
type Engine struct {
	T      testing.TB
	Group  *reactor.Group
	Bdevs  *bdev.Registry
	Target *iscsi.Target
	Addr   netip.AddrPort
}

// Start starts an engine that ends with the test.
func Start(t testing.TB, o Options) *Engine {
	t.Helper()
	if o.MemoryBytes == 0 {
		o.MemoryBytes = 32 << 20
	}
	g, err := reactor.Start(reactor.Config{Cores: slices.Repeat([]int{-1}, max(1, o.Reactors)), MemoryBytes: o.MemoryBytes})
	if err != nil {
		t.Fatal(err)
	}
	e := &Engine{T: t, Group: g, Bdevs: bdev.NewRegistry(g)}
	if e.Target, err = iscsi.NewTarget(e.Bdevs, slog.New(slog.DiscardHandler)); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(e.stop)
	opts := e.Target.Options()
	if o.Target != nil {
		o.Target(&opts)
		e.must(e.Target.SetOptions(opts))
	}
	e.must(e.Target.CreatePortalGroup(iscsi.PortalGroupOptions{Tag: Tag, Portals: []iscsi.Portal{{Host: "127.0.0.1", Port: "0"}}}))
	e.must(e.Target.CreateInitiatorGroup(iscsi.InitiatorGroup{Tag: Tag, Initiators: []string{"ANY"}, Netmasks: []string{"127.0.0.0/8"}}))
	info := e.Target.PortalGroups()[0].Portals[0]
	e.Addr = netip.MustParseAddrPort(info.String())
	if o.Empty {
		return e
	}
	bs := o.BlockSize
	if bs == 0 {
		bs = 512
	}
	_, err = bdev.NewMem(e.Bdevs, "Malloc0", uuid.Nil, bs, uint64(16<<20/bs))
	e.must(err)
	n := iscsi.NodeOptions{Name: Node, Maps: []iscsi.Map{{PortalGroup: Tag, InitiatorGroup: Tag}}, LUNs: []iscsi.LUNOptions{{BdevName: "Malloc0", LUN: 0}}}
	if o.Node != nil {
		o.Node(&n)
	}
	e.must(e.Target.CreateNode(t.Context(), n))
	return e
}

func (e *Engine) must(err error) {
	e.T.Helper()
	if err != nil {
		e.T.Fatal(err)
	}
}

// AddLUN adds a device to the node as a logical unit.
func (e *Engine) AddLUN(device string, lun int) {
	e.T.Helper()
	_, err := e.Target.AddLUN(e.T.Context(), Node, iscsi.LUNOptions{BdevName: device, LUN: lun})
	e.must(err)
}

// AddHeld adds a device that ends no request until the test says so, with blocks of 4096 bytes, as a logical unit.
func (e *Engine) AddHeld(lun int) *bdevtest.Held {
	e.T.Helper()
	h := bdevtest.AddHeld(e.T, e.Bdevs, "Held0", 4096)
	e.AddLUN("Held0", lun)
	return h
}

// WantNothingLent waits until no buffer is lent, and nobody waits for one, and fails if that does not come.
func (e *Engine) WantNothingLent(why string) {
	e.T.Helper()
	var bytes, waiting int
	for end := time.Now().Add(patient.Limit); time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
		patient.Within(e.T, why, func() {
			bytes, waiting = 0, 0
			e.must(e.Group.Each(func(r *reactor.Reactor) {
				m := r.Memory().Stats()
				bytes += m.InUse
				waiting += m.Waiting
			}))
		})
		if bytes == 0 && waiting == 0 {
			return
		}
	}
	e.T.Errorf("%s: left behind: %d bytes of buffers, %d waiting for buffers", why, bytes, waiting)
}

func (e *Engine) stop() {
	ctx, cancel := context.WithTimeout(context.Background(), patient.Limit)
	defer cancel()
	patient.Within(e.T, "the target stops", func() {
		if err := e.Target.Stop(ctx); err != nil {
			e.T.Error(err)
		}
	})
	e.WantNothingLent("after the target stopped")
	if err := bdevtest.UnregisterAll(ctx, e.Bdevs); err != nil {
		e.T.Error(err)
	}
	if err := e.Group.Stop(ctx); err != nil {
		e.T.Error(err)
	}
}
