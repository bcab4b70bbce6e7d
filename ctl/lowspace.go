package ctl

import (
	"sync"
	"time"
)

// This file looks how much space is left in pools: hosts of thin volumes hear when it becomes little, and so does the log.

// spaceWatch is who looks.
type spaceWatch struct {
	stop, ended chan struct{}
	over        sync.Once
}

// spaceLook is between two looks.
const spaceLook = 2 * time.Second

// watchSpace begins it.
func (e *Engine) watchSpace() {
	w := &e.space
	w.stop, w.ended = make(chan struct{}), make(chan struct{})
	go func() {
		defer close(w.ended)
		tick := time.NewTicker(spaceLook)
		defer tick.Stop()
		for {
			select {
			case <-w.stop:
				return
			case <-tick.C:
				e.pools.watchSpace()
			}
		}
	}()
}

// watchSpace looks at each pool.
func (ps *pools) watchSpace() {
	for _, p := range ps.list() {
		if told, err := p.WatchSpace(); err == nil && told {
			ps.log.Warn("a pool has little space left, the hosts of its thin volumes are told: delete or trim, or grow it, before writes are refused", "pool", p.Name())
		}
	}
}

// close ends it. Doing it twice is harmless.
func (w *spaceWatch) close() {
	w.over.Do(func() { close(w.stop) })
	<-w.ended
}
