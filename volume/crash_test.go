package volume

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/pollux-storage/pollux/bdev"
	"github.com/pollux-storage/pollux/bdev/bdevsim"
	"github.com/pollux-storage/pollux/internal/sim"
	"github.com/pollux-storage/pollux/reactor"
	"github.com/pollux-storage/pollux/wal"
)

// This file is the crash harness. Clients on two reactors write to two volumes of one pool; images of the disk are taken at its points.
// Each is opened, compared with the model, checked, written to again, crashed again and opened again.
//
// The model: of each block it knows which writes could be its value. A write is out when another one came after its end and is durable
// (of a read while the world runs: has been acknowledged). Every value says which volume, block and write it is of, so that nothing else
// can pass for one, an older pool's bytes included, of which the medium is full at first.

// crashOp is a change that a client asked for.
type crashOp struct {
	vol         int
	seq         uint32 // 0: zeros
	block, n    uint64
	begun, done int // ticks of the model; 0: not yet
	durable     int
	ok          bool
}

// crashModel is what is known of the volumes.
type crashModel struct {
	tick int
	seq  uint32
	ops  [2][]*crashOp
	by   [2]map[uint64][]*crashOp
}

func newCrashModel() *crashModel {
	m := &crashModel{tick: 1}
	for i := range m.by {
		m.by[i] = map[uint64][]*crashOp{}
	}
	return m
}

func (m *crashModel) add(o *crashOp) {
	m.tick++
	o.begun = m.tick
	m.ops[o.vol] = append(m.ops[o.vol], o)
	for b := o.block; b < o.block+o.n; b++ {
		m.by[o.vol][b] = append(m.by[o.vol][b], o)
	}
}

// flushed makes durable what was acknowledged before a flush began.
func (m *crashModel) flushed(vol, begun int) {
	for _, o := range m.ops[vol] {
		if o.ok && o.done < begun && o.durable == 0 {
			o.durable = m.tick
		}
	}
}

// crashZero is what was there before everything.
var crashZero = &crashOp{done: 1, durable: 1, ok: true}

// allowed says whether a value could be a block's: for what began by `until`, where what ended by `at` must be seen.
func (m *crashModel) allowed(vol int, block uint64, value uint32, at, until int, durable bool) bool {
	list := m.by[vol][block]
	could := func(w *crashOp) bool {
		for _, x := range list {
			end := x.done
			if durable {
				end = x.durable
			}
			if x != w && x.ok && end > 0 && end <= at && w.done > 0 && w.done < x.begun {
				return false
			}
		}
		return true
	}
	if value == 0 && could(crashZero) {
		return true
	}
	for _, w := range list {
		if w.seq == value && w.begun <= until && could(w) {
			return true
		}
	}
	return false
}

func (m *crashModel) history(vol int, block uint64) string {
	s := ""
	for _, w := range m.by[vol][block] {
		s += fmt.Sprintf("\n\tvalue %d, blocks %d to %d: begun %d, done %d (%v), durable %d", w.seq, w.block, w.block+w.n, w.begun, w.done, w.ok, w.durable)
	}
	return s
}

// crashFill makes the pages of a value.
func crashFill(dst []byte, vol int, seq uint32, block uint64) {
	crashFillBlocks(dst, PageBytes, vol, seq, block)
}

// crashFillBlocks makes blocks of another size.
func crashFillBlocks(dst []byte, size, vol int, seq uint32, block uint64) {
	for i := 0; i < len(dst); i += size {
		fillWord(dst[i:i+size], uint64(vol+1)<<56|uint64(seq)<<24|block)
		block++
	}
}

// crashValue reads a block: false if it is no value of this block of this volume, nor zeros.
func crashValue(page []byte, vol int, block uint64) (uint32, bool) {
	if !isOneWord(page) {
		return 0, false
	}
	w := le.Uint64(page)
	if w == 0 {
		return 0, true
	}
	return uint32(w >> 24), w>>56 == uint64(vol+1) && w&(1<<24-1) == block
}

