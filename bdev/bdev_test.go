package bdev_test

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/uuid"

	"github.com/pollux-storage/pollux/bdev"
	"github.com/pollux-storage/pollux/reactor"
)

type waiter struct{ done chan struct{} }

func (w waiter) RequestDone(*bdev.Request) { w.done <- struct{}{} }

func TestWriteThenReadOnEveryLeaf(t *testing.T) {
	g, err := reactor.Start(reactor.Config{Cores: []int{-1}, MemoryBytes: 16 << 20})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := g.Stop(context.Background()); err != nil {
			t.Error(err)
		}
	}()
	reg := bdev.NewRegistry(g)
	path := filepath.Join(t.TempDir(), "disk")
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(path, 16<<20); err != nil {
		t.Fatal(err)
	}
	if _, err := bdev.NewMem(reg, "Malloc0", uuid.Nil, 4096, 4096); err != nil {
		t.Fatal(err)
	}
	if _, err := bdev.NewUring(reg, "Uring0", path, bdev.UringOptions{}); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"Malloc0", "Uring0"} {
		t.Run(name, func(t *testing.T) {
			h, err := reg.Open(name, bdev.OpenOptions{Who: "test"})
			if err != nil {
				t.Fatal(err)
			}
			chs, err := h.Channels()
			if err != nil {
				t.Fatal(err)
			}
			r := g.Reactor(0)
			q := &bdev.Request{Done: waiter{make(chan struct{}, 1)}}
			var b []byte
			do := func(k bdev.Kind, fill func()) {
				_ = r.Call(func() {
					if b == nil {
						b = r.Memory().Get(8192)
					}
					fill()
					q.Kind, q.LBA, q.Blocks, q.FUA = k, 7, 2, k == bdev.Write
					q.SetData(b)
					chs[0].Submit(q)
				})
				<-q.Done.(waiter).done
				if q.Status != bdev.StatusOK {
					t.Fatalf("%v: %v", k, q.Status)
				}
			}
			want := bytes.Repeat([]byte("pollux!!"), 1024)
			do(bdev.Write, func() { copy(b, want) })
			do(bdev.Flush, func() {})
			do(bdev.Read, func() { clear(b) })
			if !bytes.Equal(b, want) {
				t.Error("read something else than was written")
			}
			do(bdev.WriteZeroes, func() {})
			do(bdev.Read, func() {})
			if !bytes.Equal(b, make([]byte, 8192)) {
				t.Error("zeroed blocks do not read as zeros")
			}
			_ = r.Call(func() { r.Memory().Put(b); q.Release() })
			bdev.CloseChannels(chs)
			h.Close()
			if err := reg.Unregister(context.Background(), name); err != nil {
				t.Error(err)
			}
		})
	}
}
