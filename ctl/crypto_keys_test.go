package ctl

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/pollux-storage/pollux/bdev"
	"github.com/pollux-storage/pollux/ctl/api"
	"github.com/pollux-storage/pollux/reactor"
)

const (
	hexKey  = "0102030405060708090A0b0c0d0e0f10"
	hexKey2 = "f1f2f3f4f5f6f7f8f9fafbfcfdfeff00"
)

func xtsParams(name string) api.AccelCryptoKeyCreateParams {
	return api.AccelCryptoKeyCreateParams{Name: name, Cipher: "AES_XTS", Key: hexKey, Key2: hexKey2}
}

func TestCryptoKeysAreMadeMaskedSavedAndDestroyed(t *testing.T) {
	e, c := dialEngine(t)
	newBase(t, c, "m0")
	newer := api.BdevMallocCreateParams{Name: "m1", NumBlocks: 16384, BlockSize: 512}
	must(t, c, api.BdevMallocCreate, newer)
	must(t, c, api.AccelCryptoKeyCreate, xtsParams("k0"))
	long := xtsParams("k1")
	long.Key, long.Key2 = hexKey+hexKey2, hexKey2+hexKey
	must(t, c, api.AccelCryptoKeyCreate, long)
	if n := must(t, c, api.BdevCryptoCreate, api.BdevCryptoCreateParams{BaseBdevName: "m0", Name: "c0", KeyName: "k0"}); n != "c0" {
		t.Error(n)
	}
	must(t, c, api.BdevCryptoCreate, api.BdevCryptoCreateParams{BaseBdevName: "m1", Name: "c1", CryptoPMD: "crypto_aesni_mb", Cipher: "AES_XTS", Key: hexKey, Key2: hexKey2})

	if k := must(t, c, api.AccelCryptoKeysGet, api.AccelCryptoKeysGetParams{})[0]; k.Key != hexKey || k.Key2 != hexKey2 {
		t.Errorf("an admin sees %+v", k)
	}
	keys, err := api.AccelCryptoKeysGet.Call(withOrigin(t.Context(), "somebody", "1", api.Operator), e.Methods, api.AccelCryptoKeysGetParams{})
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, k := range keys {
		names = append(names, k.Name)
		if k.Key != api.SecretMask || k.Key2 != api.SecretMask || k.Cipher != "AES_XTS" || k.TweakMode != "SIMPLE_LBA" {
			t.Errorf("%+v", k)
		}
	}
	if !slices.Equal(names, []string{"k0", "k1", "c1_key"}) {
		t.Error(names)
	}
	if one := must(t, c, api.AccelCryptoKeysGet, api.AccelCryptoKeysGetParams{KeyName: "k1"}); len(one) != 1 || one[0].Name != "k1" {
		t.Error(one)
	}
	d := must(t, c, api.BdevGetBdevs, api.BdevGetBdevsParams{Name: "c1"})[0]
	if text := fmt.Sprint(d.DriverSpecific); text != "map[crypto:map[base_bdev_name:m1 key_name:c1_key]]" || d.ProductName != "crypto" || d.SupportedIOTypes.WriteZeroes != true {
		t.Errorf("%+v", d)
	}
	text := reload(t, c, "accel", "bdev")
	for _, want := range []string{`"key": "` + hexKey + `"`, `"key_name": "c1_key"`, `"tweak_mode": "SIMPLE_LBA"`} {
		if !strings.Contains(text, want) {
			t.Errorf("there is no %s in\n%s", want, text)
		}
	}
	if strings.Index(text, "accel_crypto_key_create") > strings.Index(text, "bdev_crypto_create") {
		t.Error("devices are saved before their keys")
	}

	u := openDevice(t, e, "c0")
	data := bytes.Repeat([]byte("some words "), 50)[:512]
	if s := u.do(e, bdev.Write, bytes.Clone(data)); s != bdev.StatusOK {
		t.Error(s)
	}
	got, below := make([]byte, 512), make([]byte, 512)
	if s := u.do(e, bdev.Read, got); s != bdev.StatusOK || !bytes.Equal(got, data) {
		t.Error(s, got)
	}
	u.close()
	b := openDevice(t, e, "m0")
	if s := b.do(e, bdev.Read, below); s != bdev.StatusOK || bytes.Equal(below, data) {
		t.Error(s, "the device below has the words in clear")
	}
	b.close()

	refused(t, c, api.AccelCryptoKeyDestroy, api.AccelCryptoKeyDestroyParams{Name: "k0"}, -16, "c0")
	must(t, c, api.BdevCryptoDelete, api.BdevNameParams{Name: "c0"})
	must(t, c, api.BdevCryptoDelete, api.BdevNameParams{Name: "c1"})
	must(t, c, api.AccelCryptoKeyDestroy, api.AccelCryptoKeyDestroyParams{Name: "k0"})
	must(t, c, api.AccelCryptoKeyDestroy, api.AccelCryptoKeyDestroyParams{KeyName: "k1"})
	if keys := must(t, c, api.AccelCryptoKeysGet, api.AccelCryptoKeysGetParams{}); len(keys) != 0 {
		t.Errorf("left: %+v", keys)
	}
}

