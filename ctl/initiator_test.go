package ctl

import (
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/pollux-storage/pollux/bdev"
	"github.com/pollux-storage/pollux/ctl/api"
	"github.com/pollux-storage/pollux/rdma"
)

const loopNQN = "nqn.2024-01.com.example:loop"

// exportLoop makes a device and shows it on the loopback; it returns the port.
func exportLoop(t *testing.T, e testEngine) string {
	t.Helper()
	free, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	port := strconv.Itoa(free.Addr().(*net.TCPAddr).Port)
	free.Close()
	text := `{"subsystems": [{"subsystem": "bdev", "config": [
		{"method": "bdev_malloc_create", "params": {"name": "m0", "num_blocks": 256, "block_size": 512}}]},
		{"subsystem": "nvmf", "config": [
		{"method": "nvmf_create_transport", "params": {"trtype": "TCP"}},
		{"method": "nvmf_create_subsystem", "params": {"nqn": "` + loopNQN + `", "allow_any_host": true}},
		{"method": "nvmf_subsystem_add_ns", "params": {"nqn": "` + loopNQN + `", "namespace": {"bdev_name": "m0"}}},
		{"method": "nvmf_subsystem_add_listener", "params": {"nqn": "` + loopNQN + `", "listen_address": {"trtype": "TCP", "traddr": "127.0.0.1", "trsvcid": "` + port + `"}}}]}]}`
	if err := configureEngine(t, e, "loop.json", text, false); err != nil {
		t.Fatal(err)
	}
	return port
}

// TestRemoteController attaches one engine to another, by the calls of a script for SPDK.
func TestRemoteController(t *testing.T) {
	target, host := startEngine(t), startEngine(t)
	port := exportLoop(t, target)
	ctx, m := t.Context(), host.Methods
	if err := host.Frame.Start(ctx); err != nil {
		t.Fatal(err)
	}
	if _, err := api.BdevNVMeSetOptions.Call(ctx, m, api.BdevNVMeSetOptionsParams{CtrlrLossTimeoutSec: -1, ReconnectDelaySec: 1}); err != nil {
		t.Fatal(err)
	}
	attach := api.BdevNVMeAttachControllerParams{Name: "Nvme0", TrType: "tcp", AdrFam: "ipv4", TrAddr: "127.0.0.1", TrSvcID: port, SubNQN: loopNQN}
	names, err := api.BdevNVMeAttachController.Call(ctx, m, attach)
	if err != nil || !slices.Equal(names, []string{"Nvme0n1"}) {
		t.Fatal(names, err)
	}
	if _, err := api.BdevNVMeAttachController.Call(ctx, m, attach); !errors.Is(err, syscall.EEXIST) {
		t.Errorf("attached twice: %v", err)
	}
	if _, err := api.BdevNVMeSetOptions.Call(ctx, m, api.BdevNVMeSetOptionsParams{}); !errors.Is(err, syscall.EPERM) {
		t.Errorf("options under an attached controller: %v", err)
	}
	list, err := api.BdevNVMeGetControllers.Call(ctx, m, api.BdevNVMeGetControllersParams{Name: "Nvme0"})
	if err != nil || len(list) != 1 {
		t.Fatal(list, err)
	}
	peer := list[0].Ctrlrs[0]
	if peer.State != "enabled" || peer.TrID.TrType != "TCP" || peer.TrID.TrSvcID != port || peer.TrID.SubNQN != loopNQN || peer.Host.NQN == "" {
		t.Errorf("%+v", peer)
	}
	seen, err := api.NVMFSubsystemGetControllers.Call(ctx, target.Methods, api.NVMFSubsystemParams{NQN: loopNQN})
	if err != nil || len(seen) != 1 || seen[0].HostNQN != peer.Host.NQN || seen[0].CntlID != peer.CntlID {
		t.Errorf("the target sees %+v, %v", seen, err)
	}
	bdevs, err := api.BdevGetBdevs.Call(ctx, m, api.BdevGetBdevsParams{Name: "Nvme0n1"})
	if err != nil || bdevs[0].NumBlocks != 256 {
		t.Error(bdevs, err)
	}
	if _, err := api.BdevNVMeResetController.Call(ctx, m, api.BdevNVMeControllerParams{Name: "Nvme0"}); err != nil {
		t.Error(err)
	}
	wrong := uint16(65000)
	if _, err := api.BdevNVMeResetController.Call(ctx, m, api.BdevNVMeControllerParams{Name: "Nvme0", CntlID: &wrong}); !errors.Is(err, syscall.ENODEV) {
		t.Error(err)
	}
	saved, err := api.SaveConfig(ctx, m, "bdev")
	if err != nil {
		t.Fatal(err)
	}
	var methods []string
	for _, call := range saved.Subsystems[len(saved.Subsystems)-1].Config {
		methods = append(methods, call.Method)
	}
	if !slices.Equal(methods, []string{"bdev_nvme_set_options", "bdev_nvme_attach_controller", "bdev_wait_for_examine"}) {
		t.Errorf("saved %v", methods)
	}
	detach := api.BdevNVMeDetachControllerParams{Name: "Nvme0"}
	detach.TrSvcID = "1"
	if _, err := api.BdevNVMeDetachController.Call(ctx, m, detach); !errors.Is(err, syscall.ENODEV) || !strings.Contains(err.Error(), "its trsvcid is") {
		t.Error(err)
	}
	detach.TrSvcID = port
	if _, err := api.BdevNVMeDetachController.Call(ctx, m, detach); err != nil {
		t.Fatal(err)
	}
	if list, err := api.BdevNVMeGetControllers.Call(ctx, m, api.BdevNVMeGetControllersParams{}); err != nil || len(list) != 0 || len(host.Bdevs.Devices()) != 0 {
		t.Error(list, err)
	}
	if calls := host.devices.list(); len(calls) != 0 {
		t.Errorf("it would still be saved: %v", calls)
	}
}

