package initiator

import (
	"context"
	"errors"
	"log/slog"
	"testing"
	"time"

	"github.com/pollux-storage/pollux/bdev"
	"github.com/pollux-storage/pollux/nvmf"
	"github.com/pollux-storage/pollux/nvmf/nvmftest"
)

// Both ends are the engine's own: the target that wants a proof, the host that gives and wants one, and new keys for both.
func TestAuthenticationWithOurOwnTarget(t *testing.T) {
	host, ctrl, next := testKey(t, 1), testKey(t, 2), testKey(t, 3)
	e := nvmftest.Start(t, nvmftest.Options{Reactors: 2, Subsystem: func(o *nvmf.SubsystemOptions) { o.AllowAnyHost = false }})
	if err := e.Target.AddHost(nvmftest.NQN, nvmftest.Host, nvmf.HostKeys{Host: host, Ctrl: ctrl}); err != nil {
		t.Fatal(err)
	}
	h := newHost(t, 2)
	o := options(e.Addr)
	if _, err := h.in.Attach(context.Background(), o); err == nil {
		t.Error("attached without a key")
	}
	o.HostKey = next
	var refused *nvmf.AuthError
	if _, err := h.in.Attach(context.Background(), o); !errors.As(err, &refused) || refused.Explanation != nvmf.AuthFailed {
		t.Errorf("attached with the wrong key: %v", err)
	}
	o.HostKey, o.CtrlKey = host, ctrl
	h.attach(o)
	d := h.open("Nvme0n1")
	defer d.close()
	loads := []*load{d.startLoad(0, 4, 4096, 300), d.startLoad(1, 4, 4096, 300)}
	if err := e.Target.SetHostKeys(nvmftest.NQN, nvmftest.Host, nvmf.HostKeys{Host: next}); err != nil {
		t.Fatal(err)
	}
	if err := h.in.SetKeys(context.Background(), "Nvme0", next, nil); err != nil {
		t.Error(err)
	}
	if err := h.in.Reset(context.Background(), "Nvme0"); err != nil {
		t.Error(err)
	}
	for _, l := range loads {
		l.wait()
	}
	if i := h.in.Controllers()[0]; i.Losses > 0 {
		t.Errorf("%d connections were lost: %s", i.Losses, i.LastLoss)
	}
}

// How a namespace is reached is shown, and a request that finds it inaccessible waits a little for that to pass.
func TestANA(t *testing.T) {
	e := nvmftest.Start(t, nvmftest.Options{Subsystem: func(o *nvmf.SubsystemOptions) { o.ANA = true }})
	h := newHost(t, 1)
	h.attach(options(e.Addr))
	d := h.open("Nvme0n1")
	defer d.close()
	shown := func() any {
		path := d.handle.Device().Driver().Describe().(map[string]any)["nvme"].([]any)[0].(map[string]any)
		return path["ns_data"].(map[string]any)["ana_state"]
	}
	set := func(s nvmf.ANAState) {
		t.Helper()
		if err := e.Target.SetANAState(nvmftest.NQN, nvmftest.Address(e.Addr), s, 0); err != nil {
			t.Fatal(err)
		}
		h.await("the state "+s.String(), func() bool { return shown() == s.String() })
	}
	read := &bdev.Request{Kind: bdev.Read, Blocks: 1, Data: [][]byte{make([]byte, 4096)}}
	if got := shown(); got != "optimized" {
		t.Errorf("it begins as %v", got)
	}
	set(nvmf.ANAInaccessible)
	d.want("inaccessible", 0, read, bdev.StatusNotPrimary)
	ended := make(done, 1)
	read.Done = ended
	_ = h.group.Reactor(0).Go(func() { d.channels[0].Submit(read) })
	set(nvmf.ANANonOptimized)
	if s := <-ended; s != bdev.StatusOK {
		t.Error(s)
	}
	set(nvmf.ANAOptimized)
	d.want("optimized", 0, read, bdev.StatusOK)
}

