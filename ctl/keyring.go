package ctl

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"syscall"

	"github.com/pollux-storage/pollux/ctl/api"
)

// Keyring knows secrets by name. It holds paths, not keys: a key is read from its file each time it is used, so that
// changing the file changes the key. The rules are those of SPDK's keyring_file module: an absolute path, and a file that
// nobody but its owner may open.
type Keyring struct {
	mu    sync.Mutex
	keys  []*Key
	linux bool // keyring_linux_set_options was called, and is saved
}

// Key is a secret in use. Whoever got it gives it back with Put.
type Key struct {
	ring    *Keyring
	name    string
	path    string
	users   uint32 // the keyring is one
	removed bool
}

// keyBytesMax bounds what is read. The longest secret known here, a DH-HMAC-CHAP one of 64 bytes, has 100 characters.
const keyBytesMax = 4096

// NewKeyring makes an empty keyring and registers the methods about it.
func NewKeyring(r *Registry) *Keyring {
	k := &Keyring{}
	RegisterDo(r, api.KeyringFileAddKey, func(_ context.Context, p *api.KeyringFileAddKeyParams) error { return k.add(p.Name, p.Path) })
	RegisterDo(r, api.KeyringFileRemoveKey, func(_ context.Context, p *api.KeyringFileRemoveKeyParams) error { return k.remove(p.Name) })
	Register(r, api.KeyringGetKeys, func(context.Context, *api.None) ([]api.Key, error) { return k.list(), nil })
	RegisterDo(r, api.KeyringLinuxSetOptions, func(_ context.Context, p *api.KeyringLinuxSetOptionsParams) error {
		if p.Enable {
			return api.Errno(syscall.EINVAL, "use the kernel's keyring: this engine takes keys from files only; call keyring_file_add_key")
		}
		k.mu.Lock()
		defer k.mu.Unlock()
		k.linux = true
		return nil
	})
	return k
}

// Subsystem is the keyring as a part of the engine.
func (k *Keyring) Subsystem() Subsystem {
	return Subsystem{Name: "keyring", Config: func(context.Context) ([]api.ConfigCall, error) {
		calls := []api.ConfigCall{}
		for _, key := range k.list() {
			if !key.Removed {
				calls = append(calls, api.KeyringFileAddKey.Config(api.KeyringFileAddKeyParams{Name: key.Name, Path: key.Path}))
			}
		}
		k.mu.Lock()
		defer k.mu.Unlock()
		if k.linux {
			calls = append(calls, api.KeyringLinuxSetOptions.Config(api.KeyringLinuxSetOptionsParams{}))
		}
		return calls, nil
	}}
}

// find returns the key of a name that has not been removed.
func (k *Keyring) find(name string) *Key {
	for _, key := range k.keys {
		if key.name == name && !key.removed {
			return key
		}
	}
	return nil
}

func (k *Keyring) add(name, path string) error {
	if !filepath.IsAbs(path) {
		return api.Errno(syscall.EINVAL, "add the key %s: its path %q is not absolute", name, path)
	}
	file, err := openKey(path)
	if err != nil {
		return fmt.Errorf("add the key %s: %w", name, err)
	}
	file.Close()
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.find(name) != nil {
		return api.Errno(syscall.EEXIST, "add the key %s: there is one of that name", name)
	}
	k.keys = append(k.keys, &Key{ring: k, name: name, path: path, users: 1})
	return nil
}

// openKey opens a key's file if nobody but its owner can.
func openKey(path string) (*os.File, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	info, err := file.Stat()
	switch {
	case err != nil:
	case !info.Mode().IsRegular():
		err = api.Errno(syscall.EINVAL, "%s is not a file", path)
	case info.Mode().Perm()&0o077 != 0:
		err = api.Errno(syscall.EPERM, "the file %s has the mode %04o, so others may open it; make it 0600", path, info.Mode().Perm())
	}
	if err != nil {
		file.Close()
		return nil, err
	}
	return file, nil
}

func (k *Keyring) remove(name string) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	key := k.find(name)
	if key == nil {
		return api.Errno(syscall.ENOKEY, "remove the key %s: there is none of that name; keyring_get_keys lists those there are", name)
	}
	key.removed = true
	k.drop(key)
	return nil
}

// drop takes one user off a key. The last one takes it off the list.
func (k *Keyring) drop(key *Key) {
	if key.users--; key.users == 0 {
		k.keys = slices.DeleteFunc(k.keys, func(other *Key) bool { return other == key })
	}
}

func (k *Keyring) list() []api.Key {
	k.mu.Lock()
	defer k.mu.Unlock()
	list := make([]api.Key, len(k.keys))
	for i, key := range k.keys {
		list[i] = api.Key{Name: key.name, Module: "keyring_file", Removed: key.removed, Refcnt: key.users, Path: key.path}
	}
	return list
}

// Get finds a key for use. Once it is in use, removing it from the keyring does not take it away.
func (k *Keyring) Get(name string) (*Key, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	key := k.find(name)
	if key == nil {
		return nil, api.Errno(syscall.ENOKEY, "there is no key %s in the keyring; add it with keyring_file_add_key", name)
	}
	key.users++
	return key, nil
}

// Name is the key's name.
func (k *Key) Name() string { return k.name }

// Put ends the use of a key.
func (k *Key) Put() {
	k.ring.mu.Lock()
	defer k.ring.mu.Unlock()
	k.ring.drop(k)
}

// Read gives the secret as it stands in its file now, without a newline at its end. The caller overwrites it after use.
func (k *Key) Read() ([]byte, error) {
	file, err := openKey(k.path)
	if err != nil {
		return nil, fmt.Errorf("read the key %s: %w", k.name, err)
	}
	defer file.Close()
	secret := make([]byte, keyBytesMax+1)
	n := 0
	for n < len(secret) && err == nil {
		var m int
		m, err = file.Read(secret[n:])
		n += m
	}
	for n > 0 && n <= keyBytesMax && (secret[n-1] == '\n' || secret[n-1] == '\r') {
		n--
	}
	switch {
	case n > keyBytesMax:
		err = fmt.Errorf("the file %s has more than %d bytes", k.path, keyBytesMax)
	case n == 0:
		err = fmt.Errorf("the file %s is empty", k.path)
	case err != nil && !errors.Is(err, io.EOF):
	default:
		return secret[:n], nil
	}
	clear(secret)
	return nil, fmt.Errorf("read the key %s: %w", k.name, err)
}
