package bdev_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"golang.org/x/sys/unix"

	"github.com/pollux-storage/pollux/bdev"
	"github.com/pollux-storage/pollux/bdev/bdevtest"
	"github.com/pollux-storage/pollux/reactor"
)

// root ends a test that needs to make loop devices or to mount.
func root(t *testing.T) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Fatal("this test makes loop devices and mounts a file system of its own: run it as root (sudo make test)")
	}
}

// loop makes a block device of a file.
func loop(t bdevtest.T, path string, blockSize uint32) (dev string, fd int) {
	t.Helper()
	ctl, err := unix.Open("/dev/loop-control", unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatalf("opening /dev/loop-control: %v (a kernel with CONFIG_BLK_DEV_LOOP is needed)", err)
	}
	defer unix.Close(ctl)
	backing, err := unix.Open(path, unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatalf("%v", err)
	}
	defer unix.Close(backing)
	for range 20 { // another process may take the same one
		n, err := unix.IoctlRetInt(ctl, unix.LOOP_CTL_GET_FREE)
		if err != nil {
			t.Fatalf("asking for a loop device: %v", err)
		}
		dev = fmt.Sprintf("/dev/loop%d", n)
		if fd, err = unix.Open(dev, unix.O_RDWR|unix.O_CLOEXEC, 0); err != nil {
			t.Fatalf("opening %s: %v", dev, err)
		}
		if err = unix.IoctlLoopConfigure(fd, &unix.LoopConfig{Fd: uint32(backing), Size: blockSize}); err == nil {
			t.Cleanup(func() { _ = unix.IoctlSetInt(fd, unix.LOOP_CLR_FD, 0); _ = unix.Close(fd) })
			return dev, fd
		}
		_ = unix.Close(fd)
	}
	t.Fatalf("no loop device could be had")
	return "", 0
}

func uringOn(t bdevtest.T, g *bdev.Registry, path string, o bdev.UringOptions) *bdev.Device {
	return must(t)(bdev.NewUring(g, "Uring0", path, o))
}

// tmpfs mounts one of so many bytes until the test ends.
func tmpfs(t *testing.T, bytes int) string {
	t.Helper()
	root(t)
	dir := t.TempDir()
	if err := unix.Mount("pollux-test", dir, "tmpfs", 0, fmt.Sprintf("size=%d", bytes)); err != nil {
		t.Fatalf("mounting a tmpfs: %v", err)
	}
	t.Cleanup(func() { _ = unix.Unmount(dir, unix.MNT_DETACH) })
	return dir
}

func TestContractOnBlockDevices(t *testing.T) {
	root(t)
	bdevtest.Run(t, bdevtest.Subject{Make: func(t bdevtest.T, g *bdev.Registry, blockSize uint32) *bdev.Device {
		dev, _ := loop(t, file(t, t.TempDir(), bdevtest.Bytes), blockSize)
		return uringOn(t, g, dev, bdev.UringOptions{})
	}})
}

// A tmpfs has no ZERO_RANGE.
func TestContractOnTmpfs(t *testing.T) {
	dir := tmpfs(t, 64<<20)
	n := 0
	bdevtest.Run(t, bdevtest.Subject{Resize: resizeUring, Make: func(t bdevtest.T, g *bdev.Registry, blockSize uint32) *bdev.Device {
		n++
		sub := filepath.Join(dir, fmt.Sprint(n))
		if err := os.Mkdir(sub, 0o700); err != nil {
			t.Fatalf("%v", err)
		}
		t.Cleanup(func() { _ = os.RemoveAll(sub) })
		return uringOn(t, g, file(t, sub, bdevtest.Bytes), bdev.UringOptions{BlockSize: blockSize})
	}})
}

