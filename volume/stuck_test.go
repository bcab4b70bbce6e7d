package volume

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/pollux-storage/pollux/bdev"
	"github.com/pollux-storage/pollux/reactor"
)

// This file is the closing of pools and volumes on a device that does not answer (V-50).

// stuckRig is a pool on a device that can be made to keep requests.
type stuckRig struct {
	*rig
	fault *bdev.Fault
	v     *Volume
	rnd   *rand.Rand
	want  []byte // of the volume's first blocks, as far as they were acknowledged
}

const stuckBlocks = 64

func newStuckRig(t *testing.T, cache WriteCache) *stuckRig {
	t.Helper()
	g, err := reactor.Start(reactor.Config{Cores: []int{-1, -1}, MemoryBytes: 64 << 20})
	if err != nil {
		t.Fatal(err)
	}
	x := &stuckRig{rig: &rig{t: t, group: g, reg: bdev.NewRegistry(g), file: filepath.Join(t.TempDir(), "disk")}, rnd: rand.New(rand.NewPCG(1, 2)), want: pageMemory(stuckBlocks)}
	x.reg.SetGrace(20 * time.Millisecond)
	x.must(os.WriteFile(x.file, nil, 0o600))
	x.must(os.Truncate(x.file, 128<<20))
	_, err = bdev.NewUring(x.reg, "disk", x.file, bdev.UringOptions{})
	x.must(err)
	d, err := bdev.NewFault(x.reg, "fault", "disk", [16]byte{})
	x.must(err)
	x.fault = d.Driver().(*bdev.Fault)
	x.pool, err = CreatePool(x.reg, "fault", x.config())
	x.must(err)
	x.volumeAs("other", CacheNone)
	x.v = x.volumeAs("v0", cache)
	t.Cleanup(func() {
		x.answers()
		_ = x.pool.Export(x.ctx())
		for _, name := range []string{"fault", "disk"} {
			if err := x.reg.Unregister(x.ctx(), name); err != nil {
				t.Error(err)
			}
		}
		if err := g.Stop(x.ctx()); err != nil {
			t.Error(err)
		}
	})
	return x
}

func (x *stuckRig) config() PoolConfig {
	cfg := x.rig.config()
	cfg.CloseLimit = 200 * time.Millisecond
	return cfg
}

func (x *stuckRig) volumeAs(name string, cache WriteCache) *Volume {
	x.t.Helper()
	v, err := x.pool.CreateVolume(VolumeConfig{Name: name, Bytes: 8 << 20, LogBytes: 8 << 20, Cache: cache, Verify: true})
	x.must(err)
	return v
}

// keeps lets the device keep requests.
func (x *stuckRig) keeps(r bdev.Rule) {
	x.t.Helper()
	r.Effect = bdev.EffectPending
	x.must(x.fault.Inject(r))
}

// answers lets it end them.
func (x *stuckRig) answers() {
	x.t.Helper()
	x.fault.Clear(^bdev.KindSet(0))
	x.must(x.fault.Resume())
}

// host is one request of a host.
type hostRequest struct {
	bdev.Request
	ended  chan bdev.Status
	handle *bdev.Handle
	c      *bdev.Channel
	r      *reactor.Reactor
}

func (q *hostRequest) RequestDone(b *bdev.Request) { q.ended <- b.Status }

// begin begins a request of a host that lets the device go when it has ended.
func (x *stuckRig) begin(k bdev.Kind, lba, blocks uint64, data []byte) *hostRequest {
	x.t.Helper()
	q := &hostRequest{ended: make(chan bdev.Status, 1), r: x.group.Reactor(1)}
	q.Kind, q.LBA, q.Blocks, q.Done = k, lba, blocks, q
	q.SetData(data)
	var err error
	q.handle, err = x.reg.Open(x.v.Device().Name(), bdev.OpenOptions{Who: "host"})
	x.must(err)
	x.must(q.r.Call(func() {
		if q.c, err = q.handle.Channel(q.r); err == nil {
			q.c.Submit(&q.Request)
		}
	}))
	x.must(err)
	return q
}

