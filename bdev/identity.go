package bdev

import (
	"os"
	"path/filepath"
	"strings"

	"github.com/google/uuid"
)

// fileSpace is the name space of the UUIDs that devices on files get (RFC 9562 section 5.5, "UUID Version 5"); it was drawn once.
var fileSpace = uuid.MustParse("6f0f8a1e-5a0c-4c55-9d0e-3a4b1c3f7a52")

// fileUUID is the identity of a device on a file or block device that was given none: the same at every start of the engine on
// this machine, so that a host that comes back finds its namespace again and does not take it for another.
func fileUUID(path string) uuid.UUID {
	if p, err := filepath.Abs(path); err == nil {
		path = p
	}
	if p, err := filepath.EvalSymlinks(path); err == nil {
		path = p
	}
	machine, err := os.ReadFile("/etc/machine-id")
	if err != nil || len(machine) == 0 {
		host, _ := os.Hostname()
		machine = []byte(host)
	}
	return uuid.NewSHA1(fileSpace, []byte(strings.TrimSpace(string(machine))+"\x00"+path))
}
