package main

import (
	"context"
	"errors"
	"fmt"
	"os"

	"github.com/pollux-storage/pollux/ctl/api"
)

// volumeCmd is about volumes.
type volumeCmd struct {
	List    volumeListCmd    `cmd:"" help:"List volumes."`
	Create  volumeCreateCmd  `cmd:"" help:"Make a volume in a pool, and print its UUID. pollux nvmf shows it to hosts."`
	Status  volumeStatusCmd  `cmd:"" help:"Say what a volume is fit for, and why it is not fit for more."`
	Resize  volumeResizeCmd  `cmd:"" help:"Make a volume larger while it is in use."`
	Rename  volumeRenameCmd  `cmd:"" help:"Give a volume another name in its pool."`
	Set     volumeSetCmd     `cmd:"" help:"Change a volume's write cache or protection."`
	Scrub   volumeScrubCmd   `cmd:"" help:"Compare a volume's blocks with their checksums, or see how far that is."`
	Stats   volumeStatsCmd   `cmd:"" help:"Where a volume's changes spent their time, and how it fares."`
	Promote volumePromoteCmd `cmd:"" help:"Make a volume's copy here the primary, in a new epoch."`
	Release volumeReleaseCmd `cmd:"" help:"Take note of what may be gone of a volume, and serve it again if it was fenced."`
	Flatten volumeFlattenCmd `cmd:"" help:"Give a clone, and its snapshots, space of their own for all that they share with its parent, and end that tie."`
	Delete  volumeDeleteCmd  `cmd:"" help:"Delete a volume and what is on it."`
}

// volumeArg names a volume.
type volumeArg struct {
	Volume string `arg:"" placeholder:"POOL/VOLUME" help:"The volume, as POOL/VOLUME or by its UUID."`
}

type volumeListCmd struct {
	engineFlags
	outputFlags
	Pool string `arg:"" optional:"" help:"Only those of this pool."`
}

// Run lists.
func (c *volumeListCmd) Run() error {
	volumes, err := ask(&c.engineFlags, api.VolumeList, api.VolumeListParams{Pool: c.Pool})
	if err != nil {
		return err
	}
	return c.print(volumes, func(t *table) {
		t.columns("POOL", "NAME", "SIZE", "ALLOCATED", "RESERVED", "CACHE", "READ ONLY", "SNAPSHOTS", "PARENT", "STATE", "UUID")
		for _, v := range volumes {
			t.row(v.Pool, v.Name, size(v.Bytes), size(v.AllocatedBytes), size(v.ReservedBytes), v.WriteCache, v.ReadOnly, v.Snapshots, v.Parent, v.State, v.UUID)
		}
	})
}

type volumeCreateCmd struct {
	engineFlags
	Pool   string    `arg:"" help:"Pool that it lives in."`
	Name   string    `arg:"" help:"Name of the new volume."`
	Size   byteCount `arg:"" help:"Size, such as 10G. Space is taken as it is written, unless --thick is given."`
	Thick  bool      `help:"Reserve its space: no write finds the pool full. A snapshot of it needs a full set of space again."`
	Cache  string    `enum:"none,volatile" default:"none" help:"Write cache. none: a write is durable when it is acknowledged; volatile: when the host flushes it (${default})."`
	Loss   string    `name:"on-cache-loss" enum:"report,fence" default:"report" help:"When a volatile cache may have lost something: report it, or fence the volume until pollux volume release (${default})."`
	Use    string    `default:"general" help:"What it is for, which decides how large its log is at least: general, database or throughput (${default})."`
	Log    byteCount `placeholder:"BYTES" help:"Size of its log; the engine's choice without it."`
	Verify bool      `help:"Verify checksums on every read."`
	Block  uint32    `name:"block-size" enum:"512,4096" default:"4096" help:"Bytes of a block as hosts see it: 512 or 4096. Parts of 4096 bytes cost a read more each (${default})."`
}

// Run makes the volume.
func (c *volumeCreateCmd) Run() error {
	return create(&c.engineFlags, func(ctx context.Context, engine api.Caller) (string, error) {
		v, err := api.VolumeCreate.Call(ctx, engine, api.VolumeCreateParams{
			Pool: c.Pool, Name: c.Name, Bytes: uint64(c.Size), BlockSize: c.Block, WriteCache: c.Cache, LogBytes: uint64(c.Log), Verify: c.Verify,
			Use: c.Use, CacheLoss: c.Loss, Thick: c.Thick,
		})
		for _, w := range v.Warnings {
			fmt.Fprintln(os.Stderr, "pollux: warning:", w)
		}
		return v.UUID, err
	})
}

