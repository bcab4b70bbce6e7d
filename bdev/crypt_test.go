package bdev_test

import (
	"bufio"
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/google/uuid"

	"github.com/pollux-storage/pollux/bdev"
	"github.com/pollux-storage/pollux/bdev/bdevtest"
	"github.com/pollux-storage/pollux/reactor"
)

// cryptKey makes a key of halves of n bytes.
func cryptKey(t bdevtest.T, n int) *bdev.XTSKey {
	b := make([]byte, 2*n)
	for i := range b {
		b[i] = byte(3*i + 1)
	}
	k, err := bdev.NewXTSKey(b[:n], b[n:])
	if err != nil {
		t.Fatalf("%v", err)
	}
	return k
}

func crypt(n int) maker {
	return func(t bdevtest.T, g *bdev.Registry, _ uint32) *bdev.Device {
		return must(t)(bdev.NewCrypt(g, fmt.Sprintf("Crypt%d", len(g.Devices())), top(g), bdev.CryptOptions{Key: cryptKey(t, n), KeyName: "k0"}))
	}
}

// under opens the device below for a look at what is on it.
func under(t *testing.T, e *bdevtest.Env) *bdevtest.Env {
	t.Helper()
	d := lowest(e.Device)
	h, err := e.Registry.Open(d.Name(), bdev.OpenOptions{Who: "the test"})
	if err != nil {
		t.Fatal(err)
	}
	u := &bdevtest.Env{T: t, Group: e.Group, Registry: e.Registry, Device: d, Handle: h, G: d.Geometry(), Patience: e.Patience}
	if u.Channels, err = h.Channels(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		bdev.CloseChannels(u.Channels)
		h.Close()
	})
	return u
}

// TestWhatSPDKWroteIsRead puts ciphertext below and reads above, and the other way round.
func TestWhatSPDKWroteIsRead(t *testing.T) {
	file, err := os.Open("testdata/xts.txt")
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	tested := 0
	for lines := bufio.NewScanner(file); lines.Scan(); {
		var lba, size uint64
		words := strings.Fields(lines.Text())
		if n, _ := fmt.Sscanf(words[0], "lba-%d-of-%d-bytes", &lba, &size); n != 2 || lba > 1000 {
			continue
		}
		var b [5][]byte
		for i := range b {
			b[i], _ = hex.DecodeString(words[i+1])
		}
		k, err := bdev.NewXTSKey(b[0], b[1])
		if err != nil {
			t.Fatal(err)
		}
		e := rig(t, 1, uint32(size), on(mem, func(t bdevtest.T, g *bdev.Registry, _ uint32) *bdev.Device {
			return must(t)(bdev.NewCrypt(g, "Crypt0", top(g), bdev.CryptOptions{Key: k}))
		}))
		u := under(t, e)
		u.Write(0, lba, b[4])
		e.WantData(words[0], 0, lba, b[3])
		u.Write(0, lba, make([]byte, size))
		e.Write(0, lba, b[3])
		u.WantData(words[0], 0, lba, b[4])
		tested++
	}
	if tested < 3 {
		t.Errorf("%d vectors", tested)
	}
}

func TestNothingReachesTheDeviceBelowInTheClear(t *testing.T) {
	e := rig(t, 2, 512, on(mem, crypt(16)))
	u := under(t, e)
	const n = 600
	clearly := func(why string, want bool) {
		t.Helper()
		r := u.Must(0, bdevtest.Op{Kind: bdev.Read, Data: make([]byte, n*512)})
		seen := map[[16]byte]bool{}
		for i := 0; i < len(r.Data); i += 16 {
			piece := [16]byte(r.Data[i:])
			if seen[piece] != want && i > 0 {
				t.Fatalf("%s: byte %d below: a piece seen before: %v", why, i, seen[piece])
			}
			seen[piece] = true
		}
	}
	clearly("at first all are zeros", true)
	e.Must(1, bdevtest.Op{Kind: bdev.WriteZeroes, Blocks: n})
	clearly("zeroes", false)
	e.Write(0, 0, bytes.Repeat([]byte("sixteen letters."), n*32))
	clearly("the same words again and again", false)
	e.Must(0, bdevtest.Op{Kind: bdev.Copy, LBA: n / 2, Blocks: n / 2})
	clearly("a copy is encrypted by its own place", false)
	e.Must(1, bdevtest.Op{Kind: bdev.Unmap, Blocks: n})
	clearly("unmapped below as well", true)
	if r := e.Must(0, bdevtest.Op{Kind: bdev.Read, Data: make([]byte, 512)}); bytes.Equal(r.Data, make([]byte, 512)) {
		t.Error("an unmapped block reads as zeros, and the device does not say so")
	}
}

