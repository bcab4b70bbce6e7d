package volume

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/pollux-storage/pollux/bdev"
	"github.com/pollux-storage/pollux/internal/sim"
	"github.com/pollux-storage/pollux/reactor"
)

// TestAnInterruptedDeletionIsFinished interrupts a deletion at each of its commits and takes the power: the volume is whole, or the
// next import deletes it; and in the end the pool has given up exactly what the volume had.
func TestAnInterruptedDeletionIsFinished(t *testing.T) {
	for most := 1; most <= 9; most++ {
		t.Run(fmt.Sprint("step ", most), func(t *testing.T) {
			h := newHouse(t, 1, 1, 128<<20)
			h.volume("stays", 8<<20)
			h.forced(h.find("stays"))
			before := h.pool.alloc.Space().Root
			v := h.volume("goes", 64<<20)
			k := h.client(v, 0)
			data := pageMemory(int(v.shape.Blocks()) + 1)
			for at := uint64(0); at < v.page.Bytes/PageBytes; at += uint64(10 * v.shape.Blocks()) {
				k.must(bdev.Write, at, uint64(len(data)/PageBytes), data)
			}
			if err := v.Close(); err != nil {
				t.Fatal(err)
			}
			x := &eraser{p: h.pool, v: v, page: v.page, step: 32, most: most}
			err := x.run()
			if err != nil && !errors.Is(err, errInterrupted) {
				t.Fatal(err)
			}
			if err == nil && most < 7 {
				t.Fatalf("the deletion ended before step %d: it has too few to be interrupted", most)
			}
			h.crash(func(i *sim.Image) *sim.Image { return i.Crash(sim.None) })
			if len(h.pool.problems) > 0 {
				t.Fatal(h.pool.problems)
			}
			switch n := len(h.pool.volumes); {
			case most == 1 && n != 2:
				t.Fatalf("%d volumes, though the deletion had not begun", n)
			case most == 1:
				v = h.find("goes")
				if err := v.Close(); err != nil {
					t.Fatal(err)
				}
				if err := h.pool.erase(v); err != nil {
					t.Fatal(err)
				}
			case n != 1:
				t.Fatalf("%d volumes, though one was deleted", n)
			}
			if got := h.pool.alloc.Space().Root; got != before {
				t.Errorf("the root has %d pages, %d before the volume was made", got, before)
			}
		})
	}
}

// rig is a pool on a file, with real reactors.
type rig struct {
	t     *testing.T
	group *reactor.Group
	reg   *bdev.Registry
	pool  *Pool
	file  string
}

func newRig(t *testing.T) *rig {
	t.Helper()
	g, err := reactor.Start(reactor.Config{Cores: []int{-1}, MemoryBytes: 64 << 20})
	if err != nil {
		t.Fatal(err)
	}
	r := &rig{t: t, group: g, reg: bdev.NewRegistry(g), file: filepath.Join(t.TempDir(), "disk")}
	if err := os.WriteFile(r.file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(r.file, 128<<20); err != nil {
		t.Fatal(err)
	}
	if _, err := bdev.NewUring(r.reg, "disk", r.file, bdev.UringOptions{}); err != nil {
		t.Fatal(err)
	}
	if r.pool, err = CreatePool(r.reg, "disk", r.config()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = r.pool.Export(r.ctx())
		if err := r.reg.Unregister(r.ctx(), "disk"); err != nil {
			t.Error(err)
		}
		if err := g.Stop(r.ctx()); err != nil {
			t.Error(err)
		}
	})
	return r
}

func (r *rig) config() PoolConfig {
	return PoolConfig{Name: "pool0", Server: houseServer, CacheBytes: 4 << 20, SmallLogs: true}
}

func (r *rig) ctx() context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	r.t.Cleanup(cancel)
	return ctx
}

func (r *rig) must(err error) {
	r.t.Helper()
	if err != nil {
		r.t.Fatal(err)
	}
}

// again exports the pool and imports it.
func (r *rig) again() {
	r.t.Helper()
	r.must(r.pool.Export(r.ctx()))
	var err error
	r.pool, err = ImportPool(r.reg, "disk", r.config())
	r.must(err)
}

func (r *rig) volume(name string, bytes uint64) *Volume {
	r.t.Helper()
	v, err := r.pool.CreateVolume(VolumeConfig{Name: name, Bytes: bytes, LogBytes: 8 << 20})
	r.must(err)
	return v
}

