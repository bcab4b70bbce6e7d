package bench

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/pollux-storage/pollux/bdev"
	"github.com/pollux-storage/pollux/nvmf/initiator"
	"github.com/pollux-storage/pollux/reactor"
	"github.com/pollux-storage/pollux/volume"
	"github.com/pollux-storage/pollux/wal"
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
//	volume:PATH         a volume of a new pool on a file or block device, all of which it takes; without a write cache
//	volatile:PATH       such a volume with a volatile write cache
//	raw:PATH            a file or block device by fio
//	tcp://HOST:PORT/NQN a namespace of an NVMe/TCP target, through the engine's own initiator
//	rdma://HOST:PORT/NQN
//	                    the same of an NVMe/RDMA target
//	iscsi://HOST:PORT/IQN/LUN
//	                    a LUN of an iSCSI target by libiscsi's programs, in comparisons
//
// with ?block=512 or ?block=4096 behind a local one where the block size matters, and ?nsid=2&hostnqn=…&hdgst=1&ddgst=1 behind a
// remote one.
type TargetSpec struct {
	Kind      string
	Path      string // uring, raw, volume, volatile
	Bytes     uint64 // mem, null; volume, volatile: the most that the volume has, 0 for no limit
	BlockSize uint32 // 0: the kind's default

	Remote initiator.Options // tcp, rdma
	NSID   uint64            // tcp, rdma

	Delay reactor.Ticks // uring, volume, volatile: each read and write ends so much later; to see what notices
}

// ParseTarget reads a target.
func ParseTarget(s string) (TargetSpec, error) {
	bad := func(why string) (TargetSpec, error) {
		return TargetSpec{}, fmt.Errorf("target %q: %s; write mem:1G, null:1G, uring:PATH, volume:PATH, volatile:PATH, raw:PATH, tcp://127.0.0.1:4420/NQN or rdma://192.0.2.1:4420/NQN", s, why)
	}
	if strings.HasPrefix(s, "tcp:") || strings.HasPrefix(s, "rdma:") {
		t, err := parseRemote(s)
		if err != nil {
			return bad(err.Error())
		}
		return t, nil
	}
	if strings.HasPrefix(s, "iscsi:") {
		t, err := parseISCSI(s)
		if err != nil {
			return bad(err.Error())
		}
		return t, nil
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
	case "uring", "volume", "volatile", "raw":
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
	idle  reactor.Idle // while it is measured; between runs the reactors sleep, and leave their cores to others
	group *reactor.Group
	reg   *bdev.Registry
	hosts *initiator.Initiator // tcp, rdma
	pool  *volume.Pool         // volume, volatile
	vol   *volume.Volume       // in it
	below string               // the device that it stands on
	late  string               // and that below it, where that is made to be late

	// As names the target in reports; the kind without it.
	As string
	// Serves describes what serves a remote device, Served is the file it serves, if that is on this machine.
	Serves, Served string
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
	switch t.Kind {
	case "raw":
		return nil, fmt.Errorf("target raw:%s: fio measures it, not this program's reactors", t.Path)
	case "iscsi":
		return nil, fmt.Errorf("target %s: libiscsi's programs measure it, in pollux bench peers", t.Path)
	}
	g, err := reactor.Start(reactor.Config{Cores: cfg.Cores, Idle: reactor.Interrupt, MemoryBytes: cfg.MemoryBytes})
	if err != nil {
		return nil, err
	}
	r := &Rig{spec: t, idle: cfg.Idle, group: g, reg: bdev.NewRegistry(g)}
	name, err := r.create()
	if err == nil {
		var h *bdev.Handle
		if h, err = r.reg.Open(name, bdev.OpenOptions{Who: "bench"}); err == nil {
			r.Session = NewSession(h, g.Reactors()...)
			return r, nil
		}
		_ = r.remove(name)
	}
	_ = g.Stop(context.Background())
	return nil, err
}

func (r *Rig) create() (name string, err error) {
	t := &r.spec
	switch t.Kind {
	case "tcp", "rdma":
		return r.attach()
	case "mem":
		name = "Malloc0"
		_, err = bdev.NewMem(r.reg, name, uuid.New(), t.BlockSize, t.Bytes/uint64(t.BlockSize))
	case "null":
		name = "Null0"
		_, err = bdev.NewNull(r.reg, name, uuid.New(), t.BlockSize, t.Bytes/uint64(t.BlockSize))
	case "uring", "volume", "volatile":
		name = "Uring0"
		if _, serr := os.Stat(t.Path); os.IsNotExist(serr) {
			return "", fmt.Errorf("target %s:%s: there is no such file: make one, for example truncate -s 1G %s", t.Kind, t.Path, t.Path)
		}
		_, err = bdev.NewUring(r.reg, name, t.Path, bdev.UringOptions{BlockSize: t.BlockSize, UUID: uuid.New()})
		if err == nil && t.Delay > 0 {
			late := bdev.Latencies{ReadAverage: t.Delay, ReadP99: t.Delay, WriteAverage: t.Delay, WriteP99: t.Delay}
			if _, err = bdev.NewDelay(r.reg, "Late0", name, uuid.Nil, late); err != nil {
				return "", errors.Join(err, r.remove(name))
			}
			r.late, name = name, "Late0"
		}
		if err == nil && t.Kind != "uring" {
			return r.createVolume(name)
		}
	}
	return name, err
}

// poolHeadroom is what a pool has free beside a volume all of whose blocks are written. A cluster that was changed has a place reserved until
// it is home, though most are changed in place; with 4 KiB in each, a log of the default size is full of 1 GiB of them. With less the
// flusher is hurried, and makes a checkpoint each few blocks.
const poolHeadroom = 1 << 30

// createVolume makes a pool of the whole device and a volume in it, with room for all of its blocks.
func (r *Rig) createVolume(device string) (name string, err error) {
	r.below = device
	d, err := r.reg.Lookup(device)
	if err != nil {
		return "", err
	}
	g := d.Geometry()
	bytes := g.Bytes() - max(g.Bytes()/16, min(g.Bytes()/2, poolHeadroom))
	if bytes < 2*wal.DefaultBytes {
		return "", errors.Join(fmt.Errorf("target %s:%s: a volume with its log needs %d MiB", r.spec.Kind, r.spec.Path, 4*wal.DefaultBytes>>20), r.remove(device))
	}
	cfg := volume.VolumeConfig{Name: "bench", Bytes: (bytes - wal.DefaultBytes) >> 20 << 20}
	if r.spec.Bytes > 0 {
		cfg.Bytes = min(cfg.Bytes, r.spec.Bytes)
	}
	if r.spec.Kind == "volatile" {
		cfg.Cache = volume.CacheVolatile
	}
	if r.pool, err = volume.CreatePool(r.reg, device, volume.PoolConfig{Name: "bench", Server: uuid.New()}); err != nil {
		return "", errors.Join(err, r.remove(device))
	}
	if r.vol, err = r.pool.CreateVolume(cfg); err != nil {
		return "", errors.Join(err, r.remove(device))
	}
	return r.vol.Device().Name(), nil
}

// Name is the kind, unless As says otherwise.
func (r *Rig) Name() string {
	if r.As != "" {
		return r.As
	}
	return r.spec.Kind
}

// Run carries w out with the reactors in the policy that was asked for. What a volume does afterwards is waited for, so that it does not
// disturb whoever is measured next.
func (r *Rig) Run(ctx context.Context, w Workload, o Options) (*Run, error) {
	run, err := r.load(ctx, w, o)
	if err == nil {
		err = r.rest(ctx)
	}
	return run, err
}

// load is Run without the wait.
func (r *Rig) load(ctx context.Context, w Workload, o Options) (*Run, error) {
	r.group.SetIdle(r.idle)
	defer r.group.SetIdle(reactor.Interrupt)
	if o.Warm > 0 {
		warm := w
		warm.Number, warm.RuntimeSeconds, warm.RampSeconds = o.Warm, 0, 0
		if _, err := r.Session.Run(ctx, warm, Options{}); err != nil {
			return nil, err
		}
	}
	return r.Session.Run(ctx, w, o)
}

// restMax is how long a volume may take to bring home what it has acknowledged.
const restMax = 60 * time.Second

// rest waits until everything that was written to the volume is home, and a checkpoint says so. Other devices have nothing to wait for.
func (r *Rig) rest(ctx context.Context) error {
	if r.vol == nil {
		return nil
	}
	return await(ctx, func() (string, error) {
		i, err := r.vol.Info()
		if err != nil || i.Home >= i.Appended {
			return "", err
		}
		return fmt.Sprintf("the volume has brought home LSN %d, where it is at %d", i.Appended, i.Home), nil
	})
}

// await asks again and again, for restMax, until there is nothing left to wait for.
func await(ctx context.Context, missing func() (string, error)) error {
	ctx, cancel := context.WithTimeout(ctx, restMax)
	defer cancel()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		what, err := missing()
		if err != nil || what == "" {
			return err
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("waiting until %s: %w", what, context.Cause(ctx))
		case <-tick.C:
		}
	}
}

