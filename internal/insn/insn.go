//go:build linux && amd64

// Package insn counts the instructions that a thread of a program executes in user mode, by function, where neither the machine nor valgrind counts them:
// it lets the program run up to a function, holds its other threads, and from there has the one that came executed an instruction at a time (ptrace(2),
// PTRACE_SINGLESTEP). So the count is exact, whatever else the machine does. It takes some 25 µs for each.
//
// Units: a string instruction with a repeat prefix is one instruction, as it is for the counters of processors; so is a system call, whose work is the
// kernel's. The program is one of Go, linked to fixed addresses as it is by default. What is not of Go counts for who called it.
//
// It does not say how long anything takes. The program's clock goes by a nanosecond for each instruction while they are counted, so that what it does by the
// clock it does about as often as it would.
package insn

import (
	"debug/elf"
	"debug/gosym"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"sort"
	"strconv"

	"golang.org/x/sys/unix"
)

// Run says what is counted.
type Run struct {
	Command []string
	Env     []string // beside our own
	At      string   // a function: what is counted goes from one call of it to the next
	Skip    int      // calls of it that pass before, and a few more
	Spans   int

	// Enter hears of each call in what is counted, with the first argument (a method's receiver), and says whose it is, and whether it is not to be
	// counted, with all that it calls. parent is whose the caller is, "" where that is not known.
	Enter func(function string, argument uint64, parent string) (owner string, leave bool)
}

// Where is where instructions are: a function, and whose call of it that was.
type Where struct{ Owner, Function string }

// Span is what was executed between two calls of Run.At.
type Span map[Where]int

// Total is all of it.
func (s Span) Total() (n int) {
	for _, k := range s {
		n += k
	}
	return n
}

type symbol struct {
	at, end uint64
	name    string
}

// tracee is the program. Its methods are for the thread that has started it.
type tracee struct {
	Run
	pid     int
	text    *elf.Section
	code    []byte
	symbols []symbol
	at      uint64

	nanotime uint64 // where the runtime reads the clock

	stack []frame
	clock clock
}

// clock is what the runtime reads (runtime.nanotime1): from the first reading on it goes by what was counted.
type clock struct {
	ns       uint64
	sp, back uint64 // of a reading that goes on: where it returns to
}

// read puts our time in the place of the one that a reading returns, which is on the stack: assembly of Go has its results there.
func (t *tracee) read(tid int, regs *unix.PtraceRegs) error {
	c := &t.clock
	c.back = 0
	b := make([]byte, 8)
	if _, err := unix.PtracePeekData(tid, uintptr(regs.Rsp), b); err != nil {
		return err
	}
	if c.ns == 0 {
		c.ns = binary.LittleEndian.Uint64(b)
	}
	binary.LittleEndian.PutUint64(b, c.ns)
	_, err := unix.PtracePokeData(tid, uintptr(regs.Rsp), b)
	return err
}

// frame is a call that has not returned, or what we found when we began.
type frame struct {
	*symbol
	sp    uint64 // at the call: while it goes on, the stack is at or below that
	owner string
}

// Count executes the command, and ends it when it has counted.
func (r Run) Count() ([]Span, error) {
	runtime.LockOSThread() // ptrace knows threads
	defer runtime.UnlockOSThread()
	var before unix.CPUSet
	if err := unix.SchedGetaffinity(0, &before); err != nil {
		return nil, fmt.Errorf("counting instructions: %w", err)
	}
	defer func() { _ = unix.SchedSetaffinity(0, &before) }() // beside has changed it
	t := &tracee{Run: r}
	if err := t.load(); err != nil {
		return nil, fmt.Errorf("counting the instructions of %s: %w", r.Command[0], err)
	}
	cmd := exec.Command(r.Command[0], r.Command[1:]...)
	cmd.Env = append(os.Environ(), append(r.Env, "GODEBUG=asyncpreemptoff=1", "GOGC=off")...)
	cmd.SysProcAttr = &unix.SysProcAttr{Ptrace: true, Setpgid: true}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("counting instructions: %w", err)
	}
	t.pid = cmd.Process.Pid
	spans, err := t.count()
	_ = cmd.Process.Kill()
	for { // all of its threads have to be heard of
		var w unix.WaitStatus
		if id, e := unix.Wait4(-t.pid, &w, unix.WALL, nil); e != nil || id == t.pid && (w.Exited() || w.Signaled()) {
			break
		}
	}
	_ = cmd.Process.Release()
	if err != nil {
		return nil, fmt.Errorf("counting the instructions of %s: %w", r.Command[0], err)
	}
	return spans, nil
}

