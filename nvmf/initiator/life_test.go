package initiator

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/pollux-storage/pollux/bdev"
	"github.com/pollux-storage/pollux/nvmf"
	"github.com/pollux-storage/pollux/nvmf/nvmftest"
)

// devices lists the host's devices.
func (h *host) devices() (names []string) {
	for _, d := range h.bdevs.Devices() {
		names = append(names, d.Name())
	}
	return names
}

func (h *host) awaitDevices(want ...string) {
	h.t.Helper()
	h.await(fmt.Sprintf("devices %v, they are %v", want, h.devices()), func() bool { return slices.Equal(h.devices(), want) })
}

func TestNamespacesComeGoAndGrow(t *testing.T) {
	e := nvmftest.Start(t, nvmftest.Options{})
	h := newHost(t, 1)
	h.attach(options(e.Addr))
	ctx := context.Background()
	var files []*bdev.Device
	for i := range 2 {
		d, err := bdev.NewMem(e.Bdevs, fmt.Sprintf("More%d", i), uuid.Nil, 512, 2048)
		if err != nil {
			t.Fatal(err)
		}
		files = append(files, d)
	}
	e.AddNamespace(nvmf.NamespaceOptions{BdevName: "More0"})
	h.awaitDevices("Nvme0n1", "Nvme0n2")
	e.AddNamespace(nvmf.NamespaceOptions{BdevName: "More1", NSID: 7})
	h.awaitDevices("Nvme0n1", "Nvme0n2", "Nvme0n7")
	d, err := h.bdevs.Lookup("Nvme0n7")
	if err != nil {
		t.Fatal(err)
	}
	if g := d.Geometry(); g.BlockSize != 512 || g.Blocks != 2048 || d.UUID() != files[1].UUID() || d.Product() != "NVMe disk" {
		t.Errorf("%+v, %v, %s", g, d.UUID(), d.Product())
	}

	// One that is open is told of, and goes when it is closed.
	told := make(chan bdev.EventKind, 8)
	handle, err := h.bdevs.Open("Nvme0n7", bdev.OpenOptions{Who: "test", Event: func(e bdev.Event) { told <- e.Kind }})
	if err != nil {
		t.Fatal(err)
	}
	if err := files[1].Resize(1024); err != nil {
		t.Fatal(err)
	}
	if k := <-told; k != bdev.Resized || d.Geometry().Blocks != 1024 {
		t.Errorf("event %d, %d blocks", k, d.Geometry().Blocks)
	}
	if err := e.Target.RemoveNamespace(ctx, nvmftest.NQN, 7); err != nil {
		t.Fatal(err)
	}
	if k := <-told; k != bdev.Removing {
		t.Errorf("event %d", k)
	}
	if err := e.Target.RemoveNamespace(ctx, nvmftest.NQN, 2); err != nil {
		t.Fatal(err)
	}
	h.awaitDevices("Nvme0n1", "Nvme0n7")
	// While the old one is still open a new one comes in its place: its turn is after that.
	e.AddNamespace(nvmf.NamespaceOptions{BdevName: "More0", NSID: 7})
	handle.Close()
	h.await("the new namespace 7", func() bool {
		d, err := h.bdevs.Lookup("Nvme0n7")
		return err == nil && d.UUID() == files[0].UUID()
	})
}

// What a host wrote before the target went is there when it is back, and what was open is done then.
func TestTargetStopsAndComesBackUnderLoad(t *testing.T) {
	for _, reactors := range []int{1, 2} {
		t.Run(fmt.Sprintf("%d reactors", reactors), func(t *testing.T) {
			e := nvmftest.Start(t, nvmftest.Options{Reactors: reactors, MemoryBytes: 64 << 20})
			h := newHost(t, reactors)
			o := options(e.Addr)
			o.ReconnectDelay = 5 * time.Millisecond
			o.QueueDepth = 16
			h.attach(o)
			d := h.open("Nvme0n1")
			defer d.close()
			var loads []*load
			for i := range reactors {
				loads = append(loads, d.startLoad(i, 32, 16<<10, 4000))
			}
			for round := range 5 {
				was := h.in.Controllers()[0].Losses
				if err := e.Target.RemoveListener(context.Background(), nvmftest.NQN, nvmftest.Address(e.Addr)); err != nil {
					t.Fatal(err)
				}
				h.await("the loss of the connection", func() bool { return h.in.Controllers()[0].Losses > was })
				if round%2 == 0 {
					time.Sleep(10 * time.Millisecond) // a few attempts fail
				}
				if err := e.Target.AddListener(nvmftest.NQN, nvmftest.Address(e.Addr), nvmf.ANAOptimized); err != nil {
					t.Fatal(err)
				}
				h.await("a connection", func() bool { return h.in.Controllers()[0].State == StateConnected })
			}
			for _, l := range loads {
				l.wait()
			}
		})
	}
}

