package initiator

import (
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/netip"
	"os"
	"slices"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/pollux-storage/pollux/bdev"
	"github.com/pollux-storage/pollux/nvmf/nvmftest"
	"github.com/pollux-storage/pollux/reactor"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// patience bounds waits that only a defect makes long.
const patience = 30 * time.Second

// host is an initiator under test, with reactors and a registry of its own.
type host struct {
	t     testing.TB
	group *reactor.Group
	bdevs *bdev.Registry
	in    *Initiator

	before []func() // done before its reactors stop
}

// newHost makes one that ends with the test, and checks that nothing is left.
func newHost(t testing.TB, reactors int) *host {
	t.Helper()
	g, err := reactor.Start(reactor.Config{Cores: slices.Repeat([]int{-1}, reactors), MemoryBytes: 64 << 20})
	if err != nil {
		t.Fatal(err)
	}
	h := &host{t: t, group: g, bdevs: bdev.NewRegistry(g)}
	var out = slog.New(slog.DiscardHandler)
	if os.Getenv("VERBOSE") != "" {
		out = slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelDebug}))
	}
	h.in = New(h.bdevs, out)
	t.Cleanup(func() { h.stop() })
	return h
}

func (h *host) stop() {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	for _, c := range h.in.Controllers() {
		if err := h.in.Detach(ctx, c.Name); err != nil {
			h.t.Error(err)
		}
	}
	if d := h.bdevs.Devices(); len(d) > 0 {
		h.t.Errorf("%d devices are left", len(d))
	}
	for _, f := range h.before {
		f()
	}
	var bytes int
	_ = h.group.Each(func(r *reactor.Reactor) { bytes += r.Memory().Stats().InUse })
	if bytes > 0 {
		h.t.Errorf("%d bytes of buffers are left", bytes)
	}
	if err := h.group.Stop(ctx); err != nil {
		h.t.Error(err)
	}
}

// options are those to reach a target of this test.
func options(addr netip.AddrPort) Options {
	o := DefaultOptions()
	o.Name, o.SubNQN, o.HostNQN = "Nvme0", nvmftest.NQN, nvmftest.Host
	o.TrAddr, o.TrSvcID = addr.Addr().String(), fmt.Sprint(addr.Port())
	o.ReconnectDelay = 50 * time.Millisecond
	o.AdminTimeout = patience
	return o
}

// attach attaches and gives the devices' names.
func (h *host) attach(o Options) []string {
	h.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	names, err := h.in.Attach(ctx, o)
	if err != nil {
		h.t.Fatal(err)
	}
	return names
}

// disk is a device opened on every reactor.
type disk struct {
	h        *host
	handle   *bdev.Handle
	channels []*bdev.Channel
}

// open opens a device; it is closed when it is removed, or by close.
func (h *host) open(name string) *disk {
	h.t.Helper()
	d := &disk{h: h}
	var err error
	if d.handle, err = h.bdevs.Open(name, bdev.OpenOptions{Who: "test"}); err == nil {
		d.channels, err = d.handle.Channels()
	}
	if err != nil {
		h.t.Fatal(err)
	}
	return d
}

func (d *disk) close() {
	bdev.CloseChannels(d.channels)
	d.handle.Close()
}

// done is a bdev.Done that tells a channel.
type done chan bdev.Status

func (d done) RequestDone(q *bdev.Request) { d <- q.Status }

// do runs a request on reactor i and gives its status.
func (d *disk) do(i int, q *bdev.Request) bdev.Status {
	d.h.t.Helper()
	ended := make(done, 1)
	q.Done = ended
	if err := d.h.group.Reactor(i).Go(func() { d.channels[i].Submit(q) }); err != nil {
		d.h.t.Fatal(err)
	}
	select {
	case s := <-ended:
		_ = d.h.group.Reactor(i).Call(q.Release)
		return s
	case <-time.After(patience):
		panic(fmt.Sprintf("no end of %v of %d blocks at %d", q.Kind, q.Blocks, q.LBA)) // its memory is not ours: nothing can be cleaned up
	}
}

// want runs a request that must end with s.
func (d *disk) want(why string, i int, q *bdev.Request, s bdev.Status) {
	d.h.t.Helper()
	if got := d.do(i, q); got != s {
		d.h.t.Fatalf("%s: %v, want %v", why, got, s)
	}
}

// pieces cuts b into pieces of n bytes.
func pieces(b []byte, n int) (out [][]byte) {
	for len(b) > 0 {
		k := min(n, len(b))
		out = append(out, b[:k:k])
		b = b[k:]
	}
	return out
}

func pattern(n int, seed uint64) []byte {
	b := make([]byte, n)
	r := rand.NewChaCha8([32]byte{byte(seed), byte(seed >> 8), byte(seed >> 16)})
	_, _ = r.Read(b)
	return b
}

// await waits until f is true.
func (h *host) await(why string, f func() bool) {
	h.t.Helper()
	for end := time.Now().Add(patience); !f(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			h.t.Fatalf("it did not come to pass: %s", why)
		}
	}
}
