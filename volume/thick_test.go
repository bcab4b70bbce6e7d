package volume

import (
	"errors"
	"strings"
	"testing"

	"github.com/pollux-storage/pollux/bdev"
	"github.com/pollux-storage/pollux/bdev/bdevsim"
	"github.com/pollux-storage/pollux/internal/sim"
	"github.com/pollux-storage/pollux/reactor"
	"github.com/pollux-storage/pollux/wal"
)

// This file is the promise of a thick volume: none of its writes meets a full pool. A thin neighbour takes all that it can get, at each point.

// thickHarness is the crash harness with a thick volume, number 0, and a thin one.
type thickHarness struct {
	*crashHarness
	all4 []*crashClient // of the volumes in turn
	held Need           // that somebody else has

	events  int // imports that had one to come, as reserved saw them
	counted int // and those in which clusters were counted one by one
}

func newThickHarness(t *testing.T, seed, bytes uint64) *thickHarness {
	t.Helper()
	k := newCrashHarness(t, seed, bytes)
	if err := k.pool.DeleteVolume(t.Context(), k.v[0], nil); err != nil {
		t.Fatal(err)
	}
	for range 2 { // its log rests
		if err := k.pool.twice(); err != nil {
			t.Fatal(err)
		}
	}
	var err error
	if k.v[0], err = k.pool.CreateVolume(VolumeConfig{
		Name: "v0", Bytes: crashBlocks * k.unit, BlockBytes: uint32(k.unit), LogBytes: crashLogBytes, Cache: k.cache[0], Verify: true, Thick: true,
	}); err != nil {
		t.Fatal(err)
	}
	return &thickHarness{crashHarness: k, all4: k.clients(4)}
}

// press lets the thin volume's clients that are free do something: what fails for want of space is right.
func (k *thickHarness) press() {
	for _, c := range k.all4 {
		if c.vol == 0 || c.busy {
			continue
		}
		per := uint64(k.v[1].shape.Blocks())
		at, n := k.r.Uint64N(crashBlocks-per), 1+k.r.Uint64N(per)
		switch k.r.Uint32N(12) {
		case 0:
			c.begin(bdev.Unmap, at, n, false)
		case 1, 2, 3, 4, 5, 6:
			c.begin(bdev.Write, at/per*per, per, false)
		default:
			c.begin(bdev.Write, at, n, false)
		}
	}
}

// fill lets the thin volume have all that it can get, and if it has everything, somebody else the rest.
func (k *thickHarness) fill() {
	k.t.Helper()
	c := k.all4[1]
	k.rest(k.all4)
	for refused := 0; refused < 2; {
		refused = 0
		for _, n := range []uint64{uint64(k.v[1].shape.Blocks()), 1} {
			for at := uint64(0); at+n <= crashBlocks; at += uint64(k.v[1].shape.Blocks()) {
				c.begin(bdev.Write, at, n, false)
				k.rest(k.all4)
				if c.q.Status == bdev.StatusNoSpace {
					refused++
					break
				}
				if c.q.Status != bdev.StatusOK && c.q.Status != bdev.StatusBusy {
					k.t.Fatalf("filling the pool: %v", c.q.Status)
				}
			}
			if refused == 0 {
				k.takeRest()
				return
			}
		}
	}
}

