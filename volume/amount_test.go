package volume

import (
	"os"
	"strconv"
	"strings"
	"testing"

	"github.com/pollux-storage/pollux/bdev"
	"github.com/pollux-storage/pollux/bdev/bdevsim"
	"github.com/pollux-storage/pollux/internal/sim"
	"github.com/pollux-storage/pollux/reactor"
)

// This file is how much the flusher reads and how much memory it takes, of which both followed the number of dirty blocks in engines that
// looked up and read each of them by itself (V-22, G-1).

// largeWrites writes n times 4 MiB through the log, 1,024 dirty blocks each: pieces of a cluster of 1 MiB that lacks one block, since whole
// clusters are placed.
func largeWrites(n int, volumeBlocks uint64, write func(block, blocks uint64)) {
	const cluster = 1 << 20 / PageBytes
	at := uint64(0)
	for range n {
		for left := uint64(1024); left > 0; {
			blocks := min(left, cluster-1)
			if at+cluster > volumeBlocks {
				at = 0
			}
			write(at, blocks)
			at += cluster
			left -= blocks
		}
	}
}

// TestTheFlusherReadsTheLogOnce: the bytes that are read are those of the log, on a fast and on a slow device, and the reactor lends no more
// memory for long runs of large records than for short ones.
func TestTheFlusherReadsTheLogOnce(t *testing.T) {
	for name, latency := range map[string]sim.Latency{
		"fast": {Read: [2]int64{20_000, 100_000}, Write: [2]int64{10_000, 60_000}, Flush: [2]int64{100_000, 800_000}},
		"slow": {Read: [2]int64{2_000_000, 10_000_000}, Write: [2]int64{2_000_000, 20_000_000}, Flush: [2]int64{10_000_000, 40_000_000}},
	} {
		t.Run(name, func(t *testing.T) {
			h := &house{t: t, w: bdevsim.NewWorld(t, 1, 1)}
			h.w.Options.Latency = latency
			h.disk = h.w.Disk("Disk0", 256<<20)
			cfg := h.config()
			cfg.ClusterBytes = 1 << 20
			var err error
			if h.pool, err = CreatePool(h.w.Registry, "Disk0", cfg); err != nil {
				t.Fatal(err)
			}
			v := h.volumeOf(VolumeConfig{Name: "v0", Bytes: 96 << 20, LogBytes: 32 << 20})
			medium := bdevsim.DiskOf(h.disk).Medium()
			k := h.client(v, 0)
			data := pageMemory(255)
			var peak, logged, read [2]uint64
			for part, writes := range []int{4, 48} { // 16 MiB, less than the log; then six times the log
				before := v.log.Stats().Bytes
				reads := medium.Counters().ReadBytes
				largeWrites(writes, v.page.Bytes/PageBytes, func(block, blocks uint64) {
					if block%2 == 0 {
						for {
							s := k.do(bdev.Write, block, blocks, data[:blocks*PageBytes])
							if s == bdev.StatusOK {
								break
							}
							if s != bdev.StatusBusy {
								t.Fatal(s)
							}
						}
					}
				})
				h.forced(v)
				logged[part], read[part] = v.log.Stats().Bytes-before, medium.Counters().ReadBytes-reads
				h.w.On(0, func(r *reactor.Reactor) { peak[part] = uint64(r.Memory().Stats().Peak) })
				if want := uint64(writes) * 4 << 20; logged[part] < want || logged[part] > want*11/10 {
					t.Fatalf("%d bytes were logged for %d written: not all of it went through the log", logged[part], want)
				}
				if read[part] < logged[part] || read[part] > logged[part]*101/100+64*PageBytes {
					t.Errorf("%d bytes were read to bring home %d of the log", read[part], logged[part])
				}
			}
			if peak[1] > peak[0] {
				t.Errorf("the reactor lent %d bytes at most, then %d", peak[0], peak[1])
			}
		})
	}
}

// residentBytes is how much memory the process has.
func residentBytes(t *testing.T) int {
	t.Helper()
	b, err := os.ReadFile("/proc/self/status")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(b)) {
		if rest, ok := strings.CutPrefix(line, "VmRSS:"); ok {
			n, err := strconv.Atoi(strings.Fields(rest)[0])
			if err != nil {
				t.Fatal(err)
			}
			return n << 10
		}
	}
	t.Fatal("the system does not say how much memory the process has")
	return 0
}

// TestMemoryIsFlatUnderLargeWrites: the same on a file with reactors that run. The ceiling is what is configured: the reactor's buffers, the
// cache of the map, the dirty map of the log (64 bytes for each of its blocks are generous), and 64 MiB for the program.
func TestMemoryIsFlatUnderLargeWrites(t *testing.T) {
	r := newRig(t)
	const logBytes = 32 << 20
	v, err := r.pool.CreateVolume(VolumeConfig{Name: "v0", Bytes: 64 << 20, LogBytes: logBytes, Cache: CacheVolatile})
	r.must(err)
	h, err := r.reg.Open(v.Device().Name(), bdev.OpenOptions{Who: "test"})
	r.must(err)
	defer h.Close()
	channels, err := h.Channels()
	r.must(err)
	defer bdev.CloseChannels(channels)
	q := &diskRequest{event: newEvent()}
	data := pageMemory(255)
	write := func(block, blocks uint64) {
		for {
			r.must(r.group.Reactor(0).Call(func() {
				q.Kind, q.Done, q.LBA, q.Blocks = bdev.Write, q, block, blocks
				q.SetData(data[:blocks*PageBytes])
				channels[0].Submit(&q.Request)
			}))
			if <-q.done; q.s == bdev.StatusOK {
				return
			} else if q.s != bdev.StatusBusy {
				t.Fatal(q.s)
			}
		}
	}
	before := residentBytes(t)
	// The rig's clusters have 64 KiB: writes of 15 blocks of each go through the log, one record each.
	through := func(n int) {
		for i := range n * 1024 / 15 {
			write(uint64(i%(64<<20/PageBytes/16)*16), 15)
		}
	}
	through(16) // 64 MiB: each structure was used once
	early := residentBytes(t)
	through(96) // 384 MiB
	late := residentBytes(t)
	r.must(r.group.Reactor(0).Call(q.Release))
	const flat = 24 << 20
	if late > early+flat {
		t.Errorf("%d bytes resident, and %d after six times as much: it grows with what is written", early, late)
	}
	ceiling := before + 64<<20 + int(r.config().CacheBytes) + logBytes/PageBytes*64 + 64<<20
	if late > ceiling {
		t.Errorf("%d bytes resident; %d before, and what is configured allows %d", late, before, ceiling)
	}
	t.Logf("resident: %d before, %d after 64 MiB, %d after 448 MiB", before, early, late)
}
