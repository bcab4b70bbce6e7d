package bench

import (
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/pollux-storage/pollux/internal/version"
	"github.com/pollux-storage/pollux/reactor"
)

// Conditions is what figures were made under: without them a figure says nothing.
type Conditions struct {
	Time       string   `json:"time"` // when the report began, RFC 3339
	Pollux     string   `json:"pollux"`
	Commit     string   `json:"commit,omitempty"` // "+" behind it: with changes
	Go         string   `json:"go"`
	GOMAXPROCS int      `json:"gomaxprocs"`
	Fio        string   `json:"fio,omitempty"`
	Command    []string `json:"command"`
	Machine    Machine  `json:"machine"`
	Transport  string   `json:"transport,omitempty"` // of remote rows: which network lies between
	Note       string   `json:"note,omitempty"`      // what else whoever measured had to say
}

// day is when the report began.
func (c *Conditions) day() string { return c.Time[:len("2006-01-02")] }

// Machine is the computer.
type Machine struct {
	CPU         string   `json:"cpu"`
	Features    []string `json:"cpu_features"`
	Cores       int      `json:"cores"`
	Hypervisor  bool     `json:"virtual"`
	MemoryBytes uint64   `json:"memory_bytes"`
	OS          string   `json:"os"`
	Kernel      string   `json:"kernel"`
}

// DeviceConditions is what is particular to a row's device.
type DeviceConditions struct {
	Target     string `json:"target"`
	SizeBytes  uint64 `json:"size_bytes"`
	BlockSize  uint32 `json:"block_size,omitempty"`
	WriteCache string `json:"write_cache"` // none or volatile, as the device reports it to its users
	Idle       string `json:"idle_policy,omitempty"`
	Cores      []int  `json:"cores,omitempty"` // of the reactors that put the load on

	Path          string `json:"path,omitempty"`
	FileSystem    string `json:"file_system,omitempty"` // of a file
	Disk          string `json:"disk,omitempty"`        // the block device below
	Model         string `json:"disk_model,omitempty"`
	DiskCache     string `json:"disk_write_cache,omitempty"` // as the kernel sees it
	Scheduler     string `json:"disk_scheduler,omitempty"`
	Preconditions string `json:"preconditioning,omitempty"`
	Remote        string `json:"remote,omitempty"` // of a remote device: what serves it, and how
}

// ConditionsNow describes this machine and process.
func ConditionsNow() Conditions {
	c := Conditions{
		Time: time.Now().UTC().Format(time.RFC3339), Pollux: version.Pollux, Commit: version.Commit(), Go: runtime.Version(),
		GOMAXPROCS: runtime.GOMAXPROCS(0), Command: append([]string{"pollux"}, os.Args[1:]...),
	}
	m := &c.Machine
	m.CPU, m.Features = reactor.CPUFeatures()
	m.Cores = runtime.NumCPU()
	m.Hypervisor = strings.Contains(readFile("/proc/cpuinfo"), " hypervisor")
	var si unix.Sysinfo_t
	if unix.Sysinfo(&si) == nil {
		m.MemoryBytes = uint64(si.Totalram) * uint64(si.Unit)
	}
	var u unix.Utsname
	if unix.Uname(&u) == nil {
		m.Kernel = unix.ByteSliceToString(u.Release[:])
	}
	for _, line := range strings.Split(readFile("/etc/os-release"), "\n") {
		if v, ok := strings.CutPrefix(line, "PRETTY_NAME="); ok {
			m.OS = strings.Trim(v, `"`)
		}
	}
	return c
}

// Slug names the machine in a file name: its processor and the number of cores.
func (m *Machine) Slug() string {
	var b strings.Builder
	for _, r := range strings.ToLower(m.CPU) {
		if r >= 'a' && r <= 'z' || r >= '0' && r <= '9' {
			b.WriteRune(r)
		} else if s := b.String(); s != "" && !strings.HasSuffix(s, "-") {
			b.WriteByte('-')
		}
	}
	s := strings.Trim(b.String(), "-")
	if s == "" {
		s = runtime.GOARCH
	}
	return s + "-" + strconv.Itoa(m.Cores) + "c"
}

// addFile tells of the file or block device at path.
func (d *DeviceConditions) addFile(path string) {
	d.Path = path
	var st unix.Stat_t
	if unix.Stat(path, &st) != nil {
		return
	}
	number := st.Dev
	if st.Mode&unix.S_IFMT == unix.S_IFBLK {
		number = st.Rdev
		sectors, _ := strconv.ParseUint(readFile(sysBlock(number)+"/size"), 10, 64)
		d.SizeBytes = max(d.SizeBytes, sectors*sysSector)
	} else {
		d.FileSystem = mountOf(path)
		if d.SizeBytes == 0 {
			d.SizeBytes = uint64(st.Size)
		}
	}
	d.addDisk(sysBlock(number))
}

// sysSector is the unit of sizes in /sys, whatever the device's block is.
const sysSector = 512

// sysBlock is where /sys tells of a block device.
func sysBlock(number uint64) string {
	return "/sys/dev/block/" + strconv.Itoa(int(unix.Major(number))) + ":" + strconv.Itoa(int(unix.Minor(number)))
}

// addDisk reads what the kernel knows of a block device; a partition's queue is that of its disk, the folder above.
func (d *DeviceConditions) addDisk(sys string) {
	at, err := filepath.EvalSymlinks(sys)
	if err != nil {
		return
	}
	d.Disk = filepath.Base(at)
	if _, err := os.Stat(at + "/queue"); err != nil {
		at = filepath.Dir(at)
	}
	d.Model = readFile(at + "/device/model")
	if d.Model == "" {
		if driver, err := filepath.EvalSymlinks(at + "/device/driver"); err == nil {
			d.Model = filepath.Base(driver)
		}
	}
	d.DiskCache = readFile(at + "/queue/write_cache")
	for _, s := range strings.Fields(readFile(at + "/queue/scheduler")) {
		if strings.HasPrefix(s, "[") {
			d.Scheduler = strings.Trim(s, "[]")
		}
	}
}

// mountOf gives the type and options of the file system that path lies on: the longest mount point that leads there, in
// proc_pid_mountinfo(5): field 5 is the mount point, 6 its options, and after the "-" come the type, source and more options.
func mountOf(path string) string {
	abs, err := filepath.Abs(path)
	if err != nil {
		return ""
	}
	if real, err := filepath.EvalSymlinks(abs); err == nil {
		abs = real
	}
	best, text := "", ""
	for _, line := range strings.Split(readFile("/proc/self/mountinfo"), "\n") {
		left, right, ok := strings.Cut(line, " - ")
		l, r := strings.Fields(left), strings.Fields(right)
		if !ok || len(l) < 6 || len(r) < 3 {
			continue
		}
		at := l[4]
		if at != "/" && abs != at && !strings.HasPrefix(abs, at+"/") || len(at) < len(best) {
			continue
		}
		best, text = at, r[0]+" ("+l[5]+")"
	}
	return text
}

func readFile(path string) string {
	b, _ := os.ReadFile(path)
	return strings.TrimSpace(string(b))
}