// An idle host says that it is alive; where the target does not count other commands it does so always.
func TestKeepAliveIsSent(t *testing.T) {
	for _, traffic := range []bool{false, true} {
		f := newFake(t)
		f.id.CTRATT = 0
		if traffic {
			f.id.CTRATT = nvmf.CTRATTTBKAS
		}
		sent := make(chan struct{}, 100)
		var kato uint32
		f.admin = func(_ *fakeConn, s *nvmf.SQE) bool {
			if nvmf.AdminOpcode(s.Opcode()) == nvmf.AdminKeepAlive {
				sent <- struct{}{}
			}
			return false
		}
		f.fabric = func(_ *fakeConn, s *nvmf.SQE) bool {
			if s.FCTYPE() == nvmf.FabricsConnect {
				if s.ConnectQID() == 0 {
					kato = s.ConnectKATO()
				} else if s.ConnectKATO() != 0 {
					t.Error("an I/O queue with a keep-alive timeout")
				}
			}
			return false
		}
		h := newHost(t, 2)
		o := f.options()
		o.KeepAlive = 2 * time.Second
		h.attach(o)
		if f.set(func() {
			if kato != 2000 {
				t.Errorf("KATO %d ms", kato)
			}
		}); !traffic {
			d := h.open("Nvme0n1")
			l := d.startLoad(1, 1, 4096, 1000)
			<-sent
			l.wait()
			d.close()
		}
		<-sent
		<-sent
		if l := h.in.Controllers()[0].Losses; l > 0 {
			t.Errorf("%d connections were lost", l)
		}
	}
}

// An event is told again after the first was handled, however often.
func TestEventsGoOn(t *testing.T) {
	f := newFake(t)
	h := newHost(t, 1)
	h.attach(f.options())
	for i := range 10 {
		want := []string{"Nvme0n1"}
		f.set(func() {
			if f.list = []nvmf.NSID{1}; i%2 == 0 {
				f.list = []nvmf.NSID{1, 2}
				want = append(want, "Nvme0n2")
			}
		})
		h.await("a request for events at the target", func() bool { return f.event(nvmf.EventNamespaces) })
		h.awaitDevices(want...)
	}
}

// A device gets no more namespaces than it was told to take, and none twice.
func TestMaxBdevs(t *testing.T) {
	f := newFake(t)
	for id := range nvmf.NSID(10) {
		f.list = append(f.list[:id:id], id+1)
	}
	h := newHost(t, 1)
	o := f.options()
	o.MaxBdevs = 3
	if names := h.attach(o); len(names) != 3 {
		t.Errorf("%v", names)
	}
	if _, err := h.in.Attach(context.Background(), o); !errors.Is(err, bdev.ErrExists) {
		t.Errorf("attached twice under one name: %v", err)
	}
}

// One who gives up waiting for a connection leaves nothing behind.
func TestAttachIsGivenUp(t *testing.T) {
	f := newFake(t)
	stuck := make(chan struct{}, 1)
	f.icresp = func(*fakeConn, nvmf.ICReq) bool { stuck <- struct{}{}; return true }
	h := newHost(t, 1)
	ctx, cancel := context.WithCancel(context.Background())
	go func() { <-stuck; cancel() }()
	if _, err := h.in.Attach(ctx, f.options()); !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
	if c := h.in.Controllers(); len(c) > 0 {
		t.Errorf("%+v", c)
	}
}

// What a target in this very process serves may have the UUID of a device here: the remote one gets another.
func TestUUIDOfALocalDevice(t *testing.T) {
	e := nvmftest.Start(t, nvmftest.Options{})
	in := New(e.Bdevs, slog.New(slog.DiscardHandler))
	o := options(e.Addr)
	names, err := in.Attach(context.Background(), o)
	if err != nil || len(names) != 1 {
		t.Fatalf("%v, %v", names, err)
	}
	local, _ := e.Bdevs.Lookup("Malloc0")
	if d, err := e.Bdevs.Lookup(names[0]); err != nil || d.UUID() == local.UUID() {
		t.Errorf("%v, %v", d, err)
	}
	if err := in.Detach(context.Background(), o.Name); err != nil {
		t.Error(err)
	}
}
