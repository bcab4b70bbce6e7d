package reactor_test

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/pollux-storage/pollux/reactor"
)

func TestPolledFileIsRefusedWithTheReason(t *testing.T) {
	r := start(t, reactor.Config{}).Reactor(0)
	var p [2]int
	if err := unix.Pipe2(p[:], unix.O_CLOEXEC|unix.O_DIRECT); err != nil {
		t.Fatal(err)
	}
	defer unix.Close(p[0])
	defer unix.Close(p[1])
	for name, c := range map[string]struct {
		fd   int
		want string
	}{
		"not direct":    {int(tempFile(t).Fd()), "not open for direct I/O"},
		"not a file":    {p[0], "neither a block device nor a file"},
		"nothing":       {-1, "bad file descriptor"},
		"no descriptor": {1 << 20, "bad file descriptor"},
	} {
		t.Run(name, func(t *testing.T) {
			on(t, r, func() {
				f, err := r.NewPolledFile(c.fd)
				if f != nil || !errors.Is(err, reactor.ErrNoPolling) || !strings.Contains(err.Error(), c.want) {
					t.Errorf("it gave %v", err)
				}
			})
		})
	}
}

func TestPollQueuesAreReadFromTheDeviceOrTheDiskAbove(t *testing.T) {
	sys := t.TempDir()
	write := func(path, text string) {
		path = filepath.Join(sys, path)
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o700), os.WriteFile(path, []byte(text), 0o600)); err != nil {
			t.Fatal(err)
		}
	}
	write("block/nvme0n1/queue/io_poll", "1\n")
	write("block/nvme0n1/nvme0n1p1/size", "8\n")
	write("block/vda/queue/io_poll", "0\n")
	write("block/vda/vda1/size", "8\n")
	write("block/odd/size", "8\n")
	for device, want := range map[string]string{
		"nvme0n1": "", "nvme0n1/nvme0n1p1": "",
		"vda": "vda has no poll queues", "vda/vda1": "vda1 has no poll queues",
		"odd": "no request queue is known",
	} {
		link := filepath.Join(t.TempDir(), "1:1")
		if err := os.Symlink(filepath.Join(sys, "block", device), link); err != nil {
			t.Fatal(err)
		}
		err := reactor.DevicePolls(link)
		if want == "" && err != nil || want != "" && (!errors.Is(err, reactor.ErrNoPolling) || !strings.Contains(err.Error(), want)) {
			t.Errorf("%s gave %v", device, err)
		}
	}
}

// A direct file is on whatever disk the test runs. With poll queues its reads and writes are polled for; without, the kernel ends
// them with EOPNOTSUPP, or serves them all the same, and the file works when it is polled no more. POLLUX_TEST_POLLED names a block
// device with poll queues, whose content is lost: then nothing may be refused.
func TestPolledFileOrItsFallBack(t *testing.T) {
	device := os.Getenv("POLLUX_TEST_POLLED")
	path := device
	if device == "" {
		path = filepath.Join(t.TempDir(), "direct")
	}
	eachSetup(t, func(t *testing.T, cfg reactor.Config) {
		fd, err := unix.Open(path, unix.O_RDWR|unix.O_CREAT|unix.O_DIRECT|unix.O_CLOEXEC, 0o600)
		if err != nil {
			t.Fatal(err)
		}
		defer unix.Close(fd)
		cfg.Idle, cfg.MemoryBytes = reactor.Interrupt, 24<<20
		g := start(t, cfg)
		r := g.Reactor(0)
		o := newOpener(t, r)
		var file *reactor.File
		var bufs [][]byte
		on(t, r, func() {
			if file, err = r.NewPolledFile(fd); device == "" && errors.Is(err, reactor.ErrNoPolling) {
				t.Logf("on this disk: %v", err)
				file, err = r.NewPolledFileAnyway(fd)
			}
			if err != nil {
				t.Error(err)
				return
			}
			for range 16 { // in chunks from before and from after the ring was made
				bufs = append(bufs, r.Memory().Get(reactor.BufferMax)[:8192])
			}
		})
		if err != nil {
			return
		}
		refused := 0
		do := func(what string, start func(op *reactor.Op)) {
			t.Helper()
			on(t, r, func() {
				start(&o.op)
				if r.Polling() != file.Polled() {
					t.Errorf("%s: in flight on the polled ring: %v", what, r.Polling())
				}
			})
			res := <-o.done
			if device == "" && res == -int32(syscall.EOPNOTSUPP) && file.Polled() {
				refused++
				on(t, r, func() { file.Unpoll(); start(&o.op) })
				res = <-o.done
			}
			if res != 8192 {
				t.Fatalf("%s: %d", what, res)
			}
		}
		for i, b := range bufs {
			for k := range b {
				b[k] = byte(i + k>>9)
			}
			do("write", func(op *reactor.Op) { file.Write(op, b, uint64(i)*8192, 0) })
		}
		o.do("datasync", 0, file.Datasync)
		want := bytes.Clone(bufs[3])
		iov := []unix.Iovec{{Base: &bufs[0][0], Len: 4096}, {Base: &bufs[15][0], Len: 4096}}
		do("vectored read", func(op *reactor.Op) { file.Readv(op, iov, 3*8192) })
		do("read", func(op *reactor.Op) { file.Read(op, bufs[1], 3*8192) })
		if !bytes.Equal(bufs[1], want) || !bytes.Equal(bufs[0][:4096], want[:4096]) || !bytes.Equal(bufs[15][:4096], want[4096:]) {
			t.Error("read something else")
		}
		awaitSleep(r) // nothing is in flight
		on(t, r, file.Unpoll)
		do("read when polled no more", func(op *reactor.Op) { file.Read(op, bufs[2], 3*8192) })
		if !bytes.Equal(bufs[2], want) {
			t.Error("read something else")
		}
		t.Logf("%s: refused at run time %d times", path, refused)
		on(t, r, func() {
			file.Close()
			if r.PolledFilesFree() != 64 {
				t.Errorf("%d places for polled files are free", r.PolledFilesFree())
			}
			for _, b := range bufs {
				r.Memory().Put(b)
			}
			r.Unbind(&o.op)
		})
	})
}

func TestPolledFilesHaveALimit(t *testing.T) {
	r := start(t, reactor.Config{}).Reactor(0)
	f := tempFile(t)
	on(t, r, func() {
		var files []*reactor.File
		for {
			p, err := r.NewPolledFileAnyway(int(f.Fd()))
			if err != nil {
				if !errors.Is(err, reactor.ErrNoPolling) || !strings.Contains(err.Error(), "64 places") {
					t.Errorf("the one too many gave %v", err)
				}
				break
			}
			files = append(files, p)
		}
		for _, p := range files {
			p.Close()
		}
		if len(files) != 64 || r.PolledFilesFree() != 64 || r.FilesFree() != 1024 {
			t.Errorf("%d files; %d and %d places are free", len(files), r.PolledFilesFree(), r.FilesFree())
		}
	})
}