func TestResetUnderLoad(t *testing.T) {
	e := nvmftest.Start(t, nvmftest.Options{MemoryBytes: 64 << 20})
	h := newHost(t, 2)
	h.attach(options(e.Addr))
	d := h.open("Nvme0n1")
	defer d.close()
	loads := []*load{d.startLoad(0, 16, 4096, 3000), d.startLoad(1, 16, 32<<10, 1000)}
	for range 5 {
		if err := h.in.Reset(context.Background(), "Nvme0"); err != nil {
			t.Fatal(err)
		}
	}
	for _, l := range loads {
		l.wait()
	}
	if got := h.in.Controllers()[0]; got.Losses > 0 || got.State != StateConnected {
		t.Errorf("%+v", got)
	}
}

func TestDetachWaitsForThoseWhoUseADevice(t *testing.T) {
	e := nvmftest.Start(t, nvmftest.Options{})
	h := newHost(t, 1)
	h.attach(options(e.Addr))
	d := h.open("Nvme0n1")
	short, cancel := context.WithTimeout(context.Background(), 50*time.Millisecond)
	defer cancel()
	if err := h.in.Detach(short, "Nvme0"); !errors.Is(err, bdev.ErrBusy) || !strings.Contains(err.Error(), "test") {
		t.Errorf("a device is in use: %v", err)
	}
	if err := h.in.Detach(context.Background(), "Nvme0"); !errors.Is(err, bdev.ErrBusy) {
		t.Errorf("a second time: %v", err)
	}
	// While it waits requests are served: who has it open may have something to write.
	d.want("write", 0, &bdev.Request{Kind: bdev.Write, Blocks: 1, Data: [][]byte{make([]byte, 4096)}}, bdev.StatusOK)
	d.close()
	h.awaitDevices()
	h.await("the end of the controller", func() bool { return len(h.in.Controllers()) == 0 })
	if err := h.in.Detach(context.Background(), "Nvme0"); !errors.Is(err, bdev.ErrNotFound) {
		t.Errorf("one that is gone: %v", err)
	}
	e.WantNothingLeft("after the host detached")
	h.attach(options(e.Addr))
}

// When there is no hope any more the devices go, and what waited fails.
func TestLossTimeout(t *testing.T) {
	for _, limit := range []time.Duration{0, 100 * time.Millisecond} {
		t.Run(limit.String(), func(t *testing.T) {
			f := newFake(t)
			f.io = func(*fakeConn, *nvmf.SQE, []byte) bool { return true }
			h := newHost(t, 2)
			o := f.options()
			if o.LossTimeout = limit; limit == 0 {
				o.ReconnectDelay = 0
			}
			h.attach(o)
			d := h.open("Nvme0n1")
			ended := make(done, 3)
			qs := []*bdev.Request{
				{Kind: bdev.Write, Blocks: 1, Data: [][]byte{make([]byte, 4096)}, Done: ended},
				{Kind: bdev.Read, Blocks: 1, Data: [][]byte{make([]byte, 4096)}, Done: ended},
				{Kind: bdev.Flush, Done: ended},
			}
			for i, q := range qs {
				_ = h.group.Reactor(i % 2).Call(func() { d.channels[i%2].Submit(q) })
			}
			h.await("three commands at the target", func() bool {
				f.mu.Lock()
				defer f.mu.Unlock()
				return len(f.log) == 3
			})
			_ = f.l.Close()
			f.drop()
			for range qs {
				if s := <-ended; s != bdev.StatusGone {
					t.Error(s)
				}
			}
			d.want("after the end", 0, &bdev.Request{Kind: bdev.Flush}, bdev.StatusGone)
			d.close()
			h.awaitDevices()
			h.await("the end of the controller", func() bool { return len(h.in.Controllers()) == 0 })
		})
	}
}

