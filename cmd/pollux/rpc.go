package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"

	"github.com/pollux-storage/pollux/ctl/api"
)

type rpcCmd struct {
	Socket string `short:"s" default:"/var/run/pollux.sock" env:"POLLUX_SOCKET" placeholder:"PATH" help:"Control socket of the engine (${default})."`
	Method string `arg:"" help:"Method, such as bdev_get_bdevs; rpc_get_methods lists them."`
	Params string `arg:"" optional:"" help:"Parameters as JSON, - for the standard input."`
}

// Run calls the method.
func (c *rpcCmd) Run() error {
	var params json.RawMessage
	switch {
	case c.Params == "-":
		b, err := io.ReadAll(os.Stdin)
		if err != nil {
			return fmt.Errorf("reading the parameters of %s: %w", c.Method, err)
		}
		params = b
	case c.Params != "":
		params = json.RawMessage(c.Params)
	}
	if params != nil && !json.Valid(params) {
		return fmt.Errorf("calling %s: the parameters are not JSON: %s", c.Method, params)
	}
	client, err := api.Dial(c.Socket)
	if err != nil {
		return err
	}
	defer client.Close()
	var result json.RawMessage
	var p any
	if params != nil {
		p = params
	}
	if err := client.Call(context.Background(), c.Method, p, &result); err != nil {
		return err
	}
	var out bytes.Buffer
	if err := json.Indent(&out, result, "", "  "); err != nil {
		return fmt.Errorf("the engine answered %s with something that is not JSON: %w", c.Method, err)
	}
	_, err = fmt.Fprintln(os.Stdout, out.String())
	return err
}
