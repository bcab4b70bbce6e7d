package volume

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/google/uuid"

	"github.com/pollux-storage/pollux/bdev"
	"github.com/pollux-storage/pollux/bdev/bdevsim"
	"github.com/pollux-storage/pollux/bdev/bdevtest"
	"github.com/pollux-storage/pollux/internal/sim"
	"github.com/pollux-storage/pollux/reactor"
	"github.com/pollux-storage/pollux/wal"
)

// house is a pool with volumes in a simulated world.
type house struct {
	t    *testing.T
	w    *bdevsim.World
	disk *bdev.Device
	pool *Pool

	handles []*bdev.Handle // of clients
}

var houseServer = uuid.MustParse("6f2c1c0e-3d5a-4a5e-8f0a-2f6b1c9d0e11")

func (h *house) config() PoolConfig {
	return PoolConfig{
		Name: "pool0", Server: houseServer, CacheBytes: 4 << 20, SmallLogs: true,
		Await: func(until func() bool) { h.w.Run("control work", until) },
	}
}

func newHouse(t *testing.T, seed uint64, reactors int, bytes uint64) *house {
	t.Helper()
	return newHouseWith(t, seed, reactors, bytes, func(*PoolConfig) {})
}

// newHouseWith has a pool that is made in another way than usual.
func newHouseWith(t *testing.T, seed uint64, reactors int, bytes uint64, change func(*PoolConfig)) *house {
	t.Helper()
	h := &house{t: t, w: bdevsim.NewWorld(t, seed, reactors)}
	h.disk = h.w.Disk("Disk0", bytes)
	cfg := h.config()
	change(&cfg)
	var err error
	if h.pool, err = CreatePool(h.w.Registry, "Disk0", cfg); err != nil {
		t.Fatal(err)
	}
	return h
}

// newStagedHouse has a pool whose stages can be held, until it is opened again.
func newStagedHouse(t *testing.T, seed uint64, reactors int, bytes uint64) (*house, *wal.Stages) {
	t.Helper()
	stages := new(wal.Stages)
	return newHouseWith(t, seed, reactors, bytes, func(cfg *PoolConfig) { cfg.Stages = stages }), stages
}

func (h *house) volume(name string, bytes uint64) *Volume {
	h.t.Helper()
	return h.volumeOf(VolumeConfig{Name: name, Bytes: bytes, LogBytes: 8 << 20})
}

func (h *house) volumeOf(cfg VolumeConfig) *Volume {
	h.t.Helper()
	v, err := h.pool.CreateVolume(cfg)
	if err != nil {
		h.t.Fatal(err)
	}
	return v
}

// crash takes the power away, and opens the pool again from an image of the disk.
func (h *house) crash(choose func(*sim.Image) *sim.Image) {
	h.t.Helper()
	h.reopen(choose(bdevsim.DiskOf(h.disk).Medium().Snapshot()), h.config())
}

// reopen begins again with an image of the disk, and opens the pool.
func (h *house) reopen(image *sim.Image, cfg PoolConfig) {
	h.t.Helper()
	h.w.Reboot()
	h.disk = h.w.Open("Disk0", image)
	var err error
	if h.pool, err = ImportPool(h.w.Registry, "Disk0", cfg); err != nil {
		h.t.Fatal(err)
	}
}

// exported is the end of an export whose volumes are closed.
func (h *house) exported() error {
	err := h.pool.lastCommit()
	h.pool.release()
	return err
}

func (h *house) find(name string) *Volume {
	h.t.Helper()
	for _, v := range h.pool.volumes {
		if v.page.Name.String() == name {
			return v
		}
	}
	h.t.Fatalf("no volume %s", name)
	return nil
}

// client is somebody who uses a volume from one reactor.
type client struct {
	h *house
	r *reactor.Reactor
	c *bdev.Channel
	q bdev.Request
	e bool

	handle *bdev.Handle
}

// close lets the device go.
func (k *client) close() {
	k.h.t.Helper()
	k.h.w.On(k.r.Index(), func(*reactor.Reactor) { k.c.Close() })
	k.handle.Close()
}

func (h *house) client(v *Volume, core int) *client { return h.clientOf(v.Device(), core) }

// clientOf is one of a device.
func (h *house) clientOf(d *bdev.Device, core int) *client {
	h.t.Helper()
	k := &client{h: h, r: h.w.Reactor(core)}
	var err error
	k.handle, err = h.w.Registry.Open(d.Name(), bdev.OpenOptions{Who: "test"})
	if err != nil {
		h.t.Fatal(err)
	}
	h.w.On(core, func(r *reactor.Reactor) {
		k.c, err = k.handle.Channel(r)
	})
	h.handles = append(h.handles, k.handle)
	if err != nil {
		h.t.Fatal(err)
	}
	k.q.Done = k
	return k
}

func (k *client) RequestDone(*bdev.Request) { k.e = true }

