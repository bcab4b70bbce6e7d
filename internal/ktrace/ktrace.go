// Package ktrace looks from outside at what the kernel does for one process: operations of its io_urings from submission to completion,
// requests of block devices from issue to completion, and what keeps some of its threads from running.
//
// The model: small eBPF programs on tracepoints, one for each event, which are assembled here when they are needed. They count times in
// histograms in the kernel; nothing is sent for each event. Start attaches what the kernel allows, Read ends that and adds up, Close forgets
// it. What could not be attached is named with the reason, and all else works without it.
//
// Invariants
//   - No layout of the kernel is taken from memory: the arguments of each tracepoint and the members that are read are looked up in the
//     kernel's own type information (BTF), and a tracepoint that has others than are expected is not attached.
//   - When the process that called Start ends, in whatever way, the kernel drops the programs: they are held by descriptors only.
//   - An event costs the watched process a few hundred nanoseconds while a trace runs, and nothing before and after.
//
// Units: nanoseconds. Buckets are an eighth of a power of two wide.
//
// It knows nothing of the engine: who calls it says which process, which threads and which ports.
package ktrace

import (
	"errors"
	"fmt"
	"os"
	"slices"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/btf"
	"github.com/cilium/ebpf/link"
	"github.com/cilium/ebpf/rlimit"
)

// Target is what is watched.
type Target struct {
	PID     int
	Threads []int    // whose time on the processor is watched, at most ThreadsMax; TIDs
	Ports   []uint16 // local TCP ports whose retransmissions are counted, at most portsMax
}

// ThreadsMax bounds the threads.
const ThreadsMax = 64

const portsMax = 256

// Missing is a part that could not be had.
type Missing struct {
	What string `json:"what"`
	Why  string `json:"why"`
}

// Trace is what is attached.
type Trace struct {
	Missing []Missing

	maps     maps
	links    []link.Link
	attached map[string]bool // by tracepoint
	threads  int
}

// maps are shared by all programs.
type maps struct {
	counts  *ebpf.Map // by series and bucket
	began   *ebpf.Map // what is under way, by the address of its request
	threads *ebpf.Map // index of a thread by its TID
	states  *ebpf.Map // of a thread by its index
	ports   *ebpf.Map
}

// initPIDNamespace is the inode of the first PID namespace; include/linux/proc_ns.h, PROC_PID_INIT_INO.
const initPIDNamespace = "pid:[4026531836]"

// Start attaches to the kernel. Where nothing at all can be attached it gives an error that says why.
func Start(t Target) (*Trace, error) {
	mine, err := os.Readlink("/proc/self/ns/pid")
	if err != nil {
		return nil, fmt.Errorf("watch the kernel: %w", err)
	}
	theirs, err := os.Readlink(fmt.Sprintf("/proc/%d/ns/pid", t.PID))
	if err != nil {
		return nil, fmt.Errorf("watch the kernel: process %d is not to be seen from here: %w", t.PID, err)
	}
	if mine != initPIDNamespace || theirs != mine {
		return nil, errors.New("watch the kernel: process numbers here are not those of the kernel; run this outside of containers, where the engine runs outside too")
	}
	types, err := btf.LoadKernelSpec()
	if err != nil {
		return nil, fmt.Errorf("watch the kernel: it tells nothing of its types (CONFIG_DEBUG_INFO_BTF): %w", err)
	}
	_ = rlimit.RemoveMemlock() // kernels before 5.11 count maps against it; later ones need nothing
	x := &Trace{attached: map[string]bool{}, threads: min(len(t.Threads), ThreadsMax)}
	if err := x.makeMaps(t); err != nil {
		x.Close()
		return nil, fmt.Errorf("watch the kernel: %w (root may, or who has CAP_BPF and CAP_PERFMON)", err)
	}
	for _, p := range programs(types, t) {
		x.attach(p)
	}
	if len(x.links) == 0 {
		x.Close()
		return nil, fmt.Errorf("watch the kernel: no tracepoint could be attached to; %s: %s", x.Missing[0].What, x.Missing[0].Why)
	}
	return x, nil
}

