// Package durable is small files that are replaced as a whole.
//
// Invariants
//   - A crash leaves the old contents or the new ones.
//   - What Replace has returned nil for is on the disk.
//
// Units: bytes.
package durable

import (
	"errors"
	"os"
	"path/filepath"
)

// Replace gives a file other contents. Only its owner may read it.
func Replace(path string, b []byte) error {
	tmp := path + ".new"
	f, err := os.OpenFile(tmp, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(b)
	err = errors.Join(err, f.Sync(), f.Close())
	if err == nil {
		err = os.Rename(tmp, path)
	}
	if err != nil {
		_ = os.Remove(tmp) // on a disk that is full it keeps others from what they need
		return err
	}
	dir, err := os.Open(filepath.Dir(path))
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}
