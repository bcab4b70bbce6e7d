package ctl

import (
	"bytes"
	"strings"

	"github.com/pollux-storage/pollux/bdev"
)

// This file is the options of devices that stand on others: joined ones and encrypted ones.

const (
	keyHalf  = "00112233445566778899aabbccddeeff"
	keyOther = "ffeeddccbbaa99887766554433221100"
)

// below is what stands in a block of the device below, as the other one wrote it.
func (x *optionRig) below(device string, block uint64) []byte {
	x.Helper()
	b := make([]byte, x.geometry(device).BlockSize)
	x.transfer(x.T, device, bdev.Read, block, b)
	return b
}

// puts writes a block with one byte.
func (x *optionRig) puts(device string, block uint64, with byte) {
	x.Helper()
	x.transfer(x.T, device, bdev.Write, block, bytes.Repeat([]byte{with}, int(x.geometry(device).BlockSize)))
}

var layerEffects = []optionEffect{
	{"bdev_raid_create: name raid_level base_bdevs strip_size_kb uuid superblock; bdev_raid_get_bdevs: category; bdev_raid_delete: name clear_sb", func(x *optionRig) {
		for _, m := range []string{"a", "b"} {
			x.steps(x.T, []step{{"bdev_malloc_create", `{"name": "` + m + `", "num_blocks": 1024, "block_size": 4096}`, `.*`}})
		}
		x.steps(x.T, []step{
			{"bdev_raid_create", `{"name": "r", "raid_level": "raid0", "base_bdevs": ["a", "none"], "strip_size_kb": 8}`, `-19`},
			{"bdev_raid_create", `{"name": "r", "raid_level": "raid1", "base_bdevs": ["a", "b"], "strip_size_kb": 8}`, `-22`},
			{"bdev_raid_create", `{"name": "r", "raid_level": "raid0", "base_bdevs": ["a", "b"], "strip_size_kb": 7}`, `-22`},
			{"bdev_raid_create", `{"name": "r", "raid_level": "raid0", "base_bdevs": ["a", "b"], "strip_size_kb": 8, "superblock": true}`, `-22`},
			{"bdev_raid_create", `{"name": "r", "raid_level": "raid0", "base_bdevs": ["a", "b"], "strip_size_kb": 8, "uuid": "` + optionUUID + `"}`, `true`},
			{"bdev_raid_get_bdevs", `{"category": "online"}`, `\[{"name":"r","uuid":"` + optionUUID + `","strip_size_kb":8,"state":"online","raid_level":"raid0","superblock":false,.*`},
			{"bdev_raid_get_bdevs", `{"category": "offline"}`, `\[\]`}, {"bdev_raid_get_bdevs", `{"category": "configuring"}`, `\[\]`},
		})
		x.is("blocks", x.geometry(optionUUID).Blocks, 2048)
		x.puts("r", 2, 'x') // the second strip of 8 KiB, so the other member's first
		x.is("strip_size_kb, and the order of base_bdevs", x.below("b", 0)[0], byte('x'))
		x.steps(x.T, []step{
			{"bdev_raid_delete", `{"name": "a"}`, `-22`},
			{"bdev_raid_delete", `{"name": "r", "clear_sb": true}`, `true`}, // there is never a layout on the members
			{"bdev_raid_get_bdevs", `{"category": "all"}`, `\[\]`},
		})
		x.is("clear_sb leaves what is there", x.below("b", 0)[0], byte('x'))
		x.steps(x.T, []step{{"bdev_raid_create", `{"name": "c", "raid_level": "concat", "base_bdevs": ["b", "a"], "strip_size_kb": 8}`, `true`}})
		x.puts("c", 1024, 'y')
		x.is("raid_level concat", x.below("a", 0)[0], byte('y'))
	}},
	{"bdev_raid_add_base_bdev: raid_bdev base_bdev; bdev_raid_remove_base_bdev: name; bdev_raid_set_options: process_window_size_kb process_max_bandwidth_mb_sec", func(x *optionRig) {
		for _, m := range []string{"a", "b", "c"} {
			x.steps(x.T, []step{{"bdev_malloc_create", `{"name": "` + m + `", "num_blocks": 1024, "block_size": 4096}`, `.*`}})
		}
		x.steps(x.T, []step{
			{"bdev_raid_create", `{"name": "r", "raid_level": "raid0", "base_bdevs": ["a", "b"], "strip_size_kb": 8}`, `true`},
			{"bdev_raid_add_base_bdev", `{"raid_bdev": "none", "base_bdev": "c"}`, `-19`}, {"bdev_raid_add_base_bdev", `{"raid_bdev": "r", "base_bdev": "c"}`, `-22`},
			{"bdev_raid_remove_base_bdev", `{"name": "c"}`, `-19`}, {"bdev_raid_remove_base_bdev", `{"name": "b"}`, `true`},
			{"bdev_raid_get_bdevs", `{"category": "all"}`, `\[\]`},
			// Nothing is rebuilt in joined devices, so these are only kept for who saved them.
			{"bdev_raid_set_options", `{"process_window_size_kb": 77, "process_max_bandwidth_mb_sec": 7}`, `true`},
			{"framework_get_config", `{"name": "bdev"}`, `.*"process_window_size_kb":77,"process_max_bandwidth_mb_sec":7.*`},
		})
	}},
	{"bdev_crypto_create: base_bdev_name name key_name crypto_pmd key cipher key2; bdev_crypto_delete: name; accel_crypto_key_create: name cipher key key2 tweak_mode; accel_crypto_key_destroy: name key_name; accel_crypto_keys_get: key_name", func(x *optionRig) {
		x.steps(x.T, []step{{"bdev_malloc_create", `{"name": "m", "num_blocks": 1024, "block_size": 4096}`, `.*`}})
		key := func(params string) string { return `{` + params + `}` }
		both := `"key": "` + keyHalf + `", "key2": "` + keyOther + `"`
		x.steps(x.T, []step{
			{"accel_crypto_key_create", key(`"name": "k", "cipher": "AES_CBC", ` + both), `-22`},
			{"accel_crypto_key_create", key(`"name": "k", "cipher": "AES_XTS", ` + both + `, "tweak_mode": "INCR_512_FULL_LBA"`), `-22`},
			{"accel_crypto_key_create", key(`"name": "k", "cipher": "AES_XTS", "key": "` + keyHalf + `"`), `-22`},
			{"accel_crypto_key_create", key(`"name": "k", "cipher": "AES_XTS", ` + both + `, "tweak_mode": "SIMPLE_LBA"`), `true`},
			{"accel_crypto_key_create", key(`"name": "turned", "cipher": "AES_XTS", "key": "` + keyOther + `", "key2": "` + keyHalf + `"`), `true`},
			{"accel_crypto_keys_get", `{"key_name": "none"}`, `-32602`}, {"accel_crypto_keys_get", `{"key_name": "k"}`, `\[{"name":"k","cipher":"AES_XTS",[^{]*\]`},
			{"bdev_crypto_create", `{"base_bdev_name": "none", "name": "c", "key_name": "k"}`, `-19`},
			{"bdev_crypto_create", `{"base_bdev_name": "m", "name": "c", "key_name": "none"}`, `-32602`},
			{"bdev_crypto_create", `{"base_bdev_name": "m", "name": "c", "key_name": "k", "crypto_pmd": "crypto_aesni_mb"}`, `"c"`}, // the library to use: there is one
		})
		x.puts("c", 3, 'x')
		cipher := string(x.below("m", 3))
		x.is("what is below is encrypted", strings.Contains(cipher, "xxxxxxxx"), false)
		x.steps(x.T, []step{
			{"accel_crypto_key_destroy", `{"key_name": "none"}`, `-32602`}, {"accel_crypto_key_destroy", `{"name": "k"}`, `-16`},
			{"bdev_crypto_delete", `{"name": "m"}`, `-22`}, {"bdev_crypto_delete", `{"name": "c"}`, `true`},
			{"bdev_crypto_create", `{"base_bdev_name": "m", "name": "c", "key_name": "turned"}`, `"c"`},
		})
		x.is("another key reads something else", x.below("c", 3)[0] == 'x' && x.below("c", 3)[1] == 'x', false)
		x.puts("c", 3, 'x')
		x.is("key and key2 are not the same", string(x.below("m", 3)) == cipher, false)
		x.steps(x.T, []step{
			{"bdev_crypto_delete", `{"name": "c"}`, `true`},
			{"accel_crypto_key_destroy", `{"name": "turned"}`, `true`}, {"accel_crypto_key_destroy", `{"key_name": "k"}`, `true`}, {"accel_crypto_keys_get", `{}`, `\[\]`},
			// The older form brings its key along.
			{"bdev_crypto_create", `{"base_bdev_name": "m", "name": "c", "cipher": "AES_CBC", ` + both + `}`, `-22`},
			{"bdev_crypto_create", `{"base_bdev_name": "m", "name": "c", "cipher": "AES_XTS", "key": "` + keyHalf + `"}`, `-22`},
			{"bdev_crypto_create", `{"base_bdev_name": "m", "name": "c", "cipher": "AES_XTS", ` + both + `}`, `"c"`},
		})
		x.puts("c", 3, 'x')
		x.is("the older form encrypts the same", string(x.below("m", 3)) == cipher, true)
	}},
}
