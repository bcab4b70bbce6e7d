package ctl

import (
	"bytes"
	"encoding/json"
	"fmt"

	"github.com/pollux-storage/pollux/ctl/api"
)

// This file knows JSON-RPC 2.0 (https://www.jsonrpc.org/specification, sections 4 and 5) as SPDK speaks it
// (lib/jsonrpc/jsonrpc_server.c, parse_single_request and end_response):
//
//	request   {"jsonrpc": "2.0", "method": name, "params": {...} or [] or null, "id": "text" or number}
//	answer    {"jsonrpc": "2.0", "id": ..., "result": ...}
//	          {"jsonrpc": "2.0", "id": ..., "error": {"code": ..., "message": ..., "data": {"reason": ...}}}
//
// "jsonrpc" may be missing. A request without an id, or with the id null, is a notification: it is carried out, its success
// is silent, and its failure is answered with the id null. The standard would answer the id null, and would be silent
// on a notification's failure; SPDK's tools know it this way.

// request is one call. id is JSON text, nil in a notification.
type request struct {
	method string
	params *api.Value
	id     []byte
}

// parseRequest reads a request. Where it is none, the id in r is that of the answer, if it could be read.
func parseRequest(v *api.Value) (r request, bad *api.Error) {
	refuse := func(format string, args ...any) (request, *api.Error) {
		return r, &api.Error{Code: api.CodeInvalidRequest, Message: "this is not a request: " + fmt.Sprintf(format, args...)}
	}
	if v.Kind != api.Object {
		return refuse("it is %s, not an object", v.Kind)
	}
	if id, ok := v.Get("id"); ok && id.Kind != api.Null {
		if id.Kind != api.String && id.Kind != api.Number {
			return refuse("its id is %s; it has to be a string, a number or null", id.Kind)
		}
		if len(id.Text) > idBytesMax {
			return refuse("its id is longer than the %d bytes allowed", idBytesMax)
		}
		r.id = api.AppendASCII(nil, id.AppendJSON(nil))
	}
	if version, ok := v.Get("jsonrpc"); ok && (version.Kind != api.String || version.Text != "2.0") {
		return refuse(`the member "jsonrpc" is not "2.0"`)
	}
	method, ok := v.Get("method")
	if !ok || method.Kind != api.String {
		return refuse(`it has no member "method" that is a string`)
	}
	if params, ok := v.Get("params"); ok && params.Kind != api.Null {
		if params.Kind != api.Object && params.Kind != api.Array {
			return refuse(`the member "params" is %s; it has to be an object`, params.Kind)
		}
		params.Forget() // a place in a request is of no use to who reads the error
		r.params = params
	}
	for i := range v.Members {
		switch name := v.Members[i].Name; name {
		case "id", "jsonrpc", "method", "params":
		default:
			return refuse("it has a member %q, which no request has", name)
		}
	}
	r.method = method.Text
	return r, nil
}

func appendHead(b, id []byte) []byte {
	if id == nil {
		id = []byte("null")
	}
	return fmt.Appendf(b, `{"jsonrpc":"2.0","id":%s,`, id)
}

func appendResult(b []byte, r request, result any) []byte {
	text, err := encode(result)
	if err != nil {
		return appendError(b, r.id, &api.Error{Code: api.CodeInternal, Message: fmt.Sprintf("%s: the result cannot be written as JSON: %v", r.method, err)})
	}
	answer := append(api.AppendASCII(append(appendHead(b, r.id), `"result":`...), text), '}')
	if len(answer) > answerBytesMax {
		return appendError(b, r.id, tooLong("the answer to "+r.method, len(answer)))
	}
	return answer
}

func appendError(b, id []byte, e *api.Error) []byte {
	text, err := encode(e)
	if err != nil { // an Error is made of strings and numbers
		panic("ctl: " + err.Error())
	}
	b = append(appendHead(b, id), `"error":`...)
	return append(api.AppendASCII(b, text), '}')
}

func tooLong(what string, n int) *api.Error {
	return &api.Error{Code: api.CodeInternal, Message: fmt.Sprintf("%s would have %d bytes, %d are allowed; ask for less at a time", what, n, answerBytesMax)}
}

// encode writes v as one line of JSON without a newline. Characters that matter to HTML alone stay readable.
func encode(v any) ([]byte, error) {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(v); err != nil {
		return nil, err
	}
	return bytes.TrimRight(b.Bytes(), "\n"), nil
}
