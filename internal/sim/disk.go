package sim

import (
	"fmt"
	"hash/crc32"
	"math/rand/v2"

	"github.com/pollux-storage/pollux/internal/invariant"
)

// Kind is what an operation does.
type Kind uint8

// The kinds.
const (
	Read Kind = iota
	Write
	Zeroes
	Unmap // reads as zeros afterwards
	Flush
	kinds
)

var kindNames = [kinds]string{"read", "write", "zeroes", "unmap", "flush"}

// String names the kind.
func (k Kind) String() string { return kindNames[k] }

// Result is how an operation ended.
type Result uint8

// The results.
const (
	OK Result = iota
	Failed
)

// Op is one operation. It is part of its owner, who leaves it alone from Submit to Complete or Drop, and may use it again.
type Op struct {
	Kind        Kind
	FUA         bool
	LBA, Blocks uint64
	Data        [][]byte // of a read or write: Blocks of them
	Owner       Owner    // hears of the end of being stuck; needed only where that fault is used

	number  uint64
	flying  bool
	lost    bool // the power failed while it was in flight
	fails   bool
	without bool // and has no effect
	covers  uint64
	writes  []extent
	flips   []uint64 // of a read: bits of the data
	stuckBy *Injected
	delay   int64
}

// Owner hears that an operation that was stuck will complete after all, delay from now on.
type Owner interface{ Unstuck(op *Op, delay int64) }

// extent is sectors that one write changes.
type extent struct {
	write    uint64 // number of its operation
	done     uint64 // how many writes had completed when it did, itself included; 0 while it is in flight
	first, n uint64
	data     []byte // nil: zeros. Never altered
}

// Config is the shape of a disk.
type Config struct {
	Name      string // for the trace
	Seed      uint64
	BlockSize uint32 // 512 or 4096; 0 is 4096
	Blocks    uint64
	Durable   bool // it has no volatile cache: a write is durable when it completes
	Latency   Latency
	Trace     *Trace // where it tells what it does; nil for nowhere
}

// Latency is how long operations take: evenly spread from the first to the second number, but for one in 32, which takes eight times as
// long. The zero value is that of a fast SSD.
type Latency struct{ Read, Write, Flush [2]int64 }

var fastSSD = Latency{Read: [2]int64{20_000, 100_000}, Write: [2]int64{10_000, 60_000}, Flush: [2]int64{100_000, 800_000}}

// Counters count what came and what is there.
type Counters struct {
	Ops, Failed             [kinds]uint64
	ReadBytes, WrittenBytes uint64 // of reads and writes that did not fail
	FUA                     uint64
}

// Disk is a disk. It belongs to one goroutine at a time.
type Disk struct {
	cfg     Config
	sectors uint64
	perLBA  uint64 // sectors in a block
	now     store  // what is read
	durable store
	pending []extent // completed and not durable, in the order of completion
	flying  []*Op    // submitted and not completed, in that order

	submitted uint64
	completed uint64 // writes
	faults    []*Injected
	times     *rand.Rand
	chances   *rand.Rand // of faults
	watch     func(Point)
	counters  Counters
}

// New makes a disk of zeros.
func New(cfg Config) (*Disk, error) {
	if cfg.BlockSize == 0 {
		cfg.BlockSize = 4096
	}
	if cfg.BlockSize != 512 && cfg.BlockSize != 4096 || cfg.Blocks == 0 || cfg.Blocks > 1<<40 {
		return nil, fmt.Errorf("making a disk of %d blocks of %d bytes: a block has 512 or 4096, and there are 1 to 2^40", cfg.Blocks, cfg.BlockSize)
	}
	if cfg.Latency == (Latency{}) {
		cfg.Latency = fastSSD
	}
	d := &Disk{cfg: cfg, perLBA: uint64(cfg.BlockSize / SectorBytes)}
	d.sectors = cfg.Blocks * d.perLBA
	d.now, d.durable = newStore(d.sectors), newStore(d.sectors)
	d.times, d.chances = Stream(cfg.Seed, "times of "+cfg.Name), Stream(cfg.Seed, "faults of "+cfg.Name)
	return d, nil
}

// Config is what it was made from.
func (d *Disk) Config() Config { return d.cfg }

// Counters gives them as they stand.
func (d *Disk) Counters() Counters { return d.counters }

