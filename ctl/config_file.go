package ctl

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"

	yaml "github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/parser"

	"github.com/pollux-storage/pollux/ctl/api"
)

// This file reads a configuration from YAML or JSON. Both become an api.Value that remembers lines, so that one decoder
// checks both and an error in either names its place. Of YAML it takes what JSON can say, and comments: no anchors, tags or
// merge keys, and one document.

// ReadConfigFile reads a configuration: JSON where the name ends in .json or the text begins with a brace, else YAML.
func ReadConfigFile(path string) (*api.Config, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", api.ErrConfig, err)
	}
	return ParseConfig(path, text)
}

// ParseConfig reads a configuration from text; source is its name.
func ParseConfig(source string, text []byte) (*api.Config, error) {
	parse := yamlValue
	if filepath.Ext(source) == ".json" || filepath.Ext(source) == "" && bytes.HasPrefix(bytes.TrimSpace(text), []byte("{")) {
		parse = func(text []byte) (api.Value, error) {
			v, _, err := api.ParseJSON(text)
			return v, err
		}
	}
	v, err := parse(text)
	if err != nil {
		return nil, fmt.Errorf("%w: %s: %w", api.ErrConfig, source, err)
	}
	return api.ReadConfig(source, &v)
}

func yamlValue(text []byte) (api.Value, error) {
	file, err := parser.ParseBytes(text, 0)
	if err != nil {
		var bad yaml.Error
		if errors.As(err, &bad) && bad.GetToken() != nil {
			at := bad.GetToken().Position
			return api.Value{}, &api.SyntaxError{Line: at.Line, Column: at.Column, Problem: bad.GetMessage()}
		}
		return api.Value{}, err
	}
	docs := file.Docs
	if len(docs) != 1 || docs[0].Body == nil {
		return api.Value{}, fmt.Errorf("it holds %d documents; one is expected", len(docs))
	}
	return fromYAML(docs[0].Body)
}

func fromYAML(node ast.Node) (api.Value, error) {
	at := node.GetToken().Position
	v := api.Value{Line: at.Line, Column: at.Column}
	switch n := node.(type) {
	case *ast.NullNode:
	case *ast.BoolNode:
		v.Kind, v.Text = api.Bool, strconv.FormatBool(n.Value)
	case *ast.IntegerNode: // also 0x10 and 1_000
		v.Kind, v.Text = api.Number, fmt.Sprint(n.Value)
	case *ast.FloatNode:
		v.Kind, v.Text = api.Number, strconv.FormatFloat(n.Value, 'g', -1, 64)
	case *ast.StringNode:
		v.Kind, v.Text = api.String, n.Value
	case *ast.LiteralNode:
		v.Kind, v.Text = api.String, n.Value.Value
	case *ast.SequenceNode:
		v.Kind = api.Array
		for _, item := range n.Values {
			child, err := fromYAML(item)
			if err != nil {
				return v, err
			}
			v.Items = append(v.Items, child)
		}
	case *ast.MappingNode:
		v.Kind = api.Object
		for _, member := range n.Values {
			if err := addMember(&v, member); err != nil {
				return v, err
			}
		}
	case *ast.MappingValueNode:
		v.Kind = api.Object
		if err := addMember(&v, n); err != nil {
			return v, err
		}
	default:
		return v, &api.SyntaxError{Line: v.Line, Column: v.Column,
			Problem: fmt.Sprintf("%s is of no use in a configuration; write what JSON can say", node.Type())}
	}
	return v, nil
}

func addMember(v *api.Value, member *ast.MappingValueNode) error {
	at := member.Key.GetToken().Position
	name, ok := member.Key.(*ast.StringNode)
	if !ok {
		return &api.SyntaxError{Line: at.Line, Column: at.Column, Problem: fmt.Sprintf("%s is no name for a member; a string is expected", member.Key)}
	}
	if _, twice := v.Get(name.Value); twice {
		return &api.SyntaxError{Line: at.Line, Column: at.Column, Problem: fmt.Sprintf("the name %q comes twice", name.Value)}
	}
	child, err := fromYAML(member.Value)
	if err != nil {
		return err
	}
	if len(v.Members) == 0 {
		v.Line, v.Column = at.Line, at.Column
	}
	v.Members = append(v.Members, api.Member{Name: name.Value, Value: child})
	return nil
}
