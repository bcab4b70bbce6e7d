package ctl

import (
	"strings"
	"testing"

	"github.com/pollux-storage/pollux/ctl/api"
)

const mib16 = "16777216"

func TestSnapshotsAndClones(t *testing.T) {
	file := newDisk(t, 512<<20)
	e := startServer(t, testServer, file)
	const id = "22222222-3333-4444-8555-666666666666"
	e.steps(t, []step{
		{"pool_create", `{"name": "p", "device": "disk"}`, `.*`},
		{"volume_create", `{"pool": "p", "name": "v", "bytes": ` + mib16 + `, "verify": true, "write_cache": "volatile"}`, `.*"snapshots":0,"snapshot_bytes":0,"write_cache".*`},
		{"snapshot_create", `{"volume": "p/none", "name": "s0"}`, `-19`},
		{"snapshot_create", `{"volume": "disk", "name": "s0"}`, `-22`},
		{"snapshot_create", `{"volume": "p/v", "name": ""}`, `-22`},
		{"snapshot_create", `{"volume": "p/v", "name": "s0"}`, `\{"name":"s0","volume":"v","pool":"p","uuid":` + anyUUID + `,"number":1,"lsn":\d+,"bytes":` + mib16 + `,"block_size":4096,"allocated_bytes":0,"created":"20.*Z","clones":\[\]\}`},
		{"snapshot_create", `{"volume": "p/v", "name": "s0"}`, `-17 ErrSnapshotExists`},
		{"snapshot_create", `{"volume": "p/v", "name": "s1", "uuid": "` + id + `"}`, `\{"name":"s1".*"number":2,.*`},
		{"snapshot_create", `{"volume": "p/v", "name": "s1", "uuid": "` + id + `"}`, `\{"name":"s1".*"number":2,.*`},
		{"snapshot_create", `{"volume": "p/v", "name": "s2", "uuid": "` + id + `"}`, `-17`},
		{"snapshot_create", `{"volume": "p/v@s0", "name": "s3"}`, `-22`},
		{"volume_create", `{"pool": "p", "name": "v@s3", "bytes": ` + mib16 + `}`, `.*`},
		{"snapshot_create", `{"volume": "p/v", "name": "s3"}`, `-17`}, // it would not be found by that name
		{"volume_delete", `{"name": "p/v@s3"}`, `job done`},
		{"snapshot_list", `{"name": "p/v@s1"}`, `\[\{"name":"s1","volume":"v","pool":"p","uuid":"` + id + `",[^{]*\}\]`},
		{"snapshot_list", `{"name": "p/s1"}`, `\[\{"name":"s1"[^{]*\}\]`},
		{"snapshot_list", `{"name": "` + id + `"}`, `\[\{"name":"s1"[^{]*\}\]`},
		{"snapshot_list", `{"name": "p/v"}`, `-22`},
		{"snapshot_list", `{"name": "p/v@none"}`, `-19`},
		{"snapshot_list", `{"volume": "p/v"}`, `\[\{"name":"s0"[^{]*\},\{"name":"s1"[^{]*\}\]`},
		{"snapshot_list", `{"pool": "p"}`, `\[\{"name":"s0"[^{]*\},\{"name":"s1"[^{]*\}\]`},
		{"snapshot_list", `{"pool": "none"}`, `-19`},
		{"volume_list", `{}`, `\[\{"name":"v"[^{]*"snapshots":2,"snapshot_bytes":0,"write_cache"[^{]*\}\]`},
		{"bdev_get_bdevs", `{"name": "p/v@s0"}`, `.*"aliases":\[` + anyUUID + `,"p/v@s0","p/s0"\].*"write":false.*`},
		{"volume_set_read_only", `{"name": "p/v@s0"}`, `-22`},
		{"volume_delete", `{"name": "p/v"}`, `job failed .*has the snapshot s0.*`},
		{"bdev_get_bdevs", `{"name": "p/v"}`, `.*"p/v".*`},

		{"snapshot_clone", `{"name": "p/v@s0", "clone": "v"}`, `-17`},
		{"snapshot_clone", `{"name": "p/v@none", "clone": "c"}`, `-19`},
		{"snapshot_clone", `{"name": "p/v", "clone": "c"}`, `-22`},
		{"snapshot_clone", `{"name": "p/v@s0", "clone": "c", "write_cache": "none"}`, `\{"name":"c","pool":"p",.*"bytes":` + mib16 + `,.*"parent":"p/v@s0","write_cache":"none",.*"verify":true,.*`},
		{"snapshot_clone", `{"name": "p/v@s0", "clone": "c", "write_cache": "none"}`, `\{"name":"c",.*`},
		{"snapshot_clone", `{"name": "p/v@s0", "clone": "c"}`, `-17`}, // the volume's cache is another
		{"snapshot_clone", `{"name": "p/v@s1", "clone": "c"}`, `-17`},
		{"snapshot_list", `{"name": "p/v@s0"}`, `.*"clones":\["c"\].*`},
		{"volume_status", `{"name": "p/c"}`, `.*"state":"healthy".*"snapshots":0,"snapshots_max":1024,"snapshot_bytes":0,"parent":"p/v@s0","clone_depth":1,"clone_depth_max":16.*`},
		{"snapshot_create", `{"volume": "p/c", "name": "s0"}`, `\{"name":"s0","volume":"c".*"number":1,.*`}, // names belong to the volume
		{"snapshot_list", `{"name": "p/s0"}`, `-22`},
		{"bdev_get_bdevs", `{"name": "p/s0"}`, `-19`},
		{"bdev_get_bdevs", `{"name": "p/v@s0"}`, `.*"aliases":\[` + anyUUID + `,"p/v@s0"\].*`},
		{"snapshot_delete", `{"name": "p/v@s0"}`, `-16 ErrSnapshotInUse`},
		{"snapshot_delete", `{"name": "p/v@none"}`, `-19`},
		{"snapshot_delete", `{"name": "p/v"}`, `-22`},
		{"snapshot_delete", `{"name": "p/c@s0"}`, `true`},
		{"bdev_get_bdevs", `{"name": "p/s0"}`, `.*"p/v@s0".*`},
		{"volume_create", `{"pool": "p", "name": "s0", "bytes": ` + mib16 + `}`, `\{"name":"s0".*`}, // and keep nobody from theirs
		{"bdev_get_bdevs", `{"name": "p/s0"}`, `.*"snapshot":false.*`},
		{"volume_delete", `{"name": "p/s0"}`, `job done`},
		{"pool_rename", `{"name": "p", "new_name": "q"}`, `true`},
		{"bdev_lvol_rename", `{"old_name": "q/v", "new_name": "w"}`, `true`},
		{"snapshot_list", `{"name": "q/s1"}`, `\[\{"name":"s1","volume":"w","pool":"q".*`},
		{"snapshot_list", `{"name": "q/w@s1"}`, `.*`},
		{"bdev_passthru_create", `{"name": "on", "base_bdev_name": "q/s1"}`, `"on"`},
	})
	saved := savedConfig(t, e)
	e.stop()

	// They are found again, and nothing of them is in a saved configuration.
	e = startServer(t, testServer, file)
	e.steps(t, []step{
		{"snapshot_list", `{}`, `\[\{"name":"s0","volume":"w".*"clones":\["c"\]\},\{"name":"s1".*"number":2,.*`},
		{"bdev_get_bdevs", `{"name": "q/s1"}`, `.*"name":"` + id + `".*`},
		{"volume_list", `{"name": "q/c"}`, `.*"parent":"q/w@s0".*`},
		{"snapshot_delete", `{"name": "q/s1"}`, `true`},
		{"snapshot_create", `{"volume": "q/w", "name": "s1"}`, `.*"number":3,.*`},
		{"volume_delete", `{"name": "q/c"}`, `job done`},
		{"snapshot_delete", `{"name": "q/w@s0"}`, `true`},
		{"snapshot_delete", `{"name": "q/w@s1"}`, `true`},
		{"volume_delete", `{"name": "q/w"}`, `job done`},
	})
	for _, m := range []string{"snapshot_create", "snapshot_clone", "lvol"} {
		if strings.Contains(saved, m) {
			t.Errorf("%s stands in what is saved:\n%s", m, saved)
		}
	}
}

