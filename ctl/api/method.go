package api

import (
	"context"
	"encoding/json"
	"fmt"
	"reflect"
	"slices"
	"strings"
)

// State is when a method may be called. A set of them is written with |.
type State uint8

const (
	// Startup lasts until the engine's parts are made: with --wait-for-rpc until framework_start_init.
	Startup State = 1 << iota
	// Runtime is everything after.
	Runtime
	Always = Startup | Runtime
)

func (s State) String() string {
	return [...]string{"never", "startup", "runtime", "startup and runtime"}[s&Always]
}

// Spec is what the catalogue says of a method.
type Spec struct {
	Name string
	// Aliases are names that the method has in older releases of SPDK.
	Aliases []string
	// Doc is a sentence: what the call does.
	Doc    string
	States State
	// Reads is set where a call changes nothing. All other calls are logged with who asked.
	Reads bool
	// Lenient is set where members that the method does not know are let pass, because SPDK does so for this method and
	// scripts rely on it.
	Lenient bool
	// Role is the least that may call it.
	Role Role
	// Params is the parameter struct's type, Result the result's.
	Params, Result reflect.Type
}

// ParamsSchema describes the parameters.
func (s *Spec) ParamsSchema() *Schema { return schemaOf(s.Params, s.Lenient) }

// ResultSchema describes the result. Objects in it may gain members with a later release.
func (s *Spec) ResultSchema() *Schema { return schemaOf(s.Result, true) }

// Check decodes params as a call would, and does nothing else.
func (s *Spec) Check(params *Value) error {
	return Decode(s.Name, params, s.Lenient, reflect.New(s.Params).Interface())
}

// Method is a Spec whose parameter and result types the compiler knows.
type Method[P, R any] struct{ *Spec }

// Decode fills a new parameter struct.
func (m Method[P, R]) Decode(params *Value) (*P, error) {
	p := new(P)
	if err := Decode(m.Name, params, m.Lenient, p); err != nil {
		return nil, err
	}
	return p, nil
}

// Caller is whoever carries out calls: a Client, or the engine itself.
type Caller interface {
	// Call calls method and fills result, a pointer, unless it is nil. params is a struct, a map or nil.
	Call(ctx context.Context, method string, params, result any) error
}

// Call calls the method.
func (m Method[P, R]) Call(ctx context.Context, c Caller, params P) (R, error) {
	var result R
	err := c.Call(ctx, m.Name, params, &result)
	return result, err
}

// Config is this call as it stands in a saved configuration.
func (m Method[P, R]) Config(params P) ConfigCall {
	text, err := json.Marshal(params)
	if err != nil {
		panic(fmt.Sprintf("api: parameters of %s: %v", m.Name, err)) // a parameter struct always marshals
	}
	if string(text) == "{}" {
		text = nil
	}
	return ConfigCall{Method: m.Name, Params: text}
}

// None are the parameters of a method that takes none.
type None struct{}

var (
	catalogue = map[string]*Spec{}
	aliases   = map[string]string{} // to the names in the catalogue
)

// Methods lists the catalogue by name.
func Methods() []*Spec {
	all := make([]*Spec, 0, len(catalogue))
	for _, s := range catalogue {
		all = append(all, s)
	}
	slices.SortFunc(all, func(a, b *Spec) int { return strings.Compare(a.Name, b.Name) })
	return all
}

// Lookup finds a method of the catalogue by its name or an alias.
func Lookup(name string) (*Spec, bool) {
	s, ok := catalogue[Canonical(name)]
	return s, ok
}

// Canonical gives the name of a method that may be called by an alias.
func Canonical(name string) string {
	if now, ok := aliases[name]; ok {
		return now
	}
	return name
}

// reads enters a method that changes nothing into the catalogue, changes one that does.
func reads[P, R any](name string, states State, doc string) Method[P, R] {
	m := changes[P, R](name, states, doc)
	m.Reads, m.Role = true, Viewer
	return m
}

func changes[P, R any](name string, states State, doc string) Method[P, R] {
	if catalogue[name] != nil {
		panic("api: method " + name + " is defined twice")
	}
	s := &Spec{Name: name, Doc: doc, States: states, Role: Operator, Params: reflect.TypeFor[P](), Result: reflect.TypeFor[R]()}
	catalogue[name] = s
	return Method[P, R]{s}
}

// lenient marks a method that lets unknown members pass.
func lenient[P, R any](m Method[P, R]) Method[P, R] {
	m.Lenient = true
	return m
}

// alias gives a method names of older releases.
func alias[P, R any](m Method[P, R], names ...string) Method[P, R] {
	for _, name := range names {
		aliases[name] = m.Name
	}
	m.Aliases = names
	return m
}
