package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestCryptAndStripeCommands(t *testing.T) {
	sh := newShell(t)
	for _, name := range []string{"m0", "m1", "m2"} {
		sh.must("bdev create mem " + name + " 8M")
	}
	key := filepath.Join(t.TempDir(), "key")
	write := func(text string, mode os.FileMode) {
		t.Helper()
		if err := os.WriteFile(key, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(key, mode); err != nil {
			t.Fatal(err)
		}
	}
	digits := strings.Repeat("0123456789abcdef", 4) + strings.Repeat("fedcba9876543210", 4)
	write(digits+"\n", 0o644)
	sh.fails("bdev key add k0 "+key, "has the mode 0644, so others may open it")
	write(digits[1:], 0o600)
	sh.fails("bdev key add k0 "+key, "64 or 128 hexadecimal digits")
	write(digits+digits, 0o600)
	sh.fails("bdev key add k0 "+key, "64 or 128 hexadecimal digits")
	sh.fails("bdev key add k0 "+key+"x", "no such file")
	write(strings.Replace(digits, "0", "x", 1), 0o600)
	sh.fails("bdev key add k0 "+key, "hexadecimal digits")
	write(digits+"\r\n", 0o600)
	sh.must("bdev key add k0 " + key)
	write(digits[32:96], 0o600)
	sh.must("bdev key add k1 " + key)
	if out := sh.must("bdev key list"); out != "NAME  CIPHER   TWEAK\nk0    AES_XTS  SIMPLE_LBA\nk1    AES_XTS  SIMPLE_LBA\n" {
		t.Errorf("printed %q", out)
	}
	if out := sh.must("bdev key list -o json"); strings.Contains(out, "0123") {
		t.Errorf("printed %s", out)
	}

	if out := sh.must("bdev create stripe s0 m0 m1"); out != "s0\n" {
		t.Errorf("printed %q", out)
	}
	if out := sh.must("bdev create crypt c0 s0 --key k0"); out != "c0\n" {
		t.Errorf("printed %q", out)
	}
	sh.must("bdev create stripe all c0 m2 --concat --strip 4K")
	table := sh.must("bdev list")
	for _, want := range []string{"c0    crypto       16 MiB", "all   Raid Volume  24 MiB", "s0    Raid Volume  16 MiB"} {
		if !strings.Contains(table, want) {
			t.Errorf("there is no %q in\n%s", want, table)
		}
	}
	sh.fails("bdev key delete k0", "device c0 is encrypted with it")
	sh.fails("bdev create crypt c1 m2 --key none", "none")
	sh.fails("bdev create crypt c1 m2", "--key")
	sh.fails("bdev create stripe s1 m2 --strip 700", "no number of KiB")
	sh.fails("bdev create stripe s1 m2", "stripe all")
	sh.must("bdev delete all")
	sh.must("bdev delete c0")
	sh.must("bdev delete s0")
	sh.must("bdev key delete k0")
	sh.must("bdev key delete k1")
}