// writeAll writes every block of the thick volume, in any order and pieces of any size, by two clients, with trims between. The neighbour is at it.
func (k *thickHarness) writeAll(what string) {
	k.t.Helper()
	type piece struct{ at, n uint64 }
	var pieces []piece
	for at := uint64(0); at < crashBlocks; {
		n := 1 + k.r.Uint64N(40)
		switch k.r.Uint32N(6) {
		case 0:
			n = uint64(k.v[0].shape.Blocks())
		case 1:
			n = 200 + k.r.Uint64N(56)
		}
		n = min(n, crashBlocks-at)
		pieces = append(pieces, piece{at, n})
		at += n
	}
	k.r.Shuffle(len(pieces), func(i, j int) { pieces[i], pieces[j] = pieces[j], pieces[i] })
	mine := []*crashClient{k.all4[0], k.all4[2]}
	judge := func(c *crashClient) {
		if !c.busy && c.q.Kind != bdev.Read && c.q.Status != bdev.StatusOK {
			k.t.Fatalf("%s: %v of %d blocks at %d of the thick volume: %v; have %+v, floor %d, %+v, alone %d; pool %+v", what, c.q.Kind, c.q.Blocks, c.q.LBA, c.q.Status,
				k.v[0].have, k.v[0].floor(), k.v[0].thick, k.v[0].alone, k.pool.alloc.Space())
		}
	}
	for len(pieces) > 0 {
		for _, c := range mine {
			if c.busy || len(pieces) == 0 {
				continue
			}
			judge(c)
			if k.r.Uint32N(5) == 0 {
				n := 1 + k.r.Uint64N(300)
				c.begin([]bdev.Kind{bdev.Unmap, bdev.WriteZeroes}[k.r.Uint32N(2)], k.r.Uint64N(crashBlocks-n), n, false)
				continue
			}
			c.begin(bdev.Write, pieces[0].at, pieces[0].n, k.r.Uint32N(4) == 0)
			pieces = pieces[1:]
		}
		k.press()
		k.w.Run("one is done", func() bool { return !mine[0].busy || !mine[1].busy })
	}
	k.rest(k.all4)
	judge(mine[0])
	judge(mine[1])
	k.forced(k.v[0])
	k.holds(what)
}

// holds says that what is promised to the thick volume at rest is there.
func (k *thickHarness) holds(what string) {
	k.t.Helper()
	v := k.v[0]
	if v.have.clusters < v.floor() {
		k.t.Fatalf("%s: %+v is left, and the floor is %d", what, v.have, v.floor())
	}
	if n := v.sparePages(); n < 0 {
		k.t.Fatalf("%s: %d pages are lacking: %+v", what, -n, v.thick)
	}
	for _, p := range k.pool.problems {
		if strings.Contains(p, "thick") {
			k.t.Fatalf("%s: %s", what, p)
		}
	}
}

// found looks at what an image has, and begins a model with that.
func (k *thickHarness) found(what string, tick int) {
	k.t.Helper()
	k.importPool()
	k.held = Need{}
	got := k.all()
	k.m = newCrashModel()
	k.m.seq = 1 << 20
	for vol := range got {
		for b := range uint64(crashBlocks) {
			if seq, ok := crashValue(got[vol][b*k.unit:][:k.unit], vol, b); !ok {
				k.t.Fatalf("%s: block %d of volume %d has foreign bytes", what, b, vol)
			} else if seq != 0 {
				k.m.by[vol][b] = []*crashOp{{vol: vol, seq: seq, block: b, n: 1, begun: 1, done: 1, durable: 1, ok: true}}
				k.m.seq = max(k.m.seq, seq+1)
			}
		}
	}
	k.m.tick = 2
	k.all4 = k.clients(4)
	k.forced(k.v[0])
	k.holds(what)
	k.checked()
}

// proveFloor opens an image, maybe by the older slot; the neighbour takes what it gets, and all of the thick volume is written.
func (k *thickHarness) proveFloor(i crashImage) {
	k.t.Helper()
	k.open(i.image.Crash(sim.Random(k.r, k.r.Float64())))
	what := "image at " + i.where
	if k.r.Uint32N(2) == 0 {
		what += k.spoilSlot()
	}
	before := k.m
	k.found(what, i.tick)
	k.fill()
	k.writeAll(what)
	k.checked()
	k.m = before
}

func (k *thickHarness) other(seed uint64) *thickHarness {
	o := *k.crashHarness
	o.house = &house{t: k.t, w: bdevsim.NewWorld(k.t, seed+1<<32, 2)}
	return &thickHarness{crashHarness: &o}
}

const thickPoolBytes = 28 << 20 // some MiB for the neighbour

// TestAThickVolumeNeverMeetsAFullPool (V-27): the neighbour fills the pool before the first write, and again at each point; every block is
// written three times, in any order, with trims between, and after power cuts at any point, opened by either slot.
func TestAThickVolumeNeverMeetsAFullPool(t *testing.T) {
	sim.Each(t, 2, nil, func(t *testing.T, seed uint64) {
		k := newThickHarness(t, seed, thickPoolBytes)
		k.fill()
		images := k.watch(1200, 6)
		for _, what := range []string{"first", "again", "and again"} {
			k.writeAll(what)
			k.checked()
		}
		tick := k.m.tick
		for vol, b := range k.all() {
			k.compare("a thick volume", vol, 0, b, tick, tick, false)
		}
		o := k.other(seed)
		o.r = k.r
		for _, i := range *images {
			o.proveFloor(i)
		}
		o.proveFloor(crashImage{image: bdevsim.DiskOf(k.disk).Medium().Snapshot(), where: "the end"})
	})
}

