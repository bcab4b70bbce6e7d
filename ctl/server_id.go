package ctl

import (
	"crypto/hmac"
	"crypto/sha256"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/google/uuid"
)

// This file is who this server is: the id that stands in the superblock of its pools, so that no other server opens them by mistake.
// It has to be the same after each start. It stands in the state directory, where there is one, and then is as movable as that; else it
// is derived from the machine's own id, of which machine-id(5) says that it must not be shown: what is kept is a keyed hash, as
// sd_id128_get_machine_app_specific(3) makes one: HMAC-SHA256 with the machine's id as the key over an id of the application, the first
// 16 bytes, marked as a UUID of version 4.

// serverApp is the application's id in that hash.
var serverApp = uuid.MustParse("0c2cf54f-4a3b-4d9a-9a4c-7d55a3a4f1e6")

// serverFile is the name of the file in the state directory.
const serverFile = "server-id"

// ServerID gives the id: from the state directory, which gets one if it has none, or without a directory from the machine.
func ServerID(stateDir string) (uuid.UUID, error) {
	if stateDir != "" {
		return serverFromState(filepath.Join(stateDir, serverFile))
	}
	return serverFromMachine("/etc/machine-id")
}

func serverFromMachine(path string) (uuid.UUID, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return uuid.Nil, fmt.Errorf("reading this machine's id: %w; give serve a --state directory", err)
	}
	machine, err := uuid.Parse(strings.TrimSpace(string(text)))
	if err != nil || machine == uuid.Nil {
		return uuid.Nil, fmt.Errorf("reading this machine's id: %s has none; give serve a --state directory", path)
	}
	h := hmac.New(sha256.New, machine[:])
	h.Write(serverApp[:])
	id := uuid.UUID(h.Sum(nil)[:16])
	id[6] = id[6]&0x0f | 0x40
	id[8] = id[8]&0x3f | 0x80
	return id, nil
}

func serverFromState(path string) (uuid.UUID, error) {
	text, err := os.ReadFile(path)
	if errors.Is(err, os.ErrNotExist) {
		return newServerID(path)
	}
	if err != nil {
		return uuid.Nil, fmt.Errorf("reading the id of this server: %w", err)
	}
	id, err := uuid.Parse(strings.TrimSpace(string(text)))
	if err != nil || id == uuid.Nil {
		return uuid.Nil, fmt.Errorf("reading the id of this server: %s holds no UUID; write the one that its pools have, or delete the file and take the pools over", path)
	}
	return id, nil
}

// newServerID makes an id that is there after a power cut: pools will have it.
func newServerID(path string) (uuid.UUID, error) {
	id := uuid.New()
	err := os.MkdirAll(filepath.Dir(path), 0o700)
	if err == nil {
		err = writeWhole(path, id.String()+"\n")
	}
	if err != nil {
		return uuid.Nil, fmt.Errorf("keeping a new id of this server: %w", err)
	}
	return id, nil
}

// writeWhole makes a file that has all of its text or is not there.
func writeWhole(path, text string) error {
	f, err := os.CreateTemp(filepath.Dir(path), filepath.Base(path)+".*")
	if err != nil {
		return err
	}
	defer func() { _ = os.Remove(f.Name()) }()
	_, err = f.WriteString(text)
	err = errors.Join(err, f.Sync(), f.Close())
	if err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		return err
	}
	d, err := os.Open(filepath.Dir(path))
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// bootFile is where the kernel tells which start of the machine this is: random(4).
const bootFile = "/proc/sys/kernel/random/boot_id"

// bootID is this start of the machine. Where nobody tells, every engine takes itself for another one: what a cache may have lost is rather
// reported once too often.
func bootID(file string) uuid.UUID {
	text, err := os.ReadFile(file)
	if err != nil {
		return uuid.New()
	}
	id, err := uuid.Parse(strings.TrimSpace(string(text)))
	if err != nil || id == uuid.Nil {
		return uuid.New()
	}
	return id
}
