package bench

import (
	"context"
	"fmt"
)

// This file is what a request costs, counted and not timed: system calls into the ring, operations of the ring (receptions, sends, reads and
// writes of the disk), objects on the heap. One request at a time costs the same on any machine. With more of them in flight it depends on
// how many are found at once, which is what batches live by: there the limit is wide, and far below what it would be without batches.

// cost is what one request of a load may cost at the most.
type cost struct {
	rw     string
	bytes  uint64
	depth  int
	client engineCounts // whoever puts the load on
	engine engineCounts // that serves it; not of a local device
}

// costNumber is how many requests are counted over; one at a time takes long where the disk is slow.
func costNumber(depth int) uint64 { return uint64(min(1000*depth, 4000)) }

// Limits. With one request in flight they are what was found and a tenth; with more two or three times what was found.
var (
	uringCosts = []cost{
		{"randread", 4096, 1, engineCounts{2.2, 1.1}, engineCounts{}},
		{"randread", 4096, 32, engineCounts{0.25, 1.1}, engineCounts{}},
		{"randread", 4096, 128, engineCounts{0.15, 1.1}, engineCounts{}},
		{"randwrite", 4096, 1, engineCounts{2.2, 1.1}, engineCounts{}},
		{"randwrite", 4096, 32, engineCounts{0.25, 1.1}, engineCounts{}},
		{"randwrite", 4096, 128, engineCounts{0.15, 1.1}, engineCounts{}},
	}
	// A read is one of the disk. A write alone is one of the log, a flush, and one home; of many the log's are shared. Each takes two system calls,
	// or shares them: how many do goes by time (4.0 to 5.2 for a write were found), so that there the limit is that of none.
	volumeCosts = []cost{
		{"randread", 4096, 1, engineCounts{2.2, 1.1}, engineCounts{}},
		{"randread", 4096, 32, engineCounts{0.25, 1.1}, engineCounts{}},
		{"randread", 4096, 128, engineCounts{0.15, 1.1}, engineCounts{}},
		{"randwrite", 4096, 1, engineCounts{9, 4.5}, engineCounts{}},
		{"randwrite", 4096, 32, engineCounts{1, 1.5}, engineCounts{}},
		{"randwrite", 4096, 128, engineCounts{0.5, 1.4}, engineCounts{}},
	}
	// Over NVMe/TCP, of memory: one send and one reception at each end. So a write of 8 KiB travels with its command (requirement B-5): one that
	// was asked for first would take two of each.
	tcpCosts = []cost{
		{"randread", 4096, 1, engineCounts{2.2, 2.2}, engineCounts{2.2, 2.2}},
		{"randread", 4096, 32, engineCounts{0.5, 0.6}, engineCounts{0.5, 0.6}},
		{"randread", 4096, 128, engineCounts{0.3, 0.4}, engineCounts{0.3, 0.4}},
		{"randwrite", 4096, 1, engineCounts{2.2, 2.2}, engineCounts{2.2, 2.2}},
		{"randwrite", 4096, 32, engineCounts{0.5, 0.6}, engineCounts{0.5, 0.6}},
		{"randwrite", 4096, 128, engineCounts{0.3, 0.4}, engineCounts{0.3, 0.4}},
		{"randwrite", 8192, 1, engineCounts{2.2, 2.2}, engineCounts{2.2, 2.2}},
	}
)

// allocsMax is how many objects a request may cost at each end: what goes by time, and nothing that goes by requests or by batches of them.
const allocsMax = 0.02

func (c *cost) load() Workload {
	return Workload{RW: c.rw, BlockBytes: c.bytes, Depth: c.depth, Jobs: 1, Seed: 1, Number: costNumber(c.depth)}
}

// costs counts.
func (f *floors) costs(ctx context.Context) error {
	for _, c := range uringCosts {
		if err := f.localCost(ctx, f.local.uring, &c); err != nil {
			return err
		}
	}
	for _, c := range volumeCosts {
		if err := f.localCost(ctx, f.local.volume, &c); err != nil {
			return err
		}
	}
	for _, c := range tcpCosts {
		if err := f.remoteCost(ctx, f.remote.mem, &c); err != nil {
			return err
		}
	}
	return f.allocations(ctx)
}

// spent is what the requests of a run cost whoever put them.
func (r *Run) spent() (c engineCounts) {
	n := float64(r.Total.Ops)
	for _, x := range r.Reactors {
		c.enters += float64(x.Enters) / n
		c.operations += float64(x.Operations) / n
	}
	return c
}

// judgeCounts judges what was counted in several runs.
func judgeCounts(row, whose string, found []engineCounts, limit engineCounts) []Verdict {
	var enters, operations []float64
	for _, c := range found {
		enters, operations = append(enters, c.enters), append(operations, c.operations)
	}
	return []Verdict{
		judgeCost(row, "system calls"+whose, enters, limit.enters),
		judgeCost(row, "operations"+whose, operations, limit.operations),
	}
}

func (f *floors) localCost(ctx context.Context, t Target, c *cost) error {
	var found []engineCounts
	return f.again(func() ([]Verdict, error) {
		for range f.cfg.Rounds {
			run, err := t.Run(ctx, c.load(), Options{Warm: gateWarm})
			if err != nil {
				return nil, err
			}
			found = append(found, run.spent())
		}
		w := c.load()
		return judgeCounts(t.Name()+" "+w.Name(), "", found, c.client), nil
	})
}

func (f *floors) remoteCost(ctx context.Context, t served, c *cost) error {
	var clients, engines []engineCounts
	return f.again(func() ([]Verdict, error) {
		for range f.cfg.Rounds {
			run, engine, err := t.counted(ctx, c.load())
			if err != nil {
				return nil, err
			}
			clients, engines = append(clients, run.spent()), append(engines, engine)
		}
		w := c.load()
		row := t.Name() + " " + w.Name()
		return append(judgeCounts(row, ", client", clients, c.client), judgeCounts(row, ", engine", engines, c.engine)...), nil
	})
}

// allocNumber is how many requests allocations are counted over.
const allocNumber = 20000

// allocations counts the objects that both ends make, as the suite does. Nothing is asked of the engine meanwhile.
func (f *floors) allocations(ctx context.Context) error {
	for _, t := range []served{f.remote.mem, f.remote.volume} {
		for _, rw := range []string{"randread", "randwrite"} {
			w := Workload{RW: rw, BlockBytes: 4096, Depth: 32, Jobs: 1, Seed: 1, Number: allocNumber}
			var clients, engines []float64
			err := f.again(func() ([]Verdict, error) {
				row, err := allocRow(ctx, t.Rig, t.e, w)
				if err != nil {
					return nil, err
				}
				clients, engines = append(clients, row.Client), append(engines, row.Engine)
				f.report.Allocs = append(f.report.Allocs, row)
				return []Verdict{judgeCost(row.What, "objects, client", clients, allocsMax), judgeCost(row.What, "objects, engine", engines, allocsMax)}, t.e.rest(ctx)
			})
			if err != nil {
				return fmt.Errorf("counting allocations: %w", err)
			}
		}
	}
	return nil
}
