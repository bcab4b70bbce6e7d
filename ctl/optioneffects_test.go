package ctl

import (
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/pollux-storage/pollux/bdev"
	"github.com/pollux-storage/pollux/ctl/api"
	"github.com/pollux-storage/pollux/volume"
)

// This file is V-53: every option of pools, volumes, snapshots, of the devices that we make and of the iSCSI target bites, or is refused. Each test names the
// parameters whose effect it observes; one that no test names fails TestEveryOptionHasItsEffect.

// optionMethods are the methods whose parameters are options of ours.
func optionMethods(name string) bool {
	switch name {
	case "bdev_malloc_create", "bdev_null_create", "bdev_uring_create", "bdev_aio_create", "replica_assign":
		return true
	}
	for _, prefix := range []string{"bdev_raid_", "bdev_crypto_", "accel_crypto_", "iscsi_"} {
		if strings.HasPrefix(name, prefix) {
			return true
		}
	}
	return strings.HasPrefix(name, "pool_") || strings.HasPrefix(name, "volume_") || strings.HasPrefix(name, "snapshot_")
}

// optionRig is an engine with the pool p on disk, a failing device below it.
type optionRig struct {
	*testing.T
	testEngine
	file string // of disk
}

func (x *optionRig) volume(name string) *volume.Volume {
	x.Helper()
	v, err := x.Engine.volume(name)
	if err != nil {
		x.Fatal(err)
	}
	return v
}

func (x *optionRig) info(name string) volume.VolumeInfo {
	x.Helper()
	i, err := x.volume(name).Info()
	if err != nil {
		x.Fatal(err)
	}
	return i
}

func (x *optionRig) geometry(name string) bdev.Geometry {
	x.Helper()
	d, err := x.Bdevs.Lookup(name)
	if err != nil {
		x.Fatal(err)
	}
	return d.Geometry()
}

// is fails the test unless what an option did is what it should do.
func (x *optionRig) is(what string, got, want any) {
	x.Helper()
	if fmt.Sprint(got) != fmt.Sprint(want) {
		x.Errorf("%s: %v, want %v", what, got, want)
	}
}

const (
	optionUUID = "0aafa1a9-bcb6-4d42-a9f5-1b5c1c6f5a04"
	mib64      = "67108864"
)

// optionEffect is a test, and the parameters whose effects it observes.
type optionEffect struct {
	of   string
	test func(x *optionRig)
}