func TestFastIOFail(t *testing.T) {
	for _, silent := range []bool{false, true} { // the target refuses, or does not answer
		f := newFake(t)
		h := newHost(t, 2)
		o := f.options()
		o.NumIOQueues = 1 // the other reactor's requests are handed over
		o.FastIOFail = 50 * time.Millisecond
		o.LossTimeout = Forever
		o.AdminTimeout = 4 * patience // a silent target does not end the attempt before
		h.attach(o)
		d := h.open("Nvme0n1")
		f.set(func() {
			f.fabric = func(k *fakeConn, s *nvmf.SQE) bool {
				if s.FCTYPE() != nvmf.FabricsConnect {
					return false
				}
				if !silent {
					k.respond(s, nvmf.StatusConnectBusy, 0)
				}
				return true
			}
		})
		f.drop()
		write := func() *bdev.Request {
			return &bdev.Request{Kind: bdev.Write, Blocks: 1, Data: [][]byte{make([]byte, 4096)}}
		}
		for i := range 2 {
			d.want("one that waits", i, write(), bdev.StatusNotReady)
			d.want("one that comes later", i, write(), bdev.StatusNotReady)
		}
		if c := h.in.Controllers()[0]; silent && c.Losses != 1 {
			t.Errorf("%+v", c)
		}
		f.set(func() { f.fabric = nil })
		f.drop()
		h.await("a connection", func() bool { return h.in.Controllers()[0].State == StateConnected })
		for i := range 2 {
			h.await("requests are served again", func() bool { return d.do(i, write()) == bdev.StatusOK })
		}
		d.close()
	}
}

// A refusal with DNR is the end: the target says that it will not change its mind.
func TestRefusalForGoodEndsTheController(t *testing.T) {
	f := newFake(t)
	h := newHost(t, 1)
	h.attach(f.options())
	f.set(func() {
		f.fabric = func(k *fakeConn, s *nvmf.SQE) bool {
			k.respond(s, nvmf.StatusConnectHost|nvmf.DNR, 0)
			return true
		}
	})
	f.drop()
	h.awaitDevices()
	h.await("the end of the controller", func() bool { return len(h.in.Controllers()) == 0 })
}

// What was sent and not answered: idempotent commands are sent again, others fail.
func TestWhatIsSentAgain(t *testing.T) {
	page := func() [][]byte { return [][]byte{make([]byte, 4096)} }
	for _, c := range []struct {
		q    *bdev.Request
		want bdev.Status
		log  []nvmf.IOOpcode
	}{
		{&bdev.Request{Kind: bdev.Read, Blocks: 1, Data: page()}, bdev.StatusOK, []nvmf.IOOpcode{nvmf.IORead, nvmf.IORead}},
		{&bdev.Request{Kind: bdev.Write, Blocks: 1, Data: page()}, bdev.StatusOK, []nvmf.IOOpcode{nvmf.IOWrite, nvmf.IOWrite}},
		{&bdev.Request{Kind: bdev.Flush}, bdev.StatusOK, []nvmf.IOOpcode{nvmf.IOFlush, nvmf.IOFlush}},
		{&bdev.Request{Kind: bdev.WriteZeroes, Blocks: 1}, bdev.StatusOK, []nvmf.IOOpcode{nvmf.IOWriteZeroes, nvmf.IOWriteZeroes}},
		{&bdev.Request{Kind: bdev.Unmap, Blocks: 1}, bdev.StatusOK, []nvmf.IOOpcode{nvmf.IODatasetManagement, nvmf.IODatasetManagement}},
		{&bdev.Request{Kind: bdev.Compare, Blocks: 1, Data: page()}, bdev.StatusOK, []nvmf.IOOpcode{nvmf.IOCompare, nvmf.IOCompare}},
		{&bdev.Request{Kind: bdev.Copy, Blocks: 1, LBA2: 9}, bdev.StatusIO, []nvmf.IOOpcode{nvmf.IOCopy}},
	} {
		t.Run(c.q.Kind.String(), func(t *testing.T) {
			f := newFake(t)
			f.id.ONCS |= nvmf.ONCSCopy
			f.id.OCFS = nvmf.OCFSFormat0
			f.ns.MSSRL, f.ns.MCL = 128, 128
			once := false
			f.io = func(k *fakeConn, s *nvmf.SQE, _ []byte) bool {
				was := once
				if once = true; !was {
					_ = k.c.Close()
				}
				return !was
			}
			h := newHost(t, 1)
			h.attach(f.options())
			d := h.open("Nvme0n1")
			defer d.close()
			d.want("sent and lost", 0, c.q, c.want)
			f.set(func() {
				if !slices.Equal(f.log, c.log) {
					t.Errorf("the target got %v, want %v", f.log, c.log)
				}
			})
		})
	}
}

