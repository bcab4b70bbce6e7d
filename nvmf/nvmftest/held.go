package nvmftest

import "github.com/pollux-storage/pollux/bdev/bdevtest"

// Held is a device that ends no request until the test says so and how.
type Held = bdevtest.Held

// AddHeld makes one, with blocks of 4096 bytes and a volatile cache.
func (e *Engine) AddHeld(name string, blocks uint64) *Held {
	e.T.Helper()
	return bdevtest.AddHeld(e.T, e.Bdevs, name, blocks)
}
