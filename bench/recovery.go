package bench

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"

	"github.com/google/uuid"

	"github.com/pollux-storage/pollux/bdev"
	"github.com/pollux-storage/pollux/reactor"
	"github.com/pollux-storage/pollux/volume"
	"github.com/pollux-storage/pollux/wal"
)

// This file is how long a pool takes to be opened after a power cut or a kill -9, against how full the log was and how much of the volume is
// mapped.
//
//	for each size    a process maps the volume: 1 MiB writes of zeros, placed, on a hollow device (hollow.go); the pool is closed in order
//	  for each fill  a process opens it, lets no checkpoint be made any more, writes until the log is so full, and says so: SIGKILL
//	                 the pool is opened here: that is the time. It is closed in order
//
// The times are fitted, by least squares, to  a + b × mapped + c × log : b is what a TB mapped costs, and what a volume of that size is expected
// to take with a full log follows from all three. It is an extrapolation by the factor that the table says; from fewer than three sizes there is
// none, since two always lie on a line.

// RecoveryRow is one opening.
type RecoveryRow struct {
	MappedBytes uint64  `json:"mapped_bytes"`
	PoolBytes   uint64  `json:"pool_bytes"`
	LogBytes    uint64  `json:"log_bytes"`
	LogUsed     uint64  `json:"log_used"` // when the process was killed
	Load        string  `json:"load"`     // that filled it
	Seconds     float64 `json:"seconds"`  // from the call that imports the pool until its volume takes requests
	DeviceReads uint64  `json:"device_reads"`
	DeviceBytes uint64  `json:"device_bytes_read"`
	CPUPercent  float64 `json:"reactor_cpu_percent"` // of its core; it polls, so less than 90 says that others took the rest
	Fitted      bool    `json:"fitted"`              // it is one of those that the fit is made of
}

// RecoveryFit is what the rows say together: seconds = Constant + PerTB × mapped TB + PerGiB × log GiB.
type RecoveryFit struct {
	Constant float64 `json:"constant_seconds"`
	PerTB    float64 `json:"seconds_per_tb_mapped"` // 10^12 bytes
	PerGiB   float64 `json:"seconds_per_gib_of_log"`
	Residual float64 `json:"residual_seconds"`              // root of the mean square
	PerTBMax float64 `json:"seconds_per_tb_mapped_at_most"` // PerTB and twice its standard error
	FullLog  float64 `json:"seconds_of_1_tb_with_the_fullest_log"`
	Factor   float64 `json:"extrapolated_by"` // from the largest that was measured
}

// MapTask makes a pool with one volume all of which is mapped.
type MapTask struct{ Bytes uint64 }

// FillTask writes to that volume until so much of its log is in use, and then waits for its end.
type FillTask struct {
	Share float64
	Block uint64
}

// filled is what it says then.
type filledLog struct{ LogBytes, LogUsed uint64 }

func (t *MapTask) run(ctx context.Context, c *ChildTask) (err error) {
	p, err := openPoolRig(c.Path, c.Core, true)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, p.Close()) }()
	if p.pool, err = volume.CreatePool(p.reg, p.device, volume.PoolConfig{Name: "bench", Server: c.Server}); err != nil {
		return err
	}
	v, err := p.pool.CreateVolume(volume.VolumeConfig{Name: "bench", Bytes: t.Bytes})
	if err != nil {
		return err
	}
	r, err := p.rig(v)
	if err != nil {
		return err
	}
	defer r.handle.Close()
	w := Workload{RW: "write", BlockBytes: 1 << 20, Depth: 8, Jobs: 1, Zeros: true, NoLatency: true}
	_, err = r.Run(ctx, w, Options{})
	return err
}

