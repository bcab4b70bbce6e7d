package bdev_test

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/google/uuid"

	"github.com/pollux-storage/pollux/bdev"
	"github.com/pollux-storage/pollux/bdev/bdevtest"
)

func mem(t bdevtest.T, g *bdev.Registry, blockSize uint32) *bdev.Device {
	t.Helper()
	d, err := bdev.NewMem(g, "Malloc0", uuid.Nil, blockSize, uint64(bdevtest.Bytes/blockSize))
	if err != nil {
		t.Fatalf("%v", err)
	}
	return d
}

func null(t bdevtest.T, g *bdev.Registry, blockSize uint32) *bdev.Device {
	t.Helper()
	d, err := bdev.NewNull(g, "Null0", uuid.Nil, blockSize, uint64(bdevtest.Bytes/blockSize))
	if err != nil {
		t.Fatalf("%v", err)
	}
	return d
}

func uringFile(t bdevtest.T, g *bdev.Registry, blockSize uint32) *bdev.Device {
	t.Helper()
	path := filepath.Join(t.TempDir(), "disk")
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatalf("%v", err)
	}
	if err := os.Truncate(path, bdevtest.Bytes); err != nil {
		t.Fatalf("%v", err)
	}
	d, err := bdev.NewUring(g, "Uring0", path, bdev.UringOptions{BlockSize: blockSize})
	if err != nil {
		t.Fatalf("%v", err)
	}
	return d
}

func TestContract(t *testing.T) {
	for _, s := range []bdevtest.Subject{
		{Name: "mem", Make: mem},
		{Name: "null", Make: null, Forgets: true},
		{Name: "uring", Make: uringFile, Resize: func(d *bdev.Device, blocks uint64) error {
			u := d.Driver().(*bdev.Uring)
			g := d.Geometry()
			if err := os.Truncate(u.Path(), int64(blocks<<g.Shift())); err != nil {
				return err
			}
			return u.Rescan(d)
		}},
	} {
		t.Run(s.Name, func(t *testing.T) { bdevtest.Run(t, s) })
	}
}
