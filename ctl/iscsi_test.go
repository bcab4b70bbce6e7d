package ctl

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/pollux-storage/pollux/ctl/api"
	"github.com/pollux-storage/pollux/internal/patient"
	"github.com/pollux-storage/pollux/iscsi"
	"github.com/pollux-storage/pollux/iscsi/iscsitest"
)

func TestISCSIMethods(t *testing.T) {
	e := startEngine(t)
	e.steps(t, []step{
		{"iscsi_set_options", `{"error_recovery_level": 1}`, `-22`},
		{"iscsi_set_options", `{"max_sessions": 65536}`, `-32602`},
		{"iscsi_set_options", `{"max_queue_depth": 32, "node_base": "iqn.1992-01.com.example"}`, `true`},
		{"iscsi_get_options", `{}`, `-1`},
		{"iscsi_get_portal_groups", `{}`, `-1`},
	})
	if err := e.Frame.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	const none = `\[\]`
	e.steps(t, []step{
		{"iscsi_set_options", `{}`, `-1`},
		{"iscsi_get_options", `{}`, `{"node_base":"iqn.1992-01.com.example","max_sessions":128,"max_connections_per_session":2,"max_queue_depth":32,"default_time2wait":2,"default_time2retain":20,"first_burst_length":65536,"immediate_data":true,"allow_duplicated_isid":false,"error_recovery_level":0,"nop_timeout":60,"nop_in_interval":30,"disable_chap":false,"require_chap":false,"mutual_chap":false,"chap_group":0,"max_large_datain_per_connection":64,"max_r2t_per_connection":4}`},
		{"iscsi_set_discovery_auth", `{"mutual_chap": true}`, `-32602`},
		{"iscsi_set_discovery_auth", `{"require_chap": true, "chap_group": 4}`, `true`},
		{"iscsi_get_options", `{}`, `.*"require_chap":true,"mutual_chap":false,"chap_group":4,.*`},
		{"bdev_malloc_create", `{"name": "m0", "num_blocks": 2048, "block_size": 512}`, `"m0"`},
		{"bdev_malloc_create", `{"name": "m1", "num_blocks": 2048, "block_size": 512, "uuid": "` + optionUUID + `"}`, `"m1"`},

		{"iscsi_get_portal_groups", `{}`, none}, {"iscsi_get_initiator_groups", `{}`, none}, {"iscsi_get_target_nodes", `{}`, none},
		{"iscsi_get_auth_groups", `{}`, none}, {"iscsi_get_connections", `{}`, none}, {"scsi_get_devices", `{}`, none},
		{"iscsi_get_stats", `{}`, `{"invalid":0,"running":0,"exiting":0,"exited":0,"poll_groups":\[{"name":"reactor_0","sessions":0,.*}\],"hosts":\[\]}`},

		{"iscsi_create_portal_group", `{"tag": 1, "portals": [{"host": "127.0.0.1", "port": 3260}]}`, `-32602`}, // SPDK too wants a string
		{"iscsi_create_portal_group", `{"tag": 0, "portals": [{"host": "127.0.0.1", "port": "0"}]}`, `-32602`},
		{"iscsi_create_portal_group", `{"tag": 1, "portals": []}`, `-32602`},
		{"iscsi_create_portal_group", `{"tag": 1, "portals": [{"host": "127.0.0.1", "port": "0", "cpumask": "0x1"}]}`, `true`},
		{"iscsi_create_portal_group", `{"tag": 1, "portals": [{"host": "127.0.0.1", "port": "0"}]}`, `-32602`},
		{"iscsi_create_portal_group", `{"tag": 2, "portals": [{"host": "[::1]", "port": "1"}], "private": true, "wait": true}`, `true`},
		{"iscsi_get_portal_groups", `{}`, `\[{"tag":1,"portals":\[{"host":"127.0.0.1","port":"[1-9][0-9]*"}\],"private":false},{"tag":2,"portals":\[{"host":"\[::1\]","port":"1"}\],"private":true}\]`},
		{"iscsi_start_portal_group", `{"tag": 3}`, `-32602`}, {"iscsi_start_portal_group", `{"tag": 1}`, `true`},
		{"iscsi_portal_group_set_auth", `{"tag": 2, "disable_chap": true}`, `true`}, {"iscsi_portal_group_set_auth", `{"tag": 3}`, `-32602`},

		{"iscsi_create_initiator_group", `{"tag": 2, "initiators": ["ANY"]}`, `-32602`},
		{"iscsi_create_initiator_group", `{"tag": 2, "initiators": ["ANY", "!iqn.1992-01.com.example:no"], "netmasks": ["127.0.0.1/32"]}`, `true`},
		{"iscsi_initiator_group_add_initiators", `{"tag": 2, "initiators": ["IQN.1992-01.com.example:yes"]}`, `true`},
		{"iscsi_initiator_group_add_initiators", `{"tag": 3, "initiators": ["ANY"]}`, `-32602`},
		{"iscsi_initiator_group_remove_initiators", `{"tag": 2, "initiators": ["ANY"], "netmasks": ["127.0.0.1/32"]}`, `true`},
		{"iscsi_initiator_group_remove_initiators", `{"tag": 2, "initiators": ["ANY"]}`, `-32602`},
		{"iscsi_get_initiator_groups", `{}`, `\[{"tag":2,"initiators":\["!iqn.1992-01.com.example:no","iqn.1992-01.com.example:yes"\],"netmasks":\[\]}\]`},

		{"iscsi_create_target_node", `{"name": "d", "alias_name": "a", "pg_ig_maps": [{"pg_tag": 1, "ig_tag": 3}], "luns": [], "queue_depth": 8}`, `-32602`},
		{"iscsi_create_target_node", `{"name": "d", "alias_name": "a", "pg_ig_maps": [], "luns": [{"bdev_name": "none", "lun_id": 0}], "queue_depth": 8}`, `-19`},
		{"iscsi_create_target_node", `{"name": "d", "alias_name": "a", "pg_ig_maps": [], "luns": []}`, `-32602`},
		{"iscsi_create_target_node", `{"name": "d_1", "alias_name": "a", "pg_ig_maps": [], "luns": [], "queue_depth": 8}`, `-32602`},
		{"iscsi_create_target_node", `{"name": "Disk", "alias_name": "a", "pg_ig_maps": [{"pg_tag": 1, "ig_tag": 2}], "luns": [{"bdev_name": "` + optionUUID + `", "lun_id": 3}], "queue_depth": 999, "header_digest": true, "require_chap": true, "chap_group": 5}`, `true`},
		{"iscsi_get_target_nodes", `{}`, `\[{"name":"iqn.1992-01.com.example:disk","alias_name":"a","pg_ig_maps":\[{"pg_tag":1,"ig_tag":2}\],"luns":\[{"bdev_name":"m1","lun_id":3}\],"queue_depth":32,"disable_chap":false,"require_chap":true,"mutual_chap":false,"chap_group":5,"header_digest":true,"data_digest":false}\]`},
		{"iscsi_target_node_set_auth", `{"name": "disk", "disable_chap": true}`, `true`}, {"iscsi_target_node_set_auth", `{"name": "d"}`, `-32602`},
		{"iscsi_target_node_add_lun", `{"name": "disk", "bdev_name": "m0"}`, `true`}, {"iscsi_target_node_add_lun", `{"name": "disk", "bdev_name": "m0", "lun_id": 3}`, `-32602`},
		{"iscsi_target_node_add_lun", `{"name": "disk", "bdev_name": "m0", "lun_id": 256}`, `-32602`},
		{"iscsi_target_node_remove_lun", `{"name": "disk", "lun_id": 3}`, `true`}, {"iscsi_target_node_remove_lun", `{"name": "disk", "lun_id": 3}`, `-32602`},
		{"iscsi_target_node_add_pg_ig_maps", `{"name": "disk", "pg_ig_maps": [{"pg_tag": 2, "ig_tag": 2}]}`, `true`},
		{"iscsi_target_node_remove_pg_ig_maps", `{"name": "disk", "pg_ig_maps": [{"pg_tag": 3, "ig_tag": 2}]}`, `-32602`},
		{"iscsi_target_node_set_redirect", `{"name": "disk", "pg_tag": 1, "redirect_host": "::1", "redirect_port": "1"}`, `true`},
		{"iscsi_target_node_set_redirect", `{"name": "disk", "pg_tag": 2, "redirect_host": "127.0.0.1", "redirect_port": "1"}`, `-32602`},
		{"iscsi_get_target_nodes", `{}`, `.*"pg_ig_maps":\[{"pg_tag":1,"ig_tag":2},{"pg_tag":2,"ig_tag":2}\],"luns":\[{"bdev_name":"m0","lun_id":0}\],.*"disable_chap":true,.*"redirects":\[{"pg_tag":1,"redirect_host":"\[::1\]","redirect_port":"1"}\]}\]`},
		{"iscsi_target_node_set_redirect", `{"name": "disk", "pg_tag": 1}`, `true`},
		{"iscsi_target_node_request_logout", `{"name": "disk"}`, `true`}, {"iscsi_target_node_request_logout", `{"name": "disk", "pg_tag": 7}`, `-32602`},
		{"scsi_get_devices", `{}`, `\[{"id":0,"device_name":"iqn.1992-01.com.example:disk"}\]`},

		{"iscsi_get_histogram", `{"name": "disk"}`, `-32602`}, {"iscsi_enable_histogram", `{"name": "d", "enable": true}`, `-32602`},
		{"iscsi_enable_histogram", `{"name": "disk", "enable": true}`, `true`},
		{"iscsi_get_histogram", `{"name": "disk"}`, `{"histogram":"A+[A=]*","granularity":7,"min_range":0,"max_range":56,"tsc_rate":1000000000}`},
		{"iscsi_enable_histogram", `{"name": "disk", "enable": false}`, `true`}, {"iscsi_get_histogram", `{"name": "disk"}`, `-32602`},

		{"iscsi_create_auth_group", `{"tag": 5, "secrets": [{"user": "u"}]}`, `-32602`},
		{"iscsi_create_auth_group", `{"tag": 5, "secrets": [{"user": "u", "secret": "secret-of-u", "muser": "m"}]}`, `-32602`},
		{"iscsi_create_auth_group", `{"tag": 5}`, `true`}, {"iscsi_create_auth_group", `{"tag": 5}`, `-32602`},
		{"iscsi_auth_group_add_secret", `{"tag": 5, "user": "u", "secret": "secret-of-u", "muser": "m", "msecret": "secret-of-m"}`, `true`},
		{"iscsi_auth_group_add_secret", `{"tag": 5, "user": "u", "secret": "secret-of-u"}`, `-32602`}, {"iscsi_auth_group_add_secret", `{"tag": 6, "user": "u", "secret": "secret-of-u"}`, `-32602`},
		{"iscsi_get_auth_groups", `{}`, `\[{"tag":5,"secrets":\[{"user":"u","secret":"secret-of-u","muser":"m","msecret":"secret-of-m"}\]}\]`},
		{"iscsi_auth_group_remove_secret", `{"tag": 5, "user": "v"}`, `-32602`}, {"iscsi_auth_group_remove_secret", `{"tag": 5, "user": "u"}`, `true`},
		{"iscsi_delete_auth_group", `{"tag": 5}`, `true`}, {"iscsi_delete_auth_group", `{"tag": 5}`, `-32602`},

		{"iscsi_delete_target_node", `{"name": "d"}`, `-2`}, {"iscsi_delete_target_node", `{"name": "disk"}`, `true`},
		{"iscsi_delete_portal_group", `{"tag": 1}`, `true`}, {"iscsi_delete_portal_group", `{"tag": 1}`, `-32602`},
		{"iscsi_delete_initiator_group", `{"tag": 2}`, `true`}, {"iscsi_delete_initiator_group", `{"tag": 2}`, `-32602`},
		{"bdev_malloc_delete", `{"name": "m0"}`, `true`}, {"bdev_malloc_delete", `{"name": "m1"}`, `true`},
	})
}