func TestAWriteLeavesItsMemoryAlone(t *testing.T) {
	e := rig(t, 1, 512, on(mem, crypt(32)))
	data := e.Block(4, 700)
	j := e.Begin(0, bdevtest.Op{Kind: bdev.Write, LBA: 3, Data: data, Pieces: []int{512, 699 * 512}})
	j.Wait()
	if !bytes.Equal(bytes.Join(j.Q.Data, nil), data) {
		t.Error("the memory of a write has changed")
	}
	j.Finish()
}

// waiter hears the end of requests that were submitted in one turn of a reactor.
type waiter chan *bdev.Request

func (w waiter) RequestDone(q *bdev.Request) { w <- q }

// TestWritesWithoutBuffersGoInSteps lets many large writes share the buffer in reserve, and copies whose writes need it while
// they hold the layer's.
func TestWritesWithoutBuffersGoInSteps(t *testing.T) {
	e := rig(t, 1, 512, on(cache(0, 0), crypt(16))) // which takes the data some time after Submit
	r := e.Group.Reactor(0)
	var held [][]byte
	call(r, func() {
		for n := reactor.BufferMax; n >= reactor.PageBytes; n /= 2 {
			for b := r.Memory().Get(n); b != nil; b = r.Memory().Get(n) {
				held = append(held, b)
			}
		}
	})
	defer call(r, func() {
		for _, b := range held {
			r.Memory().Put(b)
		}
	})
	const n = 1000 // blocks: more than the reserve has
	ended := make(waiter, 3)
	var writes []*bdev.Request
	call(r, func() {
		for i := range uint64(3) {
			q := &bdev.Request{Kind: bdev.Write, LBA: i * n, Blocks: n, Done: ended}
			q.SetData(e.Block(i, n))
			e.Channels[0].Submit(q)
			writes = append(writes, q)
		}
	})
	for range writes {
		if q := <-ended; q.Status != bdev.StatusOK {
			t.Error(q.Status)
		}
	}
	call(r, func() {
		for _, q := range writes {
			q.Release()
		}
	})
	for i := range uint64(3) {
		e.WantData("written in steps", 0, i*n, e.Block(i, n))
	}
	var jobs []*bdevtest.Job
	for i := range uint64(4) {
		jobs = append(jobs, e.Begin(0, bdevtest.Op{Kind: bdev.Copy, LBA: 4000 + i*n, LBA2: i % 3 * n, Blocks: n}),
			e.Begin(0, bdevtest.Op{Kind: bdev.Write, LBA: i * n, Data: e.Block(i, n)}))
	}
	for _, j := range jobs {
		j.Wait()
		if s := j.Finish().Status; s != bdev.StatusOK {
			t.Error(s)
		}
	}
}

func TestCryptSaysWhatItIs(t *testing.T) {
	g := registry(t, 1)
	m := must(t)(bdev.NewMem(g, "M", uuid.New(), 4096, 100))
	d := must(t)(bdev.NewCrypt(g, "C", "M", bdev.CryptOptions{Key: cryptKey(t, 16), KeyName: "k1"}))
	if got := fmt.Sprint(d.Driver().Describe()); got != "map[crypto:map[base_bdev_name:M key_name:k1]]" {
		t.Error(got)
	}
	if v := d.Geometry(); v.UnmapZeroes || v.Blocks != 100 || !v.Supports(bdev.Unmap) || v.Native.Has(bdev.WriteZeroes) || m.Claim() != "crypt C" {
		t.Errorf("%+v, claimed by %q", v, m.Claim())
	}
	if _, err := bdev.NewCrypt(g, "D", "M", bdev.CryptOptions{Key: cryptKey(t, 16)}); !errors.Is(err, bdev.ErrClaimed) {
		t.Errorf("a second one on the same device: %v", err)
	}
}
