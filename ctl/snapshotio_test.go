package ctl

import (
	"bytes"
	"fmt"
	"net"
	"strconv"
	"testing"
	"unsafe"

	"github.com/pollux-storage/pollux/bdev"
)

// deviceRequest is one that a test waits for.
type deviceRequest struct {
	bdev.Request
	done chan struct{}
}

func (q *deviceRequest) RequestDone(*bdev.Request) { close(q.done) }

// transfer reads or writes a device of an engine, in blocks of 4096 bytes.
func (e testEngine) transfer(t *testing.T, device string, kind bdev.Kind, block uint64, data []byte) {
	t.Helper()
	if s := e.try(t, device, kind, block, data); s != bdev.StatusOK {
		t.Fatalf("%v of %s: %v", kind, device, s)
	}
}

// try does so and gives what became of it.
func (e testEngine) try(t *testing.T, device string, kind bdev.Kind, block uint64, data []byte) bdev.Status {
	t.Helper()
	h, err := e.Bdevs.Open(device, bdev.OpenOptions{Who: "test"})
	if err != nil {
		t.Fatal(err)
	}
	defer h.Close()
	r := e.Reactors.Reactor(0)
	memory := make([]byte, len(data)+4096)
	memory = memory[-uintptr(unsafe.Pointer(&memory[0]))%4096:][:len(data)]
	copy(memory, data)
	q := &deviceRequest{done: make(chan struct{})}
	var c *bdev.Channel
	if err := r.Call(func() {
		if c, err = h.Channel(r); err != nil {
			return
		}
		shift := c.Geometry().Shift()
		q.Kind, q.LBA, q.Blocks, q.Done = kind, block<<12>>shift, uint64(len(data))>>shift, q
		q.SetData(memory)
		c.Submit(&q.Request)
	}); err != nil {
		t.Fatal(err)
	}
	if c == nil {
		t.Fatal(err)
	}
	<-q.done
	if err := r.Call(func() { q.Release(); c.Close() }); err != nil {
		t.Fatal(err)
	}
	if kind == bdev.Read {
		copy(data, memory)
	}
	return q.Status
}

func (e testEngine) fill(t *testing.T, device string, block uint64, blocks int, with byte) {
	t.Helper()
	e.transfer(t, device, bdev.Write, block, bytes.Repeat([]byte{with}, blocks*4096))
}

// has compares blocks of a device.
func (e testEngine) has(t *testing.T, device string, block uint64, blocks int, want byte) {
	t.Helper()
	got := make([]byte, blocks*4096)
	e.transfer(t, device, bdev.Read, block, got)
	if !bytes.Equal(got, bytes.Repeat([]byte{want}, len(got))) {
		t.Errorf("%s has %d at block %d, want %d", device, got[0], block, want)
	}
}

