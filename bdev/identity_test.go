package bdev

import (
	"os"
	"path/filepath"
	"testing"
)

func TestAFileIsTheSameDeviceByEveryName(t *testing.T) {
	dir := t.TempDir()
	file, link := filepath.Join(dir, "disk"), filepath.Join(dir, "link")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(file, link); err != nil {
		t.Fatal(err)
	}
	id := fileUUID(file)
	if fileUUID(link) != id || fileUUID(dir+"/./disk") != id {
		t.Error("another name of the file gives another identity")
	}
	if fileUUID(file+"2") == id {
		t.Error("another file has the same identity")
	}
}