func TestWhatCannotBeADevice(t *testing.T) {
	g := registry(t, 1)
	dir := t.TempDir()
	small := filepath.Join(dir, "small")
	if err := os.WriteFile(small, make([]byte, 511), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		why, path string
		o         bdev.UringOptions
		want      error
		text      string
	}{
		{"it is not there", filepath.Join(dir, "none"), bdev.UringOptions{}, os.ErrNotExist, "none"},
		{"it is a folder", dir, bdev.UringOptions{}, bdev.ErrInvalid, "neither a file nor a block device"},
		{"it is a terminal of sorts", "/dev/null", bdev.UringOptions{}, bdev.ErrInvalid, "neither a file nor a block device"},
		{"it is less than a block", small, bdev.UringOptions{BlockSize: 512}, bdev.ErrInvalid, "truncate -s"},
		{"blocks of 1000 bytes", file(t, t.TempDir(), 1<<20), bdev.UringOptions{BlockSize: 1000}, bdev.ErrInvalid, "must be 512 or 4096"},
	} {
		if _, err := bdev.NewUring(g, "Uring0", c.path, c.o); !errors.Is(err, c.want) || !strings.Contains(err.Error(), c.text) {
			t.Errorf("%s: %v", c.why, err)
		}
	}
	root(t)
	dev, _ := loop(t, file(t, t.TempDir(), 1<<20), 4096)
	if _, err := bdev.NewUring(g, "Uring0", dev, bdev.UringOptions{BlockSize: 512}); !errors.Is(err, bdev.ErrInvalid) || !strings.Contains(err.Error(), "multiples of 4096") {
		t.Errorf("blocks of 512 bytes on a device of 4096: %v", err)
	}
	// None of these keeps the file: a device can be made of it.
	unregisterAfter(t, g, uringOn(t, g, dev, bdev.UringOptions{}))
}

func unregisterAfter(t *testing.T, g *bdev.Registry, d *bdev.Device) {
	t.Helper()
	unregister(t, g, d.Name())
}

func TestTwoDevicesOnOneFileAreRefused(t *testing.T) {
	g := registry(t, 1)
	path := file(t, t.TempDir(), 1<<20)
	uringOn(t, g, path, bdev.UringOptions{})
	_, err := bdev.NewUring(g, "Uring1", path, bdev.UringOptions{})
	if !errors.Is(err, bdev.ErrBusy) || !strings.Contains(err.Error(), fmt.Sprintf("process %d", os.Getpid())) {
		t.Errorf("a second device on a file: %v", err)
	}
	if _, err := bdev.NewUring(g, "Uring1", path, bdev.UringOptions{ReadOnly: true}); !errors.Is(err, bdev.ErrBusy) {
		t.Errorf("reading a file that another device writes: %v", err)
	}
	unregister(t, g, "Uring0")
	uringOn(t, g, path, bdev.UringOptions{ReadOnly: true})
	must(t)(bdev.NewUring(g, "Uring1", path, bdev.UringOptions{ReadOnly: true, UUID: uuid.New()}))
	if _, err := bdev.NewUring(g, "Uring2", path, bdev.UringOptions{}); !errors.Is(err, bdev.ErrBusy) {
		t.Errorf("writing a file that others read: %v", err)
	}
}

// leftLock locks path as a process that has ended and whose file the kernel still holds, until release.
func leftLock(t *testing.T, path string) (pid int, release func()) {
	t.Helper()
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = f.Close() })
	c := exec.Command("flock", "--exclusive", "3")
	c.ExtraFiles = []*os.File{f}
	if out, err := c.CombinedOutput(); err != nil {
		t.Fatalf("flock (of util-linux): %v\n%s", err, out)
	}
	return c.Process.Pid, func() { _ = f.Close() }
}

// An engine that was killed gives its files back a moment after it has ended.
func TestAFileThatADeadProcessHoldsIsWaitedFor(t *testing.T) {
	for _, c := range []struct {
		name  string
		block bool
	}{{"a file", false}, {"a block device", true}} {
		t.Run(c.name, func(t *testing.T) {
			g := registry(t, 1)
			path := file(t, t.TempDir(), 1<<20)
			if c.block {
				root(t)
				path, _ = loop(t, path, 512)
			}
			pid, release := leftLock(t, path)
			exclusive := -1
			if c.block {
				var err error
				if exclusive, err = unix.Open(path, unix.O_RDWR|unix.O_EXCL|unix.O_CLOEXEC, 0); err != nil {
					t.Fatal(err)
				}
			}
			var heard []error
			d, err := bdev.NewUring(g, "Uring0", path, bdev.UringOptions{Waits: func(why error) {
				heard = append(heard, why)
				release()
				if exclusive >= 0 {
					_ = unix.Close(exclusive)
				}
			}})
			if err != nil {
				t.Fatal(err)
			}
			unregisterAfter(t, g, d)
			if len(heard) != 1 || !errors.Is(heard[0], bdev.ErrBusy) || !c.block && !strings.Contains(heard[0].Error(), fmt.Sprintf("process %d, which has ended", pid)) {
				t.Errorf("heard %v", heard)
			}
		})
	}
}

