package bench

import (
	"context"
	"fmt"

	"github.com/pollux-storage/pollux/bdev"
	"github.com/pollux-storage/pollux/wal"
)

// This file is write amplification: bytes that the device below a volume was given to write, for each byte that a host wrote. The
// device's own counters count them, from before the first write until everything is home and a checkpoint says so; so the log, what goes
// home, the map and the commits of the pool are all in it. What a file system or a disk adds below that is not.

// AmplifyRow is the write amplification of one load.
type AmplifyRow struct {
	Target      string  `json:"target"`
	Load        string  `json:"load"`
	BlockBytes  uint64  `json:"block_bytes"`
	HostBytes   uint64  `json:"host_bytes"`
	DeviceBytes uint64  `json:"device_bytes"`
	Factor      float64 `json:"factor"`
	Logged      uint64  `json:"logged_bytes"` // of the device's: into the log, headers and all
	Homed       uint64  `json:"homed_bytes"`  // blocks that came home
	Mapped      uint64  `json:"mapped_bytes"` // pages of the map and of volumes; what is left are placed clusters, moves and the pool's commits
	Batches     uint64  `json:"batches"`      // of the log
	Checkpoints uint64  `json:"checkpoints"`  // in this time
	Flushes     uint64  `json:"flushes"`      // that the device was given
	LogBytes    uint64  `json:"log_bytes"`
	Cluster     uint64  `json:"cluster_bytes"`
}

// amplifySizes are those of the requests, amplifyDepth how many are in flight.
var amplifySizes = []uint64{4 << 10, 16 << 10, 64 << 10, 256 << 10}

const amplifyDepth = 32

// AmplifyBytes is how much a load writes where nothing else is asked for: enough that the log is lapped in the midst of it, and beginning
// and end weigh little.
const AmplifyBytes = 4 * wal.DefaultBytes

// amplification measures volumes with both write caches, all of whose clusters have a place.
func (s *suite) amplification(ctx context.Context) error {
	for _, kind := range []string{"volume", "volatile"} {
		v, err := s.volume(ctx, kind)
		if err != nil {
			return err
		}
		for _, size := range amplifySizes {
			row, err := s.amplify(ctx, v, size)
			if err != nil {
				_ = v.Close()
				return fmt.Errorf("write amplification of %s: %w", kind, err)
			}
			s.report.Amplification = append(s.report.Amplification, row)
		}
		if err := v.Close(); err != nil {
			return err
		}
	}
	return nil
}

// amplify measures one load on a volume that rests.
func (s *suite) amplify(ctx context.Context, v *Rig, size uint64) (AmplifyRow, error) {
	w := Workload{RW: "randwrite", BlockBytes: size, Depth: amplifyDepth, Jobs: 1, Seed: 1, IOBytes: s.cfg.AmplifyBytes}
	before, err := v.spent()
	if err != nil {
		return AmplifyRow{}, err
	}
	run, err := v.Run(ctx, w, Options{Label: v.Name() + " amplification " + w.Name(), Reporter: s.cfg.Reporter})
	if err != nil {
		return AmplifyRow{}, err
	}
	after, err := v.spent()
	if err != nil {
		return AmplifyRow{}, err
	}
	row := AmplifyRow{
		Target: v.Name(), Load: w.Name(), BlockBytes: size, HostBytes: run.Total.Bytes, DeviceBytes: after.written - before.written,
		Checkpoints: after.checkpoints - before.checkpoints, Flushes: after.flushes - before.flushes,
		Logged: after.logged - before.logged, Homed: after.homed - before.homed, Mapped: after.mapped - before.mapped, Batches: after.batches - before.batches,
		LogBytes: after.logBytes, Cluster: v.pool.ClusterBytes(),
	}
	row.Factor = float64(row.DeviceBytes) / float64(row.HostBytes)
	return row, nil
}

// spent is what a volume has asked of the device below it so far.
type spent struct{ written, flushes, checkpoints, logBytes, logged, homed, mapped, batches uint64 }

func (r *Rig) spent() (spent, error) {
	d, err := r.reg.Lookup(r.below)
	if err != nil {
		return spent{}, err
	}
	i, err := r.vol.Stats()
	if err != nil {
		return spent{}, err
	}
	c := d.Stats()
	return spent{
		written: c.Kinds[bdev.Write].Bytes + c.Kinds[bdev.WriteZeroes].Bytes, flushes: c.Kinds[bdev.Flush].Ops,
		checkpoints: i.Checkpoints, logBytes: i.LogBytes, logged: i.Log.Bytes, homed: i.HomeBytes, mapped: i.MapBytes, batches: i.Log.Batches,
	}, nil
}

// Goals for write amplification (docs/BENCH.md): at cluster size, and of 4 KiB with 32 in flight.
const (
	goalClusterFactor = 1.1
	goalSmallFactor   = 2.5
)

// goal says what the factor should be, "" if there is no goal.
func (a *AmplifyRow) goal() string {
	switch a.BlockBytes {
	case a.Cluster:
		return verdict(a.Factor <= goalClusterFactor, fmt.Sprintf("≤ %g", goalClusterFactor))
	case 4096:
		return verdict(a.Factor < goalSmallFactor, fmt.Sprintf("< %g", goalSmallFactor))
	}
	return ""
}

// verdict sets what was wanted beside what was found.
func verdict(met bool, goal string) string {
	if met {
		return goal + ": met"
	}
	return goal + ": **missed**"
}

func amplifyTable(rows []AmplifyRow) *table {
	t := &table{head: []string{"load", "host MiB", "device MiB", "device / host", "goal", "log", "home", "map", "checkpoints", "flushes", "batches"}}
	for i := range rows {
		r := &rows[i]
		t.add(r.Target+" "+r.Load, number(mebi(r.HostBytes)), number(mebi(r.DeviceBytes)), ratio(r.Factor), r.goal(),
			r.share(r.Logged), r.share(r.Homed), r.share(r.Mapped), number(float64(r.Checkpoints)), number(float64(r.Flushes)), number(float64(r.Batches)))
	}
	return t
}

// share is a part of what the device wrote, for each byte of the host.
func (a *AmplifyRow) share(n uint64) string { return ratio(float64(n) / float64(a.HostBytes)) }

func mebi(n uint64) float64 { return float64(n) / (1 << 20) }
