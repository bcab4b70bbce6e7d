package main

import (
	"context"
	"fmt"
	"strconv"
	"strings"

	"github.com/pollux-storage/pollux/ctl/api"
)

// bdevCmd is about block devices.
type bdevCmd struct {
	List   bdevListCmd   `cmd:"" help:"List the block devices."`
	Create bdevCreateCmd `cmd:"" help:"Make a block device: on a file or a device of the kernel, in memory, of nothing, or on other block devices."`
	Delete bdevDeleteCmd `cmd:"" help:"Delete a block device. A file that it stands on stays."`
	Rescan bdevRescanCmd `cmd:"" help:"Take over the size that the file below a block device has now."`
	Key    bdevKeyCmd    `cmd:"" help:"List, add and delete keys of encrypted block devices."`
}

type bdevListCmd struct {
	engineFlags
	outputFlags
	Name string `arg:"" optional:"" help:"Only this one."`
}

// Run lists.
func (c *bdevListCmd) Run() error {
	bdevs, err := ask(&c.engineFlags, api.BdevGetBdevs, api.BdevGetBdevsParams{Name: c.Name})
	if err != nil {
		return err
	}
	return c.print(bdevs, func(t *table) {
		t.columns("NAME", "KIND", "SIZE", "BLOCK", "CLAIMED", "UUID")
		for _, b := range bdevs {
			t.row(b.Name, b.ProductName, size(b.NumBlocks*uint64(b.BlockSize)), b.BlockSize, b.Claimed, b.UUID)
		}
	})
}

type bdevCreateCmd struct {
	File bdevCreateFileCmd `cmd:"" help:"On a file or a block device of the kernel."`
	Mem  bdevCreateMemCmd  `cmd:"" help:"In memory. What is written is lost when the engine ends."`
	Null bdevCreateNullCmd `cmd:"" help:"Of nothing: what is written is forgotten, and reads leave the buffer as it is. For measuring all above it."`

	Crypt  bdevCreateCryptCmd  `cmd:"" help:"On another device, encrypted (AES-XTS)."`
	Stripe bdevCreateStripeCmd `cmd:"" help:"On several devices, striped or one after the other."`
}

type bdevCreateFileCmd struct {
	engineFlags
	Name      string `arg:"" help:"Name of the new device."`
	Path      string `arg:"" placeholder:"PATH" help:"File or block device, such as /dev/nvme0n1. truncate -s 10G FILE makes a file of 10 GiB."`
	BlockSize uint32 `placeholder:"BYTES" help:"512 or 4096; the file's own without it."`
	ReadOnly  bool   `help:"Refuse writes."`
}

// Run makes the device.
func (c *bdevCreateFileCmd) Run() error {
	return create(&c.engineFlags, func(ctx context.Context, engine api.Caller) (string, error) {
		if c.ReadOnly {
			return api.BdevAIOCreate.Call(ctx, engine, api.BdevAIOCreateParams{Name: c.Name, Filename: c.Path, BlockSize: c.BlockSize, Readonly: true})
		}
		return api.BdevUringCreate.Call(ctx, engine, api.BdevUringCreateParams{Name: c.Name, Filename: c.Path, BlockSize: c.BlockSize})
	})
}

// sizeFlags are the size of a device that stands on nothing.
type sizeFlags struct {
	Name      string    `arg:"" help:"Name of the new device."`
	Size      byteCount `arg:"" help:"Size, such as 64M or 10G."`
	BlockSize uint32    `default:"512" placeholder:"BYTES" help:"512 or 4096 (${default})."`
}

// blocks is the size in blocks.
func (f *sizeFlags) blocks() (uint64, error) {
	if f.BlockSize == 0 || uint64(f.Size)%uint64(f.BlockSize) != 0 {
		return 0, fmt.Errorf("create %s: %s is no multiple of the block size %d; choose another size", f.Name, size(uint64(f.Size)), f.BlockSize)
	}
	return uint64(f.Size) / uint64(f.BlockSize), nil
}

type bdevCreateMemCmd struct {
	engineFlags
	sizeFlags
}