func TestAFileThatADeadProcessKeepsIsRefusedInTheEnd(t *testing.T) {
	bdev.SetLockPatience(t, 50*time.Millisecond)
	g := registry(t, 1)
	path := file(t, t.TempDir(), 1<<20)
	pid, _ := leftLock(t, path)
	if _, err := bdev.NewUring(g, "Uring0", path, bdev.UringOptions{}); !errors.Is(err, bdev.ErrBusy) ||
		!strings.Contains(err.Error(), fmt.Sprintf("process %d, which has ended", pid)) || !strings.Contains(err.Error(), "waited for 50ms") {
		t.Errorf("%v", err)
	}
}

// Who lives is not waited for: the patience is longer than a test may take.
func TestAFileThatALivingProcessHoldsIsRefusedAtOnce(t *testing.T) {
	bdev.SetLockPatience(t, time.Hour)
	g := registry(t, 1)
	path := file(t, t.TempDir(), 1<<20)
	c := exec.Command("flock", "--exclusive", path, "cat")
	in, err := c.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := c.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = in.Close(); _ = c.Wait() }()
	_, _ = in.Write([]byte{1})
	if _, err := io.ReadFull(out, make([]byte, 1)); err != nil { // cat runs: the file is locked
		t.Fatal(err)
	}
	if _, err := bdev.NewUring(g, "Uring0", path, bdev.UringOptions{Waits: func(why error) {
		t.Errorf("waits: %v", why)
		_ = in.Close() // or it would wait on
	}}); !errors.Is(err, bdev.ErrBusy) ||
		!strings.Contains(err.Error(), fmt.Sprintf("(process %d)", c.Process.Pid)) {
		t.Errorf("%v", err)
	}
}

func TestTwoDevicesOnOneBlockDeviceAreRefused(t *testing.T) {
	root(t)
	g := registry(t, 1)
	dev, _ := loop(t, file(t, t.TempDir(), 1<<20), 512)
	uringOn(t, g, dev, bdev.UringOptions{})
	// By another name, which a lock of the name's inode would not notice.
	other := filepath.Join(t.TempDir(), "other")
	var st unix.Stat_t
	if err := unix.Stat(dev, &st); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mknod(other, unix.S_IFBLK|0o600, int(st.Rdev)); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{dev, other} {
		if _, err := bdev.NewUring(g, "Uring1", path, bdev.UringOptions{}); !errors.Is(err, bdev.ErrBusy) || !strings.Contains(err.Error(), "release it first") {
			t.Errorf("a second device on %s: %v", path, err)
		}
	}
}

func TestReadOnly(t *testing.T) {
	path := file(t, t.TempDir(), 1<<20)
	e := rig(t, 1, 512, func(t bdevtest.T, g *bdev.Registry, blockSize uint32) *bdev.Device {
		return uringOn(t, g, path, bdev.UringOptions{BlockSize: blockSize, ReadOnly: true})
	})
	for _, op := range []bdevtest.Op{
		{Kind: bdev.Write, Data: e.Block(1, 1)}, {Kind: bdev.WriteZeroes, Blocks: 1}, {Kind: bdev.Copy, LBA2: 1, Blocks: 1},
		{Kind: bdev.CompareAndWrite, Data: e.Block(1, 1), Data2: e.Block(1, 1)},
	} {
		e.Want("read-only", 0, bdev.StatusReadOnly, op)
	}
	e.WantData("read-only", 0, 0, make([]byte, 4096))
	e.Must(0, bdevtest.Op{Kind: bdev.Compare, Data: make([]byte, 512)})
	e.Must(0, bdevtest.Op{Kind: bdev.Flush})
}

