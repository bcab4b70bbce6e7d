package volume

import (
	"fmt"
	"testing"

	"github.com/pollux-storage/pollux/bdev"
	"github.com/pollux-storage/pollux/bdev/bdevsim"
	"github.com/pollux-storage/pollux/internal/sim"
	"github.com/pollux-storage/pollux/wal"
)

// This file is what an import reserves for thick volumes. What is lacking in a floor is asked for with the next checkpoint, so a test that uses the
// volume afterwards never sees an import that forgot something: this one looks before anything else can happen.

// reserved imports an image and looks at what thick volumes have when the first of them begins its life. Of what is free the pool has left so many
// clusters, and no pages beside; it reports false if that is not enough.
func (k *thickHarness) reserved(what string, image *sim.Image, left uint64) bool {
	k.t.Helper()
	k.open(image)
	cfg := k.poolConfig()
	var p *Pool
	await := cfg.Await
	cfg.Await = func(until func() bool) {
		if p != nil && p.alloc != nil && len(p.thicks) == 0 { // and nothing is reserved yet
			for place := make([]Place, 1); p.alloc.Space().Clusters > left && p.alloc.GrantClusters(place, Ordinary) == 1; {
			}
		}
		await(until)
	}
	p, err := openDevice(k.w.Registry, "Disk0", cfg)
	if err != nil {
		k.t.Fatal(err)
	}
	looked := map[*Volume]bool{}
	medium := bdevsim.DiskOf(k.disk).Medium()
	medium.Watch(func(sim.Point) {
		for _, v := range p.thicks {
			if !looked[v] {
				looked[v] = true
				k.hasAll(what, v)
			}
		}
	})
	err = p.arrive(p.load)
	medium.Watch(nil)
	if k.pool = p; err != nil {
		k.t.Fatalf("%s: %v", what, err)
	}
	if len(p.problems) > 0 {
		return false
	}
	if len(looked) != 1 {
		k.t.Fatalf("%s: %d thick volumes were looked at", what, len(looked))
	}
	return true
}

// freeIn is how many clusters are free in an image.
func (k *thickHarness) freeIn(image *sim.Image) uint64 {
	k.t.Helper()
	k.open(image)
	p, err := openDevice(k.w.Registry, "Disk0", k.poolConfig())
	if err != nil {
		k.t.Fatal(err)
	}
	if err := p.arrive(p.load); err != nil {
		k.t.Fatal(err)
	}
	return p.alloc.Space().Clusters
}

// hasAll counts by itself what a volume that is being opened needs: a place for each cluster that has none alone, and a whole map beside what a pass
// of the flusher takes; where a snapshot or a restore is to come, another place for each cluster, and another map.
func (k *thickHarness) hasAll(what string, v *Volume) {
	k.t.Helper()
	x := v.recovery
	if len(v.pool.problems) > 0 { // it has as much as there is
		return
	}
	if x.owed.pages == 0 {
		k.counted++
	}
	need, has := v.shape.thickNeed(v.page.Bytes), v.thick.held
	need.clusters -= int(v.page.ClustersAlone)
	need.pages -= max(v.shape.thickNeed(v.page.Bytes).pages-int(v.page.PagesReserved), 0)
	if len(v.boundaries) > 0 && v.thick.event == thickOut {
		k.events++
		need.clusters = int(v.shape.Clusters(v.page.Bytes)) + x.owed.clusters - x.placesBehind
		need.pages += int(v.shape.mapPages(v.shape.Clusters(v.page.Bytes)))
	}
	if has.clusters < need.clusters || has.pages < need.pages {
		k.t.Fatalf("%s: %d clusters and %d pages are reserved when it is opened, and %d and %d are needed", what, has.clusters, has.pages, need.clusters, need.pages)
	}
}

// TestAnImportReservesAllThatAThickVolumeNeeds at once, with a snapshot to come and changes on both sides of it in the log: with room for more, and
// with no more room than was promised.
func TestAnImportReservesAllThatAThickVolumeNeeds(t *testing.T) {
	k := newThickHarness(t, 1, 72<<20)
	v := k.v[0]
	per := uint64(v.shape.Blocks())
	mine := k.all4[0]
	do := func(at uint64) {
		t.Helper()
		mine.begin(bdev.Write, at, 1, true)
		k.w.Run("a write", func() bool { return !mine.busy })
		if mine.q.Status != bdev.StatusOK {
			t.Fatalf("block %d: %v", at, mine.q.Status)
		}
	}
	for at := uint64(0); at < 10*per; at += per {
		do(at)
	}
	k.trimNeighbour()
	k.forced(v)
	k.cfg.Stages.Shut(wal.StageMap)
	v.force(newEvent())
	k.w.Run("the flusher is held", func() bool { return v.ckpt.step == checkpointPages || v.flusher.state == flushIdle })
	for at := uint64(4); at < 10*per; at += per { // they have places
		do(at)
	}
	for at := 25*per + 4; at < 30*per; at += per { // and these have none
		do(at)
	}
	if err := v.reserveSet("a test"); err != nil {
		t.Fatal(err)
	}
	s := Snapshot{Number: v.snapshots.next, Bytes: v.page.Bytes, Name: Name{'s'}, UUID: houseServer}
	payload := pageMemory(1)
	s.encode(payload)
	if err := v.logNow(wal.KindSnapshot, uint64(s.Number), payload); err != nil {
		t.Fatal(err)
	}
	for at := uint64(0); at < 24*per; at += 2 * per {
		do(at + 5)
	}
	image := bdevsim.DiskOf(k.disk).Medium().Snapshot().Crash(sim.None)
	k.cfg.Stages.Open(wal.StageMap)
	o := k.other(1)
	o.r = k.r
	left := o.freeIn(image)
	for o.reserved(fmt.Sprintf("with %d clusters free", left), image, left) {
		left -= 3
	}
	if o.events == 0 || o.counted == 0 {
		t.Errorf("a snapshot was to come %d times, and clusters were counted one by one %d times", o.events, o.counted)
	}
}
