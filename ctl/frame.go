package ctl

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"

	"github.com/pollux-storage/pollux/ctl/api"
)

// Subsystem is a part of the engine that can say how it is configured. The names are SPDK's (keyring, sock, iobuf, bdev,
// nvmf, iscsi) where it has the part, so that save_subsystem_config finds it.
type Subsystem struct {
	Name string
	// DependsOn are parts that have to be configured before.
	DependsOn []string
	// Config gives the calls that bring this part, freshly made, to its present configuration. nil where there is none.
	Config func(ctx context.Context) ([]api.ConfigCall, error)
}

// Frame is the engine's state and the list of its parts.
//
//	startup --Start--> runtime
//
// A failed Start leaves it in startup.
type Frame struct {
	reg     *Registry
	start   func(ctx context.Context) error
	runtime chan struct{} // closed in the runtime state

	mu       sync.Mutex
	starting bool
	then     func(ctx context.Context) error
	parts    []Subsystem
}

// NewFrame makes a frame in the startup state and registers the methods that are about it. start makes the engine's parts
// with the options set so far; it runs once, or again after it failed.
func NewFrame(reg *Registry, start func(ctx context.Context) error) *Frame {
	f := &Frame{reg: reg, start: start, runtime: make(chan struct{})}
	RegisterDo(reg, api.FrameworkStartInit, func(ctx context.Context, _ *api.None) error { return f.Start(ctx) })
	RegisterDo(reg, api.FrameworkWaitInit, func(ctx context.Context, _ *api.None) error { return f.Wait(ctx) })
	Register(reg, api.FrameworkGetSubsystems, func(context.Context, *api.None) ([]api.Subsystem, error) {
		return f.subsystems(), nil
	})
	Register(reg, api.FrameworkGetConfig, f.config)
	return f
}

// Add appends a part. What it depends on has to be there already: the order of the list is the order of configuration.
func (f *Frame) Add(s Subsystem) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, name := range s.DependsOn {
		if !slices.ContainsFunc(f.parts, func(p Subsystem) bool { return p.Name == name }) {
			panic("ctl: subsystem " + s.Name + " is added before " + name + ", on which it depends")
		}
	}
	f.parts = append(f.parts, s)
}

// Start moves the engine from the startup to the runtime state.
func (f *Frame) Start(ctx context.Context) error {
	f.mu.Lock()
	busy := f.starting
	f.starting = true
	f.mu.Unlock()
	if busy {
		return &api.Error{Code: api.CodeWrongState, Message: "start the engine's parts: they are started already"}
	}
	err := f.start(ctx)
	if err != nil {
		f.mu.Lock()
		f.starting = false
		f.mu.Unlock()
		return fmt.Errorf("start the engine's parts: %w", err)
	}
	f.reg.SetState(api.Runtime)
	f.mu.Lock()
	then := f.then
	f.mu.Unlock()
	if then != nil {
		err = then(ctx)
	}
	close(f.runtime) // where then failed, the parts are up with less than the whole of their configuration
	return err
}

// Then lets something follow the step to the runtime state, before those who wait for it hear of it.
func (f *Frame) Then(follow func(ctx context.Context) error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.then = follow
}

// up tells whether the engine is in the runtime state with all that follows the step to it.
func (f *Frame) up() bool {
	select {
	case <-f.runtime:
		return true
	default:
		return false
	}
}

// Wait returns in the runtime state, or when ctx ends.
func (f *Frame) Wait(ctx context.Context) error {
	select {
	case <-f.runtime:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("wait for the engine's parts to be up: %w", ctx.Err())
	}
}

func (f *Frame) subsystems() []api.Subsystem {
	f.mu.Lock()
	defer f.mu.Unlock()
	list := make([]api.Subsystem, len(f.parts))
	for i, p := range f.parts {
		list[i] = api.Subsystem{Subsystem: p.Name, DependsOn: slices.Clone(p.DependsOn)}
	}
	return list
}

func (f *Frame) config(ctx context.Context, p *api.FrameworkGetConfigParams) (*[]api.ConfigCall, error) {
	f.mu.Lock()
	parts := slices.Clone(f.parts)
	f.mu.Unlock()
	names := make([]string, len(parts))
	for i, part := range parts {
		if names[i] = part.Name; part.Name != p.Name {
			continue
		}
		if part.Config == nil {
			return nil, nil
		}
		calls, err := part.Config(ctx)
		if err != nil {
			return nil, fmt.Errorf("read the configuration of %s: %w", p.Name, err)
		}
		if roleOf(ctx) < api.Admin {
			for i := range calls {
				calls[i] = calls[i].Masked()
			}
		}
		return &calls, nil
	}
	return nil, api.Invalid("framework_get_config: there is no subsystem %q; there are: %s", p.Name, strings.Join(names, ", "))
}
