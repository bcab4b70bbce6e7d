package api

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"slices"
)

// This file is a saved configuration: the calls that bring a fresh engine to the state of another, by subsystem.
//
//	{"subsystems": [{"subsystem": "bdev", "config": [{"method": "bdev_null_create", "params": {...}}, ...]}, ...]}
//
// Saving and loading go the way of SPDK's rpc.py (python/spdk/rpc/config.py), so that either program reads what the other
// wrote. One thing differs: before the first call, every method is looked up and all parameters are decoded, and nothing is
// changed where one of them is wrong.

// ErrConfig is in the chain of an error for which nothing was changed.
var ErrConfig = errors.New("the configuration is refused, nothing was changed")

// Config is a saved configuration.
type Config struct {
	// Source says where it comes from, for messages.
	Source     string            `json:"-"`
	Subsystems []SubsystemConfig `json:"subsystems"`
}

// SubsystemConfig are the calls of one subsystem; null where it has none.
type SubsystemConfig struct {
	Subsystem string       `json:"subsystem"`
	Config    []ConfigCall `json:"config"`
}

// ReadConfig takes a configuration from the value of a JSON or YAML text, and keeps in its calls where they stand there.
func ReadConfig(source string, v *Value) (*Config, error) {
	var file struct {
		Subsystems []struct {
			Subsystem string `json:"subsystem" rpc:"required"`
			Config    []struct {
				Method string `json:"method" rpc:"required"`
				Params *Value `json:"params,omitempty"`
			} `json:"config,omitempty"`
		} `json:"subsystems" rpc:"required"`
	}
	d := decoder{method: source, noun: "member"}
	if v.Kind != Object {
		return nil, fmt.Errorf("%w: %s: it is %s; it has to be an object with the member \"subsystems\"", ErrConfig, source, v.Kind)
	}
	if err := d.object("", v, reflect.ValueOf(&file).Elem()); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrConfig, err)
	}
	c := &Config{Source: source}
	for _, s := range file.Subsystems {
		section := SubsystemConfig{Subsystem: s.Subsystem}
		for _, call := range s.Config {
			section.Config = append(section.Config, ConfigCall{Method: Canonical(call.Method), value: call.Params, Params: call.Params.json()})
		}
		c.Subsystems = append(c.Subsystems, section)
	}
	return c, nil
}

// json is v as JSON text, nil where there is no v.
func (v *Value) json() json.RawMessage {
	if v == nil {
		return nil
	}
	return v.AppendJSON(nil)
}

// Check looks every method up among known and decodes all parameters. The error joins all that is wrong.
func (c *Config) Check(known []string) error {
	var wrong []error
	for _, section := range c.Subsystems {
		for i := range section.Config {
			if err := section.Config[i].check(known); err != nil {
				wrong = append(wrong, fmt.Errorf("%s: subsystem %s, call %d: %w", c.Source, section.Subsystem, i+1, err))
			}
		}
	}
	if wrong == nil {
		return nil
	}
	return fmt.Errorf("%w: %w", ErrConfig, errors.Join(wrong...))
}

func (c *ConfigCall) check(known []string) error {
	spec, ok := Lookup(c.Method)
	if !slices.Contains(known, c.Method) {
		near := Nearest(c.Method, known)
		switch {
		case ok:
			return fmt.Errorf("this engine does not have the method %s", c.Method)
		case near != "":
			return fmt.Errorf("there is no method %q; did you mean %s?", c.Method, near)
		}
		return fmt.Errorf("there is no method %q", c.Method)
	}
	if !ok {
		return nil // a newer engine knows what this program does not; it will decode the parameters itself
	}
	value := c.value
	if value == nil && c.Params != nil {
		v, _, err := ParseJSON(c.Params)
		if err != nil {
			return err
		}
		value = &v
	}
	return spec.Check(value)
}

// Load checks a configuration and makes its calls, in rounds: each round those that may be made in the present state, in
// order, and then framework_start_init where the engine is still in startup. It returns the calls that were left out because
// their state is over: options of startup, when the engine runs already.
func (c *Config) Load(ctx context.Context, engine Caller) (skipped []string, err error) {
	known, err := RPCGetMethods.Call(ctx, engine, RPCGetMethodsParams{})
	if err != nil {
		return nil, err
	}
	if err := c.Check(known); err != nil {
		return nil, err
	}
	for rest := c; ; {
		allowed, err := RPCGetMethods.Call(ctx, engine, RPCGetMethodsParams{Current: true})
		if err != nil {
			return nil, err
		}
		if rest, err = rest.Round(ctx, engine, allowed); err != nil {
			return nil, err
		}
		if !slices.Contains(allowed, FrameworkStartInit.Name) {
			return rest.methods(), nil
		}
		if _, err := FrameworkStartInit.Call(ctx, engine, None{}); err != nil {
			return nil, fmt.Errorf("%s: load the configuration: %w", c.Source, err)
		}
	}
}

// Round makes the calls whose methods are allowed, in order, and returns the others.
func (c *Config) Round(ctx context.Context, engine Caller, allowed []string) (rest *Config, err error) {
	rest = &Config{Source: c.Source}
	for _, section := range c.Subsystems {
		later := SubsystemConfig{Subsystem: section.Subsystem}
		for i := range section.Config {
			call := &section.Config[i]
			if !slices.Contains(allowed, call.Method) {
				later.Config = append(later.Config, *call)
				continue
			}
			if err := call.make(ctx, engine); err != nil {
				return nil, fmt.Errorf("%s: load the configuration: subsystem %s: %s%s failed, the calls before it are in force: %w",
					c.Source, section.Subsystem, call.Method, call.value.at(), err)
			}
		}
		rest.Subsystems = append(rest.Subsystems, later)
	}
	return rest, nil
}

// methods lists the methods of all calls in order.
func (c *Config) methods() []string {
	var names []string
	for _, section := range c.Subsystems {
		for i := range section.Config {
			names = append(names, section.Config[i].Method)
		}
	}
	return names
}

func (c *ConfigCall) make(ctx context.Context, engine Caller) error {
	if c.Params == nil {
		return engine.Call(ctx, c.Method, nil, nil)
	}
	return engine.Call(ctx, c.Method, c.Params, nil)
}

// SaveConfig reads the configuration of an engine, of all subsystems or of those named and what they depend on.
func SaveConfig(ctx context.Context, engine Caller, names ...string) (*Config, error) {
	all, err := FrameworkGetSubsystems.Call(ctx, engine, None{})
	if err != nil {
		return nil, err
	}
	wanted := map[string]bool{}
	for _, name := range names {
		if !slices.ContainsFunc(all, func(s Subsystem) bool { return s.Subsystem == name }) {
			return nil, fmt.Errorf("save the configuration: there is no subsystem %q", name)
		}
		wanted[name] = true
	}
	for _, s := range slices.Backward(all) { // a subsystem stands after what it depends on
		if wanted[s.Subsystem] {
			for _, name := range s.DependsOn {
				wanted[name] = true
			}
		}
	}
	c := &Config{Source: "the engine", Subsystems: []SubsystemConfig{}}
	for _, s := range all {
		if len(names) > 0 && !wanted[s.Subsystem] {
			continue
		}
		calls, err := FrameworkGetConfig.Call(ctx, engine, FrameworkGetConfigParams{Name: s.Subsystem})
		if err != nil {
			return nil, err
		}
		section := SubsystemConfig{Subsystem: s.Subsystem}
		if calls != nil {
			section.Config = *calls
		}
		c.Subsystems = append(c.Subsystems, section)
	}
	return c, nil
}
