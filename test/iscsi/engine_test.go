package iscsi

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// An engine is Pollux in a process of its own. It serves four targets, each with two LUNs of its own, at two portals.
type engine struct {
	t       *testing.T
	binary  string
	folder  string
	portals [2]string // HOST:PORT
	serve   *exec.Cmd
	log     bytes.Buffer // read once it has ended
}

// A target is how a target is reached, and how it was configured. Its LUN 0 is a device in memory, its LUN 1 a volume; each has blocks of 512
// bytes, because some tests of the suite do not know another size, or send more in one command than is taken. The volume writes 4096 bytes
// at a time, and says so.
type target struct {
	name    string
	options object // of iscsi_create_target_node
	login   string // goes before the address in URLs
	query   string // goes behind the LUN
}

var (
	plainTarget = target{"plain", object{"disable_chap": true}, "", ""}
	// The initiator proves itself,
	chapTarget = target{"chap", object{"require_chap": true, "chap_group": 1}, chapLogin, ""}
	// and the target does.
	mutualTarget = target{"mutual", object{"require_chap": true, "mutual_chap": true, "chap_group": 1}, chapLogin, mutualQuery}
	// Headers have digests. (libiscsi 1.19 knows none of data; those are for Linux' initiator, in test/vm.)
	digestTarget = target{"digest", object{"disable_chap": true, "header_digest": true}, "", "?header_digest=crc32c"}
	bothTarget   = target{"both", object{"require_chap": true, "mutual_chap": true, "chap_group": 1, "header_digest": true}, chapLogin,
		mutualQuery + "&header_digest=crc32c"}

	targets = []target{plainTarget, chapTarget, mutualTarget, digestTarget, bothTarget}
)

func (g target) iqn() string { return "iqn.2026-01.io.pollux:" + g.name }

// The LUNs of each.
const (
	memLUN    = 0
	volumeLUN = 1
	frozenLUN = 2 // of plainTarget alone: a snapshot of its volume, which nobody may write
)

// lunBytes is the size of each.
const lunBytes = 64 << 20

// What initiator and target prove themselves with. CHAP secrets have 96 bits or more: RFC 7143 section 9.2.1, "CHAP Considerations".
const (
	chapUser, chapSecret     = "initiator", "initiatorsecret"
	mutualUser, mutualSecret = "target", "target-s-own-secret"

	chapLogin   = chapUser + "%" + chapSecret + "@"
	mutualQuery = "?target_user=" + mutualUser + "&target_password=" + mutualSecret
)

// callLimit ends a call that hangs.
const callLimit = time.Minute

func startEngine(t *testing.T) *engine {
	t.Helper()
	watchSources(t)
	e := &engine{t: t, folder: t.TempDir()}
	var err error
	if e.binary, err = binary(); err != nil {
		t.Fatal(err)
	}
	e.start()
	e.configure()
	return e
}

// binary is the engine, built once for all tests. Where these look for data races, it does.
var binary = sync.OnceValues(func() (string, error) {
	path := filepath.Join(binaryFolder, "pollux")
	args := []string{"build", "-o", path, "../../cmd/pollux"}
	if race {
		args = append([]string{"build", "-race"}, args[1:]...)
	}
	if out, err := exec.Command("go", args...).CombinedOutput(); err != nil {
		return "", fmt.Errorf("go %v: %w\n%s", args, err, out)
	}
	return path, nil
})

var binaryFolder string

func TestMain(m *testing.M) {
	var err error
	if binaryFolder, err = os.MkdirTemp("", "pollux-iscsi-"); err != nil {
		panic(err)
	}
	status := m.Run()
	_ = os.RemoveAll(binaryFolder)
	os.Exit(status)
}

func (e *engine) socket() string { return filepath.Join(e.folder, "socket") }

// start returns when the engine is ready. It ends with the test, in good order.
func (e *engine) start() {
	e.t.Helper()
	e.serve = exec.Command(e.binary, "serve", "--rpc-socket", e.socket(), "--state", e.folder, "--log-level", "warn")
	e.serve.Stderr = &e.log
	e.serve.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	out, err := e.serve.StdoutPipe()
	if err != nil {
		e.t.Fatal(err)
	}
	if err := e.serve.Start(); err != nil {
		e.t.Fatal(err)
	}
	line, err := bufio.NewReader(out).ReadString('\n')
	e.t.Cleanup(e.stop)
	if err != nil || !strings.HasPrefix(line, "pollux: ready") {
		e.t.Fatalf("the engine's first line: %q, %v", line, err)
	}
}

