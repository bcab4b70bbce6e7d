package ktrace

import (
	"fmt"
	"math"
	"slices"
	"sort"
)

// This file reads what was counted, and gives names to it.

// Report is what was seen from Start on.
type Report struct {
	Missing     []Missing      `json:"missing,omitempty" doc:"what this kernel, or who looked, could not see"`
	Ring        []Operation    `json:"io_uring" doc:"operations of the engine's rings"`
	Block       []Operation    `json:"block" doc:"requests to block devices that the engine's threads issued"`
	Threads     []ThreadReport `json:"threads" doc:"of reactors"`
	Lost        uint64         `json:"lost" doc:"operations and requests that were not watched, since too many were under way"`
	Retransmits *uint64        `json:"tcp_retransmits,omitempty" doc:"segments that were sent again to hosts"`
}

// Operation is one kind of operation.
type Operation struct {
	Name      string `json:"name"`
	Submitted uint64 `json:"submitted"`
	Times     Times  `json:"times" doc:"from submission to completion"`
	Punted    *Times `json:"punted,omitempty" doc:"of them those that were given to a thread of io-wq, since they could not be done at once"`
	Ready     *Times `json:"ready,omitempty" doc:"of those that waited for their socket, from when it was ready to completion"`
}

// ThreadReport is how one thread fared.
type ThreadReport struct {
	Index int         `json:"index" doc:"among those that were asked for"`
	Taken Times       `json:"taken" doc:"while it wanted to run, another thread had its processor"`
	Woken Times       `json:"woken" doc:"from when it was woken until it ran"`
	Soft  []Operation `json:"softirq" doc:"while it ran, the kernel served interrupts in its place"`
}

// Times are a distribution: count and sum exact, all else within an eighth.
type Times struct {
	Count   uint64   `json:"count"`
	SumNS   uint64   `json:"sum_ns"`
	MeanNS  uint64   `json:"mean_ns"`
	P50NS   uint64   `json:"p50_ns"`
	P99NS   uint64   `json:"p99_ns"`
	MaxNS   uint64   `json:"max_ns"`
	Buckets []Bucket `json:"buckets,omitempty"`
}

// Bucket counts times up to a border.
type Bucket struct {
	UpToNS float64 `json:"up_to_ns"`
	Count  uint64  `json:"count"`
}

// Read detaches everything and adds up what was counted: with the programs at work, one counter would be read earlier than the other.
func (x *Trace) Read() (*Report, error) {
	x.detach()
	all := map[uint32]map[uint32]uint64{} // by series, then bucket
	var key uint32
	var n uint64
	entries := x.maps.counts.Iterate()
	for entries.Next(&key, &n) {
		series := key >> seriesShift
		if all[series] == nil {
			all[series] = map[uint32]uint64{}
		}
		all[series][key&(1<<seriesShift-1)] = n
	}
	if err := entries.Err(); err != nil {
		return nil, fmt.Errorf("read what the kernel counted: %w", err)
	}
	r := &Report{Missing: x.Missing, Ring: []Operation{}, Block: []Operation{}, Threads: []ThreadReport{}}
	times := func(series int) Times { return timesOf(all[uint32(series)]) }
	for i := range opsMax {
		op := Operation{Name: ringName(i), Submitted: all[uint32(seriesRing+i)][bucketCount], Times: times(seriesRing + i)}
		if t := times(seriesPunted + i); t.Count > 0 {
			op.Punted = &t
		}
		if t := times(seriesReady + i); t.Count > 0 {
			op.Ready = &t
		}
		if op.Submitted > 0 {
			r.Ring = append(r.Ring, op)
		}
		op = Operation{Name: blockName(i), Submitted: all[uint32(seriesBlock+i)][bucketCount], Times: times(seriesBlock + i)}
		if op.Submitted > 0 {
			r.Block = append(r.Block, op)
		}
	}
	for i := range x.threads {
		t := ThreadReport{Index: i, Taken: times(seriesTaken + i), Woken: times(seriesWoken + i), Soft: []Operation{}}
		for v := range vectorsMax {
			if s := times(seriesSoft + i*vectorsMax + v); s.Count > 0 {
				t.Soft = append(t.Soft, Operation{Name: softName(v), Submitted: s.Count, Times: s})
			}
		}
		r.Threads = append(r.Threads, t)
	}
	r.Lost = all[seriesLost][bucketCount]
	if x.attached["tcp_retransmit_skb"] {
		n := all[seriesRetrans][bucketCount]
		r.Retransmits = &n
	}
	for _, list := range [][]Operation{r.Ring, r.Block} {
		sort.SliceStable(list, func(i, j int) bool { return list[i].Submitted > list[j].Submitted })
	}
	return r, nil
}

// border is the largest value of a bucket.
func border(bucket uint32) float64 {
	e, m := bucket>>3, bucket&7
	return math.Ceil(math.Ldexp(1+float64(m+1)/8, int(e))) - 1
}

// timesOf makes a distribution of a series.
func timesOf(counts map[uint32]uint64) (t Times) {
	var buckets []uint32
	for b, n := range counts {
		if b < bucketCount {
			buckets = append(buckets, b)
			t.Count += n
		}
	}
	if t.Count == 0 {
		return t
	}
	slices.Sort(buckets)
	t.SumNS = counts[bucketSum]
	t.MeanNS = t.SumNS / t.Count
	var up uint64
	for _, b := range buckets {
		up += counts[b]
		at := uint64(border(b))
		if t.P50NS == 0 && 2*up >= t.Count {
			t.P50NS = at
		}
		if t.P99NS == 0 && 100*up >= 99*t.Count {
			t.P99NS = at
		}
		t.MaxNS = at
		t.Buckets = append(t.Buckets, Bucket{UpToNS: border(b), Count: counts[b]})
	}
	return t
}

// ringNames are the opcodes that the engine uses; include/uapi/linux/io_uring.h, enum io_uring_op.
var ringNames = map[int]string{
	0: "nop", 1: "readv", 2: "writev", 3: "fsync", 4: "read_fixed", 5: "write_fixed", 6: "poll_add", 7: "poll_remove", 8: "sync_file_range", 9: "sendmsg",
	10: "recvmsg", 11: "timeout", 12: "timeout_remove", 13: "accept", 14: "async_cancel", 15: "link_timeout", 16: "connect", 17: "fallocate", 19: "close",
	20: "files_update", 22: "read", 23: "write", 26: "send", 27: "recv", 34: "shutdown", 40: "msg_ring", 46: "uring_cmd", 47: "send_zc", 48: "sendmsg_zc",
}

func ringName(op int) string {
	if n, ok := ringNames[op]; ok {
		return n
	}
	return fmt.Sprintf("opcode %d", op)
}

// blockNames: include/linux/blk_types.h, enum req_op.
var blockNames = map[int]string{0: "read", 1: "write", 2: "flush", 3: "discard", 5: "secure_erase", 9: "write_zeroes"}

func blockName(op int) string {
	if n, ok := blockNames[op]; ok {
		return n
	}
	return fmt.Sprintf("operation %d", op)
}

// softNames: include/linux/interrupt.h, the vectors from HI_SOFTIRQ on; as /proc/softirqs shows them.
var softNames = [...]string{"hi", "timer", "net_tx", "net_rx", "block", "irq_poll", "tasklet", "sched", "hrtimer", "rcu"}

func softName(v int) string {
	if v < len(softNames) {
		return softNames[v]
	}
	return fmt.Sprintf("vector %d", v)
}
