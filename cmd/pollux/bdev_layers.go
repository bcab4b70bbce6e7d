package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/pollux-storage/pollux/ctl/api"
)

// This file is the commands about devices that stand on others, and the keys of encrypted ones.

type bdevCreateCryptCmd struct {
	engineFlags
	Name string `arg:"" help:"Name of the new device."`
	Base string `arg:"" help:"Device below. What was on it reads as noise."`
	Key  string `required:"" placeholder:"NAME" help:"Name of the key, as pollux bdev key add gave it."`
}

// Run makes the device.
func (c *bdevCreateCryptCmd) Run() error {
	return create(&c.engineFlags, func(ctx context.Context, engine api.Caller) (string, error) {
		return api.BdevCryptoCreate.Call(ctx, engine, api.BdevCryptoCreateParams{Name: c.Name, BaseBdevName: c.Base, KeyName: c.Key})
	})
}

type bdevCreateStripeCmd struct {
	engineFlags
	Name    string    `arg:"" help:"Name of the new device."`
	Members []string  `arg:"" name:"device" help:"Devices below, in order. Without one of them all is gone: there is no copy."`
	Strip   byteCount `default:"64K" placeholder:"BYTES" help:"What lies on one device before the next one's turn, a power of two from 1K (${default})."`
	Concat  bool      `help:"All of one device, then all of the next."`
}

// Run makes the device.
func (c *bdevCreateStripeCmd) Run() error {
	if c.Strip%1024 != 0 || c.Strip>>10 > 1<<32-1 {
		return fmt.Errorf("create %s: a strip of %s is no number of KiB that fits; choose a power of two such as 64K", c.Name, size(uint64(c.Strip)))
	}
	return create(&c.engineFlags, func(ctx context.Context, engine api.Caller) (string, error) {
		level := "raid0"
		if c.Concat {
			level = "concat"
		}
		_, err := api.BdevRaidCreate.Call(ctx, engine, api.BdevRaidCreateParams{Name: c.Name, RaidLevel: level, BaseBdevs: c.Members, StripSizeKB: uint32(c.Strip >> 10)})
		return c.Name, err
	})
}

// bdevKeyCmd is about the keys of encrypted devices.
type bdevKeyCmd struct {
	Add    bdevKeyAddCmd    `cmd:"" help:"Give the engine a key. It forgets it when it ends, but for what config save keeps, in clear."`
	List   bdevKeyListCmd   `cmd:"" help:"List the keys by name; what they are is not shown."`
	Delete bdevKeyDeleteCmd `cmd:"" help:"Let the engine forget a key that no device uses."`
}

type bdevKeyAddCmd struct {
	engineFlags
	Name string `arg:"" help:"Name of the key."`
	File string `arg:"" placeholder:"FILE" help:"File of mode 0600 with the key, 64 hexadecimal digits for 128 bits or 128 for 256; - is the standard input. openssl rand -hex 64 makes one."`
}

// keyDigitsMax is the length of the longest key, both halves, and a newline of either kind.
const keyDigitsMax = 128 + 2

// Run gives the engine the key. It comes from a file, because the arguments of a command are for all to see.
func (c *bdevKeyAddCmd) Run() error {
	digits, err := readKeyFile(c.File)
	if err != nil {
		return fmt.Errorf("add the key %s: %w", c.Name, err)
	}
	half := len(digits) / 2
	_, err = ask(&c.engineFlags, api.AccelCryptoKeyCreate, api.AccelCryptoKeyCreateParams{
		Name: c.Name, Cipher: "AES_XTS", Key: digits[:half], Key2: digits[half:],
	})
	return err
}

// readKeyFile reads digits, and refuses a file that others may read.
func readKeyFile(name string) (string, error) {
	file := os.Stdin
	if name != "-" {
		var err error
		if file, err = os.Open(name); err != nil {
			return "", err
		}
		defer file.Close()
		info, err := file.Stat()
		if err != nil {
			return "", err
		}
		if mode := info.Mode().Perm(); mode&0o077 != 0 {
			return "", fmt.Errorf("the file %s has the mode %04o, so others may open it; make it 0600", name, mode)
		}
	}
	text, err := io.ReadAll(io.LimitReader(file, keyDigitsMax+1))
	if err != nil {
		return "", err
	}
	digits := strings.TrimRight(string(text), "\r\n")
	if n := len(digits); n != 64 && n != 128 {
		return "", errors.New("it has to have 64 or 128 hexadecimal digits, the two halves one after the other; openssl rand -hex 64 makes one")
	}
	return digits, nil
}

type bdevKeyListCmd struct {
	engineFlags
	outputFlags
}

// Run lists.
func (c *bdevKeyListCmd) Run() error {
	keys, err := ask(&c.engineFlags, api.AccelCryptoKeysGet, api.AccelCryptoKeysGetParams{})
	if err != nil {
		return err
	}
	for i := range keys { // a screen is no place for them; accel_crypto_keys_get shows them to an admin
		keys[i].Key, keys[i].Key2 = api.SecretMask, api.SecretMask
	}
	return c.print(keys, func(t *table) {
		t.columns("NAME", "CIPHER", "TWEAK")
		for _, k := range keys {
			t.row(k.Name, k.Cipher, k.TweakMode)
		}
	})
}

type bdevKeyDeleteCmd struct {
	engineFlags
	Name string `arg:"" help:"Name of the key."`
}

// Run lets the key be forgotten.
func (c *bdevKeyDeleteCmd) Run() error {
	_, err := ask(&c.engineFlags, api.AccelCryptoKeyDestroy, api.AccelCryptoKeyDestroyParams{Name: c.Name})
	return err
}
