package api

import (
	"fmt"
	"strconv"
	"unicode/utf16"
	"unicode/utf8"
)

// This file is a JSON reader (RFC 8259) that keeps what encoding/json throws away: where each value stands, that a name
// came twice, and how a number was written. An error about a configuration can so name its line, and a parameter is
// never taken under a name that differs in letter case.

// Kind is the type of a JSON value.
type Kind uint8

const (
	Null Kind = iota
	Bool
	Number
	String
	Array
	Object
)

func (k Kind) String() string {
	return [...]string{"null", "a boolean", "a number", "a string", "a list", "an object"}[k]
}

// Value is one JSON value and where it was written.
type Value struct {
	Kind Kind
	// Text is a string's content, or a number or boolean as it was written.
	Text string
	// Items are an Array's elements.
	Items []Value
	// Members are an Object's members, in order; no name comes twice.
	Members []Member
	// Line and Column count from 1, columns in bytes. 0 where the value came from no text.
	Line, Column int
}

// Member is a name and its value in an object.
type Member struct {
	Name  string
	Value Value
}

// Get returns the member of that name.
func (v *Value) Get(name string) (*Value, bool) {
	for i := range v.Members {
		if v.Members[i].Name == name {
			return &v.Members[i].Value, true
		}
	}
	return nil, false
}

// Forget drops where v and all in it was written, where that would tell a reader nothing.
func (v *Value) Forget() {
	v.Line, v.Column = 0, 0
	for i := range v.Items {
		v.Items[i].Forget()
	}
	for i := range v.Members {
		v.Members[i].Value.Forget()
	}
}

// at says where v stands, for the end of a sentence; nothing where that is not known.
func (v *Value) at() string {
	if v == nil || v.Line == 0 {
		return ""
	}
	return fmt.Sprintf(" (line %d, column %d)", v.Line, v.Column)
}

// brief is v as a reader would say it, cut short.
func (v *Value) brief() string {
	switch v.Kind {
	case String:
		text := v.Text
		if len(text) > 40 {
			text = text[:40] + "..."
		}
		return strconv.Quote(text)
	case Number, Bool:
		return v.Text
	}
	return v.Kind.String()
}

// SyntaxError is text that is not JSON, and where it stops being so.
type SyntaxError struct {
	Line, Column int
	Problem      string
	// Ambiguous is set where the text is JSON, but gives one name two values.
	Ambiguous bool
}

func (e *SyntaxError) Error() string {
	return fmt.Sprintf("line %d, column %d: %s", e.Line, e.Column, e.Problem)
}

// depthMax bounds nesting, and so the parser's own stack. SPDK's reader stops at 64 too (SPDK_JSON_MAX_NESTING_DEPTH).
const depthMax = 64

// ParseJSON reads one JSON value that fills text. values counts it and everything in it as SPDK counts against its limit:
// the beginning and the end of each object and list, each name, and each plain value.
func ParseJSON(text []byte) (v Value, values int, err error) {
	p := parser{text: text, line: 1}
	p.space()
	if v, err = p.value(0); err != nil {
		return Value{}, 0, err
	}
	p.space()
	if p.at < len(p.text) {
		return Value{}, 0, p.fault("something follows the value; only one is expected")
	}
	return v, p.values, nil
}

type parser struct {
	text []byte
	at   int
	// line counts from 1; lineAt is where it begins.
	line, lineAt int
	values       int
}

func (p *parser) fault(format string, args ...any) error {
	return &SyntaxError{Line: p.line, Column: p.at - p.lineAt + 1, Problem: fmt.Sprintf(format, args...)}
}

func (p *parser) space() {
	for ; p.at < len(p.text); p.at++ {
		switch p.text[p.at] {
		case '\n':
			p.line, p.lineAt = p.line+1, p.at+1
		case ' ', '\t', '\r':
		default:
			return
		}
	}
}

// peek returns the next byte, 0 at the end: a NUL is no part of JSON outside of strings either.
func (p *parser) peek() byte {
	if p.at == len(p.text) {
		return 0
	}
	return p.text[p.at]
}

func (p *parser) value(depth int) (Value, error) {
	if depth > depthMax {
		return Value{}, p.fault("values stand more than %d deep in each other", depthMax)
	}
	p.values++
	v := Value{Line: p.line, Column: p.at - p.lineAt + 1}
	var err error
	switch c := p.peek(); {
	case c == '{':
		v.Kind = Object
		err = p.object(&v, depth)
	case c == '[':
		v.Kind = Array
		err = p.array(&v, depth)
	case c == '"':
		v.Kind = String
		v.Text, err = p.str()
	case c == '-' || '0' <= c && c <= '9':
		v.Kind = Number
		v.Text, err = p.number()
	case p.word("true"), p.word("false"):
		v.Kind, v.Text = Bool, "true"
		if c == 'f' {
			v.Text = "false"
		}
	case p.word("null"):
		v.Kind = Null
	case p.at == len(p.text):
		err = p.fault("the text ends where a value is expected")
	default:
		r, _ := utf8.DecodeRune(p.text[p.at:])
		err = p.fault("%q begins no JSON value", r)
	}
	return v, err
}

