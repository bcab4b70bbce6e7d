package ktrace

import (
	"fmt"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
)

// This file is the pieces that programs are put together from. Registers: R6 has the program's context throughout, R7 to R9 belong to the
// program, the others to nobody over a piece. What pieces are given and keep lies on the stack:
//
//	-8   key of 8 bytes          -48  series, for count and record
//	-16  key of 4 bytes          -56  nanoseconds, for record
//	-40  value of 24 bytes       -64  a new counter's value

const (
	slotKey    = -8
	slotIndex  = -16
	slotValue  = -40
	slotSeries = -48
	slotTime   = -56
	slotZero   = -64
)

// beganBytes is the size of what is kept of a request under way: when it began (8 bytes), its series (4), what happened to it (4), and when
// it was found ready (8).
const (
	beganBytes  = 24
	beganSeries = 8
	beganFlags  = 12
	beganReady  = 16

	flagPunted = 1
)

// stateBytes is the size of what is kept of a thread: since when another has its processor (0: none took it), when it was woken, and since
// when the kernel serves an interrupt in its place.
const (
	stateBytes = 24
	stateTaken = 0
	stateWoken = 8
	stateSoft  = 16
)

// Keys of counts are series<<seriesShift | bucket. A value v has bucket 8*e + m, e being floor(log2(v)) and m the three bits below the
// highest. The last two numbers are no buckets.
const (
	seriesShift = 10
	bucketSum   = 1<<seriesShift - 1
	bucketCount = 1<<seriesShift - 2
)

// coder assembles one program.
type coder struct {
	asm.Instructions
	m      *maps
	labels int
}

func (c *coder) add(i ...asm.Instruction) { c.Instructions = append(c.Instructions, i...) }

// label makes up a name for a place.
func (c *coder) label() string {
	c.labels++
	return fmt.Sprintf("l%d", c.labels)
}

// mark puts a name on the next instruction, which it adds: one that says nothing, in a register that no piece keeps anything in.
func (c *coder) mark(name string) { c.add(asm.Mov.Imm(asm.R5, 0).WithSymbol(name)) }

// assemble gives the program's instructions: it keeps the context first, and leaves at the label "exit".
func (p *program) assemble(m *maps) asm.Instructions {
	c := coder{m: m}
	c.add(asm.Mov.Reg(asm.R6, asm.R1))
	p.code(&c)
	c.add(asm.Mov.Imm(asm.R0, 0).WithSymbol("exit"), asm.Return())
	return c.Instructions
}

// argument loads one of the tracepoint's into a register.
func (c *coder) argument(to asm.Register, at int16) { c.add(asm.LoadMem(to, asm.R6, at, asm.DWord)) }

// onlyProcess leaves unless the present process is pid.
func (c *coder) onlyProcess(pid int) {
	c.add(asm.FnGetCurrentPidTgid.Call(), asm.RSh.Imm(asm.R0, 32), asm.JNE.Imm(asm.R0, int32(pid), "exit"))
}

// lookup finds the value of the key at slot in R0, and goes to missing if there is none.
func (c *coder) lookup(m *ebpf.Map, slot int32, missing string) {
	c.add(asm.LoadMapPtr(asm.R1, m.FD()), asm.Mov.Reg(asm.R2, asm.R10), asm.Add.Imm(asm.R2, slot), asm.FnMapLookupElem.Call())
	c.add(asm.JEq.Imm(asm.R0, 0, missing))
}

// update stores the value at slot value under the key at slot key.
func (c *coder) update(m *ebpf.Map, key, value, flags int32) {
	c.add(asm.LoadMapPtr(asm.R1, m.FD()), asm.Mov.Reg(asm.R2, asm.R10), asm.Add.Imm(asm.R2, key), asm.Mov.Reg(asm.R3, asm.R10), asm.Add.Imm(asm.R3, value))
	c.add(asm.Mov.Imm(asm.R4, flags), asm.FnMapUpdateElem.Call())
}

// thread finds the index of the thread with the number in from and leaves it in R0 and at slotIndex; it goes to missing for any other.
func (c *coder) thread(from asm.Register, missing string) {
	c.add(asm.StoreMem(asm.R10, slotIndex, from, asm.Word))
	c.lookup(c.m.threads, slotIndex, missing)
	c.add(asm.LoadMem(asm.R0, asm.R0, 0, asm.Word), asm.StoreMem(asm.R10, slotIndex, asm.R0, asm.Word))
}