func TestAFileThatShrinksLosesNothingInSilence(t *testing.T) {
	path := file(t, t.TempDir(), 4<<20)
	e := rig(t, 2, 4096, func(t bdevtest.T, g *bdev.Registry, blockSize uint32) *bdev.Device {
		return uringOn(t, g, path, bdev.UringOptions{BlockSize: blockSize})
	})
	e.Write(0, 0, e.Block(1, 8))
	e.Write(0, 1000, e.Block(2, 8))
	if err := os.Truncate(path, 4096*500+100); err != nil {
		t.Fatal(err)
	}
	e.Want("a lost block", 0, bdev.StatusIO, bdevtest.Op{Kind: bdev.Read, LBA: 1000, Data: e.Block(2, 8)})
	e.Want("a block that is lost in part", 1, bdev.StatusIO, bdevtest.Op{Kind: bdev.Read, LBA: 499, Data: e.Block(2, 3)})
	e.WantData("a block that is not", 0, 0, e.Block(1, 8))
	for core := range 2 {
		e.Want("a write past the end", core, bdev.StatusIO, bdevtest.Op{Kind: bdev.Write, LBA: 1000, Data: e.Block(3, 1)})
		e.Want("a write before it", core, bdev.StatusIO, bdevtest.Op{Kind: bdev.Write, LBA: 1, Data: e.Block(3, 1)})
		e.Want("zeroes", core, bdev.StatusIO, bdevtest.Op{Kind: bdev.WriteZeroes, LBA: 1, Blocks: 1})
	}
	if st, _ := os.Stat(path); st.Size() != 4096*500+100 {
		t.Errorf("the file has grown to %d bytes", st.Size())
	}
	u := e.Device.Driver().(*bdev.Uring)
	if err := u.Rescan(e.Device); err != nil {
		t.Fatal(err)
	}
	if n := e.Device.Geometry().Blocks; n != 500 {
		t.Errorf("%d blocks after the rescan", n)
	}
	e.Want("past the accepted end", 0, bdev.StatusOutOfRange, bdevtest.Op{Kind: bdev.Write, LBA: 1000, Data: e.Block(3, 1)})
	e.Write(0, 499, e.Block(3, 1))
	e.WantData("after the rescan", 1, 499, e.Block(3, 1))

	if err := os.Truncate(path, 100); err != nil {
		t.Fatal(err)
	}
	if err := u.Rescan(e.Device); !errors.Is(err, bdev.ErrInvalid) {
		t.Errorf("a rescan of a file without a block: %v", err)
	}
	e.Want("nothing is left", 0, bdev.StatusIO, bdevtest.Op{Kind: bdev.Read, LBA: 0, Data: e.Block(3, 1)})
}

func TestABlockDeviceThatShrinks(t *testing.T) {
	root(t)
	path := file(t, t.TempDir(), 4<<20)
	dev, fd := loop(t, path, 512)
	e := rig(t, 1, 512, func(t bdevtest.T, g *bdev.Registry, blockSize uint32) *bdev.Device {
		return uringOn(t, g, dev, bdev.UringOptions{})
	})
	resize := func(bytes int64) {
		if err := os.Truncate(path, bytes); err != nil {
			t.Fatal(err)
		}
		if err := unix.IoctlSetInt(fd, unix.LOOP_SET_CAPACITY, 0); err != nil {
			t.Fatal(err)
		}
	}
	resize(1 << 20)
	e.Want("a write past the end", 0, bdev.StatusIO, bdevtest.Op{Kind: bdev.Write, LBA: 4000, Data: e.Block(3, 1)})
	e.Want("a read past the end", 0, bdev.StatusIO, bdevtest.Op{Kind: bdev.Read, LBA: 4000, Data: e.Block(3, 1)})
	e.Want("zeroes past the end", 0, bdev.StatusIO, bdevtest.Op{Kind: bdev.WriteZeroes, LBA: 4000, Blocks: 1})
	e.Want("before it, until somebody has looked", 0, bdev.StatusIO, bdevtest.Op{Kind: bdev.Write, LBA: 1, Data: e.Block(3, 1)})
	u := e.Device.Driver().(*bdev.Uring)
	for _, bytes := range []int64{1 << 20, 8 << 20} {
		resize(bytes)
		if err := u.Rescan(e.Device); err != nil {
			t.Fatal(err)
		}
		last := uint64(bytes)>>9 - 1
		if n := e.Device.Geometry().Blocks; n != last+1 {
			t.Fatalf("%d blocks of a device of %d bytes", n, bytes)
		}
		e.Write(0, last, e.Block(last, 1))
		e.WantData("at the end", 0, last, e.Block(last, 1))
	}
}

