package bdev_test

import (
	"context"
	"testing"
	"time"

	"github.com/pollux-storage/pollux/bdev"
	"github.com/pollux-storage/pollux/bdev/bdevtest"
	"github.com/pollux-storage/pollux/reactor"
)

// maker makes a device under test, and what it stands on.
type maker = func(t bdevtest.T, g *bdev.Registry, blockSize uint32) *bdev.Device

// rig makes a device and opens it on n reactors.
func rig(t *testing.T, n int, blockSize uint32, make maker) *bdevtest.Env {
	t.Helper()
	return bdevtest.NewEnv(t, bdevtest.Start(t, n), bdevtest.Subject{Make: make}, blockSize)
}

// registry makes an empty one on n reactors.
func registry(t *testing.T, n int) *bdev.Registry {
	t.Helper()
	return bdev.NewRegistry(bdevtest.Start(t, n))
}

// unregister removes a device and wants that to succeed.
func unregister(t *testing.T, g *bdev.Registry, name string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	if err := g.Unregister(ctx, name); err != nil {
		t.Error(err)
	}
}

// within runs f again and again until it reports true, for things that come about by themselves.
func within(t *testing.T, what string, f func() bool) {
	t.Helper()
	for late := time.Now().Add(time.Minute); !f(); time.Sleep(time.Millisecond) {
		if time.Now().After(late) {
			t.Fatalf("%s: not within a minute", what)
		}
	}
}

// call runs f on a reactor.
func call(r *reactor.Reactor, f func()) { _ = r.Call(f) }
