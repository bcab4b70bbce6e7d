//go:build expensive

package rdma_test

import (
	"testing"

	"github.com/pollux-storage/pollux/rdma/rdmatest"
)

// TestABufferThatTheCardHasCannotBeGivenBack is the rule that all others serve: what the card reads or writes is nobody else's.
func TestABufferThatTheCardHasCannotBeGivenBack(t *testing.T) {
	x := newRig(t, rigOptions{target: srq, host: srq})
	a := &acceptor{}
	_, g := x.connect(a, x.target.listen(a))
	x.target.p.Withhold(rdmatest.AllWork)
	on(t, g.r, func() { g.send(1, "on its way") })
	on(t, g.r, func() {
		defer func() {
			if recover() == nil {
				t.Error("it was given back")
			}
		}()
		g.r.Memory().Put(g.buffers[0])
	})
	x.target.p.Release()
	g.want(t, "its completion", func() bool { return len(g.completed) == 1 })
}
