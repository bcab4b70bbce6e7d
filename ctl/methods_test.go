package ctl

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/pollux-storage/pollux/ctl/api"
	"github.com/pollux-storage/pollux/reactor"
)

func newReg() *Registry { return NewRegistry(slog.New(slog.DiscardHandler)) }

func TestRPCGetMethodsFollowsTheState(t *testing.T) {
	engine := newToy()
	list := func(current bool) []string {
		names, err := api.RPCGetMethods.Call(t.Context(), engine.reg, api.RPCGetMethodsParams{Current: current})
		if err != nil || !slices.IsSorted(names) {
			t.Fatal(names, err)
		}
		return names
	}
	has := func(names []string, name string) bool { return slices.Contains(names, name) }
	if all, now := list(false), list(true); !has(all, "bdev_set_options") || !has(all, "bdev_null_create") || !has(now, "bdev_set_options") ||
		!has(now, "framework_start_init") || has(now, "bdev_null_create") || has(all, "nvmf_get_stats") {
		t.Errorf("startup: all %v\nnow %v", all, now)
	}
	if err := engine.frame.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	if all, now := list(false), list(true); !has(all, "bdev_set_options") || has(now, "bdev_set_options") || !has(now, "bdev_null_create") ||
		has(now, "framework_start_init") || has(all, "framework_start_init") {
		t.Errorf("runtime: all %v\nnow %v", all, now)
	}
}

func TestFrameStartsOnce(t *testing.T) {
	fail := errors.New("no memory")
	reg := newReg()
	frame := NewFrame(reg, func(context.Context) error { return fail })
	waited := make(chan error)
	go func() { waited <- frame.Wait(t.Context()) }()
	if err := reg.Call(t.Context(), "framework_start_init", nil, nil); !strings.Contains(err.Error(), "start the engine's parts: no memory") {
		t.Error(err)
	}
	fail = nil // and it may be tried again
	var done bool
	if err := reg.Call(t.Context(), "framework_start_init", nil, &done); err != nil || !done {
		t.Error(err)
	}
	if err := <-waited; err != nil {
		t.Error(err)
	}
	if err := reg.Call(t.Context(), "framework_wait_init", nil, nil); err != nil {
		t.Error(err)
	}
	if err := reg.Call(t.Context(), "framework_start_init", nil, nil); api.AsError(err).Code != api.CodeWrongState {
		t.Error(err)
	}
	if err := frame.Start(t.Context()); api.AsError(err).Code != api.CodeWrongState {
		t.Error(err)
	}
}

func TestFrameworkGetConfig(t *testing.T) {
	engine := newToy()
	var calls json.RawMessage
	for name, want := range map[string]string{"keyring": "null", "nvmf": "[]"} {
		if err := engine.reg.Call(t.Context(), "framework_get_config", map[string]any{"name": name}, &calls); err != nil || string(calls) != want {
			t.Errorf("%s: %s, %v", name, calls, err)
		}
	}
	err := engine.reg.Call(t.Context(), "framework_get_config", map[string]any{"name": "bdv"}, &calls)
	if err == nil || err.Error() != `framework_get_config: there is no subsystem "bdv"; there are: keyring, bdev, nvmf` {
		t.Error(err)
	}
}

func TestSchemaDescribesEveryMethod(t *testing.T) {
	engine := newToy()
	schema, err := api.EngineGetSchema.Call(t.Context(), engine.reg, api.EngineGetSchemaParams{})
	if err != nil {
		t.Fatal(err)
	}
	var described []string
	for _, m := range schema.Methods {
		described = append(described, m.Name)
		if m.Params == nil || m.Result == nil || m.Description == "" || len(m.States) == 0 {
			t.Errorf("%s is described as %+v", m.Name, m)
		}
	}
	if diff := cmp.Diff(methodNames(engine.reg.Specs(false)), described); diff != "" {
		t.Error(diff)
	}
	var one json.RawMessage
	if err := engine.reg.Call(t.Context(), "engine_get_schema", map[string]any{"method": "bdev_null_create"}, &one); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{`"block_size":{"description":"bytes: 512 or 4096","type":"integer","minimum":0,"maximum":4294967295}`,
		`"required":["name","num_blocks","block_size"],"additionalProperties":false`, `"states":["runtime"]`, `"result":{"type":"string"}`} {
		if !strings.Contains(string(one), want) {
			t.Errorf("%s\ndoes not hold %s", one, want)
		}
	}
	if _, err := api.EngineGetSchema.Call(t.Context(), engine.reg, api.EngineGetSchemaParams{Method: "bdev_null_creat"}); err == nil ||
		err.Error() != `engine_get_schema: there is no method "bdev_null_creat"; did you mean bdev_null_create?` {
		t.Error(err)
	}
}

