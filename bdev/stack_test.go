package bdev_test

import (
	"context"
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

func TestPartsShareADeviceAndDoNotOverlap(t *testing.T) {
	g := registry(t, 1)
	base := must(t)(bdev.NewMem(g, "Malloc0", uuid.New(), 512, 1000))
	a := must(t)(bdev.NewPart(g, "a", "Malloc0", bdev.PartOptions{First: 0, Blocks: 100}))
	must(t)(bdev.NewPart(g, "b", "Malloc0", bdev.PartOptions{First: 100, Blocks: 900}))
	for _, c := range []struct {
		why           string
		first, blocks uint64
		want          error
	}{
		{"overlaps both", 99, 2, bdev.ErrClaimed},
		{"lies within one", 300, 10, bdev.ErrClaimed},
		{"ends past the device", 900, 101, bdev.ErrInvalid},
		{"begins past the device", 1001, 1, bdev.ErrInvalid},
		{"wraps around", 10, ^uint64(0), bdev.ErrInvalid},
		{"is empty", 10, 0, bdev.ErrInvalid},
	} {
		if _, err := bdev.NewPart(g, "c", "Malloc0", bdev.PartOptions{First: c.first, Blocks: c.blocks}); !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", c.why, err, c.want)
		}
	}
	if _, err := bdev.NewPassthru(g, "p", "Malloc0", uuid.Nil); !errors.Is(err, bdev.ErrClaimed) {
		t.Errorf("another kind on a device with parts: %v", err)
	}
	if n := len(bdev.Parts(base)); n != 2 {
		t.Errorf("%d parts", n)
	}
	id := a.UUID()
	unregister(t, g, "a")
	again := must(t)(bdev.NewPart(g, "other", "Malloc0", bdev.PartOptions{First: 0, Blocks: 100}))
	if again.UUID() != id {
		t.Error("the same part has another UUID")
	}
	if b, _ := g.Lookup("b"); b.UUID() == id || b.UUID().Version() != 5 {
		t.Errorf("UUIDs %v and %v", b.UUID(), id)
	}
	if _, err := bdev.NewPart(g, "d", "nothing", bdev.PartOptions{}); !errors.Is(err, bdev.ErrNotFound) {
		t.Errorf("a part of nothing: %v", err)
	}
}

func TestSplit(t *testing.T) {
	g := registry(t, 1)
	must(t)(bdev.NewMem(g, "Malloc0", uuid.Nil, 512, 10*2048+3)) // 10 MiB and a bit
	for _, c := range []struct {
		count  int
		size   uint64
		blocks uint64
		want   int
	}{
		{2, 0, (10*2048 + 3) / 2, 2},
		{3, 1 << 20, 2048, 3},
		{100, 4 << 20, 4 * 2048, 2}, // no room for more
	} {
		parts, err := bdev.NewSplit(g, "Malloc0", c.count, c.size)
		if err != nil {
			t.Fatal(err)
		}
		for i, p := range parts {
			first := p.Driver().(*bdev.Part).First()
			if p.Name() != fmt.Sprintf("Malloc0p%d", i) || p.Geometry().Blocks != c.blocks || first != uint64(i)*c.blocks {
				t.Errorf("%+v: part %d is %s, %d blocks at %d", c, i, p.Name(), p.Geometry().Blocks, first)
			}
		}
		if len(parts) != c.want {
			t.Errorf("%+v: %d parts", c, len(parts))
		}
		if err := bdev.RemoveSplit(context.Background(), g, "Malloc0"); err != nil {
			t.Error(err)
		}
	}
	for _, c := range []struct {
		why   string
		count int
		size  uint64
	}{{"no parts", 0, 0}, {"a negative number", -1, 0}, {"more than there are blocks", 1 << 30, 0}, {"too large", 2, 1 << 30}, {"no whole blocks", 2, 700}} {
		if _, err := bdev.NewSplit(g, "Malloc0", c.count, c.size); !errors.Is(err, bdev.ErrInvalid) {
			t.Errorf("%s: %v", c.why, err)
		}
	}
	if err := bdev.RemoveSplit(context.Background(), g, "Malloc0"); !errors.Is(err, bdev.ErrNotFound) {
		t.Errorf("removing parts that are not there: %v", err)
	}
	if d, _ := g.Lookup("Malloc0"); d.Claim() != "" {
		t.Errorf("still claimed by %s", d.Claim())
	}
}