// TestAThickVolumeKeepsItsSetThroughSnapshots: a snapshot needs a full set of clusters, and is refused without; with it, everything can be
// written again; so with restoring. What a deleted snapshot had comes back.
func TestAThickVolumeKeepsItsSetThroughSnapshots(t *testing.T) {
	sim.Each(t, 2, nil, func(t *testing.T, seed uint64) {
		k := newThickHarness(t, seed, 34<<20)
		v := k.v[0]
		k.writeAll("before")
		k.trimNeighbour()
		images := k.watch(1000, 6)
		if _, err := v.CreateSnapshot(SnapshotConfig{Name: "s1"}); err != nil {
			t.Fatal(err)
		}
		k.fill()
		k.writeAll("behind a snapshot")
		k.checked()
		for _, act := range []struct {
			name string
			do   func() error
		}{
			{"a second snapshot", func() error { _, err := v.CreateSnapshot(SnapshotConfig{Name: "s2"}); return err }},
			{"restoring", func() error { return v.RestoreSnapshot(t.Context(), "s1", RestoreOptions{Force: true}) }},
			{"a larger size", func() error { return v.Resize(v.page.Bytes + 4<<20) }},
		} {
			err := act.do()
			if !errors.Is(err, ErrNoSpace) || !strings.Contains(err.Error(), "clusters") {
				t.Fatalf("%s in a full pool: %v", act.name, err)
			}
			k.holds(act.name + " was refused")
		}
		k.writeAll("after refusals")
		if err := v.DeleteSnapshot(t.Context(), "s1"); err != nil {
			t.Fatal(err)
		}
		k.forced(v)
		k.writeAll("after a deletion")
		k.trimNeighbour()
		free := k.pool.alloc.Space().Clusters - k.pool.alloc.reserved.Clusters
		if free < uint64(v.thickNeed().clusters)/2 {
			t.Fatalf("%d clusters are free after the snapshot is gone and the neighbour trimmed", free)
		}
		k.checked()
		o := k.other(seed)
		o.r = k.r
		for _, i := range *images {
			o.proveFloor(i)
		}
	})
}

// trimNeighbour empties the thin volume, and waits until that is free.
func (k *thickHarness) trimNeighbour() {
	k.t.Helper()
	k.rest(k.all4)
	k.all4[1].begin(bdev.Unmap, 0, crashBlocks, false)
	k.rest(k.all4)
	k.pool.alloc.Unreserve(k.held)
	k.held = Need{}
	for range 3 {
		k.forced(k.v[1])
		k.forced(k.v[0])
	}
}

// TestAThickVolumeGrowsAndGoesBack: what a larger size and a restored snapshot need is reserved before, and there after power cuts at every
// point of both.
func TestAThickVolumeGrowsAndGoesBack(t *testing.T) {
	sim.Each(t, 2, nil, func(t *testing.T, seed uint64) {
		k := newThickHarness(t, seed, 72<<20)
		v := k.v[0]
		k.writeAll("before")
		if _, err := v.CreateSnapshot(SnapshotConfig{Name: "s1"}); err != nil {
			t.Fatal(err)
		}
		k.writeAll("behind a snapshot")
		k.rest(k.all4)
		images := k.watch(9, 12)
		was := v.thickNeed()
		if err := v.Resize(v.page.Bytes + 4<<20); err != nil {
			t.Fatal(err)
		}
		if now := v.thickNeed(); now.clusters != was.clusters+int(4<<20/v.shape.ClusterBytes()) {
			t.Fatalf("%+v is needed after 4 MiB more, before %+v", now, was)
		}
		k.holds("a larger volume")
		if err := v.RestoreSnapshot(t.Context(), "s1", RestoreOptions{Force: true}); err != nil {
			t.Fatal(err)
		}
		k.holds("a restored volume")
		o := k.other(seed)
		o.r = k.r
		for _, i := range *images {
			o.proveFloor(i)
		}
		k.fill()
		k.writeAll("after both")
		k.checked()
	})
}

