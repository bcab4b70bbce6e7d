package bench

import (
	"bytes"
	"fmt"
	"os"
	"strconv"
	"strings"

	"github.com/pollux-storage/pollux/reactor"
)

// ProcessTime is the processor time of a process so far, all threads together.
type ProcessTime struct {
	Name         string
	User, System reactor.Ticks
}

// procTick is the unit of times in /proc: USER_HZ, which Linux fixes at 100 on all our architectures (proc_pid_stat(5)).
const procTick = reactor.Second / 100

// ReadProcessTime reads a process's time, threads that ended included. It counts in hundredths of a second.
func ReadProcessTime(pid int) (ProcessTime, error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return ProcessTime{}, fmt.Errorf("reading the processor time of process %d: %w", pid, err)
	}
	return parseStat(b)
}

// parseStat reads the line of /proc/pid/stat: proc_pid_stat(5), fields 2 comm, 14 utime, 15 stime. The name is in
// parentheses and may hold any character, parentheses and blanks too.
func parseStat(b []byte) (ProcessTime, error) {
	open, end := bytes.IndexByte(b, '('), bytes.LastIndexByte(b, ')')
	if open < 0 || end < open {
		return ProcessTime{}, fmt.Errorf("a stat line of /proc without a name: %q", b)
	}
	f := strings.Fields(string(b[end+1:])) // from field 3 on
	if len(f) < 13 {
		return ProcessTime{}, fmt.Errorf("a stat line of /proc with %d fields after the name", len(f))
	}
	t := ProcessTime{Name: string(b[open+1 : end])}
	for _, p := range []struct {
		field string
		to    *reactor.Ticks
	}{{f[11], &t.User}, {f[12], &t.System}} {
		n, err := strconv.ParseInt(p.field, 10, 64)
		if err != nil {
			return ProcessTime{}, fmt.Errorf("a stat line of /proc with a time of %q", p.field)
		}
		*p.to = reactor.Ticks(n) * procTick
	}
	return t, nil
}
