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

// Masked is the call without the secrets in its parameters: the members whose tag secret is true, however deep. It cannot be loaded again.
func (c ConfigCall) Masked() ConfigCall {
	spec, ok := Lookup(c.Method)
	if !ok || c.Params == nil || !hasSecrets(spec.Params) {
		return c
	}
	var params any
	if json.Unmarshal(c.Params, &params) != nil {
		return ConfigCall{Method: c.Method}
	}
	mask(spec.Params, params)
	text, err := json.Marshal(params)
	if err != nil {
		return ConfigCall{Method: c.Method}
	}
	return ConfigCall{Method: c.Method, Params: text}
}

// structOf is the struct that a type holds, in a list or behind a pointer; false if there is none.
func structOf(t reflect.Type) (reflect.Type, bool) {
	for t.Kind() == reflect.Slice || t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	return t, t.Kind() == reflect.Struct && t != valueType
}

// hasSecrets tells whether a parameter struct holds one.
func hasSecrets(t reflect.Type) bool {
	for _, f := range fields(t) {
		if f.secret {
			return true
		}
		if in, ok := structOf(t.FieldByIndex(f.index).Type); ok && hasSecrets(in) {
			return true
		}
	}
	return false
}

// mask overwrites the secrets in the JSON of a parameter struct.
func mask(t reflect.Type, v any) {
	switch v := v.(type) {
	case []any:
		for _, item := range v {
			mask(t, item)
		}
	case map[string]any:
		for _, f := range fields(t) {
			member, there := v[f.name]
			if !there {
				continue
			}
			if f.secret {
				v[f.name] = SecretMask
			} else if in, ok := structOf(t.FieldByIndex(f.index).Type); ok {
				mask(in, member)
			}
		}
	}
}