func TestWhoStandsOnARemovedDeviceGoesToo(t *testing.T) {
	g := registry(t, 2)
	must(t)(bdev.NewMem(g, "Malloc0", uuid.Nil, 512, 4096))
	parts, err := bdev.NewSplit(g, "Malloc0", 2, 0)
	if err != nil {
		t.Fatal(err)
	}
	must(t)(bdev.NewDelay(g, "Delay0", parts[0].Name(), uuid.Nil, quick))
	must(t)(bdev.NewFault(g, "", "Delay0", uuid.Nil))
	must(t)(bdev.NewQoS(g, "QoS0", "EE_Delay0", uuid.Nil, wide))

	// A user who closes when told to, and one who takes its time.
	var channels []*bdev.Channel
	var h *bdev.Handle
	closing := make(chan struct{})
	h, err = g.Open("QoS0", bdev.OpenOptions{Who: "user", Event: func(e bdev.Event) {
		if e.Kind == bdev.Removing {
			close(closing)
		}
	}})
	if err != nil {
		t.Fatal(err)
	}
	if channels, err = h.Channels(); err != nil {
		t.Fatal(err)
	}
	gone := make(chan error, 1)
	go func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		gone <- g.Unregister(ctx, "Malloc0")
	}()
	<-closing
	if _, err := g.Open("Malloc0", bdev.OpenOptions{Who: "late"}); !errors.Is(err, bdev.ErrNotFound) {
		t.Errorf("opening what is being removed: %v", err)
	}
	bdev.CloseChannels(channels)
	h.Close()
	if err := <-gone; err != nil {
		t.Error(err)
	}
	if left := g.Devices(); len(left) != 0 {
		t.Errorf("%d devices are left, the first is %s", len(left), left[0].Name())
	}
}

func TestStacksHaveALimit(t *testing.T) {
	g := registry(t, 1)
	must(t)(bdev.NewNull(g, "0", uuid.Nil, 512, 100))
	for i := range 10 {
		_, err := bdev.NewPassthru(g, fmt.Sprint(i+1), fmt.Sprint(i), uuid.Nil)
		if i < 7 && err != nil || i >= 7 && err == nil {
			t.Errorf("%d layers: %v", i+2, err)
		}
		if i == 7 && (!errors.Is(err, bdev.ErrInvalid) || !strings.Contains(err.Error(), "the most is 7")) {
			t.Errorf("%d layers: %v", i+2, err)
		}
		if d, _ := g.Lookup(fmt.Sprint(i)); i >= 7 && d != nil && d.Claim() != "" {
			t.Errorf("%d is claimed by what was refused", i)
		}
	}
}

func TestWhatADeviceTells(t *testing.T) {
	g := registry(t, 1)
	must(t)(bdev.NewMem(g, "M", uuid.Nil, 4096, 100))
	for _, c := range []struct {
		d    *bdev.Device
		want string
	}{
		{must(t)(bdev.NewDelay(g, "D", "M", uuid.Nil, bdev.Latencies{ReadAverage: 5000})), "map[delay:map[avg_read_latency:5 avg_write_latency:0 base_bdev_name:M p99_read_latency:0 p99_write_latency:0]]"},
		{must(t)(bdev.NewFault(g, "", "D", uuid.Nil)), "map[error_disk:map[base_bdev:D]]"},
		{must(t)(bdev.NewPart(g, "P", "EE_D", bdev.PartOptions{First: 3, Blocks: 10})), "map[split:map[base_bdev:EE_D offset_blocks:3]]"},
		{must(t)(bdev.NewPassthru(g, "T", "P", uuid.Nil)), "map[passthru:map[base_bdev_name:P]]"},
	} {
		if got := fmt.Sprint(c.d.Driver().Describe()); got != c.want {
			t.Errorf("%s: %s, want %s", c.d.Name(), got, c.want)
		}
	}
}

