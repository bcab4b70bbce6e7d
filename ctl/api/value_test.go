package api

import (
	"encoding/json"
	"strings"
	"testing"
	"unicode/utf8"
)

func TestParseJSONNamesWhatIsWrongAndWhere(t *testing.T) {
	for _, c := range []struct{ name, text, want string }{
		{"nothing", " ", "line 1, column 2: the text ends where a value is expected"},
		{"two values", "{} {}", "line 1, column 4: something follows the value; only one is expected"},
		{"cut in an object", `{"a":1`, "line 1, column 7: a comma or the object's closing brace is expected"},
		{"trailing comma", "{\"a\":1,\n}", "line 2, column 1: a member's name in quotes is expected"},
		{"bare name", `{a:1}`, "line 1, column 2: a member's name in quotes is expected"},
		{"no colon", `{"a" 1}`, `line 1, column 6: a colon is expected after the name "a"`},
		{"name twice", "{\"a\":1,\n \"a\":2}", `line 2, column 2: the name "a" comes twice in one object`},
		{"list without comma", `[1 2]`, "line 1, column 4: a comma or the list's closing bracket is expected"},
		{"leading zero", `[01]`, "line 1, column 3: a comma or the list's closing bracket is expected"},
		{"minus alone", `-`, "line 1, column 2: a digit is expected after the minus sign"},
		{"point alone", `1.`, "line 1, column 3: a digit is expected after the decimal point"},
		{"exponent alone", `1e+`, "line 1, column 4: a digit is expected in the exponent"},
		{"control character", "\"a\tb\"", `line 1, column 3: a control character stands in a string; write it as \u0009`},
		{"not UTF-8", "\"\xff\"", "line 1, column 2: a string holds the byte 0xff, which is not UTF-8"},
		{"half a pair", `"\ud800"`, `line 1, column 8: \u is not followed by the four hexadecimal digits of a character, or of both halves of a pair`},
		{"unknown escape", `"\x"`, "line 1, column 3: the string holds an unknown escape"},
		{"cut in a string", `"ab`, "line 1, column 4: the text ends within a string"},
		{"comment", `/* */ 1`, `line 1, column 1: '/' begins no JSON value`},
		{"too deep", strings.Repeat("[", 66), "line 1, column 66: values stand more than 64 deep in each other"},
	} {
		t.Run(c.name, func(t *testing.T) {
			if _, _, err := ParseJSON([]byte(c.text)); err == nil || err.Error() != c.want {
				t.Errorf("got %v\nwant %s", err, c.want)
			}
		})
	}
}

func TestParseJSONKeepsPlacesNumbersAndCounts(t *testing.T) {
	v, values, err := ParseJSON([]byte("{\"a\": [1, true],\n \"b\": {\"c\": 18446744073709551615}, \"d\": null, \"e\":\"\\ud83d\\ude00\"}"))
	if err != nil {
		t.Fatal(err)
	}
	// Two for each of three objects and lists, five names, five plain values.
	if values != 16 {
		t.Errorf("%d values, want 16", values)
	}
	b, _ := v.Get("b")
	c, _ := b.Get("c")
	if c.Text != "18446744073709551615" || c.Line != 2 || c.Column != 13 {
		t.Errorf("c is %q at %d:%d", c.Text, c.Line, c.Column)
	}
	if e, _ := v.Get("e"); e.Text != "\U0001f600" {
		t.Errorf("e is %q", e.Text)
	}
}

func TestAppendASCIISurvivesEveryReader(t *testing.T) {
	const text = `{"k":"a é 漢 😀 \u2028 <"}`
	out := AppendASCII(nil, []byte(text))
	for _, c := range out {
		if c >= utf8.RuneSelf {
			t.Fatalf("not ASCII: %s", out)
		}
	}
	var want, got map[string]string
	if json.Unmarshal([]byte(text), &want) != nil || json.Unmarshal(out, &got) != nil || want["k"] != got["k"] {
		t.Fatalf("%s is not %s", out, text)
	}
}

// FuzzParseJSON compares the reader with the standard library's: what it takes the other takes, with the same meaning, and
// what it refuses beyond that it refuses for a reason of its own.
func FuzzParseJSON(f *testing.F) {
	for _, seed := range []string{`{"a":[1,-2.5e3,"\u00e9\n",true,false,null],"b":{}}`, `"\ud83d\ude00"`, `[[[]]]`, `{"a":1,"a":2}`, "\"\xff\"", ` 0 `} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		v, _, err := ParseJSON(text)
		valid := json.Valid(text)
		if err == nil && !valid {
			t.Fatalf("took %q", text)
		}
		if err != nil {
			own := strings.Contains(err.Error(), "twice") || strings.Contains(err.Error(), "not UTF-8") ||
				strings.Contains(err.Error(), "both halves") || strings.Contains(err.Error(), "deep in each other")
			if valid && !own {
				t.Fatalf("refused %q: %v", text, err)
			}
			return
		}
		var want, got any
		if err := json.Unmarshal(text, &want); err != nil {
			return // a number beyond float64
		}
		if err := json.Unmarshal(v.AppendJSON(nil), &got); err != nil {
			t.Fatalf("%q came back as %q: %v", text, v.AppendJSON(nil), err)
		}
		wantText, _ := json.Marshal(want)
		gotText, _ := json.Marshal(got)
		if string(wantText) != string(gotText) {
			t.Fatalf("%q came back as %q", wantText, gotText)
		}
	})
}