// The disk behind a loop device loses its file's blocks: reads and writes fail, and the engine goes on.
func TestABlockDeviceWhoseMediumFails(t *testing.T) {
	root(t)
	path := file(t, t.TempDir(), 4<<20)
	dev, _ := loop(t, path, 512)
	e := rig(t, 1, 512, func(t bdevtest.T, g *bdev.Registry, blockSize uint32) *bdev.Device {
		return uringOn(t, g, dev, bdev.UringOptions{})
	})
	e.Write(0, 8000, e.Block(1, 8))
	e.Must(0, bdevtest.Op{Kind: bdev.Flush})
	if err := os.Truncate(path, 1<<20); err != nil {
		t.Fatal(err)
	}
	e.Want("a block that the medium has lost", 0, bdev.StatusIO, bdevtest.Op{Kind: bdev.Read, LBA: 8000, Data: e.Block(1, 8)})
	e.Write(0, 1, e.Block(1, 8))
	e.WantData("elsewhere", 0, 1, e.Block(1, 8))
}

func TestAFullFileSystem(t *testing.T) {
	dir := tmpfs(t, 4<<20)
	e := rig(t, 1, 4096, func(t bdevtest.T, g *bdev.Registry, blockSize uint32) *bdev.Device {
		return uringOn(t, g, file(t, dir, 16<<20), bdev.UringOptions{BlockSize: blockSize})
	})
	written := uint64(0)
	for ; written < 4096; written += 48 { // 48 blocks, so that one write fits in part
		if s := e.Do(0, bdevtest.Op{Kind: bdev.Write, LBA: written, Data: e.Block(written, 48)}).Status; s != bdev.StatusOK {
			if s != bdev.StatusNoSpace {
				t.Errorf("writing to a full file system: %v", s)
			}
			break
		}
	}
	if written < 900 || written > 1024 {
		t.Fatalf("%d blocks fit into 4 MiB", written)
	}
	e.Want("zeroes", 0, bdev.StatusNoSpace, bdevtest.Op{Kind: bdev.WriteZeroes, LBA: 2000, Blocks: 300})
	for lba := uint64(0); lba < written; lba += 48 {
		e.WantData("what was written before", 0, lba, e.Block(lba, 48))
	}
	e.Must(0, bdevtest.Op{Kind: bdev.Unmap, LBA: 0, Blocks: 480})
	e.Write(0, 3000, e.Block(5, 48))
	e.WantData("after some was given back", 0, 3000, e.Block(5, 48))
	e.WantData("what was given back", 0, 0, make([]byte, 48*4096))
}

func TestUnmapGivesRoomBackAndZeroesKeepIt(t *testing.T) {
	path := file(t, t.TempDir(), 8<<20)
	e := rig(t, 1, 4096, func(t bdevtest.T, g *bdev.Registry, blockSize uint32) *bdev.Device {
		return uringOn(t, g, path, bdev.UringOptions{BlockSize: blockSize})
	})
	allocated := func() int64 {
		e.Must(0, bdevtest.Op{Kind: bdev.Flush})
		var st unix.Stat_t
		if err := unix.Stat(path, &st); err != nil {
			t.Fatal(err)
		}
		return st.Blocks * 512
	}
	for lba := uint64(0); lba < 1024; lba += 256 {
		e.Write(0, lba, e.Block(lba, 256))
	}
	full := allocated()
	if full < 4<<20 {
		t.Fatalf("%d bytes allocated after 4 MiB were written", full)
	}
	e.Must(0, bdevtest.Op{Kind: bdev.WriteZeroes, Blocks: 1024})
	if n := allocated(); n < 4<<20 {
		t.Errorf("%d bytes allocated after zeroes", n)
	}
	e.Must(0, bdevtest.Op{Kind: bdev.Unmap, Blocks: 1024})
	if n := allocated(); n > 64<<10 {
		t.Errorf("%d bytes allocated after unmap", n)
	}
}

func TestPollingIsRefusedWhereItCannotBe(t *testing.T) {
	g := registry(t, 1)
	dir, err := os.MkdirTemp("/dev/shm", "pollux-test") // no device is behind a tmpfs
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	path := file(t, dir, 1<<20)
	for _, p := range []bdev.Polling{bdev.PollingNever, bdev.PollingWhereItCan} {
		must(t)(bdev.NewUring(g, "Uring0", path, bdev.UringOptions{Polling: p}))
		unregister(t, g, "Uring0")
	}
	if _, err := bdev.NewUring(g, "Uring0", path, bdev.UringOptions{Polling: bdev.PollingAlways}); !errors.Is(err, bdev.ErrInvalid) || !errors.Is(err, reactor.ErrNoPolling) {
		t.Errorf("polling on a device without poll queues: %v", err)
	}
}

