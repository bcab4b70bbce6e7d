package ctl

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/pollux-storage/pollux/ctl/api"
	"github.com/pollux-storage/pollux/nvmf"
)

const keyedHost = "nqn.2024-01.com.example:host"

// addKeys puts keys of their own under the names into a keyring; seed makes the same ones again.
func addKeys(t *testing.T, c api.Caller, seed byte, names ...string) {
	t.Helper()
	for i, name := range names {
		secret := make([]byte, 32)
		secret[0], secret[1] = seed, byte(i)
		key, err := nvmf.NewAuthKey(nvmf.AuthHashNone, secret)
		if err != nil {
			t.Fatal(err)
		}
		path := filepath.Join(t.TempDir(), name)
		if err := os.WriteFile(path, []byte(key.Reveal()), 0o600); err != nil {
			t.Fatal(err)
		}
		must(t, c, api.KeyringFileAddKey, api.KeyringFileAddKeyParams{Name: name, Path: path})
	}
}

// TestHostKeys: a host with a key proves that it has it, by the calls of a script for SPDK on either side.
func TestHostKeys(t *testing.T) {
	target, host := startEngine(t), startEngine(t)
	port := exportLoop(t, target)
	if err := host.Frame.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	m := target.Methods
	addKeys(t, m, 1, "hk", "ck", "other")
	addKeys(t, host.Methods, 1, "hk", "ck", "other")
	must(t, m, api.NVMFSubsystemAllowAnyHost, api.NVMFAllowAnyHostParams{NQN: loopNQN})
	must(t, m, api.NVMFSubsystemAddHost, api.NVMFAddHostParams{NQN: loopNQN, Host: keyedHost, DHCHAPKey: "hk", DHCHAPCtrlrKey: "ck"})
	attach := func(key, ctrlr string) api.BdevNVMeAttachControllerParams {
		return api.BdevNVMeAttachControllerParams{Name: "Nvme0", TrType: "TCP", TrAddr: "127.0.0.1", TrSvcID: port, SubNQN: loopNQN, HostNQN: keyedHost, DHCHAPKey: key, DHCHAPCtrlrKey: ctrlr}
	}
	connects := func(why string, p api.BdevNVMeAttachControllerParams) {
		t.Helper()
		must(t, host.Methods, api.BdevNVMeAttachController, p)
		must(t, host.Methods, api.BdevNVMeDetachController, api.BdevNVMeDetachControllerParams{Name: "Nvme0"})
	}
	isRefused := func(why string, p api.BdevNVMeAttachControllerParams) {
		t.Helper()
		if _, err := api.BdevNVMeAttachController.Call(t.Context(), host.Methods, p); err == nil {
			t.Errorf("%s: the host connects", why)
		}
	}
	connects("both keys", attach("hk", "ck"))
	connects("the host's key alone", attach("hk", ""))
	must(t, host.Methods, api.BdevNVMeAttachController, attach("hk", "ck"))
	for _, q := range must(t, m, api.NVMFSubsystemGetQpairs, api.NVMFSubsystemParams{NQN: loopNQN}) {
		want := &api.NVMFQpairAuth{State: "completed", Digest: "sha512", DHGroup: "ffdhe8192"}
		if diff := cmp.Diff(want, q.Auth); diff != "" || q.State != "enabled" {
			t.Errorf("queue %d is %s: %s", q.QID, q.State, diff)
		}
	}
	must(t, host.Methods, api.BdevNVMeDetachController, api.BdevNVMeDetachControllerParams{Name: "Nvme0"})
	isRefused("no key", attach("", ""))
	isRefused("another key", attach("other", "ck"))
	isRefused("the subsystem has another key", attach("hk", "other"))

	must(t, m, api.NVMFSubsystemSetKeys, api.NVMFSetKeysParams{NQN: loopNQN, Host: keyedHost, DHCHAPKey: "other"})
	isRefused("the key of before", attach("hk", ""))
	connects("the new key", attach("other", ""))
	s := must(t, m, api.NVMFGetSubsystems, api.NVMFGetSubsystemsParams{NQN: loopNQN})
	if diff := cmp.Diff([]api.NVMFHost{{NQN: keyedHost, DHCHAPKey: "other"}}, s[0].Hosts); diff != "" {
		t.Error(diff)
	}
	must(t, m, api.NVMFSubsystemSetKeys, api.NVMFSetKeysParams{NQN: loopNQN, Host: keyedHost})
	connects("no key any more", attach("", ""))

	refused(t, m, api.NVMFSubsystemSetKeys, api.NVMFSetKeysParams{NQN: loopNQN, Host: keyedHost, DHCHAPCtrlrKey: "ck"}, api.CodeInvalidParams, "key")
	refused(t, m, api.NVMFSubsystemSetKeys, api.NVMFSetKeysParams{NQN: loopNQN, Host: "nqn.2024-01.com.example:none"}, api.CodeInvalidParams, "none")
	if _, err := api.NVMFSubsystemAddHost.Call(t.Context(), m, api.NVMFAddHostParams{NQN: loopNQN, Host: "nqn.2024-01.com.example:b", DHCHAPKey: "none"}); err == nil || !strings.Contains(err.Error(), "there is no key none in the keyring") {
		t.Error(err)
	}
}

