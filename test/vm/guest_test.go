package vm

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// A guest is a booted machine that waits for orders (testdata/agent.sh). Its scenarios write into its folder.
// It is used for one scenario after another until one fails: what that left behind is not the next one's.
type guest struct {
	dir     string
	command *exec.Cmd
	orders  io.WriteCloser
	answers *bufio.Reader
	stderr  bytes.Buffer
}

// bootLimit is what a guest has for booting.
const bootLimit = 2 * time.Minute

// boot starts a guest, with a line to an engine on this machine if there is one. It lives as long as the test, if
// it is not stopped earlier, and limit at most. It has the disk and the processors that s asks for, and knows the variables GUEST_*.
func boot(t *testing.T, e *engine, limit time.Duration, s scenario) (*guest, error) {
	g := &guest{dir: t.TempDir()}
	args := []string{"-i", "-n", "user", "-t", strconv.Itoa(int(limit.Seconds())), "-o", g.dir}
	if s.cpus != 0 {
		args = append(args, "-c", strconv.Itoa(s.cpus))
	}
	if s.icount != "" && s.icount != "none" {
		args = append(args, "-I", s.icount)
	}
	for _, v := range os.Environ() {
		if strings.HasPrefix(v, "GUEST_") {
			args = append(args, "-e", v)
		}
	}
	if s.disk != 0 {
		path := filepath.Join(g.dir, "disk")
		if err := os.WriteFile(path, nil, 0o600); err != nil {
			return nil, err
		}
		if err := os.Truncate(path, s.disk<<20); err != nil {
			return nil, err
		}
		args = append(args, "-d", path)
	}
	if e != nil {
		e.log = filepath.Join(g.dir, "engine.log")
		env, err := e.environment()
		if err != nil {
			return nil, err
		}
		for _, v := range env {
			args = append(args, "-e", v)
		}
		for _, arg := range e.device() {
			args = append(args, "-q", arg)
		}
		go e.obey()
	}
	g.command = exec.Command("./guest", append(args, "testdata/agent.sh")...)
	g.command.Stderr = &g.stderr
	// Should this test be killed, the guest is not left behind. The signal comes when the thread that
	// starts the guest ends, and Go ends no thread of its own accord.
	g.command.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGTERM}
	orders, err := g.command.StdinPipe()
	if err != nil {
		return nil, err
	}
	answers, err := g.command.StdoutPipe()
	if err != nil {
		return nil, err
	}
	g.orders, g.answers = orders, bufio.NewReader(answers)
	if err := g.command.Start(); err != nil {
		return nil, fmt.Errorf("could not start test/vm/guest: %w", err)
	}
	t.Cleanup(g.stop)
	if err := g.await("ready", bootLimit, new(string)); err != nil {
		g.stop()
		return nil, fmt.Errorf("the guest did not boot: %w\n%s\n%s", err, g.stderr.String(), g.read("kernel.log"))
	}
	return g, nil
}

// stop ends the guest, at once. It may be called twice.
func (g *guest) stop() {
	if g.command.ProcessState != nil {
		return
	}
	g.command.Process.Signal(syscall.SIGTERM)
	g.command.Wait()
}

// run has the guest run a scenario, and fails the test with its log if it does not end well.
func (g *guest) run(t *testing.T, s scenario, target, place string) (ok bool) {
	t.Helper()
	fmt.Fprintf(g.orders, "%s %s %s %d %d\n", s.name, target, place, int(s.limit.Seconds()), s.rounds)
	var status string
	// The guest ends the scenario by itself; the time on top is for what it says at its end.
	err := g.await("end ", s.limit+time.Minute, &status)
	log := g.read(target + "-" + s.name + ".log")
	switch {
	case err != nil:
		t.Errorf("%s\nthe guest gave no answer: %v\n%s\n%s", log, err, g.stderr.String(), g.read("kernel.log"))
	case status == "124" || status == "137":
		t.Errorf("%s\nended at its limit of %v", log, s.limit)
	case status != "0":
		t.Errorf("%s\nended with status %s", log, status)
	default:
		t.Log(log)
		return true
	}
	return false
}

// await reads lines from the guest until one begins with prefix, and leaves what follows it in rest.
func (g *guest) await(prefix string, limit time.Duration, rest *string) error {
	done := make(chan error, 1)
	go func() {
		for {
			line, err := g.answers.ReadString('\n')
			if err != nil {
				done <- fmt.Errorf("it ended: %w", err)
				return
			}
			if after, found := strings.CutPrefix(strings.TrimRight(line, "\r\n"), prefix); found {
				*rest = after
				done <- nil
				return
			}
		}
	}()
	select {
	case err := <-done:
		return err
	case <-time.After(limit):
		g.stop() // which ends the goroutine, too
		<-done
		return fmt.Errorf("nothing for %v", limit)
	}
}

// read is a file that the guest left in its folder.
func (g *guest) read(name string) string {
	text, err := os.ReadFile(filepath.Join(g.dir, name))
	if err != nil {
		return fmt.Sprintf("(%v)", err)
	}
	return string(text)
}

// keepResults copies what the guest left in the folder "results" to where GUEST_RESULTS says, each with a number where there is one
// of its name.
func (g *guest) keepResults(t *testing.T) {
	t.Helper()
	to := os.Getenv("GUEST_RESULTS")
	folders, err := os.ReadDir(filepath.Join(g.dir, "results"))
	if to == "" || errors.Is(err, fs.ErrNotExist) {
		return
	}
	for _, folder := range folders {
		name := filepath.Join(to, folder.Name())
		for n := 2; exists(name); n++ {
			name = filepath.Join(to, folder.Name()+"-"+strconv.Itoa(n))
		}
		err = errors.Join(err, os.CopyFS(name, os.DirFS(filepath.Join(g.dir, "results", folder.Name()))))
		t.Logf("the results are in %s", name)
	}
	if err != nil {
		t.Errorf("keeping the results: %v", err)
	}
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}
