package ctl

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/pollux-storage/pollux/ctl/api"
	"github.com/pollux-storage/pollux/nvmf"
	"github.com/pollux-storage/pollux/nvmf/nvmftest"
)

const (
	earlyNQN = "nqn.2026-01.io.pollux:early"
	lateNQN  = "nqn.2026-01.io.pollux:late"
)

// twoSubsystems is a configuration whose second subsystem comes after its first one listens, on the same port. In between it waits for
// examinations.
func twoSubsystems(port netip.AddrPort) string {
	var b strings.Builder
	b.WriteString("subsystems:\n  - subsystem: nvmf\n    config:\n      - {method: nvmf_create_transport, params: {trtype: TCP}}\n")
	for _, nqn := range []string{earlyNQN, lateNQN} {
		fmt.Fprintf(&b, "      - {method: nvmf_create_subsystem, params: {nqn: %q, allow_any_host: true}}\n", nqn)
		fmt.Fprintf(&b, "      - {method: nvmf_subsystem_add_listener, params: {nqn: %q, listen_address: {trtype: TCP, traddr: 127.0.0.1, trsvcid: \"%d\"}}}\n", nqn, port.Port())
		b.WriteString("      - {method: bdev_wait_for_examine}\n")
	}
	return b.String()
}

// freePort is one of loopback that nobody listens on. (Somebody else may take it; the test then fails in AddListener and says so.)
func freePort(t *testing.T) netip.AddrPort {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return netip.MustParseAddrPort(l.Addr().String())
}

// holdExaminations lets every wait for examinations go on until the returned function is called.
func holdExaminations(e *Engine) (release func()) {
	e.pools.mu.Lock()
	defer e.pools.mu.Unlock()
	e.pools.running++
	return sync.OnceFunc(e.pools.end)
}

// awaitWaiter waits until somebody waits for examinations.
func awaitWaiter(t *testing.T, e *Engine) {
	t.Helper()
	nvmftest.Await(t, "the configuration has come to its wait", func() bool {
		e.pools.mu.Lock()
		defer e.pools.mu.Unlock()
		return e.pools.quiet != nil
	})
}

// startHeld makes an engine that loads twoSubsystems and stands in the midst of it, in a call of its own.
func startHeld(t *testing.T, configure func(e testEngine, text string) error) (e testEngine, addr netip.AddrPort, release func(), end chan error) {
	t.Helper()
	e, addr, end = startEngine(t), freePort(t), make(chan error, 1)
	release = holdExaminations(e.Engine)
	t.Cleanup(release) // before the engine's end, which waits for examinations
	go func() { end <- configure(e, twoSubsystems(addr)) }()
	awaitWaiter(t, e.Engine)
	return e, addr, release, end
}

// idle is how long a host has to hear nothing. A target that answers too early may be slower than that and not be caught; one that does
// not is never blamed.
const idle = 100 * time.Millisecond

func wantUnheard(t *testing.T, p *nvmftest.TCPPeer, why string) {
	t.Helper()
	if pdu, err := p.Poll(idle); err == nil {
		t.Errorf("%s: the host is answered: %v", why, pdu.Type)
	}
}

func connectData(nqn string) nvmf.ConnectData {
	return nvmf.ConnectData{CNTLID: nvmf.CNTLIDDynamic, SUBNQN: nqn, HOSTNQN: nvmftest.Host}
}

// A host that comes back while the configuration is being loaded waits until all of it is there. Were it told that its subsystem does not
// exist, it would give up for good (Linux removes a controller whose Connect is answered with DNR).
func TestHostsWaitForTheWholeConfiguration(t *testing.T) {
	load := map[string]func(e testEngine, text string) error{
		"at the start": func(e testEngine, text string) error { return configureEngine(t, e, "c.yaml", text, false) },
		"after framework_start_init": func(e testEngine, text string) error {
			if err := configureEngine(t, e, "c.yaml", text, true); err != nil {
				return err
			}
			_, err := api.FrameworkStartInit.Call(t.Context(), e.Methods, api.None{})
			return err
		},
	}
	for name, configure := range load {
		t.Run(name, func(t *testing.T) {
			e, addr, release, end := startHeld(t, configure)
			if _, err := api.EngineUndrain.Call(t.Context(), e.Methods, api.None{}); err == nil || !strings.Contains(err.Error(), "being loaded") {
				t.Errorf("engine_undrain in the midst: %v", err)
			}
			var hosts []*nvmftest.TCPPeer
			for range 3 {
				p := nvmftest.Dial(t, addr)
				p.Send(nvmf.ICReq{}.AppendTo(nil))
				hosts = append(hosts, p)
			}
			wantUnheard(t, hosts[0], "while the configuration is being loaded")
			release()
			if err := nvmftest.Take(t, "the configuration is loaded", end); err != nil {
				t.Fatal(err)
			}
			for i, nqn := range []string{earlyNQN, lateNQN, nvmf.DiscoveryNQN} {
				hosts[i].Recv("ICResp")
				hosts[i].WantStatus("Connect to "+nqn, hosts[i].ConnectAs(0, 32, 0, 0, connectData(nqn)), nvmf.StatusSuccess)
			}
		})
	}
}