// io does one request by the device's alias.
func (r *rig) io(name string, kind bdev.Kind, lba uint64, data []byte) bdev.Status {
	r.t.Helper()
	h, err := r.reg.Open(name, bdev.OpenOptions{Who: "test"})
	r.must(err)
	defer h.Close()
	cs, err := h.Channels()
	r.must(err)
	defer bdev.CloseChannels(cs)
	q := &diskRequest{event: newEvent()}
	q.Kind, q.Done, q.LBA, q.Blocks = kind, q, lba, uint64(len(data)/PageBytes)
	r.must(r.group.Reactor(0).Call(func() {
		q.SetData(data)
		cs[0].Submit(&q.Request)
	}))
	<-q.done
	r.must(r.group.Reactor(0).Call(q.Release))
	return q.s
}

func (r *rig) find(name string) *Volume {
	r.t.Helper()
	for _, v := range r.pool.Volumes() {
		if v.Name() == name {
			return v
		}
	}
	r.t.Fatalf("no volume %s", name)
	return nil
}

func TestNamesCachesAndProtectionOutliveAnImport(t *testing.T) {
	r := newRig(t)
	v := r.volume("a", 16<<20)
	r.volume("b", 16<<20)
	data := pattern(rand.New(rand.NewPCG(1, 2)), 8)
	if s := r.io("pool0/a", bdev.Write, 3, data); s != bdev.StatusOK {
		t.Fatal(s)
	}
	if err := r.pool.RenameVolume(v, "b"); !errors.Is(err, ErrExists) {
		t.Errorf("a name that is taken: %v", err)
	}
	if _, err := r.pool.CreateVolume(VolumeConfig{Name: "b", Bytes: 1 << 20}); !errors.Is(err, ErrExists) {
		t.Errorf("a second volume of that name: %v", err)
	}
	r.must(r.pool.RenameVolume(v, "c"))
	r.must(r.pool.Rename("pool1"))
	v, err := r.pool.SetWriteCache(r.ctx(), v, CacheVolatile)
	r.must(err)
	r.must(v.SetReadOnly(true))
	check := func() {
		t.Helper()
		got := pageMemory(8)
		if s := r.io("pool1/c", bdev.Read, 3, got); s != bdev.StatusOK || !bytes.Equal(got, data) {
			t.Errorf("what was written under the old names reads %v, the same: %v", s, bytes.Equal(got, data))
		}
		if s := r.io("pool1/c", bdev.Write, 3, data); s == bdev.StatusOK {
			t.Error("a write to a volume that is read only was taken")
		}
		i, err := r.find("c").Info()
		r.must(err)
		if g := r.find("c").Device().Geometry(); i.Cache != CacheVolatile || !g.Volatile || !i.ReadOnly {
			t.Errorf("%+v", i)
		}
		for _, old := range []string{"pool0/a", "pool1/a", "pool0/c", "pool0/b"} {
			if _, err := r.reg.Lookup(old); err == nil {
				t.Errorf("the old name %s leads to a device", old)
			}
		}
	}
	check()
	r.again()
	if r.pool.Name() != "pool1" {
		t.Errorf("the pool is called %s", r.pool.Name())
	}
	check()
	r.must(r.find("c").SetReadOnly(false))
	if s := r.io("pool1/c", bdev.Write, 3, data); s != bdev.StatusOK {
		t.Error(s)
	}
}

func TestAWriteCacheIsNotChangedUnderAHost(t *testing.T) {
	r := newRig(t)
	v := r.volume("a", 16<<20)
	h, err := r.reg.Open("pool0/a", bdev.OpenOptions{Who: "a subsystem"})
	r.must(err)
	if _, err := r.pool.SetWriteCache(r.ctx(), v, CacheVolatile); !errors.Is(err, ErrBusy) {
		t.Errorf("%v", err)
	}
	h.Close()
}

