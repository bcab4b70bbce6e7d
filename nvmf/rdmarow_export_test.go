package nvmf

import (
	"testing"
	"time"

	"github.com/pollux-storage/pollux/reactor"
)

// SetConnectPatience sets how long a connection may be without a Connect, for engines that the test starts after it.
func SetConnectPatience(t *testing.T, d time.Duration) {
	was := patience.connect
	t.Cleanup(func() { patience.connect = was })
	patience.connect = reactor.Ticks(d)
}

// Stalls tells whether the host of an I/O queue has taken nothing since then of what it is sent.
func (t *Target) Stalls(id CNTLID, qid QID, since reactor.Ticks) (stalls bool) {
	t.ask(id, qid, func(q *queue) { stalls = q.t.stalls(since) })
	return stalls
}

// ExpectsConnect tells whether an I/O queue ends if no Connect comes in time.
func (t *Target) ExpectsConnect(id CNTLID, qid QID) (expects bool) {
	t.ask(id, qid, func(q *queue) { expects = q.expected.Set() })
	return expects
}
