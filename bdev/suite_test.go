package bdev_test

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/google/uuid"

	"github.com/pollux-storage/pollux/bdev"
	"github.com/pollux-storage/pollux/bdev/bdevtest"
	"github.com/pollux-storage/pollux/reactor"
)

// must registers a device or ends the test.
func must(t bdevtest.T) func(d *bdev.Device, err error) *bdev.Device {
	return func(d *bdev.Device, err error) *bdev.Device {
		t.Helper()
		if err != nil {
			t.Fatalf("%v", err)
		}
		return d
	}
}

func mem(t bdevtest.T, g *bdev.Registry, blockSize uint32) *bdev.Device {
	return must(t)(bdev.NewMem(g, "Malloc0", uuid.Nil, blockSize, uint64(bdevtest.Bytes/blockSize)))
}

func null(t bdevtest.T, g *bdev.Registry, blockSize uint32) *bdev.Device {
	return must(t)(bdev.NewNull(g, "Null0", uuid.Nil, blockSize, uint64(bdevtest.Bytes/blockSize)))
}

// file makes a sparse file.
func file(t bdevtest.T, dir string, bytes int64) string {
	t.Helper()
	path := filepath.Join(dir, "disk")
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatalf("%v", err)
	}
	if err := os.Truncate(path, bytes); err != nil {
		t.Fatalf("%v", err)
	}
	return path
}

func uringFile(t bdevtest.T, g *bdev.Registry, blockSize uint32) *bdev.Device {
	return must(t)(bdev.NewUring(g, "Uring0", file(t, t.TempDir(), bdevtest.Bytes), bdev.UringOptions{BlockSize: blockSize}))
}

// resizeUring does it until it holds: a write that is in flight may let a file grow again that was cut below it.
func resizeUring(d *bdev.Device, blocks uint64) error {
	u := d.Driver().(*bdev.Uring)
	for g := d.Geometry(); g.Blocks != blocks; g = d.Geometry() {
		if err := os.Truncate(u.Path(), int64(blocks<<g.Shift())); err != nil {
			return err
		}
		if err := u.Rescan(d); err != nil {
			return err
		}
	}
	return nil
}

// cache makes a device with a volatile cache that does by itself what it is told to.
func cache(native, fua bdev.KindSet) func(t bdevtest.T, g *bdev.Registry, blockSize uint32) *bdev.Device {
	return func(t bdevtest.T, g *bdev.Registry, blockSize uint32) *bdev.Device {
		return must(t)(bdevtest.NewCache(g, "Cache0", bdevtest.CacheOptions{BlockSize: blockSize, Native: native, FUA: fua}))
	}
}

// lowest is the device at the bottom of a stack.
func lowest(d *bdev.Device) *bdev.Device {
	for {
		b, ok := d.Driver().(interface{ Base() *bdev.Device })
		if !ok {
			return d
		}
		d = b.Base()
	}
}

func crash(d *bdev.Device) { lowest(d).Driver().(*bdevtest.Cache).Crash() }

// on stacks devices, the lowest first.
func on(layers ...func(t bdevtest.T, g *bdev.Registry, blockSize uint32) *bdev.Device) func(t bdevtest.T, g *bdev.Registry, blockSize uint32) *bdev.Device {
	return func(t bdevtest.T, g *bdev.Registry, blockSize uint32) *bdev.Device {
		var d *bdev.Device
		for _, f := range layers {
			d = f(t, g, blockSize)
		}
		return d
	}
}

func passthru(t bdevtest.T, g *bdev.Registry, _ uint32) *bdev.Device {
	return must(t)(bdev.NewPassthru(g, "Pass0", top(g), uuid.Nil))
}

func fault(t bdevtest.T, g *bdev.Registry, _ uint32) *bdev.Device {
	return must(t)(bdev.NewFault(g, "", top(g), uuid.Nil))
}

