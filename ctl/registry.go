package ctl

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"reflect"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"

	"github.com/pollux-storage/pollux/ctl/api"
)

// Registry is the methods of this engine and the state that says which of them may be called.
type Registry struct {
	log   *slog.Logger
	state atomic.Uint32 // an api.State

	mu      sync.RWMutex
	methods map[string]*method
}

type method struct {
	spec *api.Spec
	call func(ctx context.Context, params *api.Value) (any, error)
}

// NewRegistry makes a registry in the startup state, with the methods that are about methods.
func NewRegistry(log *slog.Logger) *Registry {
	r := &Registry{log: log, methods: map[string]*method{}}
	r.SetState(api.Startup)
	registerMethodMethods(r)
	return r
}

// Register adds a method. fn runs on a goroutine of the request's own, beside others; its ctx ends when the client is gone
// or the engine stops, and is for waits: a change once begun is finished. What it returns is the caller's: a handler keeps
// no reference. An error that is an *api.Error or wraps one, or a syscall.Errno, keeps its code.
func Register[P, R any](r *Registry, m api.Method[P, R], fn func(ctx context.Context, p *P) (R, error)) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.methods[m.Name] != nil {
		panic("ctl: method " + m.Name + " is registered twice")
	}
	r.methods[m.Name] = &method{spec: m.Spec, call: func(ctx context.Context, params *api.Value) (any, error) {
		p, err := m.Decode(params)
		if err != nil {
			return nil, err
		}
		result, err := fn(ctx, p)
		if err != nil {
			return nil, err
		}
		fillSlices(reflect.ValueOf(&result).Elem())
		return result, nil
	}}
}

// RegisterDo adds a method whose result is true.
func RegisterDo[P any](r *Registry, m api.Method[P, bool], fn func(ctx context.Context, p *P) error) {
	Register(r, m, func(ctx context.Context, p *P) (bool, error) {
		return true, fn(ctx, p)
	})
}

// State tells which methods may be called now.
func (r *Registry) State() api.State { return api.State(r.state.Load()) }

// SetState moves the registry to the startup or the runtime state.
func (r *Registry) SetState(s api.State) { r.state.Store(uint32(s)) }

// Specs lists the methods by name. current leaves out those that may not be called now.
func (r *Registry) Specs(current bool) []*api.Spec {
	r.mu.RLock()
	defer r.mu.RUnlock()
	var specs []*api.Spec
	for _, spec := range api.Methods() {
		if r.methods[spec.Name] != nil && r.visible(spec, current) {
			specs = append(specs, spec)
		}
	}
	return specs
}

// visible hides framework_start_init once it is over: rpc.py's load_config calls it in every round in which it is listed,
// and would never end (python/spdk/rpc/config.py). It is hidden from the list of all methods too, since load_config calls
// it from there for a configuration that is empty.
func (r *Registry) visible(spec *api.Spec, current bool) bool {
	if !current && spec != api.FrameworkStartInit.Spec {
		return true
	}
	return spec.States&r.State() != 0
}

// lookup finds a method that may be called now.
func (r *Registry) lookup(name string) (*method, error) {
	name = api.Canonical(name)
	r.mu.RLock()
	m := r.methods[name]
	r.mu.RUnlock()
	if m == nil {
		return nil, r.unknown(name)
	}
	if m.spec.States&r.State() != 0 {
		return m, nil
	}
	e := &api.Error{Code: api.CodeWrongState}
	if r.State() == api.Startup {
		e.Message = name + " may only be called after startup; call framework_start_init first"
	} else {
		e.Message = name + " may only be called during startup; start the engine with --wait-for-rpc and call it before " +
			"framework_start_init, or put it into the configuration file"
	}
	return nil, e
}

func (r *Registry) unknown(name string) *api.Error {
	e := &api.Error{Code: api.CodeUnknownMethod}
	if _, known := api.Lookup(name); known {
		e.Message = fmt.Sprintf("this engine does not have the method %s; rpc_get_methods lists those it has", name)
		return e
	}
	names := make([]string, 0, len(r.methods))
	for _, spec := range r.Specs(false) {
		names = append(names, spec.Name)
	}
	e.Message = fmt.Sprintf("there is no method %q; rpc_get_methods lists those there are", name)
	if near := api.Nearest(name, names); near != "" {
		e.Message = fmt.Sprintf("there is no method %q; did you mean %s?", name, near)
	}
	return e
}

