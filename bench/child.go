package bench

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"time"

	"github.com/google/uuid"

	"github.com/pollux-storage/pollux/bdev"
	"github.com/pollux-storage/pollux/reactor"
	"github.com/pollux-storage/pollux/volume"
)

// This file is what the suite lets processes of their own do: what ends by SIGKILL, and what is weighed.

// ChildTask says what such a process does: one of its parts.
type ChildTask struct {
	Path   string // the pool's file
	Core   int
	Server uuid.UUID

	Map     *MapTask     `json:",omitempty"`
	Fill    *FillTask    `json:",omitempty"`
	Weigh   *WeighTask   `json:",omitempty"`
	Attach  *AttachTask  `json:",omitempty"`
	Control *ControlTask `json:",omitempty"`
}

// RunChild carries a task out. What it has to say it writes as lines of JSON. look is how control traffic looks at an engine.
func RunChild(ctx context.Context, task string, look Looker, out io.Writer) error {
	var t ChildTask
	if err := json.Unmarshal([]byte(task), &t); err != nil {
		return fmt.Errorf("reading what to do: %w", err)
	}
	switch {
	case t.Map != nil:
		return t.Map.run(ctx, &t)
	case t.Fill != nil:
		return t.Fill.run(ctx, &t, out)
	case t.Weigh != nil:
		return t.Weigh.run(ctx, &t, out)
	case t.Attach != nil:
		return t.Attach.run(ctx, t.Core, out)
	case t.Control != nil:
		return t.Control.run(ctx, look, out)
	}
	return errors.New("there is nothing to do")
}

// child starts a process for a task; its lines are read from the decoder.
func (s *suite) child(ctx context.Context, t *ChildTask) (*exec.Cmd, *json.Decoder, error) {
	b, err := json.Marshal(t)
	if err != nil {
		return nil, nil, err
	}
	cmd := exec.CommandContext(ctx, s.cfg.Exe, "bench", "child", string(b))
	cmd.Stderr = s.cfg.Log
	out, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		return nil, nil, fmt.Errorf("starting %s: %w", s.cfg.Exe, err)
	}
	return cmd, json.NewDecoder(out), nil
}

// poolRig is a reactor with a file on it that is a pool's.
type poolRig struct {
	group  *reactor.Group
	reg    *bdev.Registry
	device string // on which the pool stands
	layers []string
	pool   *volume.Pool
}

// openPoolRig starts a reactor and opens the file; hollow puts a hollow device on it.
func openPoolRig(path string, core int, hollow bool) (*poolRig, error) {
	g, err := reactor.Start(reactor.Config{Cores: []int{core}, Idle: reactor.Poll, MemoryBytes: 512 << 20})
	if err != nil {
		return nil, err
	}
	p := &poolRig{group: g, reg: bdev.NewRegistry(g), device: "Uring0", layers: []string{"Uring0"}}
	_, err = bdev.NewUring(p.reg, "Uring0", path, bdev.UringOptions{UUID: uuid.New()})
	if err == nil && hollow {
		p.device, p.layers = "Hollow0", []string{"Hollow0", "Uring0"}
		_, err = newHollow(p.reg, "Hollow0", "Uring0")
	}
	if err != nil {
		return nil, errors.Join(err, g.Stop(context.Background()))
	}
	return p, nil
}

// Close closes the pool in order, and ends the reactor.
func (p *poolRig) Close() error {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	var err error
	if p.pool != nil {
		err = p.pool.Export(ctx)
	}
	for _, name := range p.layers {
		err = errors.Join(err, p.reg.Unregister(ctx, name))
	}
	return errors.Join(err, p.group.Stop(ctx))
}

// rig is one of the pool's volumes as a target. Its Close is not called: what it stands on is the poolRig's.
func (p *poolRig) rig(v *volume.Volume) (*Rig, error) {
	h, err := p.reg.Open(v.Device().Name(), bdev.OpenOptions{Who: "bench"})
	if err != nil {
		return nil, err
	}
	r := &Rig{spec: TargetSpec{Kind: "volume"}, idle: reactor.Poll, group: p.group, reg: p.reg, pool: p.pool, vol: v, below: p.device}
	r.Session = NewSession(h, p.group.Reactors()...)
	return r, nil
}

// sparse makes a file of holes.
func sparse(path string, bytes uint64) error {
	f, err := os.Create(path)
	if err != nil {
		return fmt.Errorf("making a file for a pool: %w", err)
	}
	return errors.Join(f.Truncate(int64(bytes)), f.Close())
}