// A namespace that is another one after the connection was lost gets nothing of what was meant for the first.
func TestReplacedNamespaceGetsNoRequests(t *testing.T) {
	f := newFake(t)
	f.io = func(*fakeConn, *nvmf.SQE, []byte) bool { return true }
	h := newHost(t, 2)
	o := f.options()
	o.NumIOQueues = 1
	h.attach(o)
	d := h.open("Nvme0n1")
	ended := make(done, 2)
	for i := range 2 {
		q := &bdev.Request{Kind: bdev.Write, Blocks: 1, Data: [][]byte{make([]byte, 4096)}, Done: ended}
		_ = h.group.Reactor(i).Call(func() { d.channels[i].Submit(q) })
	}
	h.await("two commands at the target", func() bool {
		f.mu.Lock()
		defer f.mu.Unlock()
		return len(f.log) == 2
	})
	f.set(func() { f.ids.UUID[0]++; f.log = nil })
	f.drop()
	for range 2 {
		if s := <-ended; s != bdev.StatusGone {
			t.Error(s)
		}
	}
	d.want("one that comes later", 0, &bdev.Request{Kind: bdev.Flush}, bdev.StatusGone)
	d.close()
	h.await("the device of the new namespace", func() bool {
		d, err := h.bdevs.Lookup("Nvme0n1")
		return err == nil && d.UUID()[0] == 2
	})
	f.set(func() {
		if len(f.log) > 0 {
			t.Errorf("the target got %v", f.log)
		}
	})
}

func TestAbort(t *testing.T) {
	f := newFake(t)
	f.id.MAXCMD = 1
	var open *nvmf.SQE
	var on *fakeConn
	f.io = func(k *fakeConn, s *nvmf.SQE, _ []byte) bool {
		c := *s
		open, on = &c, k
		return true
	}
	aborted := 0
	f.admin = func(k *fakeConn, s *nvmf.SQE) bool {
		if nvmf.AdminOpcode(s.Opcode()) != nvmf.AdminAbort {
			return false
		}
		if aborted++; s.AbortSQID() != 1 || s.AbortCID() != open.CID() {
			t.Errorf("an Abort of command %d of queue %d", s.AbortCID(), s.AbortSQID())
		}
		k.respond(s, nvmf.StatusSuccess, 0)
		on.respond(open, nvmf.StatusAbortRequested, 0)
		return true
	}
	h := newHost(t, 1)
	h.attach(f.options())
	d := h.open("Nvme0n1")
	defer d.close()
	first, second := make(done, 1), make(done, 1)
	qs := []*bdev.Request{
		{Kind: bdev.Read, Blocks: 1, Data: [][]byte{make([]byte, 4096)}, Done: first},
		{Kind: bdev.Write, Blocks: 1, Data: [][]byte{make([]byte, 4096)}, Done: second},
	}
	_ = h.group.Reactor(0).Call(func() {
		for _, q := range qs {
			d.channels[0].Submit(q)
		}
	})
	h.await("a command at the target", func() bool {
		f.mu.Lock()
		defer f.mu.Unlock()
		return len(f.log) == 1
	})
	var sent, waiting bool
	_ = h.group.Reactor(0).Call(func() {
		waiting = d.channels[0].Abort(qs[1])
		sent = d.channels[0].Abort(qs[0])
	})
	if !waiting || !sent {
		t.Errorf("the one that waits: %v, the one that was sent: %v", waiting, sent)
	}
	if a, b := <-first, <-second; a != bdev.StatusAborted || b != bdev.StatusAborted {
		t.Error(a, b)
	}
	_ = h.group.Reactor(0).Call(func() {
		if d.channels[0].Abort(qs[0]) {
			t.Error("a request that has ended was aborted")
		}
		d.channels[0].Submit(qs[1])
	})
	h.await("a write at the target", func() bool {
		f.mu.Lock()
		defer f.mu.Unlock()
		return len(f.log) == 2
	})
	_ = h.group.Reactor(0).Call(func() {
		if d.channels[0].Abort(qs[1]) {
			t.Error("a write that the target may have done was aborted")
		}
	})
	f.set(func() { on.respond(open, nvmf.StatusSuccess, 0) })
	if s := <-second; s != bdev.StatusOK {
		t.Error(s)
	}
}