// TestThickVolumesAreRefused where their space is not there, and nothing is left of them.
func TestThickVolumesAreRefused(t *testing.T) {
	h := newHouse(t, 1, 1, 64<<20)
	before := h.pool.alloc.Space()
	_, err := h.pool.CreateVolume(VolumeConfig{Name: "v0", Bytes: 56 << 20, LogBytes: 8 << 20, Thick: true})
	if !errors.Is(err, ErrNoSpace) || !strings.Contains(err.Error(), "free clusters") {
		t.Fatalf("a volume that does not fit: %v", err)
	}
	if now := h.pool.alloc.Space(); now.Reserved != before.Reserved || now.Free != before.Free {
		t.Fatalf("it left %+v, there was %+v", now, before)
	}
	v := h.volumeOf(VolumeConfig{Name: "v0", Bytes: 30 << 20, LogBytes: 8 << 20, Thick: true})
	i, err := v.Info()
	if n := v.thickNeed(); err != nil || !i.Thick || i.Clusters != 0 || i.Reserved != uint64(n.clusters) || v.page.ClustersReserved != i.Reserved || v.page.PagesReserved != uint64(n.pages) {
		t.Fatalf("%+v, %v; %+v", i, err, v.page)
	}
	if _, err := h.pool.CreateVolume(VolumeConfig{Name: "v1", Bytes: 30 << 20, LogBytes: 8 << 20, Thick: true}); !errors.Is(err, ErrNoSpace) {
		t.Fatalf("a second one: %v", err)
	}
	if err := h.pool.DeleteVolume(t.Context(), v, nil); err != nil {
		t.Fatal(err)
	}
	if n := h.pool.alloc.reserved; n != (Need{}) {
		t.Fatalf("a deleted volume has %+v reserved", n)
	}
}

// TestAThickVolumeStaysThickWhenItIsOpenedAgain: nobody gets what it has while its write cache is changed.
func TestAThickVolumeStaysThickWhenItIsOpenedAgain(t *testing.T) {
	k := newThickHarness(t, 1, thickPoolBytes)
	k.fill()
	k.writeAll("before")
	for _, c := range k.all4 {
		if c.vol == 0 {
			c.close()
		}
	}
	reserved := k.pool.alloc.reserved
	bdevsim.DiskOf(k.disk).Medium().Watch(func(sim.Point) { k.takeRest() })
	v, err := k.pool.SetWriteCache(t.Context(), k.v[0], CacheVolatile)
	if err != nil {
		t.Fatal(err)
	}
	bdevsim.DiskOf(k.disk).Medium().Watch(nil)
	k.v[0], k.cache[0] = v, CacheVolatile
	if now := k.pool.alloc.reserved; now.Clusters < reserved.Clusters {
		t.Fatalf("%+v is reserved, and was %+v", now, reserved)
	}
	k.all4 = k.clients(4)
	k.holds("opened again")
	k.fill()
	k.writeAll("opened again")
	k.checked()
}

// TestWhatIsWrittenIsKeptForTheOlderSlot: what one slot alone knows to be written is reserved as long as the pool could be opened by the other.
func TestWhatIsWrittenIsKeptForTheOlderSlot(t *testing.T) {
	h := newHouse(t, 1, 1, 64<<20)
	v := h.volumeOf(VolumeConfig{Name: "v0", Bytes: 16 << 20, LogBytes: 8 << 20, Thick: true})
	k := h.client(v, 0)
	data := pageMemory(160)
	seen := 0
	for i := range uint64(20) {
		k.must(bdev.Write, i*160, 160, data)
		checkpoints := v.counters.Checkpoints
		v.force(newEvent())
		h.w.Run("another checkpoint", func() bool { return v.counters.Checkpoints > checkpoints && !v.asking })
		if v.thick.slots[1] < v.alone && v.dirty.used.clusters == 0 {
			seen++
		}
		if need := v.thickNeed().clusters - int(v.thick.slots[1]); v.have.clusters < need-v.dirty.used.clusters {
			t.Fatalf("%d clusters are reserved, and who opens by the older slot needs %d", v.have.clusters, need)
		}
	}
	if seen == 0 {
		t.Fatal("the slots never differ")
	}
	h.forced(v)
	h.w.RunFor(reactor.Second)
	if n := v.floor(); v.have.clusters != n {
		t.Fatalf("%d clusters are reserved at rest, and %d are needed", v.have.clusters, n)
	}
}

