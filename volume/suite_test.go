package volume

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/pollux-storage/pollux/bdev"
	"github.com/pollux-storage/pollux/bdev/bdevtest"
	"github.com/pollux-storage/pollux/reactor"
)

func TestContract(t *testing.T) {
	for _, cache := range []WriteCache{CacheNone, CacheVolatile} {
		t.Run(fmt.Sprint(cache), func(t *testing.T) { testContract(t, cache) })
	}
}

func testContract(t *testing.T, cache WriteCache) {
	bdevtest.Run(t, bdevtest.Subject{
		Name: "volume", // of even length: both sizes of blocks, and several reactors, under the race detector too
		Make: func(t bdevtest.T, g *bdev.Registry, blockSize uint32) *bdev.Device {
			if _, err := bdev.NewMem(g, "m", uuid.New(), 4096, 128<<20/4096); err != nil {
				t.Fatalf("%v", err)
			}
			p, err := CreatePool(g, "m", PoolConfig{Name: "p", Server: uuid.New(), CacheBytes: 4 << 20})
			if err != nil {
				t.Fatalf("%v", err)
			}
			v, err := p.CreateVolume(VolumeConfig{Name: "v", Bytes: bdevtest.Bytes, BlockBytes: blockSize, LogBytes: 32 << 20, Cache: cache})
			if err != nil {
				t.Fatalf("%v", err)
			}
			return v.Device()
		},
	})
}

func TestAPoolOnAFileIsClosedInOrder(t *testing.T) {
	path := filepath.Join(t.TempDir(), "disk")
	f, _ := os.Create(path)
	f.Truncate(1 << 30)
	f.Close()
	g, err := reactor.Start(reactor.Config{Cores: []int{-1}, MemoryBytes: 64 << 20})
	if err != nil {
		t.Fatal(err)
	}
	reg := bdev.NewRegistry(g)
	if _, err := bdev.NewUring(reg, "u", path, bdev.UringOptions{}); err != nil {
		t.Fatal(err)
	}
	p, err := CreatePool(reg, "u", PoolConfig{Name: "p", Server: uuid.New()})
	if err != nil {
		t.Fatal(err)
	}
	v, err := p.CreateVolume(VolumeConfig{Name: "v", Bytes: 256 << 20})
	if err != nil {
		t.Fatal(err)
	}
	ctx, c := context.WithTimeout(context.Background(), time.Minute)
	defer c()
	if err := reg.Unregister(ctx, v.Device().Name()); err != nil {
		t.Fatal(err)
	}
	if err := p.Export(ctx); err != nil {
		t.Fatal(err)
	}
	if err := reg.Unregister(ctx, "u"); err != nil {
		t.Fatal(err)
	}
	if err := g.Stop(ctx); err != nil {
		t.Fatal(err)
	}
}
