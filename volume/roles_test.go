package volume

import (
	"errors"
	"testing"

	"github.com/pollux-storage/pollux/bdev"
	"github.com/pollux-storage/pollux/bdev/bdevsim"
	"github.com/pollux-storage/pollux/internal/sim"
	"github.com/pollux-storage/pollux/wal"
)

// TestAllPairsOfRoles (V-45).
func TestAllPairsOfRoles(t *testing.T) {
	legal := map[[2]Role]bool{
		{RoleNone, RolePrimary}: true, {RoleNone, RoleReplica}: true, {RoleNone, RoleRebuilding}: true,
		{RolePrimary, RoleDraining}: true, {RoleDraining, RoleStale}: true, {RoleReplica, RolePrimary}: true,
		{RoleStale, RoleRebuilding}: true, {RoleStale, RoleReplica}: true, {RoleRebuilding, RoleReplica}: true,
	}
	for from := range roleEnd + 1 {
		for to := range roleEnd + 1 {
			err := CheckTransition(from, to)
			if (err == nil) != legal[[2]Role{from, to}] || err != nil && !errors.Is(err, ErrTransition) {
				t.Errorf("from %v to %v: %v", from, to, err)
			}
		}
		if from < roleEnd && ParseRole(from.String()) != from {
			t.Errorf("%v is read as %v", from, ParseRole(from.String()))
		}
	}
	if ParseRole("king") != RoleNone {
		t.Error("a role that is not known is not none")
	}
}

// TestAVolumeIsDemotedAndPromoted, and every step is there after a power cut.
func TestAVolumeIsDemotedAndPromoted(t *testing.T) {
	h := newHouse(t, 1, 1, 64<<20)
	v := h.volume("v0", 8<<20)
	data := pageMemory(1)
	want := func(role Role, epoch wal.Epoch, s bdev.Status) {
		t.Helper()
		k := h.client(v, 0)
		for _, kind := range []bdev.Kind{bdev.Read, bdev.Write, bdev.Flush} {
			n := uint64(1)
			b := data
			if kind == bdev.Flush {
				n, b = 0, nil
			}
			if got := k.do(kind, 0, n, b); got != s {
				t.Fatalf("%v as %v: %v, want %v", kind, v.role, got, s)
			}
		}
		if v.role != role || v.page.epochNow() != epoch || v.page.Role != role {
			t.Fatalf("role %v (%v in its page), epoch %d; want %v in %d", v.role, v.page.Role, v.page.epochNow(), role, epoch)
		}
	}
	cut := func() {
		t.Helper()
		h.crash(func(i *sim.Image) *sim.Image { return i.Crash(sim.None) })
		v = h.find("v0")
	}
	assign := func(to Role, epoch wal.Epoch, is error) {
		t.Helper()
		if err := v.Assign(to, epoch); !errors.Is(err, is) {
			t.Fatalf("from %v to %v in epoch %d: %v, want %v", v.role, to, epoch, err, is)
		}
	}
	want(RolePrimary, 1, bdev.StatusOK)
	assign(RolePrimary, 0, ErrTransition)
	assign(RoleReplica, 0, ErrTransition)
	assign(RoleDraining, 0, ErrTransition)
	assign(RoleStale, 5, nil)
	want(RoleStale, 5, bdev.StatusNotPrimary)
	cut()
	want(RoleStale, 5, bdev.StatusNotPrimary)
	assign(RolePrimary, 9, ErrTransition)
	assign(RoleReplica, 4, ErrEpochRegression)
	assign(RoleReplica, 0, nil)
	cut()
	want(RoleReplica, 5, bdev.StatusNotPrimary)
	assign(RolePrimary, 5, ErrEpochRegression)
	assign(RolePrimary, 7, nil)
	want(RolePrimary, 7, bdev.StatusOK)
	if e := v.log.Epoch(); e != 7 {
		t.Fatalf("its records are of epoch %d", e)
	}
	cut()
	want(RolePrimary, 7, bdev.StatusOK)
	if e := v.log.Epoch(); e != 7 {
		t.Fatalf("after a power cut its records are of epoch %d", e)
	}
}

// TestAPromotionIsDurableBeforeTheGateOpens: at every point at which the device is reached while the volume is promoted, who is let in is
// the primary of an epoch that a power cut does not take back (V-47).
func TestAPromotionIsDurableBeforeTheGateOpens(t *testing.T) {
	h := newHouse(t, 1, 1, 64<<20)
	v := h.volume("v0", 8<<20)
	for _, to := range []Role{RoleStale, RoleReplica} {
		if err := v.Assign(to, 0); err != nil {
			t.Fatal(err)
		}
	}
	type point struct {
		image *sim.Image
		open  bool
	}
	var all []point
	medium := bdevsim.DiskOf(h.disk).Medium()
	medium.Watch(func(sim.Point) { all = append(all, point{medium.Snapshot(), v.gate(bdev.Write) == bdev.StatusOK}) })
	if err := v.Assign(RolePrimary, 9); err != nil {
		t.Fatal(err)
	}
	medium.Watch(nil)
	all = append(all, point{medium.Snapshot(), v.gate(bdev.Write) == bdev.StatusOK})
	seen := map[bool]int{}
	for n, p := range all {
		for _, keep := range []sim.Choice{sim.None, sim.All} {
			h.w.Reboot()
			h.disk = h.w.Open("Disk0", p.image.Crash(keep))
			var err error
			if h.pool, err = ImportPool(h.w.Registry, "Disk0", h.config()); err != nil {
				t.Fatal(err)
			}
			v := h.find("v0")
			primary := v.role == RolePrimary && v.page.epochNow() == 9 && v.log.Epoch() == 9
			if p.open && !primary || !primary && (v.role != RoleReplica || v.page.epochNow() != 1) {
				t.Fatalf("point %d of %d, gate open %v: %v in epoch %d", n, len(all), p.open, v.role, v.page.epochNow())
			}
			seen[primary]++
		}
	}
	if seen[true] == 0 || seen[false] == 0 {
		t.Fatalf("%v: this test shows nothing", seen)
	}
}

// TestADemotionWaitsForWhatHasPassed: a stuck write holds it, others are refused meanwhile, and what has passed is acknowledged.
func TestADemotionWaitsForWhatHasPassed(t *testing.T) {
	h := newHouse(t, 1, 1, 64<<20)
	stages := new(wal.Stages)
	h.pool.cfg.Stages = stages
	v := h.volume("v0", 8<<20)
	stages.Shut(wal.StageFlush)
	k := h.client(v, 0)
	k.begin(bdev.Write, 0, 1, pageMemory(1))
	if err := v.Assign(RoleStale, 0); !errors.Is(err, ErrDrainTimeout) {
		t.Fatalf("demoting with a stuck write: %v", err)
	}
	if k.e || v.role != RoleDraining || v.page.Role != RolePrimary {
		t.Fatalf("ended %v, role %v, in its page %v", k.e, v.role, v.page.Role)
	}
	if s := h.client(v, 0).do(bdev.Read, 0, 1, pageMemory(1)); s != bdev.StatusNotPrimary {
		t.Fatalf("a read while it drains: %v", s)
	}
	stages.Open(wal.StageFlush)
	if err := v.Assign(RoleStale, 0); err != nil {
		t.Fatal(err)
	}
	if !k.e || k.q.Status != bdev.StatusOK || v.role != RoleStale {
		t.Fatalf("the write that had passed: ended %v, %v; role %v", k.e, k.q.Status, v.role)
	}
}
