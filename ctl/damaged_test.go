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
	first := logPage(t, file, id.String())
	d, err := e.Bdevs.Lookup("EE_disk")
	if err != nil {
		t.Fatal(err)
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

// logPage is the first page of a volume's log in a file, of which a page was written.
func logPage(t *testing.T, file, volume string) int {
	t.Helper()
	image, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	id := uuid.MustParse(volume)
	for at := 0; at < len(image); at += 4096 {
		if page := image[at:][:4096]; bytes.HasPrefix(page, []byte("PXLOG01\x00")) && bytes.Equal(page[24:40], id[:]) {
			return at / 4096
		}
	}
	t.Fatalf("there is no log of volume %s", volume)
	return 0
}

// spoiled lets the pages of a volume that lead to it read as zeros, in all copies of a file that an engine has left.
func spoiled(t *testing.T, file string, name string) {
	t.Helper()
	image, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for at := 0; at < len(image); at += 4096 {
		if page := image[at:][:4096]; bytes.HasPrefix(page, []byte("PXmV")) && bytes.Contains(page, append([]byte(name), 0)) {
			clear(page)
			n++
		}
	}
	if n == 0 {
		t.Fatalf("%d pages of volume %s", n, name)
	}
	if err := os.WriteFile(file, image, 0o600); err != nil {
		t.Fatal(err)
	}
}

// TestAVolumeWhosePageIsDamagedIsDeletedByTheImport, where the others have too few pages beside it.
func TestAVolumeWhosePageIsDamagedIsDeletedByTheImport(t *testing.T) {
	file := newDisk(t, 256<<20)
	e := startServer(t, testServer, file)
	e.steps(t, []step{
		{"pool_create", `{"name": "p", "device": "disk"}`, `.*`},
		{"volume_create", `{"pool": "p", "name": "broken", "bytes": 16777216, "log_bytes": 33554432}`, `.*`},
		{"volume_create", `{"pool": "p", "name": "b", "bytes": 16777216, "log_bytes": 33554432}`, `.*`},
	})
	e.fill(t, "p/b", 64*5, 1, 5)
	e.steps(t, []step{{"volume_delete", `{"name": "p/broken", "force": true}`, `job done`}}) // force is nothing for one that is whole
	e.steps(t, []step{{"volume_create", `{"pool": "p", "name": "broken", "bytes": 16777216, "log_bytes": 33554432}`, `.*`}})
	e.stop()
	spoiled(t, file, "broken")

	e = startServer(t, testServer, file) // the pool has few single pages beside the clusters that nobody may have: it is not opened
	e.steps(t, []step{
		{"pool_list", `{}`, `\[\]`},
		{"pool_import", `{"device": "disk"}`, `job failed .*delete_damaged.*`},
		{"pool_import", `{"device": "disk", "delete_damaged": true}`, `job done`},
		{"volume_list", `{"pool": "p"}`, `\[\{"name":"b"[^{]*\}\]`},
		{"pool_list", `{"name": "p"}`, `.*"state":"healthy".*`},
		{"volume_create", `{"pool": "p", "name": "broken", "bytes": 16777216, "log_bytes": 33554432}`, `.*`},
	})
	e.has(t, "p/b", 64*5, 1, 5)
}
