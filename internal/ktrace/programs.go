package ktrace

import (
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/btf"
)

// This file is the programs, one to a tracepoint.

// The series of counters.
const (
	opsMax = 64

	seriesRing    = 0                     // by opcode: operations of io_uring
	seriesPunted  = seriesRing + opsMax   // of them, those that were given to io-wq
	seriesReady   = seriesPunted + opsMax // from when their socket was found ready to their completion
	seriesBlock   = seriesReady + opsMax  // by operation: requests of block devices
	seriesTaken   = seriesBlock + opsMax  // by thread: its processor was taken by another
	seriesWoken   = seriesTaken + ThreadsMax
	seriesSoft    = seriesWoken + ThreadsMax // by thread and vector: the kernel served an interrupt in its place
	vectorsMax    = 16
	seriesRetrans = seriesSoft + ThreadsMax*vectorsMax
	seriesLost    = seriesRetrans + 1 // events that found no room
	seriesEnd     = seriesLost + 1
)

// program is one of them.
type program struct {
	what       string // it finds out
	tracepoint string
	code       func(c *coder) // what it does
	err        error          // why this kernel does not have it
}

// programs are all, for a kernel. Those that hear the end of something come before those that hear its beginning, so that no beginning is noted
// whose end was missed.
func programs(types *btf.Spec, t Target) []program {
	list := []program{
		ended(types, "completion of io_uring operations", 1, "", "io_uring_complete"), ended(types, "completion of block requests", 0, "request", "block_rq_complete"),
		ringPunt(types), ringReady(types), ringSubmit(types, t.PID), blockIssue(types, t.PID),
	}
	if len(t.Threads) > 0 {
		list = append(list, switched(types), woken(types), softEntry(types), softExit(types))
	}
	if len(t.Ports) > 0 {
		list = append(list, retransmitted(types))
	}
	return list
}

// fact is something looked up; the first one that is not there spoils the program.
func (p *program) fact(at int16, err error) int16 {
	if p.err == nil {
		p.err = err
	}
	return at
}

// on finds the program's tracepoint. Without one its arguments are not looked for.
func (p *program) on(types *btf.Spec, names ...string) *tracepoint {
	tp, err := findTracepoint(types, names...)
	if err != nil {
		p.err = err
		return &tracepoint{name: names[0]}
	}
	p.tracepoint = tp.name
	return tp
}

// starts is a program that notes the beginning of what its argument points to, in a series by a number in it.
func (p *program) starts(pid int, arg, member int16, size asm.Size, mask, series int32) {
	p.code = func(c *coder) {
		c.onlyProcess(pid)
		c.argument(asm.R7, arg)
		c.add(asm.LoadMem(asm.R8, asm.R7, member, size), asm.And.Imm(asm.R8, mask), asm.Add.Imm(asm.R8, series))
		c.add(asm.StoreMem(asm.R10, slotKey, asm.R7, asm.DWord))
		c.now()
		c.add(asm.StoreMem(asm.R10, slotValue, asm.R0, asm.DWord), asm.StoreMem(asm.R10, slotValue+beganSeries, asm.R8, asm.Word))
		c.add(asm.Mov.Imm(asm.R1, 0), asm.StoreMem(asm.R10, slotValue+beganFlags, asm.R1, asm.Word), asm.StoreMem(asm.R10, slotValue+beganReady, asm.R1, asm.DWord))
		c.update(c.m.began, slotKey, slotValue, 0)
		c.add(asm.Mov.Reg(asm.R7, asm.R0))
		c.series(asm.R8, 0)
		c.count()
		c.add(asm.JEq.Imm(asm.R7, 0, "exit"))
		c.add(asm.Mov.Imm(asm.R8, 0))
		c.series(asm.R8, seriesLost)
		c.count()
	}
}

// ringSubmit notes operations that the process submits.
func ringSubmit(types *btf.Spec, pid int) program {
	p := program{what: "submission of io_uring operations"}
	tp := p.on(types, "io_uring_submit_req", "io_uring_submit_sqe")
	p.starts(pid, p.fact(tp.pointer(0, "io_kiocb")), p.fact(member(types, "io_kiocb", "opcode", 1)), asm.Byte, opsMax-1, seriesRing)
	return p
}

