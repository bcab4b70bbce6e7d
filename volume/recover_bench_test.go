package volume

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/uuid"

	"github.com/pollux-storage/pollux/bdev"
	"github.com/pollux-storage/pollux/reactor"
	"github.com/pollux-storage/pollux/wal"
)

// benchPool is a pool with one volume on a file, on a reactor of its own.
type benchPool struct {
	b      *testing.B
	g      *reactor.Group
	reg    *bdev.Registry
	pool   *Pool
	stages *wal.Stages
}

var benchServer = uuid.New()

// startPool registers the device of a file.
func startPool(b *testing.B, path string) *benchPool {
	g, err := reactor.Start(reactor.Config{Cores: []int{-1}, MemoryBytes: 128 << 20})
	if err != nil {
		b.Fatal(err)
	}
	x := &benchPool{b: b, g: g, reg: bdev.NewRegistry(g), stages: new(wal.Stages)}
	if _, err := bdev.NewUring(x.reg, "u", path, bdev.UringOptions{}); err != nil {
		b.Fatal(err)
	}
	return x
}

func (x *benchPool) open() {
	var err error
	if x.pool, err = ImportPool(x.reg, "u", PoolConfig{Server: benchServer, Stages: x.stages}); err != nil {
		x.b.Fatal(err)
	}
}

// run submits so many requests to the volume.
func (x *benchPool) run(kind bdev.Kind, blocks, span uint64, depth, n int) {
	b, r, v := x.b, x.g.Reactor(0), x.pool.Volumes()[0]
	h, err := x.reg.Open(v.Device().Name(), bdev.OpenOptions{Who: "benchmark"})
	if err != nil {
		b.Fatal(err)
	}
	defer h.Close()
	l := &load{kind: kind, n: blocks, span: span, rand: rand.New(rand.NewPCG(1, uint64(n))), left: n, ended: make(chan struct{})}
	var all []*loadRequest
	if e := r.Call(func() {
		if l.c, err = h.Channel(r); err != nil {
			return
		}
		for range min(depth, n) {
			q := &loadRequest{l: l}
			q.Done = q
			q.SetData(r.Memory().Get(int(blocks) * PageBytes))
			all = append(all, q)
		}
		for _, q := range all {
			q.submit()
		}
	}); e != nil || err != nil {
		b.Fatal(e, err)
	}
	<-l.ended
	_ = r.Call(func() {
		for _, q := range all {
			r.Memory().Put(q.Data[0])
			q.Release()
		}
		l.c.Close()
	})
}

func (x *benchPool) close() {
	_ = x.g.Reactor(0).Call(func() { x.stages.Open(wal.StageMap) })
	ctx := context.Background()
	if err := errors.Join(x.pool.Export(ctx), x.reg.Unregister(ctx, "u"), x.g.Stop(ctx)); err != nil {
		x.b.Fatal(err)
	}
}

// copyHoles copies a file, and leaves out what is zero.
func copyHoles(b *testing.B, to, from string) {
	in, err := os.Open(from)
	if err != nil {
		b.Fatal(err)
	}
	defer in.Close()
	out, err := os.Create(to)
	if err != nil {
		b.Fatal(err)
	}
	defer out.Close()
	buf, zero := make([]byte, 1<<20), make([]byte, PageBytes)
	for at := int64(0); ; {
		n, err := io.ReadFull(in, buf)
		for i := 0; i < n; i += PageBytes {
			if !bytes.Equal(buf[i:i+PageBytes], zero) {
				if _, err := out.WriteAt(buf[i:i+PageBytes], at+int64(i)); err != nil {
					b.Fatal(err)
				}
			}
		}
		if at += int64(n); err == io.EOF || errors.Is(err, io.ErrUnexpectedEOF) {
			if err := errors.Join(out.Truncate(at), out.Sync()); err != nil {
				b.Fatal(err)
			}
			return
		} else if err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkRecovery is how long a pool takes to be opened after a power cut, from the call until its volume takes requests: against what the
// log has, and against what is mapped.
func BenchmarkRecovery(b *testing.B) {
	const mib = 1 << 20
	for _, mapped := range []uint64{256 * mib, 512 * mib, 1024 * mib} {
		path := filepath.Join(b.TempDir(), "mapped")
		f, err := os.Create(path)
		if err != nil {
			b.Fatal(err)
		}
		if err := errors.Join(f.Truncate(int64(mapped+mapped/4+256*mib)), f.Close()); err != nil {
			b.Fatal(err)
		}
		x := startPool(b, path)
		if x.pool, err = CreatePool(x.reg, "u", PoolConfig{Name: "p", Server: benchServer}); err != nil {
			b.Fatal(err)
		}
		if _, err := x.pool.CreateVolume(VolumeConfig{Name: "v", Bytes: mapped}); err != nil {
			b.Fatal(err)
		}
		x.run(bdev.Write, 256, mapped/PageBytes, 8, int(4*mapped/mib))
		x.close()
		b.Run(fmt.Sprintf("mapped%dM/empty", mapped/mib), func(b *testing.B) { benchRecovery(b, path) })
		if mapped != 1024*mib {
			continue
		}
		for _, blocks := range []uint64{1, 16} {
			for _, log := range []uint64{8, 20, 40} {
				if blocks > 1 {
					log /= 4 // a page for each record
				}
				full := filepath.Join(b.TempDir(), "full")
				copyHoles(b, full, path)
				x, crashed := startPool(b, full), full+"-crashed"
				x.open()
				_ = x.g.Reactor(0).Call(func() { x.stages.Shut(wal.StageMap) })
				for v := x.pool.Volumes()[0]; ; {
					i, err := v.Info()
					if err != nil {
						b.Fatal(err)
					}
					if i.LogUsed >= log*mib {
						break
					}
					x.run(bdev.Write, blocks, mapped/PageBytes, 32, 256)
				}
				copyHoles(b, crashed, full)
				x.close()
				b.Run(fmt.Sprintf("mapped1024M/log%dM/records%dk", log, blocks*4), func(b *testing.B) { benchRecovery(b, crashed) })
			}
		}
	}
}

// benchRecovery opens copies of a file.
func benchRecovery(b *testing.B, path string) {
	for range b.N {
		b.StopTimer()
		to := filepath.Join(b.TempDir(), "copy")
		copyHoles(b, to, path)
		x := startPool(b, to)
		b.StartTimer()
		x.open()
		b.StopTimer()
		x.close()
		if err := os.Remove(to); err != nil {
			b.Fatal(err)
		}
		b.StartTimer()
	}
}
