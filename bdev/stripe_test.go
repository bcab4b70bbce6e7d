package bdev_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/pollux-storage/pollux/bdev"
	"github.com/pollux-storage/pollux/bdev/bdevtest"
	"github.com/pollux-storage/pollux/reactor"
)

// stripe makes one of members that are made one by one, each with a name and a size of its own.
func stripe(level bdev.StripeLevel, strip uint64, sizes []int64, member func(t bdevtest.T, g *bdev.Registry, name string, blockSize uint32, bytes int64)) maker {
	return func(t bdevtest.T, g *bdev.Registry, blockSize uint32) *bdev.Device {
		o := bdev.StripeOptions{Level: level, StripBytes: strip}
		for i, n := range sizes {
			o.Members = append(o.Members, fmt.Sprintf("m%d", i))
			member(t, g, o.Members[i], blockSize, n)
		}
		return must(t)(bdev.NewStripe(g, "Stripe0", o))
	}
}

func memMember(t bdevtest.T, g *bdev.Registry, name string, blockSize uint32, bytes int64) {
	must(t)(bdev.NewMem(g, name, uuid.Nil, blockSize, uint64(bytes)/uint64(blockSize)))
}

func nullMember(t bdevtest.T, g *bdev.Registry, name string, blockSize uint32, bytes int64) {
	must(t)(bdev.NewNull(g, name, uuid.Nil, blockSize, uint64(bytes)/uint64(blockSize)))
}

func uringMember(t bdevtest.T, g *bdev.Registry, name string, blockSize uint32, bytes int64) {
	must(t)(bdev.NewUring(g, name, file(t, t.TempDir(), bytes), bdev.UringOptions{BlockSize: blockSize}))
}

// cacheMember is a part of its size of a volatile device, which is always as large as the device under test.
func cacheMember(t bdevtest.T, g *bdev.Registry, name string, blockSize uint32, bytes int64) {
	must(t)(bdevtest.NewCache(g, "cache below "+name, bdevtest.CacheOptions{BlockSize: blockSize, FUA: bdev.SetOf(bdev.Write)}))
	must(t)(bdev.NewPart(g, name, "cache below "+name, bdev.PartOptions{First: 3, Blocks: uint64(bytes) / uint64(blockSize)}))
}

// crashAll takes the power of every volatile device of the registry away.
func crashAll(d *bdev.Device) {
	for _, o := range d.Registry().Devices() {
		if c, ok := o.Driver().(*bdevtest.Cache); ok {
			c.Crash()
		}
	}
}

func halves(bytes int64) []int64 { return []int64{bytes / 2, bytes / 2} }

// stripeSubjects are those for the contract.
func stripeSubjects() []bdevtest.Subject {
	const all, mib = bdevtest.Bytes, 1 << 20
	return []bdevtest.Subject{
		{Name: "stripe of four", Make: stripe(bdev.StripeRAID0, 16<<10, []int64{mib + 4096, mib, mib + 8192, mib}, memMember)},
		{Name: "stripe of one block over two files", Make: stripe(bdev.StripeRAID0, 4096, halves(all), uringMember)},
		{Name: "stripe over part over volatile", Make: stripe(bdev.StripeRAID0, 64<<10, halves(all), cacheMember), Crash: crashAll},
		{Name: "stripe, concat", Make: stripe(bdev.StripeConcat, 8<<10, []int64{mib + 4096, 40 << 10, all - mib - 40<<10}, memMember)},
		{Name: "crypt over concat over part over volatile", Make: on(stripe(bdev.StripeConcat, 4096, []int64{mib, all - mib}, cacheMember), crypt(16)), Crash: crashAll},
	}
}

