package bdev_test

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"sync"
	"testing"

	"github.com/google/uuid"
	"github.com/pollux-storage/pollux/bdev"
	"github.com/pollux-storage/pollux/bdev/bdevtest"
)

// uniform writes blocks of one value each, or reads and compares, on one reactor.
type uniform struct {
	e     *bdevtest.Env
	left  int
	value byte
	all   *sync.WaitGroup
}

func (u *uniform) next(j *bdevtest.Job) {
	b := j.Q.Data[0]
	switch {
	case j.Q.Status != bdev.StatusOK:
		u.e.Errorf("%v: %v", j.Q.Kind, j.Q.Status)
	case j.Q.Kind == bdev.Read:
		for at := 0; at < len(b); at += int(u.e.G.BlockSize) {
			if block := b[at : at+int(u.e.G.BlockSize)]; !bytes.Equal(block, bytes.Repeat(block[:1], len(block))) {
				u.e.Errorf("a block was read as a mix: it begins with %d and ends with %d", block[0], block[len(block)-1])
				u.left = 1
			}
		}
	}
	if u.left--; u.left <= 0 {
		u.all.Done()
		return
	}
	if j.Q.Kind == bdev.Write {
		u.value++
		for i := range b {
			b[i] = u.value
		}
	}
	j.Submit()
}

func TestMemABlockIsNeverReadAsAMix(t *testing.T) {
	e := rig(t, 3, 4096, mem)
	var all sync.WaitGroup
	var jobs []*bdevtest.Job
	for core, k := range []bdev.Kind{bdev.Write, bdev.Read, bdev.WriteZeroes} {
		u := &uniform{e: e, left: 3000, all: &all}
		all.Add(1)
		j := e.NewJob(core)
		j.Then(u.next)
		jobs = append(jobs, j)
		call(e.Group.Reactor(core), func() {
			j.Q.Kind, j.Q.Blocks = k, 4
			b := j.Memory(4 * 4096)
			clear(b)
			j.Q.SetData(b)
			j.Submit()
		})
	}
	all.Wait()
	for _, j := range jobs {
		j.Finish()
	}
}

func TestMemGivesPagesBack(t *testing.T) {
	const blocks = 64 << 20 / 512
	e := rig(t, 1, 512, func(t bdevtest.T, g *bdev.Registry, blockSize uint32) *bdev.Device {
		return must(t)(bdev.NewMem(g, "Malloc0", uuid.Nil, blockSize, blocks))
	})
	data := e.Block(1, 2048)
	for lba := uint64(0); lba < blocks; lba += 2048 {
		e.Write(0, lba, data)
	}
	resident := func() (mib int) { // proc(5): the second number of statm, in pages
		text, err := os.ReadFile("/proc/self/statm")
		if err == nil {
			_, err = fmt.Sscanf(string(text), "%d %d", new(int), &mib)
		}
		if err != nil {
			t.Fatal(err)
		}
		return mib * os.Getpagesize() >> 20
	}
	full := resident()
	// From an odd block to an odd block: the pages between are given back, the rest is cleared.
	e.Must(0, bdevtest.Op{Kind: bdev.Unmap, LBA: 3, Blocks: blocks - 10})
	e.WantData("before", 0, 0, data[:3*512])
	e.WantData("first", 0, 3, make([]byte, 5000*512)[:1<<20])
	e.WantData("last", 0, blocks-10, append(make([]byte, 3*512), data[len(data)-7*512:]...))
	if now := resident(); now > full-50 {
		t.Errorf("%d MiB resident after 64 of %d were unmapped", now, full)
	}
}

func TestMemOfImpossibleSizes(t *testing.T) {
	g := registry(t, 1)
	for _, c := range []struct {
		why    string
		size   uint32
		blocks uint64
	}{{"no blocks", 512, 0}, {"no block size", 0, 100}, {"an odd one", 513, 100}, {"2^63 blocks", 512, 1 << 63}, {"a size that wraps around", 4096, 1 << 53}} {
		if _, err := bdev.NewMem(g, "Malloc0", uuid.Nil, c.size, c.blocks); !errors.Is(err, bdev.ErrInvalid) {
			t.Errorf("%s: %v", c.why, err)
		}
	}
	if _, err := bdev.NewMem(g, "Malloc0", uuid.Nil, 4096, 1<<45); err == nil {
		t.Error("128 PiB of memory could be had")
	}
	must(t)(bdev.NewMem(g, "Malloc0", uuid.Nil, 512, 1))
	if _, err := bdev.NewMem(g, "Malloc0", uuid.Nil, 512, 1); !errors.Is(err, bdev.ErrExists) {
		t.Errorf("the same name twice: %v", err)
	}
}
