package bench

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime/debug"
	"strconv"
	"strings"

	"github.com/google/uuid"

	"github.com/pollux-storage/pollux/volume"
)

// This file is what pools and volumes take of memory: by what they have made, and by what a process of its own weighs, step by step. A
// step's weight is resident memory that is not of files, after the collector has given back what it can.

// MemoryRow is one step of one process.
type MemoryRow struct {
	Step      string `json:"step"`
	PoolBytes uint64 `json:"pool_bytes"`
	Volumes   int    `json:"volumes"`
	Resident  uint64 `json:"resident_bytes"` // anonymous, of the process

	// What has been made. Only what is touched of it is resident.
	Volume volume.VolumeMemory `json:"volume_bytes"` // of one of them; they are all alike
	Pool   uint64              `json:"pool_memory_bytes"`
	Cache  volume.MapCacheInfo `json:"map_cache"` // of the reactor
	IO     uint64              `json:"io_buffers_in_use_bytes"`
}

// WeighTask makes a pool of the size of the file, volumes in it, and writes to them.
type WeighTask struct {
	Volumes     []int // so many, one after the other
	VolumeBytes uint64
	Writes      uint64 // of 4 KiB at random places, to each volume in the end
}

// anonymous is the resident memory of this process that is of no file: proc_pid_smaps_rollup(5).
func anonymous() (uint64, error) {
	b, err := os.ReadFile("/proc/self/smaps_rollup")
	if err != nil {
		return 0, fmt.Errorf("weighing this process: %w", err)
	}
	for _, line := range strings.Split(string(b), "\n") {
		if f := strings.Fields(line); len(f) == 3 && f[0] == "Anonymous:" {
			n, err := strconv.ParseUint(f[1], 10, 64)
			return n << 10, err
		}
	}
	return 0, errors.New("weighing this process: /proc/self/smaps_rollup has no line Anonymous")
}

func (t *WeighTask) run(ctx context.Context, c *ChildTask, out io.Writer) (err error) {
	p, err := openPoolRig(c.Path, c.Core, true)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, p.Close()) }()
	var vols []*volume.Volume
	tell := func(step string) error {
		row := MemoryRow{Step: step, Volumes: len(vols)}
		d, err := p.reg.Lookup(p.device)
		if err != nil {
			return err
		}
		g := d.Geometry()
		row.PoolBytes = g.Bytes()
		if p.pool != nil {
			if row.Pool, err = p.pool.MemoryBytes(); err != nil {
				return err
			}
			all, err := p.pool.MapCache().Info(p.group)
			if err != nil {
				return err
			}
			if len(all) > 0 {
				row.Cache = all[0]
			}
		}
		if len(vols) > 0 {
			if row.Volume, err = vols[0].Memory(); err != nil {
				return err
			}
		}
		r := p.group.Reactor(0)
		if err := r.Call(func() { row.IO = uint64(r.Memory().Stats().InUse) }); err != nil {
			return err
		}
		debug.FreeOSMemory()
		if row.Resident, err = anonymous(); err != nil {
			return err
		}
		return json.NewEncoder(out).Encode(&row)
	}
	if err := tell("a reactor, no pool"); err != nil {
		return err
	}
	if p.pool, err = volume.CreatePool(p.reg, p.device, volume.PoolConfig{Name: "bench", Server: c.Server}); err != nil {
		return err
	}
	if err := tell("a pool"); err != nil {
		return err
	}
	for _, n := range t.Volumes {
		for len(vols) < n {
			v, err := p.pool.CreateVolume(volume.VolumeConfig{Name: fmt.Sprintf("bench%d", len(vols)), Bytes: t.VolumeBytes})
			if err != nil {
				return err
			}
			vols = append(vols, v)
		}
		if err := tell("volumes"); err != nil {
			return err
		}
	}
	if t.Writes == 0 {
		return nil
	}
	for i, v := range vols {
		r, err := p.rig(v)
		if err != nil {
			return err
		}
		w := Workload{RW: "randwrite", BlockBytes: 4096, Depth: 32, Jobs: 1, Seed: uint64(i), Number: t.Writes, Zeros: true}
		_, err = r.Run(ctx, w, Options{})
		r.handle.Close()
		if err != nil {
			return err
		}
	}
	return tell("volumes that were written to")
}

// MemoryPools are the sizes of pools that are weighed without a volume, the first of them with volumes too.
var MemoryPools = []uint64{64 << 30, 256 << 30, 1 << 40}