// blockIssue notes requests that the process gives to a device, by itself or by a worker thread of its own.
func blockIssue(types *btf.Spec, pid int) program {
	p := program{what: "issue of block requests"}
	tp := p.on(types, "block_rq_issue")
	// include/linux/blk_types.h, REQ_OP_MASK is 8 bits; the operations that there are fit opsMax.
	p.starts(pid, p.fact(tp.pointer(0, "request")), p.fact(member(types, "request", "cmd_flags", 4)), asm.Word, opsMax-1, seriesBlock)
	return p
}

// ended counts the time of what began, if it was noted.
func ended(types *btf.Spec, what string, arg int, structure string, names ...string) program {
	p := program{what: what}
	at := p.fact(p.on(types, names...).pointer(arg, structure))
	p.code = func(c *coder) {
		c.underWay(at)
		c.add(asm.LoadMem(asm.R7, asm.R0, 0, asm.DWord), asm.LoadMem(asm.R8, asm.R0, beganSeries, asm.Word))
		for i := int16(0); i < beganBytes; i += 8 { // it is another's as soon as it is deleted
			c.add(asm.LoadMem(asm.R1, asm.R0, i, asm.DWord), asm.StoreMem(asm.R10, slotValue+i, asm.R1, asm.DWord))
		}
		c.add(asm.LoadMapPtr(asm.R1, c.m.began.FD()), asm.Mov.Reg(asm.R2, asm.R10), asm.Add.Imm(asm.R2, slotKey), asm.FnMapDeleteElem.Call())
		c.now()
		c.add(asm.StoreMem(asm.R10, slotKey, asm.R0, asm.DWord))
		c.since(asm.R7)
		c.series(asm.R8, 0)
		c.record()
		c.add(asm.LoadMem(asm.R1, asm.R10, slotValue+beganFlags, asm.Word), asm.And.Imm(asm.R1, flagPunted), asm.JEq.Imm(asm.R1, 0, "willing"))
		c.series(asm.R8, seriesPunted-seriesRing)
		c.record()
		c.mark("willing")
		c.add(asm.LoadMem(asm.R1, asm.R10, slotValue+beganReady, asm.DWord), asm.JEq.Imm(asm.R1, 0, "exit"))
		c.add(asm.LoadMem(asm.R0, asm.R10, slotKey, asm.DWord))
		c.since(asm.R1)
		c.series(asm.R8, seriesReady-seriesRing)
		c.record()
	}
	return p
}

// ringPunt notes that an operation was given to io-wq.
func ringPunt(types *btf.Spec) program {
	p := program{what: "operations given to io-wq"}
	at := p.fact(p.on(types, "io_uring_queue_async_work").pointer(0, "io_kiocb"))
	p.code = func(c *coder) {
		c.underWay(at)
		c.add(asm.Mov.Imm(asm.R1, flagPunted), asm.StoreMem(asm.R0, beganFlags, asm.R1, asm.Word))
	}
	return p
}

// ringReady notes that the socket of an operation that waited has become ready. The first time counts.
func ringReady(types *btf.Spec) program {
	p := program{what: "sockets found ready"}
	at := p.fact(p.on(types, "io_uring_task_add").pointer(0, "io_kiocb"))
	p.code = func(c *coder) {
		c.underWay(at)
		c.add(asm.LoadMem(asm.R1, asm.R0, beganReady, asm.DWord), asm.JNE.Imm(asm.R1, 0, "exit"), asm.Mov.Reg(asm.R7, asm.R0))
		c.now()
		c.add(asm.StoreMem(asm.R7, beganReady, asm.R0, asm.DWord))
	}
	return p
}