func TestStripesThatAreRefused(t *testing.T) {
	g := registry(t, 1)
	must(t)(bdev.NewMem(g, "a", uuid.Nil, 512, 1000))
	must(t)(bdev.NewMem(g, "b", uuid.Nil, 512, 1000))
	must(t)(bdev.NewMem(g, "c", uuid.Nil, 4096, 1000))
	must(t)(bdev.NewMem(g, "small", uuid.Nil, 512, 7))
	must(t)(bdev.NewMem(g, "taken", uuid.Nil, 512, 1000))
	must(t)(bdev.NewPassthru(g, "p", "taken", uuid.Nil))
	for _, c := range []struct {
		why     string
		members []string
		strip   uint64
		want    error
		says    string
	}{
		{"no member", nil, 4096, bdev.ErrInvalid, "0 devices below it"},
		{"too many members", make([]string, 256), 4096, bdev.ErrInvalid, "256 devices below it"},
		{"a member that is not there", []string{"a", "none"}, 4096, bdev.ErrNotFound, "none"},
		{"a member twice", []string{"a", "b", "a"}, 4096, bdev.ErrClaimed, `"a"`},
		{"a member in use", []string{"a", "taken"}, 4096, bdev.ErrClaimed, "passthru p"},
		{"other block sizes", []string{"a", "c"}, 4096, bdev.ErrInvalid, "a has blocks of 512 bytes, c of 4096"},
		{"no strip", []string{"a", "b"}, 0, bdev.ErrInvalid, "a power of two"},
		{"a strip that is no power of two", []string{"a", "b"}, 3 << 10, bdev.ErrInvalid, "a power of two"},
		{"a strip below a block", []string{"c"}, 512, bdev.ErrInvalid, "at least a block"},
		{"a strip as nobody needs it", []string{"a"}, 1 << 63, bdev.ErrInvalid, "strips of"},
		{"a member below a strip", []string{"a", "small"}, 4096, bdev.ErrInvalid, "small has 7 blocks, less than a strip of 8"},
		{"a name that is taken", []string{"b"}, 4096, bdev.ErrExists, "p"},
	} {
		name := "s"
		if c.want == bdev.ErrExists {
			name = "p"
		}
		_, err := bdev.NewStripe(g, name, bdev.StripeOptions{Members: c.members, StripBytes: c.strip})
		if !errors.Is(err, c.want) || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: %v", c.why, err)
		}
	}
	for _, name := range []string{"a", "b", "c", "small"} {
		if d, _ := g.Lookup(name); d.Claim() != "" {
			t.Errorf("%s is claimed by what was refused", name)
		}
	}
}

func TestAStripeHasWhatItsMembersHave(t *testing.T) {
	g := registry(t, 1)
	must(t)(bdev.NewMem(g, "a", uuid.Nil, 512, 1003))
	must(t)(bdev.NewMem(g, "b", uuid.Nil, 512, 2000))
	must(t)(bdev.NewNull(g, "n", uuid.Nil, 512, 1<<20))
	d := must(t)(bdev.NewStripe(g, "s", bdev.StripeOptions{Members: []string{"b", "a"}, StripBytes: 4096}))
	if v := d.Geometry(); v.Blocks != 2*1000 || v.OptimalBlocks != 8 || !v.UnmapZeroes || v.Volatile || d.Layers() != 1 {
		t.Errorf("%+v, %d layers", v, d.Layers())
	}
	s := d.Driver().(*bdev.Stripe)
	if m := s.Members(); len(m) != 2 || m[0].Device.Name() != "b" || m[1].Blocks != 1000 || s.StripBlocks() != 8 || s.Level().String() != "raid0" {
		t.Errorf("%+v", m)
	}
	if text := fmt.Sprint(d.Driver().Describe()); !strings.Contains(text, "raid_level:raid0") || !strings.Contains(text, "strip_size_kb:4") || !strings.Contains(text, "data_size:1000") {
		t.Error(text)
	}
	d = must(t)(bdev.NewStripe(g, "t", bdev.StripeOptions{Level: bdev.StripeConcat, Members: []string{"s", "n"}, StripBytes: 64 << 10}))
	if v := d.Geometry(); v.Blocks != 1<<20+1920 || v.OptimalBlocks != 0 || v.UnmapZeroes || d.Layers() != 2 || d.Driver().(*bdev.Stripe).Level().String() != "concat" {
		t.Errorf("%+v, %d layers", v, d.Layers())
	}
	// It does not follow: what it has is where its blocks are.
	n, _ := g.Lookup("n")
	if err := n.Resize(1 << 21); err != nil || d.Geometry().Blocks != 1<<20+1920 {
		t.Errorf("%d blocks after a member was resized (%v)", d.Geometry().Blocks, err)
	}
}

// TestAStripeWithoutAMemberIsGone removes one under a user who does not let go.
func TestAStripeWithoutAMemberIsGone(t *testing.T) {
	g := bdevtest.Start(t, 2)
	e := bdevtest.NewEnv(t, g, bdevtest.Subject{Make: stripe(bdev.StripeRAID0, 4096, []int64{1 << 20, 1 << 20, 1 << 20}, memMember)}, 512)
	e.Registry.SetGrace(time.Millisecond)
	for i := range 2 {
		e.Write(i, 0, e.Block(9, 1024))
	}
	done := make(chan struct{})
	go func() { unregister(t, e.Registry, "m1"); close(done) }()
	for i := range 2 {
		for e.Do(i, bdevtest.Op{Kind: bdev.Read, Data: e.Block(0, 1)}).Status != bdev.StatusGone {
			e.Settle()
		}
		e.Want("after a member was removed", i, bdev.StatusGone, bdevtest.Op{Kind: bdev.Write, Data: e.Block(1, 100)})
	}
	bdev.CloseChannels(e.Channels)
	e.Handle.Close()
	e.Handle = nil
	<-done
	within(t, "the stripe is gone", func() bool { _, err := e.Registry.Lookup("Stripe0"); return err != nil })
	for _, name := range []string{"m0", "m2"} {
		if d, err := e.Registry.Lookup(name); err != nil || d.Claim() != "" {
			t.Errorf("%s: claimed by %v (%v)", name, d.Claim(), err)
		}
	}
}

