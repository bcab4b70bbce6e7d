package bench

import (
	"context"
	"fmt"
	"path/filepath"
	"slices"
	"strconv"

	"github.com/pollux-storage/pollux/volume"
	"github.com/pollux-storage/pollux/wal"
)

// This file is what loads on a volume cost while it has snapshots, in turns with the same volume without:
//
//	volume+0    no snapshot
//	volume+1    one, made right before each run in place of the one before
//	volume+16   sixteen, the newest made right before each run in place of the oldest
//
// Each run so begins at the dearest moment: no cluster is the volume's alone, and the first write of each moves it. How much more the device
// writes for that is a row of write amplification, which begins there as well.

// snapshotCounts are how many there are.
var snapshotCounts = []int{0, 1, 16}

func snapshotTarget(count int) string { return "volume+" + strconv.Itoa(count) }

func snapshotTargets() (names []string) {
	for _, n := range snapshotCounts {
		names = append(names, snapshotTarget(n))
	}
	return names
}

// snapshotBytes is the most that such a volume has: each of its snapshots may hold all of it.
const snapshotBytes = 256 << 20

// snapshotLoads are what is measured.
func (c *SuiteConfig) snapshotLoads() (ws []Workload) {
	base := Workload{BlockBytes: 4096, Jobs: 1, Seed: 1, RuntimeSeconds: c.Seconds, RampSeconds: c.Ramp}
	for _, l := range []struct {
		rw    string
		depth int
		fsync int
	}{{"randwrite", 1, 0}, {"randwrite", 32, 0}, {"randwrite", 32, 1}, {"randread", 1, 0}, {"randread", 32, 0}} {
		w := base
		w.RW, w.Depth, w.FsyncEvery = l.rw, l.depth, l.fsync
		ws = append(ws, w)
	}
	w := base
	w.RW, w.BlockBytes, w.Depth = "write", 128<<10, 8
	return append(ws, w)
}

// snapshots measures volumes that have some.
func (s *suite) snapshots(ctx context.Context) error {
	var targets []Target
	var all []*snapshotted
	for _, n := range snapshotCounts {
		v, err := s.snapshotted(ctx, n)
		if err != nil {
			return err
		}
		defer func() { _ = v.Close() }()
		targets, all = append(targets, filled{v}), append(all, v)
	}
	options := slices.Repeat([]Options{{Reporter: s.cfg.Reporter}}, len(targets))
	for _, w := range s.cfg.snapshotLoads() {
		rows, err := Turns(ctx, targets, w, s.cfg.Runs, options)
		if err != nil {
			return err
		}
		s.report.Rows = append(s.report.Rows, rows...)
		for i := range rows[1:] {
			s.report.Ratios = append(s.report.Ratios, NewRatio(&rows[i+1], &rows[0]))
		}
		if err := s.save(); err != nil {
			return err
		}
	}
	for _, v := range all {
		for _, size := range []uint64{4 << 10, v.pool.ClusterBytes()} {
			if err := v.renew(ctx); err != nil {
				return err
			}
			row, err := s.amplify(ctx, v.Rig, size)
			if err != nil {
				return fmt.Errorf("write amplification of %s: %w", v.Name(), err)
			}
			s.report.Amplification = append(s.report.Amplification, row)
		}
	}
	return nil
}

// snapshotted is a volume that has so many snapshots when a run begins.
type snapshotted struct {
	*Rig
	count, made int
}

// snapshotted makes a volume all of whose blocks are written, and its snapshots, between which a part of it changes.
func (s *suite) snapshotted(ctx context.Context, count int) (*snapshotted, error) {
	name := snapshotTarget(count)
	path := filepath.Join(s.work, name)
	bytes := min(s.cfg.Size, snapshotBytes)
	if err := s.fillTo(ctx, path, uint64(count+3)*bytes+4*wal.DefaultBytes); err != nil {
		return nil, err
	}
	rig, err := s.local(TargetSpec{Kind: "volume", Path: path, Bytes: bytes})
	if err != nil {
		return nil, err
	}
	rig.As = name
	v := &snapshotted{Rig: rig, count: count}
	fill := Workload{RW: "write", BlockBytes: 128 << 10, Depth: 8, Jobs: 1, Seed: 1}
	if _, err = rig.Run(ctx, fill, Options{Label: "filling " + name, Reporter: s.cfg.Reporter}); err == nil {
		for v.made < count && err == nil {
			if err = v.renew(ctx); err == nil {
				change := Workload{RW: "randwrite", BlockBytes: 4096, Depth: 32, Jobs: 1, Seed: uint64(v.made), IOBytes: bytes / 256}
				_, err = rig.Run(ctx, change, Options{Label: "changing " + name, Reporter: s.cfg.Reporter})
			}
		}
	}
	if err != nil {
		_ = v.Close()
		return nil, err
	}
	return v, nil
}

// Run puts on the load right behind a new snapshot.
func (v *snapshotted) Run(ctx context.Context, w Workload, o Options) (*Run, error) {
	if err := v.renew(ctx); err != nil {
		return nil, err
	}
	return v.Rig.Run(ctx, w, o)
}

// renew makes a snapshot; if there are enough, the oldest goes, and its space has come back when this returns.
func (v *snapshotted) renew(ctx context.Context) error {
	if v.count == 0 {
		return nil
	}
	name := func(n int) string { return "s" + strconv.Itoa(n) }
	if v.made >= v.count {
		if err := v.vol.DeleteSnapshot(ctx, name(v.made-v.count)); err != nil {
			return err
		}
		if err := v.cleared(ctx); err != nil {
			return err
		}
	}
	if _, err := v.vol.CreateSnapshot(volume.SnapshotConfig{Name: name(v.made)}); err != nil {
		return err
	}
	v.made++
	return v.rest(ctx)
}

// cleared waits until nothing of deleted snapshots is left.
func (v *snapshotted) cleared(ctx context.Context) error {
	return await(ctx, func() (string, error) {
		list, err := v.vol.Snapshots()
		if err != nil || !slices.ContainsFunc(list, func(i volume.SnapshotInfo) bool { return i.Deleting }) {
			return "", err
		}
		return "the space of a deleted snapshot has come back", nil
	})
}