// underWay finds what is kept of the request that an argument points to in R0, and the request in R7; it leaves if there is nothing.
func (c *coder) underWay(at int16) {
	c.argument(asm.R7, at)
	c.add(asm.StoreMem(asm.R10, slotKey, asm.R7, asm.DWord))
	c.lookup(c.m.began, slotKey, "exit")
}

// stamp sets a time in the state of the thread with the index at slotIndex to now, and goes to missing if there is none. It uses R7.
func (c *coder) stamp(state int16, missing string) {
	c.lookup(c.m.states, slotIndex, missing)
	c.add(asm.Mov.Reg(asm.R7, asm.R0))
	c.now()
	c.add(asm.StoreMem(asm.R7, state, asm.R0, asm.DWord))
}

// now reads the clock into R0.
func (c *coder) now() { c.add(asm.FnKtimeGetNs.Call()) }

// bump adds the value in R9 to the counter with the key at slotIndex. It uses R9.
func (c *coder) bump() {
	there, end := c.label(), c.label()
	missing := c.label()
	c.lookup(c.m.counts, slotIndex, missing)
	c.add(asm.Ja.Label(there))
	c.mark(missing)
	c.add(asm.Mov.Imm(asm.R1, 0), asm.StoreMem(asm.R10, slotZero, asm.R1, asm.DWord))
	c.update(c.m.counts, slotIndex, slotZero, 1) // BPF_NOEXIST: another processor may be before us
	c.lookup(c.m.counts, slotIndex, end)
	c.mark(there)
	c.add(asm.JEq.Imm(asm.R0, 0, end), asm.StoreXAdd(asm.R0, asm.R9, asm.DWord))
	c.mark(end)
}

// key makes the key of a counter of the series at slotSeries; the bucket is in R2.
func (c *coder) key() {
	c.add(asm.LoadMem(asm.R1, asm.R10, slotSeries, asm.DWord), asm.LSh.Imm(asm.R1, seriesShift), asm.Or.Reg(asm.R1, asm.R2))
	c.add(asm.StoreMem(asm.R10, slotIndex, asm.R1, asm.Word))
}

// count adds one to the events of the series at slotSeries. It uses R9.
func (c *coder) count() {
	c.add(asm.Mov.Imm(asm.R2, bucketCount))
	c.key()
	c.add(asm.Mov.Imm(asm.R9, 1))
	c.bump()
}

// record counts the time at slotTime in the series at slotSeries. It uses R9.
func (c *coder) record() {
	c.add(asm.LoadMem(asm.R1, asm.R10, slotTime, asm.DWord), asm.Mov.Imm(asm.R2, 0))
	for _, shift := range []int32{32, 16, 8, 4, 2, 1} { // R2 becomes floor(log2(R1))
		small := c.label()
		c.add(asm.Mov.Reg(asm.R3, asm.R1), asm.RSh.Imm(asm.R3, shift), asm.JEq.Imm(asm.R3, 0, small))
		c.add(asm.Mov.Reg(asm.R1, asm.R3), asm.Add.Imm(asm.R2, shift))
		c.mark(small)
	}
	// The three bits below the highest: v << (63-e), without its top bit, from the top.
	c.add(asm.LoadMem(asm.R1, asm.R10, slotTime, asm.DWord), asm.Mov.Imm(asm.R3, 63), asm.Sub.Reg(asm.R3, asm.R2), asm.LSh.Reg(asm.R1, asm.R3))
	c.add(asm.LSh.Imm(asm.R1, 1), asm.RSh.Imm(asm.R1, 61), asm.LSh.Imm(asm.R2, 3), asm.Or.Reg(asm.R2, asm.R1))
	c.key()
	c.add(asm.Mov.Imm(asm.R9, 1))
	c.bump()
	c.add(asm.Mov.Imm(asm.R2, bucketSum))
	c.key()
	c.add(asm.LoadMem(asm.R9, asm.R10, slotTime, asm.DWord))
	c.bump()
}

// series sets slotSeries to a register and a constant.
func (c *coder) series(r asm.Register, plus int32) {
	c.add(asm.Mov.Reg(asm.R1, r), asm.Add.Imm(asm.R1, plus), asm.StoreMem(asm.R10, slotSeries, asm.R1, asm.DWord))
}

// since sets slotTime to the time from what is in r until now in R0.
func (c *coder) since(r asm.Register) {
	c.add(asm.Sub.Reg(asm.R0, r), asm.StoreMem(asm.R10, slotTime, asm.R0, asm.DWord))
}