func delay(l bdev.Latencies) func(t bdevtest.T, g *bdev.Registry, blockSize uint32) *bdev.Device {
	return func(t bdevtest.T, g *bdev.Registry, _ uint32) *bdev.Device {
		return must(t)(bdev.NewDelay(g, "Delay0", top(g), uuid.Nil, l))
	}
}

func qos(l bdev.Limits) func(t bdevtest.T, g *bdev.Registry, blockSize uint32) *bdev.Device {
	return func(t bdevtest.T, g *bdev.Registry, _ uint32) *bdev.Device {
		return must(t)(bdev.NewQoS(g, "QoS0", top(g), uuid.Nil, l))
	}
}

// largeMem is larger than the device under test, which is a part of it.
func largeMem(t bdevtest.T, g *bdev.Registry, blockSize uint32) *bdev.Device {
	return must(t)(bdev.NewMem(g, "Malloc0", uuid.Nil, blockSize, uint64(bdevtest.Bytes/blockSize)+24))
}

func part(first uint64) func(t bdevtest.T, g *bdev.Registry, blockSize uint32) *bdev.Device {
	return func(t bdevtest.T, g *bdev.Registry, blockSize uint32) *bdev.Device {
		return must(t)(bdev.NewPart(g, "Part0", top(g), bdev.PartOptions{First: first, Blocks: uint64(bdevtest.Bytes / blockSize)}))
	}
}

// top is the device that stands on all others.
func top(g *bdev.Registry) string { return bdevtest.TopDown(g)[0].Name() }

var quick = bdev.Latencies{
	ReadAverage: 20 * reactor.Microsecond, ReadP99: 300 * reactor.Microsecond,
	WriteAverage: 10 * reactor.Microsecond, WriteP99: 200 * reactor.Microsecond,
}

// wide are limits that are reached now and then.
var wide = bdev.Limits{IOs: 200_000, Bytes: 4 << 30, ReadBytes: 3 << 30, WriteBytes: 3 << 30}

func subjects() []bdevtest.Subject {
	all := bdev.SetOf(bdev.Unmap, bdev.WriteZeroes, bdev.Compare, bdev.CompareAndWrite, bdev.Copy)
	return append(stripeSubjects(), []bdevtest.Subject{
		{Name: "mem", Make: mem},
		{Name: "null", Make: null, Forgets: true, Resize: (*bdev.Device).Resize},
		{Name: "uring", Make: uringFile, Resize: resizeUring},
		{Name: "volatile, everything emulated", Make: cache(0, 0), Crash: crash},
		{Name: "volatile, nothing emulated", Make: cache(all, all|bdev.SetOf(bdev.Write)), Crash: crash},
		{Name: "passthru", Make: on(null, passthru), Forgets: true, Resize: func(d *bdev.Device, n uint64) error { return lowest(d).Resize(n) }},
		{Name: "part", Make: on(largeMem, part(17))},
		{Name: "delay", Make: on(mem, delay(quick))},
		{Name: "error", Make: on(mem, fault)},
		{Name: "qos", Make: on(mem, qos(wide))},
		{Name: "crypt", Make: on(mem, crypt(16))},
		{Name: "crypt over crypt over part over volatile", Make: on(cache(0, bdev.SetOf(bdev.Write)), part(0), crypt(32), crypt(16)), Crash: crash},
		{Name: "crypt over delay over uring", Make: on(uringFile, delay(quick), crypt(16)), Resize: func(d *bdev.Device, n uint64) error { return resizeUring(lowest(d), n) }},
		{Name: "qos over delay over error over part over passthru over volatile",
			Make: on(cache(0, bdev.SetOf(bdev.Write)), passthru, part(0), fault, delay(bdev.Latencies{}), qos(wide)), Crash: crash},
		{Name: "passthru over uring", Make: on(uringFile, passthru), Resize: func(d *bdev.Device, n uint64) error { return resizeUring(lowest(d), n) }},
	}...)
}

func TestContract(t *testing.T) {
	for _, s := range subjects() {
		t.Run(s.Name, func(t *testing.T) { bdevtest.Run(t, s) })
	}
}