func TestSPDKGetVersion(t *testing.T) {
	v, err := api.SPDKGetVersion.Call(t.Context(), newReg(), api.None{})
	if err != nil || v.Fields.Major != 26 || v.Fields.Minor != 5 || !strings.HasPrefix(v.Version, "SPDK v26.05 interface, Pollux v") {
		t.Error(v, err)
	}
}

func TestNotifications(t *testing.T) {
	reg := newReg()
	n := NewNotifications(reg)
	for range notificationMax {
		n.Add(NotifyBdevRegister, "a")
	}
	n.Add(NotifyBdevResize, "b")
	got, err := api.NotifyGetNotifications.Call(t.Context(), reg, api.NotifyGetNotificationsParams{ID: notificationMax})
	if diff := cmp.Diff([]api.Notification{{Type: "bdev_resize", Ctx: "b", ID: notificationMax}}, got); diff != "" || err != nil {
		t.Error(diff, err)
	}
	got, err = api.NotifyGetNotifications.Call(t.Context(), reg, api.NotifyGetNotificationsParams{Max: new(uint64(1))})
	if err != nil || len(got) != 1 || got[0].ID != 1 {
		t.Error(got, err)
	}
}

func TestHealthIsTheWorst(t *testing.T) {
	h := NewHealth()
	at := time.Unix(0, 0).UTC()
	if s := h.State(); s.State != HealthOK || s.Reasons != nil {
		t.Error(s)
	}
	h.Report("bdev:b", HealthDegraded, "slow", at)
	h.Report("bdev:a", HealthFailed, "gone", at)
	h.Report("bdev:b", HealthDegraded, "slower", at.Add(time.Hour))
	want := api.EngineHealth{State: HealthFailed, Reasons: []api.HealthReason{
		{State: HealthFailed, Object: "bdev:a", Why: "gone", Since: "1970-01-01T00:00:00Z"},
		{State: HealthDegraded, Object: "bdev:b", Why: "slower", Since: "1970-01-01T00:00:00Z"},
	}}
	if diff := cmp.Diff(want, h.State()); diff != "" {
		t.Error(diff)
	}
	h.Report("bdev:a", HealthOK, "", at)
	if s := h.State(); s.State != HealthDegraded || len(s.Reasons) != 1 {
		t.Error(s)
	}
}

func TestKeyring(t *testing.T) {
	reg := newReg()
	ring := NewKeyring(reg)
	dir := t.TempDir()
	file := func(name, text string, mode os.FileMode) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), mode); err != nil {
			t.Fatal(err)
		}
		return path
	}
	good := file("good", "DHHC-1:00:secret:\n", 0o600)
	for _, c := range []struct {
		name, key, path string
		errno           syscall.Errno
		want            string
	}{
		{"relative", "k", "good", syscall.EINVAL, `add the key k: its path "good" is not absolute`},
		{"open to others", "k", file("open", "x", 0o640), syscall.EPERM, "has the mode 0640, so others may open it; make it 0600"},
		{"missing", "k", filepath.Join(dir, "none"), syscall.ENOENT, "no such file or directory"},
		{"a directory", "k", dir, syscall.EINVAL, "is not a file"},
		{"taken", "key0", good, syscall.EEXIST, "there is one of that name"},
	} {
		_, _ = api.KeyringFileAddKey.Call(t.Context(), reg, api.KeyringFileAddKeyParams{Name: "key0", Path: good})
		_, err := api.KeyringFileAddKey.Call(t.Context(), reg, api.KeyringFileAddKeyParams{Name: c.key, Path: c.path})
		if !errors.Is(err, c.errno) || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v", c.name, err)
		}
	}

	key, err := ring.Get("key0")
	if err != nil {
		t.Fatal(err)
	}
	if secret, err := key.Read(); err != nil || string(secret) != "DHHC-1:00:secret:" {
		t.Errorf("%q, %v", secret, err)
	}
	file("good", "changed", 0o600)
	if secret, err := key.Read(); err != nil || string(secret) != "changed" {
		t.Errorf("%q, %v", secret, err)
	}
	for text, want := range map[string]string{"": "is empty", "\n": "is empty", strings.Repeat("x", keyBytesMax+1): "has more than 4096 bytes"} {
		file("good", text, 0o600)
		if _, err := key.Read(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%.5q: %v", text, err)
		}
	}
	if err := os.Chmod(good, 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := key.Read(); !errors.Is(err, syscall.EPERM) {
		t.Errorf("opened to others meanwhile: %v", err)
	}

	calls, err := ring.Subsystem().Config(t.Context())
	if err != nil || len(calls) != 1 || string(calls[0].Params) != `{"name":"key0","path":"`+good+`"}` {
		t.Error(calls, err)
	}
	if _, err := api.KeyringFileRemoveKey.Call(t.Context(), reg, api.KeyringFileRemoveKeyParams{Name: "key0"}); err != nil {
		t.Fatal(err)
	}
	if _, err := ring.Get("key0"); !errors.Is(err, syscall.ENOKEY) {
		t.Errorf("a removed key is given out: %v", err)
	}
	keys, err := api.KeyringGetKeys.Call(t.Context(), reg, api.None{})
	if diff := cmp.Diff([]api.Key{{Name: "key0", Module: "keyring_file", Removed: true, Refcnt: 1, Path: good}}, keys); diff != "" || err != nil {
		t.Error(diff, err)
	}
	key.Put()
	if keys := ring.list(); len(keys) != 0 {
		t.Error("nobody uses it, and it is still there:", keys)
	}
	if _, err := api.KeyringFileRemoveKey.Call(t.Context(), reg, api.KeyringFileRemoveKeyParams{Name: "key0"}); !errors.Is(err, syscall.ENOKEY) {
		t.Error(err)
	}
	if _, err := api.KeyringLinuxSetOptions.Call(t.Context(), reg, api.KeyringLinuxSetOptionsParams{Enable: true}); !errors.Is(err, syscall.EINVAL) {
		t.Error(err)
	}
}

