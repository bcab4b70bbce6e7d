package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/alecthomas/kong"
)

func model(t *testing.T) []completedCommand {
	t.Helper()
	k, err := kong.New(new(cli), options...)
	if err != nil {
		t.Fatal(err)
	}
	return commandsOf(k.Model.Node, "")
}

// TestBashCompletes runs the script in bash, as bash runs it.
func TestBashCompletes(t *testing.T) {
	dir := t.TempDir()
	script := filepath.Join(dir, "pollux.bash")
	if err := os.WriteFile(script, []byte(bashScript(model(t))), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"my config.yaml", "other.json"} {
		if err := os.WriteFile(filepath.Join(dir, name), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for _, c := range []struct{ line, want string }{
		{"pollux ser", "serve"},
		{"pollux config ", "save load check"},
		{"pollux serve --id", "--idle"},
		{"pollux serve --idle ", "poll adaptive interrupt"},
		{"pollux serve --idle = ad", "adaptive"},
		{"pollux serve --idle =", "poll adaptive interrupt"},
		{"pollux serve --cores ", ""},
		{"pollux serve --config oth", "other.json"},
		{"pollux config load my", "my config.yaml"},
		{"pollux rpc -s /x bdev_null_c", "bdev_null_create"},
		{"pollux rpc --socket other", "other.json"},
		{"pollux completion ", "bash zsh fish"},
		{"pollux config save --so", "--socket"},
	} {
		words := strings.Split(c.line, " ")
		for i := range words {
			words[i] = quote(words[i])
		}
		run := fmt.Sprintf("source %s; COMP_WORDS=(%s); COMP_CWORD=%d; _pollux; echo \"${COMPREPLY[*]}\"",
			script, strings.Join(words, " "), len(words)-1)
		bash := exec.Command("bash", "-c", run)
		bash.Dir = dir
		out, err := bash.CombinedOutput()
		if got := strings.TrimSuffix(string(out), "\n"); err != nil || got != c.want {
			t.Errorf("%q: got %q, %v; want %q", c.line, got, err, c.want)
		}
	}
}

// TestScriptsNameEverything: no command, flag or word is forgotten in one of the shells.
func TestScriptsNameEverything(t *testing.T) {
	commands := model(t)
	for shell, script := range map[string]string{"bash": bashScript(commands), "zsh": zshScript(commands), "fish": fishScript(commands)} {
		for _, c := range commands {
			if c.at != "" && !strings.Contains(script, c.at) {
				t.Errorf("%s: %s is missing", shell, c.at)
			}
			for _, w := range c.words {
				if !strings.Contains(script, w.name) {
					t.Errorf("%s: %s of %s is missing", shell, w.name, c.at)
				}
			}
			for _, f := range c.flags {
				if name := strings.TrimPrefix(f.names[0], "--"); !strings.Contains(script, name) {
					t.Errorf("%s: %s of %s is missing", shell, name, c.at)
				}
			}
		}
	}
}

func TestModelKnowsWhatValuesAre(t *testing.T) {
	commands := model(t)
	serve := commands[slices.IndexFunc(commands, func(c completedCommand) bool { return c.at == "/serve" })]
	flag := func(name string) completedFlag {
		return serve.flags[slices.IndexFunc(serve.flags, func(f completedFlag) bool { return f.names[0] == name })]
	}
	if f := flag("--wait-for-rpc"); f.value {
		t.Error("--wait-for-rpc takes a value")
	}
	if f := flag("--config"); !f.value || !f.files {
		t.Error("--config takes no file")
	}
	if f := flag("--idle"); !slices.Equal(f.words, []string{"poll", "adaptive", "interrupt"}) {
		t.Error("--idle takes", f.words)
	}
}