// What was in flight when the file system refused goes the usual way, and so does everything later.
func TestPollingThatIsRefusedAtRunTime(t *testing.T) {
	e := rig(t, 2, 0, func(t bdevtest.T, g *bdev.Registry, _ uint32) *bdev.Device {
		return must(t)(bdev.NewRefusing(g, "Uring0", file(t, t.TempDir(), bdevtest.Bytes)))
	})
	size := int(e.G.BlockSize)
	for core := range 2 {
		at := uint64(core) * 100
		e.Write(core, at, e.Block(at, 3))
		e.Must(core, bdevtest.Op{Kind: bdev.Write, LBA: at + 3, Data: e.Block(at+3, 3), Pieces: []int{size, 2 * size}, FUA: true})
		e.WantData("written at once", 1-core, at, e.Block(at, 3))
		e.WantData("written in pieces", 1-core, at+3, e.Block(at+3, 3))
	}
	about := fmt.Sprint(e.Device.Driver().Describe())
	if strings.Contains(about, "polled") {
		t.Errorf("it says still that it is polled: %s", about)
	}
}

func TestUringTellsWhatItIs(t *testing.T) {
	g := registry(t, 1)
	path := file(t, t.TempDir(), 1<<20)
	id := uuid.New()
	d := must(t)(bdev.NewUring(g, "Uring0", path, bdev.UringOptions{UUID: id}))
	if d.UUID() != id {
		t.Errorf("UUID %v, given was %v", d.UUID(), id)
	}
	if got := fmt.Sprint(d.Driver().Describe()); got != "map[uring:map[filename:"+path+"]]" {
		t.Errorf("described as %s", got)
	}
	geometry := d.Geometry()
	if geometry.BlockSize != 4096 || geometry.Blocks != 256 || !geometry.Volatile || !geometry.UnmapZeroes || geometry.NativeFUA != bdev.SetOf(bdev.Write) {
		t.Errorf("%+v", geometry)
	}
}

// Whatever is read after a power failure must be what was flushed: the file itself is read here, past the engine.
func TestWhatIsWrittenIsInTheFile(t *testing.T) {
	path := file(t, t.TempDir(), 1<<20)
	e := rig(t, 1, 512, func(t bdevtest.T, g *bdev.Registry, blockSize uint32) *bdev.Device {
		return uringOn(t, g, path, bdev.UringOptions{BlockSize: blockSize})
	})
	data := e.Block(7, 100)
	e.Must(0, bdevtest.Op{Kind: bdev.Write, LBA: 3, Data: data, FUA: true})
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	want := make([]byte, 1<<20)
	copy(want[3*512:], data)
	if !bytes.Equal(text, want) {
		t.Error("the file holds something else")
	}
}

// Few devices can only discard, so one that can zero is told to do it.
func TestDiscardThroughTheRing(t *testing.T) {
	root(t)
	path := file(t, t.TempDir(), 4<<20)
	dev, _ := loop(t, path, 512)
	e := rig(t, 1, 512, func(t bdevtest.T, g *bdev.Registry, blockSize uint32) *bdev.Device {
		d := uringOn(t, g, dev, bdev.UringOptions{})
		d.Driver().(*bdev.Uring).OnlyDiscard()
		return d
	})
	e.Write(0, 0, e.Block(1, 2048))
	e.Write(0, 2048, e.Block(2, 2048))
	e.Must(0, bdevtest.Op{Kind: bdev.Flush})
	var before, after unix.Stat_t
	if err := unix.Stat(path, &before); err != nil {
		t.Fatal(err)
	}
	e.Must(0, bdevtest.Op{Kind: bdev.Unmap, LBA: 2048, Blocks: 2048, FUA: true})
	e.WantData("what was not discarded", 0, 0, e.Block(1, 2048))
	if err := unix.Stat(path, &after); err != nil {
		t.Fatal(err)
	}
	if before.Blocks-after.Blocks < 2000 {
		t.Errorf("%d sectors allocated before, %d after 2048 were discarded", before.Blocks, after.Blocks)
	}
	e.Write(0, 2048, e.Block(3, 2048))
	e.WantData("written again", 0, 2048, e.Block(3, 2048))
}
