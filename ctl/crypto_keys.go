package ctl

import (
	"context"
	"encoding/hex"
	"slices"
	"sync"
	"syscall"

	"github.com/pollux-storage/pollux/bdev"
	"github.com/pollux-storage/pollux/ctl/api"
)

// This file is the keys of encrypted devices, and those devices. As with SPDK a key is given in the call, and a saved configuration
// holds it in clear: keep that file as you keep the key. A key is never logged, no error tells any of it, and whoever is no Admin
// gets it masked.

// cryptoKeys are the keys by name. They are kept as they came, to be saved.
type cryptoKeys struct {
	mu   sync.Mutex // held while a device is made with a key, too, so that no key goes meanwhile
	keys []cryptoKey
}

type cryptoKey struct {
	params api.AccelCryptoKeyCreateParams
	ready  *bdev.XTSKey
	owner  string // the device that brought it along and takes it away; "" for none
}

func (e *Engine) registerCrypto() {
	r, k := e.Methods, &e.cryptoKeys
	RegisterDo(r, api.AccelCryptoKeyCreate, func(_ context.Context, p *api.AccelCryptoKeyCreateParams) error {
		k.mu.Lock()
		defer k.mu.Unlock()
		return k.add(*p, "")
	})
	RegisterDo(r, api.AccelCryptoKeyDestroy, func(_ context.Context, p *api.AccelCryptoKeyDestroyParams) error {
		if p.Name == "" {
			p.Name = p.KeyName
		}
		if p.Name == "" {
			return api.Invalid("accel_crypto_key_destroy: no key is named; give its name")
		}
		return e.destroyKey(p.Name)
	})
	Register(r, api.AccelCryptoKeysGet, func(ctx context.Context, p *api.AccelCryptoKeysGetParams) ([]api.CryptoKey, error) {
		return k.list(p.KeyName, roleOf(ctx) >= api.Admin)
	})
	e.Frame.Add(Subsystem{Name: "accel", Config: func(context.Context) ([]api.ConfigCall, error) {
		return append(e.kept.list(api.AccelSetOptions.Spec), k.config()...), nil
	}})
	e.Bdevs.Watch(func(ev bdev.Event) {
		if _, ok := ev.Device.Driver().(*bdev.Crypt); ok && ev.Kind == bdev.Unregistered {
			k.disown(ev.Device.Name())
		}
	})
	Register(r, api.BdevCryptoCreate, func(_ context.Context, p *api.BdevCryptoCreateParams) (string, error) { return e.createCrypt(p) })
	deletes[*bdev.Crypt](e, api.BdevCryptoDelete, "an encrypted device")
}

// find gives the place of a key, -1 if there is none of that name. The lock is held.
func (k *cryptoKeys) find(name string) int {
	return slices.IndexFunc(k.keys, func(key cryptoKey) bool { return key.params.Name == name })
}

// add takes a key. The lock is held.
func (k *cryptoKeys) add(p api.AccelCryptoKeyCreateParams, owner string) error {
	refuse := func(why string) error { return api.Errno(syscall.EINVAL, "make the key %s: %s", p.Name, why) }
	switch {
	case p.Cipher != "AES_XTS":
		return refuse("the cipher is " + p.Cipher + ", and only AES_XTS is offered")
	case p.TweakMode != "SIMPLE_LBA":
		return refuse("the tweak_mode is " + p.TweakMode + ", and only SIMPLE_LBA is offered")
	case p.Key2 == "":
		return refuse("AES_XTS needs a key2")
	case k.find(p.Name) >= 0:
		return api.Errno(syscall.EEXIST, "make the key %s: there is one of that name", p.Name)
	}
	// An error of package hex would tell a digit.
	key, err := hex.DecodeString(p.Key)
	defer clear(key)
	if err != nil {
		return refuse("its key is no even number of hexadecimal digits")
	}
	key2, err := hex.DecodeString(p.Key2)
	defer clear(key2)
	if err != nil {
		return refuse("its key2 is no even number of hexadecimal digits")
	}
	ready, err := bdev.NewXTSKey(key, key2)
	if err != nil {
		return refuse(err.Error())
	}
	k.keys = append(k.keys, cryptoKey{p, ready, owner})
	return nil
}