// load reads the symbols.
func (t *tracee) load() error {
	f, err := elf.Open(t.Command[0])
	if err != nil {
		return err
	}
	defer f.Close()
	if f.Type != elf.ET_EXEC {
		return errors.New("it is not linked to fixed addresses: build it without -buildmode=pie")
	}
	t.text = f.Section(".text")
	if t.code, err = t.text.Data(); err != nil {
		return err
	}
	lines := f.Section(".gopclntab")
	if lines == nil {
		return errors.New("it is not of Go")
	}
	table, err := lines.Data()
	if err != nil {
		return err
	}
	all, err := gosym.NewTable(nil, gosym.NewLineTable(table, t.text.Addr))
	if err != nil {
		return err
	}
	for _, s := range all.Funcs {
		t.symbols = append(t.symbols, symbol{s.Entry, s.End, s.Name})
		switch s.Name {
		case t.At:
			t.at = s.Entry
		case "runtime.nanotime1":
			t.nanotime = s.Entry
		}
	}
	sort.Slice(t.symbols, func(i, j int) bool { return t.symbols[i].at < t.symbols[j].at })
	if t.at == 0 {
		return fmt.Errorf("it has no function %s", t.At)
	}
	return nil
}

// find gives the function that an address is in, nil if that is none of the program's own.
func (t *tracee) find(pc uint64) *symbol {
	i := sort.Search(len(t.symbols), func(i int) bool { return t.symbols[i].end > pc })
	if i == len(t.symbols) || pc < t.symbols[i].at {
		return nil
	}
	return &t.symbols[i]
}

var breakpoint = []byte{0xcc} // Intel SDM volume 2A, "INT n/INTO/INT3/INT1"

// set puts a breakpoint in, and gives what was there.
func (t *tracee) set(tid int, at uint64) (was []byte, err error) {
	was = make([]byte, 1)
	if _, err = unix.PtracePeekText(tid, uintptr(at), was); err == nil {
		_, err = unix.PtracePokeText(tid, uintptr(at), breakpoint)
	}
	return was, err
}

// unset takes it out, and has the thread that came to it go on there.
func (t *tracee) unset(tid int, at uint64, was []byte) error {
	if _, err := unix.PtracePokeText(tid, uintptr(at), was); err != nil {
		return err
	}
	var regs unix.PtraceRegs
	if err := unix.PtraceGetRegs(tid, &regs); err != nil {
		return err
	}
	regs.Rip = at
	return unix.PtraceSetRegs(tid, &regs)
}

// count waits for the thread that comes to At, and steps it.
func (t *tracee) count() ([]Span, error) {
	var w unix.WaitStatus
	if _, err := unix.Wait4(t.pid, &w, unix.WALL, nil); err != nil {
		return nil, err
	}
	if err := unix.PtraceSetOptions(t.pid, unix.PTRACE_O_TRACECLONE|unix.PTRACE_O_EXITKILL); err != nil {
		return nil, err
	}
	was, err := t.set(t.pid, t.at)
	if err != nil {
		return nil, err
	}
	tid := t.pid
	for calls := 0; ; {
		if err := unix.PtraceCont(tid, 0); err != nil {
			return nil, err
		}
		if tid, err = t.arrival(); err != nil {
			return nil, fmt.Errorf("%w (%s was called %d times)", err, t.At, calls)
		}
		if err := t.unset(tid, t.at, was); err != nil {
			return nil, err
		}
		if calls++; calls > t.Skip {
			held, err := t.hold(tid)
			if err != nil {
				return nil, err
			}
			if held {
				break
			}
		}
		if err := t.step(tid); err != nil {
			return nil, err
		}
		if _, err := t.set(tid, t.at); err != nil {
			return nil, err
		}
	}
	if err := beside(tid); err != nil {
		return nil, err
	}
	// In the first one Enter hears who is who.
	if _, err := t.span(tid); err != nil {
		return nil, err
	}
	spans := make([]Span, t.Spans)
	for i := range spans {
		if spans[i], err = t.span(tid); err != nil {
			return nil, err
		}
	}
	return spans, nil
}

