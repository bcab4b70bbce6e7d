package api

import (
	"encoding/json"
	"fmt"
	"reflect"
	"slices"
	"strings"
)

// Role is what a client may do. Each may do what the ones before it may.
type Role uint8

// The roles. Whoever can open the unix socket is an Admin.
const (
	Viewer   Role = 1 + iota // asks, and is told no secret
	Operator                 // changes what the engine serves
	Admin                    // gives it keys and files of the machine, and ends it
)

var roleNames = [...]string{"no role", "viewer", "operator", "admin"}

// String names the role.
func (r Role) String() string { return roleNames[r] }

// ParseRole reads a role's name.
func ParseRole(name string) (Role, error) {
	if i := slices.Index(roleNames[1:], strings.ToLower(name)); i >= 0 {
		return Role(i + 1), nil
	}
	return 0, fmt.Errorf("%q is no role; there are viewer, operator and admin", name)
}

// admin marks a method that only an Admin may call.
func admin[P, R any](m Method[P, R]) Method[P, R] {
	m.Role = Admin
	return m
}

// SecretMask stands for a secret that is not told. It does not tell its length either.
const SecretMask = "********"

// Masked is the call without the secrets in its parameters: the members whose tag secret is true. It cannot be loaded again.
func (c ConfigCall) Masked() ConfigCall {
	spec, ok := Lookup(c.Method)
	if !ok || c.Params == nil || len(secrets(spec.Params)) == 0 {
		return c
	}
	var params map[string]json.RawMessage
	if json.Unmarshal(c.Params, &params) != nil {
		return ConfigCall{Method: c.Method}
	}
	for _, name := range secrets(spec.Params) {
		if _, there := params[name]; there {
			params[name] = json.RawMessage(`"` + SecretMask + `"`)
		}
	}
	text, err := json.Marshal(params)
	if err != nil {
		return ConfigCall{Method: c.Method}
	}
	return ConfigCall{Method: c.Method, Params: text}
}

// secrets lists the members of a parameter struct that hold one.
func secrets(t reflect.Type) (names []string) {
	for f := range t.Fields() {
		if f.Tag.Get("secret") == "true" {
			name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
			names = append(names, name)
		}
	}
	return names
}
