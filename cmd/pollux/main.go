// Command pollux is the block storage engine, and the tools to drive it.
package main

import (
	"os"

	"github.com/alecthomas/kong"

	"github.com/pollux-storage/pollux/ctl/api"
	"github.com/pollux-storage/pollux/internal/version"
)

// cli is the command line: one field a command, each in a file of its own.
type cli struct {
	Serve      serveCmd      `cmd:"" help:"Start the engine and serve until SIGTERM or SIGINT."`
	RPC        rpcCmd        `cmd:"" name:"rpc" help:"Call one method of a running engine and print its result as JSON."`
	Bdev       bdevCmd       `cmd:"" help:"List, make and delete block devices."`
	Pool       poolCmd       `cmd:"" help:"Make, find and delete pools, on which volumes live."`
	Volume     volumeCmd     `cmd:"" help:"List, make, change and delete volumes."`
	Snapshot   snapshotCmd   `cmd:"" help:"List, take, clone, restore, compare and delete snapshots of volumes."`
	NVMF       nvmfCmd       `cmd:"" name:"nvmf" help:"Show block devices to hosts over NVMe/TCP."`
	ISCSI      iscsiCmd      `cmd:"" name:"iscsi" help:"Show block devices to hosts over iSCSI."`
	Iostat     iostatCmd     `cmd:"" help:"Watch what block devices do."`
	Top        topCmd        `cmd:"" help:"Watch reactors, block devices and hosts on one screen."`
	Trace      traceCmd      `cmd:"" help:"Find where the time of hosts' commands goes, stage by stage."`
	Bench      benchCmd      `cmd:"" help:"Measure a device: IOPS, latency, processor time; verify what it keeps; compare reports."`
	Config     configCmd     `cmd:"" help:"Save, load and check configurations."`
	Job        jobCmd        `cmd:"" help:"Watch, wait for and cancel long work."`
	Drain      drainCmd      `cmd:"" help:"Take no more hosts and let those there are go, before an upgrade."`
	Completion completionCmd `cmd:"" help:"Print a script that completes commands in your shell."`
	Version    versionCmd    `cmd:"" help:"Print the version."`
}

type versionCmd struct{}

// Run prints the version.
func (versionCmd) Run() error {
	_, err := os.Stdout.WriteString("pollux " + version.Pollux + " " + version.Commit() + "\n")
	return err
}

// options describe the command line to kong.
var options = []kong.Option{
	kong.Name("pollux"), kong.UsageOnError(), kong.ConfigureHelp(kong.HelpOptions{Compact: true}),
	kong.Vars{"socket": api.DefaultSocket},
	kong.Description("A block storage engine in user space: files, block devices and memory as volumes over NVMe/TCP and iSCSI."),
}

func main() {
	var c cli
	k := kong.Parse(&c, options...)
	k.FatalIfErrorf(k.Run())
}