// What cannot be listened on is told in its call, though nobody is served yet.
func TestAddressInUseIsToldWhileHostsWait(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	err = configureEngine(t, startEngine(t), "c.yaml", twoSubsystems(netip.MustParseAddrPort(l.Addr().String())), false)
	if err == nil || !strings.Contains(err.Error(), "nvmf_subsystem_add_listener (line 6, ") || !strings.Contains(err.Error(), "address already in use") {
		t.Error(err)
	}
}

// An engine that has loaded a part of its configuration serves nobody, and says so, until it is told to: what is missing could be what a
// host asks for.
func TestPartOfAConfigurationIsNotServed(t *testing.T) {
	e, addr := startEngine(t), freePort(t)
	text := twoSubsystems(addr) + "      - {method: nvmf_subsystem_add_ns, params: {nqn: \"" + lateNQN + "\", namespace: {bdev_name: none}}}\n"
	if err := configureEngine(t, e, "c.yaml", text, true); err != nil {
		t.Fatal(err)
	}
	if _, err := api.FrameworkStartInit.Call(t.Context(), e.Methods, api.None{}); err == nil || !strings.Contains(err.Error(), "none") || !strings.Contains(err.Error(), "engine_undrain") {
		t.Errorf("framework_start_init: %v", err)
	}
	h, err := api.EngineGetHealth.Call(t.Context(), e.Methods, api.None{})
	if err != nil || h.State != HealthFailed || !strings.Contains(h.Reasons[0].Why, "engine_undrain") {
		t.Errorf("%+v, %v", h, err)
	}
	p := nvmftest.Dial(t, addr)
	p.Send(nvmf.ICReq{}.AppendTo(nil))
	wantUnheard(t, p, "with a part of the configuration")
	if _, err := api.EngineUndrain.Call(t.Context(), e.Methods, api.None{}); err != nil {
		t.Fatal(err)
	}
	p.Recv("ICResp")
	p.WantStatus("Connect", p.ConnectAs(0, 32, 0, 0, connectData(lateNQN)), nvmf.StatusSuccess)
	if h, err := api.EngineGetHealth.Call(t.Context(), e.Methods, api.None{}); err != nil || h.State != HealthOK {
		t.Errorf("%+v, %v", h, err)
	}
}

// An engine that ends before its configuration is loaded ends with the hosts that wait.
func TestEngineEndsWhileHostsWait(t *testing.T) {
	e, addr := startEngine(t), freePort(t)
	text := twoSubsystems(addr) + "      - {method: nvmf_subsystem_add_ns, params: {nqn: \"" + lateNQN + "\", namespace: {bdev_name: none}}}\n"
	if err := configureEngine(t, e, "c.yaml", text, false); err == nil {
		t.Fatal("a namespace of a device that is not there")
	}
	p := nvmftest.Dial(t, addr)
	p.Send(nvmf.ICReq{}.AppendTo(nil))
	e.stop()
	if _, err := p.Poll(time.Minute); err == nil {
		t.Error("the host is answered")
	}
	if c, err := net.Dial("tcp", addr.String()); err == nil {
		c.Close()
		t.Error("the address is still listened on")
	}
}

// knock connects an Admin queue once, as a host does that tries again and again. failed: the connection ended.
func knock(addr netip.AddrPort, nqn string) (s nvmf.Status, failed error) {
	// From another address: a connection to a port that nobody listens on could come by this very port, and meet itself.
	from := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 0, 2)}, Timeout: 10 * time.Second}
	c, err := from.Dial("tcp", addr.String())
	if err != nil {
		return 0, err
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(10 * time.Second))
	if _, err := c.Write(nvmf.ICReq{}.AppendTo(nil)); err != nil {
		return 0, err
	}
	if _, err := io.ReadFull(c, make([]byte, nvmf.ICBytes)); err != nil {
		return 0, err
	}
	var connect nvmf.SQE
	connect.InitFabrics(nvmf.FabricsConnect, 1)
	connect.SetConnect(0, 32, 0, 0)
	connect.SetSGL(nvmf.SGL{Type: nvmf.SGLDataBlock, Subtype: nvmf.SGLOffset, Bytes: nvmf.ConnectDataBytes})
	d := connectData(nqn)
	if _, err := c.Write(d.AppendTo(nvmf.AppendCapsuleCmd(nil, &connect, nvmf.ConnectDataBytes, 0, 4))); err != nil {
		return 0, err
	}
	b := make([]byte, nvmf.CapsuleRespBytes)
	if _, err := io.ReadFull(c, b); err != nil {
		return 0, err
	}
	cqe, fault := nvmf.DecodeCapsuleResp(b)
	if !fault.OK() {
		return 0, fmt.Errorf("a CapsuleResp was expected: % x", b)
	}
	return cqe.Status, nil
}