func TestDelay(t *testing.T) {
	long := reactor.Ticks(40 * time.Millisecond)
	e := rig(t, 1, 4096, on(mem, delay(bdev.Latencies{ReadP99: long, WriteAverage: long})))
	v := e.Device.Driver().(*bdev.Delay)
	late := 0
	for range 200 {
		began := time.Now()
		e.Must(0, bdevtest.Op{Kind: bdev.Read, Data: e.Block(1, 1)})
		if time.Since(began) >= time.Duration(long) {
			late++
		}
	}
	if late < 2 {
		t.Errorf("%d of 200 reads were late, want one of a hundred", late)
	}
	began := time.Now()
	e.Write(0, 1, e.Block(1, 1))
	if took := time.Since(began); took < time.Duration(long) {
		t.Errorf("a write took %v", took)
	}
	e.Must(0, bdevtest.Op{Kind: bdev.Flush})

	// A change holds for those that wait already, an abort ends them.
	hour := bdev.Latencies{ReadAverage: 3600 * reactor.Second, ReadP99: 3600 * reactor.Second}
	if err := v.SetLatencies(hour); err != nil {
		t.Fatal(err)
	}
	a, b := e.Begin(0, bdevtest.Op{Kind: bdev.Read, Data: e.Block(1, 1)}), e.Begin(0, bdevtest.Op{Kind: bdev.Read, Data: e.Block(1, 1)})
	within(t, "two requests wait", func() (both bool) {
		call(e.Group.Reactor(0), func() { both = e.Channels[0].Abort(&a.Q) })
		return both
	})
	a.Wait()
	if s := a.Finish().Status; s != bdev.StatusAborted {
		t.Errorf("aborted: %v", s)
	}
	if !b.Q.InFlight() {
		t.Error("a read that has an hour to wait has ended")
	}
	if err := v.SetLatencies(bdev.Latencies{}); err != nil {
		t.Fatal(err)
	}
	b.Wait()
	if s := b.Finish().Status; s != bdev.StatusOK {
		t.Errorf("after the latency was taken back: %v", s)
	}
	if err := v.SetLatencies(bdev.Latencies{ReadAverage: -1}); !errors.Is(err, bdev.ErrInvalid) {
		t.Errorf("a negative latency: %v", err)
	}
}

// TestLittleSpaceIsToldUpwards through layers, each of which tells its own users.
func TestLittleSpaceIsToldUpwards(t *testing.T) {
	g := registry(t, 1)
	base := must(t)(bdev.NewMem(g, "Malloc0", uuid.New(), 512, 1000))
	must(t)(bdev.NewPart(g, "part", "Malloc0", bdev.PartOptions{First: 0, Blocks: 100}))
	must(t)(bdev.NewStripe(g, "stripe", bdev.StripeOptions{Members: []string{"part"}, Level: bdev.StripeConcat, StripBytes: 4096}))
	must(t)(bdev.NewPassthru(g, "top", "stripe", uuid.Nil))
	var heard []string
	for _, name := range []string{"Malloc0", "top"} {
		h, err := g.Open(name, bdev.OpenOptions{Who: "test", Event: func(e bdev.Event) {
			if e.Kind != bdev.LowSpace || e.Device.Name() != name {
				t.Errorf("%s: event %d of %s", name, e.Kind, e.Device.Name())
			}
			heard = append(heard, name)
		}})
		if err != nil {
			t.Fatal(err)
		}
		defer h.Close()
	}
	base.TellLowSpace()
	if len(heard) != 2 {
		t.Errorf("those who heard: %v", heard)
	}
}
