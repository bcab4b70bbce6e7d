package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/pollux-storage/pollux/ctl"
	"github.com/pollux-storage/pollux/ctl/api"
	"github.com/pollux-storage/pollux/reactor"
)

type serveCmd struct {
	RPCSocket  string `name:"rpc-socket" default:"/var/run/pollux.sock" placeholder:"PATH" help:"Control socket (${default})."`
	RPCListen  string `name:"rpc-listen" placeholder:"HOST:PORT" help:"Listen for control there too, with TLS; a client's certificate says its role. Off without it."`
	RPCCert    string `name:"rpc-tls-cert" placeholder:"FILE" help:"Certificate of the engine for --rpc-listen, PEM."`
	RPCKey     string `name:"rpc-tls-key" placeholder:"FILE" help:"Key of that certificate, PEM."`
	RPCCA      string `name:"rpc-client-ca" placeholder:"FILE" help:"Authorities of clients' certificates for --rpc-listen, PEM. The OU of a certificate is viewer, operator or admin."`
	Cores      string `placeholder:"LIST" help:"Cores to run reactors on, such as 1 or 2-5,8; the last one without it."`
	Idle       string `enum:"poll,adaptive,interrupt" default:"adaptive" help:"What reactors do without work: poll never sleeps, adaptive sleeps after a while, interrupt at once."`
	Memory     int    `placeholder:"MIB" default:"256" help:"Most memory for I/O buffers, for each reactor (${default} MiB)."`
	MapCache   uint64 `name:"map-cache" placeholder:"MIB" default:"64" help:"Memory for the maps of volumes, on each reactor, shared by all volumes there (${default} MiB); with very many volumes it is more."`
	Config     string `placeholder:"FILE" help:"Configuration to load, YAML or JSON: the calls that pollux config save or rpc.py save_config wrote."`
	State      string `placeholder:"DIR" help:"Directory of this server's id, which its pools have; without it the id is made from /etc/machine-id."`
	Metrics    string `placeholder:"HOST:PORT" help:"Serve metrics to Prometheus there, such as 127.0.0.1:9420; off without it."`
	WaitForRPC bool   `name:"wait-for-rpc" help:"Take options by RPC first; framework_start_init goes on."`
	LogLevel   string `name:"log-level" enum:"error,warning,warn,notice,info,debug" default:"info" help:"Least important messages to print (${default})."`
}

// stopTimeout is how long the engine may take to end what is in flight.
const stopTimeout = 60 * time.Second

// Run serves until a signal.
func (c *serveCmd) Run() error {
	level, err := ctl.ParseLevel(c.LogLevel)
	if err != nil {
		return err
	}
	log := ctl.NewLog(os.Stderr, level)
	config := &api.Config{}
	if c.Config != "" {
		if config, err = ctl.ReadConfigFile(c.Config); err != nil {
			return err
		}
	}
	cores, err := parseCores(c.Cores)
	if err != nil {
		return err
	}
	idle, err := reactor.ParseIdle(c.Idle)
	if err != nil {
		return err
	}
	files := ctl.TLSFiles{Cert: c.RPCCert, Key: c.RPCKey, ClientCA: c.RPCCA}
	if c.RPCListen == "" && files != (ctl.TLSFiles{}) {
		return errors.New("serve: certificates are given, and no address to use them at; give --rpc-listen too")
	}
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM)

	manager, err := ctl.NewSupervisor(os.Getenv, os.Getpid(), log.For("engine"))
	if err != nil {
		return err
	}
	defer func() { _ = manager.Close() }() // to the end: a reactor may get stuck while the engine ends, too
	id, err := ctl.ServerID(c.State)
	if err != nil {
		if c.State != "" {
			return err
		}
		log.For("volume").Warn("no pools can be opened", "error", err)
	}
	e, err := ctl.NewEngine(ctl.EngineConfig{
		Reactors: reactor.Config{Cores: cores, Idle: idle, MemoryBytes: c.Memory << 20}, Server: id, MapCacheBytes: c.MapCache << 20,
	}, log)
	if err != nil {
		return err
	}
	server, err := ctl.Listen(c.RPCSocket, e.Methods, log.For("rpc"))
	if err != nil {
		return errors.Join(err, c.end(e, nil, nil, nil))
	}
	var remote *ctl.Server
	if c.RPCListen != "" {
		if remote, err = ctl.ListenTLS(c.RPCListen, files, e.Methods, log.For("rpc")); err != nil {
			return errors.Join(err, c.end(e, server, nil, nil))
		}
	}
	var metrics *ctl.MetricsServer
	if c.Metrics != "" {
		if metrics, err = ctl.ListenMetrics(c.Metrics, e.Metrics(), log.For("metrics")); err != nil {
			return errors.Join(err, c.end(e, server, remote, nil))
		}
	}
	loaded := make(chan error, 1)
	go func() { loaded <- e.Configure(context.Background(), config, c.WaitForRPC) }()
	select {
	case err := <-loaded:
		if err != nil {
			return errors.Join(err, c.end(e, server, remote, metrics))
		}
	case <-signals: // what it waits for, a file of an engine that was killed or a device that does not answer, may take long
		signal.Stop(signals)
		manager.Stopping()
		log.For("engine").Warn("ends before its configuration is loaded", "file", c.Config)
		return c.end(e, server, remote, metrics)
	}
	used := make([]string, 0, e.Reactors.Len())
	for _, r := range e.Reactors.Reactors() {
		used = append(used, strconv.Itoa(r.Core()))
	}
	fmt.Printf("pollux: ready, rpc socket %s, cores %s, idle %s\n", c.RPCSocket, strings.Join(used, ","), idle)

	ended, end := context.WithCancel(context.Background())
	told := make(chan struct{})
	defer func() { end(); <-told }()
	go func() { // after --wait-for-rpc it takes until framework_start_init
		defer close(told)
		if e.Frame.Wait(ended) == nil {
			manager.Ready(fmt.Sprintf("serving, cores %s, idle %s", strings.Join(used, ","), idle))
			manager.Watch(e.Reactors)
		}
	}()
	<-signals
	signal.Stop(signals) // a second one ends the process at once
	manager.Stopping()
	return c.end(e, server, remote, metrics)
}

// end stops what was started; what was not is nil.
func (c *serveCmd) end(e *ctl.Engine, server, remote *ctl.Server, metrics *ctl.MetricsServer) error {
	ctx, cancel := context.WithTimeout(context.Background(), stopTimeout)
	defer cancel()
	err := e.Close(ctx)
	if metrics != nil {
		err = errors.Join(err, metrics.Close())
	}
	if remote != nil {
		err = errors.Join(err, remote.Close())
	}
	if server != nil {
		err = errors.Join(err, server.Close())
	}
	return err
}

// parseCores reads a list such as 2-5,8; nil for none.
func parseCores(s string) ([]int, error) {
	if s == "" {
		return nil, nil
	}
	var cores []int
	for _, part := range strings.Split(strings.Trim(s, "[]"), ",") {
		low, high, ok := strings.Cut(part, "-")
		a, err := strconv.Atoi(low)
		b := a
		if err == nil && ok {
			b, err = strconv.Atoi(high)
		}
		if err != nil || a < 0 || b < a || b-a > 1024 {
			return nil, fmt.Errorf("--cores %s: %q is no core and no range of cores; write for example 1 or 2-5,8", s, part)
		}
		for ; a <= b; a++ {
			cores = append(cores, a)
		}
	}
	return cores, nil
}
