package api

import (
	"encoding/json"
	"fmt"
	"math"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"sync"
)

// This file fills a parameter struct from a Value by the struct's tags (doc.go).
//
// Strict: an unknown member, a member of the wrong type, a missing required one and a number out of bounds are refused,
// and the refusal names the member by its path. Lenient on purpose, as SPDK's decoders are or because it can mean one thing
// only: null stands for an absent member, an integer may be written 1e3 or 4.0, the words of an enum may come in any letter
// case, and a list of Words may be one string with commas.

// Words is a list of words that may also be given as one string with commas between them, as SPDK's command line does
// for its bit masks (discovery_filters, dhchap_digests).
type Words []string

// field is one parameter as its struct's tags describe it.
type field struct {
	name      string
	index     []int
	required  bool
	omitempty bool
	deflt     *string
	enum      []string
	format    string
	min, max  *float64
	doc       string
	secret    bool // no message tells its value
}

var (
	fieldsOf  sync.Map // reflect.Type of a struct to []field
	wordsType = reflect.TypeFor[Words]()
	rawType   = reflect.TypeFor[json.RawMessage]()
	anyType   = reflect.TypeFor[any]()
	valueType = reflect.TypeFor[Value]()
)

// fields reads the tags of a struct type. A tag that makes no sense is a defect of this program and panics; the tests read
// every type of the catalogue.
func fields(t reflect.Type) []field {
	if known, ok := fieldsOf.Load(t); ok {
		return known.([]field)
	}
	var all []field
	for _, sf := range reflect.VisibleFields(t) {
		tag, options, _ := strings.Cut(sf.Tag.Get("json"), ",")
		if !sf.IsExported() || tag == "-" || sf.Anonymous {
			continue
		}
		if tag == "" {
			panic(fmt.Sprintf("api: field %s of %s has no json name", sf.Name, t))
		}
		f := field{
			name: tag, index: sf.Index, doc: sf.Tag.Get("doc"), format: sf.Tag.Get("format"),
			required:  sf.Tag.Get("rpc") == "required",
			secret:    sf.Tag.Get("secret") == "true",
			omitempty: strings.Contains(options, "omitempty"),
		}
		if text, ok := sf.Tag.Lookup("default"); ok {
			f.deflt = &text
		}
		if text := sf.Tag.Get("enum"); text != "" {
			f.enum = strings.Split(text, ",")
		}
		f.min, f.max = bound(t, sf, "min"), bound(t, sf, "max")
		all = append(all, f)
	}
	fieldsOf.Store(t, all)
	return all
}

func bound(t reflect.Type, sf reflect.StructField, name string) *float64 {
	text, ok := sf.Tag.Lookup(name)
	if !ok {
		return nil
	}
	n, err := strconv.ParseFloat(text, 64)
	if err != nil {
		panic(fmt.Sprintf("api: field %s of %s: tag %s: %v", sf.Name, t, name, err))
	}
	return &n
}

// Decode fills out, a pointer to a parameter struct, from params; nil, null and an empty list are no parameters. lenient
// lets members pass that out does not know. An error is an *Error with CodeInvalidParams.
func Decode(method string, params *Value, lenient bool, out any) error {
	d := decoder{method: method, lenient: lenient, noun: "parameter"}
	if params == nil || params.Kind == Null || params.Kind == Array && len(params.Items) == 0 {
		params = &Value{Kind: Object}
	}
	if params.Kind != Object {
		return Invalid("%s: the parameters are %s%s; they are taken by name, in an object", method, params.brief(), params.at())
	}
	return d.object("", params, reflect.ValueOf(out).Elem())
}

type decoder struct {
	method  string // or a file
	lenient bool
	noun    string // what a member is called in a message
}

func (d *decoder) object(path string, v *Value, out reflect.Value) error {
	known := fields(out.Type())
	for i := range v.Members {
		member := &v.Members[i]
		at := slices.IndexFunc(known, func(f field) bool { return f.name == member.Name })
		if at >= 0 || d.lenient {
			continue
		}
		return Invalid("%s: unknown %s %q%s; %s", d.method, d.noun, path+member.Name, member.Value.at(), suggest(member.Name, known))
	}
	for i := range known {
		f := &known[i]
		member, ok := v.Get(f.name)
		if !ok || member.Kind == Null {
			if err := d.absent(path, v, f, known, out.FieldByIndex(f.index)); err != nil {
				return err
			}
			continue
		}
		if err := d.value(path+f.name, member, f, out.FieldByIndex(f.index)); err != nil {
			return err
		}
	}
	return nil
}