// TestEngineEndsWithARemoteControllerAttached: nothing of it is left, and nobody waits for ever.
func TestEngineEndsWithARemoteControllerAttached(t *testing.T) {
	target, host := startEngine(t), startEngine(t)
	port := exportLoop(t, target)
	if err := host.Frame.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	attach := api.BdevNVMeAttachControllerParams{Name: "Nvme0", TrType: "TCP", TrAddr: "127.0.0.1", TrSvcID: port, SubNQN: loopNQN}
	if _, err := api.BdevNVMeAttachController.Call(t.Context(), host.Methods, attach); err != nil {
		t.Fatal(err)
	}
	host.stop()
}

func TestAttachSaysWhatItRefuses(t *testing.T) {
	e := startEngine(t)
	if err := e.Frame.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	key := filepath.Join(t.TempDir(), "key")
	if err := os.WriteFile(key, []byte("no key"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := api.KeyringFileAddKey.Call(t.Context(), e.Methods, api.KeyringFileAddKeyParams{Name: "bad", Path: key}); err != nil {
		t.Fatal(err)
	}
	e.Initiator.UseRDMA(func() (rdma.Provider, error) { return nil, fmt.Errorf("%w: none in this test", rdma.ErrUnavailable) })
	good := api.BdevNVMeAttachControllerParams{Name: "Nvme0", TrType: "TCP", TrAddr: "127.0.0.1", TrSvcID: "1", SubNQN: loopNQN}
	for _, c := range []struct {
		name   string
		change func(p *api.BdevNVMeAttachControllerParams)
		errno  syscall.Errno
		want   string
	}{
		{"PCIe", func(p *api.BdevNVMeAttachControllerParams) { p.TrType = "PCIe" }, syscall.EINVAL, "TCP and RDMA are what this build speaks"},
		{"no card", func(p *api.BdevNVMeAttachControllerParams) { p.TrType = "rdma" }, syscall.ENOTSUP, "RDMA is not available: none in this test"},
		{"TLS", func(p *api.BdevNVMeAttachControllerParams) { p.PSK = "k" }, syscall.EINVAL, "psk needs TLS"},
		{"protection", func(p *api.BdevNVMeAttachControllerParams) { p.PrchkGuard = true }, syscall.EINVAL, "protection information"},
		{"own address", func(p *api.BdevNVMeAttachControllerParams) { p.HostAddr = "127.0.0.1" }, syscall.EINVAL, "leave hostaddr"},
		{"unknown key", func(p *api.BdevNVMeAttachControllerParams) { p.DHCHAPKey = "none" }, syscall.ENOKEY, "there is no key none in the keyring"},
		{"bad key", func(p *api.BdevNVMeAttachControllerParams) { p.DHCHAPKey = "bad" }, syscall.EINVAL, "the key bad: "},
		{"no delay", func(p *api.BdevNVMeAttachControllerParams) {
			p.CtrlrLossTimeoutSec, p.ReconnectDelaySec = new(int32(-1)), new(uint32(0))
		}, syscall.EINVAL, "reconnect_delay_sec 0 with a ctrlr_loss_timeout_sec"},
	} {
		p := good
		c.change(&p)
		_, err := api.BdevNVMeAttachController.Call(t.Context(), e.Methods, p)
		if !errors.Is(err, c.errno) || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v", c.name, err)
		}
	}
	if _, err := api.BdevNVMeAttachController.Call(t.Context(), e.Methods, good); err == nil {
		t.Error("attached to nobody")
	}
}

// TestRemoteControllerOffAndOn: the devices stay, and their requests fail meanwhile.
func TestRemoteControllerOffAndOn(t *testing.T) {
	target, host := startEngine(t), startEngine(t)
	port, m := exportLoop(t, target), host.Methods
	if err := host.Frame.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	must(t, m, api.BdevNVMeAttachController, api.BdevNVMeAttachControllerParams{Name: "Nvme0", TrType: "TCP", TrAddr: "127.0.0.1", TrSvcID: port, SubNQN: loopNQN})
	u := openDevice(t, host, "Nvme0n1")
	defer u.close()
	one := api.BdevNVMeControllerParams{Name: "Nvme0"}
	state := func() string {
		return must(t, m, api.BdevNVMeGetControllers, api.BdevNVMeGetControllersParams{Name: "Nvme0"})[0].Ctrlrs[0].State
	}
	refused(t, m, api.BdevNVMeEnableController, one, -114, "enabled already")
	refused(t, m, api.BdevNVMeDisableController, api.BdevNVMeControllerParams{Name: "none"}, -19, "none")
	refused(t, m, api.BdevNVMeDisableController, api.BdevNVMeControllerParams{Name: "Nvme0", CntlID: new(uint16(65000))}, -19, "not 65000")
	for range 2 {
		must(t, m, api.BdevNVMeDisableController, one)
		if s := state(); s != "disabled" {
			t.Error(s)
		}
		for len(must(t, target.Methods, api.NVMFSubsystemGetControllers, api.NVMFSubsystemParams{NQN: loopNQN})) > 0 { // it hears of it by itself
		}
		if s := u.do(host, bdev.Read, make([]byte, 512)); s != bdev.StatusNotReady {
			t.Errorf("a read while it is disabled: %v", s)
		}
		refused(t, m, api.BdevNVMeDisableController, one, -114, "disabled already")
		must(t, m, api.BdevNVMeEnableController, one)
		if s := u.do(host, bdev.Read, make([]byte, 512)); s != bdev.StatusOK || state() != "enabled" {
			t.Errorf("a read when it is enabled again: %v, %s", s, state())
		}
	}
}

// TestWhatAHostAllowsOfAuthentication: it offers what bdev_nvme_set_options allows, and nothing else.
func TestWhatAHostAllowsOfAuthentication(t *testing.T) {
	target, host := startEngine(t), startEngine(t)
	must(t, target.Methods, api.NVMFSetConfig, api.NVMFSetConfigParams{DHCHAPDigests: api.Words{"sha512"}, DHCHAPDHGroups: api.Words{"ffdhe2048"}})
	port, m := exportLoop(t, target), host.Methods
	if err := host.Frame.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	addKeys(t, target.Methods, 1, "hk")
	addKeys(t, m, 1, "hk")
	must(t, target.Methods, api.NVMFSubsystemAddHost, api.NVMFAddHostParams{NQN: loopNQN, Host: keyedHost, DHCHAPKey: "hk"})
	attach := api.BdevNVMeAttachControllerParams{Name: "Nvme0", TrType: "TCP", TrAddr: "127.0.0.1", TrSvcID: port, SubNQN: loopNQN, HostNQN: keyedHost, DHCHAPKey: "hk"}
	for _, c := range []struct {
		name            string
		digests, groups api.Words
		connects        bool
	}{
		{"all", nil, nil, true},
		{"another hash function", api.Words{"sha256", "sha384"}, nil, false},
		{"another group", nil, api.Words{"null", "ffdhe3072"}, false},
		{"the target's and another", api.Words{"sha256", "sha512"}, api.Words{"ffdhe3072", "ffdhe2048"}, true},
	} {
		must(t, m, api.BdevNVMeSetOptions, api.BdevNVMeSetOptionsParams{DHCHAPDigests: c.digests, DHCHAPDHGroups: c.groups})
		_, err := api.BdevNVMeAttachController.Call(t.Context(), m, attach)
		if (err == nil) != c.connects {
			t.Errorf("%s: %v", c.name, err)
		}
		if err == nil {
			must(t, m, api.BdevNVMeDetachController, api.BdevNVMeDetachControllerParams{Name: "Nvme0"})
		}
	}
	refused(t, m, api.BdevNVMeSetOptions, api.BdevNVMeSetOptionsParams{DHCHAPDigests: api.Words{"md5"}}, api.CodeInvalidParams, "sha384")
	if text := reload(t, m, "bdev"); !strings.Contains(text, `"sha512"`) || !strings.Contains(text, `"ffdhe3072"`) {
		t.Error(text)
	}
}