// slowStripe is one whose members answer reads after an hour.
func slowStripe(t bdevtest.T, g *bdev.Registry, blockSize uint32) *bdev.Device {
	const hour = 3600 * reactor.Second
	return stripe(bdev.StripeRAID0, 4096, halves(bdevtest.Bytes), func(t bdevtest.T, g *bdev.Registry, name string, blockSize uint32, bytes int64) {
		memMember(t, g, "below "+name, blockSize, bytes)
		must(t)(bdev.NewDelay(g, name, "below "+name, uuid.Nil, bdev.Latencies{ReadAverage: hour, ReadP99: hour}))
	})(t, g, blockSize)
}

// TestMoreThanThePartsThatThereAre lets requests of 256 parts each wait for parts, and ends them early in every state.
func TestMoreThanThePartsThatThereAre(t *testing.T) {
	e := rig(t, 1, 512, slowStripe)
	var jobs []*bdevtest.Job
	for range 4 { // the first has begun half of its parts, the others none
		jobs = append(jobs, e.Begin(0, bdevtest.Op{Kind: bdev.Read, Data: make([]byte, 1<<20)}))
	}
	jobs = append(jobs, e.Begin(0, bdevtest.Op{Kind: bdev.Flush}))
	e.Settle()
	e.Must(0, bdevtest.Op{Kind: bdev.Write, LBA: 3, Data: e.Block(1, 1)}) // on one member: it needs none
	for _, i := range []int{2, 0} {
		var did bool
		call(e.Group.Reactor(0), func() { did = e.Channels[0].Abort(&jobs[i].Q) })
		jobs[i].Wait()
		if s := jobs[i].Q.Status; s != bdev.StatusAborted || !did {
			t.Errorf("request %d: %v, abort said %v", i, s, did)
		}
	}
	if jobs[1].Q.InFlight() == false || jobs[3].Q.InFlight() == false {
		t.Error("requests have ended that have an hour to wait")
	}
	reset := e.Begin(0, bdevtest.Op{Kind: bdev.Reset})
	reset.Wait()
	for i, j := range jobs {
		if i == 2 || i == 0 {
			continue
		}
		j.Wait()
		if s := j.Q.Status; s != bdev.StatusAborted && !(i == 4 && s == bdev.StatusOK) {
			t.Errorf("request %d after a reset: %v", i, s)
		}
	}
	for _, j := range append(jobs, reset) {
		j.Finish()
	}
	for _, d := range e.Registry.Devices() {
		if v, ok := d.Driver().(*bdev.Delay); ok {
			if err := v.SetLatencies(bdev.Latencies{}); err != nil {
				t.Fatal(err)
			}
		}
	}
	data := e.Block(6, 2048)
	e.Write(0, 100, data)
	e.WantData("afterwards", 0, 100, data)
}

// TestAFailureOfOnePartIsThatOfTheWhole lets one member fail, and wants of a compare the first difference.
func TestAFailureOfOnePartIsThatOfTheWhole(t *testing.T) {
	e := rig(t, 1, 512, stripe(bdev.StripeRAID0, 4096, halves(bdevtest.Bytes), func(t bdevtest.T, g *bdev.Registry, name string, blockSize uint32, bytes int64) {
		memMember(t, g, "below "+name, blockSize, bytes)
		must(t)(bdev.NewFault(g, name, "below "+name, uuid.Nil))
	}))
	data := e.Block(7, 2048)
	e.Write(0, 5, data)
	other := e.Block(7, 2048)
	other[700_001]++
	other[300_000]++
	other[900_000]++
	if r := e.Want("three bytes differ", 0, bdev.StatusMiscompare, bdevtest.Op{Kind: bdev.Compare, LBA: 5, Data: other}); r.Detail != 300_000 {
		t.Errorf("the first is at %d", r.Detail)
	}
	m1, err := e.Registry.Lookup("m1")
	if err != nil {
		t.Fatal(err)
	}
	if err := m1.Driver().(*bdev.Fault).Inject(bdev.Rule{Kinds: bdev.SetOf(bdev.Read, bdev.Compare, bdev.Flush, bdev.Unmap), Status: bdev.StatusIO, Detail: 0x281}); err != nil {
		t.Fatal(err)
	}
	for _, op := range []bdevtest.Op{{Kind: bdev.Read, LBA: 5, Data: data}, {Kind: bdev.Compare, LBA: 5, Data: other}, {Kind: bdev.Flush}, {Kind: bdev.Unmap, Blocks: e.G.Blocks}} {
		if r := e.Want("a member fails", 0, bdev.StatusIO, op); r.Detail != 0x281 {
			t.Errorf("%v: its detail is %#x", op.Kind, r.Detail)
		}
	}
	e.Must(0, bdevtest.Op{Kind: bdev.Read, Data: data[:4096]}) // on the other member
}
