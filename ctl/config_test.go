package ctl

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/pollux-storage/pollux/ctl/api"
)

// toy is an engine of null devices and one option, enough to have something to save.
type toy struct {
	reg   *Registry
	frame *Frame

	mu      sync.Mutex
	examine bool
	devices []api.BdevNullCreateParams
	// calls are all calls that changed something, in order.
	calls []string
}

func newToy() *toy {
	t := &toy{reg: NewRegistry(slog.New(slog.DiscardHandler)), examine: true}
	t.frame = NewFrame(t.reg, func(context.Context) error { t.called("start"); return nil })
	RegisterDo(t.reg, api.BdevSetOptions, func(_ context.Context, p *api.BdevSetOptionsParams) error {
		t.called("options")
		t.examine = *p.BdevAutoExamine
		return nil
	})
	RegisterDo(t.reg, api.BdevWaitForExamine, func(context.Context, *api.None) error { t.called("wait"); return nil })
	Register(t.reg, api.BdevNullCreate, func(_ context.Context, p *api.BdevNullCreateParams) (string, error) {
		t.called(p.Name)
		if p.Name == "fails" {
			return "", errors.New("odd")
		}
		t.devices = append(t.devices, *p)
		return p.Name, nil
	})
	t.frame.Add(Subsystem{Name: "keyring"})
	t.frame.Add(Subsystem{Name: "bdev", DependsOn: []string{"keyring"}, Config: func(context.Context) ([]api.ConfigCall, error) {
		calls := []api.ConfigCall{api.BdevSetOptions.Config(api.BdevSetOptionsParams{BdevAutoExamine: &t.examine})}
		for _, d := range t.devices {
			calls = append(calls, api.BdevNullCreate.Config(d))
		}
		return append(calls, api.BdevWaitForExamine.Config(api.None{})), nil
	}})
	t.frame.Add(Subsystem{Name: "nvmf", DependsOn: []string{"bdev"}, Config: func(context.Context) ([]api.ConfigCall, error) {
		return nil, nil
	}})
	return t
}

func (t *toy) called(what string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.calls = append(t.calls, what)
}

const savedYAML = `
# two devices
subsystems:
  - subsystem: bdev
    config:
      - method: bdev_set_options
        params: {bdev_auto_examine: false}
      - method: bdev_null_create
        params:
          name: "n0"
          num_blocks: 0x800
          block_size: 512
      - method: bdev_null_create
        params: {name: n1, num_blocks: 1_000, block_size: 4096, uuid: ceccf520-691e-4b46-9546-34af789907c5}
      - method: bdev_wait_for_examine
  - subsystem: nvmf
    config:
`

const savedJSON = `{"subsystems": [
  {"subsystem": "keyring", "config": null},
  {"subsystem": "bdev", "config": [
    {"method": "bdev_set_options", "params": {"bdev_auto_examine": false}},
    {"method": "bdev_null_create", "params": {"name": "n0", "num_blocks": 2048, "block_size": 512}},
    {"method": "bdev_null_create", "params": {"name": "n1", "num_blocks": 1000, "block_size": 4096, "uuid": "ceccf520-691e-4b46-9546-34af789907c5"}},
    {"method": "bdev_wait_for_examine"}]},
  {"subsystem": "nvmf", "config": []}]}`