// optionEffects are those of pools, volumes, snapshots, files and memory.
var optionEffects = []optionEffect{
	{"pool_create: name device cluster_bytes log_device force; pool_list: name; pool_export: name; pool_delete: name; pool_rename: name new_name; pool_import: device log_device", func(x *optionRig) {
		x.steps(x.T, []step{
			{"bdev_malloc_create", `{"name": "m", "num_blocks": 32768, "block_size": 4096}`, `.*`},
			{"bdev_malloc_create", `{"name": "logs", "num_blocks": 32768, "block_size": 4096}`, `.*`},
			{"bdev_malloc_create", `{"name": "more", "num_blocks": 32768, "block_size": 4096}`, `.*`},
			{"pool_create", `{"name": "q", "device": "m", "cluster_bytes": 131072, "log_device": "logs"}`, `.*`},
			{"pool_create", `{"name": "r", "device": "more", "cluster_bytes": 65537}`, `-22`},
			{"pool_list", `{"name": "q"}`, `\[{"name":"q",[^}]*"device":"m",[^}]*"cluster_bytes":131072,[^}]*"log_device":"logs".*`},
			{"pool_list", `{"name": "p"}`, `\[{"name":"p".*"cluster_bytes":65536.*`},
			{"pool_list", `{"name": "none"}`, `-19`},
			{"pool_rename", `{"name": "q", "new_name": "z"}`, `true`},
			{"pool_rename", `{"name": "q", "new_name": "y"}`, `-19`},
			{"pool_export", `{"name": "z"}`, `job done`},
			{"pool_create", `{"name": "q", "device": "m"}`, `-17`},
			{"pool_import", `{"device": "m", "log_device": "more"}`, `job failed .*`},
			{"pool_import", `{"device": "m", "log_device": "logs"}`, `job done`},
			{"pool_list", `{"name": "z"}`, `\[{"name":"z".*`},
			{"pool_export", `{"name": "z"}`, `job done`},
			{"pool_create", `{"name": "q", "device": "m", "force": true}`, `.*`},
			{"pool_delete", `{"name": "q"}`, `job done`},
			{"pool_create", `{"name": "q", "device": "m"}`, `.*`},
		})
	}},
	{"pool_import: take_over accept_log_loss delete_damaged", func(x *optionRig) {
		file := newDisk(x.T, 128<<20)
		other := startServer(x.T, uuid.MustParse(optionUUID), "")
		other.steps(x.T, []step{
			{"bdev_uring_create", `{"name": "u", "filename": "` + file + `"}`, `.*`},
			{"bdev_malloc_create", `{"name": "logs", "num_blocks": 32768, "block_size": 4096}`, `.*`},
			{"pool_create", `{"name": "foreign", "device": "u", "log_device": "logs"}`, `.*`},
		})
		other.stop()
		x.pools.mu.Lock()
		x.pools.manual = true // nobody opens it but the call
		x.pools.mu.Unlock()
		x.steps(x.T, []step{
			{"bdev_uring_create", `{"name": "u", "filename": "` + file + `"}`, `.*`},
			{"pool_import", `{"device": "u"}`, `job failed .*another server.*`},
			{"pool_import", `{"device": "u", "take_over": true}`, `job failed .*log device is missing.*`},
			{"pool_import", `{"device": "u", "take_over": true, "accept_log_loss": true}`, `job done`},
			{"volume_create", `{"pool": "foreign", "name": "broken", "bytes": 4194304}`, `.*`},
			{"pool_export", `{"name": "foreign"}`, `job done`}, {"bdev_uring_delete", `{"name": "u"}`, `true`},
		})
		spoiled(x.T, file, "broken")
		x.steps(x.T, []step{
			{"bdev_uring_create", `{"name": "u", "filename": "` + file + `"}`, `.*`},
			{"pool_import", `{"device": "u"}`, `job failed .*delete_damaged.*`},
			{"pool_import", `{"device": "u", "delete_damaged": true}`, `job done`},
			{"volume_list", `{"pool": "foreign"}`, `\[\]`},
		})
	}},
	{"volume_delete: force", func(x *optionRig) {
		x.fill(x.T, "p/v", 0, 16, 'a')
		x.steps(x.T, []step{
			{"volume_create", `{"pool": "p", "name": "broken", "bytes": 4194304, "uuid": "` + optionUUID + `"}`, `.*`},
			{"snapshot_create", `{"volume": "p/broken", "name": "s"}`, `.*`},
		})
		d, err := x.Bdevs.Lookup("EE_disk")
		if err != nil {
			x.Fatal(err)
		}
		unit := volume.PageBytes / uint64(d.Geometry().BlockSize)
		log := logPage(x.T, x.file, optionUUID)
		x.steps(x.T, []step{{"pool_export", `{"name": "p"}`, `job done`}})
		if err := d.Driver().(*bdev.Fault).Inject(bdev.Rule{Kinds: bdev.SetOf(bdev.Read), First: uint64(log+1000) * unit, Blocks: unit}); err != nil {
			x.Fatal(err)
		}
		x.steps(x.T, []step{
			{"pool_import", `{"device": "EE_disk"}`, `job done`},
			{"volume_delete", `{"name": "p/broken"}`, `job failed .*snapshots.*`},
			{"volume_delete", `{"name": "p/broken", "force": true}`, `job done`},
			{"volume_list", `{"pool": "p"}`, `\[{"name":"v"[^{]*}\]`},
		})
		x.has(x.T, "p/v", 0, 16, 'a')
	}},
	{"pool_grow: name", func(x *optionRig) {
		file := newDisk(x.T, 64<<20)
		x.steps(x.T, []step{
			{"bdev_uring_create", `{"name": "u", "filename": "` + file + `"}`, `.*`}, {"pool_create", `{"name": "q", "device": "u"}`, `.*`},
		})
		if err := os.Truncate(file, 256<<20); err != nil {
			x.Fatal(err)
		}
		x.steps(x.T, []step{
			{"bdev_uring_rescan", `{"name": "u"}`, `true`}, {"pool_grow", `{"name": "none"}`, `-19`}, {"pool_grow", `{"name": "q"}`, `.*"bytes":268435456.*`},
		})
	}},
	{"volume_create: pool name bytes block_size write_cache on_cache_loss verify use log_bytes uuid; volume_list: pool name; volume_delete: name; volume_status: name; volume_stats: name", func(x *optionRig) {
		x.steps(x.T, []step{
			{"volume_create", `{"pool": "p", "name": "w", "bytes": 4194304, "block_size": 512, "write_cache": "VOLATILE", "on_cache_loss": "Fence", "verify": true, "use": "Database", "log_bytes": 150994944, "uuid": "` + optionUUID + `"}`, `.*`},
			{"volume_create", `{"pool": "p", "name": "small", "bytes": 4194304, "use": "database", "log_bytes": ` + mib64 + `}`, `-22 ErrLogTooSmall`},
			{"volume_create", `{"pool": "none", "name": "w", "bytes": 4194304}`, `-19`},
			{"volume_create", `{"pool": "p", "name": "odd", "bytes": 4194304, "block_size": 1024}`, `-22`},
			{"volume_list", `{"name": "` + optionUUID + `"}`, `\[{"name":"w","pool":"p".*`},
			{"volume_list", `{"name": "p/none"}`, `-19`}, {"volume_list", `{"pool": "none"}`, `-19`},
			{"volume_status", `{"name": "p/w"}`, `{"name":"w".*`}, {"volume_status", `{"name": "p/none"}`, `-19`},
			{"volume_stats", `{"name": "p/w"}`, `{"name":"w".*`}, {"volume_stats", `{"name": "p/none"}`, `-19`},
		})
		g := x.geometry("p/w")
		x.is("block_size", g.BlockSize, 512)
		x.is("bytes", g.Bytes(), 4194304)
		x.is("write_cache", g.Volatile, true)
		i := x.info("p/w")
		x.is("on_cache_loss", i.CacheLoss, "fence")
		x.is("use", i.Use, "database")
		x.is("log_bytes", i.LogAreaBytes, 150994944)
		x.is("verify reads a flipped bit", x.flipped("p/w"), bdev.StatusCorrupt)
		x.is("without verify", x.flipped("p/v"), bdev.StatusOK)
		x.is("default of block_size", x.geometry("p/v").BlockSize, 4096)
		x.is("default of write_cache", x.geometry("p/v").Volatile, false)
		x.is("default of log_bytes", x.info("p/v").LogAreaBytes, mib64)
		x.steps(x.T, []step{{"volume_delete", `{"name": "p/w"}`, `job done`}, {"volume_list", `{"pool": "p"}`, `\[{"name":"v"[^{]*}\]`}, {"volume_delete", `{"name": "p/w"}`, `-19`}})
	}},
	{"volume_create: thick", func(x *optionRig) {
		free := func() uint64 {
			i, err := x.volume("p/v").Pool().Info()
			if err != nil {
				x.Fatal(err)
			}
			return i.Space.Free - i.Space.Reserved
		}
		before := free()
		x.steps(x.T, []step{{"volume_create", `{"pool": "p", "name": "thin", "bytes": 33554432, "log_bytes": 33554432}`, `.*`}})
		thin := free()
		x.steps(x.T, []step{{"volume_create", `{"pool": "p", "name": "t", "bytes": 33554432, "log_bytes": 33554432, "thick": true}`, `.*`}})
		if more := before - thin + 33554432/volume.PageBytes; thin-free() < more {
			x.Errorf("a thick volume takes %d pages of what others may have, at least %d should it be", thin-free(), more)
		}
	}},
	{"volume_resize: name bytes; volume_set_read_only: name read_only; volume_set_write_cache: name write_cache; volume_set_cache_loss: name on_cache_loss", func(x *optionRig) {
		x.steps(x.T, []step{
			{"volume_resize", `{"name": "p/v", "bytes": 33554432}`, `true`}, {"volume_resize", `{"name": "p/v", "bytes": 4096}`, `-22 ErrShrink`}, {"volume_resize", `{"name": "p/none", "bytes": 4096}`, `-19`},
			{"volume_set_write_cache", `{"name": "p/v", "write_cache": "Volatile"}`, `true`}, {"volume_set_write_cache", `{"name": "p/none", "write_cache": "none"}`, `-19`},
			{"volume_set_write_cache", `{"name": "p/v", "write_cache": "some"}`, `-32602`},
			{"volume_set_cache_loss", `{"name": "p/v", "on_cache_loss": "FENCE"}`, `true`}, {"volume_set_cache_loss", `{"name": "p/none", "on_cache_loss": "fence"}`, `-19`},
			{"volume_set_read_only", `{"name": "p/v"}`, `true`}, {"volume_set_read_only", `{"name": "p/none"}`, `-19`},
		})
		g := x.geometry("p/v")
		x.is("bytes", g.Bytes(), 33554432)
		x.is("write_cache", g.Volatile, true)
		x.is("read_only", g.ReadOnly, true)
		x.is("on_cache_loss", x.info("p/v").CacheLoss, "fence")
		x.steps(x.T, []step{{"volume_set_read_only", `{"name": "p/v", "read_only": false}`, `true`}})
		x.is("read_only: false", x.geometry("p/v").ReadOnly, false)
	}},
	{"volume_promote: name epoch; replica_assign: name role epoch; volume_release: name", func(x *optionRig) {
		x.steps(x.T, []step{
			{"volume_release", `{"name": "p/none"}`, `-19`}, {"volume_release", `{"name": "p/v"}`, `.*`},
			{"replica_assign", `{"name": "p/none", "role": "stale"}`, `-19`}, {"volume_promote", `{"name": "p/none"}`, `-19`},
			{"replica_assign", `{"name": "p/v", "role": "STALE", "epoch": 5}`, `true`},
		})
		x.is("role", x.info("p/v").Role, "stale")
		x.steps(x.T, []step{{"replica_assign", `{"name": "p/v", "role": "replica", "epoch": 4}`, `-22 ErrEpochRegression`}, {"replica_assign", `{"name": "p/v", "role": "replica", "epoch": 6}`, `true`}})
		x.steps(x.T, []step{{"volume_promote", `{"name": "p/v", "epoch": 9}`, `true`}})
		x.is("role", x.info("p/v").Role, "primary")
		x.is("epoch", x.info("p/v").Epoch, 9)
	}},
	{"volume_scrub_start: name limit_bytes_per_second; volume_scrub_pause: name; volume_scrub_stop: name; pool_scrub: name limit_bytes_per_second; volume_scrub_set_options: every_hours limit_bytes_per_second", func(x *optionRig) {
		for i := range 8 {
			x.fill(x.T, "p/v", uint64(i)*256, 256, 1)
		}
		x.steps(x.T, []step{{"snapshot_create", `{"volume": "p/v", "name": "home"}`, `.*`}}) // all of it is home
		for _, m := range []string{"volume_scrub_start", "volume_scrub_pause", "volume_scrub_stop"} {
			x.steps(x.T, []step{{m, `{"name": "p/none"}`, `-19`}})
		}
		state := func() string {
			i, err := x.volume("p/v").Scrub()
			if err != nil {
				x.Fatal(err)
			}
			return i.State
		}
		becomes := func(want string) {
			x.Helper()
			for end := time.Now().Add(20 * time.Second); state() != want; time.Sleep(time.Millisecond) {
				if time.Now().After(end) {
					x.Fatalf("the scrub is %s, not %s", state(), want)
				}
			}
		}
		x.steps(x.T, []step{{"volume_scrub_start", `{"name": "p/v", "limit_bytes_per_second": 4096}`, `true`}})
		x.is("a scrub of 4096 bytes a second", state(), "running") // of 8 MiB: half an hour
		x.steps(x.T, []step{{"volume_scrub_pause", `{"name": "p/v"}`, `true`}})
		becomes("paused")
		x.steps(x.T, []step{{"volume_scrub_stop", `{"name": "p/v"}`, `true`}})
		becomes("idle")
		answer := x.ask(x.T, "pool_scrub", `{"name": "p", "limit_bytes_per_second": 4096}`)
		becomes("running")
		var started api.JobStarted
		if err := json.Unmarshal([]byte(answer), &started); err != nil {
			x.Fatal(err)
		}
		x.steps(x.T, []step{{"engine_cancel", `{"job": "` + started.Job + `"}`, `true`}})
		x.is("pool_scrub of 4096 bytes a second, cancelled", strings.Fields(x.finish(x.T, answer))[0], "cancelled")
		x.steps(x.T, []step{
			{"volume_scrub_stop", `{"name": "p/v"}`, `true`}, {"pool_scrub", `{"name": "none"}`, `-19`}, {"pool_scrub", `{"name": "p"}`, `job done`},
			{"volume_scrub_set_options", `{"every_hours": 3, "limit_bytes_per_second": 77}`, `true`},
		})
		x.is("every_hours", x.scrubs.every, "3h0m0s")
		x.is("limit_bytes_per_second", x.scrubs.limit, 77)
	}},
	{"snapshot_create: volume name uuid; snapshot_delete: name; snapshot_list: pool volume name; snapshot_diff: volume snapshot since_snapshot since_lsn offset max_ranges", func(x *optionRig) {
		x.fill(x.T, "p/v", 0, 16, 'a')
		x.fill(x.T, "p/v", 64, 16, 'a')
		x.steps(x.T, []step{
			{"snapshot_create", `{"volume": "p/none", "name": "s"}`, `-19`},
			{"snapshot_create", `{"volume": "p/v", "name": "s", "uuid": "` + optionUUID + `"}`, `{"name":"s","volume":"v","pool":"p","uuid":"` + optionUUID + `".*`},
			{"snapshot_list", `{"name": "` + optionUUID + `"}`, `\[{"name":"s".*`}, {"snapshot_list", `{"name": "p/v@none"}`, `-19`},
			{"snapshot_list", `{"pool": "none"}`, `-19`}, {"snapshot_list", `{"volume": "p/none"}`, `-19`}, {"snapshot_list", `{"volume": "p/v"}`, `\[{"name":"s".*`},
			{"snapshot_list", `{"pool": "p"}`, `\[{"name":"s".*`},
		})
		x.fill(x.T, "p/v", 128, 16, 'b')
		lsn := fmt.Sprint(uint64(x.info("p/v").Appended))
		x.steps(x.T, []step{
			{"snapshot_diff", `{"volume": "p/none"}`, `-19`},
			{"snapshot_diff", `{"volume": "p/v", "snapshot": "s"}`, `.*"ranges":\[{"offset":0,"bytes":65536},{"offset":262144,"bytes":65536}\].*`},
			{"snapshot_diff", `{"volume": "p/v", "snapshot": "s", "max_ranges": 1}`, `.*"ranges":\[{"offset":0,"bytes":65536}\],"next_offset":.*`},
			{"snapshot_diff", `{"volume": "p/v", "snapshot": "s", "offset": 65536}`, `.*"ranges":\[{"offset":262144,"bytes":65536}\].*`},
			{"snapshot_diff", `{"volume": "p/v", "since_snapshot": "s"}`, `.*"ranges":\[{"offset":524288,"bytes":65536}\].*`},
			{"snapshot_diff", `{"volume": "p/v", "since_lsn": ` + lsn + `}`, `.*"ranges":\[\].*`},
			{"snapshot_delete", `{"name": "p/v@none"}`, `-19`}, {"snapshot_delete", `{"name": "p/v@s"}`, `true`}, {"snapshot_list", `{"name": "` + optionUUID + `"}`, `-19`},
		})
	}},
	{"snapshot_clone: name clone write_cache verify use log_bytes uuid; volume_flatten: name", func(x *optionRig) {
		x.fill(x.T, "p/v", 0, 16, 'a')
		x.steps(x.T, []step{
			{"snapshot_create", `{"volume": "p/v", "name": "s"}`, `.*`}, {"snapshot_clone", `{"name": "p/v@none", "clone": "c"}`, `-19`},
			{"snapshot_clone", `{"name": "p/v@s", "clone": "c", "write_cache": "Volatile", "verify": true, "use": "DATABASE", "log_bytes": 150994944, "uuid": "` + optionUUID + `"}`, `.*"uuid":"` + optionUUID + `".*`},
		})
		x.has(x.T, "p/c", 0, 16, 'a')
		i := x.info("p/c")
		x.is("write_cache", i.Cache, "volatile")
		x.is("verify", i.Verify, true)
		x.is("use", i.Use, "database")
		x.is("log_bytes", i.LogAreaBytes, 150994944)
		x.steps(x.T, []step{
			{"snapshot_delete", `{"name": "p/v@s"}`, `-16 ErrSnapshotInUse`}, {"volume_flatten", `{"name": "p/none"}`, `-19`}, {"volume_flatten", `{"name": "p/c"}`, `job done`}, {"snapshot_delete", `{"name": "p/v@s"}`, `true`},
		})
	}},
	{"snapshot_restore: name drop_newer force request", func(x *optionRig) {
		const again = `"request": "` + optionUUID + `"`
		x.fill(x.T, "p/v", 0, 16, 'a')
		x.steps(x.T, []step{{"snapshot_create", `{"volume": "p/v", "name": "s"}`, `.*`}, {"snapshot_create", `{"volume": "p/v", "name": "newer"}`, `.*`}, {"snapshot_restore", `{"name": "p/v@none"}`, `-19`}})
		x.fill(x.T, "p/v", 0, 16, 'b')
		h, err := x.Bdevs.Open("p/v", bdev.OpenOptions{Who: "test"})
		if err != nil {
			x.Fatal(err)
		}
		x.steps(x.T, []step{
			{"snapshot_restore", `{"name": "p/v@s", "drop_newer": true}`, `job failed .*in use.*`},
			{"snapshot_restore", `{"name": "p/v@s", "force": true}`, `job failed .*newer.*`},
			{"snapshot_restore", `{"name": "p/v@s", "force": true, "drop_newer": true, ` + again + `}`, `job done`},
		})
		h.Close()
		x.has(x.T, "p/v", 0, 16, 'a')
		x.fill(x.T, "p/v", 0, 16, 'c')
		x.steps(x.T, []step{{"snapshot_restore", `{"name": "p/v@s", ` + again + `}`, `job done`}})
		x.has(x.T, "p/v", 0, 16, 'c')
		x.steps(x.T, []step{{"snapshot_list", `{"name": "p/v@newer"}`, `-19`}})
	}},
	{"bdev_malloc_create: name num_blocks block_size uuid optimal_io_boundary physical_block_size numa_id md_interleave md_size dif_type dif_is_head_of_md dif_pi_format", func(x *optionRig) {
		x.steps(x.T, []step{{"bdev_malloc_create", `{"name": "m", "num_blocks": 77, "block_size": 512, "uuid": "` + optionUUID + `", "optimal_io_boundary": 8, "physical_block_size": 4096, "numa_id": -1}`, `"m"`}})
		x.made("m", 77, 512, 4096, 8)
		x.unsupported("bdev_malloc_create", `"name": "n", "num_blocks": 77, "block_size": 512`, "numa_id", "md_interleave")
		x.refusesMetadata("bdev_malloc_create")
	}},
	{"bdev_null_create: name num_blocks block_size uuid physical_block_size preferred_write_granularity preferred_write_alignment optimal_write_size preferred_unmap_granularity preferred_unmap_alignment md_size dif_type dif_is_head_of_md dif_pi_format", func(x *optionRig) {
		x.steps(x.T, []step{{"bdev_null_create", `{"name": "m", "num_blocks": 77, "block_size": 512, "uuid": "` + optionUUID + `", "optimal_write_size": 8, "physical_block_size": 4096}`, `"m"`}})
		x.made("m", 77, 512, 4096, 8)
		x.unsupported("bdev_null_create", `"name": "n", "num_blocks": 77, "block_size": 512`, "preferred_write_granularity", "preferred_write_alignment", "preferred_unmap_granularity", "preferred_unmap_alignment")
		x.refusesMetadata("bdev_null_create")
	}},
	{"bdev_uring_create: filename name block_size uuid; bdev_aio_create: name filename block_size readonly fallocate uuid nowait", func(x *optionRig) {
		file := newDisk(x.T, 1<<20)
		x.steps(x.T, []step{
			{"bdev_uring_create", `{"name": "u", "filename": "/none", "block_size": 512}`, `-2`},
			{"bdev_uring_create", `{"name": "u", "filename": "` + file + `", "block_size": 512, "uuid": "` + optionUUID + `"}`, `"u"`},
		})
		x.made("u", 2048, 512, 0, 0)
		x.steps(x.T, []step{
			{"bdev_uring_delete", `{"name": "u"}`, `true`},
			// fallocate and nowait ask for what is so anyway: a file takes unmaps, and no reactor waits for it.
			{"bdev_aio_create", `{"name": "u", "filename": "` + file + `", "block_size": 512, "readonly": true, "fallocate": true, "nowait": true, "uuid": "` + optionUUID + `"}`, `"u"`},
		})
		x.made("u", 2048, 512, 0, 0)
		x.is("readonly", x.geometry("u").ReadOnly, true)
		x.steps(x.T, []step{{"bdev_aio_delete", `{"name": "u"}`, `true`}, {"bdev_aio_create", `{"name": "u", "filename": "` + file + `", "fallocate": true}`, `"u"`}})
		x.is("fallocate", x.geometry("u").Native.Has(bdev.Unmap), true)
	}},
}

