package iscsi_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/pollux-storage/pollux/bdev"
	"github.com/pollux-storage/pollux/internal/patient"
	"github.com/pollux-storage/pollux/iscsi"
	"github.com/pollux-storage/pollux/iscsi/iscsitest"
)

// TestConfigurationWhileInitiatorsComeAndGo: several change everything there is at once, and make anew under the same names and tags what others delete,
// while initiators log in and have commands under way. Each call does what it says or tells why not, nobody waits for ever, and in the end no device is in
// use and no session is left.
func TestConfigurationWhileInitiatorsComeAndGo(t *testing.T) {
	iscsi.SetPatience(t, iscsi.Patience{Data: 300 * time.Millisecond, Logout: 20 * time.Millisecond})
	e := iscsitest.Start(t, iscsitest.Options{Reactors: 2})
	for i := range 3 {
		_, err := bdev.NewMem(e.Bdevs, fmt.Sprint("mem", i), uuid.Nil, 512, 4096)
		must(t, err)
	}
	must(t, e.Target.CreateAuthGroup(iscsi.AuthGroup{Tag: 1, Secrets: []iscsi.Secret{{User: "u", Secret: "a secret of many bytes"}}}))
	ctx, stop := context.WithTimeout(t.Context(), 1500*time.Millisecond)
	defer stop()
	var all sync.WaitGroup
	for i := range 4 {
		all.Go(func() {
			rnd := rand.New(rand.NewPCG(1, uint64(i)))
			for ctx.Err() == nil {
				if err := configure(t.Context(), e, rnd); err != nil && !expected(err) {
					t.Error(err)
				}
			}
		})
		all.Go(func() {
			rnd := rand.New(rand.NewPCG(2, uint64(i)))
			for ctx.Err() == nil {
				storm(t, e, rnd)
			}
		})
	}
	patient.Within(t, "all have done what they do", all.Wait)
	for _, n := range e.Target.Nodes() {
		must(t, e.Target.DeleteNode(t.Context(), n.Name))
	}
	patient.Await(t, "all sessions end", func() bool {
		list, err := e.Target.Connections()
		return err == nil && len(list) == 0
	})
	for _, d := range e.Bdevs.Devices() {
		if users := d.Users(); len(users) > 0 {
			t.Errorf("%s is open for %v", d.Name(), users)
		}
	}
	must(t, e.Target.CreateNode(t.Context(), iscsi.NodeOptions{
		Name: iscsitest.Node, Maps: []iscsi.Map{{PortalGroup: iscsitest.Tag, InitiatorGroup: iscsitest.Tag}}, LUNs: []iscsi.LUNOptions{{BdevName: "Malloc0", LUN: 0}},
	}))
	ready(t, e).Logout("after all of it")
}

// expected reports whether a call may fail so while others change what it is about.
func expected(err error) bool {
	return errors.Is(err, iscsi.ErrNotFound) || errors.Is(err, iscsi.ErrExists) || errors.Is(err, iscsi.ErrInvalid)
}

// configure makes one change.
func configure(ctx context.Context, e *iscsitest.Engine, rnd *rand.Rand) error {
	x := e.Target
	device := fmt.Sprint("mem", rnd.IntN(3))
	tag := 2 + rnd.IntN(2)
	maps := []iscsi.Map{{PortalGroup: iscsitest.Tag, InitiatorGroup: iscsitest.Tag}}
	other := []iscsi.Map{{PortalGroup: tag, InitiatorGroup: tag}}
	switch rnd.IntN(16) {
	case 0:
		return x.DeleteNode(ctx, iscsitest.Node)
	case 1, 2, 3:
		return x.CreateNode(ctx, iscsi.NodeOptions{Name: iscsitest.Node, Maps: maps, LUNs: []iscsi.LUNOptions{{BdevName: "Malloc0", LUN: 0}, {BdevName: device, LUN: -1}}})
	case 4, 5:
		_, err := x.AddLUN(ctx, iscsitest.Node, iscsi.LUNOptions{BdevName: device, LUN: -1 + rnd.IntN(4)})
		return err
	case 6:
		return x.RemoveLUN(ctx, iscsitest.Node, rnd.IntN(4))
	case 7:
		return x.CreatePortalGroup(iscsi.PortalGroupOptions{Tag: tag, Portals: []iscsi.Portal{{Host: "127.0.0.1", Port: "0"}}, Wait: rnd.IntN(2) == 0})
	case 8:
		return x.DeletePortalGroup(ctx, tag)
	case 9:
		return x.StartPortalGroup(tag)
	case 10:
		return x.CreateInitiatorGroup(iscsi.InitiatorGroup{Tag: tag, Initiators: []string{"ANY"}, Netmasks: []string{"ANY"}})
	case 11:
		return x.DeleteInitiatorGroup(ctx, tag)
	case 12:
		return x.AddMaps(iscsitest.Node, other)
	case 13:
		return x.RemoveMaps(ctx, iscsitest.Node, other)
	case 14:
		return x.Redirect(iscsitest.Node, tag, iscsi.Portal{Host: e.Addr.Addr().String(), Port: fmt.Sprint(e.Addr.Port())})
	default:
		_, err := x.HostFailures()
		return errors.Join(err, x.EnableHistogram(iscsitest.Node, rnd.IntN(2) == 0), x.SetNodeAuth(iscsitest.Node, iscsi.Auth{Group: rnd.IntN(2)}))
	}
}