func TestDiscovery(t *testing.T) {
	e := nvmftest.Start(t, nvmftest.Options{Reactors: 2})
	h := newHost(t, 1)
	var want []string
	for i := range 11 {
		nqn := fmt.Sprintf("nqn.2026-01.io.pollux:s%02d", i)
		if err := e.Target.CreateSubsystem(nvmf.SubsystemOptions{NQN: nqn, AllowAnyHost: true}); err != nil {
			t.Fatal(err)
		}
		if err := e.Target.AddListener(nqn, nvmftest.Address(e.Addr), nvmf.ANAOptimized); err != nil {
			t.Fatal(err)
		}
		want = append(want, nqn)
	}
	if err := e.Target.AddReferral(nvmf.Referral{Address: nvmf.Address{TRType: "TCP", AdrFam: "IPv4", TrAddr: "192.0.2.7", TrSvcID: "8009"}}); err != nil {
		t.Fatal(err)
	}
	o := DefaultOptions()
	o.TrAddr, o.TrSvcID = e.Addr.Addr().String(), fmt.Sprint(e.Addr.Port())
	entries, err := Discover(context.Background(), h.group, o, h.in.log)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	referrals := 0
	for _, e := range entries {
		if e.SUBTYPE == nvmf.SubsystemReferral && e.TRADDR == "192.0.2.7" && e.TRSVCID == "8009" {
			referrals++
		}
		if e.SUBTYPE == nvmf.SubsystemNVMe && e.SUBNQN != nvmftest.NQN {
			got = append(got, e.SUBNQN)
		}
	}
	if slices.Sort(got); !slices.Equal(got, want) || referrals != 1 {
		t.Errorf("found %v and %d referrals in %+v", got, referrals, entries)
	}
	e.WantNothingLeft("after a discovery")
}

// A page that changes while it is read is read again.
func TestDiscoveryPageThatMoves(t *testing.T) {
	for _, c := range []struct {
		why   string
		moves int
		wrong string
	}{{"once", 1, ""}, {"for ever", 1000, "changed 10 times"}} {
		t.Run(c.why, func(t *testing.T) {
			f := newFake(t)
			generation, left := uint64(1), c.moves
			f.id.SUBNQN = nvmf.DiscoveryNQN
			f.admin = func(k *fakeConn, s *nvmf.SQE) bool {
				if nvmf.AdminOpcode(s.Opcode()) != nvmf.AdminGetLogPage {
					return false
				}
				page := nvmf.DiscoveryHeader{GENCTR: generation, NUMREC: 5}.AppendTo(nil)
				for i := range 5 {
					page = nvmf.DiscoveryEntry{SUBTYPE: nvmf.SubsystemNVMe, SUBNQN: fmt.Sprintf("nqn.2026-01.io.pollux:g%d.%d", generation, i)}.AppendTo(page)
				}
				p := s.LogPage()
				if p.Offset > 1024 && left > 0 {
					left--
					generation++
				}
				w, _ := p.Window(page)
				k.give(s, w)
				return true
			}
			h := newHost(t, 1)
			o := f.options()
			entries, err := Discover(context.Background(), h.group, o, h.in.log)
			if c.wrong != "" {
				if err == nil || !strings.Contains(err.Error(), c.wrong) {
					t.Errorf("%v", err)
				}
				return
			}
			if err != nil || len(entries) != 5 || entries[0].SUBNQN != "nqn.2026-01.io.pollux:g2.0" || entries[4].SUBNQN != "nqn.2026-01.io.pollux:g2.4" {
				t.Errorf("%v, %+v", err, entries)
			}
		})
	}
}