// TestOlderNames: a script for an older SPDK calls methods by the names that they had.
func TestOlderNames(t *testing.T) {
	e := startEngine(t)
	e.steps(t, []step{{"set_iscsi_options", `{"max_sessions": 7}`, `true`}, {"get_portal_groups", `{}`, `-1`}})
	if err := e.Frame.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	e.steps(t, []step{{"get_iscsi_global_params", `{}`, `.*"max_sessions":7,.*`}, {"get_portal_groups", `{}`, `\[\]`}})
	now := must(t, e.Methods, api.RPCGetMethods, api.RPCGetMethodsParams{})
	all := must(t, e.Methods, api.RPCGetMethods, api.RPCGetMethodsParams{IncludeAliases: true})
	if slices.Contains(now, "get_portal_groups") || !slices.Contains(all, "get_portal_groups") || !slices.IsSorted(all) {
		t.Errorf("%v", all)
	}
	for _, m := range api.Methods() {
		for _, name := range m.Aliases {
			if spec, ok := api.Lookup(name); !ok || spec != m || slices.Contains(now, name) || !slices.Contains(all, name) && slices.Contains(now, m.Name) {
				t.Errorf("%s is not %s", name, m.Name)
			}
		}
	}
	two := startEngine(t)
	if err := configureEngine(t, two, "old.json", `{"subsystems": [{"subsystem": "iscsi", "config": [
		{"method": "set_iscsi_options", "params": {"max_sessions": 9}},
		{"method": "add_initiator_group", "params": {"tag": 1, "initiators": ["ALL"], "netmasks": ["ALL"]}}]}]}`, false); err != nil {
		t.Fatal(err)
	}
	two.steps(t, []step{{"iscsi_get_options", `{}`, `.*"max_sessions":9,.*`}, {"iscsi_get_initiator_groups", `{}`, `\[{"tag":1,"initiators":\["ANY"\],"netmasks":\["ANY"\]}\]`}})
}