// end waits for it.
func (x *stuckRig) end(q *hostRequest) bdev.Status {
	x.t.Helper()
	s := <-q.ended
	x.must(q.r.Call(func() { q.Release(); q.c.Close() }))
	q.handle.Close()
	return s
}

func (x *stuckRig) write(lba, blocks uint64) {
	x.t.Helper()
	data := pattern(x.rnd, blocks)
	if s := x.end(x.begin(bdev.Write, lba, blocks, data)); s != bdev.StatusOK {
		x.t.Fatal(s)
	}
	copy(x.want[lba*PageBytes:], data)
}

// letGo waits until nobody has the device any more.
func (x *stuckRig) letGo() {
	x.t.Helper()
	d := x.pool.handle.Device()
	for len(d.Users()) > 0 {
		if x.t.Context().Err() != nil {
			x.t.Fatal("the device has answered, and is not let go")
		}
		time.Sleep(time.Millisecond)
	}
}

// again imports the pool.
func (x *stuckRig) again() {
	x.t.Helper()
	var err error
	x.pool, err = ImportPool(x.reg, "fault", x.config())
	x.must(err)
	for _, v := range x.pool.Volumes() {
		if v.Name() == "v0" {
			x.v = v
		}
	}
}

// same imports the pool again and compares.
func (x *stuckRig) same() {
	x.t.Helper()
	x.again()
	got := pageMemory(stuckBlocks)
	if s := x.end(x.begin(bdev.Read, 0, stuckBlocks, got)); s != bdev.StatusOK {
		x.t.Fatal(s)
	}
	if !bytes.Equal(got, x.want) {
		x.t.Fatal("it is not what was acknowledged")
	}
	r, err := x.pool.Check()
	x.must(err)
	if !r.OK() {
		x.t.Fatalf("the pool's check: %q", r.Problems)
	}
	x.write(3, 5)
}