// TestSnapshotsAsSPDKHasThem: each volume is the end of a chain.
func TestSnapshotsAsSPDKHasThem(t *testing.T) {
	e := startServer(t, testServer, newDisk(t, 512<<20))
	lvol := func(rest string) string {
		return `.*"driver_specific":\{"lvol":\{"base_bdev":"disk",` + rest + `\}\}.*`
	}
	e.steps(t, []step{
		{"bdev_lvol_create_lvstore", `{"bdev_name": "disk", "lvs_name": "lvs"}`, anyUUID},
		{"bdev_lvol_create", `{"lvol_name": "l", "size_in_mib": 16, "lvs_name": "lvs", "thin_provision": true}`, anyUUID},
		{"bdev_get_bdevs", `{"name": "lvs/l"}`, lvol(`"clone":false,"esnap_clone":false,"lvol_store_uuid":` + anyUUID + `,"num_allocated_clusters":0,"snapshot":false,"thin_provision":true`)},
		{"bdev_lvol_snapshot", `{"lvol_name": "lvs/none", "snapshot_name": "s1"}`, `-19`},
		{"bdev_lvol_snapshot", `{"lvol_name": "lvs/l", "snapshot_name": "l"}`, `-17`},
		{"bdev_lvol_snapshot", `{"lvol_name": "lvs/l", "snapshot_name": "s1"}`, anyUUID},
		{"bdev_lvol_snapshot", `{"lvol_name": "lvs/l", "snapshot_name": "s1"}`, `-17`},
		{"bdev_lvol_snapshot", `{"lvol_name": "lvs/s1", "snapshot_name": "s2"}`, `-22`},
		{"bdev_lvol_snapshot", `{"lvol_name": "lvs/l", "snapshot_name": "s2"}`, anyUUID},
		{"bdev_lvol_clone", `{"snapshot_name": "lvs/l", "clone_name": "c"}`, `-22`},
		{"bdev_lvol_clone", `{"snapshot_name": "lvs/none", "clone_name": "c"}`, `-19`},
		{"bdev_lvol_clone", `{"snapshot_name": "lvs/s1", "clone_name": "s2"}`, `-17`},
		{"bdev_lvol_clone", `{"snapshot_name": "lvs/s1", "clone_name": "c"}`, anyUUID},
		{"bdev_lvol_clone", `{"snapshot_name": "lvs/s1", "clone_name": "c"}`, `-17`},
		{"bdev_get_bdevs", `{"name": "lvs/s1"}`, lvol(`"clone":false,"clones":\["s2","c"\],.*"snapshot":true,.*`)},
		{"bdev_get_bdevs", `{"name": "lvs/s2"}`, lvol(`"base_snapshot":"s1","clone":true,"clones":\["l"\],.*"snapshot":true,.*`)},
		{"bdev_get_bdevs", `{"name": "lvs/l"}`, lvol(`"base_snapshot":"s2","clone":true,"esnap_clone":false,.*"snapshot":false,.*`)},
		{"bdev_get_bdevs", `{"name": "lvs/c"}`, lvol(`"base_snapshot":"s1","clone":true,"esnap_clone":false,.*"snapshot":false,.*`)},
		{"bdev_lvol_get_lvols", `{"lvs_name": "lvs"}`, `\[\{"alias":"lvs/s1",.*"name":"s1",[^{]*"is_snapshot":true,"is_clone":false,.*\{"alias":"lvs/s2",.*"is_snapshot":true,"is_clone":true,.*` +
			`\{"alias":"lvs/l",.*"is_snapshot":false,"is_clone":true,.*\{"alias":"lvs/c",.*"is_snapshot":false,"is_clone":true,.*`},
		{"bdev_lvol_rename", `{"old_name": "lvs/s1", "new_name": "s9"}`, `-95`},
		{"bdev_lvol_rename", `{"old_name": "lvs/c", "new_name": "s2"}`, `-17`},
		{"bdev_lvol_create", `{"lvol_name": "s1", "size_in_mib": 16, "lvs_name": "lvs", "thin_provision": true}`, `-17`},
		{"bdev_lvol_set_read_only", `{"name": "lvs/s1"}`, `true`},
		{"bdev_lvol_snapshot", `{"lvol_name": "lvs/c", "snapshot_name": "s3"}`, anyUUID},
		{"bdev_get_bdevs", `{"name": "lvs/s1"}`, `.*"clones":\["s2","s3"\].*`},
		{"bdev_get_bdevs", `{"name": "lvs/s3"}`, `.*"base_snapshot":"s1","clone":true,"clones":\["c"\].*`},
		{"snapshot_create", `{"volume": "lvs/c", "name": "s1"}`, `.*`}, // names that SPDK would not allow
		{"bdev_get_bdevs", `{"name": "lvs/c"}`, `.*"base_snapshot":"c@s1".*`},
		{"bdev_lvol_delete", `{"name": "lvs/s1"}`, `-22`},
		{"bdev_lvol_delete", `{"name": "lvs/c@s1"}`, `true`},
		{"bdev_lvol_delete", `{"name": "lvs/s1"}`, `-16 ErrSnapshotInUse`},
		{"bdev_lvol_delete", `{"name": "lvs/s3"}`, `true`},
		{"bdev_lvol_delete", `{"name": "lvs/c"}`, `true`},
		{"bdev_lvol_delete", `{"name": "lvs/l"}`, `-16`},
		{"bdev_lvol_delete", `{"name": "lvs/s1"}`, `true`},
		{"bdev_lvol_delete", `{"name": "lvs/s2"}`, `true`},
		{"bdev_lvol_delete", `{"name": "lvs/l"}`, `true`},
		{"bdev_lvol_get_lvols", `{}`, `\[\]`},
	})
}