// TestAuthIsDescribed: in the words of SPDK, each of which there is.
func TestAuthIsDescribed(t *testing.T) {
	for _, c := range []struct {
		a    nvmf.AuthInfo
		want api.NVMFQpairAuth
	}{
		{nvmf.AuthInfo{}, api.NVMFQpairAuth{State: "negotiate", Digest: "unknown", DHGroup: "unknown"}},
		{nvmf.AuthInfo{State: nvmf.AuthKeying, Hash: nvmf.AuthSHA256}, api.NVMFQpairAuth{State: "challenge", Digest: "sha256", DHGroup: "null"}},
		{nvmf.AuthInfo{State: nvmf.AuthIdle, Authenticated: true, Hash: nvmf.AuthSHA384, Group: nvmf.DHFFDHE2048}, api.NVMFQpairAuth{State: "completed", Digest: "sha384", DHGroup: "ffdhe2048"}},
		{nvmf.AuthInfo{State: nvmf.AuthRefusing, Hash: nvmf.AuthSHA256}, api.NVMFQpairAuth{State: "failure1", Digest: "sha256", DHGroup: "null"}},
	} {
		if diff := cmp.Diff(&c.want, describeAuth(&c.a)); diff != "" {
			t.Errorf("%+v: %s", c.a, diff)
		}
	}
	for s := nvmf.AuthIdle; s <= nvmf.AuthClosed; s++ {
		if authStateNames[s] == "" {
			t.Errorf("the state %v has no name", s)
		}
	}
	if describeAuth(nil) != nil {
		t.Error("a queue without authentication is described")
	}
}

// TestTargetOptionsAreSaved: keys by their names, and what the target accepts of authentications.
func TestTargetOptionsAreSaved(t *testing.T) {
	e := startEngine(t)
	must(t, e.Methods, api.NVMFSetConfig, api.NVMFSetConfigParams{DHCHAPDigests: api.Words{"sha384"}, DHCHAPDHGroups: api.Words{"ffdhe3072", "ffdhe2048"}, DupHostPolicy: "restrict_per_listener", DiscoveryFilters: api.Words{"address", "svcid"}})
	must(t, e.Methods, api.NVMFSetMaxSubsystems, api.NVMFSetMaxSubsystemsParams{MaxSubsystems: 12})
	must(t, e.Methods, api.NVMFSetCRDT, api.NVMFSetCRDTParams{CRDT1: 7})
	if err := e.Frame.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	addKeys(t, e.Methods, 1, "hk", "ck")
	must(t, e.Methods, api.NVMFCreateSubsystem, api.NVMFCreateSubsystemParams{NQN: loopNQN})
	must(t, e.Methods, api.NVMFSubsystemAddHost, api.NVMFAddHostParams{NQN: loopNQN, Host: keyedHost, DHCHAPKey: "hk", DHCHAPCtrlrKey: "ck"})
	if r := e.Target.AuthRules(); len(r.Hashes) != 1 || len(r.Groups) != 2 {
		t.Errorf("%+v", r)
	}
	text := reload(t, e.Methods, "keyring", "nvmf")
	for _, want := range []string{`"dhchap_key": "hk"`, `"ffdhe3072"`, `"restrict_per_listener"`, `"svcid"`, `"max_subsystems": 12`, `"crdt1": 7`} {
		if !strings.Contains(text, want) {
			t.Errorf("there is no %s in\n%s", want, text)
		}
	}
}

func TestTargetOptionsThatAreRefused(t *testing.T) {
	e := startEngine(t)
	for want, p := range map[string]api.NVMFSetConfigParams{
		"match_any stands alone":     {DiscoveryFilters: api.Words{"match_any", "transport"}},
		"leave poll_groups_mask out": {PollGroupsMask: "0x1"},
		"leave admin_cmd_passthru":   {AdminCmdPassthru: &api.NVMFAdminCmdPassthru{Sanitize: true}},
	} {
		refused(t, e.Methods, api.NVMFSetConfig, p, api.CodeInvalidParams, want)
	}
	must(t, e.Methods, api.NVMFSetConfig, api.NVMFSetConfigParams{AdminCmdPassthru: &api.NVMFAdminCmdPassthru{}})
}
