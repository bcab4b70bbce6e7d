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
	"github.com/pollux-storage/pollux/nvmf"
)

// savedBySPDK is a configuration such as SPDK saves: the option calls that come with every one, and what each kind of device and
// target adds, with the members of its schema and of its modules' write_config functions. The files that it names are there.
func savedBySPDK(t *testing.T) string {
	t.Helper()
	text, err := os.ReadFile("testdata/spdk-saved.json")
	if err != nil {
		t.Fatal(err)
	}
	key, err := nvmf.NewAuthKey(nvmf.AuthHashNone, make([]byte, 32))
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	for name, content := range map[string][]byte{
		"key0": []byte(key.Reveal()), "disk": make([]byte, 1<<20), "auth.conf": []byte("[AuthGroup2]\n  Auth \"asker\" \"an-older-secret\"\n"),
	} {
		if err := os.WriteFile(filepath.Join(dir, name), content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return strings.NewReplacer("@DIR@", dir, "@PORT@", fmt.Sprint(freePort(t).Port()), "@ISCSI@", fmt.Sprint(freePort(t).Port())).Replace(string(text))
}

// calls are all calls of a configuration, by method.
func calls(t *testing.T, text string) map[string][]map[string]any {
	t.Helper()
	var file struct {
		Subsystems []struct {
			Config []struct {
				Method string
				Params map[string]any
			}
		}
	}
	if err := json.Unmarshal([]byte(text), &file); err != nil {
		t.Fatal(err)
	}
	out := map[string][]map[string]any{}
	for _, s := range file.Subsystems {
		for _, c := range s.Config {
			out[c.Method] = append(out[c.Method], c.Params)
		}
	}
	return out
}

func savedConfig(t *testing.T, e testEngine) string {
	t.Helper()
	saved, err := api.SaveConfig(t.Context(), e.Methods)
	if err != nil {
		t.Fatal(err)
	}
	text, err := json.MarshalIndent(saved, "", " ")
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// TestSavedBySPDK loads such a file as serve --config does and as rpc.py load_config does, and gives it back: every call of it is
// in what is saved, with every member that it had, and that makes the same engine once more.
func TestSavedBySPDK(t *testing.T) {
	for name, load := range map[string]func(t *testing.T, e testEngine, text string){
		"serve --config": func(t *testing.T, e testEngine, text string) {
			if err := configureEngine(t, e, "spdk.json", text, false); err != nil {
				t.Fatal(err)
			}
		},
		"rpc.py load_config": func(t *testing.T, e testEngine, text string) {
			c := &pythonClient{sock: (&rig{path: serveEngine(t, e)}).dial(t)}
			defer c.sock.Close()
			pythonLoad(t, c, text)
		},
	} {
		t.Run(name, func(t *testing.T) {
			text := savedBySPDK(t)
			one := startEngine(t)
			load(t, one, text)
			if one.Methods.State() != api.Runtime {
				t.Error("the engine is not in the runtime state")
			}
			first := savedConfig(t, one)
			has := calls(t, first)
			for method, wants := range calls(t, text) {
				for _, want := range wants {
					if !slices.ContainsFunc(has[method], func(got map[string]any) bool { return givesBack(method, want, got) }) {
						t.Errorf("%s %v is saved as %v", method, want, has[method])
					}
				}
			}
			one.stop() // a file belongs to one engine at a time
			two := startEngine(t)
			load(t, two, first)
			if diff := cmp.Diff(first, savedConfig(t, two)); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// givesBack reports whether a saved call says what a loaded one said. What this engine has no word for may be missing.
func givesBack(method string, want, got map[string]any) bool {
	ours := map[string][]string{
		// Sockets are of one kind here: posix is another name for it, and what was set last holds for both.
		"sock_impl_set_options": {"impl_name", "enable_zerocopy_send_server", "recv_buf_size", "send_buf_size"},
		// Pools and what else belongs to SPDK's own buffers.
		"nvmf_create_transport":       {"io_unit_size", "num_shared_buffers", "buf_cache_size", "dif_insert_or_strip", "zcopy", "sock_priority", "abort_timeout_sec", "ack_timeout", "data_wr_pool_size"},
		"nvmf_subsystem_add_listener": {"secure_channel", "sock_impl"},
	}[method]
	for name, w := range want {
		if slices.Contains(ours, name) {
			continue
		}
		g, there := got[name]
		switch w := w.(type) {
		case map[string]any:
			inner, _ := g.(map[string]any)
			if !givesBack("", w, inner) {
				return false
			}
		case bool, float64: // what is left out is the default, which is nothing
			if there && g != w || !there && w != false && w != 0.0 {
				return false
			}
		case string:
			if s, _ := g.(string); !strings.EqualFold(s, w) {
				return false
			}
		default:
			if there && !cmp.Equal(g, w) {
				return false
			}
		}
	}
	return true
}