// Stage is where in its life an operation is.
type Stage uint8

// The stages.
const (
	Submitted Stage = iota
	Completed
)

// Point is an instant at which what a power failure could leave has changed, or is about to be told to the owner of an operation.
type Point struct {
	Stage       Stage
	Kind        Kind
	FUA, Failed bool
	LBA, Blocks uint64
	Number      uint64 // of the operation, from 1
}

// String says it.
func (p Point) String() string {
	return fmt.Sprintf("%s %d %s (%d blocks at %d)", kindNames[p.Kind], p.Number, [...]string{"submitted", "completed"}[p.Stage], p.Blocks, p.LBA)
}

// Watch lets f hear of every point of writes and flushes, after it took effect on the disk and before anybody else hears: the place
// to take images. nil ends it.
func (d *Disk) Watch(f func(Point)) { d.watch = f }

func (d *Disk) point(now int64, s Stage, op *Op) {
	what := kindNames[op.Kind]
	var sum uint64
	if s == Completed {
		what += " done"
		if op.Kind == Read && !op.fails {
			for _, b := range op.Data {
				sum = mix(sum, uint64(crc32.ChecksumIEEE(b)))
			}
		}
		if op.fails {
			what += " failed"
		}
	} else {
		for _, e := range op.writes {
			sum = mix(mix(sum, e.first), uint64(crc32.ChecksumIEEE(e.data)))
		}
	}
	d.cfg.Trace.Add(now, d.cfg.Name, what, op.number, op.LBA, op.Blocks)
	if sum != 0 {
		d.cfg.Trace.fold(sum)
	}
	if d.watch != nil && op.Kind != Read {
		d.watch(Point{s, op.Kind, op.FUA, op.fails, op.LBA, op.Blocks, op.number})
	}
}

// Never is the delay of an operation that is stuck.
const Never = -1

// Submit begins op, and gives the time after which Complete is due. Writes are copied: what becomes of the memory makes no difference.
func (d *Disk) Submit(now int64, op *Op) (delay int64) {
	invariant.Check(!op.flying, "sim: operation submitted twice")
	if op.Kind == Flush {
		op.LBA, op.Blocks = 0, 0
	}
	invariant.Check(op.LBA <= d.cfg.Blocks && op.Blocks <= d.cfg.Blocks-op.LBA, "sim: operation past the end of the disk")
	d.submitted++
	op.number, op.covers, op.flying = d.submitted, d.completed, true
	op.lost, op.fails, op.without, op.writes, op.flips, op.stuckBy = false, false, false, nil, op.flips[:0], nil
	d.counters.Ops[op.Kind]++
	if op.FUA {
		d.counters.FUA++
	}
	switch op.Kind {
	case Write:
		data := make([]byte, 0, op.Blocks*d.perLBA*SectorBytes)
		for _, b := range op.Data {
			data = append(data, b...)
		}
		invariant.Check(len(data) == cap(data), "sim: a write's data is not what its blocks hold")
		op.writes = []extent{{write: op.number, first: op.LBA * d.perLBA, n: op.Blocks * d.perLBA, data: data}}
	case Zeroes, Unmap:
		op.writes = []extent{{write: op.number, first: op.LBA * d.perLBA, n: op.Blocks * d.perLBA}}
	}
	op.delay = d.draw(op.Kind)
	d.applyFaults(op)
	d.flying = append(d.flying, op)
	d.point(now, Submitted, op)
	if op.stuckBy != nil {
		return Never
	}
	return op.delay
}

// draw makes up how long an operation takes.
func (d *Disk) draw(k Kind) int64 {
	span := d.cfg.Latency.Write
	switch k {
	case Read:
		span = d.cfg.Latency.Read
	case Flush:
		span = d.cfg.Latency.Flush
	}
	t := span[0] + d.times.Int64N(span[1]-span[0]+1)
	if d.times.IntN(32) == 0 {
		t *= 8
	}
	return t
}

// Complete ends op: a read has its data, a write is readable, a flush has made durable what it covers.
func (d *Disk) Complete(now int64, op *Op) Result {
	d.land(op)
	if op.lost {
		return Failed
	}
	switch op.Kind {
	case Read:
		d.read(op)
	case Flush:
		if !op.fails {
			d.flush(op.covers)
		}
	default:
		d.write(op)
	}
	if op.fails {
		d.counters.Failed[op.Kind]++
	}
	d.point(now, Completed, op)
	op.writes = nil
	if op.fails {
		return Failed
	}
	return OK
}