// switched counts for how long another had the processor of a thread that wanted to run, and how long one that was woken waited for it.
func switched(types *btf.Spec) program {
	p := program{what: "time taken from reactors"}
	tp := p.on(types, "sched_switch")
	preempt, prev, next := p.fact(tp.number(0)), p.fact(tp.pointer(1, "task_struct")), p.fact(tp.pointer(2, "task_struct"))
	state := p.fact(tp.number(3)) // since Linux 5.18
	pid := p.fact(member(types, "task_struct", "pid", 4))
	p.code = func(c *coder) {
		c.argument(asm.R7, prev)
		c.add(asm.LoadMem(asm.R7, asm.R7, pid, asm.Word))
		c.thread(asm.R7, "next")
		c.argument(asm.R1, preempt)
		c.add(asm.JNE.Imm(asm.R1, 0, "taken"))
		c.argument(asm.R1, state)
		c.add(asm.JNE.Imm(asm.R1, 0, "next")) // TASK_RUNNING is 0; all else waits for something
		c.mark("taken")
		c.stamp(stateTaken, "next")
		c.mark("next")
		c.argument(asm.R7, next)
		c.add(asm.LoadMem(asm.R7, asm.R7, pid, asm.Word))
		c.thread(asm.R7, "exit")
		c.add(asm.Mov.Reg(asm.R7, asm.R0))
		c.lookup(c.m.states, slotIndex, "exit")
		c.add(asm.Mov.Reg(asm.R8, asm.R0))
		for i, s := range []struct {
			at     int16
			series int32
		}{{stateTaken, seriesTaken}, {stateWoken, seriesWoken}} {
			none := [...]string{"untaken", "unwoken"}[i]
			c.add(asm.LoadMem(asm.R1, asm.R8, s.at, asm.DWord), asm.JEq.Imm(asm.R1, 0, none), asm.StoreMem(asm.R10, slotKey, asm.R1, asm.DWord))
			c.add(asm.Mov.Imm(asm.R1, 0), asm.StoreMem(asm.R8, s.at, asm.R1, asm.DWord))
			c.now()
			c.add(asm.LoadMem(asm.R1, asm.R10, slotKey, asm.DWord))
			c.since(asm.R1)
			c.series(asm.R7, s.series)
			c.record()
			c.mark(none)
		}
	}
	return p
}

// woken notes that a thread that slept wants to run.
func woken(types *btf.Spec) program {
	p := program{what: "waiting of reactors for their processor after they were woken"}
	at, pid := p.fact(p.on(types, "sched_wakeup").pointer(0, "task_struct")), p.fact(member(types, "task_struct", "pid", 4))
	p.code = func(c *coder) {
		c.argument(asm.R7, at)
		c.add(asm.LoadMem(asm.R7, asm.R7, pid, asm.Word))
		c.thread(asm.R7, "exit")
		c.stamp(stateWoken, "exit")
	}
	return p
}

const softWhat = "time that the kernel serves interrupts in the place of reactors"

// softEntry notes that the kernel begins to serve an interrupt where a thread runs.
func softEntry(types *btf.Spec) program {
	p := program{what: softWhat}
	p.fact(p.on(types, "softirq_entry").number(0))
	p.code = func(c *coder) {
		c.add(asm.FnGetCurrentPidTgid.Call())
		c.thread(asm.R0, "exit")
		c.stamp(stateSoft, "exit")
	}
	return p
}

// softExit counts how long it took.
func softExit(types *btf.Spec) program {
	p := program{what: softWhat}
	vector := p.fact(p.on(types, "softirq_exit").number(0))
	p.code = func(c *coder) {
		c.add(asm.FnGetCurrentPidTgid.Call())
		c.thread(asm.R0, "exit")
		c.add(asm.Mov.Reg(asm.R7, asm.R0))
		c.lookup(c.m.states, slotIndex, "exit")
		c.add(asm.LoadMem(asm.R8, asm.R0, stateSoft, asm.DWord), asm.JEq.Imm(asm.R8, 0, "exit"))
		c.add(asm.Mov.Imm(asm.R1, 0), asm.StoreMem(asm.R0, stateSoft, asm.R1, asm.DWord))
		c.now()
		c.since(asm.R8)
		c.argument(asm.R1, vector)
		c.add(asm.And.Imm(asm.R1, vectorsMax-1), asm.Mul.Imm(asm.R7, vectorsMax), asm.Add.Reg(asm.R7, asm.R1))
		c.series(asm.R7, seriesSoft)
		c.record()
	}
	return p
}

// retransmitted counts segments of the process's ports that TCP sent again.
func retransmitted(types *btf.Spec) program {
	p := program{what: "retransmissions of TCP"}
	at := p.fact(p.on(types, "tcp_retransmit_skb").pointer(0, "sock"))
	var s *btf.Struct
	if err := types.TypeByName("sock_common", &s); err != nil {
		p.fact(0, err)
		return p
	}
	p.fact(member(types, "sock", "__sk_common", int(s.Size)))
	port := p.fact(member(types, "sock_common", "skc_num", 2))
	common, _ := member(types, "sock", "__sk_common", int(s.Size))
	p.code = func(c *coder) {
		c.argument(asm.R7, at)
		c.add(asm.LoadMem(asm.R7, asm.R7, common+port, asm.Half), asm.StoreMem(asm.R10, slotIndex, asm.R7, asm.Word))
		c.lookup(c.m.ports, slotIndex, "exit")
		c.add(asm.Mov.Imm(asm.R7, 0))
		c.series(asm.R7, seriesRetrans)
		c.count()
	}
	return p
}
