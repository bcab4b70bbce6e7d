package main

import (
	"context"
	"strings"

	"github.com/pollux-storage/pollux/ctl/api"
)

// snapshotCmd is about snapshots, and volumes that begin as one.
type snapshotCmd struct {
	List    snapshotListCmd    `cmd:"" help:"List snapshots, the oldest of each volume first."`
	Create  snapshotCreateCmd  `cmd:"" help:"Take a snapshot of a volume, and print its UUID. It is a block device that can be read and shown to hosts."`
	Clone   snapshotCloneCmd   `cmd:"" help:"Make a volume that begins as a snapshot, and print its UUID."`
	Restore snapshotRestoreCmd `cmd:"" help:"Make the content of a volume what a snapshot of it is. What was written since is lost."`
	Diff    snapshotDiffCmd    `cmd:"" help:"List what has changed in a volume or snapshot since a snapshot or an LSN."`
	Delete  snapshotDeleteCmd  `cmd:"" help:"Delete a snapshot that nobody uses and that has no clones."`
}

// snapshotArg names a snapshot.
type snapshotArg struct {
	Snapshot string `arg:"" placeholder:"POOL/VOLUME@SNAPSHOT" help:"The snapshot, as POOL/VOLUME@SNAPSHOT or by its UUID."`
}

type snapshotListCmd struct {
	engineFlags
	outputFlags
	Of string `arg:"" optional:"" placeholder:"POOL|POOL/VOLUME" help:"Only those of this pool or volume."`
}

// Run lists.
func (c *snapshotListCmd) Run() error {
	engine, err := c.dial()
	if err != nil {
		return err
	}
	defer engine.Close()
	ctx, p := context.Background(), api.SnapshotListParams{Volume: c.Of}
	if c.Of != "" {
		pools, err := api.PoolList.Call(ctx, engine, api.PoolListParams{})
		if err != nil {
			return err
		}
		for _, pool := range pools {
			if pool.Name == c.Of || pool.UUID == c.Of {
				p = api.SnapshotListParams{Pool: pool.UUID}
			}
		}
	}
	list, err := api.SnapshotList.Call(ctx, engine, p)
	if err != nil {
		return err
	}
	return c.print(list, func(t *table) {
		t.columns("SNAPSHOT", "NUMBER", "SIZE", "ALLOCATED", "CREATED", "CLONES", "STATE", "UUID")
		for _, s := range list {
			state := "ok"
			if s.Deleting {
				state = "deleting"
			}
			t.row(s.Pool+"/"+s.Volume+"@"+s.Name, s.Number, size(s.Bytes), size(s.AllocatedBytes), s.Created, strings.Join(s.Clones, " "), state, s.UUID)
		}
	})
}

type snapshotCreateCmd struct {
	engineFlags
	volumeArg
	Name string `arg:"" help:"Name of the new snapshot, in its volume."`
}

// Run takes the snapshot.
func (c *snapshotCreateCmd) Run() error {
	return create(&c.engineFlags, func(ctx context.Context, engine api.Caller) (string, error) {
		s, err := api.SnapshotCreate.Call(ctx, engine, api.SnapshotCreateParams{Volume: c.Volume, Name: c.Name})
		return s.UUID, err
	})
}

type snapshotCloneCmd struct {
	engineFlags
	snapshotArg
	Name   string    `arg:"" help:"Name of the new volume, in the same pool."`
	Cache  string    `enum:"none,volatile," default:"" help:"Write cache: none or volatile; as the snapshot's volume without it."`
	Use    string    `help:"What it is for: general, database or throughput; as the snapshot's volume without it."`
	Log    byteCount `placeholder:"BYTES" help:"Size of its log; the engine's choice without it."`
	Verify *bool     `negatable:"" help:"Verify checksums on every read; as the snapshot's volume without it."`
}

// Run makes the volume.
func (c *snapshotCloneCmd) Run() error {
	return create(&c.engineFlags, func(ctx context.Context, engine api.Caller) (string, error) {
		v, err := api.SnapshotClone.Call(ctx, engine, api.SnapshotCloneParams{
			Name: c.Snapshot, Clone: c.Name, WriteCache: c.Cache, Use: c.Use, LogBytes: uint64(c.Log), Verify: c.Verify,
		})
		return v.UUID, err
	})
}

type snapshotDeleteCmd struct {
	engineFlags
	snapshotArg
}

// Run deletes.
func (c *snapshotDeleteCmd) Run() error {
	_, err := ask(&c.engineFlags, api.SnapshotDelete, api.SnapshotParams{Name: c.Snapshot})
	return err
}

type snapshotRestoreCmd struct {
	jobFlags
	snapshotArg
	DropNewer bool `name:"drop-newer" help:"Delete the volume's newer snapshots, which stand in the way."`
	Force     bool `help:"Though hosts use the volume, whose content changes under them."`
}

// Run restores.
func (c *snapshotRestoreCmd) Run() error {
	return c.run(func(ctx context.Context, engine api.Caller) (api.JobStarted, error) {
		return api.SnapshotRestore.Call(ctx, engine, api.SnapshotRestoreParams{Name: c.Snapshot, DropNewer: c.DropNewer, Force: c.Force})
	})
}

type snapshotDiffCmd struct {
	engineFlags
	outputFlags
	volumeArg
	Since    string `placeholder:"SNAPSHOT" help:"Since this snapshot of the volume; without it and --since-lsn all that was ever written."`
	SinceLSN uint64 `name:"since-lsn" placeholder:"LSN" help:"Since this LSN, instead."`
	In       string `placeholder:"SNAPSHOT" help:"In this snapshot of the volume; without it in the volume as it is now."`
}

// Run lists, with as many calls as it takes.
func (c *snapshotDiffCmd) Run() error {
	engine, err := c.dial()
	if err != nil {
		return err
	}
	defer engine.Close()
	p := api.SnapshotDiffParams{Volume: c.Volume, Snapshot: c.In, SinceSnapshot: c.Since, SinceLSN: c.SinceLSN, MaxRanges: 10000}
	all, err := api.SnapshotDiffOf.Call(context.Background(), engine, p)
	for err == nil && all.NextOffset != 0 {
		var more api.SnapshotDiff
		p.Offset, all.NextOffset = all.NextOffset, 0
		more, err = api.SnapshotDiffOf.Call(context.Background(), engine, p)
		all.Ranges, all.NextOffset = append(all.Ranges, more.Ranges...), more.NextOffset
	}
	if err != nil {
		return err
	}
	return c.print(all, func(t *table) {
		t.columns("OFFSET", "BYTES")
		for _, r := range all.Ranges {
			t.row(r.Offset, r.Bytes)
		}
	})
}
