package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"

	"github.com/pollux-storage/pollux/ctl/api"
)

type rpcCmd struct {
	engineFlags
	Method string `arg:"" help:"Method, such as bdev_get_bdevs; rpc_get_methods lists them, engine_get_schema describes them."`
	Params string `arg:"" optional:"" name:"json" help:"Parameters as JSON, such as '{\"name\": \"disk0\"}'; - reads them from the standard input."`
}

// Run calls the method.
func (c *rpcCmd) Run() error {
	text := []byte(c.Params)
	if c.Params == "-" {
		var err error
		if text, err = io.ReadAll(os.Stdin); err != nil {
			return fmt.Errorf("read the parameters of %s: %w", c.Method, err)
		}
	}
	var params any
	if len(text) > 0 {
		if _, _, err := api.ParseJSON(text); err != nil {
			return fmt.Errorf("call %s: the parameters are not JSON: %w", c.Method, err)
		}
		params = json.RawMessage(text)
	}
	engine, err := c.dial()
	if err != nil {
		return err
	}
	defer engine.Close()
	var result json.RawMessage
	if err := engine.Call(context.Background(), c.Method, params, &result); err != nil {
		return err
	}
	return printJSON(os.Stdout, result)
}