type volumeStatusCmd struct {
	engineFlags
	outputFlags
	volumeArg
}

// Run shows state and reasons.
func (c *volumeStatusCmd) Run() error {
	status, err := ask(&c.engineFlags, api.VolumeStatusOf, api.VolumeParams{Name: c.Volume})
	if err != nil {
		return err
	}
	return c.print(status, func(t *table) {
		t.columns("NAME", "STATE", "SCORE", "REASON")
		if len(status.Reasons) == 0 {
			t.row(status.Name, status.State, decimal(status.Score), "")
		}
		for _, why := range status.Reasons {
			t.row(status.Name, status.State, decimal(status.Score), why)
		}
	})
}

type volumeResizeCmd struct {
	engineFlags
	volumeArg
	Size byteCount `arg:"" help:"Its new size, such as 20G; not less than it has."`
}

// Run makes it larger.
func (c *volumeResizeCmd) Run() error {
	_, err := ask(&c.engineFlags, api.VolumeResize, api.VolumeResizeParams{Name: c.Volume, Bytes: uint64(c.Size)})
	return err
}

type volumeRenameCmd struct {
	engineFlags
	volumeArg
	NewName string `arg:"" name:"new-name" help:"Its new name, without that of the pool."`
}

// Run renames.
func (c *volumeRenameCmd) Run() error {
	_, err := ask(&c.engineFlags, api.BdevLvolRename, api.LvolRenameParams{OldName: c.Volume, NewName: c.NewName})
	return err
}

type volumeSetCmd struct {
	engineFlags
	volumeArg
	Cache    string `enum:"none,volatile," default:"" help:"Write cache: none or volatile. Nobody may use the volume then: hosts learn of a cache when they attach."`
	Loss     string `name:"on-cache-loss" enum:"report,fence," default:"" help:"When a volatile cache may have lost something: report or fence."`
	ReadOnly *bool  `name:"read-only" negatable:"" help:"Refuse writes; --no-read-only takes them again."`
}

// Run changes what is named.
func (c *volumeSetCmd) Run() error {
	if c.Cache == "" && c.Loss == "" && c.ReadOnly == nil {
		return errors.New("volume set: nothing is to be changed; give --cache, --on-cache-loss, --read-only or --no-read-only")
	}
	engine, err := c.dial()
	if err != nil {
		return err
	}
	defer engine.Close()
	ctx := context.Background()
	if c.Cache != "" {
		if _, err := api.VolumeSetWriteCache.Call(ctx, engine, api.VolumeSetWriteCacheParams{Name: c.Volume, WriteCache: c.Cache}); err != nil {
			return err
		}
	}
	if c.Loss != "" {
		if _, err := api.VolumeSetCacheLoss.Call(ctx, engine, api.VolumeSetCacheLossParams{Name: c.Volume, CacheLoss: c.Loss}); err != nil {
			return err
		}
	}
	if c.ReadOnly != nil {
		_, err = api.VolumeSetReadOnly.Call(ctx, engine, api.VolumeSetReadOnlyParams{Name: c.Volume, ReadOnly: c.ReadOnly})
	}
	return err
}

type volumePromoteCmd struct {
	engineFlags
	volumeArg
	Epoch uint64 `placeholder:"N" help:"Epoch, above the volume's; the next one without it."`
}

// Run promotes.
func (c *volumePromoteCmd) Run() error {
	_, err := ask(&c.engineFlags, api.VolumePromote, api.VolumePromoteParams{Name: c.Volume, Epoch: c.Epoch})
	return err
}

type volumeReleaseCmd struct {
	engineFlags
	volumeArg
}

// Run releases.
func (c *volumeReleaseCmd) Run() error {
	_, err := ask(&c.engineFlags, api.VolumeRelease, api.VolumeParams{Name: c.Volume})
	return err
}

type volumeDeleteCmd struct {
	jobFlags
	volumeArg
	Force bool `help:"Delete a damaged volume though it is not known what it has, or it has snapshots. What may be read of it another day is given up."`
}

// Run deletes.
func (c *volumeDeleteCmd) Run() error {
	return c.run(func(ctx context.Context, engine api.Caller) (api.JobStarted, error) {
		return api.VolumeDelete.Call(ctx, engine, api.VolumeDeleteParams{Name: c.Volume, Force: c.Force})
	})
}

type volumeFlattenCmd struct {
	jobFlags
	volumeArg
}

// Run flattens.
func (c *volumeFlattenCmd) Run() error {
	return c.run(func(ctx context.Context, engine api.Caller) (api.JobStarted, error) {
		return api.VolumeFlatten.Call(ctx, engine, api.VolumeParams{Name: c.Volume})
	})
}
