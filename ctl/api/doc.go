// Package api is the control interface of a Pollux engine as Go types: the name, the parameters and the result of every
// JSON-RPC method, a decoder that checks parameters against them, a JSON Schema made from them, and a client.
//
// Model: a Method is a name with a parameter struct and a result type. The struct's tags are the one place where a
// parameter's name, default, limits and meaning are written; the decoder, the schema and the command line read them.
// Where SPDK has a method for the same thing, name, parameters and result are SPDK's (its schema.yaml and RPC code),
// so that tools written for SPDK work here unchanged.
//
//	json:"name,omitempty"   the member's name; omitempty on whatever is optional
//	rpc:"required"          the member must be there
//	default:"128"           what its absence means
//	enum:"a,b"              the words it may be (any letter case in, this spelling out)
//	format:"uuid"           its form
//	min:"1" max:"64"        bounds of a number beyond those of its Go type
//	secret:"true"           masked for who is no Admin; no message repeats its value
//	doc:"..."               what it means, with its unit
//
// A parameter is a pointer where leaving it out differs from its zero value.
//
// Invariants:
//   - This is a leaf: it imports no other package of Pollux, so that a tool can take it alone.
//   - Every method of the interface stands in the catalogue (Methods), whether this engine has it yet or not.
//   - What Decode accepts, the method's schema accepts, and the other way round, but for the leniencies named in decode.go.
//
// Units stand in the parameter's name or description; sizes are bytes and times microseconds where SPDK says no other.
package api