// arrival lets all threads go on until one is at the breakpoint.
func (t *tracee) arrival() (tid int, err error) {
	for {
		var w unix.WaitStatus
		if tid, err = unix.Wait4(-t.pid, &w, unix.WALL, nil); err != nil {
			return 0, err
		}
		switch {
		case tid == t.pid && (w.Exited() || w.Signaled()):
			return 0, errors.New("it has ended before")
		case !w.Stopped():
		case w.StopSignal() == unix.SIGTRAP && w.TrapCause() == 0:
			return tid, nil
		default:
			signal := w.StopSignal()
			if signal == unix.SIGTRAP || signal == unix.SIGSTOP { // a thread was made, or begins
				signal = 0
			}
			if err := unix.PtraceCont(tid, int(signal)); err != nil && err != unix.ESRCH {
				return 0, err
			}
		}
	}
}

// beside has us and a thread on one processor, one of its own: a step is handed over there in a fourth of the time.
func beside(tid int) error {
	var its, one unix.CPUSet
	if err := unix.SchedGetaffinity(tid, &its); err != nil {
		return err
	}
	for cpu := range len(its) * 64 {
		if its.IsSet(cpu) {
			one.Set(cpu)
			break
		}
	}
	if err := unix.SchedSetaffinity(tid, &one); err != nil {
		return err
	}
	return unix.SchedSetaffinity(0, &one)
}

// hold stops all threads but one, if each of them is asleep in the kernel, and the one has not been asked to let another goroutine run. Else one may have a
// lock of the runtime's, for which what is counted would wait for ever, or would be to run it, if it is bound to its thread: then all go on.
func (t *tracee) hold(but int) (held bool, err error) {
	stopped, asleep, err := t.stop(but)
	if err != nil {
		return false, err
	}
	if asleep {
		asked, err := t.asked(but)
		if err != nil || !asked {
			return !asked, err
		}
	}
	for _, id := range stopped {
		if err := unix.PtraceCont(id, 0); err != nil && err != unix.ESRCH {
			return false, err
		}
	}
	return false, nil
}

// asked reports whether the goroutine at the beginning of a function has been asked to let another one run: its g is in R14 there (Go's internal ABI for amd64,
// "Special-purpose registers"), and the limit of its stack, behind the stack's two ends, is stackPreempt then (runtime/stack.go).
func (t *tracee) asked(tid int) (bool, error) {
	const limit, stackPreempt = 16, ^uint64(0) - 1313
	var regs unix.PtraceRegs
	if err := unix.PtraceGetRegs(tid, &regs); err != nil {
		return false, err
	}
	b := make([]byte, 8)
	_, err := unix.PtracePeekData(tid, uintptr(regs.R14)+limit, b)
	return binary.LittleEndian.Uint64(b) == stackPreempt, err
}

// stop stops all threads but one, up to the first that is not asleep, and says which.
func (t *tracee) stop(but int) (stopped []int, asleep bool, err error) {
	entries, err := os.ReadDir(fmt.Sprintf("/proc/%d/task", t.pid))
	if err != nil {
		return nil, false, err
	}
	for _, e := range entries {
		id, err := strconv.Atoi(e.Name())
		if err != nil || id == but {
			continue
		}
		if err := unix.Tgkill(t.pid, id, unix.SIGSTOP); err == unix.ESRCH {
			continue
		} else if err != nil {
			return nil, false, err
		}
		var w unix.WaitStatus
		if _, err := unix.Wait4(id, &w, unix.WALL, nil); err != nil {
			return nil, false, err
		}
		if !w.Stopped() {
			continue // it has ended
		}
		stopped = append(stopped, id)
		var regs unix.PtraceRegs
		if err := unix.PtraceGetRegs(id, &regs); err != nil {
			return nil, false, err
		}
		if !slices.Contains(sleeps, int(regs.Orig_rax)) {
			return stopped, false, nil
		}
	}
	return stopped, true, nil
}

// sleeps are the system calls in which Go's threads wait, with no lock of the runtime's. Elsewhere there is another one, or none (-1).
var sleeps = []int{unix.SYS_FUTEX, unix.SYS_NANOSLEEP, unix.SYS_EPOLL_WAIT, unix.SYS_EPOLL_PWAIT, unix.SYS_IO_URING_ENTER,
	unix.SYS_RESTART_SYSCALL}

// step executes an instruction. Signals that come meanwhile are not for what is counted, and are left out.
func (t *tracee) step(tid int) error {
	for {
		if err := unix.PtraceSingleStep(tid); err != nil {
			return err
		}
		var w unix.WaitStatus
		if _, err := unix.Wait4(tid, &w, unix.WALL, nil); err != nil {
			return err
		}
		if w.Exited() || w.Signaled() {
			return errors.New("it has ended before")
		}
		if w.Stopped() && w.StopSignal() == unix.SIGTRAP {
			return nil
		}
	}
}

