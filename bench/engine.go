package bench

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/pollux-storage/pollux/ctl/api"
	"github.com/pollux-storage/pollux/nvmf/initiator"
)

// Engine is a `pollux serve` in a process of its own, which serves devices over NVMe/TCP on the loopback interface.
type Engine struct {
	cmd     *exec.Cmd
	client  *api.Client
	cfg     EngineConfig
	port    string
	metrics string // HOST:PORT, if it serves them
	volume  string // the last that it serves, if it serves any
	devices int
	iscsi   bool // it serves over iSCSI
	ended   chan struct{}
	err     error // of the process, once ended is closed
}

// EngineConfig says how an engine is started.
type EngineConfig struct {
	Exe   string // the pollux program
	Cores string
	Idle  string
	Dir   string // for its socket, its log and its id; it is not removed

	Metrics bool // it serves them
}

// Times that an engine may take.
const (
	engineStartMax = 20 * time.Second
	engineStopMax  = 60 * time.Second
	engineCallMax  = 30 * time.Second
)

// StartEngine starts an engine and returns when it is ready.
func StartEngine(ctx context.Context, cfg EngineConfig) (*Engine, error) {
	e := &Engine{cfg: cfg, ended: make(chan struct{})}
	fail := func(err error) (*Engine, error) {
		return nil, fmt.Errorf("starting %s serve: %w", cfg.Exe, err)
	}
	ports, err := freePorts(2)
	if err != nil {
		return fail(err)
	}
	e.port = ports[0]
	log, err := os.Create(e.logPath())
	if err != nil {
		return fail(err)
	}
	defer log.Close() // the child has its own
	args := []string{"serve", "--rpc-socket", e.socket(), "--cores", cfg.Cores, "--idle", cfg.Idle, "--state", cfg.Dir}
	if cfg.Metrics {
		e.metrics = "127.0.0.1:" + ports[1]
		args = append(args, "--metrics", e.metrics)
	}
	e.cmd = exec.Command(cfg.Exe, args...)
	e.cmd.Stderr = log
	out, err := e.cmd.StdoutPipe()
	if err == nil {
		err = e.cmd.Start()
	}
	if err != nil {
		return fail(err)
	}
	ready := make(chan error, 1)
	go func() {
		line, err := bufio.NewReader(out).ReadString('\n')
		if err == nil && !strings.HasPrefix(line, "pollux: ready") {
			err = fmt.Errorf("it says %q instead of being ready", line)
		}
		ready <- err
		_, _ = io.Copy(io.Discard, out)
		e.err = e.cmd.Wait()
		close(e.ended)
	}()
	select {
	case err = <-ready:
		if err != nil {
			err = fmt.Errorf("it did not become ready: %w; its log ends: %s", err, e.logEnd())
		}
	case <-time.After(engineStartMax):
		err = fmt.Errorf("it is not ready after %v; its log ends: %s", engineStartMax, e.logEnd())
	case <-ctx.Done():
		err = context.Cause(ctx)
	}
	if err == nil {
		e.client, err = api.Dial(e.socket())
	}
	if err == nil {
		err = e.call("nvmf_create_transport", api.NVMFCreateTransportParams{TrType: "TCP"})
	}
	if err != nil {
		_ = e.Stop()
		return fail(err)
	}
	return e, nil
}

func (e *Engine) socket() string { return filepath.Join(e.cfg.Dir, "engine.sock") }

func (e *Engine) logPath() string { return filepath.Join(e.cfg.Dir, "engine.log") }

func (e *Engine) logEnd() string {
	b, _ := os.ReadFile(e.logPath())
	return string(b[max(0, len(b)-1000):])
}

// freePorts finds ports of the loopback interface that nobody uses now.
func freePorts(n int) (ports []string, err error) {
	for range n {
		l, err := net.Listen("tcp4", "127.0.0.1:0")
		if err != nil {
			return nil, fmt.Errorf("finding a free port: %w", err)
		}
		defer l.Close() // all at the end, so that they differ
		ports = append(ports, strconv.Itoa(l.Addr().(*net.TCPAddr).Port))
	}
	return ports, nil
}

func (e *Engine) call(method string, params any) error {
	ctx, cancel := context.WithTimeout(context.Background(), engineCallMax)
	defer cancel()
	return e.client.Call(ctx, method, params, nil)
}

// PID is the engine's process.
func (e *Engine) PID() int { return e.cmd.Process.Pid }