// Geometry is the device's shape.
func (r *Rig) Geometry() bdev.Geometry { return r.handle.Device().Geometry() }

// Describe tells what the device is.
func (r *Rig) Describe() DeviceConditions {
	g := r.Geometry()
	d := DeviceConditions{
		Target: r.Name(), SizeBytes: g.Bytes(), BlockSize: g.BlockSize, Idle: r.idle.String(), WriteCache: "none", Remote: r.Serves,
	}
	if (r.spec.Kind == "tcp" || r.spec.Kind == "rdma") && d.Remote == "" {
		d.Remote = r.spec.String()
	}
	if g.Volatile {
		d.WriteCache = "volatile"
	}
	for _, re := range r.group.Reactors() {
		d.Cores = append(d.Cores, re.Core())
	}
	if path := r.spec.Path + r.Served; path != "" { // never both
		d.addFile(path)
	}
	return d
}

// Close closes the device and ends the reactors.
func (r *Rig) Close() error {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	name := r.handle.Device().Name()
	r.handle.Close()
	err := r.remove(name)
	if serr := r.group.Stop(ctx); err == nil {
		err = serr
	}
	return err
}

func (r *Rig) remove(name string) error {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	if r.hosts != nil {
		return errors.Join(r.hosts.Detach(ctx, controllerName), r.hosts.Close(ctx))
	}
	if r.pool != nil {
		if err := r.pool.Export(ctx); err != nil {
			return err
		}
	}
	if r.below != "" {
		name = r.below
	}
	if err := r.reg.Unregister(ctx, name); err != nil || r.late == "" {
		return err
	}
	return r.reg.Unregister(ctx, r.late)
}