// pass goes on to an address.
func (t *tracee) pass(tid int, to uint64) error {
	was, err := t.set(tid, to)
	if err != nil {
		return err
	}
	if err := unix.PtraceCont(tid, 0); err != nil {
		return err
	}
	var w unix.WaitStatus
	if _, err := unix.Wait4(tid, &w, unix.WALL, nil); err != nil {
		return err
	}
	return t.unset(tid, to, was)
}

// span counts to the next call of At.
func (t *tracee) span(tid int) (Span, error) {
	s := Span{}
	var regs unix.PtraceRegs
	if err := unix.PtraceGetRegs(tid, &regs); err != nil {
		return nil, err
	}
	for {
		leave := t.follow(&regs)
		reads := regs.Rip == t.nanotime
		if leave || reads {
			ret := make([]byte, 8)
			if _, err := unix.PtracePeekData(tid, uintptr(regs.Rsp), ret); err != nil {
				return nil, err
			}
			t.clock.back, t.clock.sp = binary.LittleEndian.Uint64(ret), regs.Rsp+8
		}
		if leave {
			if err := t.pass(tid, t.clock.back); err != nil {
				return nil, err
			}
			t.clock.back = 0
			if err := unix.PtraceGetRegs(tid, &regs); err != nil {
				return nil, err
			}
			continue
		}
		from := regs.Rip
		if err := t.step(tid); err != nil {
			return nil, err
		}
		if err := unix.PtraceGetRegs(tid, &regs); err != nil {
			return nil, err
		}
		if n := t.repeats(from); n > 0 && regs.Rip == from {
			if err := t.pass(tid, from+uint64(n)); err != nil {
				return nil, err
			}
			if err := unix.PtraceGetRegs(tid, &regs); err != nil {
				return nil, err
			}
		}
		top := &t.stack[len(t.stack)-1]
		s[Where{top.owner, top.name}]++
		if c := &t.clock; c.ns > 0 {
			c.ns++
		}
		if c := &t.clock; c.back != 0 && regs.Rip == c.back && regs.Rsp == c.sp {
			if err := t.read(tid, &regs); err != nil {
				return nil, err
			}
		}
		if regs.Rip == t.at {
			return s, nil
		}
	}
}

// repeats gives the length of the string instruction with a repeat prefix that is there, 0 if there is none. Intel SDM volume 2B,
// "REP/REPE/REPZ/REPNE/REPNZ".
func (t *tracee) repeats(pc uint64) int {
	if pc < t.text.Addr || pc+3 > t.text.Addr+uint64(len(t.code)) {
		return 0
	}
	b := t.code[pc-t.text.Addr:]
	if b[0] != 0xf2 && b[0] != 0xf3 {
		return 0
	}
	n := 1
	if b[n]&0xf0 == 0x40 { // REX
		n++
	}
	if b[n] >= 0xa4 && b[n] <= 0xaf && b[n] != 0xa8 && b[n] != 0xa9 {
		return n + 1
	}
	return 0
}

// elsewhere is farther than a stack reaches: the runtime goes to another one for the kernel's clock, and comes back.
const elsewhere = 1 << 17

// follow keeps the stack of calls, and reports whether a call has begun that is not to be counted.
func (t *tracee) follow(regs *unix.PtraceRegs) (leave bool) {
	f, sp := t.find(regs.Rip), regs.Rsp
	n := len(t.stack)
	if f == nil {
		f = &symbol{name: "outside"} // the kernel's clock
		if n > 0 {
			return false // whoever called that
		}
	}
	for n > 0 && t.stack[n-1].sp < sp && sp-t.stack[n-1].sp < elsewhere {
		n--
	}
	t.stack = t.stack[:n]
	switch {
	case regs.Rip == f.at:
		owner := ""
		if n > 0 {
			owner = t.stack[n-1].owner
		}
		owner, leave = t.Enter(f.name, regs.Rax, owner)
		if n > 0 && t.stack[n-1].sp == sp { // by a jump, in its place
			t.stack = t.stack[:n-1]
		}
		if !leave {
			t.stack = append(t.stack, frame{f, sp, owner})
		}
		return leave
	case n == 0:
		t.stack = append(t.stack, frame{f, ^uint64(0), ""})
	case t.stack[n-1].symbol != f:
		for i := n - 1; i >= 0; i-- { // back from another stack
			if t.stack[i].symbol == f {
				t.stack = t.stack[:i+1]
				return false
			}
		}
		if t.stack[n-1].sp == ^uint64(0) { // what was called before we began has returned
			t.stack[n-1].symbol = f
		}
	}
	return false
}