func (t *FillTask) run(ctx context.Context, c *ChildTask, out io.Writer) error {
	p, err := openPoolRig(c.Path, c.Core, false)
	if err != nil {
		return err
	}
	stages := new(wal.Stages)
	if p.pool, err = volume.ImportPool(p.reg, p.device, volume.PoolConfig{Server: c.Server, Stages: stages}); err != nil {
		return err
	}
	v := p.pool.Volumes()[0]
	r, err := p.rig(v)
	if err != nil {
		return err
	}
	if err := r.rest(ctx); err != nil {
		return err
	}
	if err := p.group.Reactor(0).Call(func() { stages.Shut(wal.StageMap) }); err != nil {
		return err
	}
	for n := uint64(1); ; n++ {
		i, err := v.Info()
		if err != nil {
			return err
		}
		if float64(i.LogUsed) >= t.Share*float64(i.LogBytes) {
			if err := json.NewEncoder(out).Encode(filledLog{i.LogBytes, i.LogUsed}); err != nil {
				return err
			}
			break
		}
		w := Workload{RW: "randwrite", BlockBytes: t.Block, Depth: 32, Jobs: 1, Seed: n, Number: 256}
		if _, err := r.Session.Run(ctx, w, Options{}); err != nil {
			return err
		}
	}
	<-ctx.Done() // SIGKILL comes first
	return context.Cause(ctx)
}

// recoveryFills are shares of the log in use: from seven tenths on it slows writes down, and no checkpoint is made here that would free any.
var recoveryFills = []float64{0.1, 0.4, 0.68}

func (s *suite) recovery(ctx context.Context) error {
	for n, mapped := range s.cfg.RecoverySizes {
		if err := s.recoverySize(ctx, mapped, n == 0); err != nil {
			return fmt.Errorf("recovery of %s: %w", FormatBytes(mapped), err)
		}
	}
	s.report.fitRecovery()
	return nil
}

func (s *suite) recoverySize(ctx context.Context, mapped uint64, placed bool) error {
	t := &ChildTask{Path: filepath.Join(s.work, "recovery"), Core: s.cfg.EngineCore, Server: uuid.New()}
	pool := mapped + mapped/16 + wal.DefaultBytes + poolHeadroom
	if err := sparse(t.Path, pool); err != nil {
		return err
	}
	defer os.Remove(t.Path)
	t.Map = &MapTask{mapped}
	cmd, _, err := s.child(ctx, t)
	if err != nil {
		return err
	}
	if err := cmd.Wait(); err != nil {
		return fmt.Errorf("mapping it: %w", err)
	}
	t.Map = nil
	for _, fill := range recoveryFills {
		if err := s.recover(ctx, t, mapped, pool, FillTask{fill, 4096}); err != nil {
			return err
		}
	}
	if placed { // records of which each names data that recovery looks at
		return s.recover(ctx, t, mapped, pool, FillTask{recoveryFills[0] / 4, 64 << 10})
	}
	return nil
}

// recover kills a process that has filled the log, and opens the pool.
func (s *suite) recover(ctx context.Context, t *ChildTask, mapped, pool uint64, f FillTask) (err error) {
	t.Fill = &f
	defer func() { t.Fill = nil }()
	cmd, lines, err := s.child(ctx, t)
	if err != nil {
		return err
	}
	var is filledLog
	err = lines.Decode(&is)
	_ = cmd.Process.Kill()
	if e := cmd.Wait(); err != nil {
		return fmt.Errorf("filling the log: %w (%w)", err, e)
	}
	p, err := openPoolRig(t.Path, t.Core, false)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, p.Close()) }()
	r := p.group.Reactor(0)
	var before, after usage
	if err := r.Call(func() { before = usageOf(r) }); err != nil {
		return err
	}
	began := reactor.Clock()
	if p.pool, err = volume.ImportPool(p.reg, p.device, volume.PoolConfig{Server: t.Server}); err != nil {
		return err
	}
	took := reactor.Clock() - began
	if err := r.Call(func() { after = usageOf(r) }); err != nil {
		return err
	}
	d, err := p.reg.Lookup(p.device)
	if err != nil {
		return err
	}
	c := d.Stats()
	s.report.Recovery = append(s.report.Recovery, RecoveryRow{
		MappedBytes: mapped, PoolBytes: pool, LogBytes: is.LogBytes, LogUsed: is.LogUsed, Load: "randwrite " + FormatBytes(f.Block), Seconds: seconds(took),
		DeviceReads: c.Kinds[bdev.Read].Ops, DeviceBytes: c.Kinds[bdev.Read].Bytes, CPUPercent: before.figures(&after, t.Core).CPUPercent, Fitted: f.Block == 4096,
	})
	return s.save()
}