// noKey says that there is none. SPDK answers invalid parameters: lib/accel/accel_rpc.c.
func noKey(what, name string) error {
	return api.Invalid("%s the key %s: there is none of that name; accel_crypto_keys_get lists those there are", what, name)
}

// destroyKey forgets a key that no device uses. SPDK would take it from under the device.
func (e *Engine) destroyKey(name string) error {
	k := &e.cryptoKeys
	k.mu.Lock()
	defer k.mu.Unlock()
	i := k.find(name)
	if i < 0 {
		return noKey("destroy", name)
	}
	for _, d := range e.Bdevs.Devices() {
		if v, ok := d.Driver().(*bdev.Crypt); ok && v.KeyName() == name {
			return api.Errno(syscall.EBUSY, "destroy the key %s: device %s is encrypted with it; delete that first", name, d.Name())
		}
	}
	k.keys = slices.Delete(k.keys, i, i+1)
	return nil
}

// disown forgets the key that a device brought along.
func (k *cryptoKeys) disown(device string) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.keys = slices.DeleteFunc(k.keys, func(key cryptoKey) bool { return key.owner == device })
}

// list gives the keys, or the one of a name, in clear or masked.
func (k *cryptoKeys) list(name string, clearly bool) ([]api.CryptoKey, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	var out []api.CryptoKey
	for _, key := range k.keys {
		p := key.params
		if name != "" && name != p.Name {
			continue
		}
		if !clearly {
			p.Key, p.Key2 = api.SecretMask, api.SecretMask
		}
		out = append(out, api.CryptoKey(p)) // they have the same members
	}
	if name != "" && out == nil {
		return nil, noKey("show", name)
	}
	return out, nil
}

// config gives the calls that make the keys: SPDK's __accel_crypto_key_dump_param in lib/accel/accel.c.
func (k *cryptoKeys) config() []api.ConfigCall {
	k.mu.Lock()
	defer k.mu.Unlock()
	calls := []api.ConfigCall{}
	for _, key := range k.keys {
		calls = append(calls, api.AccelCryptoKeyCreate.Config(key.params))
	}
	return calls
}

// createCrypt makes an encrypted device. The older form brings its key along; it becomes one with a name of its own, and the call
// is saved in the newer form, as SPDK does.
func (e *Engine) createCrypt(p *api.BdevCryptoCreateParams) (string, error) {
	k := &e.cryptoKeys
	k.mu.Lock()
	defer k.mu.Unlock()
	name := p.KeyName
	switch {
	case name != "" && (p.Key != "" || p.Key2 != "" || p.Cipher != ""):
		return "", api.Errno(syscall.EINVAL, "creating %s: key_name names a key, so that key, key2 and cipher have no place beside it", p.Name)
	case name == "":
		name = p.Name + "_key"
		made := api.AccelCryptoKeyCreateParams{Name: name, Cipher: p.Cipher, Key: p.Key, Key2: p.Key2, TweakMode: "SIMPLE_LBA"}
		if p.Key == "" {
			return "", api.Errno(syscall.EINVAL, "creating %s: it has no key; make one with accel_crypto_key_create and give its name as key_name", p.Name)
		}
		if made.Cipher == "" {
			made.Cipher = "AES_CBC" // as it was with SPDK
		}
		if err := k.add(made, p.Name); err != nil {
			return "", err
		}
	}
	drop := func() {
		if p.KeyName == "" {
			k.keys = slices.Delete(k.keys, k.find(name), k.find(name)+1)
		}
	}
	i := k.find(name)
	if i < 0 {
		return "", noKey("creating "+p.Name+": use", name)
	}
	d, err := bdev.NewCrypt(e.Bdevs, p.Name, p.BaseBdevName, bdev.CryptOptions{Key: k.keys[i].ready, KeyName: name})
	if err != nil {
		drop()
		return "", codeOf(err)
	}
	e.devices.made(d.Name(), api.BdevCryptoCreate.Config(api.BdevCryptoCreateParams{BaseBdevName: p.BaseBdevName, Name: p.Name, KeyName: name}))
	return d.Name(), nil
}