func (d *decoder) absent(path string, v *Value, f *field, known []field, out reflect.Value) error {
	if f.required {
		var required []string
		for i := range known {
			if known[i].required {
				required = append(required, path+known[i].name)
			}
		}
		return Invalid("%s: the %s %q is missing%s; required are: %s", d.method, d.noun, path+f.name, v.at(), strings.Join(required, ", "))
	}
	if f.deflt == nil {
		return nil
	}
	deflt := Value{Kind: Number, Text: *f.deflt}
	switch base(out.Type()).Kind() {
	case reflect.String:
		deflt.Kind = String
	case reflect.Bool:
		deflt.Kind = Bool
	}
	if err := d.value(path+f.name, &deflt, f, out); err != nil {
		panic("api: default of " + d.method + " " + path + f.name + ": " + err.Error())
	}
	return nil
}

// base is what a pointer type points at.
func base(t reflect.Type) reflect.Type {
	if t.Kind() == reflect.Pointer {
		return t.Elem()
	}
	return t
}

func (d *decoder) value(path string, v *Value, f *field, out reflect.Value) error {
	if out.Kind() == reflect.Pointer {
		out.Set(reflect.New(out.Type().Elem()))
		out = out.Elem()
	}
	switch {
	case out.Type() == valueType:
		out.Set(reflect.ValueOf(*v))
		return nil
	case out.Type() == rawType || out.Type() == anyType:
		text := v.AppendJSON(nil)
		if out.Type() == anyType {
			var free any
			if err := json.Unmarshal(text, &free); err != nil {
				return Invalid("%s: the %s %q%s cannot be read: %v", d.method, d.noun, path, v.at(), err)
			}
			out.Set(reflect.ValueOf(&free).Elem())
			return nil
		}
		out.SetBytes(text)
		return nil
	case out.Type() == wordsType && v.Kind == String:
		v = splitWords(v)
	}
	switch out.Kind() {
	case reflect.Struct:
		if v.Kind != Object {
			return d.wrongKind(path, v, "an object")
		}
		return d.object(path+".", v, out)
	case reflect.Slice:
		if v.Kind != Array {
			return d.wrongKind(path, v, "a list")
		}
		list := reflect.MakeSlice(out.Type(), len(v.Items), len(v.Items))
		for i := range v.Items {
			if err := d.value(fmt.Sprintf("%s[%d]", path, i), &v.Items[i], f, list.Index(i)); err != nil {
				return err
			}
		}
		out.Set(list)
		return nil
	case reflect.String:
		if v.Kind != String {
			if f.secret {
				v = &Value{Kind: v.Kind, Text: "…", Line: v.Line, Column: v.Column}
			}
			return d.wrongKind(path, v, "a string")
		}
		text, err := d.word(path, v, f)
		out.SetString(text)
		return err
	case reflect.Bool:
		if v.Kind != Bool {
			return d.wrongKind(path, v, "true or false")
		}
		out.SetBool(v.Text == "true")
		return nil
	}
	return d.number(path, v, f, out)
}

func (d *decoder) wrongKind(path string, v *Value, want string) error {
	advice := ""
	if want == "a string" && (v.Kind == Number || v.Kind == Bool) {
		advice = ": put it in quotes"
	}
	return Invalid("%s: the %s %q is %s%s; it has to be %s%s", d.method, d.noun, path, v.brief(), v.at(), want, advice)
}

func splitWords(v *Value) *Value {
	list := &Value{Kind: Array, Line: v.Line, Column: v.Column}
	for word := range strings.SplitSeq(v.Text, ",") {
		if word = strings.TrimSpace(word); word != "" {
			list.Items = append(list.Items, Value{Kind: String, Text: word, Line: v.Line, Column: v.Column})
		}
	}
	return list
}

func (d *decoder) word(path string, v *Value, f *field) (string, error) {
	if f.format == "uuid" && !isUUID(v.Text) {
		return "", Invalid("%s: the %s %q is %s%s; it has to be a UUID such as ceccf520-691e-4b46-9546-34af789907c5",
			d.method, d.noun, path, v.brief(), v.at())
	}
	if f.enum == nil {
		return v.Text, nil
	}
	for _, word := range f.enum {
		if strings.EqualFold(word, v.Text) {
			return word, nil
		}
	}
	return "", Invalid("%s: the %s %q is %s%s; it has to be one of: %s", d.method, d.noun, path, v.brief(), v.at(), strings.Join(f.enum, ", "))
}

func isUUID(text string) bool {
	if len(text) != 36 {
		return false
	}
	for i := range len(text) {
		c := text[i]
		if i == 8 || i == 13 || i == 18 || i == 23 {
			if c != '-' {
				return false
			}
		} else if !('0' <= c && c <= '9' || 'a' <= c && c <= 'f' || 'A' <= c && c <= 'F') {
			return false
		}
	}
	return true
}