func TestCryptoSaysWhatItRefuses(t *testing.T) {
	_, c := dialEngine(t)
	newBase(t, c, "m0")
	must(t, c, api.AccelCryptoKeyCreate, xtsParams("k0"))
	for _, f := range []struct {
		change func(p *api.AccelCryptoKeyCreateParams)
		code   int
		says   string
	}{
		{func(p *api.AccelCryptoKeyCreateParams) { p.Name = "k0" }, -17, "k0"},
		{func(p *api.AccelCryptoKeyCreateParams) { p.Cipher = "AES_CBC" }, -22, "only AES_XTS"},
		{func(p *api.AccelCryptoKeyCreateParams) { p.TweakMode = "INCR_512_FULL_LBA" }, -22, "only SIMPLE_LBA"},
		{func(p *api.AccelCryptoKeyCreateParams) { p.Key2 = "" }, -22, "needs a key2"},
		{func(p *api.AccelCryptoKeyCreateParams) { p.Key = p.Key[1:] }, -22, "its key is no even number"},
		{func(p *api.AccelCryptoKeyCreateParams) { p.Key2 = "x" + p.Key2[1:] }, -22, "its key2 is no even number"},
		{func(p *api.AccelCryptoKeyCreateParams) { p.Key = p.Key[2:] }, -22, "15 bytes"},
		{func(p *api.AccelCryptoKeyCreateParams) { p.Key += p.Key2 }, -22, "32 and 16 bytes"},
		{func(p *api.AccelCryptoKeyCreateParams) { p.Key2 = strings.ToUpper(p.Key) }, -22, "not secure"},
	} {
		p := xtsParams("k1")
		f.change(&p)
		_, err := api.AccelCryptoKeyCreate.Call(t.Context(), c, p)
		if err == nil || api.AsError(err).Code != f.code || !strings.Contains(err.Error(), f.says) {
			t.Errorf("%s: %v", f.says, err)
		}
		if err != nil && (strings.Contains(err.Error(), "030405") || strings.Contains(err.Error(), "f3f4f5")) {
			t.Errorf("the error tells the key: %v", err)
		}
	}
	make := func(p api.BdevCryptoCreateParams, code int, says string) {
		t.Helper()
		p.Name = "c0"
		if p.BaseBdevName == "" {
			p.BaseBdevName = "m0"
		}
		refused(t, c, api.BdevCryptoCreate, p, code, says)
	}
	make(api.BdevCryptoCreateParams{}, -22, "has no key")
	make(api.BdevCryptoCreateParams{KeyName: "none"}, api.CodeInvalidParams, "none")
	make(api.BdevCryptoCreateParams{KeyName: "k0", Key: hexKey}, -22, "no place beside it")
	make(api.BdevCryptoCreateParams{KeyName: "k0", BaseBdevName: "none"}, -19, "none")
	make(api.BdevCryptoCreateParams{Key: hexKey, Key2: hexKey2}, -22, "AES_CBC")
	make(api.BdevCryptoCreateParams{Key: hexKey, Cipher: "AES_CBC"}, -22, "AES_CBC")
	make(api.BdevCryptoCreateParams{Key: hexKey, Key2: hexKey2, Cipher: "AES_XTS", BaseBdevName: "none"}, -19, "none")
	if keys := must(t, c, api.AccelCryptoKeysGet, api.AccelCryptoKeysGetParams{}); len(keys) != 1 {
		t.Errorf("what was refused left a key: %+v", keys)
	}
	refused(t, c, api.AccelCryptoKeysGet, api.AccelCryptoKeysGetParams{KeyName: "none"}, api.CodeInvalidParams, "none")
	refused(t, c, api.AccelCryptoKeyDestroy, api.AccelCryptoKeyDestroyParams{KeyName: "none"}, api.CodeInvalidParams, "none")
	refused(t, c, api.AccelCryptoKeyDestroy, api.AccelCryptoKeyDestroyParams{}, api.CodeInvalidParams, "no key is named")
	refused(t, c, api.BdevCryptoDelete, api.BdevNameParams{Name: "m0"}, -22, "not an encrypted device")
}

// TestKeysAreNotLogged looks at all that the engine says while keys are made, refused and used.
func TestKeysAreNotLogged(t *testing.T) {
	var said bytes.Buffer
	e, err := NewEngine(EngineConfig{Reactors: reactor.Config{Cores: []int{-1}, MemoryBytes: 16 << 20}}, NewLog(io.Writer(&said), slog.LevelDebug))
	if err != nil {
		t.Fatal(err)
	}
	if err := e.Frame.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	must(t, e.Methods, api.BdevMallocCreate, api.BdevMallocCreateParams{Name: "m0", NumBlocks: 64, BlockSize: 512})
	must(t, e.Methods, api.AccelCryptoKeyCreate, xtsParams("k0"))
	_, _ = api.AccelCryptoKeyCreate.Call(t.Context(), e.Methods, xtsParams("k0"))
	// Digits without quotes are a number, and refused: the message shows numbers otherwise.
	for _, method := range []string{"accel_crypto_key_create", "bdev_crypto_create"} {
		err := e.Methods.Call(t.Context(), method, map[string]any{"name": "k2", "base_bdev_name": "m0", "cipher": "AES_XTS", "key": 77771234}, nil)
		if err == nil || strings.Contains(err.Error(), "7777") {
			t.Error(err)
		}
	}
	must(t, e.Methods, api.BdevCryptoCreate, api.BdevCryptoCreateParams{BaseBdevName: "m0", Name: "c0", Cipher: "AES_XTS", Key: hexKey, Key2: hexKey2})
	must(t, e.Methods, api.BdevGetBdevs, api.BdevGetBdevsParams{})
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if err := e.Close(ctx); err != nil {
		t.Fatal(err)
	}
	text := strings.ToLower(said.String())
	if !strings.Contains(text, "accel_crypto_key_create") {
		t.Errorf("nothing was logged:\n%s", text)
	}
	for _, key := range []string{hexKey, hexKey2, "____7777____"} {
		if strings.Contains(text, strings.Trim(strings.ToLower(key)[4:12], "_")) {
			t.Errorf("a key was logged:\n%s", text)
		}
	}
}