// iscsiYAML is a configuration in which every option of the iSCSI target has a value that is not its default.
func iscsiYAML(t *testing.T) string {
	t.Helper()
	secrets := filepath.Join(t.TempDir(), "auth.conf")
	text := "[AuthGroup1]\n  Auth file-user file-secret-1\n[AuthGroup2]\n  Auth file-user file-secret-2\n[AuthGroup3]\n  Auth file-user file-secret-3\n"
	if err := os.WriteFile(secrets, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return fmt.Sprintf(`
subsystems:
  - subsystem: bdev
    config:
      - method: bdev_malloc_create
        params: {name: Malloc0, num_blocks: 256, block_size: 4096, uuid: fcf37ff5-e8c9-4fb3-98d1-b56e6cf9a0a2}
      - method: bdev_null_create
        params: {name: Null0, num_blocks: 256, block_size: 512, uuid: 0aafa1a9-bcb6-4d42-a9f5-1b5c1c6f5a04}
  - subsystem: iscsi
    config:
      - method: iscsi_set_options
        params: {auth_file: %q, node_base: iqn.1992-01.com.example, nop_timeout: 0, nop_in_interval: 0, max_sessions: 5, max_queue_depth: 33, max_connections_per_session: 1,
          default_time2wait: 0, default_time2retain: 0, first_burst_length: 8192, immediate_data: false, allow_duplicated_isid: true,
          max_large_datain_per_connection: 32, max_r2t_per_connection: 8, require_chap: true, chap_group: 1}
      - method: iscsi_auth_group_add_secret
        params: {tag: 2, user: later, secret: secret-of-later, muser: me, msecret: secret-of-me}
      - {method: iscsi_delete_auth_group, params: {tag: 3}}
      - method: iscsi_create_auth_group
        params: {tag: 4, secrets: [{user: host, secret: secret-of-host}]}
      - method: iscsi_create_portal_group
        params: {tag: 1, portals: [{host: 127.0.0.1, port: "%d"}, {host: "[::1]", port: "%d"}]}
      - method: iscsi_create_portal_group
        params: {tag: 2, portals: [{host: 127.0.0.1, port: "1"}], private: true, wait: true}
      - {method: iscsi_portal_group_set_auth, params: {tag: 2, disable_chap: true}}
      - method: iscsi_create_initiator_group
        params: {tag: 7, initiators: ["!iqn.1992-01.com.example:no", ANY], netmasks: ["127.0.0.0/8", "[::1]"]}
      - {method: iscsi_create_initiator_group, params: {tag: 3, initiators: [], netmasks: []}}
      - method: iscsi_create_target_node
        params: {name: disk1, alias_name: "a disk", pg_ig_maps: [{pg_tag: 2, ig_tag: 7}, {pg_tag: 1, ig_tag: 3}], luns: [{bdev_name: Malloc0, lun_id: 0}, {bdev_name: Null0, lun_id: 17}],
          queue_depth: 5, require_chap: true, mutual_chap: true, chap_group: 4, header_digest: true, data_digest: true}
      - {method: iscsi_target_node_set_redirect, params: {name: disk1, pg_tag: 1, redirect_host: 127.0.0.1, redirect_port: "1"}}
      - {method: iscsi_create_target_node, params: {name: eui.02004567A425678D, alias_name: "", pg_ig_maps: [], luns: [{bdev_name: Malloc0, lun_id: 1}], queue_depth: 0}}
`, secrets, freePort(t).Port(), freePort(t).Port())
}

// TestISCSIConfigRoundTrip: what is saved makes another target that saves the same, and tells the same of itself.
func TestISCSIConfigRoundTrip(t *testing.T) {
	one := startEngine(t)
	if err := configureEngine(t, one, "c.yaml", iscsiYAML(t), false); err != nil {
		t.Fatal(err)
	}
	tells := func(e testEngine) string {
		var all []string
		for _, m := range []string{"iscsi_get_options", "iscsi_get_portal_groups", "iscsi_get_initiator_groups", "iscsi_get_target_nodes", "scsi_get_devices", "iscsi_get_auth_groups"} {
			all = append(all, e.ask(t, m, `{}`))
		}
		return strings.Join(all, "\n")
	}
	first, told := savedConfig(t, one), tells(one)
	for _, never := range []string{"file-secret-1", "file-secret-3"} {
		if strings.Contains(first, never) {
			t.Errorf("%s is saved, and it stands in its file", never)
		}
	}
	one.stop()
	two := startEngine(t)
	if err := configureEngine(t, two, "c.json", first, false); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(first, savedConfig(t, two)); diff != "" {
		t.Error(diff)
	}
	again := tells(two)
	if groups := two.ask(t, "iscsi_get_auth_groups", `{}`); strings.Count(groups, `"tag"`) != 3 || !strings.Contains(groups, "file-secret-2") || strings.Contains(groups, "file-secret-3") {
		t.Errorf("%s", groups)
	}
	cut := func(s string) string { return s[:strings.LastIndex(s, "\n")] } // groups may stand in another order
	if diff := cmp.Diff(cut(told), cut(again)); diff != "" {
		t.Error(diff)
	}
	for _, sub := range must(t, two.Methods, api.FrameworkGetSubsystems, api.None{}) {
		if sub.Subsystem == "iscsi" && !slices.Equal(sub.DependsOn, []string{"scsi", "sock"}) {
			t.Errorf("%+v", sub)
		}
	}
}

// TestISCSISecretsAreMasked: whoever is no admin gets none of them, and no error tells one.
func TestISCSISecretsAreMasked(t *testing.T) {
	e := startEngine(t)
	if err := configureEngine(t, e, "c.yaml", iscsiYAML(t), false); err != nil {
		t.Fatal(err)
	}
	for _, role := range []api.Role{api.Viewer, api.Operator, api.Admin} {
		ctx := withOrigin(t.Context(), "somebody", "1", role)
		calls, err := api.FrameworkGetConfig.Call(ctx, e.Methods, api.FrameworkGetConfigParams{Name: "iscsi"})
		if err != nil {
			t.Fatal(err)
		}
		groups, err := api.ISCSIGetAuthGroups.Call(ctx, e.Methods, api.None{})
		if err != nil {
			t.Fatal(err)
		}
		text, err := json.Marshal([]any{calls, groups})
		if err != nil {
			t.Fatal(err)
		}
		if told := strings.Contains(string(text), "secret-"); told != (role == api.Admin) || (role < api.Admin) != strings.Contains(string(text), api.SecretMask) {
			t.Errorf("%v is told\n%s", role, text)
		}
		if !strings.Contains(string(text), `"later"`) {
			t.Errorf("%v is not told who has a secret\n%s", role, text)
		}
		for _, m := range []string{"iscsi_create_auth_group", "iscsi_auth_group_add_secret", "iscsi_auth_group_remove_secret", "iscsi_delete_auth_group"} {
			var done bool
			err := e.Methods.Call(ctx, m, map[string]any{"tag": 99, "user": "u", "secret": "secret-of-u"}, &done)
			if refused := err != nil && api.AsError(err).Code == -13; refused != (role < api.Admin) || err != nil && strings.Contains(err.Error(), "secret-of-u") {
				t.Errorf("%v calls %s: %v", role, m, err)
			}
		}
	}
}

func TestAuthFileIsRefused(t *testing.T) {
	e := startEngine(t)
	file := func(name, text string, mode os.FileMode) string {
		path := filepath.Join(t.TempDir(), name)
		if err := os.WriteFile(path, []byte(text), mode); err != nil {
			t.Fatal(err)
		}
		return path
	}
	for _, c := range []struct {
		why, path string
		role      api.Role
		code      int
		says      string
	}{
		{"missing", "/none", api.Admin, -2, "no such file"},
		{"relative", "none", api.Admin, -22, "not absolute"},
		{"open to others", file("a", "", 0o644), api.Admin, -1, "mode 0644"},
		{"wrong", file("b", "[AuthGroup1]\nAuth u topsecret m\n", 0o600), api.Admin, api.CodeInvalidParams, "line 2"},
		{"too long", file("c", strings.Repeat("#", authFileBytesMax+1), 0o600), api.Admin, -27, "more than"},
		{"of an operator", file("d", "", 0o600), api.Operator, -13, "the role admin"},
	} {
		_, err := api.ISCSISetOptions.Call(withOrigin(t.Context(), "somebody", "1", c.role), e.Methods, api.ISCSISetOptionsParams{AuthFile: c.path})
		if err == nil || api.AsError(err).Code != c.code || !strings.Contains(err.Error(), c.says) || strings.Contains(err.Error(), "topsecret") {
			t.Errorf("%s: %v", c.why, err)
		}
	}
	if o := e.ISCSI.Options(); o.AuthFile != "" {
		t.Errorf("%+v", o)
	}
}

// TestISCSIConnections: a connection is listed as SPDK lists one, from before its login to its end.
func TestISCSIConnections(t *testing.T) {
	x := &optionRig{T: t}
	d := x.doors("", `, "queue_depth": 0`)
	p := iscsitest.Dial(t, d.addr(1))
	one := func(why string) api.ISCSIConnection {
		t.Helper()
		var list []api.ISCSIConnection
		patient.Await(t, why, func() bool {
			list = must(t, d.testEngine.Methods, api.ISCSIGetConnections, api.None{})
			return len(list) == 1
		})
		return list[0]
	}
	if c := one("it is connected"); c.TSIH != -1 || c.LoginPhase != "security_negotiation_phase" || c.State != "running" || c.InitiatorAddr != "127.0.0.1" || c.TargetAddr != "127.0.0.1" || c.ThreadName != "reactor_0" {
		t.Errorf("%+v", c)
	}
	p.Step(iscsi.OperationalStage, iscsi.OperationalStage, iscsitest.Keys()...)
	if c := one("it logs in"); c.LoginPhase != "operational_negotiation_phase" {
		t.Errorf("%+v", c)
	}
	r, _ := p.Step(iscsi.OperationalStage, iscsi.FullFeature)
	p.Enter(r)
	p.Unit(0)
	c := one("it is in")
	if c.TSIH != int32(r.TSIH) || c.LoginPhase != "full_feature_phase" || c.TargetNodeName != iscsitest.Node || c.InitiatorName != iscsitest.Initiator || c.PGTag != 1 || c.Commands == 0 {
		t.Errorf("%+v", c)
	}
	stats := must(t, d.testEngine.Methods, api.ISCSIGetStats, api.None{})
	if stats.Running != 1 || stats.Invalid != 0 || stats.PollGroups[0].Sessions != 1 || stats.PollGroups[0].Logins != 1 {
		t.Errorf("%+v", stats)
	}
}

// TestInitiatorsWaitForTheWholeConfiguration: one that comes back while the configuration is being loaded is served when its target is there. Were
// it told that there is none, open-iscsi would give up.
func TestInitiatorsWaitForTheWholeConfiguration(t *testing.T) {
	e, addr, end := startEngine(t), freePort(t), make(chan error, 1)
	release := holdExaminations(e.Engine)
	t.Cleanup(release) // before the engine's end, which waits for examinations
	text := fmt.Sprintf(`
subsystems:
  - subsystem: iscsi
    config:
      - {method: iscsi_create_portal_group, params: {tag: 1, portals: [{host: 127.0.0.1, port: "%d"}]}}
      - {method: iscsi_create_initiator_group, params: {tag: 1, initiators: [ANY], netmasks: [ANY]}}
      - {method: bdev_wait_for_examine}
      - {method: iscsi_create_target_node, params: {name: test, alias_name: "", pg_ig_maps: [{pg_tag: 1, ig_tag: 1}], luns: [], queue_depth: 0}}
`, addr.Port())
	go func() { end <- configureEngine(t, e, "c.yaml", text, false) }()
	awaitWaiter(t, e.Engine)
	p := iscsitest.Dial(t, addr) // it listens
	if list, err := e.ISCSI.Connections(); err != nil || len(list) != 0 {
		t.Errorf("a connection is taken while the configuration is being loaded: %+v, %v", list, err)
	}
	release()
	if err := patient.Take(t, "the configuration is loaded", end); err != nil {
		t.Fatal(err)
	}
	p.Login()
	p.Logout("it was served")
}
