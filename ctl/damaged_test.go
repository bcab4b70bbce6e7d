package ctl

import (
	"bytes"
	"os"
	"testing"

	"github.com/google/uuid"

	"github.com/pollux-storage/pollux/bdev"
)

// TestAVolumeWhoseLogCannotBeRead is listed and not served, its neighbour is served, and who deletes it has its space and its name.
func TestAVolumeWhoseLogCannotBeRead(t *testing.T) {
	file := newDisk(t, 256<<20)
	e := startServer(t, testServer, file)
	id := uuid.New()
	e.steps(t, []step{
		{"bdev_error_create", `{"base_name": "disk"}`, `true`},
		{"pool_create", `{"name": "p", "device": "EE_disk"}`, `.*`},
		{"volume_create", `{"pool": "p", "name": "a", "bytes": 16777216, "log_bytes": 33554432, "uuid": "` + id.String() + `"}`, `.*`},
		{"volume_create", `{"pool": "p", "name": "b", "bytes": 16777216, "log_bytes": 33554432}`, `.*`},
		{"pool_export", `{"name": "p"}`, `job done`},
	})
	image, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	first := 0 // page of the log
	for at := 0; at < len(image) && first == 0; at += 4096 {
		if page := image[at:][:4096]; bytes.HasPrefix(page, []byte("PXLOG01\x00")) && bytes.Equal(page[24:40], id[:]) {
			first = at / 4096
		}
	}
	d, err := e.Bdevs.Lookup("EE_disk")
	if err != nil || first == 0 {
		t.Fatal(err, first)
	}
	blocks := 4096 / uint64(d.Geometry().BlockSize)
	if err := d.Driver().(*bdev.Fault).Inject(bdev.Rule{Kinds: bdev.SetOf(bdev.Read), First: uint64(first+1000) * blocks, Blocks: blocks}); err != nil {
		t.Fatal(err)
	}
	why := `volume a is damaged and not served: reading its log: of device EE_disk 1 pages cannot be read, the first is page \d+;.*import the pool again, or delete the volume`
	e.steps(t, []step{
		{"pool_import", `{"device": "EE_disk"}`, `job done`},
		{"volume_list", `{"pool": "p"}`, `\[\{"name":"a","pool":"p","uuid":"` + id.String() + `","bytes":16777216,"block_size":4096,.*"state":"damaged",.*\{"name":"b",.*"state":"healthy",.*`},
		{"volume_list", `{"name": "` + id.String() + `"}`, `\[\{"name":"a",[^{]*\}\]`},
		{"volume_status", `{"name": "p/a"}`, `.*"state":"damaged",.*` + why + `.*`},
		{"volume_stats", `{"name": "p/a"}`, `-5`},
		{"volume_create", `{"pool": "p", "name": "a", "bytes": 16777216, "log_bytes": 33554432}`, `-17`},
		{"pool_list", `{"name": "p"}`, `.*"volumes":1,.*"state":"unsafe",.*` + why + `.*`},
		{"engine_health", `{}`, `.*volume p/a.*` + why + `.*`},
		{"volume_delete", `{"name": "p/a"}`, `job done`},
		{"volume_list", `{"pool": "p"}`, `\[\{"name":"b"[^{]*\}\]`},
		{"pool_list", `{"name": "p"}`, `.*"state":"healthy".*`},
		{"volume_create", `{"pool": "p", "name": "a", "bytes": 16777216, "log_bytes": 33554432}`, `.*"state":"healthy".*`},
	})
}