// crashVolume sizes.
const (
	crashPoolBytes = 48 << 20
	crashFullBytes = 23 << 20 // the volumes do not fit
	crashBlocks    = 2000     // 7.8 MiB: the last cluster is not whole, of any size
	crashLogBytes  = 6 << 20

	crashLogDeviceBytes = 16 << 20
)

// crashHarness is the world in which the clients live, or one in which an image is looked at.
type crashHarness struct {
	*house
	r     *rand.Rand
	m     *crashModel
	v     [2]*Volume
	cache [2]WriteCache
	cfg   PoolConfig
	unit  uint64 // bytes of a block

	faulty bool // requests may fail

	logDisk  *bdev.Device // with the logs; nil: they are in the pool
	logImage *sim.Image   // of it, for the next opening; nil: as it is now
}

func (k *crashHarness) names() [2]string { return [2]string{"v0", "v1"} }

func (k *crashHarness) poolConfig() PoolConfig {
	cfg := k.cfg
	cfg.Await = func(until func() bool) { k.w.Run("control work", until) }
	return cfg
}

func newCrashHarness(t *testing.T, seed, bytes uint64) *crashHarness {
	t.Helper()
	return newCrashHarnessWith(t, seed, bytes, false)
}

// newCrashHarnessWith has the logs on a device of their own, or not.
func newCrashHarnessWith(t *testing.T, seed, bytes uint64, logs bool) *crashHarness {
	t.Helper()
	return newCrashHarnessOf(t, seed, bytes, PageBytes, logs)
}