func (k *client) begin(kind bdev.Kind, lba, blocks uint64, data []byte) {
	k.e = false
	k.h.w.On(k.r.Index(), func(*reactor.Reactor) {
		k.q.Kind, k.q.LBA, k.q.Blocks, k.q.FUA = kind, lba, blocks, false
		k.q.SetData(data)
		k.c.Submit(&k.q)
	})
}

func (k *client) do(kind bdev.Kind, lba, blocks uint64, data []byte) bdev.Status {
	k.begin(kind, lba, blocks, data)
	k.h.w.Run(fmt.Sprintf("%v at %d", kind, lba), func() bool { return k.e })
	return k.q.Status
}

func (k *client) must(kind bdev.Kind, lba, blocks uint64, data []byte) {
	k.h.t.Helper()
	if s := k.do(kind, lba, blocks, data); s != bdev.StatusOK {
		k.h.t.Fatalf("%v of %d blocks at %d: %v", kind, blocks, lba, s)
	}
}

// forced brings everything home and moves the tail.
func (h *house) forced(v *Volume) {
	h.t.Helper()
	e := newEvent()
	h.w.On(v.r.Index(), func(*reactor.Reactor) { v.force(e) })
	h.w.Run("everything is home", func() bool { return e.set })
}

func pattern(r *rand.Rand, blocks uint64) []byte {
	b := pageMemory(int(blocks))
	for i := range b {
		b[i] = byte(r.Uint32())
	}
	return b
}

// distinct gives blocks that are the same each time, and none of which is like another.
func distinct(blocks int) []byte {
	b := pageMemory(blocks)
	bdevtest.Fill(b, 1)
	return b
}

// TestWhatIsWrittenIsRead: through the log, at home, over a checkpoint and a power cut.
func TestWhatIsWrittenIsRead(t *testing.T) {
	sim.Each(t, 3, nil, func(t *testing.T, seed uint64) {
		h := newHouse(t, seed, 2, 64<<20)
		v := h.volume("v0", 16<<20)
		const blocks = 16 << 20 / PageBytes
		model := make([]byte, blocks*PageBytes)
		r := sim.Stream(seed, "script")
		for round := range 6 {
			k := h.client(v, round%2)
			for range 60 {
				n := 1 + r.Uint64N(40)
				at := r.Uint64N(blocks - n)
				switch r.Uint32N(10) {
				case 0:
					k.must(bdev.Unmap, at, n, nil)
					clear(model[at*PageBytes:][:n*PageBytes])
				case 1:
					k.must(bdev.WriteZeroes, at, n, nil)
					clear(model[at*PageBytes:][:n*PageBytes])
				case 2, 3, 4:
					got := pageMemory(int(n))
					k.must(bdev.Read, at, n, got)
					if !bytes.Equal(got, model[at*PageBytes:][:n*PageBytes]) {
						t.Fatalf("round %d: blocks %d to %d differ", round, at, at+n)
					}
				default:
					data := pattern(r, n)
					k.must(bdev.Write, at, n, data)
					copy(model[at*PageBytes:], data)
				}
			}
			if round%2 == 1 {
				h.forced(v)
			}
			got := pageMemory(256)
			for at := uint64(0); at < blocks; at += 256 {
				k.must(bdev.Read, at, 256, got)
				if !bytes.Equal(got, model[at*PageBytes:][:256*PageBytes]) {
					t.Fatalf("round %d: something from block %d on differs", round, at)
				}
			}
			if round == 2 || round == 4 {
				h.crash(func(i *sim.Image) *sim.Image { return i.Crash(sim.None) })
				v = h.find("v0")
			}
		}
	})
}

// TestNothingComesHomeUnderARead: whoever looked home before is waited for, however long that takes and whatever timer ends meanwhile.
func TestNothingComesHomeUnderARead(t *testing.T) {
	h := newHouse(t, 1, 1, 64<<20)
	v := h.volume("v0", 16<<20)
	reader, writer := h.client(v, 0), h.client(v, 0)
	old, now := bytes.Repeat([]byte{1}, PageBytes), bytes.Repeat([]byte{2}, PageBytes)
	writer.must(bdev.Write, 0, 1, append(pageMemory(0), old...))
	h.forced(v)
	medium := bdevsim.DiskOf(h.disk).Medium()
	medium.Inject(sim.Fault{Effect: sim.Stick, Kinds: sim.KindsOf(sim.Read), Count: 1})
	got := pageMemory(1)
	reader.begin(bdev.Read, 0, 1, got)
	h.w.RunFor(reactor.Millisecond)
	writer.must(bdev.Write, 0, 1, append(pageMemory(0), now...))
	h.w.On(0, func(*reactor.Reactor) {
		v.force(newEvent())
		v.due()
	})
	h.w.RunFor(reactor.Second)
	if v.flusher.state != flushGrace {
		t.Fatalf("the flusher went on (state %d) while a read was under way", v.flusher.state)
	}
	medium.Heal()
	h.w.Run("the read ends", func() bool { return reader.e })
	if !bytes.Equal(got, old) {
		t.Error("the read that began before the write has something else")
	}
}