func TestClosingOnADeviceThatDoesNotAnswer(t *testing.T) {
	log := func(x *stuckRig) bdev.Rule {
		e := x.v.page.Log[0]
		return bdev.Rule{Kinds: bdev.SetOf(bdev.Write), First: uint64(e.Place), Blocks: e.Pages}
	}
	behind := func(x *stuckRig) bdev.Rule {
		e := x.v.page.Log[len(x.v.page.Log)-1].End()
		return bdev.Rule{Kinds: bdev.SetOf(bdev.Write), First: uint64(e), Blocks: 1 << 20}
	}
	copies := func(x *stuckRig) bdev.Rule {
		_, err := x.v.CreateSnapshot(SnapshotConfig{Name: "s"})
		x.must(err)
		r := behind(x)
		r.Kinds = bdev.SetOf(bdev.Read)
		return r
	}
	slots := func(*stuckRig) bdev.Rule {
		return bdev.Rule{Kinds: bdev.SetOf(bdev.Write), First: 0, Blocks: uint64(SlotPlace[1]) + 1}
	}
	kinds := func(k ...bdev.Kind) func(*stuckRig) bdev.Rule {
		return func(*stuckRig) bdev.Rule { return bdev.Rule{Kinds: bdev.SetOf(k...)} }
	}
	for _, c := range []struct {
		name  string
		cache WriteCache
		keeps func(x *stuckRig) bdev.Rule
		host  bdev.Kind // of the request that is under way
		ends  bool      // though the device does not answer
	}{
		{"a host's write into the log", CacheNone, log, bdev.Write, false},
		{"the flush behind a host's write", CacheNone, kinds(bdev.Flush), bdev.Write, true},
		{"a host's flush", CacheVolatile, kinds(bdev.Flush), bdev.Flush, true},
		{"a host's read", CacheNone, kinds(bdev.Read), bdev.Read, false},
		{"everything", CacheNone, kinds(bdev.Read, bdev.Write, bdev.Flush, bdev.Unmap), bdev.Write, false},
		{"what goes home, and the map", CacheNone, behind, bdev.Reset, false},
		{"what is copied on its way home", CacheNone, copies, bdev.Reset, false},
		{"the flush before a slot", CacheNone, kinds(bdev.Flush), bdev.Unmap, false},
		{"a slot", CacheNone, slots, bdev.Reset, false},
		{"the flusher's reads of the log", CacheNone, kinds(bdev.Read), bdev.Reset, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			x := newStuckRig(t, c.cache)
			x.write(0, 16)
			x.must(x.v.settleNow())
			if c.host == bdev.Flush {
				x.must(x.v.pool.disk.flush())
			}
			rule := c.keeps(x)
			x.keeps(rule)
			var q *hostRequest
			at, data := uint64(8), pattern(x.rnd, 4)
			if c.ends { // a whole cluster: its data is durable by a flush alone
				at, data = 16, pattern(x.rnd, 16)
			}
			switch c.host {
			case bdev.Reset: // of nobody: what the volume does by itself
				x.write(3, 7)
			case bdev.Unmap: // of nobody either: the last checkpoint
			case bdev.Flush:
				x.write(20, 7)
				q = x.begin(c.host, 0, 0, nil)
			default:
				q = x.begin(c.host, at, uint64(len(data)/PageBytes), data)
			}
			began := time.Now()
			err := x.pool.Export(x.ctx())
			if !errors.Is(err, ErrStuck) || !strings.Contains(err.Error(), "fault has had") {
				t.Fatalf("closing the pool: %v", err)
			}
			if time.Since(began) < x.pool.cfg.CloseLimit {
				t.Error("it did not wait")
			}
			if again := x.pool.Export(x.ctx()); again == nil || again.Error() != err.Error() {
				t.Errorf("closing it twice: %v", again)
			}
			if _, err := ImportPool(x.reg, "fault", x.config()); !errors.Is(err, ErrPoolInUse) {
				t.Errorf("another opens it, and the device has not answered: %v", err)
			}
			if q != nil && c.ends {
				if s := x.end(q); s != bdev.StatusClosed && s != bdev.StatusGone {
					t.Errorf("the host's request: %v", s)
				}
				q = nil
			}
			if q != nil {
				select {
				case s := <-q.ended:
					t.Fatalf("the host's request ends with %v, and the device has its memory", s)
				default:
				}
			}
			d := x.pool.handle.Device()
			under := x.fault.Base() // has what is not kept
			if rule.Kinds.Has(bdev.Write) {
				under = d
			}
			begun := uint64(under.InFlight()) // first: what ends in between counts twice, where it would not count at all
			begun += d.Counted().Kinds[bdev.Write].Ops
			x.answers()
			if q != nil {
				s := x.end(q)
				if c.host == bdev.Write && s == bdev.StatusOK {
					copy(x.want[at*PageBytes:], data)
				} else if c.host == bdev.Write && s != bdev.StatusClosed {
					t.Errorf("the host's write: %v", s)
				}
			}
			x.letGo()
			if n := d.Counted().Kinds[bdev.Write].Ops; n > begun {
				t.Errorf("%d writes were sent to the device after it was given up", n-begun)
			}
			if c.host == bdev.Write { // it may be there or not; the next import has it whole or as it was
				x.maybe(at, data)
			}
			x.same()
		})
	}
}

// maybe notes that blocks may have been written: which it is, the file tells after the next import.
func (x *stuckRig) maybe(lba uint64, data []byte) {
	x.t.Helper()
	old := x.want
	x.want = nil
	defer func() { x.want = old }()
	x.again()
	got := pageMemory(len(data) / PageBytes)
	if s := x.end(x.begin(bdev.Read, lba, uint64(len(data)/PageBytes), got)); s != bdev.StatusOK {
		x.t.Fatal(s)
	}
	if bytes.Equal(got, data) {
		copy(old[lba*PageBytes:], data)
	}
	x.must(x.pool.Export(x.ctx()))
}