func (d *decoder) number(path string, v *Value, f *field, out reflect.Value) error {
	if v.Kind != Number {
		return d.wrongKind(path, v, "a number")
	}
	ok := false
	switch {
	case out.CanInt():
		var n int64
		if n, ok = integer(v.Text, strconv.ParseInt); ok {
			ok = !out.OverflowInt(n) && f.inBounds(float64(n))
			out.SetInt(n)
		}
	case out.CanUint():
		var n uint64
		if n, ok = integer(v.Text, strconv.ParseUint); ok {
			ok = !out.OverflowUint(n) && f.inBounds(float64(n))
			out.SetUint(n)
		}
	case out.CanFloat():
		n, err := strconv.ParseFloat(v.Text, 64)
		ok = err == nil && f.inBounds(n)
		out.SetFloat(n)
	default:
		panic(fmt.Sprintf("api: parameter %s of %s has the type %s, which the decoder does not know", path, d.method, out.Type()))
	}
	if ok {
		return nil
	}
	return Invalid("%s: the %s %q is %s%s; it has to be %s", d.method, d.noun, path, v.brief(), v.at(), f.numberWanted(out.Type()))
}

// integer also takes 1e3 and 4.0, whose value is whole, up to where a float64 is exact.
func integer[T int64 | uint64](text string, parse func(string, int, int) (T, error)) (T, bool) {
	if n, err := parse(text, 10, 64); err == nil {
		return n, true
	}
	if !strings.ContainsAny(text, ".eE") {
		return 0, false
	}
	n, err := strconv.ParseFloat(text, 64)
	if err != nil || n != math.Trunc(n) || math.Abs(n) > 1<<53 || n < 0 && T(0)-1 > 0 {
		return 0, false
	}
	return T(n), true
}

func (f *field) inBounds(n float64) bool {
	return (f.min == nil || n >= *f.min) && (f.max == nil || n <= *f.max)
}

func (f *field) numberWanted(t reflect.Type) string {
	low, high, whole := limits(t)
	if !whole {
		return "a number"
	}
	if f.min != nil {
		low = strconv.FormatFloat(*f.min, 'f', -1, 64)
	}
	if f.max != nil {
		high = strconv.FormatFloat(*f.max, 'f', -1, 64)
	}
	return fmt.Sprintf("a whole number from %s to %s", low, high)
}

// limits are the bounds of an integer type, as text since a uint64 fits no other number here.
func limits(t reflect.Type) (low, high string, whole bool) {
	bits := t.Bits()
	switch t.Kind() {
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		return strconv.FormatInt(-1<<(bits-1), 10), strconv.FormatInt(1<<(bits-1)-1, 10), true
	case reflect.Float32, reflect.Float64:
		return "", "", false
	}
	return "0", strconv.FormatUint(math.MaxUint64>>(64-bits), 10), true
}

// suggest names the parameter that was probably meant, or all there are.
func suggest(name string, known []field) string {
	names := make([]string, len(known))
	for i := range known {
		names[i] = known[i].name
	}
	near := Nearest(name, names)
	switch {
	case near != "":
		return fmt.Sprintf("did you mean %q?", near)
	case len(names) == 0:
		return "this method takes none"
	}
	return "known are: " + strings.Join(names, ", ")
}

// Nearest is the one of names that was probably meant by name, or nothing.
func Nearest(name string, names []string) string {
	best, bestDistance := "", 3
	for _, known := range names {
		if d := distance(name, known); d < bestDistance {
			best, bestDistance = known, d
		}
	}
	return best
}

// distance is how many letters differ (Levenshtein).
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := diagonal
			if a[i] != b[j] {
				cost++
			}
			diagonal = row[j+1]
			row[j+1] = min(cost, row[j+1]+1, row[j]+1)
		}
	}
	return row[len(b)]
}

// AppendJSON appends v as JSON text to b.
func (v *Value) AppendJSON(b []byte) []byte {
	switch v.Kind {
	case Null:
		return append(b, "null"...)
	case Bool, Number:
		return append(b, v.Text...)
	case String:
		return appendString(b, v.Text)
	case Array:
		b = append(b, '[')
		for i := range v.Items {
			if i > 0 {
				b = append(b, ',')
			}
			b = v.Items[i].AppendJSON(b)
		}
		return append(b, ']')
	}
	b = append(b, '{')
	for i := range v.Members {
		if i > 0 {
			b = append(b, ',')
		}
		b = appendString(b, v.Members[i].Name)
		b = append(b, ':')
		b = v.Members[i].Value.AppendJSON(b)
	}
	return append(b, '}')
}

func appendString(b []byte, text string) []byte {
	quoted, _ := json.Marshal(text) // a string always marshals
	return append(b, quoted...)
}
