// Command pollux is the block storage engine, and the tools to drive it.
package main

import (
	"os"

	"github.com/alecthomas/kong"

	"github.com/pollux-storage/pollux/internal/version"
)

// cli is the command line: one field a command, each in a file of its own.
type cli struct {
	Serve   serveCmd   `cmd:"" help:"Start the engine and serve until SIGTERM or SIGINT."`
	RPC     rpcCmd     `cmd:"" name:"rpc" help:"Call one method of a running engine and print its result as JSON."`
	Version versionCmd `cmd:"" help:"Print the version."`
}

type versionCmd struct{}

// Run prints the version.
func (versionCmd) Run() error {
	_, err := os.Stdout.WriteString("pollux " + version.Pollux + " " + version.Commit() + "\n")
	return err
}

func main() {
	var c cli
	k := kong.Parse(&c, kong.Name("pollux"), kong.UsageOnError(), kong.ConfigureHelp(kong.HelpOptions{Compact: true}),
		kong.Description("A block storage engine in user space: files, block devices and memory as volumes over NVMe/TCP."))
	k.FatalIfErrorf(k.Run())
}
