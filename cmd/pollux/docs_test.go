package main

import (
	"encoding/json"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/alecthomas/kong"

	"github.com/pollux-storage/pollux/ctl/api"
)

// This file holds the pages for those who run an engine against the program: a command or a method that is named there exists, with the
// flags and the number of arguments that it is given.

// pages are those whose commands are read.
var pages = []string{"../../docs/runbook.md", "../../docs/limits.md", "../../docs/deploy.md", "../../docs/trace.md", "../../docs/performance.md", "../../docs/rdma.md"}

// otherCommands are what pages name besides: of the system, of its hosts.
var otherCommands = []string{"journalctl", "systemctl", "systemd-sysusers", "nvme", "fstrim", "make", "install", "docker", "jq"}

var (
	pageBlock = regexp.MustCompile("(?ms)^```([a-z]*)\n(.*?)^```$")
	pageSpan  = regexp.MustCompile("`([^`\n]+)`")
	pageWord  = regexp.MustCompile(`'[^']*'|\S+`)
)

// commands lists the commands of a page: the lines of blocks, and the spans that begin with a program's name.
func commands(text string) []string {
	var list []string
	for _, block := range pageBlock.FindAllStringSubmatch(text, -1) {
		if block[1] != "" { // a file, not what is typed
			continue
		}
		for _, line := range strings.Split(strings.ReplaceAll(block[2], "\\\n", " "), "\n") {
			line, _, _ = strings.Cut(line, " #")
			if line = strings.TrimSpace(line); line != "" {
				list = append(list, line)
			}
		}
	}
	for _, s := range pageSpan.FindAllStringSubmatch(pageBlock.ReplaceAllString(text, ""), -1) {
		if first, _, several := strings.Cut(s[1], " "); several && (first == "pollux" || slices.Contains(otherCommands, first)) {
			list = append(list, s[1])
		}
	}
	return list
}

// wrongCommand says what is wrong with a command, "" if nothing is.
func wrongCommand(line string, methods []string) string {
	line, _, _ = strings.Cut(line, " > ")
	words := pageWord.FindAllString(line, -1)
	for i := range words {
		words[i] = strings.Trim(words[i], "'")
	}
	if words[0] == "sudo" {
		words = words[1:]
	}
	if words[0] != "pollux" {
		if !slices.Contains(otherCommands, words[0]) {
			return "it begins with no command that is known"
		}
		return ""
	}
	var c cli
	k, err := kong.New(&c, options...)
	if err != nil {
		return err.Error()
	}
	if _, err := k.Parse(words[1:]); err != nil {
		return err.Error()
	}
	if words[1] != "rpc" {
		return ""
	}
	if !slices.Contains(methods, c.RPC.Method) {
		return "there is no method " + c.RPC.Method
	}
	if c.RPC.Params != "" && !json.Valid([]byte(c.RPC.Params)) {
		return "its parameters are not JSON"
	}
	return ""
}

// methodsOf lists an engine's methods.
func methodsOf(t *testing.T) []string {
	t.Helper()
	var names []string
	sh := newShell(t)
	if err := json.Unmarshal([]byte(sh.must("rpc rpc_get_methods")), &names); err != nil {
		t.Fatal(err)
	}
	return names
}

func TestPagesNameWhatExists(t *testing.T) {
	methods := methodsOf(t)
	for _, page := range pages {
		text, err := os.ReadFile(page)
		if err != nil {
			t.Fatal(err)
		}
		list := commands(string(text))
		if len(list) < 5 {
			t.Errorf("%s: only %d commands were found", page, len(list))
		}
		for _, line := range list {
			if wrong := wrongCommand(line, methods); wrong != "" {
				t.Errorf("%s: %s: %s", page, line, wrong)
			}
		}
	}
}

// TestPagesAreReadAsTheyShould breaks each rule once.
func TestPagesAreReadAsTheyShould(t *testing.T) {
	methods := []string{api.EngineGetHealth.Name}
	for line, want := range map[string]string{
		"pollux rpc engine_health":                      "",
		`pollux rpc engine_health '{"a": 1}'`:           "",
		"pollux volume status pool0/volume0 -o json":    "",
		"sudo systemctl restart pollux":                 "",
		"pollux config save > pollux.json":              "",
		"pollux volume mend pool0/volume0":              "mend",
		"pollux volume status":                          "<volume>",
		"pollux volume status pool0/volume0 --thorough": "--thorough",
		"pollux rpc engine_mend":                        "no method engine_mend",
		"pollux rpc engine_health {":                    "not JSON",
		"polux top":                                     "no command that is known",
	} {
		if got := wrongCommand(line, methods); (got == "") != (want == "") || !strings.Contains(got, want) {
			t.Errorf("%s: %q, want %q", line, got, want)
		}
	}
	text := "Use `pollux top --once` or `pollux`, not `top`.\n\n```\npollux volume list    # all\n\npollux rpc \\\n  engine_health\n```\n"
	if got := strings.Join(commands(text), "|"); got != "pollux volume list|pollux rpc    engine_health|pollux top --once" {
		t.Errorf("the commands are %q", got)
	}
}

// TestTheImagesCommand: a container starts the engine with flags that exist.
func TestTheImagesCommand(t *testing.T) {
	text, err := os.ReadFile("../../deploy/container/Containerfile")
	if err != nil {
		t.Fatal(err)
	}
	var words []string
	m := regexp.MustCompile(`(?m)^CMD (\[.*\])$`).FindSubmatch(text)
	if m == nil || json.Unmarshal(m[1], &words) != nil {
		t.Fatal("the image has no command")
	}
	if wrong := wrongCommand("pollux "+strings.Join(words, " "), nil); wrong != "" {
		t.Error(wrong)
	}
}

// TestTheUnitsCommand: systemd starts the engine with flags that exist.
func TestTheUnitsCommand(t *testing.T) {
	text, err := os.ReadFile("../../deploy/systemd/pollux.service")
	if err != nil {
		t.Fatal(err)
	}
	start := regexp.MustCompile(`(?m)^ExecStart=/usr/bin/(.*) \$POLLUX_OPTIONS$`).FindStringSubmatch(string(text))
	more := regexp.MustCompile(`(?m)^Environment="POLLUX_OPTIONS=(.*)"$`).FindStringSubmatch(string(text))
	if start == nil || more == nil {
		t.Fatal("the unit does not start the engine with POLLUX_OPTIONS")
	}
	if wrong := wrongCommand(start[1]+" "+more[1], nil); wrong != "" {
		t.Error(wrong)
	}
}