// Check says whether the call could be made in one of the states given: that the method is there and takes the parameters.
func (r *Registry) Check(name string, params *api.Value, states api.State) error {
	name = api.Canonical(name)
	r.mu.RLock()
	m := r.methods[name]
	r.mu.RUnlock()
	if m == nil {
		return r.unknown(name)
	}
	if m.spec.States&states == 0 {
		return &api.Error{Code: api.CodeWrongState, Message: fmt.Sprintf("%s may only be called in the state %s", name, m.spec.States)}
	}
	return m.spec.Check(params)
}

// do carries out a call.
func (r *Registry) do(ctx context.Context, name string, params *api.Value) (any, error) {
	m, err := r.lookup(name)
	if role := roleOf(ctx); err == nil && role < m.spec.Role {
		err = api.Errno(syscall.EACCES, "%s needs the role %s; this client's is %s", name, m.spec.Role, role)
	}
	var result any
	if err == nil {
		result, err = m.call(ctx, params)
	}
	r.note(ctx, m, name, params, err)
	return result, err
}

// note logs a call: a change for all to see, the rest for whoever looks for them.
func (r *Registry) note(ctx context.Context, m *method, name string, params *api.Value, err error) {
	level := slog.LevelDebug
	if m != nil && !m.spec.Reads {
		level = slog.LevelInfo
	}
	if !r.log.Enabled(ctx, level) {
		return
	}
	from := originOf(ctx)
	attrs := []slog.Attr{slog.String("method", name), slog.String("who", from.who), slog.String("request", from.request)}
	if object := objectOf(params); object != "" {
		attrs = append(attrs, slog.String("object", object))
	}
	if err != nil {
		attrs = append(attrs, slog.Int("code", api.AsError(err).Code), slog.String("error", err.Error()))
	}
	r.log.LogAttrs(ctx, level, "call", attrs...)
}

// objectOf is what a call is about, from the members that name things. No secret travels under these names.
func objectOf(params *api.Value) string {
	if params == nil {
		return ""
	}
	for _, name := range [...]string{"nqn", "name", "base_bdev", "bdev_name", "trtype"} {
		if v, ok := params.Get(name); ok && v.Kind == api.String {
			return v.Text
		}
	}
	return ""
}

// origin is who asked for a call.
type origin struct {
	who, request string
	role         api.Role
}

type originKey struct{}

func withOrigin(ctx context.Context, who, request string, role api.Role) context.Context {
	return context.WithValue(ctx, originKey{}, origin{who, request, role})
}

// roleOf is the role of who asked. A call that came by no socket is the engine's own.
func roleOf(ctx context.Context) api.Role {
	if from, asked := ctx.Value(originKey{}).(origin); asked {
		return from.role
	}
	return api.Admin
}

func originOf(ctx context.Context) origin {
	from, _ := ctx.Value(originKey{}).(origin)
	return from
}

// Call makes the registry an api.Caller: the engine's own callers go the way of the socket, but for the socket.
func (r *Registry) Call(ctx context.Context, name string, params, result any) error {
	value, err := valueOf(params)
	if err != nil {
		return fmt.Errorf("%s: the parameters cannot be written as JSON: %w", name, err)
	}
	out, err := r.do(ctx, name, value)
	if err != nil {
		return api.AsError(err)
	}
	if result == nil {
		return nil
	}
	text, err := encode(out)
	if err != nil {
		return fmt.Errorf("%s: the result cannot be written as JSON: %w", name, err)
	}
	return json.Unmarshal(text, result)
}

func valueOf(params any) (*api.Value, error) {
	text, err := json.Marshal(params)
	if err != nil {
		return nil, err
	}
	value, _, err := api.ParseJSON(text)
	value.Forget()
	return &value, err
}

// fillSlices turns nil lists into empty ones: a Python script iterates over [], and fails on null.
func fillSlices(v reflect.Value) {
	switch v.Kind() {
	case reflect.Pointer, reflect.Interface:
		if !v.IsNil() && v.Kind() == reflect.Pointer {
			fillSlices(v.Elem())
		}
	case reflect.Struct:
		for i := range v.NumField() {
			if v.Type().Field(i).IsExported() {
				fillSlices(v.Field(i))
			}
		}
	case reflect.Slice:
		if v.Type().Elem().Kind() == reflect.Uint8 {
			return // text in JSON already
		}
		if v.IsNil() {
			v.Set(reflect.MakeSlice(v.Type(), 0, 0))
		}
		for i := range v.Len() {
			fillSlices(v.Index(i))
		}
	case reflect.Map:
		if v.IsNil() {
			v.Set(reflect.MakeMap(v.Type()))
		}
	}
}

// methodNames lists names in order.
func methodNames(specs []*api.Spec) []string {
	names := make([]string, len(specs))
	for i, spec := range specs {
		names[i] = spec.Name
	}
	slices.Sort(names)
	return names
}