// stop ends it, and fails the test if it does not end well, or saw a data race.
func (e *engine) stop() {
	if err := e.serve.Process.Signal(syscall.SIGTERM); err != nil {
		e.t.Errorf("the engine had ended before it was told to: %v", err)
	}
	stuck := time.AfterFunc(callLimit, func() { _ = e.serve.Process.Signal(syscall.SIGABRT) })
	err := e.serve.Wait()
	if !stuck.Stop() {
		e.t.Errorf("the engine did not end within %v of SIGTERM", callLimit)
	}
	if err != nil || strings.Contains(e.log.String(), "DATA RACE") {
		e.t.Errorf("the engine ended with %v; its log:\n%s", err, e.log.String())
	}
}

func (e *engine) configure() {
	e.t.Helper()
	// In memory: a volume waits for its device at each write, and none of the programs here asks how long.
	e.rpc("bdev_malloc_create", object{"name": "disk", "num_blocks": 1 << 30 / 4096, "block_size": 4096})
	e.rpc("pool_create", object{"name": "pool", "device": "disk"})
	var maps []object
	for i := range e.portals {
		host, port, err := net.SplitHostPort(freeAddress(e.t))
		if err != nil {
			e.t.Fatal(err)
		}
		e.portals[i] = net.JoinHostPort(host, port)
		e.rpc("iscsi_create_portal_group", object{"tag": i + 1, "portals": []object{{"host": host, "port": port}}})
		maps = append(maps, object{"pg_tag": i + 1, "ig_tag": 1})
	}
	e.rpc("iscsi_create_initiator_group", object{"tag": 1, "initiators": []string{"ANY"}, "netmasks": []string{"127.0.0.0/8"}})
	e.rpc("iscsi_create_auth_group", object{"tag": 1, "secrets": []object{
		{"user": chapUser, "secret": chapSecret, "muser": mutualUser, "msecret": mutualSecret}}})
	for _, g := range targets {
		e.rpc("bdev_malloc_create", object{"name": g.name, "num_blocks": lunBytes / 512, "block_size": 512})
		e.rpc("volume_create", object{"pool": "pool", "name": g.name, "bytes": lunBytes, "log_bytes": 32 << 20, "block_size": 512})
		params := object{"name": g.iqn(), "alias_name": "test", "pg_ig_maps": maps, "queue_depth": 64,
			"luns": []object{{"bdev_name": g.name, "lun_id": memLUN}, {"bdev_name": "pool/" + g.name, "lun_id": volumeLUN}}}
		for k, v := range g.options {
			params[k] = v
		}
		e.rpc("iscsi_create_target_node", params)
	}
	e.rpc("snapshot_create", object{"volume": "pool/" + plainTarget.name, "name": "frozen"})
	e.rpc("iscsi_target_node_add_lun", object{"name": plainTarget.iqn(), "lun_id": frozenLUN, "bdev_name": "pool/" + plainTarget.name + "@frozen"})
}

type object = map[string]any

// rpc makes a call, which has to succeed.
func (e *engine) rpc(method string, params object) string {
	e.t.Helper()
	b, err := json.Marshal(params)
	if err != nil {
		e.t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(e.t.Context(), callLimit)
	defer cancel()
	out, err := exec.CommandContext(ctx, e.binary, "rpc", "--socket", e.socket(), method, string(b)).CombinedOutput()
	if err != nil {
		e.t.Fatalf("%s %s: %v\n%s", method, b, err, out)
	}
	return string(out)
}

// url is where programs find a LUN.
func (e *engine) url(portal int, g target, lun int) string {
	return fmt.Sprintf("iscsi://%s%s/%s/%d%s", g.login, e.portals[portal], g.iqn(), lun, g.query)
}

// freeAddress is one of the loopback interface on which nobody listens now.
func freeAddress(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// need fails the test, in a few words, where a program is missing.
func need(t *testing.T, program string) {
	t.Helper()
	if _, err := exec.LookPath(program); err != nil {
		t.Fatalf("%v: run scripts/deps test", err)
	}
}

// watchSources looks at every folder of the project. What a test looks at, go test notes: so its result is taken from the cache only while no
// source of the engine has changed, which is built by a command of its own.
func watchSources(t *testing.T) {
	t.Helper()
	err := filepath.WalkDir("../..", func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if entry.IsDir() && (entry.Name() == ".git" || entry.Name() == "bin" || entry.Name() == "build") {
			return filepath.SkipDir
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}
