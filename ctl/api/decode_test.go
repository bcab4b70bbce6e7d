package api

import (
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

type inner struct {
	Word string `json:"word" rpc:"required" enum:"Red,Green"`
	Port string `json:"port,omitempty"`
}

type sample struct {
	Name   string   `json:"name" rpc:"required" doc:"what it is called"`
	Count  uint16   `json:"count,omitempty" default:"7" min:"2" max:"600"`
	Big    uint64   `json:"big,omitempty"`
	Signed *int32   `json:"signed,omitempty" default:"-1"`
	Flag   *bool    `json:"flag,omitempty" default:"true"`
	Ratio  float64  `json:"ratio,omitempty"`
	UUID   string   `json:"uuid,omitempty" format:"uuid"`
	List   []uint32 `json:"list,omitempty"`
	Words  Words    `json:"words,omitempty" enum:"one,two"`
	Inner  *inner   `json:"inner,omitempty"`
}

func decode(t *testing.T, text string, lenient bool) (sample, error) {
	t.Helper()
	v, _, err := ParseJSON([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	var s sample
	return s, Decode("do_it", &v, lenient, &s)
}

func TestDecodeFillsDefaultsAndEveryType(t *testing.T) {
	minusOne, yes, no, zero := int32(-1), true, false, int32(0)
	for _, c := range []struct {
		name, text string
		want       sample
	}{
		{"defaults", `{"name":"x"}`, sample{Name: "x", Count: 7, Signed: &minusOne, Flag: &yes}},
		{"null is absent", `{"name":"x","count":null,"flag":null}`, sample{Name: "x", Count: 7, Signed: &minusOne, Flag: &yes}},
		{"zero is not absent", `{"name":"","signed":0,"flag":false}`, sample{Count: 7, Signed: &zero, Flag: &no}},
		{"everything", `{"name":"x","count":600,"big":18446744073709551615,"signed":-1,"flag":true,"ratio":2.5,
			"uuid":"ceccf520-691e-4b46-9546-34af789907c5","list":[1,2],"words":["ONE","two"],"inner":{"word":"green","port":"1"}}`,
			sample{Name: "x", Count: 600, Big: 18446744073709551615, Signed: &minusOne, Flag: &yes, Ratio: 2.5,
				UUID: "ceccf520-691e-4b46-9546-34af789907c5", List: []uint32{1, 2}, Words: Words{"one", "two"},
				Inner: &inner{"Green", "1"}}},
		{"words in one string", `{"name":"x","words":"two, one"}`, sample{Name: "x", Count: 7, Signed: &minusOne, Flag: &yes, Words: Words{"two", "one"}}},
		{"whole numbers written otherwise", `{"name":"x","count":4.0e1,"big":1e3}`, sample{Name: "x", Count: 40, Big: 1000, Signed: &minusOne, Flag: &yes}},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, err := decode(t, c.text, false)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(c.want, got); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestDecodeNamesWhatIsWrong(t *testing.T) {
	for _, c := range []struct{ name, text, want string }{
		{"missing", `{}`, `do_it: the parameter "name" is missing (line 1, column 1); required are: name`},
		{"required but null", `{"name":null}`, `do_it: the parameter "name" is missing (line 1, column 1); required are: name`},
		{"unknown, nearly known", `{"name":"x","conut":1}`, `do_it: unknown parameter "conut" (line 1, column 21); did you mean "count"?`},
		{"letter case", `{"name":"x","Count":1}`, `do_it: unknown parameter "Count" (line 1, column 21); did you mean "count"?`},
		{"unknown", `{"name":"x","nonsense":1}`, `do_it: unknown parameter "nonsense" (line 1, column 24); known are: name, count, big, signed, flag, ratio, uuid, list, words, inner`},
		{"list of parameters", `["x"]`, `do_it: the parameters are a list (line 1, column 1); they are taken by name, in an object`},
		{"number for a string", `{"name":4420}`, `do_it: the parameter "name" is 4420 (line 1, column 9); it has to be a string: put it in quotes`},
		{"string for a number", `{"name":"x","count":"7"}`, `do_it: the parameter "count" is "7" (line 1, column 21); it has to be a number`},
		{"too small", `{"name":"x","count":1}`, `do_it: the parameter "count" is 1 (line 1, column 21); it has to be a whole number from 2 to 600`},
		{"too large", `{"name":"x","count":601}`, `do_it: the parameter "count" is 601 (line 1, column 21); it has to be a whole number from 2 to 600`},
		{"negative", `{"name":"x","big":-1}`, `do_it: the parameter "big" is -1 (line 1, column 19); it has to be a whole number from 0 to 18446744073709551615`},
		{"negative, written with an exponent", `{"name":"x","big":-1e0}`, `do_it: the parameter "big" is -1e0 (line 1, column 19); it has to be a whole number from 0 to 18446744073709551615`},
		{"beyond the type", `{"name":"x","signed":2147483648}`, `do_it: the parameter "signed" is 2147483648 (line 1, column 22); it has to be a whole number from -2147483648 to 2147483647`},
		{"not whole", `{"name":"x","count":2.5}`, `do_it: the parameter "count" is 2.5 (line 1, column 21); it has to be a whole number from 2 to 600`},
		{"number for a boolean", `{"name":"x","flag":1}`, `do_it: the parameter "flag" is 1 (line 1, column 20); it has to be true or false`},
		{"not a UUID", `{"name":"x","uuid":"ceccf520"}`, `do_it: the parameter "uuid" is "ceccf520" (line 1, column 20); it has to be a UUID such as ceccf520-691e-4b46-9546-34af789907c5`},
		{"item of a list", `{"name":"x","list":[1,"2"]}`, `do_it: the parameter "list[1]" is "2" (line 1, column 23); it has to be a number`},
		{"not a list", `{"name":"x","list":1}`, `do_it: the parameter "list" is 1 (line 1, column 20); it has to be a list`},
		{"unknown word", `{"name":"x","words":"three"}`, `do_it: the parameter "words[0]" is "three" (line 1, column 21); it has to be one of: one, two`},
		{"not an object", `{"name":"x","inner":"y"}`, `do_it: the parameter "inner" is "y" (line 1, column 21); it has to be an object`},
		{"missing inside", `{"name":"x","inner":{"port":"1"}}`, `do_it: the parameter "inner.word" is missing (line 1, column 21); required are: inner.word`},
		{"unknown inside", `{"name":"x","inner":{"word":"Red","prot":"1"}}`, `do_it: unknown parameter "inner.prot" (line 1, column 42); did you mean "port"?`},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := decode(t, c.text, false)
			var e *Error
			if !errors.As(err, &e) || e.Code != CodeInvalidParams || e.Message != c.want {
				t.Errorf("got  %v\nwant %s", err, c.want)
			}
		})
	}
}

func TestDecodeLenientLetsUnknownMembersPassAndNothingElse(t *testing.T) {
	s, err := decode(t, `{"name":"x","nonsense":1,"inner":{"word":"Red","more":2}}`, true)
	if err != nil || s.Name != "x" || s.Inner.Word != "Red" {
		t.Fatal(s, err)
	}
	if _, err := decode(t, `{"nonsense":1}`, true); err == nil {
		t.Fatal("the missing name passed")
	}
}

func TestDecodeTakesNoParametersInEveryForm(t *testing.T) {
	for _, v := range []*Value{nil, {Kind: Null}, {Kind: Array}, {Kind: Object}} {
		if err := Decode("do_it", v, false, &None{}); err != nil {
			t.Errorf("%v: %v", v, err)
		}
	}
	v, _, _ := ParseJSON([]byte(`{"a":1}`))
	if err := Decode("do_it", &v, false, &None{}); err == nil || !strings.Contains(err.Error(), "this method takes none") {
		t.Error(err)
	}
}