func (p *parser) word(word string) bool {
	if len(p.text)-p.at < len(word) || string(p.text[p.at:p.at+len(word)]) != word {
		return false
	}
	p.at += len(word)
	return true
}

func (p *parser) object(v *Value, depth int) error {
	p.at++
	var seen map[string]bool
	for first := true; ; first = false {
		p.space()
		if p.peek() == '}' && first {
			break
		}
		if p.peek() != '"' {
			return p.fault("a member's name in quotes is expected")
		}
		p.values++
		nameAt := *p
		name, err := p.str()
		if err != nil {
			return err
		}
		if seen[name] {
			return &SyntaxError{Line: nameAt.line, Column: nameAt.at - nameAt.lineAt + 1, Ambiguous: true,
				Problem: fmt.Sprintf("the name %q comes twice in one object", name)}
		}
		if seen == nil {
			seen = map[string]bool{}
		}
		seen[name] = true
		p.space()
		if p.peek() != ':' {
			return p.fault("a colon is expected after the name %q", name)
		}
		p.at++
		p.space()
		member, err := p.value(depth + 1)
		if err != nil {
			return err
		}
		v.Members = append(v.Members, Member{Name: name, Value: member})
		p.space()
		if p.peek() == '}' {
			break
		}
		if p.peek() != ',' {
			return p.fault("a comma or the object's closing brace is expected")
		}
		p.at++
	}
	p.at++
	p.values++
	return nil
}

func (p *parser) array(v *Value, depth int) error {
	p.at++
	for first := true; ; first = false {
		p.space()
		if p.peek() == ']' && first {
			break
		}
		item, err := p.value(depth + 1)
		if err != nil {
			return err
		}
		v.Items = append(v.Items, item)
		p.space()
		if p.peek() == ']' {
			break
		}
		if p.peek() != ',' {
			return p.fault("a comma or the list's closing bracket is expected")
		}
		p.at++
	}
	p.at++
	p.values++
	return nil
}

// number keeps the number's text: a 64-bit count does not survive a float64.
func (p *parser) number() (string, error) {
	begin := p.at
	digits := func() bool {
		from := p.at
		for '0' <= p.peek() && p.peek() <= '9' {
			p.at++
		}
		return p.at > from
	}
	if p.peek() == '-' {
		p.at++
	}
	if p.peek() == '0' {
		p.at++
	} else if !digits() {
		return "", p.fault("a digit is expected after the minus sign")
	}
	if p.peek() == '.' {
		p.at++
		if !digits() {
			return "", p.fault("a digit is expected after the decimal point")
		}
	}
	if c := p.peek(); c == 'e' || c == 'E' {
		p.at++
		if c := p.peek(); c == '+' || c == '-' {
			p.at++
		}
		if !digits() {
			return "", p.fault("a digit is expected in the exponent")
		}
	}
	return string(p.text[begin:p.at]), nil
}

func (p *parser) str() (string, error) {
	p.at++
	var out []byte
	for p.at < len(p.text) {
		c := p.text[p.at]
		switch {
		case c == '"':
			p.at++
			return string(out), nil
		case c < 0x20:
			return "", p.fault("a control character stands in a string; write it as \\u%04x", c)
		case c == '\\':
			r, err := p.escape()
			if err != nil {
				return "", err
			}
			out = utf8.AppendRune(out, r)
		case c < utf8.RuneSelf:
			out = append(out, c)
			p.at++
		default:
			r, size := utf8.DecodeRune(p.text[p.at:])
			if r == utf8.RuneError && size == 1 {
				return "", p.fault("a string holds the byte %#02x, which is not UTF-8", c)
			}
			out = append(out, p.text[p.at:p.at+size]...)
			p.at += size
		}
	}
	return "", p.fault("the text ends within a string")
}

// escape reads one escape, of a surrogate pair both halves. A half alone is refused as SPDK's reader does: it would
// silently become another character.
func (p *parser) escape() (rune, error) {
	p.at++
	c := p.peek()
	p.at++
	switch c {
	case '"', '\\', '/':
		return rune(c), nil
	case 'b':
		return '\b', nil
	case 'f':
		return '\f', nil
	case 'n':
		return '\n', nil
	case 'r':
		return '\r', nil
	case 't':
		return '\t', nil
	case 'u':
		r, ok := p.hex4()
		if ok && utf16.IsSurrogate(r) {
			ok = false
			if p.word(`\u`) {
				if low, lowOK := p.hex4(); lowOK {
					r = utf16.DecodeRune(r, low)
					ok = r != utf8.RuneError
				}
			}
		}
		if ok {
			return r, nil
		}
		return 0, p.fault("\\u is not followed by the four hexadecimal digits of a character, or of both halves of a pair")
	}
	p.at--
	return 0, p.fault("the string holds an unknown escape")
}

func (p *parser) hex4() (rune, bool) {
	if len(p.text)-p.at < 4 {
		return 0, false
	}
	n, err := strconv.ParseUint(string(p.text[p.at:p.at+4]), 16, 16)
	if err != nil {
		return 0, false
	}
	p.at += 4
	return rune(n), true
}
