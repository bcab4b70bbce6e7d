package bdev

import (
	"bufio"
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// xtsVectors reads testdata/xts.txt.
func xtsVectors(t *testing.T, f func(name string, key, key2, tweak, plain, cipher []byte)) {
	t.Helper()
	file, err := os.Open("testdata/xts.txt")
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	n := 0
	for lines := bufio.NewScanner(file); lines.Scan(); {
		words := strings.Fields(lines.Text())
		if strings.HasPrefix(lines.Text(), "#") {
			continue
		}
		var b [5][]byte
		for i := range b {
			if b[i], err = hex.DecodeString(words[i+1]); err != nil {
				t.Fatalf("%s: %v", words[0], err)
			}
		}
		f(words[0], b[0], b[1], b[2], b[3], b[4])
		n++
	}
	if n < 10 {
		t.Fatalf("%d vectors", n)
	}
}

// IEEE 1619-2018 annex B, "Test vectors".
func TestXTSVectors(t *testing.T) {
	xtsVectors(t, func(name string, key, key2, tw, plain, want []byte) {
		k, err := NewXTSKey(key, key2)
		if bytes.Equal(key, key2) {
			if !errors.Is(err, ErrInvalid) {
				t.Errorf("%s: equal halves: %v", name, err)
			}
			return
		}
		if err != nil {
			t.Fatal(err)
		}
		got, in := make([]byte, len(plain)), bytes.Clone(plain)
		use := tweak(tw)
		if k.encrypt(got, in, &use); !bytes.Equal(got, want) {
			t.Errorf("%s: encrypted to %x", name, got)
		}
		if !bytes.Equal(in, plain) {
			t.Errorf("%s: the plaintext was changed", name)
		}
		use = tweak(tw)
		if k.decrypt(got, got, &use); !bytes.Equal(got, plain) {
			t.Errorf("%s: decrypted to %x", name, got)
		}
		use = tweak(tw)
		if k.encrypt(in, in, &use); !bytes.Equal(in, want) {
			t.Errorf("%s: encrypted in place to %x", name, in)
		}
	})
}

func TestTweakIsThatOfSPDK(t *testing.T) {
	xtsVectors(t, func(name string, _, _, want, _, _ []byte) {
		var lba uint64
		if n, _ := fmt.Sscanf(name, "lba-%d-", &lba); n == 0 {
			return
		}
		var got tweak
		if got.of(lba); !bytes.Equal(got[:], want) {
			t.Errorf("block %d: %x, want %x", lba, got, want)
		}
	})
}

func TestXTSKeysThatAreRefused(t *testing.T) {
	b := make([]byte, 64)
	for i := range b {
		b[i] = byte(i)
	}
	for _, c := range []struct {
		why       string
		key, key2 []byte
	}{{"none", nil, nil}, {"AES-192", b[:24], b[24:48]}, {"a byte short", b[:15], b[16:32]}, {"one half", b[:16], nil}, {"unlike halves", b[:16], b[16:48]}, {"equal halves", b[:32], b[:32]}} {
		_, err := NewXTSKey(c.key, c.key2)
		if !errors.Is(err, ErrInvalid) {
			t.Errorf("%s: %v", c.why, err)
		}
		if err != nil && strings.Contains(err.Error(), "0001") {
			t.Errorf("%s: the error tells the key: %v", c.why, err)
		}
	}
}

// TestXTSFastAndSlow compares what eight blocks at once give with block by block, for every length, and in place.
func TestXTSFastAndSlow(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		size := rapid.SampledFrom([]int{16, 32}).Draw(t, "key bytes")
		both := rapid.SliceOfN(rapid.Byte(), 2*size, 2*size).Draw(t, "key")
		both[size] = both[0] + 1
		k, err := NewXTSKey(both[:size], both[size:])
		if err != nil {
			t.Fatal(err)
		}
		slow := &XTSKey{data: k.data, tweak: k.tweak}
		plain := rapid.SliceOfN(rapid.Byte(), 16, 1024).Draw(t, "data")
		plain = plain[:len(plain)&^15]
		tw := tweak(rapid.SliceOfN(rapid.Byte(), 16, 16).Draw(t, "tweak"))
		use := func(f func(dst, src []byte, t *tweak), dst, src []byte) {
			one := tw
			f(dst, src, &one)
		}
		want, got := make([]byte, len(plain)), bytes.Clone(plain)
		use(slow.encrypt, want, plain)
		if use(k.encrypt, got, got); !bytes.Equal(got, want) {
			t.Fatalf("encrypted to %x, want %x", got, want)
		}
		use(slow.decrypt, want, got)
		if use(k.decrypt, got, got); !bytes.Equal(got, plain) || !bytes.Equal(want, plain) {
			t.Fatalf("decrypted to %x and %x, want %x", got, want, plain)
		}
	})
}

func TestXTSAllocatesNothing(t *testing.T) {
	k, err := NewXTSKey(make([]byte, 32), bytes.Repeat([]byte{1}, 32))
	if err != nil {
		t.Fatal(err)
	}
	b, tw := make([]byte, 4096), new(tweak)
	if n := testing.AllocsPerRun(100, func() {
		tw.of(5)
		k.encrypt(b, b, tw)
		tw.of(5)
		k.decrypt(b, b, tw)
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func BenchmarkXTS(b *testing.B) {
	for _, size := range []int{16, 32} {
		k, err := NewXTSKey(make([]byte, size), bytes.Repeat([]byte{1}, size))
		if err != nil {
			b.Fatal(err)
		}
		data, tw := make([]byte, 4096), new(tweak)
		for name, f := range map[string]func(dst, src []byte, t *tweak){"encrypt": k.encrypt, "decrypt": k.decrypt} {
			b.Run(fmt.Sprintf("%d/%s", 8*size, name), func(b *testing.B) {
				b.SetBytes(int64(len(data)))
				for i := range b.N {
					tw.of(uint64(i))
					f(data, data, tw)
				}
			})
		}
	}
}