// TestRestartsRefuseNobody ends an engine in order and starts another one with the same configuration, again and again, while hosts of
// both subsystems knock without a pause: they may lose their connection, and are never told not to try again.
func TestRestartsRefuseNobody(t *testing.T) {
	addr := freePort(t)
	ctx, cancel := context.WithCancel(t.Context())
	var hosts sync.WaitGroup
	defer hosts.Wait()
	defer cancel()
	let := map[string]chan struct{}{earlyNQN: make(chan struct{}), lateNQN: make(chan struct{})}
	for nqn, in := range let {
		hosts.Go(func() {
			for ctx.Err() == nil {
				switch s, err := knock(addr, nqn); {
				case err != nil:
				case s.OK():
					select {
					case in <- struct{}{}:
					default:
					}
				case s&nvmf.DNR != 0:
					t.Errorf("Connect to %s: %v: the host would give up", nqn, s)
					return
				}
			}
		})
	}
	for range 5 {
		e := startEngine(t)
		if err := configureEngine(t, e, "c.yaml", twoSubsystems(addr), false); err != nil {
			t.Fatal(err)
		}
		for nqn, in := range let {
			nvmftest.Take(t, "a host is let in to "+nqn, in)
		}
		e.stop()
	}
}

// A configuration written by hand may leave out to wait for examinations: a namespace waits by itself for a device that one of them may open.
func TestNamespaceWaitsForExaminations(t *testing.T) {
	e := startEngine(t)
	if err := e.Frame.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := api.NVMFCreateSubsystem.Call(t.Context(), e.Methods, api.NVMFCreateSubsystemParams{NQN: lateNQN}); err != nil {
		t.Fatal(err)
	}
	add := api.NVMFAddNSParams{NQN: lateNQN, Namespace: api.NVMFNamespaceParams{BdevName: "late"}}
	if _, err := api.NVMFSubsystemAddNS.Call(t.Context(), e.Methods, add); err == nil {
		t.Fatal("a namespace of a device that is not there")
	}
	release, end := holdExaminations(e.Engine), make(chan error, 1)
	t.Cleanup(release)
	go func() {
		_, err := api.NVMFSubsystemAddNS.Call(context.WithoutCancel(t.Context()), e.Methods, add)
		end <- err
	}()
	awaitWaiter(t, e.Engine)
	if _, err := api.BdevNullCreate.Call(t.Context(), e.Methods, api.BdevNullCreateParams{Name: "late", NumBlocks: 8, BlockSize: 4096}); err != nil {
		t.Fatal(err)
	}
	release()
	if err := nvmftest.Take(t, "the namespace is added", end); err != nil {
		t.Error(err)
	}
}

// TestWhoAskedForTheConfigurationMayLeave: framework_start_init takes as long as the configuration does, and its client may not wait for that. All
// of it is loaded nevertheless: an engine with a part of it serves nobody.
func TestWhoAskedForTheConfigurationMayLeave(t *testing.T) {
	left := make(chan context.CancelFunc, 1)
	e, addr, release, end := startHeld(t, func(e testEngine, text string) error {
		if err := configureEngine(t, e, "c.yaml", text, true); err != nil {
			return err
		}
		ctx, cancel := context.WithCancel(t.Context())
		left <- cancel
		_, err := api.FrameworkStartInit.Call(ctx, e.Methods, api.None{})
		return err
	})
	(<-left)()
	release()
	if err := nvmftest.Take(t, "the configuration is loaded", end); err != nil {
		t.Error(err)
	}
	if h, err := api.EngineGetHealth.Call(t.Context(), e.Methods, api.None{}); err != nil || h.State != HealthOK {
		t.Errorf("%+v, %v", h, err)
	}
	for _, nqn := range []string{earlyNQN, lateNQN} {
		if s, err := knock(addr, nqn); err != nil || !s.OK() {
			t.Errorf("Connect to %s: %v, %v", nqn, s, err)
		}
	}
}

// TestTheEngineEndsWhileItIsConfigured: what is loaded then ends with it, though what it waits for does not.
func TestTheEngineEndsWhileItIsConfigured(t *testing.T) {
	e, addr, release, end := startHeld(t, func(e testEngine, text string) error { return configureEngine(t, e, "c.yaml", text, false) })
	p := nvmftest.Dial(t, addr)
	p.Send(nvmf.ICReq{}.AppendTo(nil))
	ended := make(chan struct{})
	go func() {
		e.stop()
		close(ended)
	}()
	if err := nvmftest.Take(t, "the configuration is given up", end); err == nil {
		t.Error("a part of a configuration was taken for the whole")
	}
	p.WantClosed("the engine ends")
	release()
	<-ended
}