// MemoryVolumes is how many volumes are weighed.
var MemoryVolumes = []int{1, 16}

// MemoryWrites is how many blocks are written to each, zeros, which the hollow device leaves out: enough that every leaf of a map of 1 GiB
// has been in memory.
const MemoryWrites = 2000

func (s *suite) footprint(ctx context.Context) error {
	for i, bytes := range s.cfg.MemoryPools {
		w := &WeighTask{VolumeBytes: s.cfg.Size}
		if i == 0 {
			w.Volumes, w.Writes = s.cfg.MemoryVolumes, s.cfg.MemoryWrites
		}
		t := &ChildTask{Path: filepath.Join(s.work, "memory"), Core: s.cfg.EngineCore, Server: uuid.New(), Weigh: w}
		if err := s.weigh(ctx, t, bytes); err != nil {
			return fmt.Errorf("memory of a pool of %s: %w", FormatBytes(bytes), err)
		}
	}
	return nil
}

func (s *suite) weigh(ctx context.Context, t *ChildTask, bytes uint64) error {
	if err := sparse(t.Path, bytes); err != nil {
		return err
	}
	defer os.Remove(t.Path)
	cmd, lines, err := s.child(ctx, t)
	if err != nil {
		return err
	}
	for {
		var row MemoryRow
		if err = lines.Decode(&row); err != nil {
			break
		}
		s.report.Memory = append(s.report.Memory, row)
	}
	if e := cmd.Wait(); e != nil || !errors.Is(err, io.EOF) {
		return errors.Join(e, err)
	}
	return ctx.Err()
}

// memoryTable shows each step with what it added to the one before it.
func memoryTable(rows []MemoryRow) *table {
	t := &table{head: []string{"pool, step", "resident MiB", "more than before", "pool", "volumes", "map cache in use", "its limit", "I/O buffers in use"}}
	for i := range rows {
		r := &rows[i]
		more := ""
		if i > 0 && rows[i-1].PoolBytes == r.PoolBytes {
			more = number(mebi(r.Resident) - mebi(rows[i-1].Resident))
			if r.Volumes > rows[i-1].Volumes {
				n := r.Volumes - rows[i-1].Volumes
				more += fmt.Sprintf(" (%s each)", number((mebi(r.Resident)-mebi(rows[i-1].Resident))/float64(n)))
			}
		}
		name := FormatBytes(r.PoolBytes) + ", " + r.Step
		if r.Volumes > 0 {
			name = fmt.Sprintf("%s, %d %s", FormatBytes(r.PoolBytes), r.Volumes, r.Step)
		}
		t.add(name, number(mebi(r.Resident)), more, number(mebi(r.Pool)), number(mebi(uint64(r.Volumes)*r.Volume.Total())),
			number(mebi(r.Cache.BytesUsed)), number(mebi(r.Cache.Bytes)), number(mebi(r.IO)))
	}
	return t
}

// volumeMemoryTable is what one volume has made.
func volumeMemoryTable(m *volume.VolumeMemory) *table {
	t := &table{head: []string{"of each volume", "MiB", "follows from"}}
	for _, x := range []struct {
		what  string
		bytes uint64
		from  string
	}{
		{"dirty map", m.DirtyMap, "the size of its log"},
		{"segments", m.Segments, "nothing"},
		{"requests and transfers", m.Ops, "nothing"},
		{"flusher", m.Flusher, "nothing"},
		{"window of the log's reader", m.Window, "nothing"},
		{"all", m.Total(), ""},
	} {
		t.add(x.what, number(mebi(x.bytes)), x.from)
	}
	return t
}

// perTB is what a TB (10^12 bytes) more of a pool weighs, from the smallest and the largest pool without volumes.
func perTB(rows []MemoryRow) (measured, made float64, ok bool) {
	var pools []*MemoryRow
	for i := range rows {
		if rows[i].Pool > 0 && rows[i].Volumes == 0 {
			pools = append(pools, &rows[i])
		}
	}
	if len(pools) < 2 {
		return 0, 0, false
	}
	a, b := pools[0], pools[len(pools)-1]
	tb := (float64(b.PoolBytes) - float64(a.PoolBytes)) / 1e12
	return (mebi(b.Resident) - mebi(a.Resident)) / tb, (mebi(b.Pool) - mebi(a.Pool)) / tb, true
}