// Drop takes back an operation that was submitted: as if it had not been, but that images taken meanwhile may hold some of it.
func (d *Disk) Drop(now int64, op *Op) {
	d.land(op)
	op.writes = nil
	d.cfg.Trace.Add(now, d.cfg.Name, "dropped", op.number, op.LBA, op.Blocks)
}

// land takes op out of those in flight.
func (d *Disk) land(op *Op) {
	invariant.Check(op.flying, "sim: completing an operation that is not in flight")
	op.flying, op.stuckBy = false, nil
	if op.lost {
		return
	}
	for i, o := range d.flying {
		if o == op {
			d.flying = append(d.flying[:i], d.flying[i+1:]...)
			return
		}
	}
	invariant.Check(false, "sim: an operation of another disk")
}

func (d *Disk) read(op *Op) {
	if op.fails {
		return
	}
	at := op.LBA * d.perLBA
	for _, b := range op.Data {
		d.now.read(at, b)
		at += uint64(len(b) / SectorBytes)
	}
	d.counters.ReadBytes += op.Blocks * d.perLBA * SectorBytes
	if op.FUA {
		d.settle(op.LBA*d.perLBA, op.Blocks*d.perLBA)
	}
	for _, bit := range op.flips {
		flip(op.Data, bit)
	}
}

func (d *Disk) write(op *Op) {
	d.completed++
	if op.without {
		return
	}
	for _, e := range op.writes {
		e.done = d.completed
		d.now.write(e.first, e.n, e.data)
		if op.FUA && !op.fails || d.cfg.Durable {
			d.settle(e.first, e.n)
		} else {
			d.pending = append(d.pending, e)
		}
	}
	if op.Kind == Write && !op.fails {
		d.counters.WrittenBytes += op.Blocks * d.perLBA * SectorBytes
	}
}

// flush makes durable the first covers writes that completed.
func (d *Disk) flush(covers uint64) {
	n := 0
	for ; n < len(d.pending) && d.pending[n].done <= covers; n++ {
		e := &d.pending[n]
		d.durable.write(e.first, e.n, e.data)
	}
	d.pending = d.pending[n:]
}

// settle makes durable what is read of a range now: nothing that is pending there can come after it.
func (d *Disk) settle(first, n uint64) {
	var b [sectorsPerPage * SectorBytes]byte
	for at, left := first, n; left > 0; {
		k := min(left, sectorsPerPage-at%sectorsPerPage)
		if d.now.page(at) == nil {
			d.durable.write(at, k, nil)
		} else {
			d.now.read(at, b[:k*SectorBytes])
			d.durable.write(at, k, b[:k*SectorBytes])
		}
		at += k
		left -= k
	}
	var kept []extent
	for _, e := range d.pending {
		kept = append(kept, e.without(first, n)...)
	}
	d.pending = kept
}

// without is what is left of e when the n sectors from first on are taken out.
func (e extent) without(first, n uint64) []extent {
	if first >= e.first+e.n || e.first >= first+n {
		return []extent{e}
	}
	var out []extent
	if first > e.first {
		out = append(out, e.part(0, first-e.first))
	}
	if end := first + n; end < e.first+e.n {
		out = append(out, e.part(end-e.first, e.first+e.n-end))
	}
	return out
}

// part is n sectors of e, from its i-th on.
func (e extent) part(i, n uint64) extent {
	e.first += i
	e.n = n
	if e.data != nil {
		e.data = e.data[i*SectorBytes:][:n*SectorBytes]
	}
	return e
}

// ReadAt fills b with what is read from a byte offset on, at once and without faults; offset and length are multiples of a sector.
func (d *Disk) ReadAt(b []byte, off uint64) { d.now.read(off/SectorBytes, b) }

// Spoil puts b on the medium at a byte offset, durably, as a defect would; offset and length are multiples of a sector.
func (d *Disk) Spoil(off uint64, b []byte) {
	n := uint64(len(b) / SectorBytes)
	d.now.write(off/SectorBytes, n, b)
	d.settle(off/SectorBytes, n)
}