// takeRest lets somebody have all that the pool has free.
func (k *thickHarness) takeRest() {
	for k.pool.alloc.Reserve(Need{Clusters: 1}, Ordinary) {
		k.held.Clusters++
	}
	for k.pool.alloc.Reserve(Need{Pages: 1}, Ordinary) {
		k.held.Pages++
	}
}

// TestWritesBesideASnapshotOfAThickVolume: in front of the event, a write leaves it the full set, and waits for it; behind it each needs a place,
// whatever it has.
func TestWritesBesideASnapshotOfAThickVolume(t *testing.T) {
	k := newThickHarness(t, 1, 48<<20)
	v := k.v[0]
	per := uint64(v.shape.Blocks())
	do := func(c *crashClient, at uint64) {
		t.Helper()
		c.begin(bdev.Write, at, 1, true)
		k.w.Run("a write", func() bool { return !c.busy })
		if c.q.Status != bdev.StatusOK {
			t.Fatalf("block %d: %v", at, c.q.Status)
		}
	}
	mine := []*crashClient{k.all4[0], k.all4[2]}
	for at := uint64(0); at < 10*per; at += per {
		do(mine[0], at)
	}
	k.forced(v)
	k.forced(v)
	if err := v.reserveSet("a test"); err != nil {
		t.Fatal(err)
	}
	k.forced(v)
	k.forced(v) // what is too much is given up
	k.takeRest()
	if v.have.clusters != v.thickNeed().clusters {
		t.Fatalf("%d clusters are there for an event, and it needs %d", v.have.clusters, v.thickNeed().clusters)
	}
	do(mine[0], 3) // it has its place
	mine[0].begin(bdev.Write, 20*per, 1, true)
	k.w.RunFor(300 * reactor.Millisecond)
	if !mine[0].busy || v.have.clusters != v.thickNeed().clusters {
		t.Fatalf("a write takes of what is kept for an event: %d clusters are left, %v", v.have.clusters, mine[0].q.Status)
	}
	k.cfg.Stages.Shut(wal.StageMap)
	v.force(newEvent())
	k.w.Run("the flusher is held", func() bool { return v.ckpt.step == checkpointPages })
	s := Snapshot{Number: v.snapshots.next, Bytes: v.page.Bytes, Name: Name{'s'}, UUID: houseServer}
	payload := pageMemory(1)
	s.encode(payload)
	if err := v.logNow(wal.KindSnapshot, uint64(s.Number), payload); err != nil {
		t.Fatal(err)
	}
	k.w.Run("who waited for the event is done", func() bool { return !mine[0].busy })
	if mine[0].q.Status != bdev.StatusOK {
		t.Fatal(mine[0].q.Status)
	}
	for at := uint64(0); at < 24*per; at += 2 * per {
		do(mine[at/per/2%2], at+5)
	}
	k.cfg.Stages.Open(wal.StageMap)
	k.forced(v)
	k.holds("behind the snapshot")
	k.writeAll("behind the snapshot")
	k.checked()
}

// TestWhatIsReservedForATrimmedClusterIsNotReliedOn: between the door and the log of a write, what was dirty of its cluster may come home, and with a
// trim give back the place that was reserved for it.
func TestWhatIsReservedForATrimmedClusterIsNotReliedOn(t *testing.T) {
	h, stages := newStagedHouse(t, 1, 1, 64<<20)
	v := h.volumeOf(VolumeConfig{Name: "v0", Bytes: 16 << 20, LogBytes: 8 << 20, Thick: true})
	for h.pool.alloc.Reserve(Need{Clusters: 1}, Ordinary) {
	}
	k, k2 := h.client(v, 0), h.client(v, 0)
	per := uint64(v.shape.Blocks())
	data := pageMemory(1)
	k.must(bdev.Write, 5*per, 1, data)
	k.must(bdev.Unmap, 5*per, per, nil)
	if v.dirty.used.clusters != 1 {
		t.Fatal("the cluster is home already")
	}
	stages.Shut(wal.StageWrite)
	k2.begin(bdev.Write, 5*per+1, 1, data)
	v.force(newEvent())
	h.w.Run("it is home", func() bool { return v.dirty.used.clusters == 0 })
	stages.Open(wal.StageWrite)
	h.w.Run("the write is done", func() bool { return k2.e })
	if k2.q.Status != bdev.StatusOK {
		t.Fatal(k2.q.Status)
	}
	h.forced(v)
	if v.alone != 1 {
		t.Fatalf("%d clusters are written", v.alone)
	}
}