func TestSockOptions(t *testing.T) {
	reg := newReg()
	group := new(reactor.Group)
	s := NewSock(reg, group, slog.New(slog.DiscardHandler))
	if calls, err := s.Subsystem().Config(t.Context()); err != nil || len(calls) != 1 {
		t.Error("options that nobody chose are saved", calls, err)
	}
	set := api.SockImplSetOptionsParams{ImplName: "POSIX", SockOptions: api.SockOptions{RecvBufSize: new(uint32(4096)), EnableQuickack: new(true)}}
	if _, err := api.SockImplSetOptions.Call(t.Context(), reg, set); err != nil {
		t.Fatal(err)
	}
	got, err := api.SockImplGetOptions.Call(t.Context(), reg, api.SockImplParams{ImplName: "uring"})
	if err != nil || *got.RecvBufSize != 4096 || !*got.EnableQuickack || *got.SendBufSize != 2<<20 {
		t.Error(got, err)
	}
	if o := group.Sockets(); o != (reactor.SocketOptions{RecvBytes: 4096, QuickAck: true}) {
		t.Errorf("the reactors' sockets have %+v", o)
	}
	if _, err := api.SockSetDefaultImpl.Call(t.Context(), reg, api.SockImplParams{ImplName: "ssl"}); !errors.Is(err, syscall.EINVAL) {
		t.Error(err)
	}
	calls, err := s.Subsystem().Config(t.Context())
	if err != nil || len(calls) != 2 || !strings.Contains(string(calls[1].Params), `"recv_buf_size":4096`) {
		t.Error(calls, err)
	}
	for i := range calls {
		if err := reg.Call(t.Context(), calls[i].Method, calls[i].Params, nil); err != nil {
			t.Error(err)
		}
	}
}

func TestOptionsWithoutEffect(t *testing.T) {
	reg := newReg()
	registerWithoutEffect(reg, new(keptCalls))
	if _, err := api.AccelSetOptions.Call(t.Context(), reg, api.AccelSetOptionsParams{TaskCount: new(uint32(2048))}); err != nil {
		t.Error(err)
	}
}

func TestKillSendsTheSignalsThatAreAllowed(t *testing.T) {
	caught := make(chan os.Signal, 2)
	signal.Notify(caught, syscall.SIGUSR1)
	defer signal.Stop(caught)
	for _, name := range []string{"SIGUSR1", "10"} {
		if err := kill(name); err != nil {
			t.Error(err)
		}
		<-caught
	}
	for _, name := range []string{"SIGSTOP", "19", "", "0", "TERM"} {
		if err := kill(name); err == nil || api.AsError(err).Code != api.CodeInvalidParams {
			t.Errorf("%q: %v", name, err)
		}
	}
}
