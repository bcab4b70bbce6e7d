package ctl

import (
	"sync"
	"testing"

	"github.com/pollux-storage/pollux/ctl/api"
)

// TestWaitForADevice: who asks for a device that is not there hears of it as soon as it is, by its alias too.
func TestWaitForADevice(t *testing.T) {
	e, c := dialEngine(t)
	const id = "fcf37ff5-e8c9-4fb3-98d1-b56e6cf9a0a2"
	var wait sync.WaitGroup
	for _, name := range []string{"n0", id} {
		wait.Go(func() {
			if d, err := api.BdevGetBdevs.Call(t.Context(), c, api.BdevGetBdevsParams{Name: name, Timeout: 3_600_000}); err != nil || d[0].Name != "n0" {
				t.Error(name, d, err)
			}
		})
	}
	for { // until somebody waits
		e.arrivals.mu.Lock()
		waits := e.arrivals.one != nil
		e.arrivals.mu.Unlock()
		if waits {
			break
		}
	}
	must(t, c, api.BdevNullCreate, api.BdevNullCreateParams{Name: "other", NumBlocks: 8, BlockSize: 512})
	must(t, c, api.BdevNullCreate, api.BdevNullCreateParams{Name: "n0", NumBlocks: 8, BlockSize: 512, UUID: id})
	wait.Wait()
	refused(t, c, api.BdevGetBdevs, api.BdevGetBdevsParams{Name: "none", Timeout: 1}, -19, "none")
}