// made compares a device with how it was asked for; 0 for what was not said.
func (x *optionRig) made(name string, blocks, blockSize, physical, optimal uint64) {
	x.Helper()
	d, err := x.Bdevs.Lookup(optionUUID)
	if err != nil {
		x.Fatal(err)
	}
	g := d.Geometry()
	x.is("name", d.Name(), name)
	x.is("blocks", g.Blocks, blocks)
	x.is("block_size", g.BlockSize, blockSize)
	if physical > 0 {
		x.is("physical_block_size", g.PhysicalBlockSize, physical)
		x.is("the optimal size", g.OptimalBlocks, optimal)
	}
}

// unsupported says that options are refused which this engine cannot give.
func (x *optionRig) unsupported(method, params string, options ...string) {
	x.Helper()
	for _, o := range options {
		value := "1"
		if o == "md_interleave" {
			value = "true"
		}
		x.steps(x.T, []step{{method, `{` + params + `, "` + o + `": ` + value + `}`, `-95 ErrUnsupported`}})
	}
}

func (x *optionRig) refusesMetadata(method string) {
	x.Helper()
	for _, o := range []string{`"md_size": 8`, `"dif_type": 1`, `"dif_is_head_of_md": true`, `"dif_pi_format": 1`} {
		x.steps(x.T, []step{{method, `{"name": "n", "num_blocks": 77, "block_size": 512, ` + o + `}`, `-22`}})
	}
}