func TestDisableAndEnable(t *testing.T) {
	e := nvmftest.Start(t, nvmftest.Options{})
	h := newHost(t, 1)
	h.attach(options(e.Addr))
	d := h.open("Nvme0n1")
	defer d.close()
	ctx := context.Background()
	read := &bdev.Request{Kind: bdev.Read, Blocks: 1, Data: [][]byte{make([]byte, 4096)}}
	for range 2 {
		for range 2 { // twice is harmless
			if err := h.in.Disable(ctx, "Nvme0"); err != nil {
				t.Fatal(err)
			}
		}
		e.WantNothingLeft("while it is disabled")
		d.want("while it is disabled", 0, read, bdev.StatusNotReady)
		if s := h.in.Controllers()[0].State.String(); s != "disabled" {
			t.Error(s)
		}
		for range 2 {
			if err := h.in.Enable(ctx, "Nvme0"); err != nil {
				t.Fatal(err)
			}
		}
		d.want("enabled", 0, read, bdev.StatusOK)
	}
	if err := h.in.Disable(ctx, "Nvme0"); err != nil {
		t.Fatal(err)
	}
	if err := h.in.Reset(ctx, "Nvme0"); err != nil {
		t.Fatal(err)
	}
	d.want("reset", 0, read, bdev.StatusOK)
	if err := h.in.Disable(ctx, "Nvme0"); err != nil { // and detached so
		t.Fatal(err)
	}
}

// A controller can be detached while it tries to connect.
func TestDetachAndDisableWhileReconnecting(t *testing.T) {
	for _, disable := range []bool{false, true} {
		f := newFake(t)
		h := newHost(t, 1)
		h.attach(f.options())
		stuck := make(chan struct{}, 100)
		f.set(func() {
			f.fabric = func(*fakeConn, *nvmf.SQE) bool { stuck <- struct{}{}; return true } // silent
		})
		f.drop()
		<-stuck
		ctx := context.Background()
		if disable {
			if err := h.in.Disable(ctx, "Nvme0"); err != nil {
				t.Fatal(err)
			}
			f.set(func() { f.fabric = nil })
			if err := h.in.Enable(ctx, "Nvme0"); err != nil {
				t.Fatal(err)
			}
		}
		if err := h.in.Detach(ctx, "Nvme0"); err != nil {
			t.Fatal(err)
		}
		h.awaitDevices()
	}
}

// When an I/O queue is lost and the Admin queue is not, the controller is disabled before there is a new association: so what
// it still has of the old one is not done after something of the new.
func TestOldAssociationIsDisabledFirst(t *testing.T) {
	f := newFake(t)
	var order []string
	once := false
	f.io = func(k *fakeConn, _ *nvmf.SQE, _ []byte) bool {
		was := once
		if once = true; !was {
			order = nil
			_ = k.c.Close()
		}
		return !was
	}
	f.fabric = func(_ *fakeConn, s *nvmf.SQE) bool {
		switch {
		case s.FCTYPE() == nvmf.FabricsConnect && s.ConnectQID() == 0:
			order = append(order, "connect")
		case s.FCTYPE() == nvmf.FabricsPropertySet && !nvmf.CC(s.PropertyValue()).EN():
			order = append(order, "disable")
		}
		return false
	}
	h := newHost(t, 1)
	h.attach(f.options())
	d := h.open("Nvme0n1")
	defer d.close()
	d.want("write", 0, &bdev.Request{Kind: bdev.Write, Blocks: 1, Data: [][]byte{make([]byte, 4096)}}, bdev.StatusOK)
	f.set(func() {
		if !slices.Equal(order, []string{"disable", "connect"}) {
			t.Errorf("%v", order)
		}
	})
}