func TestLoadMakesTheCallsOfEachStateInOrder(t *testing.T) {
	for name, text := range map[string]string{"c.yaml": savedYAML, "c.json": savedJSON, "yaml": savedYAML, "json": savedJSON} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), name)
			if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
			config, err := ReadConfigFile(path)
			if err != nil {
				t.Fatal(err)
			}
			engine := newToy()
			skipped, err := config.Load(t.Context(), engine.reg)
			if err != nil || skipped != nil {
				t.Fatal(skipped, err)
			}
			if diff := cmp.Diff([]string{"options", "start", "n0", "n1", "wait"}, engine.calls); diff != "" {
				t.Error(diff)
			}
			saved, err := api.SaveConfig(t.Context(), engine.reg)
			if err != nil {
				t.Fatal(err)
			}
			var got, want any
			out, _ := json.Marshal(saved)
			if json.Unmarshal(out, &got) != nil || json.Unmarshal([]byte(savedJSON), &want) != nil {
				t.Fatal(string(out))
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestLoadAtRuntimeLeavesOutWhatIsOver(t *testing.T) {
	engine := newToy()
	if err := engine.frame.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	config, err := ParseConfig("c.json", []byte(savedJSON))
	if err != nil {
		t.Fatal(err)
	}
	skipped, err := config.Load(t.Context(), engine.reg)
	if err != nil || !slices.Equal(skipped, []string{"bdev_set_options"}) {
		t.Error(skipped, err)
	}
}

func TestLoadSaysHowFarItCame(t *testing.T) {
	config, err := ParseConfig("c.json", []byte(strings.Replace(savedJSON, `"n1"`, `"fails"`, 1)))
	if err != nil {
		t.Fatal(err)
	}
	_, err = config.Load(t.Context(), newToy().reg)
	if err == nil || err.Error() != "c.json: load the configuration: subsystem bdev: bdev_null_create (line 6, column 46) failed, the calls before it are in force: odd" || errors.Is(err, api.ErrConfig) {
		t.Error(err)
	}
}

// TestBrokenConfigChangesNothing: what can be known before the first call is an error before the first call.
func TestBrokenConfigChangesNothing(t *testing.T) {
	for _, c := range []struct{ name, file, old, new, want string }{
		{"unknown method", "c.yaml", "method: bdev_wait_for_examine", "method: bdev_wait_for_examin", `c.yaml: subsystem bdev, call 4: there is no method "bdev_wait_for_examin"; did you mean bdev_wait_for_examine?`},
		{"method this engine does not have", "c.yaml", "method: bdev_wait_for_examine", "method: bdev_error_create", `c.yaml: subsystem bdev, call 4: this engine does not have the method bdev_error_create`},
		{"unknown parameter", "c.yaml", "block_size: 512", "blocksize: 512", `c.yaml: subsystem bdev, call 2: bdev_null_create: unknown parameter "blocksize" (line 12, column 22); did you mean "block_size"?`},
		{"missing parameter", "c.yaml", "          block_size: 512\n", "", `bdev_null_create: the parameter "block_size" is missing (line 10, column 11); required are: name, num_blocks, block_size`},
		{"wrong type", "c.yaml", `name: "n0"`, "name: 17", `bdev_null_create: the parameter "name" is 17 (line 10, column 17); it has to be a string: put it in quotes`},
		{"wrong type in JSON", "c.json", `"num_blocks": 2048`, `"num_blocks": "2048"`, `bdev_null_create: the parameter "num_blocks" is "2048" (line 5, column 75); it has to be a number`},
		{"unknown member", "c.yaml", "config:\n      - method", "confg:\n      - method", `unknown member "subsystems[0].confg"`},
		{"no subsystems", "c.yaml", "subsystems:", "subsystem:", `unknown member "subsystem" (line 4, column 3); did you mean "subsystems"?`},
		{"not YAML", "c.yaml", "{bdev_auto_examine: false}", "{bdev_auto_examine: false", "c.yaml: line "},
		{"not JSON", "c.json", `"subsystems": [`, `"subsystems": [,`, "c.json: line 1, column 17: ',' begins no JSON value"},
		{"name twice", "c.yaml", `name: "n0"`, "name: n0\n          name: n1", `c.yaml: line 11, column 11: mapping key "name" already defined at [10:11]`},
		{"anchor", "c.yaml", "params: {bdev", "params: &a {bdev", "is of no use in a configuration"},
		{"two documents", "c.yaml", "\n# two", "a: 1\n---\n# two", "it holds 2 documents; one is expected"},
		{"empty", "c.yaml", savedYAML, "", "documents; one is expected"},
		{"a list", "c.yaml", savedYAML, "- a", "it is a list; it has to be an object"},
	} {
		t.Run(c.name, func(t *testing.T) {
			text := savedYAML
			if c.file == "c.json" {
				text = savedJSON
			}
			if !strings.Contains(text, c.old) {
				t.Fatalf("there is no %q", c.old)
			}
			engine := newToy()
			config, err := ParseConfig(c.file, []byte(strings.Replace(text, c.old, c.new, 1)))
			if err == nil {
				_, err = config.Load(t.Context(), engine.reg)
			}
			if !errors.Is(err, api.ErrConfig) || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got  %v\nwant %s", err, c.want)
			}
			if engine.calls != nil || engine.reg.State() != api.Startup {
				t.Errorf("changed: %v", engine.calls)
			}
		})
	}
}