// fitRecovery fits a plane to the rows of small writes.
func (r *Report) fitRecovery() {
	var m [3][4]float64 // normal equations
	var most, fullest float64
	n, sizes := 0, map[uint64]bool{}
	for i := range r.Recovery {
		row := &r.Recovery[i]
		if !row.Fitted {
			continue
		}
		x := [4]float64{1, float64(row.MappedBytes) / 1e12, float64(row.LogUsed) / (1 << 30), row.Seconds}
		for a := range 3 {
			for b := range 4 {
				m[a][b] += x[a] * x[b]
			}
		}
		most, fullest = max(most, x[1]), max(fullest, x[2])
		sizes[row.MappedBytes] = true
		n++
	}
	k, ok := solve(m)
	unit := m
	unit[0][3], unit[1][3], unit[2][3] = 0, 1, 0
	inverse, ok2 := solve(unit) // a column of the matrix inverse, for the standard error
	if n < 4 || len(sizes) < 3 || !ok || !ok2 {
		return
	}
	f := &RecoveryFit{Constant: k[0], PerTB: k[1], PerGiB: k[2], FullLog: k[0] + k[1] + k[2]*fullest, Factor: 1 / most}
	squares := 0.0
	for i := range r.Recovery {
		if row := &r.Recovery[i]; row.Fitted {
			d := row.Seconds - (k[0] + k[1]*float64(row.MappedBytes)/1e12 + k[2]*float64(row.LogUsed)/(1<<30))
			squares += d * d
		}
	}
	f.Residual = math.Sqrt(squares / float64(n))
	f.PerTBMax = f.PerTB + 2*math.Sqrt(squares/float64(n-3)*max(0, inverse[1]))
	r.RecoveryFit = f
}

// solve solves three equations by elimination; false if they do not say enough.
func solve(m [3][4]float64) (x [3]float64, ok bool) {
	for c := range 3 {
		p := c
		for i := c + 1; i < 3; i++ {
			if math.Abs(m[i][c]) > math.Abs(m[p][c]) {
				p = i
			}
		}
		if m[c], m[p] = m[p], m[c]; math.Abs(m[c][c]) < 1e-15 {
			return x, false
		}
		for i := range 3 {
			if i == c {
				continue
			}
			f := m[i][c] / m[c][c]
			for j := c; j < 4; j++ {
				m[i][j] -= f * m[c][j]
			}
		}
	}
	for i := range 3 {
		x[i] = m[i][3] / m[i][i]
	}
	return x, true
}

// goalPerTB is how long recovery may take for each TB mapped.
const goalPerTB = 5.0

func recoveryTable(rows []RecoveryRow) *table {
	t := &table{head: []string{"mapped, log filled by", "log used MiB", "of", "seconds", "device reads", "MiB read"}}
	for i := range rows {
		r := &rows[i]
		name := FormatBytes(r.MappedBytes) + ", " + r.Load
		if r.CPUPercent < 90 {
			name += " †"
		}
		t.add(name, number(mebi(r.LogUsed)), fmt.Sprintf("%.0f %%", 100*float64(r.LogUsed)/float64(r.LogBytes)), number(r.Seconds),
			number(float64(r.DeviceReads)), number(mebi(r.DeviceBytes)))
	}
	return t
}

// text says what the fit is, and the goal, which is met only where the times scatter so little that it can be said.
func (f *RecoveryFit) text() string {
	return fmt.Sprintf("Least squares over the rows of 4 KiB writes: seconds = %.3f + %.3f × TB mapped + %.2f × GiB of log, with a residual of %.3f s (root of\n"+
		"the mean square). So a TB (10^12 bytes) mapped costs %.2f s, and with twice the standard error at most **%.2f s** (goal %s); 1 TB with the\n"+
		"fullest log %.2f s. It is an extrapolation by a factor of %.0f from the largest size.\n",
		f.Constant, f.PerTB, f.PerGiB, f.Residual, f.PerTB, f.PerTBMax, verdict(f.PerTBMax < goalPerTB, fmt.Sprintf("< %g s", goalPerTB)), f.FullLog, f.Factor)
}