// TestASnapshotIsReadByAHost: over NVMe/TCP, while the volume is written; then the volume becomes the snapshot again.
func TestASnapshotIsReadByAHost(t *testing.T) {
	target, host := startServer(t, testServer, newDisk(t, 512<<20)), startEngine(t)
	if err := host.Frame.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	free, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	port := strconv.Itoa(free.Addr().(*net.TCPAddr).Port)
	free.Close()
	target.steps(t, []step{
		{"pool_create", `{"name": "p", "device": "disk"}`, `.*`},
		{"volume_create", `{"pool": "p", "name": "v", "bytes": ` + mib16 + `}`, `.*`},
	})
	target.fill(t, "p/v", 0, 32, 'a')
	target.fill(t, "p/v", 1000, 32, 'a')
	target.steps(t, []step{
		{"snapshot_create", `{"volume": "p/v", "name": "s"}`, `.*"allocated_bytes":[1-9].*`},
		{"nvmf_create_transport", `{"trtype": "TCP"}`, `true`},
		{"nvmf_create_subsystem", `{"nqn": "` + loopNQN + `", "allow_any_host": true}`, `true`},
		{"nvmf_subsystem_add_ns", `{"nqn": "` + loopNQN + `", "namespace": {"bdev_name": "p/v"}}`, `1`},
		{"nvmf_subsystem_add_ns", `{"nqn": "` + loopNQN + `", "namespace": {"bdev_name": "p/v@s"}}`, `2`},
		{"nvmf_subsystem_add_listener", `{"nqn": "` + loopNQN + `", "listen_address": {"trtype": "TCP", "traddr": "127.0.0.1", "trsvcid": "` + port + `"}}`, `true`},
	})
	host.steps(t, []step{{"bdev_nvme_attach_controller", fmt.Sprintf(`{"name": "N", "trtype": "tcp", "adrfam": "ipv4", "traddr": "127.0.0.1", "trsvcid": %q, "subnqn": %q}`,
		port, loopNQN), `\["Nn1","Nn2"\]`}})
	for i := range 20 {
		host.fill(t, "Nn1", uint64(16+i), 8, 'b')
		host.has(t, "Nn2", 0, 32, 'a')
	}
	host.fill(t, "Nn1", 2000, 1, 'b')
	host.has(t, "Nn1", 2000, 1, 'b')
	host.has(t, "Nn2", 2000, 1, 0)
	target.steps(t, []step{
		{"snapshot_diff", `{"volume": "p/none"}`, `-19`},
		{"snapshot_diff", `{"volume": "p/v", "since_snapshot": "none"}`, `-19 ErrSnapshotNotFound`},
		{"snapshot_diff", `{"volume": "p/v", "since_snapshot": "s", "since_lsn": 1}`, `-32602`},
		{"snapshot_diff", `{"volume": "p/v", "since_lsn": 1000000}`, `-22 ErrNoHistory`},
		{"snapshot_diff", `{"volume": "p/v", "since_snapshot": "s"}`, `\{"since_lsn":\d+,"lsn":\d+,"cluster_bytes":65536,"ranges":\[\{"offset":65536,"bytes":131072\},\{"offset":8192000,"bytes":65536\}\]\}|` +
			`.*\[\{"offset":65536,"bytes":131072\},\{"offset":8126464,"bytes":65536\}\].*`},
		{"snapshot_diff", `{"volume": "p/v", "snapshot": "s"}`, `.*"ranges":\[\{"offset":0,"bytes":131072\},\{"offset":4063232,"bytes":196608\}\]\}`},
		{"snapshot_diff", `{"volume": "p/v", "snapshot": "s", "max_ranges": 1}`, `.*"ranges":\[\{"offset":0,"bytes":131072\}\],"next_offset":4063232\}`},
		{"snapshot_diff", `{"volume": "p/v", "snapshot": "s", "max_ranges": 1, "offset": 4063232}`, `.*"ranges":\[\{"offset":4063232,"bytes":196608\}\]\}`},
		{"snapshot_diff", `{"volume": "p/v", "offset": ` + mib16 + `}`, `.*"ranges":\[\]\}`},
		{"snapshot_restore", `{"name": "p/v@none"}`, `-19`},
		{"snapshot_restore", `{"name": "p/v"}`, `-22`},
		{"snapshot_restore", `{"name": "p/v@s"}`, `job failed .*hosts use the volume.*`},
		{"engine_jobs", `{}`, `.*"code":-16,"reason":"ErrAttached".*`},
		{"snapshot_create", `{"volume": "p/v", "name": "later"}`, `.*`},
		{"snapshot_restore", `{"name": "p/v@s", "force": true}`, `job failed .*there are newer snapshots.*`},
		{"engine_jobs", `{}`, `.*"code":-16,"reason":"ErrNewerSnapshots".*`},
		{"snapshot_restore", `{"name": "p/v@s", "force": true, "drop_newer": true, "request": "` + testServer.String() + `"}`, `job done`},
		{"snapshot_list", `{"volume": "p/v"}`, `\[\{"name":"s"[^{]*\}(,\{"name":"later"[^{]*"deleting":true\})?\]`},
	})
	host.has(t, "Nn1", 0, 32, 'a')
	host.has(t, "Nn1", 2000, 1, 0)
	host.fill(t, "Nn1", 0, 1, 'c')
	target.steps(t, []step{{"snapshot_restore", `{"name": "p/v@s", "force": true, "request": "` + testServer.String() + `"}`, `job done`}})
	host.has(t, "Nn1", 0, 1, 'c') // asked for once before
	host.has(t, "Nn2", 0, 32, 'a')
	host.steps(t, []step{{"bdev_nvme_detach_controller", `{"name": "N"}`, `true`}})
}

// TestAClonesTieEnds: its content stays, and its parent may go.
func TestAClonesTieEnds(t *testing.T) {
	e := startServer(t, testServer, newDisk(t, 512<<20))
	e.steps(t, []step{
		{"pool_create", `{"name": "p", "device": "disk"}`, `.*`},
		{"volume_create", `{"pool": "p", "name": "v", "bytes": ` + mib16 + `}`, `.*`},
	})
	e.fill(t, "p/v", 100, 200, 'a')
	e.steps(t, []step{
		{"bdev_lvol_snapshot", `{"lvol_name": "p/v", "snapshot_name": "s"}`, anyUUID},
		{"bdev_lvol_clone", `{"snapshot_name": "p/s", "clone_name": "c1"}`, anyUUID},
		{"bdev_lvol_clone", `{"snapshot_name": "p/s", "clone_name": "c2"}`, anyUUID},
		{"bdev_lvol_clone", `{"snapshot_name": "p/s", "clone_name": "c3"}`, anyUUID},
	})
	e.fill(t, "p/c1", 100, 1, 'b')
	e.steps(t, []step{
		{"volume_flatten", `{"name": "p/none"}`, `-19`},
		{"volume_flatten", `{"name": "p/v"}`, `job failed .*no clone.*`},
		{"bdev_lvol_decouple_parent", `{"name": "p/v"}`, `-22`},
		{"bdev_lvol_decouple_parent", `{"name": "p/s"}`, `-22`},
		{"bdev_lvol_inflate", `{"name": "p/v"}`, `true`},
		{"bdev_lvol_inflate", `{"name": "p/none"}`, `-19`},
		{"volume_flatten", `{"name": "p/c1"}`, `job done`},
		{"engine_jobs", `{}`, `.*"method":"volume_flatten","object":"p/c1","state":"done",.*"unit":"clusters".*`},
		{"bdev_lvol_decouple_parent", `{"name": "p/c2"}`, `true`},
		{"bdev_lvol_inflate", `{"name": "p/c3"}`, `true`},
		{"volume_list", `{"name": "p/c1"}`, `[^}]*"snapshot_bytes":0,"write_cache".*`},
		{"bdev_get_bdevs", `{"name": "p/c2"}`, `.*"clone":false.*`},
		{"bdev_lvol_delete", `{"name": "p/s"}`, `true`},
		{"bdev_lvol_delete", `{"name": "p/v"}`, `true`},
	})
	for _, c := range []string{"p/c2", "p/c3"} {
		e.has(t, c, 100, 200, 'a')
	}
	e.has(t, "p/c1", 100, 1, 'b')
	e.has(t, "p/c1", 101, 199, 'a')
}
