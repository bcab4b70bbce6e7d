package api

import (
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"reflect"
	"strings"
	"syscall"
	"testing"

	"errors"

	"github.com/google/go-cmp/cmp"
)

var golden = flag.Bool("update", false, "write testdata instead of comparing with it")

// TestCatalogue compares every method's signature with the one on file: the names, types and defaults are promises.
func TestCatalogue(t *testing.T) {
	var b strings.Builder
	for _, s := range Methods() {
		mark := ""
		if s.Reads {
			mark += " reads"
		}
		if s.Lenient {
			mark += " lenient"
		}
		if s.Aliases != nil {
			mark += " alias " + strings.Join(s.Aliases, " ")
		}
		fmt.Fprintf(&b, "%s [%s]%s -> %s\n", s.Name, s.States, mark, typeName(s.Result))
		for _, f := range fields(s.Params) {
			fmt.Fprintf(&b, "  %s %s", f.name, typeName(base(s.Params.FieldByIndex(f.index).Type)))
			if f.required {
				b.WriteString(" required")
			}
			if f.deflt != nil {
				fmt.Fprintf(&b, " =%s", *f.deflt)
			}
			if f.enum != nil {
				fmt.Fprintf(&b, " {%s}", strings.Join(f.enum, " "))
			}
			b.WriteByte('\n')
		}
	}
	const path = "testdata/methods.txt"
	if *golden {
		if err := os.WriteFile(path, []byte(b.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), b.String()); diff != "" {
		t.Errorf("the catalogue has changed; read the difference, then run go test ./ctl/api -update\n%s", diff)
	}
}

func typeName(t reflect.Type) string {
	switch t.Kind() {
	case reflect.Pointer:
		return "(" + typeName(t.Elem()) + " or null)"
	case reflect.Slice:
		return "[" + typeName(t.Elem()) + "]"
	}
	return strings.ReplaceAll(t.String(), "api.", "")
}

// TestEveryTypeIsSound reads the tags of every type, makes its schema, and decodes every default.
func TestEveryTypeIsSound(t *testing.T) {
	for _, s := range Methods() {
		if s.Doc == "" || !strings.HasSuffix(s.Doc, ".") {
			t.Errorf("%s: its description is not a sentence: %q", s.Name, s.Doc)
		}
		if s.States == 0 {
			t.Errorf("%s may never be called", s.Name)
		}
		for _, schema := range []*Schema{s.ParamsSchema(), s.ResultSchema()} {
			if _, err := json.Marshal(schema); err != nil {
				t.Errorf("%s: %v", s.Name, err)
			}
		}
		for _, f := range fields(s.Params) {
			if f.required && (f.omitempty || f.deflt != nil) || !f.required && !f.omitempty {
				t.Errorf("%s: parameter %s is neither required nor may it be left out, or both", s.Name, f.name)
			}
		}
		checkDefaults(t, s.Name, s.Params)
	}
}

func checkDefaults(t *testing.T, method string, of reflect.Type) {
	d := decoder{method: method}
	out := reflect.New(of).Elem()
	for _, f := range fields(of) {
		if !f.required {
			if err := d.absent("", &Value{Kind: Object}, &f, nil, out.FieldByIndex(f.index)); err != nil {
				t.Error(err)
			}
		}
		if inside := base(of.FieldByIndex(f.index).Type); inside.Kind() == reflect.Struct {
			checkDefaults(t, method, inside)
		}
	}
}

func TestSchemaSaysWhatTheDecoderChecks(t *testing.T) {
	got, err := json.MarshalIndent(schemaOf(reflect.TypeFor[sample](), false), "", " ")
	if err != nil {
		t.Fatal(err)
	}
	const path = "testdata/schema.json"
	if *golden {
		if err := os.WriteFile(path, append(got, '\n'), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), string(got)+"\n"); diff != "" {
		t.Error(diff)
	}
}

func TestErrorKeepsItsErrno(t *testing.T) {
	for _, c := range []struct {
		name string
		err  error
		code int
	}{
		{"errno", syscall.ENODEV, -19},
		{"wrapped errno", fmt.Errorf("open disk: %w", syscall.ENOSPC), -28},
		{"made from one", Errno(syscall.EBUSY, "in use"), -16},
		{"wrapped", fmt.Errorf("pool p: %w", Errno(syscall.EBUSY, "in use")), -16},
		{"none", errors.New("odd"), CodeInternal},
	} {
		e := AsError(c.err)
		if e.Code != c.code || e.Message != c.err.Error() {
			t.Errorf("%s: %d %q", c.name, e.Code, e.Message)
		}
	}
	if !errors.Is(AsError(syscall.ENODEV), syscall.ENODEV) || errors.Is(AsError(syscall.ENODEV), syscall.EBUSY) {
		t.Error("errors.Is does not see the errno")
	}
}

func TestConfigLeavesOutWhatIsEmpty(t *testing.T) {
	if c := BdevWaitForExamine.Config(None{}); c.Params != nil {
		t.Errorf("params are %s", c.Params)
	}
	c := BdevNullCreate.Config(BdevNullCreateParams{Name: "n0", NumBlocks: 8, BlockSize: 512})
	if string(c.Params) != `{"name":"n0","num_blocks":8,"block_size":512}` {
		t.Errorf("params are %s", c.Params)
	}
}