// A controller whose cache becomes volatile, perhaps by another namespace, keeps its devices: what they promised is kept by FUA.
func TestCacheThatAppears(t *testing.T) {
	f := newFake(t)
	f.id.VWC = 0
	fua := map[nvmf.IOOpcode]bool{}
	f.io = func(_ *fakeConn, s *nvmf.SQE, data []byte) bool {
		if data != nil || s.SGL().Bytes == 0 {
			fua[nvmf.IOOpcode(s.Opcode())] = s.FUA()
		}
		return false
	}
	h := newHost(t, 1)
	h.attach(f.options())
	d := h.open("Nvme0n1")
	defer d.close()
	writes := func(want bool, log ...nvmf.IOOpcode) {
		t.Helper()
		f.set(func() { f.log = nil })
		d.want("write", 0, &bdev.Request{Kind: bdev.Write, Blocks: 1, Data: [][]byte{make([]byte, 4096)}}, bdev.StatusOK)
		d.want("zeroes", 0, &bdev.Request{Kind: bdev.WriteZeroes, Blocks: 1}, bdev.StatusOK)
		d.want("unmap", 0, &bdev.Request{Kind: bdev.Unmap, Blocks: 1}, bdev.StatusOK)
		d.want("flush", 0, &bdev.Request{Kind: bdev.Flush}, bdev.StatusOK)
		f.set(func() {
			if fua[nvmf.IOWrite] != want || fua[nvmf.IOWriteZeroes] != want || !slices.Equal(f.log, log) {
				t.Errorf("FUA %v, want %v; commands %v, want %v", fua, want, f.log, log)
			}
		})
	}
	writes(false, nvmf.IOWrite, nvmf.IOWriteZeroes, nvmf.IODatasetManagement)
	f.set(func() { f.id.VWC, f.list = nvmf.VWCPresent, []nvmf.NSID{1, 2} })
	h.await("a request for events at the target", func() bool { return f.event(nvmf.EventNamespaces) })
	h.awaitDevices("Nvme0n1", "Nvme0n2")
	writes(true, nvmf.IOWrite, nvmf.IOWriteZeroes, nvmf.IODatasetManagement, nvmf.IOFlush)
	if d, _ := h.bdevs.Lookup("Nvme0n2"); !d.Geometry().Volatile {
		t.Error("the new device has no volatile cache")
	}
}

// That requests are to fail, because the connection is away for so long, is not told when there is one again.
func TestFastFailDoesNotComeAfterTheConnection(t *testing.T) {
	f := newFake(t)
	f.list = nil
	h := newHost(t, 2)
	blocked, gate := make(chan struct{}), make(chan struct{})
	f.admin = func(_ *fakeConn, s *nvmf.SQE) bool {
		if nvmf.AdminOpcode(s.Opcode()) == nvmf.AdminIdentify && s.CNS() == nvmf.CNSActiveList { // the last that is asked
			_ = h.group.Reactor(1).Go(func() { close(blocked); <-gate })
		}
		return false
	}
	o := f.options()
	addr, err := o.complete()
	if err != nil {
		t.Fatal(err)
	}
	c := newController(o, addr, h.bdevs, h.in.log, 0)
	fast := make(chan time.Time, 1)
	tried := make(chan *association)
	go func() {
		a, _, err := c.attempt(nil, fast)
		if err != nil {
			t.Error(err)
		}
		tried <- a
	}()
	<-blocked
	live := func(i int) (is bool) {
		_ = h.group.Reactor(i).Call(func() { is = c.shares[i].state == shareLive })
		return is
	}
	h.await("requests go to the new connection on reactor 0", func() bool { return live(0) })
	fast <- time.Now()
	close(gate)
	a := <-tried
	if !live(0) || !live(1) {
		t.Error("there is a connection, and requests fail")
	}
	c.detach(a)
}
