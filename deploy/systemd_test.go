package deploy

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// TestUnitIsSound lets systemd judge the unit, with a program that is there in the place of the engine.
func TestUnitIsSound(t *testing.T) {
	if _, err := exec.LookPath("systemd-analyze"); err != nil {
		t.Fatal("systemd-analyze is not there: run scripts/deps test")
	}
	text, err := os.ReadFile("systemd/pollux.service")
	if err != nil {
		t.Fatal(err)
	}
	unit := strings.Replace(string(text), "ExecStart=/usr/bin/pollux ", "ExecStart=/bin/true ", 1)
	if unit == string(text) {
		t.Fatal("the unit does not start /usr/bin/pollux")
	}
	file := filepath.Join(t.TempDir(), "pollux.service")
	if err := os.WriteFile(file, []byte(unit), 0o600); err != nil {
		t.Fatal(err)
	}
	out, err := exec.Command("systemd-analyze", "verify", "--man=no", "--recursive-errors=no", file).CombinedOutput()
	if err != nil || strings.Contains(string(out), filepath.Base(file)+":") {
		t.Errorf("systemd-analyze verify: %v\n%s", err, out)
	}
}

// TestTheUnitAllowsWhatTheEngineCalls: io_uring and pinning are in the filter's sets, as this systemd knows them.
func TestTheUnitAllowsWhatTheEngineCalls(t *testing.T) {
	allowed := map[string]bool{}
	var add func(set string)
	add = func(set string) {
		out, err := exec.Command("systemd-analyze", "syscall-filter", set).Output()
		if err != nil {
			t.Fatalf("systemd-analyze syscall-filter %s: %v", set, err)
		}
		for _, line := range strings.Split(string(out), "\n")[1:] {
			name := strings.TrimSpace(line)
			if strings.HasPrefix(name, "@") && !allowed[name] {
				allowed[name] = true
				add(name)
			}
			allowed[name] = true
		}
	}
	add("@system-service")
	for _, call := range []string{
		"io_uring_setup", "io_uring_enter", "io_uring_register", "sched_setaffinity", "sched_getaffinity", "sched_yield", "mmap", "munmap", "madvise",
		"eventfd2", "flock", "ioctl", "fallocate", "ftruncate", "accept4", "setsockopt", "epoll_pwait", "futex", "clone", "getrusage", "openat", "statx",
	} {
		if !allowed[call] {
			t.Errorf("@system-service has no %s", call)
		}
	}
}
