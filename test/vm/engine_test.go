package vm

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// An engine is Pollux on this machine, under orders of scenarios in a guest. They come over a serial line of the
// guest, whose end here is a unix socket:
//
//	order    words, one a line, and an empty line
//	answer   the lines of its output, each behind a bar, and a line with its status
//
// The words are those of testdata/lib/pollux.sh: start, signal, wait, rpc, run.
type engine struct {
	inGuest string // the binary for scenarios that run it in the guest, and the one that makes calls
	binary  string // the one that serves here
	verbs   string // the test of rdma/ibverbs, "" if there is none
	folder  string // of its files, and of its control socket
	log     string // the file that takes what it says
	line    net.Listener
	serve   *exec.Cmd // nil before the first start
	ended   chan struct{}
}

// orderLimit ends an order that hangs.
const orderLimit = 5 * time.Minute

// newEngine makes the end of the line. The engine lives as long as the test.
func newEngine(t *testing.T, inGuest, binary, verbs string) (*engine, error) {
	e := &engine{inGuest: inGuest, binary: binary, verbs: verbs, folder: t.TempDir()}
	var err error
	if e.line, err = net.Listen("unix", filepath.Join(e.folder, "line")); err != nil {
		return nil, err
	}
	t.Cleanup(func() {
		e.line.Close()
		e.kill()
	})
	return e, nil
}

// device is what qemu has to be told for the line.
func (e *engine) device() []string {
	return []string{
		"-chardev", "socket,id=engine,path=" + e.line.Addr().String(),
		"-device", "virtserialport,chardev=engine,name=engine",
	}
}

// obey takes orders from one guest until it ends.
func (e *engine) obey() {
	line, err := e.line.Accept()
	if err != nil {
		return // no guest came, and the test is over
	}
	defer line.Close()
	orders := bufio.NewReader(line)
	for {
		var words []string
		for {
			word, err := orders.ReadString('\n')
			if err != nil {
				return
			}
			if word = strings.TrimSuffix(word, "\n"); word == "" {
				break
			}
			words = append(words, word)
		}
		if len(words) == 0 {
			continue
		}
		output, status := e.order(words)
		var answer bytes.Buffer
		for text := range strings.Lines(output) {
			fmt.Fprintf(&answer, "|%s\n", strings.TrimSuffix(text, "\n"))
		}
		fmt.Fprintln(&answer, status)
		if _, err := line.Write(answer.Bytes()); err != nil {
			return
		}
	}
}

func (e *engine) order(words []string) (output string, status int) {
	var err error
	switch verb, args := words[0], words[1:]; verb {
	case "start":
		err = e.start(args)
	case "signal":
		err = e.signal(args)
	case "wait":
		err = e.wait()
	case "rpc":
		// Not the binary that looks for data races: such a one sleeps for a second before it exits.
		output, err = e.run(append([]string{e.inGuest, "rpc", "--socket", e.socket()}, args...))
	case "run":
		output, err = e.run(args)
	default:
		err = fmt.Errorf("no such order: %q", verb)
	}
	var exit *exec.ExitError
	switch {
	case err == nil:
		return output, 0
	case errors.As(err, &exit) && exit.ExitCode() > 0:
		return output, exit.ExitCode()
	default:
		return output + err.Error() + "\n", 1
	}
}

func (e *engine) socket() string { return filepath.Join(e.folder, "socket") }