// TestASnapshotInUseStays: that a host may have open, and that another device stands on.
func TestASnapshotInUseStays(t *testing.T) {
	e := startServer(t, testServer, newDisk(t, 256<<20))
	e.steps(t, []step{
		{"pool_create", `{"name": "p", "device": "disk"}`, `.*`},
		{"volume_create", `{"pool": "p", "name": "v", "bytes": ` + mib16 + `}`, `.*`},
		{"snapshot_create", `{"volume": "p/v", "name": "s"}`, `.*`},
		{"nvmf_create_transport", `{"trtype": "TCP"}`, `true`},
		{"nvmf_create_subsystem", `{"nqn": "` + loopNQN + `", "allow_any_host": true}`, `true`},
		{"nvmf_subsystem_add_ns", `{"nqn": "` + loopNQN + `", "namespace": {"bdev_name": "p/s"}}`, `1`},
		{"snapshot_delete", `{"name": "p/v@s"}`, `-16 ErrSnapshotInUse`},
		{"bdev_lvol_delete", `{"name": "p/s"}`, `-16 ErrSnapshotInUse`},
		{"nvmf_subsystem_remove_ns", `{"nqn": "` + loopNQN + `", "nsid": 1}`, `true`},
		{"snapshot_delete", `{"name": "p/v@s"}`, `true`},
	})
	if _, err := api.SnapshotList.Call(t.Context(), e.Methods, api.SnapshotListParams{Pool: "p"}); err != nil {
		t.Error(err)
	}
}