// Run makes the device.
func (c *bdevCreateMemCmd) Run() error {
	blocks, err := c.blocks()
	if err != nil {
		return err
	}
	return create(&c.engineFlags, func(ctx context.Context, engine api.Caller) (string, error) {
		return api.BdevMallocCreate.Call(ctx, engine, api.BdevMallocCreateParams{Name: c.Name, NumBlocks: blocks, BlockSize: c.BlockSize})
	})
}

type bdevCreateNullCmd struct {
	engineFlags
	sizeFlags
}

// Run makes the device.
func (c *bdevCreateNullCmd) Run() error {
	blocks, err := c.blocks()
	if err != nil {
		return err
	}
	return create(&c.engineFlags, func(ctx context.Context, engine api.Caller) (string, error) {
		return api.BdevNullCreate.Call(ctx, engine, api.BdevNullCreateParams{Name: c.Name, NumBlocks: blocks, BlockSize: c.BlockSize})
	})
}

// create calls the engine and prints the name of what it made.
func create(f *engineFlags, call func(ctx context.Context, engine api.Caller) (string, error)) error {
	engine, err := f.dial()
	if err != nil {
		return err
	}
	defer engine.Close()
	name, err := call(context.Background(), engine)
	if err != nil {
		return err
	}
	fmt.Println(name)
	return nil
}

type bdevDeleteCmd struct {
	engineFlags
	Name string `arg:"" help:"Name of the device."`
}

// deleters delete each kind of device, by its product_name.
var deleters = map[string]func(ctx context.Context, engine api.Caller, name string) error{
	"Malloc disk": deleter(api.BdevMallocDelete),
	"Null disk":   deleter(api.BdevNullDelete),
	"URING bdev":  deleter(api.BdevUringDelete),
	"crypto":      deleter(api.BdevCryptoDelete),
	"Raid Volume": func(ctx context.Context, engine api.Caller, name string) error {
		_, err := api.BdevRaidDelete.Call(ctx, engine, api.BdevRaidDeleteParams{Name: name})
		return err
	},
}

func deleter(m api.Method[api.BdevNameParams, bool]) func(ctx context.Context, engine api.Caller, name string) error {
	return func(ctx context.Context, engine api.Caller, name string) error {
		_, err := m.Call(ctx, engine, api.BdevNameParams{Name: name})
		return err
	}
}

// Run deletes.
func (c *bdevDeleteCmd) Run() error {
	engine, err := c.dial()
	if err != nil {
		return err
	}
	defer engine.Close()
	ctx := context.Background()
	bdevs, err := api.BdevGetBdevs.Call(ctx, engine, api.BdevGetBdevsParams{Name: c.Name})
	if err != nil {
		return err
	}
	if bdevs[0].ProductName == "Logical Volume" {
		return fmt.Errorf("delete %s: it is a volume, and goes with what is on it; pollux volume delete does that", c.Name)
	}
	del, ok := deleters[bdevs[0].ProductName]
	if !ok {
		return fmt.Errorf("delete %s: this command does not know devices of the kind %q; pollux rpc calls the method that deletes them", c.Name, bdevs[0].ProductName)
	}
	return del(ctx, engine, bdevs[0].Name)
}

type bdevRescanCmd struct {
	engineFlags
	Name string `arg:"" help:"Name of the device."`
}

// Run rescans.
func (c *bdevRescanCmd) Run() error {
	_, err := ask(&c.engineFlags, api.BdevUringRescan, api.BdevNameParams{Name: c.Name})
	return err
}

// byteCount is a number of bytes as people write it: 4096, 64K, 10G, 10GiB. The letters are powers of 1024.
type byteCount uint64

// UnmarshalText reads it.
func (b *byteCount) UnmarshalText(text []byte) error {
	digits := strings.TrimSuffix(strings.TrimSuffix(strings.ToUpper(string(text)), "B"), "I")
	shift := 0
	if n := len(digits); n > 0 {
		if unit := strings.IndexByte("KMGTPE", digits[n-1]); unit >= 0 {
			digits, shift = digits[:n-1], 10*(unit+1)
		}
	}
	n, err := strconv.ParseUint(digits, 10, 64)
	if err != nil || n<<shift>>shift != n {
		return fmt.Errorf("%q is no size; write for example 4096, 64K, 512M or 10G", text)
	}
	*b = byteCount(n << shift)
	return nil
}