// newCrashHarnessOf has volumes with blocks of so many bytes.
func newCrashHarnessOf(t *testing.T, seed, bytes, unit uint64, logs bool) *crashHarness {
	t.Helper()
	k := &crashHarness{unit: unit, house: &house{t: t, w: bdevsim.NewWorld(t, seed, 2)}, r: sim.Stream(seed, "script"), m: newCrashModel()}
	k.disk = k.w.Disk("Disk0", bytes)
	medium := bdevsim.DiskOf(k.disk).Medium()
	old := make([]byte, 1<<20) // bytes of an older pool
	for i := range old {
		old[i] = 0xa5
	}
	for at := uint64(0); at < bytes; at += 1 << 20 {
		medium.Spoil(at, old)
	}
	k.cfg = PoolConfig{Name: "pool0", Server: houseServer, CacheBytes: 1 << 20 << k.r.Uint32N(3), ClusterBytes: 64 << 10 << k.r.Uint32N(3), SmallLogs: true, Stages: new(wal.Stages)}
	k.cache = [2]WriteCache{CacheNone, CacheVolatile}
	if logs {
		k.cfg.LogDevice = "Log0"
		k.logDisk = k.w.Disk("Log0", crashLogDeviceBytes)
	}
	var err error
	if k.pool, err = CreatePool(k.w.Registry, "Disk0", k.poolConfig()); err != nil {
		t.Fatal(err)
	}
	for i, name := range k.names() {
		k.v[i], err = k.pool.CreateVolume(VolumeConfig{
			Name: name, Bytes: crashBlocks * unit, BlockBytes: uint32(unit), LogBytes: crashLogBytes, Cache: k.cache[i], Verify: true,
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	return k
}

// crashClient does one thing at a time.
type crashClient struct {
	*client
	k     *crashHarness
	vol   int
	busy  bool
	op    *crashOp
	begun int
	data  []byte
}

func (c *crashClient) begin(kind bdev.Kind, block, n uint64, fua bool) {
	k := c.k
	c.busy, c.op = true, nil
	var data []byte
	switch kind {
	case bdev.Read:
		k.m.tick++
		data = c.data[:n*k.unit]
	case bdev.Flush:
		k.m.tick++
	default:
		c.op = &crashOp{vol: c.vol, block: block, n: n}
		if kind == bdev.Write {
			k.m.seq++
			c.op.seq = k.m.seq
			data = c.data[:n*k.unit]
			crashFillBlocks(data, int(k.unit), c.vol, c.op.seq, block)
		}
		k.m.add(c.op)
	}
	c.begun = k.m.tick
	c.q.Done = c
	k.w.On(c.r.Index(), func(*reactor.Reactor) {
		c.q.Kind, c.q.LBA, c.q.Blocks, c.q.FUA = kind, block, n, fua
		c.q.SetData(data)
		c.c.Submit(&c.q)
	})
}

func (c *crashClient) RequestDone(q *bdev.Request) {
	k, m := c.k, c.k.m
	c.busy = false
	m.tick++
	switch {
	case q.Kind == bdev.Read:
		if q.Status != bdev.StatusOK && k.faulty {
			return
		}
		if q.Status != bdev.StatusOK {
			k.t.Errorf("reading %d blocks at %d of volume %d: %v", q.Blocks, q.LBA, c.vol, q.Status)
			return
		}
		k.compare("a read", c.vol, q.LBA, c.data[:q.Blocks*k.unit], c.begun, m.tick, false)
	case q.Kind == bdev.Flush:
		if q.Status == bdev.StatusOK {
			m.flushed(c.vol, c.begun)
		}
	default:
		c.op.done, c.op.ok = m.tick, q.Status == bdev.StatusOK
		if c.op.ok && (q.FUA || k.cache[c.vol] == CacheNone) {
			c.op.durable = m.tick
		}
		if s := q.Status; s != bdev.StatusOK && s != bdev.StatusNoSpace && s != bdev.StatusBusy && !k.faulty {
			k.t.Errorf("%v of %d blocks at %d of volume %d: %v", q.Kind, q.Blocks, q.LBA, c.vol, s)
		}
	}
}

// compare compares blocks with the model.
func (k *crashHarness) compare(what string, vol int, block uint64, data []byte, at, until int, durable bool) {
	k.t.Helper()
	for ; len(data) > 0; data, block = data[k.unit:], block+1 {
		value, ok := crashValue(data[:k.unit], vol, block)
		if ok && k.m.allowed(vol, block, value, at, until, durable) {
			continue
		}
		if !ok {
			k.t.Fatalf("%s: block %d of volume %d has foreign bytes: % x", what, block, vol, data[:16])
		}
		k.t.Fatalf("%s: block %d of volume %d has value %d; what must be seen ended by %d; it may be of:%s", what, block, vol, value, at, k.m.history(vol, block))
	}
}

func (k *crashHarness) clients(n int) []*crashClient {
	var all []*crashClient
	for i := range n {
		all = append(all, &crashClient{client: k.client(k.v[i%2], i/2%2), k: k, vol: i % 2, data: pageMemory(256)})
	}
	return all
}

// random begins something.
func (c *crashClient) random(r *rand.Rand) {
	n, per := 1+r.Uint64N(8), min(c.k.v[0].shape.ClusterBytes()/c.k.unit, 256)
	switch r.Uint32N(8) {
	case 0:
		n = 1 + r.Uint64N(256)
	case 1, 2:
		n = per * (1 + r.Uint64N(256/per))
	}
	at := r.Uint64N(crashBlocks - n + 1)
	if r.Uint32N(2) == 0 {
		at -= at % per
	}
	if r.Uint32N(2) == 0 { // many writes to few blocks
		at %= 4 * per
	}
	switch r.Uint32N(16) {
	case 0, 1:
		c.begin(bdev.Unmap, at, n, false)
	case 2:
		c.begin(bdev.WriteZeroes, at, n, false)
	case 3, 4:
		c.begin(bdev.Flush, 0, 0, false)
	case 5, 6, 7:
		c.begin(bdev.Read, at, n, false)
	default:
		c.begin(bdev.Write, at, n, r.Uint32N(8) == 0)
	}
}

// work lets clients do so many things, and now and then brings everything home.
func (k *crashHarness) work(all []*crashClient, n int) {
	k.t.Helper()
	for n > 0 && !k.t.Failed() {
		for _, c := range all {
			if !c.busy && n > 0 {
				if k.r.Uint32N(40) == 0 {
					k.w.On(k.v[c.vol].r.Index(), func(*reactor.Reactor) { k.v[c.vol].force(newEvent()) })
				}
				c.random(k.r)
				n--
			}
		}
		if k.r.Uint32N(50) == 0 {
			k.w.RunFor(200 * reactor.Millisecond)
		}
		k.w.Run("a client is done", func() bool {
			for _, c := range all {
				if !c.busy {
					return true
				}
			}
			return false
		})
	}
}

func (k *crashHarness) rest(all []*crashClient) {
	k.t.Helper()
	k.w.Run("all clients are done", func() bool {
		for _, c := range all {
			if c.busy {
				return false
			}
		}
		return true
	})
}

// crashImage is an image and when it was taken.
type crashImage struct {
	image *sim.Image
	log   *sim.Image // of the log device, if there is one
	tick  int
	where string
}

// watch takes images at the disk's points, so many at most.
func (k *crashHarness) watch(one uint32, most int) *[]crashImage {
	images := new([]crashImage)
	medium := bdevsim.DiskOf(k.disk).Medium()
	var log *sim.Disk
	if k.logDisk != nil {
		log = bdevsim.DiskOf(k.logDisk).Medium()
	}
	take := func(p sim.Point) {
		if len(*images) < most && k.r.Uint32N(one) == 0 {
			i := crashImage{image: medium.Snapshot(), tick: k.m.tick, where: p.String()}
			if log != nil {
				i.log = log.Snapshot()
			}
			*images = append(*images, i)
		}
	}
	medium.Watch(take)
	if log != nil {
		log.Watch(take)
	}
	return images
}

// open opens the pool from an image in this world.
func (k *crashHarness) open(image *sim.Image) {
	k.t.Helper()
	log := k.logImage
	if k.logDisk != nil && log == nil {
		log = bdevsim.DiskOf(k.logDisk).Medium().Snapshot()
	}
	k.w.Reboot()
	k.disk = k.w.Open("Disk0", image)
	if log != nil {
		k.logDisk = k.w.Open("Log0", log.Crash(sim.Random(k.r, k.r.Float64())))
	}
	k.logImage = nil
}

func (k *crashHarness) importPool() {
	k.t.Helper()
	var err error
	if k.pool, err = ImportPool(k.w.Registry, "Disk0", k.poolConfig()); err != nil {
		k.t.Fatal(err)
	}
	for i, name := range k.names() {
		k.v[i] = k.find(name)
		if k.v[i].failed != bdev.StatusOK {
			k.t.Fatalf("volume %d is %v after a power cut: %q", i, k.v[i].failed, k.pool.problems)
		}
	}
}

// all reads both volumes.
func (k *crashHarness) all() [2][]byte {
	k.t.Helper()
	var got [2][]byte
	for i := range got {
		got[i] = pageMemory(int(crashBlocks*k.unit+PageBytes-1) / PageBytes)[:crashBlocks*k.unit]
		c := k.client(k.v[i], i)
		for at := uint64(0); at < crashBlocks; at += 250 {
			c.must(bdev.Read, at, 250, got[i][at*k.unit:][:250*k.unit])
		}
	}
	return got
}

func (k *crashHarness) checked() {
	k.t.Helper()
	r, err := k.pool.Check()
	if err != nil {
		k.t.Fatal(err)
	}
	if !r.OK() {
		k.t.Fatalf("the pool's check finds %d lost, %d free, %d twice: %q", r.Lost, r.Free, r.Twice, r.Problems)
	}
}

// prove opens an image and holds it against the model: twice, since the second time it is crashed within the recovery.
func (k *crashHarness) prove(i crashImage, image *sim.Image) {
	k.t.Helper()
	what := fmt.Sprintf("image at %s, tick %d, %s", i.where, i.tick, image)
	k.logImage = i.log
	k.open(image)
	if k.r.Uint32N(3) == 0 {
		what += k.spoilSlot()
	}
	inside := k.watch(3, 1+k.r.IntN(4))
	k.importPool()
	got := k.all()
	for vol := range got {
		k.compare(what, vol, 0, got[vol], i.tick, i.tick, true)
	}
	k.checked()
	if n := len(*inside); n > 0 {
		again := (*inside)[n-1]
		for image := range again.image.Images(2, k.r.Uint64()) {
			k.logImage = again.log
			k.open(image)
			k.importPool()
			second := k.all()
			for vol := range second {
				if at := differs(got[vol], second[vol]); at >= 0 {
					k.t.Fatalf("%s, then at %s within recovery, %s: block %d of volume %d is another than without that", what, again.where, image, at, vol)
				}
			}
			if k.r.Uint32N(2) == 0 {
				break
			}
		}
	}
	k.writeAgain(what, got)
}

// writeAgain writes to what was found, with a model that begins with that, crashes, and looks again.
func (k *crashHarness) writeAgain(what string, got [2][]byte) {
	k.t.Helper()
	before := k.m
	k.faulty = false
	k.m = newCrashModel()
	k.m.seq = before.seq + 1<<20
	for vol := range got {
		for b := range uint64(crashBlocks) {
			if seq, _ := crashValue(got[vol][b*k.unit:][:k.unit], vol, b); seq != 0 {
				k.m.by[vol][b] = []*crashOp{{vol: vol, seq: seq, block: b, n: 1, begun: 1, done: 1, durable: 1, ok: true}}
			}
		}
	}
	k.m.tick = 2
	clients := k.clients(4)
	k.work(clients, 12)
	k.rest(clients)
	for _, c := range clients[:2] {
		c.begin(bdev.Flush, 0, 0, false)
	}
	k.rest(clients)
	tick := k.m.tick
	k.open(bdevsim.DiskOf(k.disk).Medium().Snapshot().Crash(sim.Random(k.r, k.r.Float64())))
	k.importPool()
	for vol, b := range k.all() {
		k.compare(what+", written to again", vol, 0, b, tick, tick, true)
	}
	k.checked()
	k.m = before
}

// spoilSlot makes the newest slot unreadable, if the other one is valid: all that was durable must be there by the older one as well, though
// places and log have been used again since (V-12, V-13).
func (k *crashHarness) spoilSlot() string {
	medium := bdevsim.DiskOf(k.disk).Medium()
	buf := make([]byte, PageBytes)
	var slots [2]Slot
	for i, at := range SlotPlace {
		medium.ReadAt(buf, at.Byte())
		if slots[i].Decode(buf, uint32(i)) != nil {
			return ""
		}
	}
	i := 0
	if slots[1].Generation > slots[0].Generation {
		i = 1
	}
	if slots[1-i].Volumes < 2 {
		return ""
	}
	for at := range buf {
		buf[at] = byte(k.r.Uint32())
	}
	medium.Spoil(SlotPlace[i].Byte()+512*k.r.Uint64N(8), buf[:512])
	return ", the newest slot spoiled"
}

func differs(a, b []byte) int {
	for at := 0; at < len(a); at += PageBytes {
		if string(a[at:at+PageBytes]) != string(b[at:at+PageBytes]) {
			return at / PageBytes
		}
	}
	return -1
}

// TestPowerCutsLoseNothing is the harness.
func TestPowerCutsLoseNothing(t *testing.T) {
	sim.Each(t, 3, nil, func(t *testing.T, seed uint64) {
		bytes := uint64(crashPoolBytes)
		if seed%3 == 0 {
			bytes = crashFullBytes
		}
		powerCuts(t, seed, newCrashHarness(t, seed, bytes))
	})
}

// TestPowerCutsLoseNothingWithALogDevice is the same on two devices, of which each keeps what it likes.
func TestPowerCutsLoseNothingWithALogDevice(t *testing.T) {
	sim.Each(t, 3, nil, func(t *testing.T, seed uint64) {
		powerCuts(t, seed, newCrashHarnessWith(t, seed, crashPoolBytes, true))
	})
}

// TestPowerCutsLoseNoPartOfABlock is the harness with volumes whose blocks are parts of their own.
func TestPowerCutsLoseNoPartOfABlock(t *testing.T) {
	sim.Each(t, 3, nil, func(t *testing.T, seed uint64) {
		powerCuts(t, seed, newCrashHarnessOf(t, seed, crashPoolBytes, 512, false))
	})
}

func powerCuts(t *testing.T, seed uint64, k *crashHarness) {
	t.Helper()
	clients := k.clients(4)
	k.work(clients, 100)
	images := k.watch(90, 4)
	k.work(clients, 150)
	k.rest(clients)
	k.checked()
	for vol, b := range k.all() {
		k.compare("without a power cut", vol, 0, b, k.m.tick, k.m.tick, false)
	}
	other := *k
	other.house = &house{t: t, w: bdevsim.NewWorld(t, seed+1<<32, 2)}
	for n, i := range *images {
		for image := range i.image.Images(3, seed+uint64(n)) {
			other.prove(i, image)
			if k.r.Uint32N(2) == 0 {
				break
			}
		}
	}
}

// TestALogWithMoreThanTheDirtyMapHolds: what is home before a checkpoint has left the dirty map, and is dirty again after a power cut.
func TestALogWithMoreThanTheDirtyMapHolds(t *testing.T) {
	h, stages := newStagedHouse(t, 1, 1, 512<<20)
	v := h.volumeOf(VolumeConfig{Name: "v0", Bytes: 512 << 20, LogBytes: crashLogBytes})
	k := h.client(v, 0)
	data := pageMemory(4)
	crashFill(data, 0, 7, 5000)
	k.must(bdev.Write, 5000, 4, data)
	stages.Shut(wal.StageMap)
	k.begin(bdev.Unmap, 0, 5000, nil)
	h.w.RunFor(4 * reactor.Second)
	k2 := h.client(v, 0)
	k2.begin(bdev.Unmap, 5004, 512<<20/PageBytes-5004, nil)
	h.w.RunFor(4 * reactor.Second)
	if n, most := v.admitted.minus(v.older.passed).clusters, v.dirty.limit.clusters; n <= most {
		t.Fatalf("the log has %d clusters only, and the dirty map has room for %d", n, most)
	}
	h.crash(func(i *sim.Image) *sim.Image { return i.Crash(sim.All) })
	v = h.find("v0")
	k = h.client(v, 0)
	got := pageMemory(4)
	k.must(bdev.Read, 5000, 4, got)
	if !bytes.Equal(got, data) {
		t.Fatal("what was written is not there")
	}
	k.must(bdev.Write, 9000, 4, data)
	h.forced(v)
	if r, err := h.pool.Check(); err != nil || !r.OK() {
		t.Fatal(err, r)
	}
}

// TestAFullPoolGoesOn: writes fail for want of space, and only those that need some; nothing else stops; a power cut leaves a pool that opens;
// what is trimmed makes room again (V-27).
func TestAFullPoolGoesOn(t *testing.T) {
	sim.Each(t, 2, nil, func(t *testing.T, seed uint64) {
		k := newCrashHarness(t, seed, crashFullBytes)
		all := k.clients(2)
		per := uint64(k.v[0].shape.Blocks())
		var full [2]bool
		do := func(c *crashClient, kind bdev.Kind, at, n uint64) bdev.Status {
			c.begin(kind, at, n, false)
			k.rest(all)
			return c.q.Status
		}
		fill := func() {
			full = [2]bool{}
			for i := uint64(0); !full[0] || !full[1]; i++ {
				c := all[i%2]
				at := i / 2 * per
				if at+per > crashBlocks {
					break
				}
				n := per
				if i/2%3 == 0 {
					n = 1 + k.r.Uint64N(per)
				}
				if s := do(c, bdev.Write, at, n); s == bdev.StatusNoSpace {
					full[c.vol] = true
				} else if s != bdev.StatusOK {
					t.Fatalf("filling the pool: %v", s)
				}
			}
			if !full[0] || !full[1] {
				t.Fatal("the pool is not full")
			}
		}
		fill()
		for round := range 3 {
			for _, c := range all {
				if s := do(c, bdev.Read, 0, 64); s != bdev.StatusOK {
					t.Fatalf("reading from a full pool: %v", s)
				}
				if s := do(c, bdev.Flush, 0, 0); s != bdev.StatusOK {
					t.Fatalf("flushing a full pool: %v", s)
				}
			}
			tick := k.m.tick
			k.open(bdevsim.DiskOf(k.disk).Medium().Snapshot().Crash(sim.Random(k.r, k.r.Float64())))
			k.importPool()
			for vol, b := range k.all() {
				k.compare("a full pool", vol, 0, b, tick, tick, true)
			}
			k.checked()
			all = k.clients(2)
			if round == 2 {
				break
			}
			for _, c := range all {
				if s := do(c, bdev.Unmap, 0, 16*per); s != bdev.StatusOK {
					t.Fatalf("trimming in a full pool: %v", s)
				}
			}
			for i, c := range all {
				if s := do(c, bdev.Write, uint64(i)*per, 2*per); s != bdev.StatusOK {
					t.Fatalf("writing where room was made: %v; %+v", s, k.pool.alloc.Space())
				}
			}
			fill()
		}
	})
}

// TestTheLogOfTheOlderSlotIsNotUsedAgain: writers fill the log while a checkpoint is held, then the newest slot is lost (V-13).
func TestTheLogOfTheOlderSlotIsNotUsedAgain(t *testing.T) {
	k := newCrashHarness(t, 1, crashPoolBytes)
	c, v := k.clients(1)[0], k.v[0]
	n := uint64(0)
	write := func() bool {
		c.begin(bdev.Write, n%(crashBlocks/16)*16+1, 15, false)
		n++
		k.w.RunFor(20 * reactor.Millisecond)
		return !c.busy
	}
	k.forced(v)
	k.cfg.Stages.Shut(wal.StageMap) // the first checkpoint is of few writes, the second of many
	write()
	k.w.On(v.r.Index(), func(*reactor.Reactor) { v.force(newEvent()) })
	k.w.Run("a checkpoint is held", func() bool { return k.cfg.Stages.Waiting(wal.StageMap) > 0 })
	for range 45 {
		write()
	}
	k.cfg.Stages.Open(wal.StageMap)
	k.w.Run("the slots are far apart", func() bool { return v.newer.offset-v.older.offset > crashLogBytes*35/100 })
	k.cfg.Stages.Shut(wal.StageMap)
	for write() {
		if n > 1000 {
			t.Fatal("the log does not become full")
		}
	}
	image := bdevsim.DiskOf(k.disk).Medium().Snapshot().Crash(sim.None)
	k.cfg.Stages = nil
	k.open(image)
	if k.spoilSlot() == "" {
		t.Fatal("there is no older slot")
	}
	tick := k.m.tick
	k.importPool()
	for vol, b := range k.all() {
		k.compare("opened by the older slot", vol, 0, b, tick, tick, true)
	}
	k.checked()
}
