package main

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/pollux-storage/pollux/ctl"
	"github.com/pollux-storage/pollux/reactor"
)

type serveCmd struct {
	RPCSocket  string `name:"rpc-socket" default:"/var/run/pollux.sock" placeholder:"PATH" help:"Control socket (${default})."`
	Cores      string `placeholder:"LIST" help:"Cores to run reactors on, such as 1 or 2-5,8; the last one without it."`
	Idle       string `enum:"poll,adaptive,interrupt" default:"adaptive" help:"What reactors do without work: poll never sleeps, adaptive sleeps after a while, interrupt at once."`
	Memory     int    `placeholder:"MIB" default:"256" help:"Most memory for I/O buffers, for each reactor (${default} MiB)."`
	WaitForRPC bool   `name:"wait-for-rpc" help:"Take options by RPC first; framework_start_init goes on."`
	LogLevel   string `name:"log-level" enum:"error,warn,info,debug" default:"info" help:"Least important messages to print (${default})."`
}

// stopTimeout is how long the engine may take to end what is in flight.
const stopTimeout = 60 * time.Second

// Run serves until a signal.
func (c *serveCmd) Run() error {
	var level slog.Level
	if err := level.UnmarshalText([]byte(c.LogLevel)); err != nil {
		return err
	}
	log := slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: level}))
	cores, err := parseCores(c.Cores)
	if err != nil {
		return err
	}
	idle, err := reactor.ParseIdle(c.Idle)
	if err != nil {
		return err
	}
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM)

	e, err := ctl.NewEngine(ctl.EngineConfig{Reactors: reactor.Config{Cores: cores, Idle: idle, MemoryBytes: c.Memory << 20}}, log)
	if err != nil {
		return err
	}
	server, err := ctl.Listen(c.RPCSocket, e.Methods, log)
	if err != nil {
		return err
	}
	if !c.WaitForRPC {
		if err := e.Frame.Start(context.Background()); err != nil {
			return err
		}
	}
	used := make([]string, 0, e.Reactors.Len())
	for _, r := range e.Reactors.Reactors() {
		used = append(used, strconv.Itoa(r.Core()))
	}
	fmt.Printf("pollux: ready, rpc socket %s, cores %s, idle %s\n", c.RPCSocket, strings.Join(used, ","), idle)

	<-signals
	signal.Stop(signals) // a second one ends the process at once
	ctx, cancel := context.WithTimeout(context.Background(), stopTimeout)
	defer cancel()
	err = e.Close(ctx)
	if cerr := server.Close(); err == nil {
		err = cerr
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
