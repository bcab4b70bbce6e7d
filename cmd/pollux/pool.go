package main

import (
	"context"
	"fmt"

	"github.com/pollux-storage/pollux/ctl/api"
)

// poolCmd is about pools: devices on which volumes live.
type poolCmd struct {
	List   poolListCmd   `cmd:"" help:"List the pools that are open."`
	Create poolCreateCmd `cmd:"" help:"Make a pool on a block device. What was on it is lost."`
	Import poolImportCmd `cmd:"" help:"Open the pool on a block device, with its volumes. Those of this server are found by themselves."`
	Export poolExportCmd `cmd:"" help:"Close a pool and its volumes in order, so that its device may go elsewhere."`
	Rename poolRenameCmd `cmd:"" help:"Give a pool another name."`
	Grow   poolGrowCmd   `cmd:"" help:"Let a pool take all of its block device, which has grown."`
	Scrub  poolScrubCmd  `cmd:"" help:"Compare the blocks of all volumes of a pool with their checksums."`
	Delete poolDeleteCmd `cmd:"" help:"Delete a pool, all its volumes, and what is on them."`
}

type poolListCmd struct {
	engineFlags
	outputFlags
	Name string `arg:"" optional:"" help:"Only this one."`
}

// Run lists.
func (c *poolListCmd) Run() error {
	pools, err := ask(&c.engineFlags, api.PoolList, api.PoolListParams{Name: c.Name})
	if err != nil {
		return err
	}
	return c.print(pools, func(t *table) {
		t.columns("NAME", "DEVICE", "SIZE", "FREE", "RESERVED", "FILL", "STATE", "CLUSTER", "LOG", "VOLUMES", "UUID")
		for _, p := range pools {
			t.row(p.Name, p.Device, size(p.Bytes), size(p.FreeBytes), size(p.ReservedBytes), p.Fill, p.State, size(p.ClusterBytes), p.LogDevice, p.Volumes, p.UUID)
		}
	})
}

type poolCreateCmd struct {
	engineFlags
	Name    string    `arg:"" help:"Name of the new pool."`
	Device  string    `arg:"" help:"Block device that it takes; pollux bdev create makes one."`
	Cluster byteCount `default:"64K" placeholder:"BYTES" help:"Unit of space, a power of two from 64K to 1M (${default})."`
	Log     string    `name:"log-device" placeholder:"DEVICE" help:"Block device that the logs of its volumes are on, and nothing else. Without it they are in the pool."`
	Force   bool      `help:"Even if another pool is there, which is lost."`
}

// Run makes the pool.
func (c *poolCreateCmd) Run() error {
	return create(&c.engineFlags, func(ctx context.Context, engine api.Caller) (string, error) {
		p, err := api.PoolCreate.Call(ctx, engine, api.PoolCreateParams{Name: c.Name, Device: c.Device, ClusterBytes: uint64(c.Cluster), LogDevice: c.Log, Force: c.Force})
		return p.Name, err
	})
}

// jobFlags are of commands that begin long work.
type jobFlags struct {
	engineFlags
	NoWait bool `name:"no-wait" help:"Print the name of the job and do not wait for its end."`
}

// run begins the work, and waits for its end if that is wanted.
func (f *jobFlags) run(begin func(ctx context.Context, engine api.Caller) (api.JobStarted, error)) error {
	engine, err := f.dial()
	if err != nil {
		return err
	}
	defer engine.Close()
	started, err := begin(context.Background(), engine)
	if err != nil {
		return err
	}
	if f.NoWait {
		fmt.Println(started.Job)
		return nil
	}
	return waitForJob(engine, started.Job)
}

type poolImportCmd struct {
	jobFlags
	Device        string `arg:"" help:"Block device with the pool."`
	Log           string `name:"log-device" placeholder:"DEVICE" help:"Block device with its logs; every device is looked at without it. With --accept-log-loss: an empty one that takes its place."`
	LogLoss       bool   `name:"accept-log-loss" help:"Open it though its log device is missing. What that held and no checkpoint has is lost; pollux volume status names it."`
	DeleteDamaged bool   `name:"delete-damaged" help:"Delete volumes for good that are damaged so that others could be given no free cluster beside them."`
	TakeOver      bool   `name:"take-over" help:"Make another server's pool this one's own. Only if that server is gone for good: two that write destroy it."`
}

// Run imports.
func (c *poolImportCmd) Run() error {
	return c.run(func(ctx context.Context, engine api.Caller) (api.JobStarted, error) {
		return api.PoolImport.Call(ctx, engine, api.PoolImportParams{Device: c.Device, TakeOver: c.TakeOver, LogDevice: c.Log, AcceptLogLoss: c.LogLoss, DeleteDamaged: c.DeleteDamaged})
	})
}

type poolExportCmd struct {
	jobFlags
	Name string `arg:"" help:"Name of the pool."`
}

// Run exports.
func (c *poolExportCmd) Run() error {
	return c.run(func(ctx context.Context, engine api.Caller) (api.JobStarted, error) {
		return api.PoolExport.Call(ctx, engine, api.PoolParams{Name: c.Name})
	})
}

type poolDeleteCmd struct {
	jobFlags
	Name string `arg:"" help:"Name of the pool."`
}

// Run deletes.
func (c *poolDeleteCmd) Run() error {
	return c.run(func(ctx context.Context, engine api.Caller) (api.JobStarted, error) {
		return api.PoolDelete.Call(ctx, engine, api.PoolParams{Name: c.Name})
	})
}

type poolRenameCmd struct {
	engineFlags
	Name    string `arg:"" help:"Name of the pool."`
	NewName string `arg:"" name:"new-name" help:"Its new name."`
}

// Run renames.
func (c *poolRenameCmd) Run() error {
	_, err := ask(&c.engineFlags, api.PoolRename, api.PoolRenameParams{Name: c.Name, NewName: c.NewName})
	return err
}

type poolGrowCmd struct {
	engineFlags
	Name string `arg:"" help:"Name of the pool. Its device is made larger first; pollux bdev rescan takes over the size of a file."`
}

// Run grows the pool.
func (c *poolGrowCmd) Run() error {
	return create(&c.engineFlags, func(ctx context.Context, engine api.Caller) (string, error) {
		p, err := api.PoolGrow.Call(ctx, engine, api.PoolParams{Name: c.Name})
		return size(p.Bytes), err
	})
}