func TestDeletionGivesBackWhatAVolumeHad(t *testing.T) {
	r := newRig(t)
	r.volume("stays", 8<<20)
	var free []uint64
	data := pageMemory(32)
	for range 4 {
		v := r.volume("goes", 64<<20)
		for at := range uint64(16) {
			if s := r.io("pool0/goes", bdev.Write, at*100, data); s != bdev.StatusOK {
				t.Fatal(s)
			}
		}
		var done, total uint64
		r.must(r.pool.DeleteVolume(r.ctx(), v, func(d, n uint64) { done, total = d, n }))
		if total != 1024 || done > total {
			t.Errorf("its progress: %d of %d", done, total)
		}
		r.must(r.pool.change(&commitMessage{}))
		r.must(r.pool.change(&commitMessage{}))
		r.must(r.pool.change(&commitMessage{}))
		i, err := r.pool.Info()
		r.must(err)
		free = append(free, i.Space.Root)
	}
	if free[0] != free[1] || free[1] != free[2] || free[2] != free[3] {
		t.Errorf("the pool's root after each deletion: %v pages", free)
	}
	r.again()
	if n := len(r.pool.Volumes()); n != 1 {
		t.Errorf("%d volumes", n)
	}
}

func TestADeletionThatIsCancelledGoesOnAtTheNextImport(t *testing.T) {
	r := newRig(t)
	v := r.volume("goes", 64<<20)
	if s := r.io("pool0/goes", bdev.Write, 7, pageMemory(32)); s != bdev.StatusOK {
		t.Fatal(s)
	}
	ctx, cancel := context.WithCancel(t.Context())
	err := r.pool.DeleteVolume(ctx, v, func(uint64, uint64) { cancel() })
	if !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
	i, err := r.pool.Info()
	r.must(err)
	if len(i.Problems) != 1 || i.Volumes != 0 {
		t.Errorf("%+v", i)
	}
	used := i.Space.Root
	r.again()
	i, err = r.pool.Info()
	r.must(err)
	if len(i.Problems) != 0 || i.Volumes != 0 || i.Space.Root+8<<20/PageBytes > used {
		t.Errorf("after the import, of %d pages before: %+v", used, i)
	}
}

func TestAPoolGrowsWithItsDevice(t *testing.T) {
	r := newRig(t)
	r.volume("a", 64<<20)
	r.must(r.pool.Grow()) // nothing to gain
	r.must(os.Truncate(r.file, 1<<30))
	d, err := r.reg.Lookup("disk")
	r.must(err)
	r.must(d.Driver().(*bdev.Uring).Rescan(d))
	r.must(r.pool.Grow())
	i, err := r.pool.Info()
	r.must(err)
	if i.Clusters != 1<<30>>16 || i.ClustersFree < 800<<20>>16 {
		t.Errorf("%d clusters, %d free", i.Clusters, i.ClustersFree)
	}
	data := pattern(rand.New(rand.NewPCG(1, 2)), 64)
	big := r.volume("b", 800<<20)
	for at := uint64(0); at+64 <= big.page.Bytes/PageBytes; at += 400 {
		if s := r.io("pool0/b", bdev.Write, at, data); s != bdev.StatusOK {
			t.Fatal(s)
		}
	}
	r.again()
	got := pageMemory(64)
	for at := uint64(0); at+64 <= big.page.Bytes/PageBytes; at += 400 {
		if s := r.io("pool0/b", bdev.Read, at, got); s != bdev.StatusOK || !bytes.Equal(got, data) {
			t.Fatalf("block %d: %v", at, s)
		}
	}
}

func TestADestroyedPoolIsNotFoundAgain(t *testing.T) {
	r := newRig(t)
	r.volume("a", 64<<20)
	if x, err := Examine(r.reg, "disk", r.config()); err != nil || !x.Pool {
		t.Errorf("a pool that is there: %v, %v", x.Pool, err)
	}
	r.must(r.pool.Destroy(r.ctx()))
	if x, err := Examine(r.reg, "disk", r.config()); err != nil || x.Pool {
		t.Errorf("a pool that is not there: %v, %v", x.Pool, err)
	}
	if err := r.pool.Rename("x"); !errors.Is(err, ErrPoolGone) {
		t.Error(err)
	}
	if _, err := r.pool.CreateVolume(VolumeConfig{Name: "b", Bytes: 1 << 20}); !errors.Is(err, ErrPoolGone) {
		t.Error(err)
	}
}

func TestAPoolOfAnotherServer(t *testing.T) {
	r := newRig(t)
	r.must(r.pool.Export(r.ctx()))
	other := PoolConfig{Server: uuid.New()}
	if _, err := ImportPool(r.reg, "disk", other); !errors.Is(err, ErrPoolForeign) {
		t.Errorf("%v", err)
	}
	other.TakeOver = true
	p, err := ImportPool(r.reg, "disk", other)
	r.must(err)
	r.must(p.Export(r.ctx()))
}
