package main

import (
	"context"
	"fmt"
	"os"

	"github.com/pollux-storage/pollux/ctl"
	"github.com/pollux-storage/pollux/ctl/api"
)

// configCmd keeps configurations. They are the same files that SPDK's rpc.py save_config and load_config know.
type configCmd struct {
	Save  configSaveCmd  `cmd:"" help:"Print the engine's configuration as JSON. Keep it, and give it to serve --config."`
	Load  configLoadCmd  `cmd:"" help:"Make the calls of a configuration. Where one of them cannot be made at all, none is."`
	Check configCheckCmd `cmd:"" help:"Say what is wrong with a configuration, without an engine."`
}

type configSaveCmd struct {
	engineFlags
	Subsystem []string `arg:"" optional:"" help:"Only these parts of the engine and what they depend on, such as bdev; all without it."`
}

// Run saves.
func (c *configSaveCmd) Run() error {
	engine, err := c.dial()
	if err != nil {
		return err
	}
	defer engine.Close()
	saved, err := api.SaveConfig(context.Background(), engine, c.Subsystem...)
	if err != nil {
		return err
	}
	return printJSON(os.Stdout, saved)
}

type configLoadCmd struct {
	engineFlags
	File string `arg:"" placeholder:"FILE" help:"YAML or JSON."`
}

// Run loads.
func (c *configLoadCmd) Run() error {
	config, err := ctl.ReadConfigFile(c.File)
	if err != nil {
		return err
	}
	engine, err := c.dial()
	if err != nil {
		return err
	}
	defer engine.Close()
	skipped, err := config.Load(context.Background(), engine)
	if err != nil {
		return err
	}
	for _, method := range skipped {
		fmt.Fprintf(os.Stderr, "pollux: left out %s: it can only be called before the engine is up; start it with --config %s instead\n", method, c.File)
	}
	return nil
}

type configCheckCmd struct {
	File string `arg:"" placeholder:"FILE" help:"YAML or JSON."`
}

// Run checks.
func (c *configCheckCmd) Run() error {
	config, err := ctl.ReadConfigFile(c.File)
	if err != nil {
		return err
	}
	var known []string
	for _, spec := range api.Methods() {
		known = append(known, spec.Name)
	}
	return config.Check(known)
}