// flipped writes a cluster of a volume, and reads it with a bit flipped at the pool's device.
func (x *optionRig) flipped(name string) bdev.Status {
	x.Helper()
	x.fill(x.T, name, 0, 16, 'x')
	x.steps(x.T, []step{{"snapshot_create", `{"volume": "` + name + `", "name": "home"}`, `.*`}, {"snapshot_delete", `{"name": "` + name + `@home"}`, `true`}})
	d, err := x.Bdevs.Lookup("EE_disk")
	if err != nil {
		x.Fatal(err)
	}
	f := d.Driver().(*bdev.Fault)
	if err := f.Inject(bdev.Rule{Kinds: bdev.SetOf(bdev.Read), Effect: bdev.EffectCorruptData, Xor: 1, Depth: 0}); err != nil {
		x.Fatal(err)
	}
	defer f.Clear(^bdev.KindSet(0))
	return x.try(x.T, name, bdev.Read, 0, make([]byte, 16*4096))
}

func TestEveryOptionHasItsEffect(t *testing.T) {
	missing := map[string]bool{}
	for _, m := range api.Methods() {
		if !optionMethods(m.Name) {
			continue
		}
		for _, p := range *m.ParamsSchema().Properties {
			if !strings.HasPrefix(m.Name, "iscsi_") || !strings.Contains(p.Schema.Description, "no effect:") { // SPDK's, for what is not here
				missing[m.Name+"."+p.Name] = true
			}
		}
	}
	for _, c := range slices.Concat(optionEffects, layerEffects, iscsiEffects) {
		for _, one := range strings.Split(c.of, "; ") {
			method, params, _ := strings.Cut(one, ": ")
			for _, p := range strings.Fields(params) {
				if !missing[method+"."+p] {
					t.Errorf("%s has no parameter %s, or it is named twice", method, p)
				}
				delete(missing, method+"."+p)
			}
		}
		t.Run(c.of, func(t *testing.T) {
			file := newDisk(t, 512<<20)
			x := &optionRig{t, startServer(t, testServer, file), file}
			x.steps(t, []step{
				{"bdev_error_create", `{"base_name": "disk"}`, `.*`}, {"pool_create", `{"name": "p", "device": "EE_disk"}`, `.*`},
				{"volume_create", `{"pool": "p", "name": "v", "bytes": 16777216}`, `.*`},
			})
			c.test(x)
		})
	}
	for _, name := range slices.Sorted(maps.Keys(missing)) {
		t.Errorf("nothing observes the effect of %s", name)
	}
}

// TestEnumerationsIgnoreCase: the words of every enumeration of the catalogue, in capitals, are taken as they are.
func TestEnumerationsIgnoreCase(t *testing.T) {
	for _, m := range api.Methods() {
		for _, p := range *m.ParamsSchema().Properties {
			for _, word := range p.Schema.Enum {
				doc := `{"` + p.Name + `": "` + strings.ToUpper(word) + `"}`
				v, _, err := api.ParseJSON([]byte(doc))
				if err != nil {
					t.Fatal(err)
				}
				if p.Schema.Type == "array" {
					continue
				}
				if err := m.Check(&v); err != nil && !strings.Contains(err.Error(), "is missing") {
					t.Errorf("%s.%s: %v", m.Name, p.Name, err)
				}
			}
		}
	}
}
