package bench

import (
	"context"
	"fmt"
	"io"
)

// CheckOptions say how long a check takes.
type CheckOptions struct {
	Size     uint64  // of the region that is written and read back; the device's size if that is less
	Seconds  float64 // of each measurement
	Reporter Reporter
}

// Check shows that a device keeps what it is given, and how fast it is: it fills a region, overwrites it at random while
// reading, reads all of it back, then measures. What is on the device is lost. It tells a person on w what it found.
func Check(ctx context.Context, t Target, o CheckOptions, w io.Writer) error {
	if d := t.Describe(); o.Size == 0 || o.Size > d.SizeBytes {
		o.Size = d.SizeBytes
	}
	const piece = 128 << 10
	o.Size = max(o.Size/piece*piece, piece)
	fill := Workload{RW: "write", BlockBytes: piece, Depth: 16, Jobs: 1, Size: o.Size, Seed: 1, Verify: true}
	mix := Workload{RW: "randrw", ReadPercent: 50, BlockBytes: 4096, Depth: 32, Jobs: 1, Size: o.Size, Seed: 2, Verify: true, RuntimeSeconds: o.Seconds}
	filled, err := t.Run(ctx, fill, Options{Label: "fill", Reporter: o.Reporter, NoReadBack: true})
	if err != nil {
		return err
	}
	mixed, err := t.Run(ctx, mix, Options{Label: "overwrite", Reporter: o.Reporter, State: filled.State()})
	if err != nil {
		return err
	}
	fmt.Fprintf(w, "verified  %s written, then overwritten at random; %s blocks read back, every one right\n",
		FormatBytes(o.Size), number(float64(mixed.Verify.Blocks)))
	fmt.Fprintf(w, "%-42s %9s IOPS %8s MiB/s\n", "fill      128 KiB in sequence, 16 in flight", number(filled.Total.IOPS), number(filled.Total.BytesPerSecond/(1<<20)))
	for _, m := range []struct {
		text, rw string
		depth    int
	}{
		{"read      4 KiB at random, 1 in flight", "randread", 1},
		{"read      4 KiB at random, 32 in flight", "randread", 32},
		{"write     4 KiB at random, 32 in flight", "randwrite", 32},
	} {
		load := Workload{RW: m.rw, BlockBytes: 4096, Depth: m.depth, Jobs: 1, Size: o.Size, Seed: 3, RuntimeSeconds: o.Seconds, RampSeconds: o.Seconds / 10}
		run, err := t.Run(ctx, load, Options{Label: load.Name(), Reporter: o.Reporter})
		if err != nil {
			return err
		}
		l := run.Total.Latency
		fmt.Fprintf(w, "%-42s %9s IOPS   average %s µs, half under %s µs, 99 %% under %s µs\n", m.text, number(run.Total.IOPS), micros(l.Mean), micros(l.P50), micros(l.P99))
	}
	return nil
}

// CheckMemory is the memory that a check needs of one reactor.
func CheckMemory() int {
	return MemoryFor(&Workload{BlockBytes: 128 << 10, Depth: 32, Jobs: 1, Verify: true}, 1)
}
