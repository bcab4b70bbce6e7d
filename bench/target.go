package bench

import (
	"context"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/pollux-storage/pollux/bdev"
	"github.com/pollux-storage/pollux/reactor"
)

// Target is something that workloads can be run on.
type Target interface {
	// Name is short, and the same in every report: rows are matched by it.
	Name() string
	// Describe gives the conditions that are the device's.
	Describe() DeviceConditions
	Run(ctx context.Context, w Workload, o Options) (*Run, error)
	Close() error
}

// TargetSpec is a target as it is named on the command line:
//
//	mem:1G              a device in memory
//	null:1G             a device that forgets
//	uring:PATH          a file or block device through the engine's own bdev
//	raw:PATH            a file or block device by fio
//
// with ?block=512 or ?block=4096 behind it where the block size matters.
type TargetSpec struct {
	Kind      string
	Path      string // uring, raw
	Bytes     uint64 // mem, null
	BlockSize uint32 // 0: the kind's default
}

// ParseTarget reads a target.
func ParseTarget(s string) (TargetSpec, error) {
	bad := func(why string) (TargetSpec, error) {
		return TargetSpec{}, fmt.Errorf("target %q: %s; write mem:1G, null:1G, uring:PATH or raw:PATH, with ?block=512 behind it if need be", s, why)
	}
	kind, rest, ok := strings.Cut(s, ":")
	if !ok || rest == "" {
		return bad("it has no kind")
	}
	t := TargetSpec{Kind: kind}
	if i := strings.LastIndex(rest, "?block="); i >= 0 {
		n, err := strconv.ParseUint(rest[i+len("?block="):], 10, 32)
		if err != nil || n != 512 && n != 4096 {
			return bad("a block has 512 or 4096 bytes")
		}
		t.BlockSize, rest = uint32(n), rest[:i]
	}
	switch kind {
	case "mem", "null":
		var err error
		if t.Bytes, err = ParseBytes(rest); err != nil {
			return bad(err.Error())
		}
		if t.BlockSize == 0 {
			t.BlockSize = 4096
		}
	case "uring", "raw":
		t.Path = rest
	default:
		return bad("there is no kind " + kind)
	}
	return t, nil
}

// RigConfig says on what a device is opened.
type RigConfig struct {
	Cores       []int // one reactor each; nil is the last core
	Idle        reactor.Idle
	MemoryBytes int // of buffers, each reactor; 0 is the reactor's default
}

// Rig is reactors with one device open on them. It is a Target.
type Rig struct {
	*Session
	spec  TargetSpec
	group *reactor.Group
	reg   *bdev.Registry
}

// MemoryFor is the memory that each of n reactors needs for w.
func MemoryFor(w *Workload, n int) int {
	jobs := uint64((w.Jobs + n - 1) / n)
	size := uint64(reactor.PageBytes)
	for want := w.BufferBytes(reactor.BufferMax); size < want; {
		size *= 2
	}
	const slack = 16 << 20 // the devices' own, and slabs that are not full
	return int(jobs*uint64(w.Depth)*size) + slack
}

// OpenRig starts reactors and opens the device on them.
func OpenRig(t TargetSpec, cfg RigConfig) (*Rig, error) {
	if t.Kind == "raw" {
		return nil, fmt.Errorf("target raw:%s: fio measures it, not this program's reactors", t.Path)
	}
	g, err := reactor.Start(reactor.Config{Cores: cfg.Cores, Idle: cfg.Idle, MemoryBytes: cfg.MemoryBytes})
	if err != nil {
		return nil, err
	}
	r := &Rig{spec: t, group: g, reg: bdev.NewRegistry(g)}
	name, err := r.create()
	if err == nil {
		var h *bdev.Handle
		if h, err = r.reg.Open(name, bdev.OpenOptions{Who: "bench", Claim: true}); err == nil {
			r.Session = NewSession(h, g.Reactors()...)
			return r, nil
		}
	}
	_ = g.Stop(context.Background())
	return nil, err
}

func (r *Rig) create() (name string, err error) {
	t := &r.spec
	switch t.Kind {
	case "mem":
		name = "Malloc0"
		_, err = bdev.NewMem(r.reg, name, uuid.New(), t.BlockSize, t.Bytes/uint64(t.BlockSize))
	case "null":
		name = "Null0"
		_, err = bdev.NewNull(r.reg, name, uuid.New(), t.BlockSize, t.Bytes/uint64(t.BlockSize))
	case "uring":
		name = "Uring0"
		if _, serr := os.Stat(t.Path); os.IsNotExist(serr) {
			return "", fmt.Errorf("target uring:%s: there is no such file: make one, for example truncate -s 1G %s", t.Path, t.Path)
		}
		_, err = bdev.NewUring(r.reg, name, t.Path, bdev.UringOptions{BlockSize: t.BlockSize, UUID: uuid.New()})
	}
	return name, err
}

// Name is the kind.
func (r *Rig) Name() string { return r.spec.Kind }

// Geometry is the device's shape.
func (r *Rig) Geometry() bdev.Geometry { return r.handle.Device().Geometry() }

// SetIdle changes the idle policy of the reactors.
func (r *Rig) SetIdle(i reactor.Idle) { r.group.SetIdle(i) }

// Describe tells what the device is.
func (r *Rig) Describe() DeviceConditions {
	g := r.Geometry()
	d := DeviceConditions{
		Target: r.spec.Kind, SizeBytes: g.Bytes(), BlockSize: g.BlockSize, Idle: r.group.Reactor(0).Idle().String(), WriteCache: "none",
	}
	if g.Volatile {
		d.WriteCache = "volatile"
	}
	for _, re := range r.group.Reactors() {
		d.Cores = append(d.Cores, re.Core())
	}
	if r.spec.Path != "" {
		d.addFile(r.spec.Path)
	}
	return d
}

// Close closes the device and ends the reactors.
func (r *Rig) Close() error {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	name := r.handle.Device().Name()
	r.handle.Close()
	err := r.reg.Unregister(ctx, name)
	if serr := r.group.Stop(ctx); err == nil {
		err = serr
	}
	return err
}
