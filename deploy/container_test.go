package deploy

import (
	"encoding/json"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"testing"
)

func containerfile(t *testing.T) string {
	t.Helper()
	text, err := os.ReadFile("container/Containerfile")
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// TestTheImagesBinaryNeedsNoC: it is built without, and an empty image has no library. A package that is C alone would be refused here.
func TestTheImagesBinaryNeedsNoC(t *testing.T) {
	if !strings.Contains(containerfile(t), "\nRUN CGO_ENABLED=0 go build -trimpath -o /out/pollux ./cmd/pollux\n") {
		t.Error("the image does not build ./cmd/pollux without C")
	}
	cmd := exec.Command("go", "list", "-deps", "-f", "{{if .CgoFiles}}{{.ImportPath}}{{end}}", "./cmd/pollux")
	cmd.Dir = ".."
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil || strings.TrimSpace(string(out)) != "" {
		t.Errorf("%v\n%s", err, out)
	}
}

// TestTheImagesGoIsNewEnough: the one that go.mod asks for.
func TestTheImagesGoIsNewEnough(t *testing.T) {
	mod, err := os.ReadFile("../go.mod")
	if err != nil {
		t.Fatal(err)
	}
	want := regexp.MustCompile(`(?m)^go (\d+\.\d+)`).FindStringSubmatch(string(mod))
	from := regexp.MustCompile(`(?m)^FROM golang:(\S+) AS build$`).FindStringSubmatch(containerfile(t))
	if want == nil || from == nil || from[1] != want[1] {
		t.Errorf("the image is built with %v, go.mod asks for %v", from, want)
	}
}

// TestSeccompCommand runs what docs/deploy.md says, on a profile of the runtimes' form.
func TestSeccompCommand(t *testing.T) {
	text, err := os.ReadFile("../docs/deploy.md")
	if err != nil {
		t.Fatal(err)
	}
	filter := regexp.MustCompile(`(?m)^jq '(.*)' default\.json > pollux-seccomp\.json$`).FindStringSubmatch(string(text))
	if filter == nil {
		t.Fatal("the page has no command for a profile")
	}
	cmd := exec.Command("jq", filter[1])
	cmd.Stdin = strings.NewReader(`{"defaultAction": "SCMP_ACT_ERRNO", "syscalls": [{"names": ["read"], "action": "SCMP_ACT_ALLOW"}]}`)
	out, err := cmd.Output()
	if err != nil {
		t.Fatal("jq: run scripts/deps test if it is not there: ", err)
	}
	var profile struct {
		DefaultAction string `json:"defaultAction"`
		Syscalls      []struct {
			Names  []string `json:"names"`
			Action string   `json:"action"`
		} `json:"syscalls"`
	}
	if err := json.Unmarshal(out, &profile); err != nil {
		t.Fatal(err)
	}
	if n := len(profile.Syscalls); n != 2 || profile.DefaultAction != "SCMP_ACT_ERRNO" || strings.Join(profile.Syscalls[1].Names, " ") != "io_uring_setup io_uring_enter io_uring_register" || profile.Syscalls[1].Action != "SCMP_ACT_ALLOW" {
		t.Errorf("the profile is %s", out)
	}
}