// Serve makes a device of the given kind in the engine and gives the address of its only namespace.
func (e *Engine) Serve(t TargetSpec) (TargetSpec, error) {
	device, name, err := e.makeDevice(&t)
	if err != nil {
		return TargetSpec{}, err
	}
	return e.export(device, name)
}

// makeDevice makes one, and gives its name and one for what serves it.
func (e *Engine) makeDevice(t *TargetSpec) (device, name string, err error) {
	e.devices++
	name = "bench" + strconv.Itoa(e.devices)
	device = name
	switch t.Kind {
	case "mem":
		err = e.call("bdev_malloc_create", api.BdevMallocCreateParams{Name: name, NumBlocks: t.Bytes / uint64(t.BlockSize), BlockSize: t.BlockSize})
	case "null":
		err = e.call("bdev_null_create", api.BdevNullCreateParams{Name: name, NumBlocks: t.Bytes / uint64(t.BlockSize), BlockSize: t.BlockSize})
	case "uring":
		err = e.call("bdev_uring_create", api.BdevUringCreateParams{Name: name, Filename: t.Path, BlockSize: t.BlockSize})
	case "volume":
		device, err = e.serveVolume(name, t)
	default:
		err = fmt.Errorf("an engine serves mem, null, uring and volume, not %s", t.Kind)
	}
	if err != nil {
		return "", "", fmt.Errorf("serving %s: %w", t.String(), err)
	}
	return device, name, nil
}

// export makes a device that is there the only namespace of a subsystem, and gives its address.
func (e *Engine) export(device, name string) (TargetSpec, error) {
	nqn := "nqn.2026-01.io.pollux:" + name
	var err error
	address := api.NVMFAddress{TrType: "TCP", TrAddr: "127.0.0.1", TrSvcID: e.port}
	for _, step := range []struct {
		method string
		params any
	}{
		{"nvmf_create_subsystem", api.NVMFCreateSubsystemParams{NQN: nqn, AllowAnyHost: true}},
		{"nvmf_subsystem_add_ns", api.NVMFAddNSParams{NQN: nqn, Namespace: api.NVMFNamespaceParams{BdevName: device}}},
		{"nvmf_subsystem_add_listener", api.NVMFAddListenerParams{NQN: nqn, ListenAddress: address}},
	} {
		if err == nil {
			err = e.call(step.method, step.params)
		}
	}
	if err != nil {
		return TargetSpec{}, fmt.Errorf("serving device %s: %w", device, err)
	}
	r := TargetSpec{Kind: "tcp", NSID: 1, Remote: initiator.DefaultOptions()}
	r.Remote.Name, r.Remote.SubNQN, r.Remote.TrAddr, r.Remote.TrSvcID = controllerName, nqn, "127.0.0.1", e.port
	return r, nil
}

// Describe says in words what the engine is, for the conditions of what it serves.
func (e *Engine) Describe() string {
	over := "NVMe/TCP"
	if e.iscsi {
		over = "iSCSI"
	}
	return fmt.Sprintf("pollux serve --cores %s --idle %s, a process of its own, over %s on loopback", e.cfg.Cores, e.cfg.Idle, over)
}

// Mallocs is the number of objects that the engine has allocated. Asking allocates some itself, about as many each time.
func (e *Engine) Mallocs(ctx context.Context) (float64, error) {
	heap, err := api.EngineGetHeap.Call(ctx, e.client, api.None{})
	if err != nil {
		return 0, fmt.Errorf("asking the engine what it has allocated: %w", err)
	}
	return float64(heap.AllocatedObjects), nil
}

// Reactors is what its reactors did so far.
func (e *Engine) Reactors(ctx context.Context) ([]api.EngineReactor, error) {
	list, err := api.EngineGetReactors.Call(ctx, e.client, api.None{})
	if err != nil {
		return nil, fmt.Errorf("asking the engine what its reactors did: %w", err)
	}
	return list, nil
}

// Stop ends the engine in the way an operator would, and reports how it ended.
func (e *Engine) Stop() error {
	if e.client != nil {
		_ = e.client.Close()
	}
	_ = e.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-e.ended:
	case <-time.After(engineStopMax):
		_ = e.cmd.Process.Kill()
		<-e.ended
		return fmt.Errorf("stopping the engine: it did not end within %v; its log ends: %s", engineStopMax, e.logEnd())
	}
	var exit *exec.ExitError
	if errors.As(e.err, &exit) {
		return fmt.Errorf("stopping the engine: %w; its log ends: %s", e.err, e.logEnd())
	}
	return e.err
}