// start starts the engine, and waits for its line that it is ready.
func (e *engine) start(options []string) error {
	log, err := os.OpenFile(e.log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	defer log.Close()
	args := []string{"serve", "--rpc-socket", e.socket(), "--cores", strings.Join(e.cores(), ",")}
	e.serve = exec.Command(e.binary, append(args, options...)...)
	e.serve.Stderr = log
	e.serve.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	stdout, err := e.serve.StdoutPipe()
	if err != nil {
		return err
	}
	if err := e.serve.Start(); err != nil {
		e.serve = nil
		return err
	}
	e.ended = make(chan struct{})
	ready := make(chan error, 1)
	go func(serve *exec.Cmd, ended chan struct{}) {
		lines := bufio.NewReader(stdout)
		first, err := lines.ReadString('\n')
		if err == nil && !strings.Contains(first, "ready") {
			err = fmt.Errorf("its first line is %q, and should say that it is ready", first)
		}
		ready <- err
		io.Copy(io.Discard, lines)
		serve.Wait()
		close(ended)
	}(e.serve, e.ended)
	select {
	case err := <-ready:
		if err != nil {
			e.kill()
			return fmt.Errorf("the engine did not start: %w", err)
		}
		return nil
	case <-time.After(orderLimit):
		e.kill()
		return fmt.Errorf("the engine said nothing for %v", orderLimit)
	}
}

var signals = map[string]syscall.Signal{
	"TERM": syscall.SIGTERM, "KILL": syscall.SIGKILL, "STOP": syscall.SIGSTOP, "CONT": syscall.SIGCONT,
}

func (e *engine) signal(args []string) error {
	if len(args) != 1 || signals[args[0]] == 0 || e.serve == nil {
		return fmt.Errorf("cannot send the signal %q", args)
	}
	return e.serve.Process.Signal(signals[args[0]])
}

// wait returns when the engine has ended, with its status as the error.
func (e *engine) wait() error {
	select {
	case <-e.ended:
	case <-time.After(orderLimit):
		return fmt.Errorf("the engine did not end within %v", orderLimit)
	}
	if !e.serve.ProcessState.Success() {
		return &exec.ExitError{ProcessState: e.serve.ProcessState}
	}
	return nil
}

func (e *engine) run(args []string) (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), orderLimit)
	defer cancel()
	command := exec.CommandContext(ctx, args[0], args[1:]...)
	output, err := command.CombinedOutput()
	return string(output), err
}

func (e *engine) kill() {
	if e.serve != nil {
		e.serve.Process.Kill()
		<-e.ended
	}
}

// cores are those of its reactors: two, where there are two.
func (e *engine) cores() []string {
	return []string{"0", "1"}[:min(2, runtime.NumCPU())]
}

// environment is what scenarios have to know.
func (e *engine) environment() ([]string, error) {
	ports, err := freePorts(2)
	if err != nil {
		return nil, err
	}
	return []string{
		"POLLUX=" + e.inGuest, "VERBS_TEST=" + e.verbs, "HOST_FOLDER=" + e.folder, "HOST_PORT1=" + ports[0], "HOST_PORT2=" + ports[1],
		fmt.Sprint("REACTORS=", len(e.cores())),
	}, nil
}

// freePorts are ports of 127.0.0.1 that nobody listens on now. The engine leaves them whenever it ends, and comes back to them; so they are
// below those that the kernel gives to others meanwhile, who ask for any. (Where it gives nearly all, that cannot be.)
func freePorts(count int) (free []string, err error) {
	text, err := os.ReadFile("/proc/sys/net/ipv4/ip_local_port_range")
	if err != nil {
		return nil, err
	}
	var given int // the lowest of those
	if _, err := fmt.Sscan(string(text), &given); err != nil {
		return nil, fmt.Errorf("the ports that the kernel gives are %q: %w", text, err)
	}
	const lowest = 10000 // services have theirs below
	if given < lowest+1000 {
		given = 32768
	}
	for range 1000 {
		port := strconv.Itoa(lowest + rand.IntN(given-lowest))
		l, err := net.Listen("tcp4", "127.0.0.1:"+port)
		if err != nil {
			continue
		}
		defer l.Close() // so that none is taken twice
		if free = append(free, port); len(free) == count {
			return free, nil
		}
	}
	return nil, fmt.Errorf("of the ports from %d to %d too few are free", lowest, given-1)
}