func TestCheckNamesAllThatIsWrong(t *testing.T) {
	text := strings.NewReplacer("block_size: 512", "blocksize: 512", "method: bdev_wait_for_examine", "method: nothing_like_it").Replace(savedYAML)
	config, err := ParseConfig("c.yaml", []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	_, err = config.Load(t.Context(), newToy().reg)
	if err == nil || !strings.Contains(err.Error(), "blocksize") || !strings.Contains(err.Error(), "nothing_like_it") {
		t.Error(err)
	}
}

func TestSaveTakesWhatTheNamedOnesDependOn(t *testing.T) {
	engine := newToy()
	if err := engine.frame.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	saved, err := api.SaveConfig(t.Context(), engine.reg, "bdev")
	if err != nil || len(saved.Subsystems) != 2 || saved.Subsystems[0].Subsystem != "keyring" {
		t.Error(saved, err)
	}
	if _, err := api.SaveConfig(t.Context(), engine.reg, "bdv"); err == nil || !strings.Contains(err.Error(), `there is no subsystem "bdv"`) {
		t.Error(err)
	}
}

// TestConfigRoundTrip saves a random engine, loads that into a fresh one through the text, and expects the same again.
func TestConfigRoundTrip(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		one := newToy()
		one.examine = rapid.Bool().Draw(rt, "examine")
		for i := range rapid.IntRange(0, 5).Draw(rt, "devices") {
			one.devices = append(one.devices, api.BdevNullCreateParams{
				Name:              fmt.Sprintf("%d%s", i, rapid.String().Draw(rt, "name")),
				NumBlocks:         rapid.Uint64().Draw(rt, "blocks"),
				BlockSize:         rapid.Uint32().Draw(rt, "size"),
				PhysicalBlockSize: rapid.Uint32().Draw(rt, "physical"),
			})
		}
		ctx := context.Background()
		first, err := api.SaveConfig(ctx, one.reg)
		if err != nil {
			rt.Fatal(err)
		}
		text, err := json.Marshal(first)
		if err != nil {
			rt.Fatal(err)
		}
		config, err := ParseConfig("c.json", text)
		if err != nil {
			rt.Fatal(err)
		}
		two := newToy()
		if skipped, err := config.Load(ctx, two.reg); err != nil || skipped != nil {
			rt.Fatal(skipped, err)
		}
		second, err := api.SaveConfig(ctx, two.reg)
		if err != nil {
			rt.Fatal(err)
		}
		again, _ := json.Marshal(second)
		if string(again) != string(text) {
			rt.Fatalf("saved  %s\nloaded %s", text, again)
		}
	})
}

// pythonLoad does what rpc.py load_config does (python/spdk/rpc/config.py, load_config).
func pythonLoad(t *testing.T, c *pythonClient, text string) {
	t.Helper()
	call := func(method string, params map[string]any) any {
		result, err := c.call(method, params)
		if err != nil {
			t.Fatal(method, err)
		}
		return result
	}
	methods := func(current bool) map[string]bool {
		set := map[string]bool{}
		for _, name := range call("rpc_get_methods", map[string]any{"current": current, "include_aliases": false}).([]any) {
			set[name.(string)] = true
		}
		return set
	}
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
	all := methods(false)
	sections := file.Subsystems[:0]
	for _, s := range file.Subsystems {
		if len(s.Config) > 0 {
			sections = append(sections, s)
		}
		for _, elem := range s.Config {
			if !all[elem.Method] {
				t.Fatal("Unknown method was included in the config file")
			}
		}
	}
	if len(sections) == 0 && all["framework_start_init"] {
		call("framework_start_init", nil)
		return
	}
	for len(sections) > 0 {
		current, found := methods(true), false
		left := sections[:0:0]
		for _, s := range sections {
			rest := s.Config[:0:0]
			for _, elem := range s.Config {
				if current[elem.Method] {
					call(elem.Method, elem.Params)
					found = true
				} else {
					rest = append(rest, elem)
				}
			}
			if s.Config = rest; len(rest) > 0 {
				left = append(left, s)
			}
		}
		sections = left
		if current["framework_start_init"] {
			call("framework_start_init", nil)
			found = true
		}
		if !found {
			return
		}
	}
}

func TestPythonLoadConfigEnds(t *testing.T) {
	for name, text := range map[string]string{"full": savedJSON, "empty": `{"subsystems":[{"subsystem":"bdev","config":[]}]}`} {
		t.Run(name, func(t *testing.T) {
			engine := newToy()
			server, err := Listen(filepath.Join(t.TempDir(), "s"), engine.reg, slog.New(slog.DiscardHandler))
			if err != nil {
				t.Fatal(err)
			}
			defer server.Close()
			r := &rig{path: server.socket.path}
			c := &pythonClient{sock: r.dial(t)}
			pythonLoad(t, c, text)
			if engine.reg.State() != api.Runtime {
				t.Error("the engine is not in the runtime state")
			}
			began := len(engine.calls)
			pythonLoad(t, c, text) // once more, at runtime
			if slices.Contains(engine.calls[began:], "options") {
				t.Error("an option of startup was set at runtime")
			}
		})
	}
}