func (x *Trace) makeMaps(t Target) error {
	var err error
	for _, m := range []struct {
		to   **ebpf.Map
		spec ebpf.MapSpec
	}{
		{&x.maps.counts, ebpf.MapSpec{Name: "pollux_counts", Type: ebpf.Hash, KeySize: 4, ValueSize: 8, MaxEntries: 1 << 15}},
		{&x.maps.began, ebpf.MapSpec{Name: "pollux_began", Type: ebpf.Hash, KeySize: 8, ValueSize: beganBytes, MaxEntries: 1 << 14}},
		{&x.maps.threads, ebpf.MapSpec{Name: "pollux_threads", Type: ebpf.Hash, KeySize: 4, ValueSize: 4, MaxEntries: ThreadsMax}},
		{&x.maps.states, ebpf.MapSpec{Name: "pollux_states", Type: ebpf.Array, KeySize: 4, ValueSize: stateBytes, MaxEntries: ThreadsMax}},
		{&x.maps.ports, ebpf.MapSpec{Name: "pollux_ports", Type: ebpf.Hash, KeySize: 4, ValueSize: 4, MaxEntries: portsMax}},
	} {
		if *m.to, err = ebpf.NewMap(&m.spec); err != nil {
			return fmt.Errorf("making the map %s: %w", m.spec.Name, err)
		}
	}
	for i, tid := range t.Threads[:x.threads] {
		if err := x.maps.threads.Put(uint32(tid), uint32(i)); err != nil {
			return fmt.Errorf("naming thread %d: %w", tid, err)
		}
	}
	for _, port := range t.Ports[:min(len(t.Ports), portsMax)] {
		if err := x.maps.ports.Put(uint32(port), uint32(1)); err != nil {
			return fmt.Errorf("naming port %d: %w", port, err)
		}
	}
	return nil
}

// attach loads a program and ties it to its tracepoint, or notes why not.
func (x *Trace) attach(p program) {
	miss := func(err error) { x.Missing = append(x.Missing, Missing{What: p.what, Why: err.Error()}) }
	if p.err != nil {
		miss(p.err)
		return
	}
	prog, err := ebpf.NewProgram(&ebpf.ProgramSpec{
		Name: "pollux_trace", Type: ebpf.Tracing, AttachType: ebpf.AttachTraceRawTp, AttachTo: p.tracepoint, Instructions: p.assemble(&x.maps), License: license,
	})
	if err != nil {
		miss(fmt.Errorf("loading a program for the tracepoint %s: %w", p.tracepoint, err))
		return
	}
	defer prog.Close() // the link holds it
	l, err := link.AttachTracing(link.TracingOptions{Program: prog, AttachType: ebpf.AttachTraceRawTp})
	if err != nil {
		miss(fmt.Errorf("attaching to the tracepoint %s: %w", p.tracepoint, err))
		return
	}
	x.links = append(x.links, l)
	x.attached[p.tracepoint] = true
}

// license is that of the programs in this package alone, which the kernel asks for before it lets them read its structures: they may be
// taken under the MIT licence or the GPL, whatever holds for the rest.
const license = "Dual MIT/GPL"

// detach ends the watching, of beginnings before that of ends.
func (x *Trace) detach() {
	for _, l := range slices.Backward(x.links) {
		_ = l.Close()
	}
	x.links = nil
}

// Close detaches everything and forgets what was counted. Closing twice is harmless.
func (x *Trace) Close() {
	x.detach()
	for _, m := range []**ebpf.Map{&x.maps.counts, &x.maps.began, &x.maps.threads, &x.maps.states, &x.maps.ports} {
		if *m != nil {
			_ = (*m).Close()
			*m = nil
		}
	}
}
